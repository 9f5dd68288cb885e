"""Who may do something: by the project file, and by what the servers hold, whoever made that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from djops.compile.mysql_state import AccountId
from djops.compile.rights import Right, compile_rights
from djops.errors import UsageError
from djops.model.graph import TableName
from djops.model.nearest import advice
from djops.model.roles import Capability
from djops.plan.leases import stand_for_services
from djops.proof.cells import (
    MysqlAsk,
    S3Ask,
    Tables,
    mysql_meaning,
    mysql_questions,
    places_of,
    s3_meaning,
    s3_questions,
)
from djops.proof.decision import Decision
from djops.proof.iam_reader import ANONYMOUS
from djops.proof.theorems import ANYBODY
from djops.services import evidence, question
from djops.services.access import Wanted
from djops.services.evidence import Evidence

Extent = Literal["yes", "partly", "perhaps", "no"]
"""How much of a capability somebody has."""

Ask = MysqlAsk | S3Ask

Kind = Literal["person", "service", "unmanaged", "administrator"]

_OURS = ("person", "service")


@dataclass(frozen=True)
class Holding:
    """What somebody may do with one schema or table.

    Attributes:
        who: Account name.
        kind: A person or service of the project, an account djops did not make, or one that the servers
            or djops need.
        schema: The schema.
        level: The roles given on it, or in words what reaches it from elsewhere.
        model: How much of each capability asked about there is by the project file.
        database: The same by the database's catalog, without capabilities that are none of the database's;
            ``None`` when it was not asked.
        store: The same by the object store's catalog.
        origins: Where they come from: entries of the project file, and the grant rows and policy
            statements that give more than it.
        agrees: Whether the servers give what the project file says; ``None`` when they were not asked, and
            for administrators, of whom it says nothing.
    """

    who: str
    kind: Kind
    schema: str
    level: str
    model: Mapping[str, Extent]
    database: Mapping[str, Extent] | None
    store: Mapping[str, Extent] | None
    origins: tuple[str, ...]
    agrees: bool | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing may be done at all."""
        return not {*given(self.model), *given(self.database), *given(self.store)}


def given(extents: Mapping[str, Extent] | None) -> Mapping[str, Extent]:
    """Return the capabilities that are there at all.

    Args:
        extents: How much of each there is.
    """
    return {name: extent for name, extent in (extents or {}).items() if extent != "no"}


def who_can(wanted: Wanted, what: str, on: str, found: Evidence | None) -> tuple[Holding, ...]:
    """Tell who may do something.

    Args:
        wanted: What the project file wants.
        what: A capability.
        on: A schema, or ``schema.Table``.
        found: What the servers hold; ``None`` to answer from the project file alone.

    Returns:
        Everybody who may by the project file or on a server: people, services, then others.

    Raises:
        UsageError: ``E_UNKNOWN`` naming the nearest name that exists.
    """
    names = [str(one) for one in Capability]
    if what not in names:
        hint = advice(what, names, what="capabilities")
        raise UsageError(f"there is no capability {what!r}", code="E_UNKNOWN", hint=hint)
    asking = _Asking(wanted, found)
    schema, table = question.resolve(asking.graph, on)
    holdings = (asking.holding(one, schema, (Capability(what),), table) for one in asking.everybody())
    return tuple(one for one in holdings if not one.is_empty)


def matrix(wanted: Wanted, schemas: Sequence[str], found: Evidence | None) -> tuple[Holding, ...]:
    """Tell what everybody may do with every schema.

    Args:
        wanted: What the project file wants.
        schemas: The schemas to look at; empty for all.
        found: What the servers hold; ``None`` to answer from the project file alone.

    Returns:
        One holding for each principal and schema, also empty ones; of others only those who have something.

    Raises:
        UsageError: ``E_UNKNOWN`` naming the nearest name that exists.
    """
    asking = _Asking(wanted, found)
    chosen = {question.resolve(asking.graph, name)[0] for name in schemas} or asking.graph.schemas
    order = [schema for schema in asking.graph.order if schema in chosen]
    holdings: list[Holding] = []
    for one in asking.everybody():
        row = [asking.holding(one, schema, tuple(Capability), None) for schema in order]
        if one.kind in _OURS or not all(holding.is_empty for holding in row):
            holdings += row
    return tuple(holdings)


@dataclass(frozen=True)
class _Somebody:
    """Somebody with an account on a server, or in the project file."""

    name: str
    kind: Kind
    accounts: tuple[AccountId, ...] = ()
    user: str | None = None


