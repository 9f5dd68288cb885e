"""Drift: everything on the servers that is not as djops.yaml says, by name, with what mends it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from djops.compile.mysql_state import MysqlCatalog
from djops.compile.vault import secret_path
from djops.model.graph import TableName
from djops.plan.change import Plan
from djops.plan.drift import name_drift
from djops.plan.drift_kinds import Drift, Sight
from djops.services import access
from djops.services.access import Servers, Standing, Wanted
from djops.systems import datajoint
from djops.systems.journal import digest


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        drift: What is not as it should be.
        plan: The plan that mends what djops may mend.
        edited_since: Whether djops.yaml was changed after the last apply, so that some of the drift is
            what was never applied.
    """

    drift: tuple[Drift, ...]
    plan: Plan
    edited_since: bool


def look(servers: Servers, wanted: Wanted) -> Report:
    """Read the servers and name everything that is not as it should be; change nothing.

    Args:
        servers: The servers.
        wanted: What they should hold.

    Returns:
        What was found.

    Raises:
        DjopsError: As :func:`access.make_plan`.
    """
    standing = access.stand(servers, wanted)
    catalog = servers.mysql.read_catalog()
    standing = replace(standing, found=replace(standing.found, mysql=catalog))
    plan = access.plan_of(servers, wanted, standing)
    applied = servers.journal.newest_plan().get("file")
    edited = applied is not None and applied != digest(servers.site.project_file)
    return Report(name_drift(plan, _sight(servers, wanted, standing, catalog)), plan, edited)


def _sight(servers: Servers, wanted: Wanted, standing: Standing, catalog: MysqlCatalog) -> Sight:
    project, found = wanted.project, standing.found
    return Sight(
        project=project.project,
        wanted=standing.compiled.mysql,
        found=catalog,
        secrets=found.secrets,
        secret_of={name: secret_path(project, name) for name in project.principals},
        today=wanted.today,
        ended=standing.ended,
        schemas=wanted.graph.schemas,
        tables=found.inventory.tables,
        jobless=_jobless(servers, found.inventory.tables),
        escape=found.inventory.escape,
    )


def _jobless(servers: Servers, tables: Collection[TableName]) -> tuple[TableName, ...]:
    """Name the tables that need a job table, can have one, and have none."""
    missing = datajoint.missing_job_tables(sorted(tables))
    return servers.mysql.keyed_by_parents(missing) if missing else ()
