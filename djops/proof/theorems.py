"""What must hold on servers whose database and object store say the same, each sentence with a name.

The theorems are about every principal on the servers, whoever made it: what an account may do is asked
of the readers, and each violation names the grant rows or policy statements behind it. Left out are only
the accounts of the servers themselves and djops' own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from djops.compile.mysql_state import AccountId, Held, Login, Scope
from djops.compile.sql import quote_account, quote_identifier, unescape_pattern
from djops.errors import UndecidedError
from djops.model.graph import TableName
from djops.model.names import LINEAGE_TABLE, is_sandbox, sandbox_stem
from djops.model.roles import Capability
from djops.proof.cells import BUCKET_ARN, Places, Power, S3Ask, object_arn
from djops.proof.decision import Decision
from djops.proof.iam_reader import ANONYMOUS, IamReader
from djops.proof.mysql_matching import opens
from djops.proof.mysql_reader import MysqlReader

ANYBODY = "anybody"
"""The name that violations have for somebody without a key."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts from which nothing crosses a network."""

_SERVER_SCHEMAS = ("mysql", "sys", "performance_schema")


@dataclass(frozen=True)
class Violation:
    """Something that must not be.

    Attributes:
        theorem: Code of the theorem.
        text: What is wrong.
        because: The grant rows, statements or settings that make it so.
        who: The principal concerned, where there is one.
        schemas: The schemas concerned.
    """

    theorem: str
    text: str
    because: tuple[str, ...] = ()
    who: str | None = None
    schemas: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeakPassword:
    """An account whose password others know.

    Attributes:
        account: The account.
        reason: How that shows.
    """

    account: AccountId
    reason: str


@dataclass(frozen=True)
class Situation:
    """Everything the theorems are about.

    Attributes:
        mysql: The database's reader.
        s3: The object store's reader; ``None`` for projects without stores.
        schemas: The pipeline's schemas, each with its tables that exist.
        places: Where each schema's objects lie.
        powers: What the project file gives, by principal and schema.
        accounts: The database accounts of the project's principals.
        keepers: Database accounts of the server itself and of djops, which the theorems leave out.
        iam_keepers: Names of IAM users that the theorems leave out.
        in_clear: URLs of servers that clients reach over a network without TLS, by the server's name.
        passwords: Accounts with passwords that others know; ``None`` where djops may not look.
    """

    mysql: MysqlReader
    s3: IamReader | None
    schemas: Mapping[str, Sequence[TableName]]
    places: Mapping[str, Places]
    powers: Mapping[tuple[str, str], Sequence[Power]]
    accounts: frozenset[AccountId]
    keepers: frozenset[AccountId] = frozenset()
    iam_keepers: frozenset[str] = frozenset()
    in_clear: Mapping[str, str] = field(default_factory=dict)
    passwords: Sequence[WeakPassword] | None = None

    @cached_property
    def logins(self) -> Mapping[AccountId, Login]:
        """Accounts that somebody could log in with, keepers left out."""
        everybody = self.mysql.catalog.logins
        return {one: everybody[one] for one in self.mysql.accounts() if one not in self.keepers}

    @cached_property
    def users(self) -> Mapping[str, tuple[AccountId, ...]]:
        """The accounts behind each user name of the database, keepers and nameless ones left out."""
        found: dict[str, tuple[AccountId, ...]] = {}
        for account in self.logins:
            if account.user:
                found[account.user] = (*found.get(account.user, ()), account)
        return found

    @cached_property
    def iam_users(self) -> tuple[str, ...]:
        """IAM users with a key that works, keepers left out."""
        if self.s3 is None:
            return ()
        others = (name for name in self.s3.users() if name not in self.iam_keepers)
        return tuple(name for name in others if self.s3.usable(name).allowed)

    @cached_property
    def _iam_users(self) -> frozenset[str]:
        return frozenset(self.iam_users)

    @cached_property
    def rows(self) -> Mapping[Held, frozenset[str]]:
        """The grant rows of everybody but the keepers."""
        found = self.mysql.catalog.privileges
        return {held: names for held, names in sorted(found.items()) if held.grantee not in self.keepers}

    @cached_property
    def data_tables(self) -> Mapping[str, Sequence[TableName]]:
        """The tables of each schema that hold scientists' rows."""
        return {
            schema: tuple(table for table in tables if table.tier.holds_data)
            for schema, tables in self.schemas.items()
        }

    @cached_property
    def collected(self) -> Mapping[str, frozenset[str]]:
        """The schemas that the project file lets a principal remove objects of."""
        found: dict[str, set[str]] = {}
        for (principal, schema), powers in self.powers.items():
            if any(power.capability is Capability.COLLECT for power in powers):
                found.setdefault(principal, set()).add(schema)
        return {principal: frozenset(schemas) for principal, schemas in found.items()}

    def alike(self, user: str, schema: str) -> Hashable:
        """Return what is equal for users who may do the same with the rows and objects of a schema.

        Args:
            user: A name, of the database's or of the object store's.
            schema: The schema.
        """
        in_database = tuple(self.mysql.alike(account, schema) for account in self.users.get(user, ()))
        return schema, in_database, self.alike_in_store(user)

    def alike_in_store(self, user: str) -> Hashable:
        """Return what is equal for users who may do the same in the object store."""
        return self.s3.alike(user) if self.s3 is not None and user in self._iam_users else None

    def store_says(self, user: str, ask: S3Ask) -> Decision:
        """Ask the object store's reader; what cannot be told counts as allowed, with what it hangs on."""
        if self.s3 is None or (user != ANONYMOUS and user not in self._iam_users):
            return Decision(False)
        try:
            return self.s3.decide(user, ask.action, ask.resource, ask.context)
        except UndecidedError as error:
            return undecided(error)


