"""Servers of the shared lab that stay connected, with schemas and people of a test's own."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from djops.compile.mysql_manager import SCHEMA_PRIVILEGES
from djops.model.graph import PipelineGraph
from djops.model.project import Project
from djops.plan.change import Plan
from djops.plan.drift_kinds import Drift
from djops.plan.operations import Operation
from djops.services import access, drift, schemas
from djops.services.access import Servers, Wanted
from djops.services.site import open_site
from djops.systems.mysql import Mysql
from djops.systems.s3 import S3
from tests.conftest import LabUnderTest

DAY = dt.date(2030, 1, 1)
People = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass
class Ground:
    """Servers that stay connected, with two people, two schemas and root beside."""

    servers: Servers
    root: Mysql
    graph: PipelineGraph
    wanted: Wanted

    def people(
        self, people: People, today: dt.date = DAY, services: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Change what is wanted; nothing is applied yet."""
        grants = {name: {"grants": [dict(grant) for grant in held]} for name, held in people.items()}
        wanted = {"people": grants, "services": dict(services or {})}
        project = Project.model_validate(self.servers.site.project.model_dump() | wanted)
        self.servers.site = replace(self.servers.site, project=project)
        self.wanted = Wanted.of(project, self.graph, today)

    def apply(self) -> Plan:
        """Bring the servers to what is wanted."""
        with self.servers.changing("test", 10):
            plan = access.make_plan(self.servers, self.wanted)
            access.apply(self.servers, plan)
            return plan

    def look(self) -> tuple[Drift, ...]:
        """Name all drift; no change of the plan may go without a name."""
        report = drift.look(self.servers, self.wanted)
        told = {id(change) for one in report.drift for change in one.changes}
        assert {id(change) for change in report.plan.changes} <= told, "a change without a name"
        return report.drift

    def by_hand(self, steps: Sequence[Step]) -> None:
        """Do as somebody would who does not know djops: SQL as root, other requests, or functions."""
        for step in steps:
            if isinstance(step, str):
                self.root.query(step)
            elif callable(step):
                step(self)
            else:
                access.execute(self.servers, step)

    @cached_property
    def s3_root(self) -> S3:
        """The object store as its account's root."""
        root = self.servers.site.s3_root
        assert root is not None
        return S3(root)

    def mend(self, found: Sequence[Drift]) -> None:
        """Do what the drift says: apply, or what the database administrator is asked for."""
        for one in found:
            if one.remedy.startswith("database administrator: "):
                self.root.query(one.remedy.removeprefix("database administrator: ").split("; then ")[0])
            if one.remedy == "djops schemas sync":
                missing = schemas.survey(self.servers, self.wanted)
                with self.servers.changing("test", 10):
                    tables = [table for info in missing for table in info.missing_job_tables]
                    schemas.sync(self.servers, self.wanted, tuple(tables))
        self.apply()


Step = str | Operation | Callable[[Ground], object]


@contextlib.contextmanager
def ground_of(lab: LabUnderTest, graph: PipelineGraph, tables: Sequence[str]) -> Iterator[Ground]:
    """Make schemas and tables as root, and remove everything in the end.

    Args:
        lab: The shared lab.
        graph: The schemas; those without a table are not made.
        tables: What stands behind ``CREATE TABLE``, schema first.
    """
    site = open_site(lab.project_file)
    assert site.mysql_root is not None
    with Servers(site) as servers, Mysql(site.mysql_root) as root:
        made = Ground(servers, root, graph, Wanted.of(site.project, graph))
        for schema in dict.fromkeys(table.split(".")[0] for table in tables):
            root.query(f"CREATE DATABASE {schema}")
        for table in tables:
            root.query(f"CREATE TABLE {table}")
        try:
            yield made
        finally:
            made.people({})
            made.apply()
            # Children go before the parents that their foreign keys name.
            for schema in reversed(graph.order):
                root.query(f"DROP DATABASE IF EXISTS {schema}")
                rights, pattern = ", ".join(SCHEMA_PRIVILEGES), schema.replace("_", "\\_")
                root.query(f"REVOKE IF EXISTS {rights}, GRANT OPTION ON `{pattern}`.* FROM 'djops'@'%'")
