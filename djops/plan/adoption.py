"""Taking over what is there already: found states as they are once the first changes are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from djops.compile.mysql_state import AccountId, Edge, Held, MysqlState, Routine
from djops.compile.s3 import IamUser, S3State, iam_path
from djops.plan.change import Change
from djops.plan.mysql_changes import DiscardPassword, RenameAccount, TakeOver
from djops.plan.operations import KeepKey
from djops.plan.s3_changes import ADOPTED_FACT, AdoptUser, DeleteKey, ForgetKeys

_WHY = ("it is to be managed from djops.yaml",)


@dataclass(frozen=True)
class Adoption:
    """Who is to be taken over.

    Attributes:
        accounts: Database accounts as they are called, and as they shall be.
        users: IAM users outside of the project's path, with that path.
    """

    accounts: Mapping[AccountId, AccountId] = field(default_factory=dict)
    users: Mapping[str, tuple[str, IamUser]] = field(default_factory=dict)


def adopt_mysql(adoption: Adoption, wanted: MysqlState, found: MysqlState) -> tuple[MysqlState, list[Change]]:
    """Work out what MySQL holds once accounts are taken over.

    Args:
        adoption: Who.
        wanted: What it should hold; it has all of them.
        found: What it holds.

    Returns:
        What it holds then, and the changes that lead there, which come before all others.
    """
    if not adoption.accounts:
        return found, []
    moved = {old: new for old, new in adoption.accounts.items() if old != new}
    changes: list[Change] = [RenameAccount(name=old, to=new, why=_WHY) for old, new in moved.items()]
    state = _renamed(found, moved)
    accounts = dict(state.accounts)
    for name in adoption.accounts.values():
        should = wanted.accounts[name]
        older = accounts[name].second_password
        changes.append(TakeOver(name=name, account=should, older=older, why=_WHY))
        # Without an older password: the present one is the one to keep.
        accounts[name] = replace(
            accounts[name], project=should.project, kind=should.kind, adopted=True, second_password=False
        )
    return replace(state, accounts=accounts), changes


def _renamed(state: MysqlState, names: Mapping[AccountId, AccountId]) -> MysqlState:
    def new(name: AccountId) -> AccountId:
        return names.get(name, name)

    return replace(
        state,
        accounts={new(name): account for name, account in state.accounts.items()},
        privileges={Held(new(held.grantee), held.scope): p for held, p in state.privileges.items()},
        edges={Edge(new(edge.role), new(edge.member)): admin for edge, admin in state.edges.items()},
        defaults=frozenset(Edge(new(edge.role), new(edge.member)) for edge in state.defaults),
        routines={Routine(new(one.grantee), *one[1:]): names for one, names in state.routines.items()},
    )


def adopt_s3(
    project: str, adoption: Adoption, found: S3State, keeps: Mapping[str, KeepKey]
) -> tuple[S3State, list[Change]]:
    """Work out what the object store holds once users are taken over.

    Args:
        project: The project, below whose path they come.
        adoption: Who.
        found: What it holds.
        keeps: Where each one's key is to be kept.

    Returns:
        What it holds then, and the changes that lead there, which come before all others.
    """
    changes: list[Change] = [
        AdoptUser(name=name, path=path, to=iam_path(project), user=user, keep=keeps[name], why=_WHY)
        for name, (path, user) in adoption.users.items()
    ]
    users = {**found.users, **{name: user for name, (_, user) in adoption.users.items()}}
    return replace(found, users=users), changes


def with_adopted_keys(
    adoption: Adoption, facts: Mapping[str, Mapping[str, str]]
) -> Mapping[str, Mapping[str, str]]:
    """Add the keys that hold for the time being to what is recorded beside the secrets.

    Args:
        adoption: Who is taken over.
        facts: What is recorded, by principal.
    """
    added = {
        name: {**facts.get(name, {}), ADOPTED_FACT: ",".join(sorted(user.keys))}
        for name, (_, user) in adoption.users.items()
    }
    return {**facts, **added}


def finish(
    accounts: Iterable[AccountId],
    keys: Mapping[str, tuple[str, ...]],
    keeps: Mapping[str, KeepKey],
) -> list[Change]:
    """List what ends the old credentials of people who were taken over.

    Args:
        accounts: Their accounts.
        keys: The ids of the keys that they had before.
        keeps: Where each one's new key is kept.

    Returns:
        The changes, unordered.
    """
    why = ("the new credentials were handed out",)
    changes: list[Change] = [DiscardPassword(name=name, why=why) for name in accounts]
    for name, old in keys.items():
        changes += [DeleteKey(name=name, key=key, keep=keeps[name], why=why) for key in old]
        changes.append(ForgetKeys(name=name, keys=old, keep=keeps[name], why=why))
    return changes
