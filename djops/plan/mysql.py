"""Differences between two MySQL states."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from djops.compile.mysql_state import Account, AccountId, Edge, Held, MysqlState, Scope
from djops.compile.sql import quote_account, quote_identifier, quote_string
from djops.errors import DjopsError, ManyErrors, NotManagedError
from djops.plan.change import Change, Phase, Risk
from djops.plan.operations import EndSession, MarkSecret, Operation, SecretRef, Sql, StorePassword

PASSWORD_FIELD = "database.password"  # noqa: S105  the field's name, as the client names its file
STATE_FACT = "database_state"
"""Beside a secret: ``set`` once the password is known to be in force."""

_NOBODY = Account(kind=None, project=None)

NOT_WANTED = ("nothing in the project file gives it",)


@dataclass(frozen=True)
class Reasons:
    """Why things are wanted, in the words of the project file.

    Attributes:
        edges: Reasons for each membership of a person or service.
        secret_of: Where each person's or service's credentials are kept.
    """

    edges: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    secret_of: Mapping[str, str] = field(default_factory=dict)

    def edge(self, edge: Edge, accounts: Mapping[AccountId, Account]) -> tuple[str, ...]:
        """Return why ``edge`` is wanted."""
        known = self.edges.get((edge.role.user, edge.member.user))
        if known:
            return known
        meaning = accounts[edge.member].meaning if edge.member in accounts else ""
        return (f"{meaning or edge.member} includes it",)


def _quoted(account: AccountId) -> str:
    return quote_account(account.user, account.host)


def _joined(accounts: Iterable[AccountId]) -> str:
    return ", ".join(_quoted(account) for account in accounts)


def _attribute(account: Account) -> str:
    mark = {"djops": {"project": account.project, "kind": account.kind}}
    return f"ATTRIBUTE {quote_string(json.dumps(mark, sort_keys=True))}"


class MysqlChange(Change):
    """A change to the MySQL server."""

    system = "mysql"


@dataclass(frozen=True, kw_only=True)
class CreateRole(MysqlChange):
    """Make a role, marked as the project's own in the same statement.

    ``CREATE ROLE`` takes no attribute, and a crash between it and an ``ALTER USER`` would leave a role
    that nobody owns. A locked account with an expired password is what ``CREATE ROLE`` makes.
    """

    role: AccountId
    account: Account

    @property
    def object(self) -> str:
        """The role."""
        return f"role {self.role}"

    @property
    def before(self) -> str:
        """Nothing."""
        return ""

    @property
    def after(self) -> str:
        """That it exists."""
        return "created"

    @property
    def risk(self) -> Risk:
        """A role without members opens nothing."""
        return Risk.KEEPS

    @property
    def phase(self) -> Phase:
        """Before anything is granted to it."""
        return Phase.PREPARE

    def operations(self) -> tuple[Operation, ...]:
        """Return one CREATE USER."""
        attribute = _attribute(self.account)
        return (Sql((f"CREATE USER {_quoted(self.role)} PASSWORD EXPIRE ACCOUNT LOCK {attribute}",)),)

    def reverse(self) -> Change:
        """Return the drop."""
        return DropAccount(name=self.role, account=self.account, why=self.why)


@dataclass(frozen=True, kw_only=True)
class CreateAccount(MysqlChange):
    """Make a person's or service's account, without any right yet."""

    name: AccountId
    account: Account
    secret: str

    @property
    def object(self) -> str:
        """The account."""
        return f"account {self.name}"

    @property
    def before(self) -> str:
        """Nothing."""
        return ""

    @property
    def after(self) -> str:
        """That it exists, and how it is protected."""
        return "created, TLS required"

    @property
    def risk(self) -> Risk:
        """An account without roles opens nothing."""
        return Risk.KEEPS

    @property
    def phase(self) -> Phase:
        """Before anything is granted to it."""
        return Phase.PREPARE

    def operations(self) -> tuple[Operation, ...]:
        """Keep the password first, so that no unknown password is ever in force."""
        head = f"CREATE USER {_quoted(self.name)} IDENTIFIED WITH {self.account.plugin} BY "
        tail = f" REQUIRE SSL {_attribute(self.account)}"
        return (
            StorePassword(self.secret, self.name.user),
            Sql((head, SecretRef(self.secret, PASSWORD_FIELD), tail)),
            MarkSecret(self.secret, {STATE_FACT: "set"}),
        )

    def reverse(self) -> Change:
        """Return the drop."""
        return DropAccount(name=self.name, account=self.account, why=self.why)


@dataclass(frozen=True, kw_only=True)
class DropAccount(MysqlChange):
    """Drop an account or role, with everything granted to it and every membership of it."""

    name: AccountId
    account: Account
    secret: str = ""

    @property
    def object(self) -> str:
        """The account or role."""
        return f"{'role' if self.account.kind == 'role' else 'account'} {self.name}"

    @property
    def before(self) -> str:
        """That it exists."""
        return "there"

    @property
    def after(self) -> str:
        """Nothing."""
        return ""

    @property
    def risk(self) -> Risk:
        """Roles hold nothing that cannot be made again; an account's password goes with it."""
        return Risk.NARROWS if self.account.kind == "role" else Risk.DESTROYS

    @property
    def phase(self) -> Phase:
        """With everything else that narrows."""
        return Phase.NARROW

    def operations(self) -> tuple[Operation, ...]:
        """Return one DROP USER."""
        return (Sql((f"DROP USER IF EXISTS {_quoted(self.name)}",)),)

    def reverse(self) -> Change:
        """Return the creation."""
        if self.account.kind == "role":
            return CreateRole(role=self.name, account=self.account, why=self.why)
        return CreateAccount(name=self.name, account=self.account, secret=self.secret, why=self.why)


