"""A question about access: who, what and where, checked against the project; and what would change a no."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from djops.compile.rights import Right, Rights, compile_rights, is_expired
from djops.errors import UsageError
from djops.model.checking import stage_of
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import LINEAGE_TABLE, Tier, is_sandbox, job_table_of, sandbox_stem
from djops.model.nearest import advice
from djops.model.project import Grant, Principal, Project
from djops.model.roles import Capability, Role
from djops.services.access import Wanted

_WRITES = (Capability.INSERT, Capability.UPDATE, Capability.DELETE)


@dataclass(frozen=True)
class Question:
    """Who wants to do what, and where.

    Attributes:
        who: The principal.
        what: The capability.
        schema: The schema it concerns.
        table: The table, when one was named.
    """

    who: str
    what: Capability
    schema: str
    table: TableName | None = None

    @property
    def on(self) -> str:
        """The schema, or the table with its schema."""
        return str(self.table or self.schema)


def ask(wanted: Wanted, who: str, what: str, on: str) -> Question:
    """Understand a question.

    Args:
        wanted: What the project file wants.
        who: Account name.
        what: A capability.
        on: A schema, or ``schema.Table`` with the table's class or SQL name; the module's name does for
            the schema.

    Raises:
        UsageError: ``E_UNKNOWN`` naming the nearest name that exists.
    """
    principal = principal_named(wanted.project, who)
    capability = Capability(_known(what, [str(c) for c in Capability], "capability", "capabilities"))
    schema, table = resolve(wanted.graph, on)
    return Question(principal, capability, schema, table)


def principal_named(project: Project, who: str) -> str:
    """Return the name of a person or service that exists.

    Raises:
        UsageError: ``E_UNKNOWN`` naming the nearest name.
    """
    return _known(who, project.principals, "person or service", "people and services")


def _known(name: str, names: Collection[str], what: str, plural: str) -> str:
    if name in names:
        return name
    raise UsageError(f"there is no {what} {name!r}", code="E_UNKNOWN", hint=advice(name, names, what=plural))


def resolve(graph: PipelineGraph, on: str) -> tuple[str, TableName | None]:
    """Find the schema, and the table if one is named, that a text means.

    Args:
        graph: The pipeline.
        on: A schema or its module, with or without a table's class or SQL name behind a dot.

    Raises:
        UsageError: ``E_UNKNOWN`` naming the nearest name that exists.
    """
    if on in graph.schemas:
        return on, None
    for cut in (index for index, character in enumerate(on) if character == "."):
        schema = schema_named(graph, on[:cut])
        if schema is not None and is_sandbox(schema):
            return schema, None  # djops does not know its tables, and rights there are on all of them
        if schema is not None:
            return schema, _table(graph, schema, on[cut + 1 :])
    schema = schema_named(graph, on)
    if schema is not None:
        return schema, None
    _known(on.split(".")[0], sorted(graph.schemas), "schema", "schemas")
    raise AssertionError("unreachable")


def schema_named(graph: PipelineGraph, name: str) -> str | None:
    """Return the schema of that name, or that a module of that name declares, or the sandbox it lies in."""
    if name in graph.schemas:
        return name
    by_module = (s for s, module in graph.modules.items() if name in (module.rpartition(".")[2], module))
    sandboxes = (s for s in graph.schemas if is_sandbox(s) and name.startswith(sandbox_stem(s)))
    return next(by_module, next(sandboxes, None))


def table_names(graph: PipelineGraph, schema: str) -> dict[str, TableName]:
    """Return the tables of a schema by every name they have: SQL, class, job table."""
    names: dict[str, TableName] = {LINEAGE_TABLE: TableName(schema, LINEAGE_TABLE)}
    for table in graph.tables_of(schema):
        if table.tier in (Tier.IMPORTED, Tier.COMPUTED):
            job = job_table_of(table.table)
            names[job] = TableName(schema, job)
        names[table.table] = table
        if table in graph.classes:
            names[class_name(graph, table)] = table
    return names


def class_name(graph: PipelineGraph, table: TableName) -> str:
    """Return a table's class without its module, or its SQL name where the class is not known."""
    module = graph.modules.get(table.schema, "")
    return graph.classes.get(table, table.table).removeprefix(f"{module}.")


def _table(graph: PipelineGraph, schema: str, name: str) -> TableName:
    names = table_names(graph, schema)
    return names[_known(name, list(names), f"table in {schema}", f"tables in {schema}")]


def reaching(wanted: Wanted, rights: Rights, question: Question) -> tuple[Right, ...]:
    """Return the rights that answer a question with yes: none for a table that they do not reach.

    Args:
        wanted: What the project file wants, for what its roles may write.
        rights: All rights.
        question: The question.
    """
    held = rights.by_cell.get((question.who, question.schema, question.what), ())
    if question.table is None:
        return held
    if unreachable(question.what, question.table):
        return ()
    return tuple(right for right in held if _reaches(wanted, right, question.table))


def _reaches(wanted: Wanted, right: Right, table: TableName) -> bool:
    limited = right.capability in _WRITES and right.because.relation == "target"
    return not limited or table.family in wanted.roles.role(right.because.role).tiers


