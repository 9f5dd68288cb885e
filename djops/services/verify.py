"""Comparing the deciders: what the project file says, what the catalogs mean, what the servers do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from djops.errors import UsageError
from djops.model.names import is_sandbox, sandbox_stem
from djops.model.nearest import advice
from djops.proof.cells import (
    BUCKET_ARN,
    OTHER,
    WHOLE,
    Cell,
    MysqlAsk,
    Power,
    Question,
    S3Ask,
    System,
    bucket_questions,
    mysql_questions,
    s3_questions,
)
from djops.proof.decision import Decision
from djops.proof.theorems import THEOREMS, Violation, WeakPassword, violations
from djops.services import evidence, probing
from djops.services.access import Servers, Wanted
from djops.services.evidence import Evidence
from djops.services.journal import Cause, note
from djops.systems.progress import Progress, Silent

LOG_IN, REQUIRE_TLS, ANYTHING = "log in", "be asked for TLS", "anything"
"""In the place of a privilege: what an account as a whole should and should not."""

Decider = Literal["static", "live"]
STATIC: tuple[Decider, ...] = ("static",)
LIVE: tuple[Decider, ...] = ("live",)
BOTH = STATIC + LIVE


@dataclass(frozen=True)
class Disagreement:
    """A cell in which the deciders do not say the same.

    Attributes:
        cell: The cell.
        asks: What was asked, where the answers differ in the same way.
        model: What the project file says.
        reader: What the server's catalog says; ``None`` when it cannot be told, or was not asked.
        probe: What the server did; ``None`` when it was not tried.
        because: The grant rows, statements or entries behind it.
    """

    cell: Cell
    asks: tuple[str, ...]
    model: bool
    reader: bool | None
    probe: bool | None
    because: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unknown:
    """A theorem that could not be checked.

    Attributes:
        theorem: Its code.
        reason: Why.
    """

    theorem: str
    reason: str


@dataclass(frozen=True)
class Count:
    """How much was compared on one system.

    Attributes:
        cells: Cells: principal, schema, capability.
        questions: Questions that the catalog's reader answered.
        probes: Questions that the server itself answered.
    """

    cells: int = 0
    questions: int = 0
    probes: int = 0


@dataclass(frozen=True)
class Verdict:
    """The outcome.

    Attributes:
        principals: The principals compared.
        schemas: The schemas compared, parents before children.
        capabilities: What each principal may do by the model, by principal and schema.
        counts: How much was compared, by system.
        disagreements: Where the deciders differ.
        violations: What contradicts a theorem.
        theorems: Codes of the theorems that were checked, with their sentences.
        unknown: Theorems that could not be checked.
        notes: What else is worth knowing, such as rights that a twin could not be given.
        removed: Scratch schemas of killed runs that were removed first.
        administrators: Accounts that may do nearly everything and are no findings, with what they are.
    """

    principals: tuple[str, ...]
    schemas: tuple[str, ...]
    capabilities: Mapping[str, Mapping[str, tuple[str, ...]]]
    counts: Mapping[System, Count]
    disagreements: tuple[Disagreement, ...]
    violations: tuple[Violation, ...]
    theorems: Mapping[str, str]
    unknown: tuple[Unknown, ...]
    notes: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    administrators: Mapping[str, str] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether all deciders agree and all theorems hold."""
        return not self.disagreements and not self.violations


