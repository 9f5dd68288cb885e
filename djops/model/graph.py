"""The pipeline as a graph: tables, their schemas, and who depends on whom.

An edge points from a child to the parent it references. A graph is built from the source
(:mod:`djops.model.source`), from the database's foreign keys, or from ``djops.yaml``; this module
only knows what holds for any of them.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from djops.errors import PipelineError
from djops.model.names import Tier, master_of, tier_of


@dataclass(frozen=True, order=True)
class TableName:
    """A table by its full SQL name.

    Attributes:
        schema: The schema as the database has it.
        table: The table as the database has it, with tier prefix.
    """

    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def tier(self) -> Tier:
        """What kind of table it is."""
        return tier_of(self.table)

    @property
    def family(self) -> Tier:
        """The tier whose rows it holds: a part table's is its master's."""
        return self.tier if self.master is None else self.master.tier

    @property
    def master(self) -> TableName | None:
        """The master table when this is a part."""
        name = master_of(self.table)
        return None if name is None else TableName(self.schema, name)


@dataclass(frozen=True)
class PipelineGraph:
    """Tables and dependencies.

    Attributes:
        schemas: All schema names, also those without tables.
        tables: All tables known.
        references: For each child table the parent tables it references, in any schema.
        extra: Dependencies between schemas that no table tells (``upstream:`` in ``djops.yaml``, imports).
        modules: The Python module that declares each schema, where the source was read.
        classes: The class of each table as ``module.Class`` or ``module.Master.Part``, where known.
    """

    schemas: frozenset[str] = frozenset()
    tables: frozenset[TableName] = frozenset()
    references: Mapping[TableName, frozenset[TableName]] = field(default_factory=dict)
    extra: Mapping[str, frozenset[str]] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[TableName, str] = field(default_factory=dict)

    @cached_property
    def parents(self) -> Mapping[str, frozenset[str]]:
        """The schemas each schema references directly."""
        found: dict[str, set[str]] = {schema: set(self.extra.get(schema, ())) for schema in self.schemas}
        for child, referenced in self.references.items():
            found.setdefault(child.schema, set()).update(parent.schema for parent in referenced)
        for schema, above in list(found.items()):
            above.discard(schema)
            for parent in above:
                found.setdefault(parent, set())
        return {schema: frozenset(above) for schema, above in found.items()}

    @cached_property
    def children(self) -> Mapping[str, frozenset[str]]:
        """The schemas that reference each schema directly."""
        found: dict[str, set[str]] = {schema: set() for schema in self.parents}
        for schema, above in self.parents.items():
            for parent in above:
                found[parent].add(schema)
        return {schema: frozenset(below) for schema, below in found.items()}

    @property
    def _sorted_parents(self) -> Mapping[str, Sequence[str]]:
        return {name: sorted(above) for name, above in sorted(self.parents.items())}

    @cached_property
    def cycle(self) -> tuple[str, ...] | None:
        """A path from a schema over its parents back to itself, or ``None`` when there is none."""
        try:
            graphlib.TopologicalSorter(self._sorted_parents).prepare()
        except graphlib.CycleError as error:
            return tuple(reversed(error.args[1]))
        return None

    @cached_property
    def order(self) -> tuple[str, ...]:
        """All schemas, parents before children, alphabetical where free.

        Raises:
            PipelineError: ``E_CYCLE`` naming the path of the cycle.
        """
        if self.cycle is not None:
            raise PipelineError(
                f"the schemas depend on each other in a cycle: {' -> '.join(self.cycle)}",
                code="E_CYCLE",
                hint="dependencies between schemas must run one way; move the table that closes the circle",
            )
        sorter = graphlib.TopologicalSorter(self._sorted_parents)
        sorter.prepare()
        ordered: list[str] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready())
            ordered.extend(ready)
            sorter.done(*ready)
        return tuple(ordered)

    def upstream(self, schema: str) -> frozenset[str]:
        """Return every schema that ``schema`` depends on, directly or not, without itself."""
        return _reach(schema, self.parents)

    def downstream(self, schema: str) -> frozenset[str]:
        """Return every schema that depends on ``schema``, directly or not, without itself."""
        return _reach(schema, self.children)

    def tables_of(self, schema: str) -> tuple[TableName, ...]:
        """Return the tables of one schema in alphabetical order."""
        return self._by_schema.get(schema, ())

    @cached_property
    def _by_schema(self) -> Mapping[str, tuple[TableName, ...]]:
        found: dict[str, list[TableName]] = {}
        for table in sorted(self.tables):
            found.setdefault(table.schema, []).append(table)
        return {schema: tuple(tables) for schema, tables in found.items()}


def _reach(start: str, step: Mapping[str, frozenset[str]]) -> frozenset[str]:
    seen: set[str] = set()
    todo = list(step.get(start, ()))
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(step.get(name, ()))
    return frozenset(seen - {start})


def merge(graphs: Iterable[PipelineGraph]) -> PipelineGraph:
    """Unite graphs of the same pipeline read from different places.

    Args:
        graphs: What each place tells.

    Returns:
        A graph with all schemas, tables and dependencies; of two names for one thing the first wins.
    """
    schemas: set[str] = set()
    tables: set[TableName] = set()
    references: dict[TableName, frozenset[TableName]] = {}
    extra: dict[str, frozenset[str]] = {}
    modules: dict[str, str] = {}
    classes: dict[TableName, str] = {}
    for graph in graphs:
        schemas |= graph.schemas
        tables |= graph.tables
        for child, above in graph.references.items():
            references[child] = references.get(child, frozenset()) | above
        for schema, names in graph.extra.items():
            extra[schema] = extra.get(schema, frozenset()) | names
        modules = {**graph.modules, **modules}
        classes = {**graph.classes, **classes}
    return PipelineGraph(frozenset(schemas), frozenset(tables), references, extra, modules, classes)
