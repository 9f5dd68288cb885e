"""Whether somebody may do something, and why, answered from the project file; and what it would touch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from djops.compile.rights import Rights, compile_rights
from djops.errors import UsageError
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import is_sandbox
from djops.model.roles import Capability
from djops.services import access, question
from djops.services.access import Servers, Wanted
from djops.services.question import Question
from djops.systems import datajoint

REACHING = (Capability.DELETE, Capability.UPDATE, Capability.DROP)
"""What reaches further than the table it is done to."""

_SHOWN = 6


@dataclass(frozen=True)
class Touched:
    """A table that something done to another one reaches.

    Attributes:
        table: The table.
        name: Its class with its module, as far as the code tells.
        rows: How many of its rows.
        allowed: Whether the principal has the right that it takes there.
        blocks: Whether the whole fails because of it.
        named: Rows by attribute and by the person or service whose name stands there.
    """

    table: TableName
    name: str
    rows: int
    allowed: bool
    blocks: bool
    named: Mapping[str, Mapping[str, int]]


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
        touched: What it would touch now, where the servers were asked.
    """

    allowed: bool
    who: str
    what: str
    schema: str
    table: str | None
    because: tuple[str, ...]
    notes: tuple[str, ...] = ()
    touched: tuple[Touched, ...] | None = None

    @property
    def succeeds(self) -> bool:
        """Whether it would be carried out, as far as is known."""
        return self.allowed and not any(one.blocks for one in self.touched or ())


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
    asked = question.ask(wanted, who, what, on)
    rights = compile_rights(wanted.project, wanted.graph, wanted.roles, wanted.today)
    held = question.reaching(wanted, rights, asked)
    allowed = bool(held)
    if allowed:
        because = tuple(dict.fromkeys(str(right.because) for right in held))
    else:
        because = tuple(_refusal(wanted, rights, asked))
    table = str(asked.table) if asked.table else None
    notes = tuple(_notes(wanted.graph, rights, asked, allowed=allowed))
    return Answer(allowed, asked.who, asked.what, asked.schema, table, because, notes)


def _refusal(wanted: Wanted, rights: Rights, asked: Question) -> Iterator[str]:
    yield from question.lacking(wanted, rights, asked)
    found = question.remedy(wanted, rights, asked)
    if found is not None:
        yield f"`{found.command}` would"


def _notes(graph: PipelineGraph, rights: Rights, asked: Question, *, allowed: bool) -> Iterator[str]:
    if asked.what is Capability.DELETE:
        yield from _about_delete(graph, rights, asked)
    elif asked.what is Capability.UPDATE and allowed:
        yield from _about_update(graph, rights, asked)
    elif asked.what is Capability.DROP:
        yield from _about_drop(graph, rights, asked, allowed=allowed)


def _about_delete(graph: PipelineGraph, rights: Rights, asked: Question) -> Iterator[str]:
    """Name the schemas that keep a cascading delete from working; the client visits every one it can see."""
    needed = {Capability.READ, Capability.DELETE}
    lacking = [
        below
        for below in sorted(_schemas_below(graph, asked))
        if not needed <= rights.capabilities(asked.who, below)
    ]
    if lacking:
        yield f"rows that others depend on cannot go: read and delete are missing on {', '.join(lacking)}"


def _about_update(graph: PipelineGraph, rights: Rights, asked: Question) -> Iterator[str]:
    """Say whose rows a new primary key rewrites: foreign keys cascade without asking for rights."""
    below = _below(graph, asked)
    outside = sorted(
        schema
        for schema in {table.schema for table in below}
        if Capability.UPDATE not in rights.capabilities(asked.who, schema)
    )
    if below:
        where = f", also in {', '.join(outside)}, where {asked.who} may update nothing" if outside else ""
        yield (
            "changing a primary key, which raw SQL can and update1() cannot, rewrites the rows that refer to "
            f"it in {_names(graph, below)}{where}"
        )


