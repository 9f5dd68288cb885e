"""Which roles come closest to what somebody may do on a server that djops does not manage yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from djops.compile.mysql_manager import SCHEMA_PRIVILEGES
from djops.compile.mysql_state import AccountId
from djops.compile.rights import Rights, compile_rights
from djops.model.editing import Section
from djops.model.graph import TableName
from djops.model.names import is_sandbox
from djops.model.project import ALL, Grant, Principal, SchemaEntry
from djops.model.roles import Capability, Role
from djops.proof.cells import (
    ADMIN_OPTION,
    OTHER,
    MysqlAsk,
    Power,
    Question,
    S3Ask,
    Tables,
    mysql_questions,
    s3_questions,
)
from djops.services import evidence
from djops.services.evidence import Evidence

LOST: Mapping[str, float] = {
    Capability.READ: 20, Capability.INSERT: 10, Capability.DELETE: 3, Capability.UPDATE: 3,
    Capability.JOBS: 2, Capability.DECLARE: 3, Capability.ALTER: 1, Capability.DROP: 1,
    Capability.REFERENCE: 1, Capability.GRANT: 1,
}  # fmt: skip
"""How bad it is that somebody loses a capability: work stops without the first two."""

GAINED: Mapping[str, float] = {
    Capability.READ: 10, Capability.INSERT: 8, Capability.DELETE: 12, Capability.UPDATE: 12,
    Capability.JOBS: 1, Capability.DECLARE: 15, Capability.ALTER: 10, Capability.DROP: 10,
    Capability.REFERENCE: 2, Capability.GRANT: 20,
}  # fmt: skip
"""How bad it is that somebody gains one: what destroys is worse than what is missed."""

_ANY = ("probe", "#probe", "_probe", "__probe", "~~probe")
"""Tables to ask about where a schema has none yet."""

Ask = MysqlAsk | S3Ask
Pair = tuple[str, str]
"""A role and the schema that it is given for."""


class Levels:
    """Chooses roles for accounts and says what would change.

    Args:
        found: What the servers hold.
    """

    def __init__(self, found: Evidence) -> None:
        self.found = found
        # What somebody has in sandboxes comes with roles on other schemas.
        self.schemas = tuple(name for name in found.graph.order if not is_sandbox(name))
        self._asked: dict[tuple[str, tuple[Power, ...]], Sequence[Question]] = {}

    def grants(self, account: AccountId, section: Section) -> tuple[Grant, ...]:
        """Choose the grants that come closest to what an account may do in the database.

        Args:
            account: The account.
            section: Whether it shall be a person or a service.

        Returns:
            Grants, one for each role; none for an account without rights on the pipeline.
        """
        if section == "people" and self._is_admin(account):
            return (Grant(role="admin", on=(ALL,)),)
        pairs = [
            (role, schema)
            for schema in self.schemas
            if (role := self._closest(account, schema, section)) is not None
        ]
        pairs = self._needed(pairs)
        roles = dict.fromkeys(role for role, _ in pairs)
        return tuple(Grant(role=role, on=tuple(s for r, s in pairs if r == role)) for role in roles)

    def _is_admin(self, account: AccountId) -> bool:
        """Tell whether an account holds everything on every schema, and may pass it on."""
        if "admin" not in self.found.wanted.roles.roles or not self.schemas:
            return False
        # GRANT ALL by hand on an older server may lack INDEX, which no role needs.
        needed = {*SCHEMA_PRIVILEGES, "GRANT OPTION"} - {"INDEX"}
        return all(needed <= self.found.mysql.privileges(account, schema) for schema in self.schemas)

    def _closest(self, account: AccountId, schema: str, section: Section) -> str | None:
        """Return the role on a schema that loses and gains least; ``None`` for no role at all."""
        held = self._held(account, schema)
        if not any(held.values()):
            return None
        best, least = None, self._cost(schema, held, ())
        for name, role in self._candidates(schema, section):
            powers = [Power(one, role.tiers, role.extras) for one in role.target]
            cost = self._cost(schema, held, powers)
            if cost < least:
                best, least = name, cost
        return best

    def _candidates(self, schema: str, section: Section) -> Iterable[tuple[str, Role]]:
        stage = self.found.wanted.project.schemas.get(schema, SchemaEntry()).stage
        for name, role in self.found.wanted.roles.roles.items():
            usable = section in role.holders and not role.project_wide and role.max_days is None
            if usable and stage in role.stages:
                yield name, role

    def _cost(self, schema: str, held: Mapping[Ask, bool], powers: Sequence[Power]) -> float:
        """Weigh what an account would lose and gain on a schema."""
        asked: dict[str, int] = {}
        lost: dict[str, int] = {}
        gained: dict[str, int] = {}
        for question in self._questions(schema, powers):
            name = question.capability
            asked[name] = asked.get(name, 0) + 1
            if held[question.ask] and not question.expected:
                lost[name] = lost.get(name, 0) + 1
            elif question.expected and not held[question.ask]:
                gained[name] = gained.get(name, 0) + 1
        losses = sum(LOST.get(name, 0) * count / asked[name] for name, count in lost.items())
        return losses + sum(GAINED.get(name, 0) * count / asked[name] for name, count in gained.items())

    def _held(self, account: AccountId, schema: str) -> dict[Ask, bool]:
        return {
            question.ask: self._allowed(account, question.ask) for question in self._questions(schema, ())
        }

    def _questions(self, schema: str, powers: Sequence[Power]) -> Sequence[Question]:
        key = (schema, tuple(powers))
        if key not in self._asked:  # the same for every account
            asked = mysql_questions(schema, self._tables[schema], powers)
            self._asked[key] = [
                one for one in asked if isinstance(one.ask, MysqlAsk) and one.ask.privilege != ADMIN_OPTION
            ]
        return self._asked[key]

    @cached_property
    def _tables(self) -> Mapping[str, Tables]:
        def made_up(schema: str) -> Tables:
            return Tables([TableName(schema, name) for name in _ANY])

        known = self.found.tables
        return {schema: known[schema] if known[schema].names else made_up(schema) for schema in self.schemas}

    def _allowed(self, account: AccountId, ask: Ask) -> bool:
        return isinstance(ask, MysqlAsk) and evidence.ask_database(self.found, account, ask).allowed

    def _needed(self, pairs: list[Pair]) -> list[Pair]:
        """Leave out what other grants bring along, the weakest first."""
        order = list(self.found.wanted.roles.roles)
        kept = list(pairs)
        for pair in sorted(pairs, key=lambda pair: order.index(pair[0])):
            without = [other for other in kept if other != pair]
            if self._cells(without) == self._cells(kept):
                kept = without
        return kept

    def _cells(self, pairs: Sequence[Pair]) -> frozenset[tuple[str, str]]:
        rights = self._rights("somebody", "services", [Grant(role=role, on=(on,)) for role, on in pairs])
        return frozenset((right.schema, str(right.capability)) for right in rights.rights)

    def _rights(self, name: str, section: Section, grants: Sequence[Grant]) -> Rights:
        nobody: dict[str, object] = {"people": {}, "services": {}, "teams": {}}
        alone = {**nobody, section: {name: Principal(grants=tuple(grants))}}
        wanted = self.found.wanted
        project = wanted.project.model_copy(update=alone)
        return compile_rights(project, self.found.graph, wanted.roles, wanted.today)

    def differences(
        self,
        account: AccountId | None,
        user: str | None,
        name: str,
        section: Section,
        grants: Sequence[Grant],
    ) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
        """Say what somebody would lose and gain with grants, by schema.

        Args:
            account: The database account; ``None`` for none.
            user: The IAM user; ``None`` for none.
            name: Name of the principal to be.
            section: Whether it shall be a person or a service.
            grants: What it would have.

        Returns:
            Losses and gains: capabilities, privileges without a capability, and actions on objects.
        """
        powers = evidence.powers_of(self._rights(name, section, grants), self.found.wanted.roles)
        lost: dict[str, tuple[str, ...]] = {}
        gained: dict[str, tuple[str, ...]] = {}
        for schema in self.schemas:
            may = powers.get((name, schema), ())
            # What lies beside a schema's objects is told with the policies that go.
            objects = [one for one in s3_questions(self.found.places[schema], may) if one.capability != OTHER]
            asked = [*self._questions(schema, may), *objects]
            answers = [(one, self._answer(account, user, one.ask)) for one in asked]
            _note(lost, schema, [(one, has and not one.expected) for one, has in answers])
            _note(gained, schema, [(one, one.expected and not has) for one, has in answers])
        return lost, gained

    def objects_reached(self, user: str) -> tuple[str, ...]:
        """Return the schemas of which an IAM user reaches objects.

        Args:
            user: The IAM user.
        """
        return tuple(
            schema
            for schema in self.schemas
            if any(
                question.capability != OTHER and self._answer(None, user, question.ask)
                for question in s3_questions(self.found.places[schema], ())
            )
        )

    def _answer(self, account: AccountId | None, user: str | None, ask: Ask) -> bool:
        if isinstance(ask, MysqlAsk):
            return account is not None and self._allowed(account, ask)
        return user is not None and evidence.ask_store(self.found, user, ask).allowed


def _note(into: dict[str, tuple[str, ...]], schema: str, marked: Sequence[tuple[Question, bool]]) -> None:
    """Put together questions with the same mark under the names of their capabilities."""
    hit = [question for question, yes in marked if yes]
    words = dict.fromkeys(word_of(question) for question in hit)
    if words:
        into[schema] = tuple(sorted(words))


def word_of(question: Question) -> str:
    """Say in a word or two what a question is about.

    Args:
        question: The question.
    """
    match question.ask:
        case MysqlAsk():
            return _database_word(question.capability, question.ask)
        case S3Ask(action=action):
            what = action.removeprefix("s3:")
            where = "inbox" if question.capability == Capability.INBOX else "objects"
            return f"{where}: {_STORE_WORDS.get(what, what)}"


_STORE_WORDS = {
    "GetObject": "get",
    "PutObject": "put",
    "DeleteObject": "delete",
    "ListBucket": "list",
    "AbortMultipartUpload": "abort uploads",
}


def _database_word(capability: str, ask: MysqlAsk) -> str:
    """Name a capability, or a privilege where that says more."""
    privilege = ask.privilege.lower()
    if capability in (OTHER, Capability.GRANT):
        return privilege
    if not ask.table and ask.privilege in ("INSERT", "UPDATE", "DELETE"):
        # Roles write table by table; a grant on the schema also holds for tables that nobody made yet.
        return f"{privilege} in tables to come"
    if capability in (Capability.JOBS, Capability.DECLARE) and ask.privilege != "CREATE":
        return f"{privilege} in hidden tables"
    return str(capability)
