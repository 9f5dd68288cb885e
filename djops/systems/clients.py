"""Runs other people's programs as the administrator of a server, and takes back what they were given."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TextIO
from urllib.parse import urlsplit

from djops.errors import UsageError
from djops.systems.connections import MysqlConnection, S3Connection, Secret, SecretsConnection
from djops.systems.files import write_private
from djops.systems.paths import private_directory

_AWS_OTHERS = ("PROFILE", "SESSION_TOKEN", "SECURITY_TOKEN", "ROLE_ARN", "WEB_IDENTITY_TOKEN_FILE")
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Handed:
    """What a program is given to reach a server.

    Attributes:
        variables: Environment variables to set.
        prefixes: Beginnings of names of variables of the user's own that are taken away first, for they
            would lead elsewhere.
        programs: Programs to find on PATH, by name: the beginning of the command each stands for.
    """

    variables: Mapping[str, str]
    prefixes: tuple[str, ...]
    programs: Mapping[str, Sequence[str]] = field(default_factory=dict)


def hand_mysql(connection: MysqlConnection, directory: Path, programs: Mapping[str, Sequence[str]]) -> Handed:
    """Hand over MySQL: an option file, and client programs that read it without being told.

    Args:
        connection: The server and the account.
        directory: Where to put the option file.
        programs: The client programs of this machine.

    Returns:
        What to give.
    """
    file = directory / "mysql.cnf"
    write_private(file, mysql_options(connection))
    variables = {
        "MYSQL_DEFAULTS_FILE": str(file),
        # A login file would win over the option file, even over one named on the command line.
        "MYSQL_TEST_LOGIN_FILE": str(directory / "no-login-file"),
    }
    option = f"--defaults-file={file}"
    return Handed(variables, ("MYSQL_",), {name: [*command, option] for name, command in programs.items()})


def mysql_options(connection: MysqlConnection) -> str:
    """Write an option file that MySQL's clients, MariaDB's and pymysql read.

    Args:
        connection: The server and the account.

    Returns:
        The file's content. TLS is demanded, the certificate verified where the authority is known.
    """
    host, port = connection.address
    named = connection.ca is not None and connection.through is None
    options = {
        "host": host,
        "port": str(port),
        "protocol": "TCP",
        "user": connection.user,
        "password": connection.password.reveal(),
        "loose-ssl-mode": "VERIFY_IDENTITY" if named else "VERIFY_CA" if connection.ca else "REQUIRED",
        **({"ssl-ca": str(connection.ca)} if connection.ca else {}),
    }
    lines = [f"{key} = {_option_value(value)}" for key, value in options.items()]
    # MariaDB's clients know no ssl-mode, and MySQL's not this.
    verify = ["[client-mariadb]", "ssl-verify-server-cert"] if named else []
    return "\n".join(["[client]", *lines, *verify, ""])


def hand_s3(connection: S3Connection, *, loopback_only: bool) -> Handed:
    """Hand over the object store.

    Args:
        connection: The server and the key.
        loopback_only: Whether the administrator's address serves objects too, as in the lab.

    Returns:
        What to give.
    """
    endpoint = connection.admin_endpoint if loopback_only else connection.endpoint
    variables = {
        "AWS_ACCESS_KEY_ID": connection.access_key,
        "AWS_SECRET_ACCESS_KEY": connection.secret_key.reveal(),
        "AWS_DEFAULT_REGION": connection.region,
        "AWS_REGION": connection.region,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_IAM": connection.iam_endpoint or connection.admin_endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        **({"AWS_CA_BUNDLE": str(connection.ca)} if connection.ca else {}),
        **_past_proxies(connection.admin_endpoint),
    }
    others = tuple(f"AWS_{name}" for name in _AWS_OTHERS)
    return Handed(variables, (*others, "AWS_ENDPOINT_URL", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"))


def hand_secrets(
    connection: SecretsConnection, token: Secret, programs: Mapping[str, Sequence[str]]
) -> Handed:
    """Hand over the secrets server, under the names of both Vault's and OpenBao's clients.

    Args:
        connection: The server.
        token: A token to work with.
        programs: The client programs of this machine.

    Returns:
        What to give.
    """
    own = {
        "ADDR": connection.address,
        "TOKEN": token.reveal(),
        **({"CACERT": str(connection.ca)} if connection.ca else {}),
    }
    variables = {f"{family}_{name}": value for family in ("VAULT", "BAO") for name, value in own.items()}
    return Handed(variables | _past_proxies(connection.address), ("VAULT_", "BAO_"), programs)


@contextmanager
def workspace(state: Path) -> Iterator[Path]:
    """Make a private directory that is gone afterwards; what a killed djops left goes too.

    Args:
        state: The directory of djops' own state for the environment.

    Yields:
        The directory.
    """
    base = private_directory(state / "connect")
    for old in base.iterdir():
        if not Path("/proc", old.name.partition("-")[0]).exists():
            shutil.rmtree(old, ignore_errors=True)
    own = private_directory(base / f"{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def run(command: Sequence[str], handed: Handed, directory: Path, stdout: TextIO | None = None) -> int:
    """Run a program to its end. It gets Ctrl-C itself; what else asks djops to end is passed on to it.

    Args:
        command: The program and its arguments.
        handed: What it is given.
        directory: A private directory.
        stdout: Where its standard output goes; djops' own when ``None``.

    Returns:
        Its exit status, 128 and the number of the signal that ended it.

    Raises:
        UsageError: ``E_NO_PROGRAM`` when it cannot be started.
    """
    environment = _environment(handed, _shims(handed.programs, directory))
    with _signals_passed_on() as ward:
        try:
            program = shutil.which(command[0], path=environment["PATH"]) or command[0]
            child = subprocess.Popen([program, *command[1:]], env=environment, stdout=stdout)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "its name makes no sense"
            raise UsageError(
                f"{command[0]!r} cannot be run: {reason.lower()}",
                code="E_NO_PROGRAM",
                hint="what stands after `--` is a program and its arguments",
            ) from None
        ward.entrust(child)
        status = child.wait()
    return status if status >= 0 else 128 - status


class _Ward:
    """Passes signals on to a child that may not be there yet."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def entrust(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        for number in self._early:
            child.send_signal(number)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)