@dataclass(frozen=True, kw_only=True)
class AlterAccount(MysqlChange):
    """Bring an account's protection back to what it should be."""

    name: AccountId
    found: Account
    wanted: Account

    @property
    def object(self) -> str:
        """The account."""
        return f"account {self.name}"

    @property
    def before(self) -> str:
        """How it is protected now."""
        return _protection(self.found)

    @property
    def after(self) -> str:
        """How it should be protected."""
        return _protection(self.wanted)

    @property
    def risk(self) -> Risk:
        """Unlocking and dropping TLS open, the rest closes."""
        opens = (self.found.locked and not self.wanted.locked) or (
            self.found.require_tls and not self.wanted.require_tls
        )
        return Risk.WIDENS if opens else Risk.NARROWS

    @property
    def phase(self) -> Phase:
        """According to the risk."""
        return Phase.WIDEN if self.risk is Risk.WIDENS else Phase.NARROW

    def operations(self) -> tuple[Operation, ...]:
        """Return one ALTER USER."""
        tls = "SSL" if self.wanted.require_tls else "NONE"
        lock = "LOCK" if self.wanted.locked else "UNLOCK"
        return (
            Sql((f"ALTER USER {_quoted(self.name)} REQUIRE {tls} ACCOUNT {lock} {_attribute(self.wanted)}",)),
        )

    def reverse(self) -> Change:
        """Return the opposite."""
        return AlterAccount(name=self.name, found=self.wanted, wanted=self.found, why=self.why)


def _protection(account: Account) -> str:
    parts = [
        "locked" if account.locked else "open",
        "TLS required" if account.require_tls else "TLS not required",
    ]
    return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class SetPassword(MysqlChange):
    """Put the kept password in force, making one when none is kept."""

    name: AccountId
    account: Account
    secret: str

    @property
    def object(self) -> str:
        """The account."""
        return f"account {self.name}"

    @property
    def before(self) -> str:
        """That nobody can hand the password out."""
        return "password not known to be the one kept"

    @property
    def after(self) -> str:
        """That it is kept."""
        return "password from the secrets server"

    @property
    def risk(self) -> Risk:
        """Who knows the old password loses it."""
        return Risk.NARROWS

    @property
    def phase(self) -> Phase:
        """Before anything is granted."""
        return Phase.PREPARE

    def operations(self) -> tuple[Operation, ...]:
        """Keep first, then set, then note that it is set."""
        head = f"ALTER USER {_quoted(self.name)} IDENTIFIED WITH {self.account.plugin} BY "
        return (
            StorePassword(self.secret, self.name.user),
            Sql((head, SecretRef(self.secret, PASSWORD_FIELD))),
            MarkSecret(self.secret, {STATE_FACT: "set"}),
        )

    def reverse(self) -> Change:
        """Return itself: an unknown password cannot be had back."""
        return self