@dataclass(frozen=True)
class Theorem:
    """A sentence that must hold.

    Attributes:
        code: Its stable name.
        text: The sentence.
        check: Yields what contradicts it.
        unknown: Says why it cannot be checked, or nothing when it can.
    """

    code: str
    text: str
    check: Callable[[Situation], Iterable[Violation]]
    unknown: Callable[[Situation], str] = lambda situation: ""


def undecided(error: UndecidedError) -> Decision:
    """Turn what cannot be told into a decision: perhaps, and what it hangs on.

    Args:
        error: What the reader says.
    """
    before, hangs, reason = error.message.partition("it hangs on ")
    return Decision(True, (f"it hangs on {reason}" if hangs else before,), certain=False)


def row_text(held: Held, names: Iterable[str]) -> str:
    """Write a grant row as the statement that makes it.

    Args:
        held: Who holds it, on what.
        names: The privileges.
    """
    scope = held.scope
    column = f" ({quote_identifier(scope.column)})" if scope.column else ""
    listed = ", ".join(f"{name}{column}" for name in sorted(names) if name != "GRANT OPTION") or "USAGE"
    option = " WITH GRANT OPTION" if "GRANT OPTION" in names else ""
    return f"GRANT {listed} ON {_target(scope)} TO {quote_account(*held.grantee)}{option}"


def _target(scope: Scope) -> str:
    if scope.pattern == "*" and not scope.table:
        return "*.*"
    return f"{quote_identifier(scope.pattern)}.{quote_identifier(scope.table) if scope.table else '*'}"


