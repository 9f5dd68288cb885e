"""``djops plan``."""

from __future__ import annotations

import click

from djops.cli import common


@click.command()
@click.option(
    "--sql", "as_sql", is_flag=True, help="Show everything that would be sent, as SQL with comments."
)
@click.option("--full", is_flag=True, help="Show every change on a line of its own, with all names.")
@common.options
def command(out: common.Output, as_sql: bool, full: bool) -> None:
    """List what differs between djops.yaml and the servers; change nothing.

    Exit status: 0 nothing differs, 1 error, 2 something differs.
    """
    from djops.report import changes
    from djops.services import access, project

    with access.opened(project.load(out.project_file), out.environment) as (servers, wanted):
        with out.progress.step("Reading the servers") as step:
            plan = access.make_plan(servers, wanted)
            step.note(f"{len(plan.changes)} differences")
        if place := servers.journal.place():
            out.remark(place)
        text = changes.plan_sql(plan) if as_sql else changes.plan_text(plan, full=full, coloured=out.coloured)
        out.emit(changes.plan_data(plan), text, findings=not plan.is_empty)