@dataclass(frozen=True, kw_only=True)
class _Privileges(MysqlChange):
    """Privileges of one grantee on one schema or table.

    Attributes:
        grantee: Who holds them.
        scope: The schema pattern or table, without column.
        privileges: Privilege names; the value lists columns, empty for all.
    """

    grantee: AccountId
    scope: Scope
    privileges: Mapping[str, tuple[str, ...]]
    meaning: str = ""

    @property
    def object(self) -> str:
        """Grantee and scope."""
        return f"{self.grantee} on {self.scope}"

    @property
    def text(self) -> str:
        """The privileges as MySQL lists them."""
        return self._listed(self.privileges)

    @staticmethod
    def _listed(privileges: Mapping[str, tuple[str, ...]]) -> str:
        return ", ".join(
            name + (f" ({', '.join(quote_identifier(column) for column in columns)})" if columns else "")
            for name, columns in sorted(privileges.items())
        )

    @property
    def target(self) -> str:
        """The scope as MySQL writes it."""
        if self.scope.pattern == "*":
            return "*.*"
        table = quote_identifier(self.scope.table) if self.scope.table else "*"
        return f"{quote_identifier(self.scope.pattern)}.{table}"


@dataclass(frozen=True, kw_only=True)
class GrantPrivileges(_Privileges):
    """Give privileges."""

    @property
    def before(self) -> str:
        """Nothing of it."""
        return ""

    @property
    def after(self) -> str:
        """The privileges."""
        return self.text

    @property
    def risk(self) -> Risk:
        """It opens."""
        return Risk.WIDENS

    @property
    def phase(self) -> Phase:
        """After everything that narrows."""
        return Phase.WIDEN

    def operations(self) -> tuple[Operation, ...]:
        """Return one GRANT."""
        plain = {name: columns for name, columns in self.privileges.items() if name != "GRANT OPTION"}
        option = " WITH GRANT OPTION" if "GRANT OPTION" in self.privileges else ""
        text = self._listed(plain) or "USAGE"
        return (Sql((f"GRANT {text} ON {self.target} TO {_quoted(self.grantee)}{option}",)),)

    def reverse(self) -> Change:
        """Return the revocation."""
        return RevokePrivileges(
            grantee=self.grantee,
            scope=self.scope,
            privileges=self.privileges,
            meaning=self.meaning,
            why=self.why,
        )


@dataclass(frozen=True, kw_only=True)
class RevokePrivileges(_Privileges):
    """Take privileges away, in the spelling in which they are stored."""

    @property
    def before(self) -> str:
        """The privileges."""
        return self.text

    @property
    def after(self) -> str:
        """Nothing of it."""
        return ""

    @property
    def risk(self) -> Risk:
        """It closes."""
        return Risk.NARROWS

    @property
    def phase(self) -> Phase:
        """First."""
        return Phase.NARROW

    def operations(self) -> tuple[Operation, ...]:
        """Return one REVOKE."""
        return (Sql((f"REVOKE {self.text} ON {self.target} FROM {_quoted(self.grantee)}",)),)

    def reverse(self) -> Change:
        """Return the grant."""
        return GrantPrivileges(
            grantee=self.grantee,
            scope=self.scope,
            privileges=self.privileges,
            meaning=self.meaning,
            why=self.why,
        )


@dataclass(frozen=True, kw_only=True)
class _Membership(MysqlChange):
    """A role and members that get or lose it in one atomic statement.

    Attributes:
        role: The role.
        members: Accounts or roles.
        admin: Whether the members may pass it on.
        inner: Whether the members are roles themselves.
    """

    role: AccountId
    members: tuple[AccountId, ...]
    admin: bool = False
    inner: bool = False

    @property
    def object(self) -> str:
        """The members."""
        return ", ".join(str(member) for member in self.members)

    @property
    def text(self) -> str:
        """The role, and whether it may be passed on."""
        return f"role {self.role}" + (", may pass it on" if self.admin else "")


@dataclass(frozen=True, kw_only=True)
class GrantRole(_Membership):
    """Give a role."""

    @property
    def before(self) -> str:
        """Nothing of it."""
        return ""

    @property
    def after(self) -> str:
        """The role."""
        return self.text

    @property
    def risk(self) -> Risk:
        """It opens."""
        return Risk.WIDENS

    @property
    def phase(self) -> Phase:
        """After the role has its privileges."""
        return Phase.JOIN

    def operations(self) -> tuple[Operation, ...]:
        """Return one GRANT."""
        option = " WITH ADMIN OPTION" if self.admin else ""
        return (Sql((f"GRANT {_quoted(self.role)} TO {_joined(self.members)}{option}",)),)

    def reverse(self) -> Change:
        """Return the revocation."""
        return RevokeRole(
            role=self.role, members=self.members, admin=self.admin, inner=self.inner, why=self.why
        )


