"""What a MySQL server holds about access, wanted or found, in one form that can be compared.

Names are tuples: a consortium has tens of thousands of them, and they are hashed and sorted all the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["role", "person", "service"]


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
        plugin: The authentication plugin.
        meaning: What it stands for, for people; not compared.
    """

    kind: Kind | None
    project: str | None
    locked: bool = False
    require_tls: bool = True
    plugin: str = "caching_sha2_password"
    meaning: str = field(default="", compare=False)


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
    """

    accounts: Mapping[AccountId, Account] = field(default_factory=dict)
    privileges: Mapping[Held, frozenset[str]] = field(default_factory=dict)
    edges: Mapping[Edge, bool] = field(default_factory=dict)
    defaults: frozenset[Edge] = frozenset()

    def managed(self, project: str) -> frozenset[AccountId]:
        """Return the accounts that belong to ``project``."""
        return frozenset(name for name, account in self.accounts.items() if account.project == project)
