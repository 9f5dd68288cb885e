"""What each capability means on each server, said without a look at how djops grants it.

A cell is a principal's capability on a schema of one system. What it means there are questions that the
server itself answers with yes or no: may this account INSERT into that table, may that user put this
object. Every question belongs to one cell, also those that no capability opens: "no" is an answer that
is compared as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from djops.model.graph import TableName
from djops.model.names import SANDBOX_END, Tier, is_sandbox
from djops.model.project import Store
from djops.model.roles import DATA_TIERS, Capability

System = Literal["mysql", "s3"]

OTHER = "other"
"""In the place of a capability: what no capability opens."""

WHOLE = ""
"""In the place of a schema: the server or the bucket as a whole."""

ADMIN_OPTION = "WITH ADMIN OPTION"
"""In the place of a privilege: to pass on a role that reads the schema."""

TABLE_PRIVILEGES: Mapping[str, Capability | None] = {
    "SELECT": Capability.READ,
    "INSERT": Capability.INSERT,
    "UPDATE": Capability.UPDATE,
    "DELETE": Capability.DELETE,
    "CREATE": Capability.DECLARE,
    "REFERENCES": Capability.REFERENCE,
    "ALTER": Capability.ALTER,
    "INDEX": Capability.ALTER,
    "DROP": Capability.DROP,
    "GRANT OPTION": Capability.GRANT,
    "CREATE VIEW": None,
    "SHOW VIEW": None,
    "TRIGGER": None,
}
"""What MySQL can grant on a table, and the capability that asks for it on data tables."""

SCHEMA_PRIVILEGES: Mapping[str, Capability | None] = {
    **TABLE_PRIVILEGES,
    "CREATE TEMPORARY TABLES": None,
    "LOCK TABLES": None,
    "CREATE ROUTINE": None,
    "ALTER ROUTINE": None,
    "EXECUTE": None,
    "EVENT": None,
}
"""What MySQL can grant on a schema (MySQL manual, Privileges Provided by MySQL)."""

COLUMN_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "REFERENCES")
"""What MySQL can grant on a column."""

_ROWS = ("INSERT", "UPDATE", "DELETE")
_READERS = frozenset({Capability.READ, Capability.INSERT, Capability.COLLECT})


class Cell(NamedTuple):
    """A principal's capability on a schema of one system.

    Attributes:
        principal: Account name.
        schema: Schema name, or :data:`WHOLE`.
        capability: A capability, or :data:`OTHER`.
        system: Where.
    """

    principal: str
    schema: str
    capability: str
    system: System


class Power(NamedTuple):
    """A capability that a principal has on a schema, as the project file gives it.

    Attributes:
        capability: What may be done.
        tiers: The tiers of tables whose rows may be written.
        extras: More of the client that is to work, such as ``skip_duplicates``.
        whole: Whether it is about rows of tables to come as well, as in somebody's sandbox.
    """

    capability: Capability
    tiers: Collection[str] = DATA_TIERS
    extras: Collection[str] = ()
    whole: bool = False


class MysqlAsk(NamedTuple):
    """A question for the database.

    Attributes:
        privilege: As GRANT names it, or :data:`ADMIN_OPTION`.
        schema: The schema.
        table: The table; empty for the schema with tables to come.
        column: The column; empty for the whole table.
    """

    privilege: str
    schema: str
    table: str = ""
    column: str = ""

    def __str__(self) -> str:
        column = f" ({self.column})" if self.column else ""
        return f"{self.privilege}{column} on {self.schema}.{self.table or '*'}"


class S3Ask(NamedTuple):
    """A question for the object store.

    Attributes:
        action: As AWS documents it.
        resource: ARN of the bucket, object or user.
        prefix: For listings, what the keys begin with; ``None`` when the request does not say.
    """

    action: str
    resource: str
    prefix: str | None = None

    @property
    def context(self) -> Mapping[str, str]:
        """The condition keys that the request carries."""
        return {} if self.prefix is None else {"s3:prefix": self.prefix}

    def __str__(self) -> str:
        of = self.resource.removeprefix(BUCKET_ARN)
        return f"{self.action} on {of}" + ("" if self.prefix is None else f" below {self.prefix!r}")


class Question(NamedTuple):
    """A question with the answer that the model gives.

    Attributes:
        capability: The cell's capability, or :data:`OTHER`.
        ask: What is asked.
        expected: The model's answer.
    """

    capability: str
    ask: MysqlAsk | S3Ask
    expected: bool


@dataclass(frozen=True)
class Tables:
    """What one schema holds, as far as rights can tell it apart.

    Attributes:
        names: Its tables.
        job_columns: Hidden columns that the client updates after an insert, by table.
        first_keys: The first column of each table's primary key.
        singled_out: Columns to ask about besides, by table: those on which anybody holds a grant.
    """

    names: Sequence[TableName] = ()
    job_columns: Mapping[TableName, Sequence[str]] = field(default_factory=dict)
    first_keys: Mapping[TableName, str] = field(default_factory=dict)
    singled_out: Mapping[TableName, Collection[str]] = field(default_factory=dict)


def mysql_questions(schema: str, tables: Tables, powers: Sequence[Power]) -> Iterator[Question]:
    """Yield all that is asked about one schema of the database.

    Args:
        schema: The schema.
        tables: What it holds.
        powers: What the principal may do on it.

    Yields:
        Questions about the schema, its tables and the columns that matter.
    """
    for privilege, capability in SCHEMA_PRIVILEGES.items():
        ask = MysqlAsk(privilege, schema)
        yield Question(capability or OTHER, ask, _on_schema(privilege, powers))
    # Nobody passes on more than he has.
    expected = {Capability.GRANT, Capability.READ} <= {power.capability for power in powers}
    yield Question(Capability.GRANT, MysqlAsk(ADMIN_OPTION, schema), expected)
    for table in tables.names:
        for privilege in TABLE_PRIVILEGES:
            ask = MysqlAsk(privilege, schema, table.table)
            yield Question(_cell(privilege, table), ask, _on_table(privilege, table, powers))
        for column in _columns(table, tables):
            for privilege in COLUMN_PRIVILEGES:
                ask = MysqlAsk(privilege, schema, table.table, column)
                expected = _on_column(privilege, table, column, tables, powers)
                yield Question(_cell(privilege, table), ask, expected)


def _on_schema(privilege: str, powers: Iterable[Power]) -> bool:
    """Tell what is meant for the schema with all tables to come: rows are written table by table."""
    match privilege:
        case "SELECT":
            wanted = {Capability.READ}
        case "CREATE":
            wanted = {Capability.DECLARE}
        case "REFERENCES":
            wanted = {Capability.REFERENCE, Capability.DECLARE}
        case "ALTER" | "INDEX":
            wanted = {Capability.ALTER}
        case "DROP":
            wanted = {Capability.DROP}
        case "INSERT" | "UPDATE" | "DELETE":
            return any(power.whole and power.capability in _WRITING[privilege] for power in powers)
        case _:
            return False
    return any(power.capability in wanted for power in powers)


# Job tables and ~lineage are written as well, and in a sandbox they are not told from data.
_BESIDE = {Capability.JOBS, Capability.DECLARE}
_WRITING = {
    "INSERT": {Capability.INSERT, *_BESIDE},
    "UPDATE": {Capability.UPDATE, *_BESIDE},
    "DELETE": {Capability.DELETE, Capability.DROP, *_BESIDE},
}


def _on_table(privilege: str, table: TableName, powers: Sequence[Power]) -> bool:
    if privilege not in _ROWS or _on_schema(privilege, powers):
        return _on_schema(privilege, powers)
    if table.tier is Tier.JOB:
        return any(power.capability is Capability.JOBS for power in powers)
    if table.tier is Tier.LINEAGE:
        # Whoever declares tells the client's joins what belongs together; whoever drops takes it back.
        wanted = {Capability.DECLARE, Capability.DROP} if privilege == "DELETE" else {Capability.DECLARE}
        return any(power.capability in wanted for power in powers)
    asked = TABLE_PRIVILEGES[privilege]
    return any(power.capability is asked and table.family in power.tiers for power in powers)


def _on_column(
    privilege: str, table: TableName, column: str, tables: Tables, powers: Sequence[Power]
) -> bool:
    if _on_table(privilege, table, powers):
        return True
    inserting = [p for p in powers if p.capability is Capability.INSERT and table.family in p.tiers]
    if privilege != "UPDATE" or not inserting:
        return False
    # populate() notes in these who computed a row; ON DUPLICATE KEY UPDATE sets the key to itself.
    return column in tables.job_columns.get(table, ()) or (
        column == tables.first_keys.get(table) and any("skip_duplicates" in p.extras for p in inserting)
    )


def _cell(privilege: str, table: TableName) -> str:
    """Name the capability whose cell a question about a table belongs to."""
    if privilege in _ROWS and table.tier is Tier.JOB:
        return Capability.JOBS
    if privilege in _ROWS and table.tier is Tier.LINEAGE:
        return Capability.DECLARE
    return TABLE_PRIVILEGES[privilege] or OTHER


def _columns(table: TableName, tables: Tables) -> list[str]:
    asked = {*tables.job_columns.get(table, ()), *tables.singled_out.get(table, ())}
    return sorted(asked | ({tables.first_keys[table]} if table in tables.first_keys else set()))


def mysql_meaning(schema: str, tables: Tables, capability: Capability) -> Sequence[MysqlAsk]:
    """Return what must be allowed for a capability to be there in full.

    Args:
        schema: The schema.
        tables: What it holds.
        capability: The capability; the answer is empty for one that is none of the database's.
    """
    # Whoever may pass roles on must have them.
    whole = is_sandbox(schema)
    powers = [Power(capability, whole=whole)]
    powers += [Power(Capability.READ)] if capability is Capability.GRANT else []
    questions = mysql_questions(schema, tables, powers)
    asks = [one.ask for one in questions if one.expected and one.capability == capability]
    return [ask for ask in asks if isinstance(ask, MysqlAsk) and not _comes_with_insert(ask, tables)]


def _comes_with_insert(ask: MysqlAsk, tables: Tables) -> bool:
    """Tell whether a question is about a column that inserting may need, and so tells nothing of updating."""
    table = TableName(ask.schema, ask.table)
    return bool(ask.column) and (
        ask.column in tables.job_columns.get(table, ()) or ask.column == tables.first_keys.get(table)
    )


# The object store

BUCKET_ARN = "arn:aws:s3:::"


class Place(NamedTuple):
    """A key prefix in a bucket, with its closing slash."""

    bucket: str
    prefix: str


@dataclass(frozen=True)
class Places:
    """Where one schema's objects lie.

    Attributes:
        sections: What the client keeps there: contents by hash, and files by table and key.
        inboxes: Where raw files are delivered.
    """

    sections: tuple[Place, ...] = ()
    inboxes: tuple[Place, ...] = ()


def places_of(stores: Iterable[Store], schema: str) -> Places:
    """Tell where a schema's objects lie, as DataJoint 2.3.5 was seen to place them.

    Args:
        stores: The project's stores.
        schema: The schema.

    Returns:
        For a sandbox, places of a schema called just that: one that lies within.
        ``{location}/_hash/{schema}/`` and ``{location}/_schema/{schema}/`` of each store, and the inbox.
    """
    sections, inboxes = [], []
    for store in stores:
        base = f"{store.location}/" if store.location else ""
        sections += [Place(store.bucket, f"{base}{part}/{schema}/") for part in _sections(store)]
        inboxes.append(Place(store.bucket, f"{base}inbox/{schema}/"))
    return Places(tuple(sections), tuple(inboxes))


def _sections(store: Store) -> tuple[str, str]:
    return store.hash_prefix, store.schema_prefix


def object_arn(place: Place, name: str) -> str:
    """Return the ARN of an object below a place."""
    return f"{BUCKET_ARN}{place.bucket}/{place.prefix}{name}"


def s3_questions(places: Places, powers: Sequence[Power]) -> Iterator[Question]:
    """Yield all that is asked about one schema's objects.

    Args:
        places: Where they lie.
        powers: What the principal may do on the schema.

    Yields:
        Questions about objects and listings. Whoever may put may get, because the client asks before it
        puts; nobody but garbage collection removes, and nobody at all reaches into old versions.
    """
    may = frozenset(power.capability for power in powers)
    for place in places.sections:
        yield from _about_objects(place, bool(may & _READERS), Capability.READ, (
            ("s3:GetObject", Capability.READ, bool(may & _READERS)),
            ("s3:PutObject", Capability.INSERT, Capability.INSERT in may),
            ("s3:AbortMultipartUpload", Capability.INSERT, Capability.INSERT in may),
            ("s3:DeleteObject", Capability.COLLECT, Capability.COLLECT in may),
        ))  # fmt: skip
    inbox = Capability.INBOX in may
    for place in places.inboxes:
        yield from _about_objects(place, inbox, Capability.INBOX, (
            ("s3:GetObject", Capability.INBOX, inbox),
            ("s3:PutObject", Capability.INBOX, inbox),
            ("s3:AbortMultipartUpload", Capability.INBOX, inbox),
            ("s3:DeleteObject", OTHER, False),
        ))  # fmt: skip


_NEVER = (
    "s3:DeleteObjectVersion",
    "s3:GetObjectVersion",
    "s3:PutObjectAcl",
    "s3:PutObjectTagging",
    "s3:BypassGovernanceRetention",
)


def _about_objects(
    place: Place, lists: bool, listing: str, actions: Iterable[tuple[str, str, bool]]
) -> Iterator[Question]:
    bucket = f"{BUCKET_ARN}{place.bucket}"
    for action, capability, expected in actions:
        for name in ("probe", "table/key=1/probe.bin"):
            yield Question(capability, S3Ask(action, object_arn(place, name)), expected)
        # What only begins like it is another schema's, or another person's.
        twin = f"{bucket}/{_before(place)}-djops-probe/probe"
        yield Question(OTHER, S3Ask(action, twin), False)
    for action in _NEVER:
        yield Question(OTHER, S3Ask(action, object_arn(place, "probe")), False)
    for prefix in (place.prefix, f"{place.prefix}table/"):
        yield Question(listing, S3Ask("s3:ListBucket", bucket, prefix), lists)
    for prefix in (_before(place), _before(place)[:-1]):
        yield Question(OTHER, S3Ask("s3:ListBucket", bucket, prefix), False)
    yield Question(OTHER, S3Ask("s3:ListBucketVersions", bucket, place.prefix), False)


def _before(place: Place) -> str:
    """Return what the keys of a place begin with, short of what ends the schema's or sandbox's name."""
    prefix = place.prefix.rstrip("/")
    return prefix.removesuffix(SANDBOX_END)


def s3_meaning(places: Places, capability: Capability) -> Sequence[S3Ask]:
    """Return what must be allowed for a capability to be there in full.

    Args:
        places: Where a schema's objects lie.
        capability: The capability; the answer is empty for one that is none of the object store's.
    """
    questions = s3_questions(places, [Power(capability)])
    own = [one for one in questions if one.expected and one.capability == capability]
    return [one.ask for one in own if isinstance(one.ask, S3Ask)]


_BUCKET_NEVER = (
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:PutBucketAcl",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketVersioning",
    "s3:PutLifecycleConfiguration",
)


def bucket_questions(stores: Iterable[Store], user: str, powers: Iterable[Power]) -> Iterator[Question]:
    """Yield all that is asked about the buckets as a whole, and about the user itself.

    Args:
        stores: The project's stores.
        user: ARN of the IAM user.
        powers: What the principal may do, on whatever schema.

    Yields:
        Questions; the bucket's location is asked by every client before it works with objects.
    """
    works = any(power.capability in _READERS | {Capability.INBOX} for power in powers)
    for store in stores:
        bucket = f"{BUCKET_ARN}{store.bucket}"
        yield Question(OTHER, S3Ask("s3:GetBucketLocation", bucket), works)
        base = f"{store.location}/" if store.location else ""
        prefixes = (None, "", base, *(f"{base}{part}/" for part in _sections(store)))
        for prefix in dict.fromkeys(prefixes):
            yield Question(OTHER, S3Ask("s3:ListBucket", bucket, prefix), False)
        for action in _BUCKET_NEVER:
            yield Question(OTHER, S3Ask(action, bucket), False)
        for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
            for name in ("djops-probe", f"{base}djops-probe", f"{base}{store.hash_prefix}/djops-probe"):
                yield Question(OTHER, S3Ask(action, f"{bucket}/{name}"), False)
    yield Question(OTHER, S3Ask("s3:CreateBucket", f"{BUCKET_ARN}djops-probe"), False)
    for action in ("iam:CreateAccessKey", "iam:PutUserPolicy", "iam:AttachUserPolicy"):
        yield Question(OTHER, S3Ask(action, user), False)
