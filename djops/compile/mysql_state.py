"""What a MySQL server holds about access, wanted or found, in one form that can be compared.

Names are tuples: a consortium has tens of thousands of them, and they are hashed and sorted all the time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

_TEXT = re.compile(r"'(?:[^'\\]|''|\\.)*'")
_ESCAPED = re.compile(r"['\\](.)")

Kind = Literal["role", "person", "service", "lease"]
"""A lease is an account that the secrets server made for a service, and ends."""


class AccountId(NamedTuple):
    """An account or role by name.

    Attributes:
        user: The user part.
        host: The host part.
    """

    user: str
    host: str = "%"

    def __str__(self) -> str:
        return self.user if self.host == "%" else f"{self.user}@{self.host}"


@dataclass(frozen=True)
class Account:
    """What is recorded about an account besides its privileges.

    Attributes:
        kind: What djops made it as; ``None`` for accounts djops did not make.
        project: The project it belongs to; ``None`` for accounts djops did not make.
        locked: Whether log-in is switched off, as it is for roles.
        require_tls: Whether connections without TLS are refused.
        certificate: Whether a client certificate is asked for too; djops gives nobody one.
        plugin: The authentication plugin.
        connections: Connections at once; 0 for any number.
        meaning: What it stands for, for people; not compared.
        password_changed: When the password was last changed, as the server tells it; not compared.
        second_password: Whether an older password is valid as well; not compared.
        expired: Whether the password must be changed before anything else can be done; not compared.
        adopted: Whether djops took it over and lets its old password hold for the time being; not compared.
        rotating: Whether its password was renewed and the old one holds for the time being; not compared.
        engine: How the secrets server makes its credentials, ``dynamic`` or ``static``, or empty when djops
            does; of the engine's own account, since when its password is in force; not compared.
    """

    kind: Kind | None
    project: str | None
    locked: bool = False
    require_tls: bool = True
    certificate: bool = False
    plugin: str = "caching_sha2_password"
    connections: int = 0
    meaning: str = field(default="", compare=False)
    password_changed: str = field(default="", compare=False)
    second_password: bool = field(default=False, compare=False)
    expired: bool = field(default=False, compare=False)
    adopted: bool = field(default=False, compare=False)
    rotating: bool = field(default=False, compare=False)
    engine: str = field(default="", compare=False)


class Event(NamedTuple):
    """A statement that the server carries out by itself at a moment to come.

    Attributes:
        at: When, as ``2030-02-01 00:00:00`` in UTC.
        body: The statement.
        active: Whether it will be carried out.
        about: What it is for, for people.
        foreign: Whether somebody else made or changed it last: then it runs as that account, and djops
            may not touch it.
    """

    at: str
    body: str
    active: bool = True
    about: str = ""
    foreign: bool = False

    def is_shown_as(self, found: Event) -> bool:
        """Tell whether a server that holds it would show this.

        The information schema shows texts inside a statement without their escapes (9.7.4, measured).

        Args:
            found: What the server shows.
        """
        plain = _TEXT.sub(lambda text: "'" + _ESCAPED.sub(r"\1", text[0][1:-1]) + "'", self.body)
        return (self.at, self.active) == (found.at, found.active) and found.body in (self.body, plain)


class Lease(NamedTuple):
    """An account that was made for a service, as the procedure that made it has noted.

    Attributes:
        project: The project.
        service: The service.
        overdue: Whether it should have ended.
    """

    project: str
    service: str
    overdue: bool = False


class Scope(NamedTuple):
    """What a privilege is about.

    Attributes:
        pattern: The schema as ``mysql.db`` has it, with escapes, when ``table`` is empty; the plain
            schema name otherwise. ``*`` stands for everything.
        table: The table; empty for the whole schema.
        column: The column; empty for the whole table.
    """

    pattern: str
    table: str = ""
    column: str = ""

    def __str__(self) -> str:
        parts = [self.pattern, self.table or "*"]
        return ".".join(parts) + (f"({self.column})" if self.column else "")


class Held(NamedTuple):
    """A grantee and what its privileges are about."""

    grantee: AccountId
    scope: Scope


class Edge(NamedTuple):
    """A role granted to an account or to another role."""

    role: AccountId
    member: AccountId


@dataclass(frozen=True)
class MysqlState:
    """Accounts, privileges and role memberships.

    Attributes:
        accounts: Accounts and roles.
        privileges: Privilege names by grantee and scope; ``GRANT OPTION`` is one of them.
        edges: Memberships; the value tells whether the member may pass the role on.
        defaults: The memberships that are active from log-in.
        routines: Privileges on single stored routines; djops gives none.
        events: Events in djops' own schema by name; ``None`` where djops can keep none.
        leases: What is noted of accounts that the secrets server made.
    """

    accounts: Mapping[AccountId, Account] = field(default_factory=dict)
    privileges: Mapping[Held, frozenset[str]] = field(default_factory=dict)
    edges: Mapping[Edge, bool] = field(default_factory=dict)
    defaults: frozenset[Edge] = frozenset()
    routines: Mapping[Routine, frozenset[str]] = field(default_factory=dict)
    events: Mapping[str, Event] | None = field(default_factory=dict)
    leases: Mapping[AccountId, Lease] = field(default_factory=dict)

    def managed(self, project: str) -> frozenset[AccountId]:
        """Return the accounts that belong to ``project``."""
        return frozenset(name for name, account in self.accounts.items() if account.project == project)


@dataclass(frozen=True)
class Login:
    """How an account is let in.

    Attributes:
        tls: ``mysql.user.ssl_type``: empty, ``ANY``, ``X509`` or ``SPECIFIED``.
        locked: Whether log-in is switched off.
        expired: Whether the password must be changed before anything else can be done.
        plugin: The authentication plugin.
    """

    tls: str = ""
    locked: bool = False
    expired: bool = False
    plugin: str = "caching_sha2_password"


class Routine(NamedTuple):
    """A grantee and the stored routine its privileges are about.

    Attributes:
        grantee: Who holds them.
        schema: The routine's schema.
        name: The routine's name.
        kind: ``PROCEDURE`` or ``FUNCTION``.
    """

    grantee: AccountId
    schema: str
    name: str
    kind: str


class Proxy(NamedTuple):
    """An account that may act as another."""

    account: AccountId
    proxied: AccountId


@dataclass(frozen=True)
class MysqlCatalog(MysqlState):
    r"""Everything a server's own tables say about access, of every account on it, made by djops or not.

    Attributes:
        logins: How each account is let in; roles are accounts too.
        restrictions: Privileges that partial revokes take from global ones, by account and schema.
        proxies: Who may act as whom; ``None`` when the account that read the catalog may not see it.
        passed_on: Dynamic privileges that their holder may grant to others.
        mandatory_roles: ``@@mandatory_roles``: what every session has on top.
        activate_all_roles: ``@@activate_all_roles_on_login``.
        partial_revokes: ``@@partial_revokes``; on, ``_``, ``%`` and ``\`` in grants are plain characters.
        require_tls: ``@@require_secure_transport``.
        fold_names: Whether schema and table names are kept in lower case (``@@lower_case_table_names``).
        schemas: Schemas that exist, as far as the reading account sees them.
        tables: Tables and views that exist, as far as it sees them: schema and table.
        read_by: The account that read the catalog.
    """

    logins: Mapping[AccountId, Login] = field(default_factory=dict)
    restrictions: Mapping[AccountId, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    proxies: frozenset[Proxy] | None = None
    passed_on: frozenset[tuple[AccountId, str]] = frozenset()
    mandatory_roles: tuple[AccountId, ...] = ()
    activate_all_roles: bool = False
    partial_revokes: bool = False
    require_tls: bool = True
    fold_names: bool = False
    schemas: frozenset[str] = frozenset()
    tables: frozenset[tuple[str, str]] = frozenset()
    read_by: AccountId | None = None