class _Asking:
    """Answers about one principal after the other.

    Args:
        wanted: What the project file wants.
        found: What the servers hold, if they were asked.
    """

    def __init__(self, wanted: Wanted, found: Evidence | None) -> None:
        self.wanted = wanted
        self.found = found
        self.graph = wanted.graph if found is None else found.graph
        self.rights = (
            compile_rights(wanted.project, wanted.graph, wanted.roles, wanted.today)
            if found is None
            else found.rights
        )
        self.powers = evidence.powers_of(self.rights, wanted.roles)
        stores = tuple(wanted.project.stores.values())
        self.places = {schema: places_of(stores, schema) for schema in self.graph.schemas}
        self._meanings: dict[tuple[str, Capability], Sequence[Ask]] = {}

    def everybody(self) -> Iterator[_Somebody]:
        """Yield people, services, and then everybody else who can log in on a server."""
        known = {} if self.found is None else self.found.accounts
        users = (
            frozenset[str]()
            if self.found is None or self.found.s3 is None
            else frozenset(self.found.s3.users())
        )
        sections: tuple[tuple[Kind, Iterable[str]], ...] = (
            ("person", self.wanted.project.people),
            ("service", self.wanted.project.services),
        )
        for kind, names in sections:
            for name in names:
                accounts = (known[name],) if name in known else ()
                yield _Somebody(name, kind, accounts, name if name in users else None)
        if self.found is not None:
            yield from sorted(
                self._others(self.found), key=lambda one: (one.kind == "administrator", one.name)
            )

    def _others(self, found: Evidence) -> Iterator[_Somebody]:
        ours, principals = set(found.accounts.values()), self.wanted.project.principals
        free = (
            set[str]() if found.s3 is None else {name for name in found.s3.users() if name not in principals}
        )
        leases = stand_for_services(self.wanted.project, found.mysql.catalog)
        for account in found.mysql.accounts():
            if account not in ours | leases:
                name = str(account) if account.user else f"(anonymous)@{account.host}"
                user = name if name in free else None
                free.discard(name)
                kept = account in found.keepers or user in found.iam_keepers
                yield _Somebody(name, "administrator" if kept else "unmanaged", (account,), user)
        for name in free:
            yield _Somebody(name, "administrator" if name in found.iam_keepers else "unmanaged", (), name)
        if found.s3 is not None:
            yield _Somebody(ANYBODY, "unmanaged", (), ANONYMOUS)

    def holding(
        self, one: _Somebody, schema: str, capabilities: Sequence[Capability], table: TableName | None
    ) -> Holding:
        """Tell what somebody may do with a schema or a table of it."""
        powers = self.powers.get((one.name, schema), ()) if one.kind in _OURS else ()
        rows = mysql_questions(schema, self._tables(schema), powers)
        asked = (*rows, *s3_questions(self.places[schema], powers))
        expected = {ask.ask: ask.expected for ask in asked}
        asks = {capability: self._asks(schema, capability, table) for capability in capabilities}
        model = _extents(asks, {ask: Decision(answer) for ask, answer in expected.items()})
        held = self._held(one, schema)
        # What comes with something else, as REFERENCES with declaring, has all of it for a reason.
        reasons = [right for right in held if right.capability in asks] or (held if given(model) else [])
        origins = dict.fromkeys(str(right.because) for right in reasons)
        level = _level(held)
        if self.found is None:
            return Holding(one.name, one.kind, schema, level, model, None, None, tuple(origins), None)
        answers = {ask: self._answer(one, ask) for some in asks.values() for ask in some}
        wrong = [decision for ask, decision in answers.items() if decision.allowed != expected[ask]]
        origins |= dict.fromkeys(text for decision in wrong if decision.allowed for text in decision.because)
        database = _extents(asks, answers, MysqlAsk)
        store = _extents(asks, answers, S3Ask)
        level = level or "+".join({**given(database), **given(store)})
        agrees = None if one.kind == "administrator" else not wrong
        return Holding(one.name, one.kind, schema, level, model, database, store, tuple(origins), agrees)

    def _held(self, one: _Somebody, schema: str) -> Sequence[Right]:
        held = self.rights.by_principal.get(one.name, ()) if one.kind in _OURS else ()
        return [right for right in held if right.schema == schema]

    def _tables(self, schema: str) -> Tables:
        return Tables(self.graph.tables_of(schema)) if self.found is None else self.found.tables[schema]

    def _asks(self, schema: str, capability: Capability, table: TableName | None) -> Sequence[Ask]:
        key = schema, capability
        if key not in self._meanings:
            rows = mysql_meaning(schema, self._tables(schema), capability)
            self._meanings[key] = (*rows, *s3_meaning(self.places[schema], capability))
        asks = self._meanings[key]
        if table is None:
            return asks
        return [ask for ask in asks if isinstance(ask, S3Ask) or ask.table == table.table]

    def _answer(self, one: _Somebody, ask: Ask) -> Decision:
        if self.found is None:
            return Decision(False)
        if isinstance(ask, S3Ask):
            return Decision(False) if one.user is None else evidence.ask_store(self.found, one.user, ask)
        answers = [evidence.ask_database(self.found, account, ask) for account in one.accounts]
        allowed = [answer for answer in answers if answer.allowed]
        return next(
            (answer for answer in allowed if answer.certain), allowed[0] if allowed else Decision(False)
        )


def _extents(
    asks: Mapping[Capability, Sequence[Ask]],
    answers: Mapping[Ask, Decision],
    of: type[MysqlAsk] | type[S3Ask] | None = None,
) -> dict[str, Extent]:
    """Return how much of each capability there is, on one system or on both, where it means anything."""
    found = {
        str(capability): _extent([answers[ask] for ask in some if of is None or isinstance(ask, of)])
        for capability, some in asks.items()
    }
    return {name: extent for name, extent in found.items() if extent is not None}


def _extent(answers: Sequence[Decision]) -> Extent | None:
    if not answers:
        return None
    if not all(answer.certain for answer in answers):
        return "perhaps"
    allowed = [answer.allowed for answer in answers]
    return "yes" if all(allowed) else "partly" if any(allowed) else "no"


def _level(held: Iterable[Right]) -> str:
    """Name the roles given on a schema, or else what reaches it from where they are given."""
    rights = list(held)
    roles = dict.fromkeys(right.because.role for right in rights if right.because.relation == "target")
    if roles:
        return "+".join(roles)
    return "+".join(dict.fromkeys(str(right.capability) for right in rights))
