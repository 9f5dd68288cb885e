"""The kinds of drift, and what collects them."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from djops.compile.mysql_state import MysqlCatalog, MysqlState
from djops.compile.secrets_state import SecretsState
from djops.model.graph import TableName
from djops.plan.change import Change, System
from djops.plan.expiry import Ended


class DriftKind(enum.StrEnum):
    """What a difference is."""

    EXTRA_GRANT = "extra grant"
    MISSING_GRANT = "missing grant"
    DIRECT_GRANT = "direct grant"
    TABLE_GRANT = "table grant"
    COLUMN_GRANT = "column grant"
    DROPPED_TABLE = "grant on a dropped table"
    ROUTINE_GRANT = "routine grant"
    SERVER_PRIVILEGE = "server-wide privilege"
    GRANT_OPTION = "grant option"
    SPELLING = "unescaped spelling"
    WILDCARD = "wildcard grant"
    WRONG_LEVEL = "wrong level"
    EXTRA_ROLE = "extra role"
    MISSING_ROLE = "missing role"
    FOREIGN_ROLE = "foreign role"
    GIVEN_AWAY = "role given away"
    ADMIN_OPTION = "admin option"
    NOT_DEFAULT = "missing default role"
    MANDATORY_ROLE = "mandatory role"
    PROXY = "proxy"
    ROLE_GONE = "lost role"
    ROLE_LEFT = "leftover role"
    ACCOUNT_GONE = "lost account"
    ACCOUNT_LEFT = "leftover account"
    ANONYMOUS = "anonymous account"
    SHADOW = "shadowing account"
    UNLOCKED = "unlocked role"
    LOCKED = "locked account"
    NO_TLS = "no TLS required"
    LIMIT = "connection limit"
    AUTHENTICATION = "changed authentication"
    SECOND_PASSWORD = "second password"  # noqa: S105  a kind of drift
    MARK = "changed mark"
    EXPIRED = "expired"
    EVENT = "expiry event"
    NEW_TABLE = "table without grants"
    NEW_SCHEMA = "schema without grants"
    NO_JOB_TABLE = "table without job table"
    USER_GONE = "lost user"
    USER_LEFT = "leftover user"
    EDITED_POLICY = "edited policy"
    EXTRA_POLICY = "extra policy"
    MISSING_POLICY = "missing policy"
    FOREIGN_GROUP = "foreign group"
    BOUNDARY = "changed boundary"
    EXTRA_KEY = "extra access key"
    LOST_KEY = "lost access key"
    BUCKET_POLICY = "bucket policy"
    BUCKET_PUBLIC = "public access not blocked"
    BUCKET_VERSIONS = "versioning off"
    LOST_CREDENTIALS = "lost credentials"
    UNFINISHED = "unfinished credentials"
    LEFTOVER_CREDENTIALS = "leftover credentials"
    SECRETS_POLICY = "edited secrets policy"
    SECRETS_POLICY_EXTRA = "extra secrets policy"
    SECRETS_POLICY_GONE = "lost secrets policy"
    SERVICE_LOGIN = "edited service log-in"
    ENGINE = "edited database engine"
    KEEPER = "password kept elsewhere"
    OTHER = "other difference"


MEANINGS: Mapping[DriftKind, str] = {
    DriftKind.EXTRA_GRANT: "a role holds more on a schema than its level gives",
    DriftKind.MISSING_GRANT: "a role lacks what its level gives",
    DriftKind.DIRECT_GRANT: "a person or service holds a schema itself; they hold roles and nothing else",
    DriftKind.TABLE_GRANT: "somebody holds a single table beyond what djops grants",
    DriftKind.COLUMN_GRANT: "somebody holds single columns beyond what djops grants",
    DriftKind.DROPPED_TABLE: "a dropped table's grants are still there: a new one of that name inherits them",
    DriftKind.ROUTINE_GRANT: "somebody holds a stored procedure or function",
    DriftKind.SERVER_PRIVILEGE: "somebody holds a privilege on the whole server",
    DriftKind.GRANT_OPTION: "somebody may pass privileges on",
    DriftKind.SPELLING: "a schema's name was granted without escapes: its _ and % open other schemas, and of "
    "several rows that match a schema the server goes by one",
    DriftKind.WILDCARD: "all schemas that match a pattern were granted, those to come included",
    DriftKind.WRONG_LEVEL: "somebody has another role on a schema than djops.yaml says",
    DriftKind.EXTRA_ROLE: "somebody has a role that djops.yaml does not give",
    DriftKind.MISSING_ROLE: "somebody lacks a role that djops.yaml gives",
    DriftKind.FOREIGN_ROLE: "somebody has a role, or an account as a role, that djops did not make",
    DriftKind.GIVEN_AWAY: "an account that djops did not make holds one of the project's roles",
    DriftKind.ADMIN_OPTION: "somebody may pass a role on, or may not although admins should",
    DriftKind.NOT_DEFAULT: "a role is not active from log-in; the DataJoint client never activates one",
    DriftKind.MANDATORY_ROLE: "the server gives a role to everybody; no grant table shows it",
    DriftKind.PROXY: "somebody may act as somebody else",
    DriftKind.ROLE_GONE: "a role of the project is not there",
    DriftKind.ROLE_LEFT: "a role is marked as the project's and nobody needs it",
    DriftKind.ACCOUNT_GONE: "a person or service has no account",
    DriftKind.ACCOUNT_LEFT: "an account is marked as the project's and stands not in djops.yaml",
    DriftKind.ANONYMOUS: "an account without a name lets anybody in",
    DriftKind.SHADOW: "for some hosts the server takes an account of the same name that djops did not make",
    DriftKind.UNLOCKED: "a role can be logged in to",
    DriftKind.LOCKED: "a person or service cannot log in",
    DriftKind.NO_TLS: "an account may connect without encryption",
    DriftKind.LIMIT: "an account may open another number of connections",
    DriftKind.AUTHENTICATION: "an account's password or its kind was changed by somebody else",
    DriftKind.SECOND_PASSWORD: "an older password is valid as well",
    DriftKind.MARK: "the mark by which djops knows an account was changed",
    DriftKind.EXPIRED: "a grant is over and its rights are still there",
    DriftKind.EVENT: "the event that ends a grant in the database itself is missing, changed or left over",
    DriftKind.NEW_TABLE: "a table was declared after the last apply; nobody can write it",
    DriftKind.NEW_SCHEMA: "a schema was declared after the last apply; nobody can write its tables",
    DriftKind.NO_JOB_TABLE: "nobody can reserve jobs for a table",
    DriftKind.USER_GONE: "a person or service has no user at the object store",
    DriftKind.USER_LEFT: "a user below the project's path stands not in djops.yaml",
    DriftKind.EDITED_POLICY: "a user's policy has another text",
    DriftKind.EXTRA_POLICY: "a user has a second policy, its own or a managed one",
    DriftKind.MISSING_POLICY: "a user has no policy",
    DriftKind.FOREIGN_GROUP: "a user is in a group; djops puts nobody into groups",
    DriftKind.BOUNDARY: "a user has no permissions boundary, or another one than djops gives",
    DriftKind.EXTRA_KEY: "a user has an access key that the secrets server does not keep",
    DriftKind.LOST_KEY: "the kept access key is gone, or switched off",
    DriftKind.BUCKET_POLICY: "a bucket has a policy of its own, which may open it to anybody; or on AWS none",
    DriftKind.BUCKET_PUBLIC: "a bucket's public-access blocks are off",
    DriftKind.BUCKET_VERSIONS: "a bucket no longer keeps overwritten objects",
    DriftKind.LOST_CREDENTIALS: "the secrets server no longer has somebody's credentials",
    DriftKind.UNFINISHED: "a password was kept and is not known to be in force",
    DriftKind.LEFTOVER_CREDENTIALS: "the secrets server keeps credentials of somebody who is gone",
    DriftKind.SECRETS_POLICY: "a policy on the secrets server has another text",
    DriftKind.SECRETS_POLICY_EXTRA: "a policy of the project's on the secrets server belongs to nobody",
    DriftKind.SECRETS_POLICY_GONE: "a policy on the secrets server is gone",
    DriftKind.SERVICE_LOGIN: "a service's AppRole or a person's log-in gives more or less, or is nobody's",
    DriftKind.ENGINE: "the database engine makes other credentials than djops.yaml says, or for nobody",
    DriftKind.KEEPER: "a service's database password is not kept by whom djops.yaml says",
    DriftKind.OTHER: "a difference without a name of its own",
}
"""What each kind means, for people."""

_ADMINISTRATOR = "an administrator of the database, with the statement that is shown"
_REVOKED, _GIVEN = "it is revoked", "it is given again"
REMEDIES: Mapping[DriftKind, str] = {
    DriftKind.EXTRA_GRANT: _REVOKED,
    DriftKind.MISSING_GRANT: _GIVEN,
    DriftKind.DIRECT_GRANT: _REVOKED,
    DriftKind.TABLE_GRANT: _REVOKED,
    DriftKind.COLUMN_GRANT: _REVOKED,
    DriftKind.DROPPED_TABLE: _REVOKED,
    DriftKind.ROUTINE_GRANT: _REVOKED,
    DriftKind.SERVER_PRIVILEGE: "it is revoked; `SYSTEM_USER` by " + _ADMINISTRATOR,
    DriftKind.GRANT_OPTION: _REVOKED,
    DriftKind.SPELLING: "that row is revoked, and the right one given",
    DriftKind.WILDCARD: _REVOKED,
    DriftKind.WRONG_LEVEL: "the one role is revoked and the other given",
    DriftKind.EXTRA_ROLE: _REVOKED,
    DriftKind.MISSING_ROLE: _GIVEN,
    DriftKind.FOREIGN_ROLE: "it is revoked; an account with `SYSTEM_USER` by " + _ADMINISTRATOR,
    DriftKind.GIVEN_AWAY: _REVOKED,
    DriftKind.ADMIN_OPTION: "the role is revoked and given again as it should be",
    DriftKind.NOT_DEFAULT: "the default roles are set",
    DriftKind.MANDATORY_ROLE: _ADMINISTRATOR,
    DriftKind.PROXY: _ADMINISTRATOR,
    DriftKind.ROLE_GONE: "it is made, with its privileges and members",
    DriftKind.ROLE_LEFT: "it is dropped",
    DriftKind.ACCOUNT_GONE: "it is made, with a new password",
    DriftKind.ACCOUNT_LEFT: "it is dropped",
    DriftKind.ANONYMOUS: _ADMINISTRATOR,
    DriftKind.SHADOW: _ADMINISTRATOR,
    DriftKind.UNLOCKED: "it is locked",
    DriftKind.LOCKED: "it is let in again",
    DriftKind.NO_TLS: "TLS is required",
    DriftKind.LIMIT: "the limit is set",
    DriftKind.AUTHENTICATION: "a new password is made, and kept at the secrets server",
    DriftKind.SECOND_PASSWORD: "the older password is discarded",
    DriftKind.MARK: "the mark is set",
    DriftKind.EXPIRED: "it is revoked, by `djops expire` too",
    DriftKind.EVENT: "it is made anew or dropped; somebody else's by " + _ADMINISTRATOR,
    DriftKind.NEW_TABLE: "its grants are given, by `djops schemas sync` too",
    DriftKind.NEW_SCHEMA: "its tables' grants are given, by `djops schemas sync` too",
    DriftKind.NO_JOB_TABLE: "`djops schemas sync` makes it",
    DriftKind.USER_GONE: "it is made, with its policy and a new key",
    DriftKind.USER_LEFT: "it is deleted, with its keys",
    DriftKind.EDITED_POLICY: "the policy is put again",
    DriftKind.EXTRA_POLICY: "it is deleted or detached",
    DriftKind.MISSING_POLICY: "the policy is put again",
    DriftKind.FOREIGN_GROUP: "the user is taken out of it",
    DriftKind.BOUNDARY: "the boundary is set",
    DriftKind.EXTRA_KEY: "it is deleted",
    DriftKind.LOST_KEY: "a new key is made, and kept at the secrets server",
    DriftKind.BUCKET_POLICY: "it is deleted; on AWS one that refuses requests without TLS takes its place",
    DriftKind.BUCKET_PUBLIC: "they are switched on",
    DriftKind.BUCKET_VERSIONS: "versioning is switched on",
    DriftKind.LOST_CREDENTIALS: "a new password and new keys are made and kept",
    DriftKind.UNFINISHED: "a new password is made and kept",
    DriftKind.LEFTOVER_CREDENTIALS: "they are destroyed, in all versions",
    DriftKind.SECRETS_POLICY: "the policy is written again",
    DriftKind.SECRETS_POLICY_EXTRA: "it is deleted",
    DriftKind.SECRETS_POLICY_GONE: "the policy is written again",
    DriftKind.SERVICE_LOGIN: "it is set as it should be, or deleted",
    DriftKind.ENGINE: "it is set as it should be; what belongs to nobody is deleted, and its accounts end",
    DriftKind.KEEPER: "it passes to whom djops.yaml says",
    DriftKind.OTHER: "the change that is shown",
}
"""What `djops apply` does about each kind, or who else must do what."""


@dataclass(frozen=True)
class Drift:
    """One thing that is not as it should be.

    Attributes:
        kind: Its name.
        system: Where it is.
        object: Who or what it is about.
        found: What is there, or lacking.
        changes: The plan's own changes that mend it; with what follows from them.
        remedy: Who must do what, where the plan cannot mend it or not alone.
    """

    kind: DriftKind
    system: System
    object: str
    found: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    remedy: str = ""

    @property
    def mended_by(self) -> str:
        """What mends it, in a few words."""
        return self.remedy or "djops apply"


@dataclass(frozen=True)
class Sight:
    """What drift is judged by, besides the plan.

    Attributes:
        project: Name of the project.
        wanted: What MySQL should hold.
        found: Everything MySQL says about access.
        secrets: What the secrets server holds.
        secret_of: Where each principal's credentials are kept.
        today: The day on which grants are judged.
        ended: What only grants that are over would give.
        schemas: The pipeline's schemas.
        tables: The tables that exist.
        jobless: Tables that need a job table and have none.
        escape: Whether ``_`` and ``%`` are wildcards in grants.
    """

    project: str
    wanted: MysqlState
    found: MysqlCatalog
    secrets: SecretsState
    secret_of: Mapping[str, str]
    today: dt.date
    ended: Ended = field(default_factory=Ended)
    schemas: frozenset[str] = frozenset()
    tables: frozenset[TableName] = frozenset()
    jobless: tuple[TableName, ...] = ()
    escape: bool = True


@dataclass
class _Entry:
    found: dict[str, None] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    remedy: str = ""


class Book:
    """Collects drift: one entry for each kind and object."""

    def __init__(self) -> None:
        self._entries: dict[tuple[DriftKind, System, str], _Entry] = {}

    def add(
        self,
        kind: DriftKind,
        system: System,
        what: object,
        found: str,
        change: Change | None = None,
        remedy: str = "",
    ) -> None:
        """Note one thing.

        Args:
            kind: Its name.
            system: Where it is.
            what: Who or what it is about.
            found: What is there, or lacking.
            change: The change that mends it.
            remedy: Who must do what instead.
        """
        entry = self._entries.setdefault((kind, system, str(what)), _Entry())
        entry.found[found] = None
        entry.remedy = entry.remedy or remedy
        _append(entry.changes, change)

    def follow(self, change: Change, whom: Iterable[object], kind: DriftKind | None = None) -> bool:
        """Note a change that only follows from others: with everything about the same objects.

        Args:
            change: The change.
            whom: The objects.
            kind: Only with entries of this kind.

        Returns:
            Whether there is anything that it can follow from.
        """
        names = {str(one) for one in whom}
        known = False
        for (entry_kind, system, name), entry in self._entries.items():
            if name in names and system == change.system and kind in (None, entry_kind):
                _append(entry.changes, change)
                known = True
        return known

    def narrowing(self, change: Change, system: System) -> bool:
        """Note a change that follows from whatever takes something away; tells whether anything does."""
        noted = False
        for (_, where, _), entry in self._entries.items():
            if where == system and any(one.risk in ("narrows", "destroys") for one in entry.changes):
                _append(entry.changes, change)
                noted = True
        return noted

    def __iter__(self) -> Iterator[Drift]:
        for (kind, system, name), entry in self._entries.items():
            yield Drift(kind, system, name, tuple(entry.found), tuple(entry.changes), entry.remedy)


def _append(changes: list[Change], change: Change | None) -> None:
    if change is not None and not any(one is change for one in changes):
        changes.append(change)
