"""A pipeline of small tables in the lab that tests share, and people with rights on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from djops.compile.sql import quote_identifier
from djops.model.graph import PipelineGraph
from djops.model.project import Project
from djops.services import access, evidence, verify
from djops.services.site import Site, open_site
from djops.services.verify import Choice, Verdict
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest

Grants = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass
class Bench:
    """A site with a pipeline; tests say who has which rights."""

    site: Site
    graph: PipelineGraph

    @property
    def wanted(self) -> access.Wanted:
        return access.Wanted.of(self.site.project, self.graph)

    def verify(self, deciders: tuple[verify.Decider, ...] = verify.STATIC, *names: str) -> Verdict:
        with access.Servers(self.site) as servers:
            choice = Choice.of(self.wanted, names, (), ())
            return verify.verify(servers, self.wanted, choice, deciders)

    def evidence(self) -> evidence.Evidence:
        with access.Servers(self.site) as servers:
            return evidence.gather(servers, self.wanted)

    def bring_to(self, people: Grants | None = None, services: Grants | None = None, **rest: Any) -> None:
        """Change the project and apply it; schemas called imaging are in development."""
        data = self.site.project.model_dump()
        for section, holders in (("people", people or {}), ("services", services or {})):
            data[section] = {name: {"grants": list(grants)} for name, grants in holders.items()}
        data |= {"teams": {}, "roles": {}, "schemas": {"imaging": {"stage": "development"}}, **rest}
        self.site = replace(self.site, project=Project.model_validate(data))
        with access.Servers(self.site) as servers, servers.changing("test", 10):
            access.apply(servers, access.make_plan(servers, self.wanted))

    def by_root(self, *statements: str) -> None:
        assert self.site.mysql_root is not None
        with Mysql(self.site.mysql_root) as root:
            for statement in statements:
                root.query(statement)


@contextlib.contextmanager
def bench_in(lab: LabUnderTest, graph: PipelineGraph) -> Iterator[Bench]:
    """Make the pipeline's tables, and leave the lab as bare as it was."""
    bench = Bench(open_site(lab.project_file), graph)
    try:
        for schema in sorted(graph.schemas):
            tables = [
                f"CREATE TABLE IF NOT EXISTS {quote_identifier(schema)}.{quote_identifier(table.table)} "
                f"(x INT PRIMARY KEY, y INT NOT NULL{_JOB if table.table == '__computed' else ''})"
                for table in graph.tables_of(schema)
            ]
            bench.by_root(f"CREATE DATABASE IF NOT EXISTS {quote_identifier(schema)}", *tables)
        yield bench
    finally:
        bench.bring_to()
        bench.by_root(*(f"DROP DATABASE IF EXISTS {quote_identifier(schema)}" for schema in graph.schemas))


_JOB = ", `_job_start_time` DATETIME"