def _told(rows: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Put texts together, each once."""
    return tuple(dict.fromkeys(text for texts in rows for text in texts))


# Both servers say the same


@dataclass(frozen=True)
class _Sides:
    """What a principal may do with rows and with objects of one schema.

    Attributes:
        rows: An answer for each table.
        objects: An answer for each place.
    """

    rows: Sequence[Decision]
    objects: Sequence[Decision]

    @property
    def rows_without_objects(self) -> bool:
        """Whether all rows can be reached and some objects cannot."""
        return all(one.allowed for one in self.rows) and not all(one.allowed for one in self.objects)

    @property
    def objects_without_rows(self) -> bool:
        """Whether some objects can be reached and no row."""
        return any(one.allowed for one in self.objects) and not any(one.allowed for one in self.rows)

    @property
    def because(self) -> tuple[str, ...]:
        """What allows the one or the other."""
        return _told(one.because for one in (*self.rows, *self.objects) if one.allowed)


def _sides(situation: Situation, user: str, schema: str, privilege: str, action: str) -> _Sides:
    tables = [table.table for table in situation.data_tables[schema]]
    accounts = situation.users.get(user, ())
    rows = [_any_of(situation.mysql, accounts, privilege, schema, table) for table in tables or [""]]
    sections = situation.places[schema].sections
    objects = [situation.store_says(user, S3Ask(action, object_arn(one, "probe"))) for one in sections]
    return _Sides(rows, objects)


def _has_rows_for(situation: Situation, user: str, schema: str) -> bool:
    """Tell whether there are tables to insert into, of the tiers that the project file lets a user fill."""
    inserting = [
        power for power in situation.powers.get((user, schema), ()) if power.capability is Capability.INSERT
    ]
    tables = situation.data_tables[schema]
    return any(not inserting or any(table.family in p.tiers for p in inserting) for table in tables)


def _sides_apart(
    situation: Situation, privilege: str, action: str
) -> Iterator[tuple[str, dict[str, _Sides]]]:
    """Yield each user with the schemas of which rows can be reached and objects cannot, or the reverse.

    What was found in order for one is not looked at again for others who may do the same.
    """
    in_order: set[Hashable] = set()
    for user in sorted({*situation.users, *situation.iam_users}):
        apart: dict[str, _Sides] = {}
        for schema in situation.schemas:
            alike = situation.alike(user, schema), tuple(situation.powers.get((user, schema), ()))
            if alike in in_order:
                continue
            if privilege == "SELECT" or _has_rows_for(situation, user, schema):
                sides = _sides(situation, user, schema, privilege, action)
                if sides.rows_without_objects or sides.objects_without_rows:
                    apart[schema] = sides
                    continue
            in_order.add(alike)
        yield user, apart


def _any_of(
    reader: MysqlReader, accounts: Iterable[AccountId], privilege: str, schema: str, table: str
) -> Decision:
    found = [
        reader.decide(one, privilege, schema, table)
        for one in accounts
        if privilege in reader.privileges(one, schema, table)
    ]
    return Decision(bool(found), _told(one.because for one in found))


def _both(
    code: str, privilege: str, action: str, verb: str, word: str
) -> Callable[[Situation], Iterator[Violation]]:
    def check(situation: Situation) -> Iterator[Violation]:
        if situation.s3 is None:
            return
        for user, sides in _sides_apart(situation, privilege, action):
            lacking = {s: one.because for s, one in sides.items() if one.rows_without_objects}
            beyond = {s: one.because for s, one in sides.items() if one.objects_without_rows}
            for found, can, cannot in ((lacking, f"{verb} rows", word), (beyond, word, f"{verb} rows")):
                if found:
                    text = f"{user} can {can} of {', '.join(found)}, but cannot {cannot} there"
                    yield Violation(code, text, _told(found.values()), user, tuple(found))

    return check


def _no_stores(situation: Situation) -> str:
    return "the project has no stores" if situation.s3 is None else ""


# The object store


def _removes(situation: Situation) -> Iterator[Violation]:
    in_order: set[Hashable] = set()
    for user in (*situation.iam_users, ANONYMOUS):
        collects = situation.collected.get(user, frozenset())
        alike = situation.alike_in_store(user), collects
        found = {} if alike in in_order else _removable(situation, user, collects)
        if not found:
            in_order.add(alike)
        else:
            who = ANYBODY if user == ANONYMOUS else user
            text = f"{who} {_can(found)} remove objects of {', '.join(found)}"
            yield Violation("T_REMOVE", text, _behind(found), who, tuple(found))


def _removable(situation: Situation, user: str, collects: frozenset[str]) -> Mapping[str, Sequence[Decision]]:
    """Return by schema what lets a user remove objects, where nothing should."""
    found: dict[str, Sequence[Decision]] = {}
    for schema, places in situation.places.items():
        asks = [
            S3Ask(action, object_arn(place, "probe"))
            for place in (*places.sections, *places.inboxes)
            for action in ("s3:DeleteObject", "s3:DeleteObjectVersion")
            if not (schema in collects and place in places.sections and action == "s3:DeleteObject")
        ]
        allowed = [one for one in (situation.store_says(user, ask) for ask in asks) if one.allowed]
        if allowed:
            found[schema] = allowed
    return found


def _public(situation: Situation) -> Iterator[Violation]:
    for word, action in (("get", "s3:GetObject"), ("put", "s3:PutObject"), ("list", "s3:ListBucket")):
        found: dict[str, list[Decision]] = {}
        for schema, places in situation.places.items():
            for place in (*places.sections, *places.inboxes):
                ask = S3Ask(action, object_arn(place, "probe"))
                if action == "s3:ListBucket":
                    ask = S3Ask(action, f"{BUCKET_ARN}{place.bucket}", place.prefix)
                decision = situation.store_says(ANONYMOUS, ask)
                if decision.allowed:
                    found.setdefault(schema, []).append(decision)
        if found:
            text = f"{ANYBODY} {_can(found)} {word} objects of {', '.join(found)} without a key"
            yield Violation("T_PUBLIC", text, _behind(found), ANYBODY, tuple(found))


def _can(found: Mapping[str, Sequence[Decision]]) -> str:
    certain = any(decision.certain for all_of in found.values() for decision in all_of)
    return "can" if certain else "can perhaps"


def _behind(found: Mapping[str, Sequence[Decision]]) -> tuple[str, ...]:
    return _told(decision.because for all_of in found.values() for decision in all_of)


# The database


def _outside(situation: Situation) -> Iterator[Violation]:
    for account in situation.logins:
        managed = account in situation.accounts
        reached = dict(situation.mysql.schemas_reached(account))
        for schema in situation.schemas:
            reached[schema] = reached.get(schema) or situation.mysql.privileges(account, schema)
        found = {
            schema: _told(_reasons(situation.mysql, account, schema, names))
            for schema, names in sorted(reached.items())
            if names and (managed or schema in situation.schemas)
            if not (managed and situation.powers.get((account.user, schema)))
        }
        if found:
            reason = "djops.yaml gives nothing there" if managed else "it does not stand in djops.yaml"
            text = f"{_name(account)} has rights on {', '.join(found)}, and {reason}"
            yield Violation("T_CLOSURE", text, _told(found.values()), account.user, tuple(found))


def _reasons(
    reader: MysqlReader, account: AccountId, schema: str, names: Iterable[str]
) -> Iterator[tuple[str, ...]]:
    """Yield the rows behind privileges that an account has somewhere in a schema."""
    for name in sorted(names):
        decision = reader.decide(account, name, schema)
        if decision.allowed:
            yield decision.because
    session = reader.session(account)
    for grantee, place, table in reader.rows.tables:
        if place == schema and grantee in session.paths:
            for row in session.on_table(schema, table):
                for name in sorted(row.names):
                    yield reader.decide(account, name, schema, table, row.column).because


def _name(account: AccountId) -> str:
    return quote_account(*account)


def _wildcards(situation: Situation) -> Iterator[Violation]:
    catalog = situation.mysql.catalog
    if catalog.partial_revokes:
        return
    known = catalog.schemas | set(situation.schemas)
    for held, names in situation.rows.items():
        pattern = held.scope.pattern
        if held.scope.table or pattern == "*" or unescape_pattern(pattern) is not None:
            continue
        opened = sorted(schema for schema in known if opens(pattern, schema))
        if _is_ones_own(situation, pattern):
            continue
        # A pattern with nothing but % may be meant, as for a person's own schemas; it must not reach ours.
        if _has_live_underscore(pattern) or {*situation.schemas, *_SERVER_SCHEMAS} & set(opened):
            shown = f"opens {', '.join(opened)}" if len(opened) > 1 else "opens every schema that fits it"
            text = f"the wildcard in {quote_identifier(pattern)} {shown}"
            yield Violation("T_WILDCARD", text, (row_text(held, names),), held.grantee.user, tuple(opened))


def _is_ones_own(situation: Situation, pattern: str) -> bool:
    """Tell whether all that a pattern can match lies in one sandbox; who may be there is asked elsewhere."""
    found = re.match(r"(?:\\.|[^\\%_])*", pattern, re.DOTALL)
    begins = unescape_pattern(found.group()) if found else None
    stems = [sandbox_stem(schema) for schema in situation.schemas if is_sandbox(schema)]
    return begins is not None and any(begins.startswith(stem) for stem in stems)


def _has_live_underscore(pattern: str) -> bool:
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            next(characters, "")
        elif character == "_":
            return True
    return False


def _leftover(situation: Situation) -> Iterator[Violation]:
    catalog = situation.mysql.catalog
    ours = set(situation.schemas)
    for held, names in situation.rows.items():
        scope = held.scope
        if scope.pattern == "*":
            continue
        schema = scope.pattern if scope.table else _meant(scope.pattern, literal=catalog.partial_revokes)
        if schema is None:
            continue
        gone = schema not in catalog.schemas and schema not in ours
        # Nothing is known of tables that djops does not see, and ~lineage may be granted before it is made.
        sees = schema in ours and schema in catalog.schemas and scope.table not in ("", LINEAGE_TABLE)
        if gone:
            yield _left(held, names, f"there is no schema {schema}", schema)
        elif sees and (schema, scope.table) not in catalog.tables:
            yield _left(held, names, f"there is no table {schema}.{scope.table}", schema)


def _meant(pattern: str, *, literal: bool) -> str | None:
    return unescape_pattern(pattern, escape=not literal)


def _left(held: Held, names: Iterable[str], text: str, schema: str) -> Violation:
    what = f"{text}; whoever makes one opens it to {_name(held.grantee)}"
    return Violation("T_LEFTOVER", what, (row_text(held, names),), held.grantee.user, (schema,))


def _tls(situation: Situation) -> Iterator[Violation]:
    for account, login in situation.logins.items():
        if login.tls or situation.mysql.catalog.require_tls or account.host in LOOPBACK:
            continue
        text = f"{_name(account)} may log in without TLS"
        yield Violation("T_TLS", text, (f"ALTER USER {_name(account)} REQUIRE NONE",), account.user)
    for name, url in situation.in_clear.items():
        yield Violation("T_TLS", f"clients reach {name} without TLS", (url,))


def _everything(situation: Situation) -> Iterator[Violation]:
    for held, names in situation.rows.items():
        if held.scope == Scope("*"):
            text = f"{_name(held.grantee)} holds {', '.join(sorted(names))} on the whole server"
            yield Violation("T_EVERYTHING", text, (row_text(held, names),), held.grantee.user)


def _anonymous(situation: Situation) -> Iterator[Violation]:
    for account in situation.logins:
        if not account.user:
            text = f"anybody may log in from {account.host} under any name"
            yield Violation("T_ANONYMOUS", text, (f"CREATE USER {_name(account)}",), account.user)


def _passwords(situation: Situation) -> Iterator[Violation]:
    for weak in situation.passwords or ():
        text = f"{_name(weak.account)}: {weak.reason}"
        yield Violation("T_PASSWORD", text, (f"CREATE USER {_name(weak.account)}",), weak.account.user)


def _no_look(situation: Situation) -> str:
    return "djops' account may not look at password hashes here" if situation.passwords is None else ""


THEOREMS = (
    Theorem(
        "T_READ_GET",
        "who reads rows gets their objects, and nobody else does",
        _both("T_READ_GET", "SELECT", "s3:GetObject", "read", "get objects"),
        _no_stores,
    ),
    Theorem(
        "T_INSERT_PUT",
        "who inserts rows puts their objects, and nobody else does",
        _both("T_INSERT_PUT", "INSERT", "s3:PutObject", "insert", "put objects"),
        _no_stores,
    ),
    Theorem("T_REMOVE", "nobody but who holds `collect` removes objects", _removes, _no_stores),
    Theorem("T_PUBLIC", "nobody reaches objects without a key", _public, _no_stores),
    Theorem("T_CLOSURE", "nobody has a right on a schema that djops.yaml does not give", _outside),
    Theorem("T_WILDCARD", "no wildcard in a grant opens a second schema", _wildcards),
    Theorem("T_LEFTOVER", "no grant is left on a schema or table that is gone", _leftover),
    Theorem("T_TLS", "TLS is required everywhere", _tls),
    Theorem("T_EVERYTHING", "nobody holds anything on *.*", _everything),
    Theorem("T_ANONYMOUS", "there is no anonymous account", _anonymous),
    Theorem("T_PASSWORD", "no password is a shared default", _passwords, _no_look),
)
"""All theorems, in the order in which they are told."""


def violations(situation: Situation) -> tuple[Violation, ...]:
    """Return everything on the servers that contradicts a theorem.

    Args:
        situation: What is there, and what is wanted.
    """
    return tuple(found for theorem in THEOREMS for found in theorem.check(situation))