@dataclass(frozen=True)
class Choice:
    """What is to be compared.

    Attributes:
        principals: People and services; empty for all.
        schemas: Schemas; empty for all.
    """

    principals: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()

    @classmethod
    def of(cls, wanted: Wanted, names: Iterable[str], who: Iterable[str], on: Iterable[str]) -> Choice:
        """Tell people and services from schemas.

        Args:
            wanted: What the project file wants.
            names: Names of either.
            who: Names of people and services.
            on: Names of schemas.

        Raises:
            UsageError: ``E_AMBIGUOUS`` for a name of both, ``E_UNKNOWN`` for one of neither.
        """
        people, schemas = wanted.project.principals, wanted.graph.schemas
        persons: dict[str, None] = dict.fromkeys(who)
        where: dict[str, None] = dict.fromkeys(on)
        for name in names:
            if name in people and name in schemas:
                raise UsageError(
                    f"{name!r} is an account and a schema",
                    code="E_AMBIGUOUS",
                    hint=f"say `--who {name}` or `--on {name}`",
                )
            (persons if name in people else where)[name] = None
        return cls(tuple(persons), tuple(where)).checked(wanted)

    def checked(self, wanted: Wanted) -> Choice:
        """Return itself when all names mean something.

        Raises:
            UsageError: ``E_UNKNOWN`` with the nearest name.
        """
        people, schemas = list(wanted.project.principals), sorted(wanted.graph.schemas)
        for name in self.principals:
            if name not in people:
                hint = advice(name, people, what="people and services")
                raise UsageError(f"there is no person or service {name!r}", code="E_UNKNOWN", hint=hint)
        for name in self.schemas:
            if name not in schemas and not any(_within(name, one) for one in schemas):
                hint = advice(name, [*people, *schemas], what="people, services and schemas")
                raise UsageError(
                    f"there is no person, service or schema {name!r}", code="E_UNKNOWN", hint=hint
                )
        return self

    def within(self, found: Evidence) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the principals and the schemas meant, parents before children."""
        asked = {*self.schemas}
        chosen = [s for s in found.order if not asked or s in asked or found.inside.get(s) in asked]
        return self.principals or found.rights.principals, tuple(chosen)

    def concerns(self, violation: Violation) -> bool:
        """Tell whether a violation is about what was chosen."""
        person = not self.principals or violation.who in self.principals
        return person and (not self.schemas or bool({*self.schemas} & {*violation.schemas}))


def _within(schema: str, sandbox: str) -> bool:
    return is_sandbox(sandbox) and schema.startswith(sandbox_stem(sandbox))


@dataclass
class _Tally:
    """Compares answers and keeps what differs.

    Attributes:
        cells: How many cells were met so far, by system.
        questions: Answers of readers so far, by system.
        probes: Answers of servers so far, by system.
        differing: What is asked, by everything that is the same about it.
    """

    cells: Counter[System] = field(default_factory=Counter)
    questions: Counter[System] = field(default_factory=Counter)
    probes: Counter[System] = field(default_factory=Counter)
    differing: dict[tuple[Cell, bool, bool | None, bool | None], dict[str, tuple[str, ...]]] = field(
        default_factory=dict
    )

    def compare(
        self, cell: Cell, question: Question, reader: Decision | None, probe: probing.Outcome | None
    ) -> None:
        """Compare the deciders' answers to one question."""
        self.questions[cell.system] += reader is not None
        self.probes[cell.system] += probe is not None and probe.allowed is not None
        seen = None if probe is None else probe.allowed
        told = None if reader is None or not reader.certain else reader.allowed
        doubt = (reader is not None and not reader.certain) or (probe is not None and seen is None)
        if doubt or {told, seen} - {None, question.expected}:
            because = (*(reader.because if reader else ()), *(probe.said if probe else ()))
            key = (cell, question.expected, told, seen)
            self.differing.setdefault(key, {})[str(question.ask)] = because

    def disagreements(self) -> Iterator[Disagreement]:
        """Yield what differs, cell by cell."""
        for (cell, model, reader, probe), asks in sorted(self.differing.items(), key=lambda one: one[0][0]):
            because = dict.fromkeys(text for texts in asks.values() for text in texts)
            yield Disagreement(cell, tuple(asks), model, reader, probe, tuple(because))


def verify(
    servers: Servers,
    wanted: Wanted,
    choice: Choice | None = None,
    deciders: Collection[Decider] = BOTH,
    progress: Progress | None = None,
    lock_wait: float = 30,
) -> Verdict:
    """Compare what the project file says with what the servers' catalogs mean and with what they do.

    Args:
        servers: The servers.
        wanted: What the project file wants.
        choice: Whom and what to compare; everything when ``None``.
        deciders: ``static`` reads the catalogs, ``live`` tries it as throw-away twins.
        progress: Who wants to know.
        lock_wait: Seconds to wait for another djops.

    Returns:
        What was compared and what differs.

    Raises:
        DjopsError: A server does not answer, or something of a trial could not be removed.
    """
    told, choice = progress or Silent(), choice or Choice()
    with told.step("Reading the servers") as step:
        found = evidence.gather(servers, wanted)
        step.note(f"{len(found.mysql.catalog.accounts)} accounts")
    tried = probing.Tried()
    if "live" in deciders:
        names, schemas = choice.within(found)
        asked = {name: _questions(found, name, schemas) for name in names}
        tried = probing.try_all(servers, found, asked, told, lock_wait)
    with told.step("Comparing") as step:
        passwords = evidence.look_at_passwords(servers.site) if "static" in deciders else None
        verdict = compare(found, choice, deciders, tried, passwords)
        step.note(f"{sum(count.cells for count in verdict.counts.values())} cells")
    return verdict


