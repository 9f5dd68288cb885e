"""From an account to the grants that give it something: which rows, held by which role, reached how."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from djops.compile.mysql import (
    DATA_PRIVILEGES,
    JOB_PRIVILEGES,
    LINEAGE_PRIVILEGES,
    SCHEMA_PRIVILEGES,
    sandbox_privileges,
)
from djops.compile.mysql_state import AccountId, Edge, Held, MysqlState, Scope
from djops.compile.packing import listed
from djops.compile.sql import schema_pattern
from djops.model.graph import TableName
from djops.model.names import LINEAGE_TABLE, Tier, is_sandbox
from djops.model.roles import Capability

S3_ACTIONS: Mapping[Capability, tuple[str, ...]] = {
    Capability.READ: ("s3:GetObject", "s3:ListBucket"),
    Capability.INSERT: ("s3:PutObject",),
    Capability.INBOX: ("s3:GetObject", "s3:PutObject"),
    Capability.COLLECT: ("s3:DeleteObject",),
}
"""What a capability asks of the object store; the others ask nothing of it."""


class Need(NamedTuple):
    """Privileges that something takes.

    Attributes:
        scope: What they are about.
        privileges: Their names.
    """

    scope: Scope
    privileges: frozenset[str]


class Reached(NamedTuple):
    """A grant and the way to it.

    Attributes:
        path: The account, the role it holds, and so on; the last one holds the grant.
        held: The grant's row.
        privileges: Those of its privileges that were needed.
    """

    path: tuple[AccountId, ...]
    held: Held
    privileges: frozenset[str]


def edges_of(path: Sequence[AccountId]) -> tuple[Edge, ...]:
    """Return the memberships on a path from an account to a role."""
    return tuple(Edge(role, member) for member, role in pairwise(path))


def needs(
    capability: Capability, schema: str, tables: Iterable[TableName], *, escape: bool = True
) -> Iterator[Need]:
    """Say what a capability takes in the database.

    Args:
        capability: The capability.
        schema: The schema.
        tables: The tables concerned, of those that exist; job tables for jobs.
        escape: Whether grant patterns take escapes.

    Yields:
        The privileges as djops grants them, schema before tables.
    """
    if is_sandbox(schema):
        names = sandbox_privileges(frozenset({capability}))
        if names:
            yield Need(Scope(schema_pattern(schema, escape=escape)), names)
        return
    if capability in SCHEMA_PRIVILEGES:
        yield Need(Scope(schema_pattern(schema, escape=escape)), SCHEMA_PRIVILEGES[capability])
    if capability in LINEAGE_PRIVILEGES and TableName(schema, LINEAGE_TABLE) in set(tables):
        yield Need(Scope(schema, LINEAGE_TABLE), LINEAGE_PRIVILEGES[capability])
    for table in sorted(tables):
        if capability in DATA_PRIVILEGES and table.tier.holds_data:
            yield Need(Scope(schema, table.table), DATA_PRIVILEGES[capability])
        if capability in JOB_PRIVILEGES and table.tier is Tier.JOB:
            yield Need(Scope(schema, table.table), JOB_PRIVILEGES[capability])


@dataclass(frozen=True)
class Ways:
    """The roles an account reaches, nearest first, each with the path to it."""

    state: MysqlState
    paths: tuple[tuple[AccountId, ...], ...]

    @classmethod
    def of(cls, state: MysqlState, account: AccountId) -> Ways:
        """Follow the memberships of a state from an account."""
        roles: dict[AccountId, list[AccountId]] = {}
        for edge in sorted(state.edges):
            roles.setdefault(edge.member, []).append(edge.role)
        paths: list[tuple[AccountId, ...]] = [(account,)]
        seen = {account}
        for path in paths:  # grows while it is walked: breadth first
            for role in roles.get(path[-1], ()):
                if role not in seen:
                    seen.add(role)
                    paths.append((*path, role))
        return cls(state, tuple(paths))

    def to(self, need: Need) -> tuple[Reached, ...]:
        """Return the nearest grants that together give what is needed, as far as any do."""
        found, left = [], set(need.privileges)
        for path in self.paths:
            held = Held(path[-1], need.scope)
            gives = self.state.privileges.get(held, frozenset()) & left
            if gives:
                found.append(Reached(path, held, frozenset(gives)))
                left -= gives
        return tuple(found)


class Allowed(NamedTuple):
    """A policy statement that allows something.

    Attributes:
        policy: The policy's name.
        action: The action.
        resource: The resource as the statement has it.
        prefix: The condition on listed prefixes, where there is one.
    """

    policy: str
    action: str
    resource: str
    prefix: str = ""

    def __str__(self) -> str:
        listed = f", prefix {self.prefix}" if self.prefix else ""
        return f"policy {self.policy}: Allow {self.action} on {self.resource}{listed}"


def allowed(policies: Mapping[str, Any], actions: Collection[str]) -> Iterator[Allowed]:
    """Take policies apart into what each of their statements allows, one line for each resource.

    Args:
        policies: Policy documents by name.
        actions: The actions of interest.
    """
    for name, document in sorted(policies.items()):
        for statement in listed((document or {}).get("Statement")):
            if not isinstance(statement, Mapping) or statement.get("Effect") != "Allow":
                continue
            prefixes = _list(statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix", "")) or [
                ""
            ]
            for action in _list(statement.get("Action", ())):
                if action in actions:
                    for resource in _list(statement.get("Resource", ())):
                        yield from (Allowed(name, action, resource, prefix) for prefix in prefixes)


def _list(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
