"""``djops schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from djops.cli import common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djops.services.schemas import SchemaInfo


@click.group(cls=common.Group)
def command() -> None:
    """List the pipeline's schemas; give tables declared later what they lack."""


@command.command("list")
@common.options
def list_schemas(out: common.Output) -> None:
    """List the pipeline's schemas, parents before children, with what the database has of them."""
    from djops.services import access, project, schemas

    with access.opened(project.load(out.project_file), out.environment) as (servers, wanted):
        found = schemas.survey(servers, wanted)
    out.emit({"schemas": found}, lambda: _show(found))


@command.command("declare")
@common.changing
def declare(out: common.Output) -> None:
    """Import the pipeline as the administrator, in a process of its own: declares what is not there yet."""
    from djops.services import access, project, schemas

    with access.opened(project.load(out.project_file), out.environment) as (servers, wanted):
        schemas.require_power(servers, wanted)
        with out.progress.step("Importing the pipeline") as step:
            modules = schemas.declare(servers.site, wanted, heard=step.note)
        found = schemas.survey(servers, wanted)
    out.emit({"modules": modules, "schemas": found}, lambda: _show(found))
    if any(info.missing_job_tables for info in found):
        out.remark("`djops schemas sync` gives new tables their job tables and rights")


@command.command("sync")
@common.changing
def sync(out: common.Output) -> None:
    """Give tables declared since the last time their job tables, and everybody's rights on them.

    Job tables must be made by an administrator: without them nobody can populate with reserved jobs.
    """
    from djops.report import changes
    from djops.services import access, project, schemas

    with (
        access.opened(project.load(out.project_file), out.environment) as (servers, wanted),
        servers.changing("schemas sync", out.lock_wait, reason=out.reason, progress=out.progress),
    ):
        with out.progress.step("Reading the servers"):
            schemas.require_power(servers, wanted)
            missing = [table for info in schemas.survey(servers, wanted) for table in info.missing_job_tables]
            plan = access.make_plan(servers, wanted)
        data = {"missing_job_tables": missing, **changes.plan_data(plan)}
        lines = [f"job table of {table}: create it, with the rights on it" for table in missing]
        if plan.changes or not missing:
            lines.append(changes.plan_text(plan, coloured=out.coloured))
        out.emit(data, "\n".join(lines))
        if missing or plan.changes:
            out.confirm("Carry this out?", action="the sync")
        synced = schemas.sync(servers, wanted, tuple(missing), out.progress)
    done = synced.applied.done
    for table in synced.without:
        out.remark(f"{table} cannot have a job table: no part of its primary key comes from a parent")
    text = f"Done: {len(synced.job_tables)} job tables; {changes.summary(done)}"
    result = {"job_tables": synced.job_tables, "without": synced.without, "applied": len(done)}
    out.emit(result, text if done or synced.job_tables else "")


def _show(found: Sequence[SchemaInfo]) -> str:
    from djops.report.table import table

    header = ("schema", "stage", "depends on", "tables", "job tables missing", "declared by")
    rows = [
        (
            info.name,
            info.stage,
            ", ".join(info.upstream) or None,
            info.tables if info.there else "not there yet",
            ", ".join(name.table for name in info.missing_job_tables) or None,
            f"sandbox of {info.owner}: {', '.join(info.holds) or 'empty'}" if info.owner else info.module,
        )
        for info in found
    ]
    return table(header, rows, right=(3,))
