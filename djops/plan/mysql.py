"""Differences between two MySQL states."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from djops.compile.mysql_manager import SCHEMA_PRIVILEGES
from djops.compile.mysql_state import Account, AccountId, Edge, Held, MysqlState, Scope
from djops.errors import DjopsError, ManyErrors, NotManagedError
from djops.plan.change import Change, Risk
from djops.plan.hiding import Patterns, emptied_together, spelling
from djops.plan.mysql_changes import (
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
)
from djops.plan.rotation import HandOutPassword

_NOBODY = Account(kind=None, project=None)

ADMINISTERED = frozenset({*SCHEMA_PRIVILEGES, "GRANT OPTION"})
"""What djops' own account holds on each schema of the pipeline, and so may give to others and take back."""

MEMBERS = 500
"""Members of a role in one statement: it takes 19 ms, while others wait for the grant tables (MySQL 9.7)."""

HIDING = "what it holds and what others lose may hide each other"

NOT_WANTED = ("nothing in the project file gives it",)


@dataclass(frozen=True)
class Reasons:
    """Why things are wanted, in the words of the project file.

    Attributes:
        edges: Reasons for each membership of a person or service.
        secret_of: Where each person's or service's credentials are kept.
        ended: Reasons for each membership that only grants which are over gave.
        renewed: Whose password is being renewed, and was not handed out when djops last ended.
    """

    edges: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    secret_of: Mapping[str, str] = field(default_factory=dict)
    ended: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    renewed: frozenset[str] = frozenset()

    def edge(self, edge: Edge, accounts: Mapping[AccountId, Account]) -> tuple[str, ...]:
        """Return why ``edge`` is wanted."""
        known = self.edges.get((edge.role.user, edge.member.user))
        if known:
            return known
        meaning = accounts[edge.member].meaning if edge.member in accounts else ""
        return (f"{meaning or edge.member} includes it",)

    def lost(self, edge: Edge) -> tuple[str, ...]:
        """Return why ``edge`` is not wanted."""
        return self.ended.get((edge.role.user, edge.member.user), NOT_WANTED)


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
        may_revoke: Tells whether djops' own account can revoke privileges on a scope. Whoever holds others
            loses everything at once, which takes no more than the right to make accounts, and gets back
            what is wanted.

    Returns:
        The changes, unordered.

    Raises:
        NotManagedError: ``E_UNMANAGED`` when a wanted name is taken by somebody else's account.
    """
    _refuse_foreign_names(project, wanted, found)
    ours = found.managed(project)
    dropped = ours - wanted.accounts.keys()
    tainted = _tainted(ours - dropped, found, may_revoke)
    lost, held = _on_schemas(wanted, found, ours)
    together = emptied_together(found, lost, held, frozenset(tainted), dropped)
    tainted |= dict.fromkeys(sorted(together - tainted.keys()), (HIDING,))
    there = _without_privileges(found, tainted.keys())
    kept = frozenset(wanted.accounts)
    # Who holds fewer roles can do nothing that he could not by leaving some of them inactive; but a row may
    # hide what a role gives, so that roles go before rows.
    changes = list[Change](_membership_changes(wanted, there, kept, dropped, reasons))
    changes += _privilege_changes(wanted, there, kept)
    changes += [
        RevokeAll(grantee=name, found=_held_by(name, found), why=why) for name, why in tainted.items()
    ]
    changes += _account_changes(wanted, there, dropped, reasons, known)
    changes += _default_changes(wanted, there, kept)
    changes += _event_changes(project, wanted, found)
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
        if held.grantee in names and (not may_revoke(held.scope) or privileges - ADMINISTERED):
            reason = (
                f"it holds {', '.join(sorted(privileges))} on {held.scope}, which djops cannot revoke singly"
            )
            strays[held.grantee] = (*strays.get(held.grantee, ()), reason)
    for routine in sorted(found.routines):
        if routine.grantee in names:
            reason = (
                f"it holds the stored routine {routine.schema}.{routine.name}, which djops gives to nobody"
            )
            strays[routine.grantee] = (*strays.get(routine.grantee, ()), reason)
    return strays


def _on_schemas(
    wanted: MysqlState, found: MysqlState, ours: frozenset[AccountId]
) -> tuple[Patterns, Patterns]:
    """Return the rows on schemas that ours lose something of, and all that they hold, by their patterns."""
    lost: dict[AccountId, set[str]] = defaultdict(set)
    held: dict[AccountId, set[str]] = defaultdict(set)
    for row, names in found.privileges.items():
        grantee, scope = row
        if grantee in ours and not scope.table and scope.pattern != "*":
            held[grantee].add(scope.pattern)
            if names - wanted.privileges.get(row, frozenset()):
                lost[grantee].add(scope.pattern)
    both = ({name: frozenset(some) for name, some in by.items()} for by in (lost, held))
    return next(both), next(both)


def _held_by(name: AccountId, state: MysqlState) -> Mapping[Scope, frozenset[str]]:
    rows = {held.scope: names for held, names in state.privileges.items() if held.grantee == name}
    routines = {
        Scope(routine.schema, f"{routine.name}()"): names
        for routine, names in state.routines.items()
        if routine.grantee == name
    }
    return rows | routines


def _without_privileges(state: MysqlState, names: Collection[AccountId]) -> MysqlState:
    """Return a state as it is once accounts have lost all that they hold directly."""
    if not names:
        return state
    kept = {held: privileges for held, privileges in state.privileges.items() if held.grantee not in names}
    return MysqlState(state.accounts, kept, state.edges, state.defaults)


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
                    hint=f"`djops adopt {name.user}` shows what taking it over would change; or rename the "
                    "person, or drop the account when nobody needs it",
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
    # A lease never outlives its service.
    for name in sorted(dropped, key=lambda name: (found.accounts[name].kind != "lease", name)):
        account = found.accounts[name]
        why = "no right uses it any more" if account.kind == "role" else "it is not in the project file"
        yield DropAccount(name=name, account=account, secret=reasons.secret_of.get(name.user, ""), why=(why,))
    # Those of one kind in a row: they share a statement.
    for name, account in sorted(wanted.accounts.items(), key=_roles_first):
        there = found.accounts.get(name)
        if account.kind == "role":
            if there is None:
                yield CreateRole(role=name, account=account, why=(account.meaning,))
        elif there is None:
            secret = reasons.secret_of[name.user]
            yield CreateAccount(name=name, account=account, secret=secret, why=(account.meaning,))
        else:
            yield from _password_changes(name, account, there, reasons, known)
        if there is not None and _guard(there) != _guard(account):
            yield AlterAccount(name=name, found=there, wanted=account, why=("its protection was changed",))


def _roles_first(item: tuple[AccountId, Account]) -> tuple[bool, str, AccountId]:
    name, account = item
    return account.kind != "role", str(account.kind), name


def _password_changes(
    name: AccountId, account: Account, there: Account, reasons: Reasons, known: Callable[[str], bool]
) -> Iterable[Change]:
    """Yield what brings an account's password to what it should be."""
    why = ("credentials are handed out from the secrets server only",)
    secret = reasons.secret_of.get(name.user, "")
    if account.kind != "lease" and (there.engine != account.engine or (account.engine and known(name.user))):
        given = ("its `credentials:` in the project file",)
        yield EntrustPassword(name=name, found=there.engine, wanted=account.engine, secret=secret, why=given)
    if account.kind == "lease" or account.engine:
        # The secrets server keeps it. A static one has two by design.
        if there.second_password and account.engine != "static":
            yield DiscardPassword(name=name, why=why)
        return
    if not known(name.user) or there.plugin != account.plugin or there.expired:
        keeps = there.adopted and not there.second_password and not there.expired
        retain = keeps and there.plugin == account.plugin
        if there.rotating and name.user in reasons.renewed and not there.expired:
            yield HandOutPassword(name=name, account=account, secret=secret, why=why)
        else:
            yield SetPassword(name=name, account=account, secret=secret, retain=retain, why=why)
    if there.second_password and not (there.adopted or there.rotating):
        yield DiscardPassword(name=name, why=why)