@dataclass(frozen=True, kw_only=True)
class RevokeRole(_Membership):
    """Take a role away."""

    @property
    def before(self) -> str:
        """The role."""
        return self.text

    @property
    def after(self) -> str:
        """Nothing of it."""
        return ""

    @property
    def risk(self) -> Risk:
        """It closes."""
        return Risk.NARROWS

    @property
    def phase(self) -> Phase:
        """First."""
        return Phase.NARROW

    def operations(self) -> tuple[Operation, ...]:
        """Return one REVOKE."""
        return (Sql((f"REVOKE {_quoted(self.role)} FROM {_joined(self.members)}",)),)

    def reverse(self) -> Change:
        """Return the grant."""
        return GrantRole(
            role=self.role, members=self.members, admin=self.admin, inner=self.inner, why=self.why
        )


@dataclass(frozen=True, kw_only=True)
class SetDefaultRoles(MysqlChange):
    """Say which roles are active from log-in; the DataJoint client never asks for any itself."""

    member: AccountId
    found: tuple[AccountId, ...]
    wanted: tuple[AccountId, ...]

    @property
    def object(self) -> str:
        """The account."""
        return f"roles active at log-in of {self.member}"

    @property
    def before(self) -> str:
        """The roles active now."""
        return ", ".join(str(role) for role in self.found)

    @property
    def after(self) -> str:
        """The roles that should be active."""
        return ", ".join(str(role) for role in self.wanted) or "none"

    @property
    def risk(self) -> Risk:
        """It opens when a role is added."""
        return Risk.WIDENS if set(self.wanted) - set(self.found) else Risk.NARROWS

    @property
    def phase(self) -> Phase:
        """After memberships are in place."""
        return Phase.ACTIVATE

    def operations(self) -> tuple[Operation, ...]:
        """Return one SET DEFAULT ROLE."""
        roles = _joined(self.wanted) if self.wanted else "NONE"
        return (Sql((f"SET DEFAULT ROLE {roles} TO {_quoted(self.member)}",)),)

    def reverse(self) -> Change:
        """Return the opposite."""
        return SetDefaultRoles(member=self.member, found=self.wanted, wanted=self.found, why=self.why)


@dataclass(frozen=True, kw_only=True)
class EndSessions(MysqlChange):
    """End open sessions of accounts that lost a right.

    A session that did ``USE schema`` keeps its old privileges there until its next ``USE``, and DROP
    USER leaves sessions open (seen on MySQL 9.7).
    """

    members: tuple[AccountId, ...]

    @property
    def object(self) -> str:
        """The accounts."""
        return f"open sessions of {', '.join(str(member) for member in self.members)}"

    @property
    def before(self) -> str:
        """That they could go on with the old rights."""
        return "may still use what is taken away"

    @property
    def after(self) -> str:
        """That they are over."""
        return "ended"

    @property
    def risk(self) -> Risk:
        """It closes."""
        return Risk.NARROWS

    @property
    def phase(self) -> Phase:
        """Right after everything that narrows."""
        return Phase.END_SESSIONS

    def operations(self) -> tuple[Operation, ...]:
        """Return one end for each account."""
        return tuple(EndSession(member.user) for member in self.members)

    def reverse(self) -> Change:
        """Return itself: an ended session cannot be had back."""
        return self


def diff_mysql(
    project: str,
    wanted: MysqlState,
    found: MysqlState,
    reasons: Reasons,
    known: Callable[[str], bool],
    may_revoke: Callable[[Scope], bool],
) -> list[Change]:
    """Compare what MySQL should hold with what it holds.

    Accounts that djops did not make are never changed; a role of the project's given to one of them,
    or one of theirs given to a managed account, is a difference.

    Args:
        project: Whose accounts are managed.
        wanted: What should be there.
        found: What is there.
        reasons: Why things are wanted.
        known: Tells of an account's user name whether the kept password is in force.
        may_revoke: Tells whether djops' own account can revoke privileges on a scope. An account that
            holds others is dropped and made anew, which takes no more than the right to make accounts.

    Returns:
        The changes, unordered.

    Raises:
        NotManagedError: ``E_UNMANAGED`` when a wanted name is taken by somebody else's account.
    """
    _refuse_foreign_names(project, wanted, found)
    ours = found.managed(project)
    tainted = _tainted(ours & wanted.accounts.keys(), found, may_revoke)
    changes: list[Change] = [
        DropAccount(
            name=name, account=found.accounts[name], secret=reasons.secret_of.get(name.user, ""), why=why
        )
        for name, why in tainted.items()
    ]
    there = _without(found, tainted.keys())
    dropped = ours - wanted.accounts.keys()
    kept = frozenset(wanted.accounts)
    changes += _account_changes(wanted, there, dropped, reasons, known)
    changes += _privilege_changes(wanted, there, kept)
    changes += _membership_changes(wanted, there, kept, dropped, reasons)
    changes += _default_changes(wanted, there, kept)
    losers = _losers(changes, wanted, found)
    if losers:
        changes.append(EndSessions(members=losers, why=("what was taken away must not be used any more",)))
    return changes


