"""What a MySQL state means, worked out without any of the compiler's knowledge, and what changes do to it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import replace

from djops.compile.mysql_state import AccountId, Edge, Held, MysqlState, Scope
from djops.plan.change import Change
from djops.plan.mysql_changes import (
    AlterAccount,
    CancelEvent,
    CreateAccount,
    CreateRole,
    DiscardPassword,
    DropAccount,
    GrantPrivileges,
    GrantRole,
    RenameAccount,
    RevokeAll,
    RevokePrivileges,
    RevokeRole,
    ScheduleEvent,
    SetDefaultRoles,
    SetPassword,
    TakeOver,
)


@functools.cache
def pattern_matches(pattern: str, schema: str) -> bool:
    """MySQL's LIKE on a grant pattern: _ and % are wildcards unless a backslash stands before them."""
    parts: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            parts.append(re.escape(next(characters, "\\")))
        elif character == "_":
            parts.append(".")
        elif character == "%":
            parts.append(".*")
        else:
            parts.append(re.escape(character))
    return re.fullmatch("".join(parts), schema, re.DOTALL) is not None


def active_roles(state: MysqlState, member: AccountId) -> set[AccountId]:
    """Default roles and everything granted to them, as a session has them after log-in."""
    active = {edge.role for edge in state.defaults if edge.member == member and edge in state.edges}
    todo = list(active)
    while todo:
        holder = todo.pop()
        for edge in state.edges:
            if edge.member == holder and edge.role not in active:
                active.add(edge.role)
                todo.append(edge.role)
    return active


class Meaning:
    """What sessions may do under a state; indexed once, asked often."""

    def __init__(self, state: MysqlState) -> None:
        self.state = state
        self.held: dict[AccountId, list[tuple[Scope, frozenset[str]]]] = {}
        for held, names in state.privileges.items():
            self.held.setdefault(held.grantee, []).append((held.scope, names))
        self.known: dict[tuple[AccountId, str, str, str], frozenset[str]] = {}

    def privileges(self, member: AccountId, schema: str, table: str, column: str = "") -> frozenset[str]:
        """Everything a session of ``member`` may do with a table."""
        key = (member, schema, table, column)
        if key not in self.known:
            rows = [
                row
                for holder in {member, *active_roles(self.state, member)}
                for row in self.held.get(holder, ())
            ]
            self.known[key] = frozenset().union(
                *(names for scope, names in rows if _covers(scope, schema, table, column))
            )
        return self.known[key]


def _covers(scope: Scope, schema: str, table: str, column: str) -> bool:
    if scope.table:
        return scope.table == table and scope.pattern == schema and scope.column in ("", column)
    return scope.pattern == "*" or pattern_matches(scope.pattern, schema)


def may(
    state: MysqlState, member: AccountId, privilege: str, schema: str, table: str, column: str = ""
) -> bool:
    """Whether a session of ``member`` has a privilege on a table."""
    return privilege in Meaning(state).privileges(member, schema, table, column)


