"""``djops grant``."""

from __future__ import annotations

import datetime as dt

import click

from djops.cli import common


@click.command()
@click.argument("who")
@click.argument("role")
@click.argument("on", nargs=-1, required=True)
@click.option(
    "--until", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="Last day on which it holds."
)
@click.option("--reason", metavar="TEXT", help="Why; stands in djops.yaml.")
@click.option("--cascade", is_flag=True, help="Also read and delete on everything downstream.")
@click.option(
    "--force", is_flag=True, help="Give a developer a schema that is in production; needs --reason."
)
@common.changing
def command(
    out: common.Output,
    who: str,
    role: str,
    on: tuple[str, ...],
    until: dt.datetime | None,
    reason: str | None,
    cascade: bool,
    force: bool,
) -> None:
    """Give WHO the role ROLE on the schemas ON, in djops.yaml and on all servers.

    ROLE is viewer, analyst, operator, developer or admin; ON are schemas, globs such as 'dev_*', or all.

    Exit status: 0 done, 1 error.
    """
    from djops.cli import editing
    from djops.model.project import Grant
    from djops.services import people

    day = until.date() if until else None
    wanted = Grant(role=role, on=on, until=day, reason=reason, cascade=cascade, force=force)
    out.reason = reason or ""
    editing.carry_out(out, people.granting(out.project_file, who, wanted), "the grant")
