"""``djops revoke``."""

from __future__ import annotations

import click

from djops.cli import common


@click.command()
@click.argument("who")
@click.argument("role")
@click.argument("on", nargs=-1, required=True)
@common.changing
def command(out: common.Output, who: str, role: str, on: tuple[str, ...]) -> None:
    """Take the role ROLE on the schemas ON from WHO, in djops.yaml and on all servers.

    Open database sessions that could go on using it are ended.

    Exit status: 0 done, 1 error.
    """
    from djops.cli import editing
    from djops.services import people

    editing.carry_out(out, people.revoking(out.project_file, who, role, on), "the revocation")
