"""Why somebody may do something, or may not: the whole chain from the project file to each server's rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from djops.compile.chain import S3_ACTIONS, Allowed, Reached, Ways, allowed, edges_of, needs
from djops.compile.mysql import Inventory, role_name
from djops.compile.mysql_state import AccountId, Edge
from djops.compile.rights import Right
from djops.compile.s3 import schema_prefixes
from djops.errors import UndecidedError
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import LINEAGE_TABLE, Tier, job_table_of
from djops.model.project import Project
from djops.model.roles import Capability, RoleModel
from djops.proof.cells import S3Ask, places_of, s3_meaning
from djops.proof.decision import Decision
from djops.proof.iam_reader import IamReader
from djops.proof.mysql_reader import MysqlReader
from djops.proof.theorems import undecided
from djops.services import access, question
from djops.services.access import Compiled, Found, Servers, Wanted
from djops.services.evidence import store_reader
from djops.services.project import Loaded
from djops.services.question import Opening, Question
from djops.services.site import choose_environment

System = Literal["project", "mysql", "s3"]
_ENTRY = re.compile(r"(people|services|teams)\.(.*)\.grants\[(\d+)\]")


@dataclass(frozen=True)
class Step:
    """One link of the chain.

    Attributes:
        system: Where it is: the project file, the database, the object store.
        text: What it says.
        where: File and line, for what stands in a file.
        holds: Whether the server really has it; ``None`` where no server was asked.
    """

    system: System
    text: str
    where: str | None = None
    holds: bool | None = None


@dataclass(frozen=True)
class Explanation:
    """Yes or no, with every link of the chain, or the one that is missing.

    Attributes:
        allowed: The answer: what the project file says, and where servers were asked, what they hold.
        who: The principal.
        what: The capability.
        schema: The schema.
        table: The table, when one was named.
        live: Whether the servers were asked.
        steps: The chain, as far as it goes.
        missing: What is missing, when the answer is no.
        command: The command that would add it, where there is one.
        opens: What else that would open.
        beyond: What the database allows although the project file gives no such right.
    """

    allowed: bool
    who: str
    what: str
    schema: str
    table: str | None
    live: bool
    steps: tuple[Step, ...]
    missing: tuple[str, ...] = ()
    command: str | None = None
    opens: tuple[Opening, ...] = ()
    beyond: tuple[str, ...] = ()


def offline(loaded: Loaded, who: str, what: str, on: str, environment: str | None = None) -> Explanation:
    """Explain from the project file and the source alone.

    Args:
        loaded: The checked project.
        who: Account name.
        what: A capability.
        on: A schema, or ``schema.Table``.
        environment: Name of the environment; ``None`` means the only one, or ``local``.

    Raises:
        UsageError: ``E_UNKNOWN`` naming the nearest name that exists.
    """
    wanted = Wanted.of(loaded.project, loaded.graph)
    asked = question.ask(wanted, who, what, on)
    name = choose_environment(loaded.project, environment)
    tables = frozenset(_with_hidden_tables(loaded.graph))
    compiled = access.compile_all(wanted, name, loaded.graph, Inventory(tables))
    return _Explainer(loaded, wanted, compiled, Inventory(tables), None).explain(asked)


def live(servers: Servers, loaded: Loaded, wanted: Wanted, who: str, what: str, on: str) -> Explanation:
    """Explain, and say of each link whether the server really has it.

    Args:
        servers: The servers.
        loaded: The checked project.
        wanted: What the servers should hold.
        who: Account name.
        what: A capability.
        on: A schema, or ``schema.Table``.

    Raises:
        UsageError: ``E_UNKNOWN`` naming the nearest name that exists.
        ServerUnavailableError: A server does not answer.
    """
    question.ask(wanted, who, what, on)  # an unknown name is told before servers are asked
    standing = access.stand(servers, wanted)
    reader = MysqlReader(servers.mysql.read_catalog())
    buckets = [store.bucket for store in wanted.project.stores.values()]
    store = store_reader(servers.site, servers.s3.read_catalog(buckets)) if buckets else None
    whole = Wanted(wanted.project, standing.compiled.graph, wanted.roles, wanted.today)
    asked = question.ask(whole, who, what, on)
    found = standing.found
    return _Explainer(loaded, whole, standing.compiled, found.inventory, found, reader, store).explain(asked)


def _with_hidden_tables(graph: PipelineGraph) -> Iterator[TableName]:
    """Yield the tables that the code declares, and those that come with them."""
    yield from graph.tables
    yield from (TableName(schema, LINEAGE_TABLE) for schema in graph.schemas)
    for table in graph.tables:
        if table.tier in (Tier.IMPORTED, Tier.COMPUTED):
            yield TableName(table.schema, job_table_of(table.table))


@dataclass(frozen=True)
class _Explainer:
    loaded: Loaded
    wanted: Wanted
    compiled: Compiled
    inventory: Inventory
    found: Found | None
    reader: MysqlReader | None = None
    store: IamReader | None = None

    def explain(self, asked: Question) -> Explanation:
        rights = self.compiled.rights
        held = question.reaching(self.wanted, rights, asked)
        if not held:
            return self._refused(asked)
        steps = [*self._entries(held), *self._database(asked)]
        if all(step.holds is not False for step in steps):
            steps += self._contradicted(asked)
        steps += self._store(asked)
        broken = next((step for step in steps if step.holds is False), None)
        return Explanation(
            allowed=broken is None,
            who=asked.who,
            what=asked.what,
            schema=asked.schema,
            table=str(asked.table) if asked.table else None,
            live=self.found is not None,
            steps=tuple(steps),
            missing=() if broken is None else (f"{_SYSTEMS[broken.system]} has not: {broken.text}",),
            command=None if broken is None else self._mending(asked),
        )

    def _refused(self, asked: Question) -> Explanation:
        rights = self.compiled.rights
        found = question.remedy(self.wanted, rights, asked)
        return Explanation(
            allowed=False,
            who=asked.who,
            what=asked.what,
            schema=asked.schema,
            table=str(asked.table) if asked.table else None,
            live=self.found is not None,
            steps=(),
            missing=tuple(question.lacking(self.wanted, rights, asked)),
            command=found.command if found else None,
            opens=found.opens if found else (),
            beyond=tuple(self._beyond(asked)),
        )

    def _mending(self, asked: Question) -> str:
        """Name what brings the servers to what the project file says."""
        absent = asked.table is not None and asked.table not in self.inventory.tables
        return "djops schemas sync" if absent else "djops apply"

    def _entries(self, held: Sequence[Right]) -> Iterator[Step]:
        """Follow the rights back to the project file, and say what their roles are."""
        lines: dict[str, None] = {}
        for right in held:
            if str(right.because) not in lines:
                lines[str(right.because)] = None
                yield Step("project", str(right.because), _place(self.loaded, right.because.entry))
        for role in dict.fromkeys(right.because.role for right in held):
            where = str(self.loaded.positions.where("roles", role)) if role in self._own_roles else None
            yield Step("project", f"the role {role}: {_role(self.wanted.roles, role)}", where)

    @property
    def _own_roles(self) -> Collection[str]:
        return self.wanted.project.roles

    def _database(self, asked: Question) -> Iterator[Step]:
        host = self._host
        account = AccountId(asked.who, host)
        yield Step("mysql", f"the account {account}, not locked", None, self._has_account(account))
        tables = self._tables(asked)
        if asked.table is not None and not tables and asked.what not in (Capability.READ,):
            yield Step("mysql", f"the table {asked.table}", None, None if self.found is None else False)
        ways = Ways.of(self.compiled.mysql, account)
        wanted = needs(asked.what, asked.schema, tables, escape=self.inventory.escape)
        reached = [one for need in wanted for one in ways.to(need)]
        yield from self._memberships([edge for one in reached for edge in edges_of(one.path)], account)
        yield from self._rows(reached)
        if asked.what is Capability.GRANT:
            yield from self._passing_on(account, asked.schema)

    def _rows(self, reached: Iterable[Reached]) -> Iterator[Step]:
        for one in reached:
            names = ", ".join(sorted(one.privileges))
            there = None
            if self.found is not None:
                there = one.privileges <= self.found.mysql.privileges.get(one.held, frozenset())
            yield Step("mysql", f"{names} on {one.held.scope}, of {one.held.grantee}", None, there)

    def _decisions(self, asked: Question, tables: Iterable[TableName]) -> Iterator[tuple[str, Decision]]:
        """Ask the reader of the server's own catalog for every privilege that is needed."""
        if self.reader is None:
            return
        account = AccountId(asked.who, self._host)
        for need in needs(asked.what, asked.schema, tables, escape=self.inventory.escape):
            for privilege in sorted(need.privileges):
                decision = self.reader.decide(account, privilege, asked.schema, need.scope.table)
                yield f"{privilege} on {need.scope}", decision

    def _contradicted(self, asked: Question) -> Iterator[Step]:
        """Say where the server refuses what its rows seem to give."""
        for what, decision in self._decisions(asked, self._tables(asked)):
            if not decision.allowed:
                reason = f": {'; '.join(decision.because)}" if decision.because else ""
                yield Step("mysql", f"{what} in force{reason}", None, False)

    def _beyond(self, asked: Question) -> Iterator[str]:
        """Say what the server allows although no line of the project file does."""
        there = [table for table in self.inventory.tables if table.schema == asked.schema]
        tables = there if asked.table is None else self._tables(asked)
        for what, decision in self._decisions(asked, tables):
            if decision.allowed:
                yield f"{what}: {'; '.join(decision.because)}"
        for ask, decision in self._store_answers(asked):
            if decision.allowed:
                yield f"{ask}: {'; '.join(decision.because)}"

    def _passing_on(self, account: AccountId, schema: str) -> Iterator[Step]:
        levels = {AccountId(role_name(schema, level)) for level in self.wanted.roles.roles}
        ways = {path[-1]: path for path in Ways.of(self.compiled.mysql, account).paths}
        passed = [
            edge
            for edge, admin in sorted(self.compiled.mysql.edges.items())
            if admin and edge.role in levels and edge.member in ways
        ]
        yield from self._memberships(
            [step for edge in passed for step in edges_of(ways[edge.member])], account
        )
        for edge in passed:
            there = None if self.found is None else self.found.mysql.edges.get(edge, False)
            yield Step("mysql", f"{edge.member} holds {edge.role} and may pass it on", None, there)

    def _memberships(self, edges: Iterable[Edge], account: AccountId) -> Iterator[Step]:
        for edge in dict.fromkeys(edges):
            active = ", active from log-in" if edge.member == account else ""
            text = f"{edge.member} holds {edge.role}{active}"
            yield Step("mysql", text, None, self._has_edge(edge, account))

    @property
    def _host(self) -> str:
        hosts = (name.host for name, one in self.compiled.mysql.accounts.items() if one.kind != "role")
        return next(hosts, "%")

    def _has_account(self, account: AccountId) -> bool | None:
        if self.found is None:
            return None
        there = self.found.mysql.accounts.get(account)
        return there is not None and not there.locked

    def _has_edge(self, edge: Edge, account: AccountId) -> bool | None:
        if self.found is None:
            return None
        active = edge.member != account or edge in self.found.mysql.defaults
        return edge in self.found.mysql.edges and active

    def _tables(self, asked: Question) -> tuple[TableName, ...]:
        """Return the tables a question is about, of those that exist."""
        there = sorted(table for table in self.inventory.tables if table.schema == asked.schema)
        if asked.table is None:
            return tuple(table for table in there if self._is_reached(asked, table))
        if asked.what is Capability.JOBS and asked.table.tier is not Tier.JOB:
            return tuple(table for table in there if table.table == job_table_of(asked.table.table))
        extra = [LINEAGE_TABLE] if asked.what in (Capability.DECLARE, Capability.DROP) else []
        return tuple(table for table in there if table == asked.table or table.table in extra)

    def _is_reached(self, asked: Question, table: TableName) -> bool:
        about = Question(asked.who, asked.what, asked.schema, table)
        return not table.tier.holds_data or bool(question.reaching(self.wanted, self.compiled.rights, about))

    def _store(self, asked: Question) -> Iterator[Step]:
        actions = S3_ACTIONS.get(asked.what, ())
        user = self.compiled.s3.users.get(asked.who)
        if user is None or not actions or not self._has_objects(asked):
            return
        there = self.found.s3.users.get(asked.who) if self.found is not None else None
        held = set(allowed(there.policies, actions)) if there is not None else set()
        places = _places(self.wanted.project, asked.schema)
        answers = dict(self._store_answers(asked)) if self.found is not None else {}
        for one in allowed(user.policies, actions):
            if any(place in f"{one.resource}/{one.prefix}" for place in places):
                known = any(_same(one, other) for other in held)
                mine = [answer for ask, answer in answers.items() if _is_about(one, ask)]
                works = bool(mine) and all(answer.allowed for answer in mine)
                yield Step("s3", str(one), None, None if self.found is None else known or works)
        for ask, answer in answers.items():
            if not answer.allowed and answer.because:
                yield Step("s3", f"{ask} in force: {'; '.join(answer.because)}", None, False)

    def _store_answers(self, asked: Question) -> Iterator[tuple[S3Ask, Decision]]:
        """Ask the reader of the store's own catalog for everything that the capability takes."""
        if self.store is None or asked.who not in self.store.catalog.users:
            return
        places = places_of(self.wanted.project.stores.values(), asked.schema)
        for ask in s3_meaning(places, asked.what):
            try:
                yield ask, self.store.decide(asked.who, ask.action, ask.resource, ask.context)
            except UndecidedError as error:
                yield ask, undecided(error)

    def _has_objects(self, asked: Question) -> bool:
        """Tell whether values of what is asked about go to a store, as far as the code tells."""
        if asked.table is None or asked.table not in self.loaded.graph.tables:
            return True
        return any(use.table == asked.table for use in self.loaded.codecs)