class Server:
    """A MySQL server in memory that carries changes out."""

    def __init__(self, state: MysqlState) -> None:
        self.accounts = dict(state.accounts)
        self.privileges = {held: set(names) for held, names in state.privileges.items()}
        self.edges = dict(state.edges)
        self.defaults = set(state.defaults)
        self.routines = dict(state.routines)
        self.events = dict(state.events or {})
        self.passwords = {name: ["by hand"] for name in self.accounts}

    def _rename(self, name: AccountId, to: AccountId) -> None:
        assert to not in self.accounts, "the server would refuse: the account exists"

        def new(one: AccountId) -> AccountId:
            return to if one == name else one

        self.accounts = {new(one): account for one, account in self.accounts.items()}
        self.passwords = {new(one): passwords for one, passwords in self.passwords.items()}
        self.privileges = {Held(new(k.grantee), k.scope): v for k, v in self.privileges.items()}
        self.edges = {Edge(new(k.role), new(k.member)): v for k, v in self.edges.items()}
        self.defaults = {Edge(new(k.role), new(k.member)) for k in self.defaults}

    def _set_password(self, name: AccountId, plugin: str, password: str, *, retain: bool) -> None:
        old, account = self.passwords[name], self.accounts[name]
        same_plugin = account.plugin == plugin
        assert same_plugin or not retain, "the server would refuse: another plugin"
        kept = (old[:1] if retain else old[1:]) if same_plugin else []
        self.passwords[name] = [password, *kept]
        self.accounts[name] = replace(account, plugin=plugin, expired=False, second_password=bool(kept))

    def _discard(self, name: AccountId, *, only: bool = True) -> None:
        if only:
            self.passwords[name] = self.passwords[name][:1]
            self.accounts[name] = replace(self.accounts[name], second_password=False)

    def state(self) -> MysqlState:
        held = {key: frozenset(names) for key, names in self.privileges.items() if names}
        return MysqlState(
            dict(self.accounts),
            held,
            dict(self.edges),
            frozenset(self.defaults),
            dict(self.routines),
            dict(self.events),
        )

    def run(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.run_one(change)

    def run_one(self, change: Change) -> None:
        match change:
            case CreateRole(role=name, account=account) | CreateAccount(name=name, account=account):
                assert name not in self.accounts, "the server would refuse: the account exists"
                self.accounts[name] = account
                self.passwords[name] = ["made"]
            case DropAccount(name=name):
                self.accounts.pop(name)
                self.privileges = {k: v for k, v in self.privileges.items() if k.grantee != name}
                self.edges = {k: v for k, v in self.edges.items() if name not in (k.role, k.member)}
                self.defaults = {edge for edge in self.defaults if edge in self.edges}
            case AlterAccount(name=name, wanted=wanted):
                there = self.accounts[name]
                self.accounts[name] = replace(
                    wanted,
                    plugin=there.plugin,
                    second_password=there.second_password,
                    expired=there.expired,
                    adopted=there.adopted,
                )
            case RenameAccount(name=name, to=to):
                self._rename(name, to)
            case TakeOver(name=name, account=account, older=older):
                self.accounts[name] = replace(
                    self.accounts[name], project=account.project, kind=account.kind, adopted=True
                )
                self._discard(name, only=older)
            case SetPassword(name=name, account=account, secret=secret, retain=retain):
                self._set_password(name, account.plugin, secret, retain=retain)
            case DiscardPassword(name=name):
                self._discard(name)
                self.accounts[name] = replace(self.accounts[name], adopted=False)
            case GrantPrivileges():
                for held, privilege in _cells(change):
                    assert held.grantee in self.accounts, "the server would refuse: no such grantee"
                    self.privileges.setdefault(held, set()).add(privilege)
            case RevokePrivileges():
                for held, privilege in _cells(change):
                    assert privilege in self.privileges[held], "the server would refuse: no such grant"
                    self.privileges[held].discard(privilege)
            case ScheduleEvent(name=event_name, event=event):
                assert event_name not in self.events
                self.events[event_name] = event
            case CancelEvent(name=event_name):
                del self.events[event_name]
            case RevokeAll(grantee=name):
                self.routines = {k: v for k, v in self.routines.items() if k.grantee != name}
                self.privileges = {k: v for k, v in self.privileges.items() if k.grantee != name}
            case GrantRole(role=role, members=members, admin=admin):
                for member in members:
                    assert {role, member} <= self.accounts.keys(), "the server would refuse: no such role"
                    edge = Edge(role, member)
                    self.edges[edge] = self.edges.get(edge, False) or admin
            case RevokeRole(role=role, members=members):
                for member in members:
                    del self.edges[Edge(role, member)]
                    self.defaults.discard(Edge(role, member))
            case SetDefaultRoles(members=members, wanted=roles):
                edges = {Edge(role, member) for role in roles for member in members}
                assert edges <= self.edges.keys(), "the server would refuse: role not granted"
                self.defaults = {edge for edge in self.defaults if edge.member not in members} | edges
            case _:
                pass


def _cells(change: GrantPrivileges | RevokePrivileges) -> Iterable[tuple[Held, str]]:
    for privilege, columns in change.privileges.items():
        for column in columns or ("",):
            yield Held(change.grantee, Scope(change.scope.pattern, change.scope.table, column)), privilege
