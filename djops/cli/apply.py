"""``djops apply``."""

from __future__ import annotations

import click

from djops.cli import common


@click.command()
@click.option("--full", is_flag=True, help="Show every change on a line of its own, with all names.")
@common.changing
def command(out: common.Output, full: bool) -> None:
    """Bring the servers to what djops.yaml says: show the plan, ask, carry it out.

    Exit status: 0 done, 1 error.
    """
    from djops.report import changes
    from djops.services import access, project

    with (
        access.opened(project.load(out.project_file), out.environment) as (servers, wanted),
        servers.changing("djops apply", out.lock_wait, reason=out.reason, progress=out.progress),
    ):
        plan = access.make_plan(servers, wanted)
        if place := servers.journal.place():
            out.remark(place)
        out.emit(changes.plan_data(plan), changes.plan_text(plan, full=full, coloured=out.coloured))
        if not plan.is_empty:
            out.confirm("Carry this out?", action="the plan")
        applied = access.apply(servers, plan, out.progress)
        text = f"Done: {changes.summary(applied.done)}" if applied.done else ""
        out.emit({"applied": len(applied.done)}, text)
