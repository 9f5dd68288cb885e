"""Random laboratories: a pipeline with its tables, and a project file's people, services, teams and roles."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from djops.compile.sql import quote_identifier
from djops.model.checking import check
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import LINEAGE_TABLE, Tier, job_table_of, sandbox_stem
from djops.model.project import Project
from djops.model.roles import Capability
from djops.systems.resources import load_roles

DAY = dt.date(2030, 1, 15)

_TAILS = (
    "ephys", "_ephys", "Xephys", "EPHYS", "éphys", "%", "_%", "`b", "it's", '"said"', "a b", "ü", "日本",
    "&<x>", "a+b=c", "%20", "~1", "#1", "-dash", "@host", ",x", "(1)", "!", ";drop", ".", "session", "_",
    "imaging", "x" * 58, "x" * 57 + "y", "'; -- x",
)  # fmt: skip
"""Ends of schemas' names: near-twins, marks that mean something to a server or in a URL, names as long as
MySQL takes them."""

_PEOPLE = ("ada", "b.en", "c-leo", "D_an", "eva_", "e" * 32, "ada.", "k0")
_SERVICES = ("robot", "rig-1", "sweeper", "page", "oracle")
_PREFIXES = {Tier.LOOKUP: "#", Tier.MANUAL: "", Tier.IMPORTED: "_", Tier.COMPUTED: "__"}
_METADATA = "`_job_start_time` DATETIME(3), `_job_duration` FLOAT, `_job_version` VARCHAR(64)"
_LINEAGE = (
    "`table_name` VARCHAR(64) NOT NULL, `attribute_name` VARCHAR(64) NOT NULL, "
    "`lineage` VARCHAR(255) NOT NULL, `v` INT, PRIMARY KEY (`table_name`, `attribute_name`)"
)
_EVERYWHERE = sorted(set(Capability) - {Capability.GRANT})


@dataclass
class Laboratory:
    """A pipeline and who may do what with it.

    Attributes:
        seed: What it was made from.
        order: The schemas, parents before children.
        late: Schemas that the code declares and the database does not have yet.
        statements: What makes schemas and tables.
        tables: The tables made.
        graph: The pipeline as code and project file tell it; some of it only the database does.
        project: The project file.
        own: Schemas that people made for themselves.
    """

    seed: int
    order: tuple[str, ...]
    late: tuple[str, ...]
    statements: list[str] = field(default_factory=list)
    tables: dict[TableName, tuple[TableName, ...]] = field(default_factory=dict)
    graph: PipelineGraph = field(default_factory=PipelineGraph)
    project: Project | None = None
    own: tuple[str, ...] = ()


def laboratory(seed: int, base: Project, most: int = 12) -> Laboratory:
    """Make a laboratory from a seed.

    Args:
        seed: The same seed gives the same laboratory.
        base: A project whose environments and stores are used.
        most: Schemas at most.
    """
    chance = random.Random(seed)
    made = _Pipeline(chance, seed, most).made
    made.project = _People(chance, made, base).project()
    return made


class _Pipeline:
    """Makes schemas and tables."""

    def __init__(self, chance: random.Random, seed: int, most: int) -> None:
        self.chance = chance
        count = min(most, chance.choice((2, 2, 3, 3, 4, 5, 6, 8, 12)))
        names = [name for name in (f"sk{tail}" for tail in chance.sample(_TAILS, count)) if _fits(name)]
        # A name without a prefix, which means something else elsewhere.
        names += chance.choice(((), (), ("all",), ("ada",)))
        late = tuple(name for name in names if chance.random() < 0.1)
        self.made = Laboratory(seed, tuple(names), late)
        self.share = min(1.0, 4 / count)
        self.extra: dict[str, frozenset[str]] = {}
        self.code: dict[TableName, frozenset[TableName]] = {}
        for number, name in enumerate(names):
            above = chance.sample(names[:number], min(number, chance.choice((0, 1, 1, 1, 2, 3))))
            self._schema(name, above)
        self.made.graph = PipelineGraph(
            frozenset(names), frozenset(self.made.tables), self.code, self.extra
        )  # fmt: skip

    def _schema(self, name: str, above: Sequence[str]) -> None:
        if name in self.made.late:
            self.extra[name] = frozenset(above)
            return
        self.made.statements.append(f"CREATE DATABASE {quote_identifier(name)}")
        reach = [table for table in self.made.tables if table.schema in above and table.tier.holds_data]
        for number in range(self.chance.choice((1, 1, 2, 3, 4)) if self.chance.random() < self.share else 1):
            tier = self.chance.choice(tuple(_PREFIXES))
            self._master(TableName(name, f"{_PREFIXES[tier]}table{number}"), reach)
        told = {parent.schema for table in self._of(name) for parent in self.made.tables[table]}
        # What no foreign key tells, the project file does.
        self.extra[name] = frozenset(above) - told
        if self.chance.random() < 0.6:
            lineage = TableName(name, LINEAGE_TABLE)
            self.made.tables[lineage] = ()
            self.made.statements.append(f"CREATE TABLE {_name(lineage)} ({_LINEAGE})")
        if self.chance.random() < 0.1:
            self._table(TableName(name, self.chance.choice(("Strange", "~log", "a-b"))), ())

    def _of(self, schema: str) -> Iterator[TableName]:
        return (table for table in self.made.tables if table.schema == schema)

    def _master(self, table: TableName, reach: Sequence[TableName]) -> None:
        chance = self.chance
        own = [other for other in self._of(table.schema) if other.tier.holds_data]
        computed = table.tier in (Tier.IMPORTED, Tier.COMPUTED)
        parents = chance.sample([*reach, *own], min(len(reach) + len(own), chance.choice((0, 1, 1, 2))))
        metadata = computed and chance.random() < 0.5
        self._table(table, parents, f", {_METADATA}" if metadata else "")
        # A table without one is drift.
        if computed and parents:
            self._table(TableName(table.schema, job_table_of(table.table)), ())
        for number in range(chance.choice((0, 0, 0, 1, 2))):
            self._table(TableName(table.schema, f"{table.table}__part{number}"), (table,))

    def _table(self, table: TableName, parents: Sequence[TableName], more: str = "") -> None:
        self.made.tables[table] = tuple(parents)
        if parents and self.chance.random() < 0.7:
            self.code[table] = frozenset(parents)
        columns = ["`k` INT NOT NULL", "`v` INT", *(f"`p{n}` INT NOT NULL" for n in range(1, len(parents)))]
        key = ["`k`", *(f"`p{n}`" for n in range(1, len(parents)))]
        foreign = [
            f"FOREIGN KEY ({column}) REFERENCES {_name(parent)} (`k`)"
            for column, parent in zip(key, parents, strict=False)
        ]
        # What children refer to must be unique.
        body = ", ".join([*columns, f"PRIMARY KEY ({', '.join(key)})", "UNIQUE KEY (`k`)", *foreign])
        self.made.statements.append(f"CREATE TABLE {_name(table)} ({body}{more})")


def _name(table: TableName) -> str:
    return f"{quote_identifier(table.schema)}.{quote_identifier(table.table)}"


def _fits(name: str) -> bool:
    return len(name) + sum(name.count(mark) for mark in "_%\\") <= 64


class _People:
    """Makes people, services, teams, groups and roles; what the loader would refuse is left out."""

    def __init__(self, chance: random.Random, made: Laboratory, base: Project) -> None:
        self.chance = chance
        self.made = made
        self.data: dict[str, Any] = {
            **base.model_dump(),
            "schemas": {
                name: {"stage": "development"} for name in made.order if chance.random() < 0.4
            },
            "people": {}, "services": {}, "teams": {}, "groups": {}, "roles": {},
        }  # fmt: skip

    def project(self) -> Project:
        chance, data = self.chance, self.data
        for name in chance.sample(("own-one", "own-two"), chance.choice((0, 0, 1, 2))):
            data["roles"][name] = self._role()
        for name in chance.sample(("rigs", "all-of it", "sk*"), chance.choice((0, 0, 1, 2))):
            members = chance.sample(self.made.order, min(len(self.made.order), chance.choice((1, 2, 3))))
            if name not in self.made.order:
                data["groups"][name] = members
        people = chance.sample(_PEOPLE, chance.choice((1, 2, 2, 3, 4)))
        services = chance.sample(_SERVICES, chance.choice((0, 1, 1, 2)))
        data["people"] = {name: {"grants": []} for name in people}
        data["services"] = {name: {"grants": []} for name in services}
        for name in chance.sample(("imagers", "team.two"), chance.choice((0, 0, 1, 2))):
            members = chance.sample(people, chance.randint(0, len(people)))
            data["teams"][name] = {"members": members, "grants": []}
        for section in ("people", "services", "teams"):
            for holder in data[section].values():
                for _ in range(chance.choice((0, 2, 3, 4))):
                    self._give(holder["grants"])
        self._sandboxes()
        return Project.model_validate(data)

    def _sandboxes(self) -> None:
        """Let some people make schemas of their own, and make some."""
        roles = self.chance.sample(("developer", "analyst", "viewer", "own-one"), 2)
        roles = [role for role in roles if role in load_roles().roles or role in self.data["roles"]]
        if not roles or self.chance.random() < 0.6:
            return
        found = {**self.data, "sandboxes": {"prefix": self.chance.choice(("dev_", "skdev_")), "roles": roles}}
        project = Project.model_validate(found)
        if check(project, self.made.graph.schemas, load_roles(), today=DAY):
            return
        self.data |= found
        for sandbox in project.owned.values():
            for end in self.chance.sample(("one", "%two", "X"), 2):
                table = TableName(f"{sandbox_stem(sandbox)}{end}", "own")
                self.made.own += (table.schema,)
                self.made.statements += [
                    f"CREATE DATABASE {quote_identifier(table.schema)}",
                    f"CREATE TABLE {_name(table)} (k INT PRIMARY KEY)",
                ]

    def _role(self) -> Mapping[str, Any]:
        def some(most: int, among: Sequence[Capability] = _EVERYWHERE) -> list[Capability]:
            found = self.chance.sample(among, self.chance.randint(0, most))
            return [Capability.READ, *found] if found else []

        target, passing = some(4), self.chance.choice(((), (), (Capability.READ, Capability.GRANT)))
        return {
            "summary": "a role of its own",
            "target": sorted({*target, *passing}),
            "upstream": sorted({*some(2), *passing[:1]}),
            "downstream": some(1),
            "cascade": some(1),
            "tiers": self.chance.sample(("lookup", "manual", "imported", "computed"), 2),
            "extras": self.chance.choice(((), ("skip_duplicates",))),
        }

    def _give(self, grants: list[dict[str, Any]]) -> None:
        """Add a grant, unless the loader would refuse it."""
        chance, order = self.chance, self.made.order
        roles = [*load_roles().roles, *self.data["roles"]]
        on: Any = chance.choice(
            (
                chance.choice(order), chance.choice(order), chance.sample(order, min(len(order), 2)),
                "all", "sk*", "*ephys", "sk?", [*self.data["groups"]],
            )
        )  # fmt: skip
        role = chance.choice(roles)
        on = "all" if role == "admin" else on
        until = chance.choice((None, None, None, DAY, DAY + dt.timedelta(20), DAY - dt.timedelta(3)))
        grant = {"role": role, "on": on, "until": until, "cascade": chance.random() < 0.3}
        grants.append(grant if chance.random() < 0.7 else {**grant, "force": True, "reason": "soon"})
        try:
            project = Project.model_validate(self.data)
        except ValueError:
            grants.pop()
            return
        if check(project, self.made.graph.schemas, load_roles(), today=DAY):
            grants.pop()
