"""``djops connect``."""

from __future__ import annotations

import sys

import click

from djops.cli import common


@click.command()
@click.argument("system", metavar="mysql|s3|secrets", type=click.Choice(["mysql", "s3", "secrets"]))
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--reason", metavar="TEXT", default="", help="Why; stands in the journal.")
@common.options
def command(out: common.Output, system: str, command: tuple[str, ...], reason: str) -> None:
    """Run a client or a command as the administrator of a server.

    The command finds what it needs in its environment: MYSQL_DEFAULTS_FILE, a file only you can read,
    for mysql; AWS_* with the endpoint for s3; VAULT_* and BAO_* for secrets. MySQL's own clients and bao
    work without being told anything. The file is removed and the token ended when the command ends, and
    its exit status is passed on. Without a command it opens MySQL's client, or a shell for s3 and
    secrets. Each use is recorded in the journal of the environment. With --json, what the command
    prints goes to standard error.
    """
    from djops.services.connect import connect, system_named
    from djops.services.site import open_site

    site = open_site(out.project_file, out.environment)
    done = connect(
        site,
        system_named(system),
        command,
        terminal=sys.stdin is not None and sys.stdin.isatty() and not out.json,
        stdout=sys.stderr if out.json else None,
        reason=reason,
    )
    data = {"system": done.system, "account": done.account, "program": done.program, "status": done.status}
    out.emit(data, findings=done.status != 0)
    if done.status:
        out.finish()
        click.get_current_context().exit(done.status)