def unreachable(capability: Capability, table: TableName) -> str:
    """Say why no right on the schema reaches this table, or nothing when some do."""
    writes = capability in _WRITES
    if writes and table.tier is Tier.LINEAGE:
        return "~lineage is kept by the client when tables are declared; nobody writes it otherwise"
    if writes and not table.tier.holds_data:
        return f"{table.table} is no data table"
    if capability is Capability.JOBS and table.tier not in (Tier.IMPORTED, Tier.COMPUTED, Tier.JOB):
        return f"{table.table} is {table.tier}: only imported and computed tables have jobs"
    return ""


def lacking(wanted: Wanted, rights: Rights, question: Question) -> Iterator[str]:
    """Say why the answer is no: what ended, what does not reach the table, what is missing."""
    who, what, schema, table = question.who, question.what, question.schema, question.table
    for _, grant in wanted.project.grants_of(who):
        if is_expired(grant, wanted.today) and schema in wanted.project.meant(grant.on, wanted.graph.schemas):
            yield f"the grant of {grant.role} on {', '.join(grant.on)} ended on {grant.until}"
    refusal = unreachable(what, table) if table else ""
    if refusal:
        yield refusal
        return
    held = rights.by_cell.get((who, schema, what), ())
    if table and held:
        for role in dict.fromkeys(right.because.role for right in held):
            tiers = " and ".join(sorted(wanted.roles.role(role).tiers))
            yield f"as {role} {who} may {what} {tiers} tables, and {table.table} is {table.family}"
        return
    yield f"no grant of {who} gives {what} on {schema}"


@dataclass(frozen=True)
class Opening:
    """What a grant would open beside what was asked for.

    Attributes:
        schema: The schema.
        capabilities: What could be done there that cannot be now.
    """

    schema: str
    capabilities: tuple[Capability, ...]


@dataclass(frozen=True)
class Remedy:
    """A grant that would turn a no into a yes.

    Attributes:
        command: The command that gives it.
        opens: What else it would open; empty when nothing.
    """

    command: str
    opens: tuple[Opening, ...]


def remedy(wanted: Wanted, rights: Rights, question: Question) -> Remedy | None:
    """Find the grant that gives what was asked for and opens least beside it.

    Args:
        wanted: What the project file wants.
        rights: All rights.
        question: The question, to which the answer is no.

    Returns:
        The grant, or ``None`` when no role gives that to this principal.
    """
    if question.table is not None and unreachable(question.what, question.table):
        return None
    best: tuple[tuple[int, bool], Remedy] | None = None
    for grant in _candidates(wanted, question):
        given = _rights_with(wanted, question.who, grant)
        if not reaching(wanted, given, question):
            continue
        opens = _openings(rights, given, question)
        cost = (sum(len(opening.capabilities) for opening in opens), grant.force)
        if best is None or cost < best[0]:
            best = cost, Remedy(_command(wanted, question.who, grant), opens)
    return best[1] if best else None


def _candidates(wanted: Wanted, question: Question) -> Iterator[Grant]:
    holders = "people" if question.who in wanted.project.people else "services"
    below = sorted(wanted.graph.downstream(question.schema))
    for name, role in wanted.roles.roles.items():
        if holders not in role.holders:
            continue
        if role.project_wide:
            yield Grant(role=name, on=("all",))
            continue
        targets = [question.schema] if question.what in role.target else []
        targets += below if question.what in role.upstream and not targets else []
        for schema in targets:
            yield Grant(role=name, on=(schema,), force=not _stage_fits(wanted, schema, role))


def _stage_fits(wanted: Wanted, schema: str, role: Role) -> bool:
    return stage_of(wanted.project, schema) in role.stages


def _rights_with(wanted: Wanted, who: str, grant: Grant) -> Rights:
    """Return what a principal would have by this grant alone."""
    alone = {who: Principal(grants=(grant,))}
    is_person = who in wanted.project.people
    holders = {"people": alone if is_person else {}, "services": {} if is_person else alone, "teams": {}}
    project = wanted.project.model_copy(update=holders)
    return compile_rights(project, wanted.graph, wanted.roles, wanted.today)


def _openings(before: Rights, given: Rights, question: Question) -> tuple[Opening, ...]:
    new: dict[str, set[Capability]] = {}
    for right in given.rights:
        cell = (right.principal, right.schema, right.capability)
        if cell not in before.by_cell and cell[1:] != (question.schema, question.what):
            new.setdefault(right.schema, set()).add(right.capability)
    return tuple(Opening(schema, in_order(found)) for schema, found in sorted(new.items()))


def in_order(capabilities: Collection[Capability]) -> tuple[Capability, ...]:
    """Return capabilities in their fixed order."""
    return tuple(one for one in Capability if one in capabilities)


def _command(wanted: Wanted, who: str, grant: Grant) -> str:
    words: Sequence[str] = ["djops grant", who, grant.role, *grant.on]
    days = wanted.roles.roles[grant.role].max_days
    until = ["--until DATE"] if days is not None else []
    return " ".join([*words, *until, *(["--force --reason WHY"] if grant.force else [])])
