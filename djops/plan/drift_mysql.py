"""Drift in MySQL by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from djops.compile.mysql_state import Account, AccountId, Edge, Held, Scope
from djops.compile.sql import quote_account, schema_pattern, unescape_pattern
from djops.model.graph import TableName
from djops.model.names import is_sandbox
from djops.plan.change import Change, Plan, Risk
from djops.plan.drift_kinds import Book, DriftKind, Sight
from djops.plan.mysql_changes import (
    CHANGED_FACT,
    STATE_FACT,
    AlterAccount,
    CancelEvent,
    CreateAccount,
    CreateRole,
    DiscardPassword,
    DropAccount,
    EndSessions,
    EntrustPassword,
    GrantPrivileges,
    GrantRole,
    RevokeAll,
    RevokePrivileges,
    RevokeRole,
    ScheduleEvent,
    SetDefaultRoles,
    SetPassword,
    event_name,
)
from djops.plan.rotation import FinishRotation

_NOBODY = Account(kind=None, project=None)
GRANT_OPTION = "GRANT OPTION"


def name_mysql(plan: Plan, sight: Sight, book: Book) -> None:
    """Name everything about MySQL: the plan's changes, and what no change can mend.

    Args:
        plan: The plan.
        sight: What else is known.
        book: Takes what is found.
    """
    changes = [change for change in plan.changes if change.system == "mysql"]
    sorter = _Sorter(changes, sight, book)
    # First what stands for itself, then what may only follow from it.
    for change in sorted(changes, key=lambda change: isinstance(change, _FOLLOWERS)):
        sorter.sort(change)
    _beyond(sight, book)


_FOLLOWERS = (CancelEvent, GrantPrivileges, SetDefaultRoles, EndSessions)


class _Sorter:
    """Tells of each change what it mends."""

    def __init__(self, changes: list[Change], sight: Sight, book: Book) -> None:
        self.sight = sight
        self.book = book
        self.ours = sight.found.managed(sight.project) | sight.wanted.accounts.keys()
        self.made = {c.role for c in changes if isinstance(c, CreateRole)}
        self.made |= {c.name for c in changes if isinstance(c, CreateAccount)}
        self.dropped = {c.name for c in changes if isinstance(c, DropAccount)}
        self.emptied = {c.grantee for c in changes if isinstance(c, RevokeAll)}
        self.given = {
            Edge(c.role, member) for c in changes if isinstance(c, GrantRole) for member in c.members
        }
        self.taken = {
            Edge(c.role, member) for c in changes if isinstance(c, RevokeRole) for member in c.members
        }

    def sort(self, change: Change) -> None:
        """Note one change."""
        match change:
            case CreateRole(role=name):
                self.note(DriftKind.ROLE_GONE, name, "it is not there", change)
            case CreateAccount(name=name):
                self.note(DriftKind.ACCOUNT_GONE, name, "it is not there", change)
            case DropAccount():
                self.dropping(change)
            case AlterAccount():
                self.protection(change)
            case SetPassword(name=name):
                self.password(change)
            case FinishRotation(name=name):
                self.note(DriftKind.SECOND_PASSWORD, name, change.why[0], change)
            case DiscardPassword(name=name):
                self.note(DriftKind.SECOND_PASSWORD, name, "an older password is valid too", change)
            case RevokePrivileges(grantee=name, scope=scope, privileges=privileges):
                self.held(name, scope, privileges, change)
            case RevokeAll():
                self.everything(change)
            case GrantPrivileges():
                self.missing(change)
            case GrantRole() | RevokeRole():
                for member in change.members:
                    self.membership(Edge(change.role, member), change)
            case SetDefaultRoles():
                for member in change.members:
                    self.defaults(change, member)
            case ScheduleEvent(name=name, event=event):
                self.note(DriftKind.EVENT, name, f"not there: {event.about}", change)
            case CancelEvent():
                self.event(change)
            case EntrustPassword(name=name):
                self.note(DriftKind.KEEPER, name, change.before, change)
            case EndSessions():
                if not self.book.narrowing(change, "mysql"):
                    self.note(DriftKind.OTHER, change.object, change.before, change)
            case _:
                self.note(DriftKind.OTHER, change.object, change.describe(), change)

    def note(self, kind: DriftKind, what: object, found: str, change: Change, remedy: str = "") -> None:
        remedy = remedy or (self.beyond_power(what) if change.risk is not Risk.KEEPS else "")
        self.book.add(kind, "mysql", what, found, change, remedy)

    def beyond_power(self, what: object) -> str:
        """Say who must help where an account holds what keeps djops from touching it."""
        if isinstance(what, AccountId):
            held = self.sight.found.privileges.get(Held(what, Scope("*")), frozenset())
            if "SYSTEM_USER" in held:
                who = quote_account(*what)
                return f"database administrator: REVOKE SYSTEM_USER ON *.* FROM {who}; then djops apply"
        return ""

    def kind_of(self, name: AccountId) -> str | None:
        for state in (self.sight.wanted, self.sight.found):
            if name in state.accounts:
                return state.accounts[name].kind
        return None

    @cached_property
    def sandboxes(self) -> frozenset[str]:
        """How people's sandboxes are spelled in a grant; every other wildcard is somebody's own."""
        escape, schemas = self.sight.escape, self.sight.schemas
        return frozenset(schema_pattern(name, escape=escape) for name in schemas if is_sandbox(name))

    def held(
        self, name: AccountId, scope: Scope, privileges: Mapping[str, tuple[str, ...]], change: Change
    ) -> None:
        """Note privileges of one row of the grant tables that should not be there."""
        columns = {
            f"{privilege} ({', '.join(names)})": None for privilege, names in privileges.items() if names
        }
        plain = sorted(privilege for privilege, names in privileges.items() if not names)
        if columns:
            self.note(DriftKind.COLUMN_GRANT, name, f"{', '.join(sorted(columns))} on {scope}", change)
        if plain:
            kind = self.kind_of_row(name, scope, plain)
            self.note(kind, name, f"{', '.join(plain)} on {scope}", change)

    def kind_of_row(self, name: AccountId, scope: Scope, privileges: list[str]) -> DriftKind:
        if scope.column:
            return DriftKind.COLUMN_GRANT
        if scope.pattern == "*":
            return DriftKind.SERVER_PRIVILEGE
        exact = scope.table or unescape_pattern(scope.pattern, escape=self.sight.escape) is not None
        if not exact and scope.pattern not in self.sandboxes:
            return DriftKind.SPELLING if scope.pattern in self.sight.schemas else DriftKind.WILDCARD
        if privileges == [GRANT_OPTION]:
            return DriftKind.GRANT_OPTION
        if scope.table.endswith("()"):
            return DriftKind.ROUTINE_GRANT
        if scope.table:
            known = scope.pattern not in self.sight.schemas or TableName(*scope[:2]) in self.sight.tables
            return DriftKind.TABLE_GRANT if known else DriftKind.DROPPED_TABLE
        return DriftKind.EXTRA_GRANT if self.kind_of(name) == "role" else DriftKind.DIRECT_GRANT

    def everything(self, change: RevokeAll) -> None:
        """Note each row that makes a grantee lose everything; what it should hold comes back."""
        for scope, names in sorted(change.found.items()):
            wanted = self.sight.wanted.privileges.get(Held(change.grantee, scope), frozenset())
            columns = (scope.column,) if scope.column else ()
            extra = dict.fromkeys(names - wanted, columns)
            if extra:
                self.held(change.grantee, Scope(scope.pattern, scope.table), extra, change)

    def missing(self, change: GrantPrivileges) -> None:
        """Note what a role lacks, unless that only follows from something else."""
        if change.grantee in self.made:
            self.book.follow(change, [change.grantee])
            return
        lacking = list(self.lacking(change))
        if change.grantee in self.emptied:
            self.book.follow(change, [change.grantee])
        if not lacking:
            return
        scope = change.scope
        if scope.table and self.is_new(TableName(scope.pattern, scope.table)):
            self.new_table(TableName(scope.pattern, scope.table), change)
        else:
            text = f"lacks {', '.join(sorted(set(lacking)))} on {scope}"
            self.note(DriftKind.MISSING_GRANT, change.grantee, text, change)

    def lacking(self, change: GrantPrivileges) -> Iterator[str]:
        for name, columns in change.privileges.items():
            for column in columns or ("",):
                scope = Scope(change.scope.pattern, change.scope.table, column)
                if name not in self.sight.found.privileges.get(Held(change.grantee, scope), ()):
                    yield name

    def is_new(self, table: TableName) -> bool:
        """Tell whether no role of the project holds anything on a table that exists."""
        return table in self.sight.tables and not any(
            held.scope.pattern == table.schema and held.scope.table == table.table
            for held in self.sight.found.privileges
            if held.grantee in self.ours
        )

    def new_table(self, table: TableName, change: Change) -> None:
        others = [other for other in self.sight.tables if other.schema == table.schema]
        wanted = {held.scope[:2] for held in self.sight.wanted.privileges if held.scope.table}
        granted = [other for other in others if (other.schema, other.table) in wanted]
        if len(granted) > 1 and all(self.is_new(other) for other in granted):
            self.note(DriftKind.NEW_SCHEMA, table.schema, "none of its tables has grants", change)
        else:
            self.note(DriftKind.NEW_TABLE, table, "it has no grants", change)

    def membership(self, edge: Edge, change: Change) -> None:
        """Note that somebody has, lacks or may pass on a role."""
        role, member = edge
        follows = [name for name in edge if name in self.made]
        if follows:
            self.book.follow(change, follows)
            return
        there, wanted = self.sight.found.edges.get(edge), self.sight.wanted.edges.get(edge)
        if there is not None and wanted is not None:
            text = f"may pass on role {role}" if there else f"may not pass on role {role}"
            self.note(DriftKind.ADMIN_OPTION, member, text, change)
        elif there is None:
            kind = DriftKind.WRONG_LEVEL if self.has_other_level(edge, self.taken) else DriftKind.MISSING_ROLE
            self.note(kind, member, f"lacks role {role}", change)
        else:
            self.note(self.kind_of_extra(edge), member, f"has role {role}", change, self.too_strong(edge))

    def too_strong(self, edge: Edge) -> str:
        """Say who must help where the role is an account that djops may not touch."""
        if "SYSTEM_USER" not in self.sight.found.privileges.get(Held(edge.role, Scope("*")), ()):
            return ""
        role, member = quote_account(*edge.role), quote_account(*edge.member)
        return f"database administrator: REVOKE {role} FROM {member}; then djops apply"

    def kind_of_extra(self, edge: Edge) -> DriftKind:
        if edge.role not in self.ours:
            return DriftKind.FOREIGN_ROLE
        if edge.member not in self.ours:
            return DriftKind.GIVEN_AWAY
        if edge in self.sight.ended.edges:
            return DriftKind.EXPIRED
        if self.has_other_level(edge, self.given):
            return DriftKind.WRONG_LEVEL
        return DriftKind.EXTRA_ROLE

    def has_other_level(self, edge: Edge, among: Iterable[Edge]) -> bool:
        """Tell whether the same member changes another role of the same schema."""
        return any(
            other.member == edge.member and other != edge and _schema(other.role) == _schema(edge.role)
            for other in among
        )

    def dropping(self, change: DropAccount) -> None:
        """Note a role or account that should not be there, or who loses something with it."""
        if change.account.kind != "role":
            self.note(DriftKind.ACCOUNT_LEFT, change.name, "it stands not in djops.yaml", change)
            return
        holders = dict.fromkeys(self.holders(change.name, set()))
        for edge in holders:
            self.note(self.kind_of_extra(edge), edge.member, f"has role {edge.role}", change)
        if not holders:
            self.note(DriftKind.ROLE_LEFT, change.name, "nobody needs it", change)

    def holders(self, role: AccountId, seen: set[AccountId]) -> Iterator[Edge]:
        """Yield the memberships of those who stay, through roles that are dropped as well."""
        seen.add(role)
        for edge in sorted(self.sight.found.edges):
            if edge.role == role and edge.member not in self.dropped:
                yield edge
            elif edge.role == role and edge.member not in seen:
                yield from self.holders(edge.member, seen)

    def protection(self, change: AlterAccount) -> None:
        found, wanted = change.found, change.wanted
        if found.locked != wanted.locked:
            kind = DriftKind.LOCKED if found.locked else DriftKind.UNLOCKED
            self.note(kind, change.name, "locked" if found.locked else "log-in is possible", change)
        if wanted.kind != "role" and found.certificate != wanted.certificate:
            self.note(DriftKind.LOCKED, change.name, "a client certificate is asked for", change)
        if wanted.kind != "role" and found.require_tls != wanted.require_tls:
            self.note(DriftKind.NO_TLS, change.name, "TLS is not required", change)
        if wanted.kind != "role" and found.connections != wanted.connections:
            number = found.connections or "any number of"
            self.note(DriftKind.LIMIT, change.name, f"{number} connections", change)
        if found.kind != wanted.kind:
            self.note(DriftKind.MARK, change.name, f"marked as {found.kind}", change)

    def password(self, change: SetPassword) -> None:
        there = self.sight.found.accounts.get(change.name, _NOBODY)
        facts = self.sight.secrets.secrets.get(change.secret)
        if facts is None:
            self.book.add(DriftKind.LOST_CREDENTIALS, "secrets", change.name.user, "none kept", change)
        elif there.plugin != change.account.plugin:
            text = f"{there.plugin} instead of {change.account.plugin}"
            self.note(DriftKind.AUTHENTICATION, change.name, text, change)
        elif there.expired:
            self.note(DriftKind.AUTHENTICATION, change.name, "its password was made to expire", change)
        elif facts.get(STATE_FACT) == "set" and facts.get(CHANGED_FACT) != there.password_changed:
            self.note(DriftKind.AUTHENTICATION, change.name, "its password was changed", change)
        else:
            text = "the kept password is not known to be in force"
            self.book.add(DriftKind.UNFINISHED, "secrets", change.name.user, text, change)

    def event(self, change: CancelEvent) -> None:
        """Note an event that should not be there, unless it is of a grant that is over."""
        over = [edge.member for edge in self.sight.ended.edges]
        if change.event.at > f"{self.sight.today} 00:00:00" or not self.book.follow(
            change, over, DriftKind.EXPIRED
        ):
            text = f"there: {change.event.body} at {change.event.at}"
            self.note(DriftKind.EVENT, change.name, text, change)

    def defaults(self, change: SetDefaultRoles, member: AccountId) -> None:
        """Note roles that are not active from log-in, unless that follows from a membership that changes."""
        changed = {edge.role for edge in self.given | self.taken if edge.member == member}
        changed |= self.made | self.dropped
        lacking = [role for role in change.wanted if role not in change.found and role not in changed]
        extra = [role for role in change.found if role not in change.wanted and role not in changed]
        for role in lacking:
            self.note(DriftKind.NOT_DEFAULT, member, f"role {role} is not active at log-in", change)
        for role in extra:
            self.note(DriftKind.NOT_DEFAULT, member, f"role {role} should not be active at log-in", change)
        if not lacking and not extra:
            about = [member, *(role for role in (*change.wanted, *change.found) if role in changed)]
            if not self.book.follow(change, about):
                self.note(DriftKind.NOT_DEFAULT, member, change.describe(), change)


def _schema(role: AccountId) -> str:
    return role.user.rpartition(":")[0]


def _beyond(sight: Sight, book: Book) -> None:
    """Name what no change of the plan can mend."""
    ours = sight.found.managed(sight.project)
    people = {name.user for name in ours if sight.found.accounts[name].kind != "role"}
    for name in sorted(sight.found.accounts):
        statement = f"database administrator: DROP USER {quote_account(*name)}"
        if not name.user:
            text = f"anybody may log in from {name.host}"
            book.add(DriftKind.ANONYMOUS, "mysql", f"''@{name.host}", text, remedy=statement)
        elif name.user in people and name not in ours:
            text = f"it is what {name.user} logs in to from {name.host}"
            book.add(DriftKind.SHADOW, "mysql", name, text, remedy=statement)
    for role in sight.found.mandatory_roles:
        remedy = "database administrator: SET PERSIST mandatory_roles = ''"
        book.add(DriftKind.MANDATORY_ROLE, "mysql", role, "everybody on the server has it", remedy=remedy)
    for proxy in sorted(sight.found.proxies or ()):
        if {proxy.account, proxy.proxied} & ours:
            pair = f"REVOKE PROXY ON {quote_account(*proxy.proxied)} FROM {quote_account(*proxy.account)}"
            text = f"may act as {proxy.proxied}"
            book.add(DriftKind.PROXY, "mysql", proxy.account, text, remedy=f"database administrator: {pair}")
    for named, event in sorted((sight.found.events or {}).items()):
        if event.foreign:
            remedy = f"database administrator: DROP EVENT {event_name(named)}"
            text = f"somebody else's: {event.body} at {event.at}"
            book.add(DriftKind.EVENT, "mysql", named, text, remedy=remedy)
    for table in sight.jobless:
        book.add(DriftKind.NO_JOB_TABLE, "mysql", table, "it has no job table", remedy="djops schemas sync")
