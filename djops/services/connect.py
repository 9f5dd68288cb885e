"""A program run as the administrator of one of the servers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO, get_args

from djops.errors import InstallError, UsageError
from djops.services.journal import Cause, note_at
from djops.services.site import Site
from djops.systems import clients
from djops.systems.clients import Handed
from djops.systems.connections import S3Connection

System = Literal["mysql", "s3", "secrets"]
SYSTEMS: tuple[System, ...] = get_args(System)


@dataclass(frozen=True)
class Connected:
    """How a program ended.

    Attributes:
        system: The server it was connected to.
        account: The account it worked as.
        program: Its name.
        status: Its exit status.
    """

    system: System
    account: str
    program: str
    status: int


def system_named(name: str) -> System:
    """Return the system of a name.

    Args:
        name: ``mysql``, ``s3`` or ``secrets``.

    Raises:
        UsageError: There is no such system.
    """
    for system in SYSTEMS:
        if name == system:
            return system
    raise UsageError(f"there is no system {name!r}", hint=f"there are: {', '.join(SYSTEMS)}")


def connect(
    site: Site,
    system: System,
    command: Sequence[str],
    *,
    terminal: bool,
    stdout: TextIO | None = None,
    reason: str = "",
) -> Connected:
    """Run a command with what it takes to be the administrator of a server.

    In the lab that is the server's root, elsewhere the account the project file names; on the secrets
    server it is djops' AppRole. Each use is recorded in the journal before the command starts. Files
    made for the command are removed, and the token ends, when it ends.

    Args:
        site: The environment.
        system: Which server.
        command: The program and its arguments; empty opens MySQL's client, or a shell for the others.
        terminal: Whether somebody can type into a client.
        stdout: Where the program's standard output goes; djops' own when ``None``.
        reason: Why, for the journal.

    Returns:
        How the program ended.

    Raises:
        UsageError: ``E_NO_TERMINAL`` when a client is wanted and nobody can type into it,
            ``E_NO_PROGRAM`` when the program cannot be run.
        InstallError: ``E_INSTALL`` when the client is wanted and not on this machine.
        DjopsError: The secrets server does not give a token.
    """
    if not command and not terminal:
        raise UsageError(
            "there is no terminal to open a client on, and no command to run",
            code="E_NO_TERMINAL",
            hint=f"give a command: djops connect {system} -- COMMAND",
        )
    with clients.workspace(site.lab) as directory, _handed(site, system, directory) as (account, handed):
        argv = list(command) or _client(system, handed)
        program = Path(argv[0]).name
        note_at(site, Cause("connect", reason), system=system, account=account, program=program)
        status = clients.run(argv, handed, directory, stdout)
    return Connected(system, account, program, status)


@contextmanager
def _handed(site: Site, system: System, directory: Path) -> Iterator[tuple[str, Handed]]:
    if system == "mysql":
        from djops.systems.local.mysql import clients as programs

        mysql = site.mysql_root or site.mysql
        yield mysql.user, clients.hand_mysql(mysql, directory, programs())
    elif system == "s3":
        account, s3 = _s3(site)
        yield account, clients.hand_s3(s3, loopback_only=site.env.target == "local")
    else:
        from djops.systems.vault import Secrets

        with Secrets(site.secrets) as session:
            yield "djops", clients.hand_secrets(site.secrets, session.token(), _bao())


def _s3(site: Site) -> tuple[str, S3Connection]:
    if site.s3_root is None:
        return site.s3.access_key, site.s3
    return "root", site.s3_root


def _bao() -> dict[str, list[str]]:
    from djops.systems.local import openbao_program

    try:
        return {"bao": [str(openbao_program.find().path)]}
    except InstallError:
        return {}


def _client(system: System, handed: Handed) -> list[str]:
    if system != "mysql":
        # Their clients have no prompt: a shell in which they work is the next best thing.
        return [os.environ.get("SHELL") or "/bin/sh"]
    if "mysql" not in handed.programs:
        raise InstallError(
            "there is no `mysql` on this machine",
            hint="install MySQL's client, or give a command: djops connect mysql -- COMMAND",
        )
    return ["mysql"]
