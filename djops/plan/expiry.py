"""What grants that are over leave behind: the changes that take it away, and nothing else.

Two compilations are compared: one in which no grant ever ends, and one as of today. What only the first has
is what expiry takes. Whatever else differs between servers and project file stays as it is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from djops.compile.mysql_state import Account, AccountId, Edge, MysqlState
from djops.compile.packing import atoms, size
from djops.compile.s3 import POLICY_NAME, Document, IamUser, S3State
from djops.plan.change import Change, Risk
from djops.plan.mysql import Reasons, diff_mysql
from djops.plan.mysql_changes import (
    AlterAccount,
    CancelEvent,
    DropAccount,
    EndSessions,
    RevokeRole,
    SetDefaultRoles,
)
from djops.plan.s3_changes import PutPolicy, canonical, policy_risk, taken_out
from djops.plan.s3_managed import narrow_managed

_OF_EXPIRY = (AlterAccount, DropAccount, EndSessions, RevokeRole, SetDefaultRoles)


@dataclass(frozen=True)
class Ended:
    """What only grants that are over would give.

    Attributes:
        roles: MySQL roles that nobody needs any more.
        edges: Memberships in MySQL roles.
        limits: Accounts with fewer connections than before: the number before, and after.
        policies: What the policies of IAM users say together: with what ended, and without.
        why: For each principal its lines of the project file that are over.
    """

    roles: frozenset[AccountId] = frozenset()
    edges: frozenset[Edge] = frozenset()
    limits: Mapping[AccountId, tuple[int, int]] = field(default_factory=dict)
    policies: Mapping[str, tuple[Document, Document]] = field(default_factory=dict)
    why: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def reasons(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """The reasons for each lost membership, as :class:`Reasons` takes them."""
        return {(edge.role.user, edge.member.user): self.why.get(edge.member.user, ()) for edge in self.edges}


def what_ended(
    always: tuple[MysqlState, S3State], today: tuple[MysqlState, S3State], why: Mapping[str, tuple[str, ...]]
) -> Ended:
    """Compare what would be wanted if no grant ever ended with what is wanted today.

    Args:
        always: The first.
        today: The second.
        why: For each principal its lines of the project file that are over.

    Returns:
        What the first has and the second has not.
    """
    (mysql, s3), (mysql_now, s3_now) = always, today
    return Ended(
        roles=frozenset(mysql.accounts.keys() - mysql_now.accounts.keys()),
        edges=frozenset(mysql.edges.keys() - mysql_now.edges.keys()),
        limits={
            name: (account.connections, mysql_now.accounts[name].connections)
            for name, account in mysql.accounts.items()
            if name in mysql_now.accounts and account.connections != mysql_now.accounts[name].connections
        },
        policies={
            name: (before, after)
            for name in s3.users
            if atoms(before := s3.opens(name), "Allow") - atoms(after := s3_now.opens(name), "Allow")
        },
        why=why,
    )


def expire_mysql(
    project: str, ended: Ended, found: MysqlState, secret_of: Mapping[str, str], today: dt.date
) -> list[Change]:
    """List what takes away in MySQL what ended.

    Args:
        project: Whose accounts are managed.
        ended: What ended.
        found: What the server holds.
        secret_of: Where each account's credentials are kept.
        today: The day; events that should have done the same by then are of no use any more.

    Returns:
        Changes that narrow, and such events, unordered.
    """
    kept = {
        name: _limited(name, found.accounts[name], ended)
        for name in found.managed(project)
        if name not in ended.roles
    }
    target = MysqlState(
        kept,
        {held: names for held, names in found.privileges.items() if held.grantee in kept},
        {edge: admin for edge, admin in found.edges.items() if _stays(edge, ended)},
        frozenset(edge for edge in found.defaults if _stays(edge, ended)),
        events={},
    )
    reasons = Reasons(secret_of=secret_of, ended=ended.reasons)
    changes = diff_mysql(project, target, found, reasons, lambda _: True, lambda _: True)
    return [change for change in changes if _is_of_expiry(change, today)]


def _is_of_expiry(change: Change, today: dt.date) -> bool:
    if isinstance(change, CancelEvent):
        return change.event.at <= f"{today} 00:00:00"
    return isinstance(change, _OF_EXPIRY) and change.risk is not Risk.WIDENS


def _stays(edge: Edge, ended: Ended) -> bool:
    return edge not in ended.edges and not {edge.role, edge.member} & ended.roles


def _limited(name: AccountId, account: Account, ended: Ended) -> Account:
    before, after = ended.limits.get(name, (account.connections, account.connections))
    return replace(account, connections=after) if account.connections == before else account


def expire_s3(ended: Ended, found: S3State) -> list[Change]:
    """List what takes away in the object store what ended.

    Args:
        ended: What ended.
        found: What the server holds.

    Returns:
        Changes that narrow, unordered.
    """
    changes: list[Change] = []
    for name, (before, after) in ended.policies.items():
        why, user = ended.why.get(name, ()), found.users.get(name, IamUser())
        there = user.policies.get(POLICY_NAME)
        if there is not None:
            # Somebody may have taken more away by hand: that does not come back here.
            only_less = policy_risk(there, after) is Risk.NARROWS and size(after) <= size(there)
            wanted = after if only_less else taken_out(there, before, after)
            if canonical(wanted) != canonical(there):
                changes.append(PutPolicy(name=name, policy=POLICY_NAME, found=there, wanted=wanted, why=why))
        changes += narrow_managed(name, user, found, (before, after), why)
    return changes