def _guard(account: Account) -> tuple[object, ...]:
    if account.kind == "role":
        return account.locked, account.kind
    return account.locked, account.require_tls, account.certificate, account.connections, account.kind


def _privilege_changes(wanted: MysqlState, found: MysqlState, kept: frozenset[AccountId]) -> Iterable[Change]:
    more: dict[Held, dict[str, list[str]]] = defaultdict(dict)
    less: dict[Held, dict[str, list[str]]] = defaultdict(dict)
    # Items that are the same on both sides, as nearly all are, are not worth sorting.
    for held in sorted({held for held, _ in wanted.privileges.items() ^ found.privileges.items()}):
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
        # The server takes a grant on a table that is not there, such as ~lineage, only when it names CREATE.
        if held.scope.table and "CREATE" in wanted.privileges.get(held, ()):
            names_by.setdefault("CREATE", [])
        meaning = wanted.accounts[held.grantee].meaning
        yield GrantPrivileges(
            grantee=held.grantee,
            scope=held.scope,
            privileges=_frozen(names_by),
            meaning=meaning,
            why=(meaning,),
        )
    # What is hidden goes before what hides it.
    for held in sorted(less, key=lambda held: spelling(held.scope.pattern), reverse=True):
        yield RevokePrivileges(
            grantee=held.grantee, scope=held.scope, privileges=_frozen(less[held]), why=NOT_WANTED
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
    more: dict[_Shared, dict[AccountId, tuple[str, ...]]] = defaultdict(dict)
    less: dict[_Shared, dict[AccountId, tuple[str, ...]]] = defaultdict(dict)
    for edge in sorted({edge for edge, _ in wanted.edges.items() ^ found.edges.items()}):
        if dropped & {edge.role, edge.member} or not kept & {edge.role, edge.member}:
            continue
        should, does = wanted.edges.get(edge), found.edges.get(edge)
        inner = any(state.accounts.get(edge.member, _NOBODY).kind == "role" for state in (wanted, found))
        if does is not None and (should is None or (does and not should)):
            less[edge.role, does, inner][edge.member] = reasons.lost(edge)
        if should is not None and (does is None or should != does):
            more[edge.role, should, inner][edge.member] = reasons.edge(edge, wanted.accounts)
    for (role, admin, inner), given in sorted(more.items(), key=lambda item: not item[0][2]):
        for members, why in _in_batches(given):
            yield GrantRole(role=role, members=members, admin=admin, inner=inner, why=why)
    for (role, admin, inner), taken in less.items():
        for members, why in _in_batches(taken):
            yield RevokeRole(role=role, members=members, admin=admin, inner=inner, why=why)


_Shared = tuple[AccountId, bool, bool]
"""What memberships share that are given or taken in one statement: role, admin option, whether of roles."""


def _in_batches(
    members: Mapping[AccountId, tuple[str, ...]],
) -> Iterable[tuple[tuple[AccountId, ...], tuple[str, ...]]]:
    """Divide members of one role into as many as one atomic statement takes, with all their reasons."""
    names = tuple(members)
    for start in range(0, len(names), MEMBERS):
        batch = names[start : start + MEMBERS]
        yield batch, tuple(dict.fromkeys(reason for name in batch for reason in members[name]))


def _default_changes(wanted: MysqlState, found: MysqlState, kept: frozenset[AccountId]) -> Iterable[Change]:
    should: dict[AccountId, list[AccountId]] = defaultdict(list)
    does: dict[AccountId, list[AccountId]] = defaultdict(list)
    changed = {edge for edge, _ in wanted.edges.items() ^ found.edges.items()}
    touched = {edge.member for edge in (wanted.defaults ^ found.defaults) | (found.defaults & changed)}
    for target, state in ((should, wanted), (does, found)):
        for edge in sorted(edge for edge in state.defaults if edge.member in touched):
            target[edge.member].append(edge.role)
    alike: dict[tuple[tuple[AccountId, ...], tuple[AccountId, ...]], list[AccountId]] = defaultdict(list)
    for member in sorted(kept & (should.keys() | does.keys())):
        # Revoking a role also removes it from the defaults, even when it is granted again right after.
        still = [role for role in does[member] if _stays(Edge(role, member), wanted, found)]
        if still != should[member]:
            alike[tuple(does[member]), tuple(should[member])].append(member)
    why = ("the DataJoint client never activates a role itself",)
    for (before, after), members in alike.items():
        for start in range(0, len(members), MEMBERS):
            some = tuple(members[start : start + MEMBERS])
            yield SetDefaultRoles(members=some, found=before, wanted=after, why=why)


def _stays(edge: Edge, wanted: MysqlState, found: MysqlState) -> bool:
    """Tell whether a membership is left alone or only widened, so that its default survives."""
    return edge in wanted.edges and found.edges.get(edge, False) <= wanted.edges[edge]


def _event_changes(project: str, wanted: MysqlState, found: MysqlState) -> Iterable[Change]:
    if found.events is None:
        return
    should = wanted.events or {}
    foreign = {name for name, event in found.events.items() if event.foreign}
    does = {
        name: event
        for name, event in found.events.items()
        if name.startswith(f"{project}:") and name not in foreign
    }
    why = ("a second line, for when nobody runs djops in time",)
    for name, event in sorted(does.items()):
        if name not in should or not should[name].is_shown_as(event):
            yield CancelEvent(name=name, event=event, why=why)
    for name, event in sorted(should.items()):
        if name not in foreign and (name not in does or not event.is_shown_as(does[name])):
            yield ScheduleEvent(name=name, event=event, why=why)


def _losers(changes: Iterable[Change], wanted: MysqlState, found: MysqlState) -> tuple[AccountId, ...]:
    """Return the people and services that lose something, directly or through roles they hold."""
    hit: set[AccountId] = set()
    for change in changes:
        if isinstance(change, DropAccount):
            hit.add(change.name)
        elif isinstance(change, RevokePrivileges | RevokeAll):
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