def _tainted(
    names: Iterable[AccountId], found: MysqlState, may_revoke: Callable[[Scope], bool]
) -> dict[AccountId, tuple[str, ...]]:
    """Return the accounts that hold what djops cannot revoke, and what that is."""
    names = frozenset(names)
    strays: dict[AccountId, tuple[str, ...]] = {}
    for held, privileges in sorted(found.privileges.items()):
        if held.grantee in names and not may_revoke(held.scope):
            reason = (
                f"it holds {', '.join(sorted(privileges))} on {held.scope}, which djops cannot revoke singly"
            )
            strays[held.grantee] = (*strays.get(held.grantee, ()), reason)
    return strays


def _without(state: MysqlState, names: Collection[AccountId]) -> MysqlState:
    """Return a state as it is once accounts are dropped."""
    if not names:
        return state
    return MysqlState(
        {name: account for name, account in state.accounts.items() if name not in names},
        {held: privileges for held, privileges in state.privileges.items() if held.grantee not in names},
        {edge: admin for edge, admin in state.edges.items() if not {edge.role, edge.member} & set(names)},
        frozenset(edge for edge in state.defaults if not {edge.role, edge.member} & set(names)),
    )


def _refuse_foreign_names(project: str, wanted: MysqlState, found: MysqlState) -> None:
    errors: list[DjopsError] = []
    for name in sorted(wanted.accounts.keys() & found.accounts.keys()):
        owner = found.accounts[name].project
        if owner != project:
            whose = f"belongs to the project {owner!r}" if owner else "was not made by djops"
            errors.append(
                NotManagedError(
                    f"the MySQL account {name} exists and {whose}",
                    where="mysql",
                    hint="rename the person, or drop the account when nobody needs it",
                )
            )
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)


def _account_changes(
    wanted: MysqlState,
    found: MysqlState,
    dropped: frozenset[AccountId],
    reasons: Reasons,
    known: Callable[[str], bool],
) -> Iterable[Change]:
    for name in sorted(dropped):
        account = found.accounts[name]
        why = "no right uses it any more" if account.kind == "role" else "it is not in the project file"
        yield DropAccount(name=name, account=account, secret=reasons.secret_of.get(name.user, ""), why=(why,))
    for name, account in sorted(wanted.accounts.items(), key=lambda item: (item[1].kind != "role", item[0])):
        there = found.accounts.get(name)
        if account.kind == "role":
            if there is None:
                yield CreateRole(role=name, account=account, why=(account.meaning,))
        elif there is None:
            secret = reasons.secret_of[name.user]
            yield CreateAccount(name=name, account=account, secret=secret, why=(account.meaning,))
        elif not known(name.user) or there.plugin != account.plugin:
            secret = reasons.secret_of[name.user]
            why = "credentials are handed out from the secrets server only"
            yield SetPassword(name=name, account=account, secret=secret, why=(why,))
        if there is not None and _guard(there) != _guard(account):
            yield AlterAccount(name=name, found=there, wanted=account, why=("its protection was changed",))


def _guard(account: Account) -> tuple[object, ...]:
    return account.locked, account.require_tls or account.kind == "role", account.kind