def record(servers: Servers, verdict: Verdict, names: Sequence[str], deciders: Collection[Decider]) -> None:
    """Note in the journal that rights were tried on the servers, for the next audit; reading leaves no note.

    Args:
        servers: The servers.
        verdict: What it came to.
        names: Whom and what it was limited to.
        deciders: Who was asked.
    """
    if "live" not in deciders:
        return
    probes = sum(count.probes for count in verdict.counts.values())
    found = f"{len(verdict.disagreements)} disagreements, {len(verdict.violations)} violations"
    facts = {"tried": str(probes), "outcome": "all agree" if verdict.agrees else found}
    note(servers.journal, Cause("verify"), **facts, **({"only": " ".join(names)} if names else {}))


def compare(
    found: Evidence,
    choice: Choice,
    deciders: Collection[Decider] = STATIC,
    tried: probing.Tried | None = None,
    passwords: Sequence[WeakPassword] | None = None,
) -> Verdict:
    """Compare what was read and tried.

    Args:
        found: What the project file and the catalogs say.
        choice: Whom and what to compare.
        deciders: ``static`` asks the catalogs, and checks the theorems.
        tried: What the servers did, where it was tried.
        passwords: Accounts with passwords that others know; ``None`` where nobody looked.

    Returns:
        What was compared and what differs.
    """
    names, schemas = choice.within(found)
    tally, tried = _Tally(), tried or probing.Tried()
    lists = _Lists(found)
    for name in names:
        for schema in (*schemas, WHOLE):
            for system in lists.systems:
                _compare_one(tally, lists, (name, schema, system), "static" in deciders, tried)
    broken: tuple[Violation, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    if "static" in deciders:
        situation = found.situation(passwords)
        broken = tuple(one for one in violations(situation) if choice.concerns(one))
        reasons = ((theorem.code, theorem.unknown(situation)) for theorem in THEOREMS)
        unknown = tuple(Unknown(code, reason) for code, reason in reasons if reason)
    capabilities = {name: {schema: _held(found, name, schema) for schema in schemas} for name in names}
    return Verdict(
        principals=names,
        schemas=schemas,
        capabilities=capabilities,
        counts={
            one: Count(tally.cells[one], tally.questions[one], tally.probes[one]) for one in lists.systems
        },
        disagreements=tuple(_explained(found, one) for one in tally.disagreements()),
        violations=broken,
        theorems={one.code: one.text for one in THEOREMS} if "static" in deciders else {},
        unknown=unknown,
        notes=tuple(tried.notes),
        removed=tried.removed,
        administrators={str(one): what for one, what in sorted(found.administrators.items())},
    )


def _held(found: Evidence, name: str, schema: str) -> tuple[str, ...]:
    return tuple(sorted(found.rights.capabilities(name, found.inside.get(schema, schema))))


def _explained(found: Evidence, one: Disagreement) -> Disagreement:
    """Add what the project file says where the servers give less than it."""
    if not one.model:
        return one
    cell = one.cell
    held = found.rights.by_principal.get(cell.principal, ())
    schema = found.inside.get(cell.schema, cell.schema)
    fitting = [right for right in held if right.schema == schema and right.capability == cell.capability]
    lines = (f"{right.because} gives it" for right in fitting)
    return replace(one, because=tuple(dict.fromkeys((*one.because, *lines))))


class _List(NamedTuple):
    """Questions about one principal on a schema, or as a whole.

    Attributes:
        questions: The questions.
        personal: Those of them that name the principal, so that nobody else's answer counts.
        cells: How many cells they belong to.
    """

    questions: tuple[Question, ...]
    personal: tuple[Question, ...]
    cells: int

    @classmethod
    def of(cls, questions: Iterable[Question]) -> _List:
        """Tell the questions apart."""
        found = tuple(questions)
        personal = tuple(one for one in found if _is_personal(one.ask))
        return cls(found, personal, len({one.capability for one in found}))


def _is_personal(ask: MysqlAsk | S3Ask) -> bool:
    if isinstance(ask, MysqlAsk):
        return ask.schema == WHOLE
    return not ask.resource.startswith(BUCKET_ARN)


class _Lists:
    """The questions about each schema, made once for all to whom the project file gives the same there.

    Args:
        found: What the project file and the catalogs say.
    """

    def __init__(self, found: Evidence) -> None:
        self.found = found
        self.systems: tuple[System, ...] = ("mysql", "s3") if found.s3 is not None else ("mysql",)
        self._known: dict[tuple[System, str, tuple[Power, ...]], _List] = {}
        self.agreed: set[Hashable] = set()

    def of(self, principal: str, schema: str, system: System) -> _List:
        """Return all that is asked about a principal on a schema, or as a whole."""
        if schema == WHOLE:
            return _List.of(_on_the_whole(self.found, principal, system))
        key = system, schema, self.powers(principal, schema)
        if key not in self._known:
            self._known[key] = _List.of(self._made(*key))
        return self._known[key]

    def powers(self, principal: str, schema: str) -> tuple[Power, ...]:
        """Return what the project file gives somebody on a schema."""
        return tuple(self.found.powers.get((principal, schema), ()))

    def _made(self, system: System, schema: str, powers: tuple[Power, ...]) -> Iterator[Question]:
        if system == "mysql":
            return mysql_questions(schema, self.found.tables[schema], powers)
        return s3_questions(self.found.places[schema], powers)

    def alike(self, principal: str, schema: str, system: System) -> Hashable:
        """Return what is equal where both the project file and the catalog say the same, names aside."""
        wanted: Hashable = self.powers(principal, schema)
        if schema == WHOLE:
            wanted = tuple(one.expected for one in self.of(principal, WHOLE, system).questions)
        return system, schema, wanted, self.found.alike(system, principal, schema)


def _compare_one(
    tally: _Tally, lists: _Lists, where: tuple[str, str, System], reads: bool, tried: probing.Tried
) -> None:
    """Compare the deciders on all that is asked about one principal, schema and system."""
    name, schema, system = where
    whole = lists.of(*where)
    tally.cells[system] += whole.cells
    # What was tried was tried by each; and reasons, where they are wanted, name whom they are about.
    alike = lists.alike(*where) if reads and not tried.outcomes else None
    questions = whole.questions
    if alike in lists.agreed:
        questions = whole.personal
        tally.questions[system] += len(whole.questions) - len(questions)
    before = len(tally.differing)
    for question in questions:
        reader = _read(lists.found, name, question) if reads else None
        cell = Cell(name, schema, question.capability, system)
        tally.compare(cell, question, reader, tried.outcomes.get((name, question.ask)))
    if alike and len(tally.differing) == before:
        lists.agreed.add(alike)


def _questions(found: Evidence, principal: str, schemas: Iterable[str]) -> Iterator[tuple[Cell, Question]]:
    """Yield all that is asked about a principal, with the cell it belongs to."""
    lists = _Lists(found)
    for schema in (*schemas, WHOLE):
        for system in lists.systems:
            for question in lists.of(principal, schema, system).questions:
                yield Cell(principal, schema, question.capability, system), question


def _on_the_whole(found: Evidence, principal: str, system: System) -> Iterator[Question]:
    """Yield what is asked about a principal's account or user, and about the buckets as a whole."""
    if system == "mysql":
        for privilege, expected in ((LOG_IN, True), (REQUIRE_TLS, True), (ANYTHING, False)):
            yield Question(OTHER, MysqlAsk(privilege, WHOLE), expected)
    elif found.s3 is not None:
        user = found.s3.catalog.users.get(principal)
        everything = [power for schema in found.order for power in found.powers.get((principal, schema), ())]
        yield from bucket_questions(
            found.wanted.project.stores.values(), user.arn if user else "", everything
        )
        yield Question(OTHER, S3Ask(LOG_IN, principal), True)


def _read(found: Evidence, principal: str, question: Question) -> Decision:
    """Answer a question from the server's catalog, with reasons only where they matter."""
    ask, account = question.ask, found.accounts[principal]
    if isinstance(ask, S3Ask):
        return _read_store(found, principal, ask)
    catalog = found.mysql.catalog
    if account not in catalog.accounts:
        return Decision(False, (f"there is no account {account}",))
    if ask.privilege == LOG_IN:
        if catalog.logins[account].tls in ("X509", "SPECIFIED"):
            return Decision(False, (f"{account} is asked for a client certificate, and has none",))
        return found.mysql.may_log_in(account)
    if ask.privilege == REQUIRE_TLS:
        required = bool(catalog.logins[account].tls) or catalog.require_tls
        return Decision(required, () if required else (f"{account}: REQUIRE NONE",))
    if ask.privilege == ANYTHING:
        names = sorted(found.mysql.privileges(account, WHOLE))
        rows = (found.mysql.decide(account, name, WHOLE).because for name in names)
        return Decision(bool(names), tuple(text for texts in rows for text in texts))
    return evidence.ask_database(found, account, ask, unexpected=not question.expected)


def _read_store(found: Evidence, principal: str, ask: S3Ask) -> Decision:
    if found.s3 is None or principal not in found.s3.catalog.users:
        return Decision(False, (f"there is no IAM user {principal}",))
    return found.s3.usable(principal) if ask.action == LOG_IN else evidence.ask_store(found, principal, ask)