def _about_drop(graph: PipelineGraph, rights: Rights, asked: Question, *, allowed: bool) -> Iterator[str]:
    """Say what the client drops before it meets a refusal: leaves go first, and nothing brings them back."""
    below = _below(graph, asked)
    mine = [t for t in below if Capability.DROP in rights.capabilities(asked.who, t.schema)]
    others = sorted({t.schema for t in below if t not in mine})
    if allowed and below:
        yield f"drop() also drops what depends on it, leaves first: {_names(graph, below)}"
    if allowed and others:
        yield (
            f"it fails at {', '.join(others)}, where {asked.who} may drop nothing, and what was dropped by "
            "then stays dropped"
        )
    if not allowed and mine:
        yield f"drop() would drop {_names(graph, mine)} before it is refused: do not try"


def _below(graph: PipelineGraph, asked: Question) -> tuple[TableName, ...]:
    """Return the tables that depend on what is asked about, directly or not."""
    children: dict[TableName, set[TableName]] = {}
    for child, parents in graph.references.items():
        for parent in parents:
            children.setdefault(parent, set()).add(child)
    start = [asked.table] if asked.table else list(graph.tables_of(asked.schema))
    seen, todo = set(start), list(start)
    while todo:
        for child in children.get(todo.pop(), ()):
            if child not in seen:
                seen.add(child)
                todo.append(child)
    return tuple(sorted(seen - set(start)))


def _schemas_below(graph: PipelineGraph, asked: Question) -> frozenset[str]:
    """Return the schemas below: those of tables below, where the table and its references are known."""
    if asked.table is not None and asked.table in graph.tables:
        return frozenset(table.schema for table in _below(graph, asked)) - {asked.schema}
    return graph.downstream(asked.schema)


def _names(graph: PipelineGraph, tables: tuple[TableName, ...] | list[TableName]) -> str:
    names = [full_name(graph, table) for table in tables]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def full_name(graph: PipelineGraph, table: TableName) -> str:
    """Return a table as ``schema.Class``, or by its SQL name where the class is not known."""
    return f"{table.schema}.{question.class_name(graph, table)}"


def live(
    servers: Servers, wanted: Wanted, who: str, what: str, on: str, where: Mapping[str, str] | None = None
) -> Answer:
    """Answer as :func:`can` does, and count what it would touch, as djops' own account sees it.

    Args:
        servers: The servers.
        wanted: What the project file wants.
        who: Account name.
        what: A capability.
        on: A schema, or ``schema.Table``.
        where: Values of attributes that the rows concerned have; all rows without.

    Raises:
        UsageError: ``E_UNKNOWN`` for an unknown name; ``E_USAGE`` where there is nothing to count.
        ServerUnavailableError: The database does not answer.
    """
    asked = question.ask(wanted, who, what, on)
    if asked.what not in REACHING or asked.table is None:
        raise UsageError(
            f"there is nothing to count for {what} on {on}",
            hint=f"--live and --where are for {', '.join(REACHING)} of one table, as session.Session",
        )
    if where and asked.what is Capability.DROP:
        raise UsageError("a table is dropped with all its rows", hint="leave --where out")
    pipeline, _ = servers.mysql.read_pipeline(wanted.graph.schemas)
    graph = access.whole_graph(wanted.graph, pipeline)
    whole = Wanted(wanted.project, graph, wanted.roles, wanted.today)
    answer = can(whole, who, what, on)
    rights = compile_rights(whole.project, graph, whole.roles, whole.today)
    with datajoint.connect(servers.site.mysql) as client:
        reached = datajoint.cascade(client, asked.table, where or {}, sorted(wanted.project.principals))
    touched = tuple(_touched(whole, rights, asked, one) for one in reached)
    return Answer(
        answer.allowed, who, what, answer.schema, answer.table, answer.because, answer.notes, touched
    )


def _touched(wanted: Wanted, rights: Rights, asked: Question, reached: datajoint.Reached) -> Touched:
    """Judge one table that is reached."""
    schema = question.schema_named(wanted.graph, reached.table.schema) or reached.table.schema
    there = Question(asked.who, asked.what, schema, None if is_sandbox(schema) else reached.table)
    allowed = bool(question.reaching(wanted, rights, there))
    seen = Capability.READ in rights.capabilities(asked.who, schema)
    # A cascading UPDATE asks for no right. The client deletes wherever it sees a table, even without rows.
    stops = reached.rows > 0 or seen or asked.what is Capability.DROP
    blocks = asked.what is not Capability.UPDATE and not allowed and stops
    name = full_name(wanted.graph, reached.table)
    return Touched(reached.table, name, reached.rows, allowed, blocks, reached.named)