def _privilege_changes(wanted: MysqlState, found: MysqlState, kept: frozenset[AccountId]) -> Iterable[Change]:
    more: dict[Held, dict[str, list[str]]] = defaultdict(dict)
    less: dict[Held, dict[str, list[str]]] = defaultdict(dict)
    for held in sorted(wanted.privileges.keys() | found.privileges.keys()):
        if held.grantee not in kept:
            continue
        should, does = wanted.privileges.get(held, frozenset()), found.privileges.get(held, frozenset())
        whole = Held(held.grantee, Scope(held.scope.pattern, held.scope.table))
        for target, names in ((more, should - does), (less, does - should)):
            for name in names:
                columns = target[whole].setdefault(name, [])
                if held.scope.column:
                    columns.append(held.scope.column)
    for held, names_by in more.items():
        meaning = wanted.accounts[held.grantee].meaning
        yield GrantPrivileges(
            grantee=held.grantee,
            scope=held.scope,
            privileges=_frozen(names_by),
            meaning=meaning,
            why=(meaning,),
        )
    for held, names_by in less.items():
        yield RevokePrivileges(
            grantee=held.grantee, scope=held.scope, privileges=_frozen(names_by), why=NOT_WANTED
        )


def _frozen(privileges: Mapping[str, list[str]]) -> Mapping[str, tuple[str, ...]]:
    return {name: tuple(columns) for name, columns in privileges.items()}


def _membership_changes(
    wanted: MysqlState,
    found: MysqlState,
    kept: frozenset[AccountId],
    dropped: frozenset[AccountId],
    reasons: Reasons,
) -> Iterable[Change]:
    more: dict[tuple[AccountId, bool, bool, tuple[str, ...]], list[AccountId]] = defaultdict(list)
    less: dict[tuple[AccountId, bool, bool], list[AccountId]] = defaultdict(list)
    for edge in sorted(wanted.edges.keys() | found.edges.keys()):
        if dropped & {edge.role, edge.member} or not kept & {edge.role, edge.member}:
            continue
        should, does = wanted.edges.get(edge), found.edges.get(edge)
        inner = any(state.accounts.get(edge.member, _NOBODY).kind == "role" for state in (wanted, found))
        if does is not None and (should is None or (does and not should)):
            less[edge.role, does, inner].append(edge.member)
        if should is not None and (does is None or should != does):
            more[edge.role, should, inner, reasons.edge(edge, wanted.accounts)].append(edge.member)
    for (role, admin, inner, why), members in sorted(more.items(), key=lambda item: not item[0][2]):
        yield GrantRole(role=role, members=tuple(members), admin=admin, inner=inner, why=why)
    for (role, admin, inner), members in less.items():
        yield RevokeRole(role=role, members=tuple(members), admin=admin, inner=inner, why=NOT_WANTED)


def _default_changes(wanted: MysqlState, found: MysqlState, kept: frozenset[AccountId]) -> Iterable[Change]:
    should: dict[AccountId, list[AccountId]] = defaultdict(list)
    does: dict[AccountId, list[AccountId]] = defaultdict(list)
    for target, state in ((should, wanted), (does, found)):
        for edge in sorted(state.defaults):
            target[edge.member].append(edge.role)
    for member in sorted(kept & (should.keys() | does.keys())):
        # Revoking a role also removes it from the defaults, even when it is granted again right after.
        still = [role for role in does[member] if _stays(Edge(role, member), wanted, found)]
        if still != should[member]:
            yield SetDefaultRoles(
                member=member,
                found=tuple(does[member]),
                wanted=tuple(should[member]),
                why=("the DataJoint client never activates a role itself",),
            )


def _stays(edge: Edge, wanted: MysqlState, found: MysqlState) -> bool:
    """Tell whether a membership is left alone or only widened, so that its default survives."""
    return edge in wanted.edges and found.edges.get(edge, False) <= wanted.edges[edge]


def _losers(changes: Iterable[Change], wanted: MysqlState, found: MysqlState) -> tuple[AccountId, ...]:
    """Return the people and services that lose something, directly or through roles they hold."""
    hit: set[AccountId] = set()
    for change in changes:
        if isinstance(change, DropAccount):
            hit.add(change.name)
        elif isinstance(change, RevokePrivileges):
            hit.add(change.grantee)
        elif isinstance(change, RevokeRole):
            hit.update(change.members)
        elif isinstance(change, AlterAccount) and change.risk is Risk.NARROWS:
            hit.add(change.name)
    members: dict[AccountId, list[AccountId]] = defaultdict(list)
    for edge in found.edges:
        members[edge.role].append(edge.member)
    todo = list(hit)
    while todo:
        for member in members[todo.pop()]:
            if member not in hit:
                hit.add(member)
                todo.append(member)
    return tuple(sorted(name for name in hit if not _is_role(name, wanted, found)))


def _is_role(name: AccountId, wanted: MysqlState, found: MysqlState) -> bool:
    account = found.accounts.get(name) or wanted.accounts.get(name)
    return account is None or account.kind in (None, "role")
