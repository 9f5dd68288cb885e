"""Whether somebody may do something, and why, answered from the project file alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from djops.compile.rights import Rights, compile_rights, is_expired
from djops.errors import UsageError
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import Tier
from djops.model.nearest import advice
from djops.model.roles import Capability
from djops.services.access import Wanted


@dataclass(frozen=True)
class Answer:
    """Yes or no, with the reason.

    Attributes:
        allowed: The answer.
        who: The principal asked about.
        what: The capability asked about.
        schema: The schema it concerns.
        table: The table, when one was named.
        because: Where the right comes from, or what is missing.
        notes: What else matters, such as schemas that a cascading delete also needs.
    """

    allowed: bool
    who: str
    what: str
    schema: str
    table: str | None
    because: tuple[str, ...]
    notes: tuple[str, ...] = ()


def can(wanted: Wanted, who: str, what: str, on: str) -> Answer:
    """Answer whether a principal may do something.

    Args:
        wanted: What the project file wants.
        who: Account name.
        what: A capability.
        on: A schema, or ``schema.Table`` with the table's class or SQL name; the module's name does for
            the schema.

    Returns:
        The answer.

    Raises:
        UsageError: ``E_UNKNOWN`` naming the nearest name that exists.
    """
    principal = _known(who, wanted.project.principals, "person or service", "people and services")
    capability = Capability(_known(what, [str(c) for c in Capability], "capability", "capabilities"))
    schema, table = _resolve(wanted.graph, on)
    rights = compile_rights(wanted.project, wanted.graph, wanted.roles, wanted.today)
    held = rights.by_cell.get((principal, schema, capability), ())
    allowed, refusal = bool(held), ""
    if table is not None and held:
        refusal = _refused_by_tier(capability, table)
        allowed = not refusal
    because = tuple(dict.fromkeys(str(right.because) for right in held)) if allowed else ()
    if not allowed:
        because = (refusal,) if refusal else _missing(wanted, principal, capability, schema)
    notes = (
        _cascade_notes(wanted, rights, principal, schema)
        if allowed and capability is Capability.DELETE
        else ()
    )
    return Answer(allowed, principal, capability, schema, str(table) if table else None, because, notes)


def _known(name: str, names: Collection[str], what: str, plural: str) -> str:
    if name in names:
        return name
    raise UsageError(f"there is no {what} {name!r}", code="E_UNKNOWN", hint=advice(name, names, what=plural))


def _resolve(graph: PipelineGraph, on: str) -> tuple[str, TableName | None]:
    if on in graph.schemas:
        return on, None
    for cut in (index for index, character in enumerate(on) if character == "."):
        schema = _schema(graph, on[:cut])
        if schema is not None:
            return schema, _table(graph, schema, on[cut + 1 :])
    schema = _schema(graph, on)
    if schema is not None:
        return schema, None
    _known(on.split(".")[0], sorted(graph.schemas), "schema", "schemas")
    raise AssertionError("unreachable")


def _schema(graph: PipelineGraph, name: str) -> str | None:
    if name in graph.schemas:
        return name
    return next(
        (s for s, module in graph.modules.items() if module.rpartition(".")[2] == name or module == name),
        None,
    )


def _table(graph: PipelineGraph, schema: str, name: str) -> TableName:
    names: dict[str, TableName] = {}
    for table in graph.tables_of(schema):
        names[table.table] = table
        if table in graph.classes:
            full = graph.classes[table]
            module = graph.modules.get(schema, "")
            names[full.removeprefix(f"{module}.")] = table
    return names[_known(name, list(names), f"table in {schema}", f"tables in {schema}")]


def _refused_by_tier(capability: Capability, table: TableName) -> str:
    """Say why a right on the schema does not reach this table, or nothing when it does."""
    writes = capability in (Capability.INSERT, Capability.UPDATE, Capability.DELETE)
    if writes and table.tier is Tier.LINEAGE:
        return "~lineage is kept by the client when tables are declared; nobody writes it otherwise"
    if writes and not table.tier.holds_data:
        return f"{table.table} is no data table"
    if capability is Capability.JOBS and table.tier not in (Tier.IMPORTED, Tier.COMPUTED, Tier.JOB):
        return f"{table.table} is {table.tier}: only imported and computed tables have jobs"
    return ""


def _missing(wanted: Wanted, principal: str, capability: Capability, schema: str) -> tuple[str, ...]:
    grants = [grant for _, grant in wanted.project.grants_of(principal)]
    lines = [
        f"the grant of {grant.role} on {', '.join(grant.on)} ended on {grant.until}"
        for grant in grants
        if is_expired(grant, wanted.today) and schema in wanted.project.meant(grant.on, wanted.graph.schemas)
    ]
    fitting = [
        name
        for name, role in wanted.roles.roles.items()
        if capability in role.target and not role.project_wide and _stage_fits(wanted, schema, role.stages)
    ]
    lines.append(f"no grant of {principal} gives {capability} on {schema}")
    if fitting:
        lines.append(f"`djops grant {principal} {fitting[0]} {schema}` would")
    return tuple(lines)


def _stage_fits(wanted: Wanted, schema: str, stages: Collection[str]) -> bool:
    entry = wanted.project.schemas.get(schema)
    return (entry.stage if entry else "production") in stages


def _cascade_notes(wanted: Wanted, rights: Rights, principal: str, schema: str) -> tuple[str, ...]:
    """Name the schemas that keep a cascading delete from working; the client visits every one it can see."""
    lacking = [
        below
        for below in sorted(wanted.graph.downstream(schema))
        if not {Capability.READ, Capability.DELETE} <= rights.capabilities(principal, below)
    ]
    if not lacking:
        return ()
    return (f"rows that others depend on cannot go: read and delete are missing on {', '.join(lacking)}",)