_SYSTEMS = {"project": "djops.yaml", "mysql": "MySQL", "s3": "the object store"}


def _same(one: Allowed, other: Allowed) -> bool:
    """Tell whether two policies allow the same; what they are called does not matter."""
    return one[1:] == other[1:]


def _is_about(one: Allowed, ask: S3Ask) -> bool:
    """Tell whether a statement's line is one that answers a question, by what both begin with."""
    below = (ask.prefix or "").startswith(one.prefix.rstrip("*"))
    return one.action == ask.action and ask.resource.startswith(one.resource.rstrip("*")) and below


def _places(project: Project, schema: str) -> list[str]:
    return [prefix for store in project.stores.values() for prefix in schema_prefixes(store, schema)]


def _place(loaded: Loaded, entry: str) -> str | None:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        return None
    return str(loaded.positions.where(found[1], found[2], "grants", int(found[3])))


def _role(roles: RoleModel, name: str) -> str:
    """Say what a role gives, in one line."""
    role = roles.role(name)
    parts = []
    for where, capabilities in (
        ("on its schema", role.target),
        ("upstream", role.upstream),
        ("downstream", role.downstream),
        ("downstream with cascade", role.cascade),
    ):
        if capabilities:
            parts.append(f"{', '.join(question.in_order(capabilities))} {where}")
    return "; ".join(parts)