@contextmanager
def _signals_passed_on() -> Iterator[_Ward]:
    ward = _Ward()
    # The terminal sends Ctrl-C to the child as well; a handler, unlike SIG_IGN, is not inherited.
    before = {signal.SIGINT: signal.signal(signal.SIGINT, lambda _number, _frame: None)}
    try:
        before |= {number: signal.signal(number, ward) for number in _FORWARDED}
        yield ward
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment(handed: Handed, shims: Path | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(handed.prefixes)}
    path = kept.get("PATH") or os.defpath
    return {**kept, "PATH": f"{shims}{os.pathsep}{path}" if shims else path, **handed.variables}


def _shims(programs: Mapping[str, Sequence[str]], directory: Path) -> Path | None:
    """Make small scripts for programs that need more than their name."""
    if not programs:
        return None
    shims = private_directory(directory / "bin")
    for name, command in programs.items():
        *plain, last = command
        lines = ["#!/bin/sh"]
        if last.startswith("--defaults-file="):
            # Whoever names other options means them; these have to stand first.
            own = "--defaults-*|--no-defaults|--print-defaults|--version|-V"
            lines.append(f'case "$1" in {own}) exec {shlex.join(plain)} "$@" ;; esac')
        lines.append(f'exec {shlex.join(command)} "$@"')
        write_private(shims / name, "\n".join([*lines, ""]), mode=0o700)
    return shims


def _option_value(value: str) -> str:
    escaped = value.replace("\\", "\\\\")
    return f'"{escaped}"'


def _past_proxies(address: str) -> dict[str, str]:
    """Keep requests to loopback from the user's proxy."""
    host = urlsplit(address).hostname or ""
    if host not in ("localhost", "127.0.0.1", "::1"):
        return {}
    past = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), host)))
    return {"NO_PROXY": past, "no_proxy": past}
