"""Renewing credentials in two halves: for a while old and new ones hold, then only the new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from djops.compile.mysql_state import AccountId
from djops.compile.vault import secret_path
from djops.errors import ConflictError, UsageError
from djops.model.nearest import advice
from djops.plan.change import Change, Plan, in_order
from djops.plan.operations import KeepKey
from djops.plan.rotation import (
    UNTIL_FACT,
    FinishRotation,
    RetireKey,
    RotateKey,
    RotatePassword,
    rotated_key,
)
from djops.plan.s3_changes import KEY_FACT
from djops.services import access, machines
from djops.services.access import Servers, Standing, Wanted


@dataclass(frozen=True)
class Under:
    """Whose credentials are being renewed.

    Attributes:
        who: The person or service.
        password: Whether its password from before holds as well.
        key: Id of its access key from before, empty when there is none.
        until: Day from which on a plan ends both; empty when only ``--finish`` does.
    """

    who: str
    password: bool
    key: str
    until: str = ""


def begin(servers: Servers, wanted: Wanted, names: Sequence[str], until: str = "") -> Plan:
    """Plan new credentials for people and services, beside those they have.

    Who runs something goes on with the old ones, whoever asks for credentials gets the new ones. A name
    whose renewal was begun already is left out.

    Args:
        servers: The servers; the caller holds :meth:`Servers.changing` until the plan is carried out.
        wanted: What they should hold.
        names: People and services; all when empty.
        until: Day from which on a plan ends the old ones; when empty, only :func:`finish` does.

    Returns:
        The plan, for :func:`djops.services.access.apply`.

    Raises:
        UsageError: ``E_UNKNOWN_PRINCIPAL`` for a name that the project file does not have.
        ConflictError: ``E_ROTATION`` when somebody's credentials are not as they should be.
        DjopsError: The servers cannot be read.
    """
    standing, chosen = _stand(servers, wanted, names)
    found, why = standing.found, ("its credentials are renewed",)
    changes: list[Change] = []
    for who in chosen:
        account, path, facts = _of(servers, wanted, standing, who)
        there = found.mysql.accounts[account]
        if there.engine:
            changes += machines.renew(wanted.project, who, why)
        elif not there.rotating:
            changes.append(RotatePassword(name=account, account=there, secret=path, until=until, why=why))
        key = facts.get(KEY_FACT, "")
        if wanted.project.stores and key and not rotated_key(facts):
            keep = KeepKey(path, tuple(sorted(wanted.project.stores)))
            changes.append(RotateKey(name=who, key=key, keep=keep, until=until, why=why))
    return Plan(in_order(changes))


def finish(servers: Servers, wanted: Wanted, names: Sequence[str]) -> Plan:
    """Plan the end of the credentials from before.

    Args:
        servers: The servers; the caller holds :meth:`Servers.changing` until the plan is carried out.
        wanted: What they should hold.
        names: People and services; all when empty.

    Returns:
        The plan, for :func:`djops.services.access.apply`; empty when nothing was being renewed.

    Raises:
        UsageError: ``E_UNKNOWN_PRINCIPAL`` for a name that the project file does not have.
        ConflictError: ``E_ROTATION`` when somebody's credentials are not as they should be.
        DjopsError: The servers cannot be read.
    """
    standing, chosen = _stand(servers, wanted, names)
    why = ("its renewal is finished",)
    changes: list[Change] = []
    for who in chosen:
        account, path, facts = _of(servers, wanted, standing, who)
        if standing.found.mysql.accounts[account].rotating:
            changes.append(FinishRotation(name=account, why=why))
        key = rotated_key(facts)
        if key:
            keep = KeepKey(path, tuple(sorted(wanted.project.stores)))
            changes.append(RetireKey(name=who, key=key, keep=keep, why=why))
    return Plan(in_order(changes))


def connected(servers: Servers, plan: Plan) -> tuple[str, ...]:
    """Name those who are at work while a plan ends their access key from before.

    Args:
        servers: The servers.
        plan: What :func:`finish` returned.

    Raises:
        DjopsError: The database cannot be read.
    """
    names = {change.name for change in plan.changes if isinstance(change, RetireKey)}
    found = servers.mysql.connected([AccountId(name) for name in names])
    return tuple(sorted({account.user for account in found}))


def under_way(servers: Servers, wanted: Wanted) -> tuple[Under, ...]:
    """Tell whose credentials are being renewed.

    Args:
        servers: The servers.
        wanted: What they should hold.

    Raises:
        DjopsError: The servers cannot be read.
    """
    standing = access.stand(servers, wanted)
    found = []
    for who in wanted.project.principals:
        account, _, facts = _of(servers, wanted, standing, who)
        there = standing.found.mysql.accounts.get(account)
        password, key = there is not None and there.rotating, rotated_key(facts)
        if password or key:
            found.append(Under(who, password, key, facts.get(UNTIL_FACT, "")))
    return tuple(found)


def _stand(servers: Servers, wanted: Wanted, names: Sequence[str]) -> tuple[Standing, tuple[str, ...]]:
    project = wanted.project
    for name in names:
        if name not in project.principals:
            raise UsageError(
                f"the project has no person or service {name!r}",
                code="E_UNKNOWN_PRINCIPAL",
                hint=advice(name, project.principals, what="people or services"),
            )
    chosen = tuple(names) or tuple(project.principals)
    standing = access.stand(servers, wanted)
    open_for = _not_settled(servers, wanted, standing)
    unsettled = [name for name in chosen if name in open_for]
    if unsettled:
        raise ConflictError(
            f"the credentials of {', '.join(unsettled)} are not as they should be yet",
            code="E_ROTATION",
            hint="bring them there first: `djops apply`, or `djops adopt --finish` for accounts taken over",
        )
    return standing, chosen


def _not_settled(servers: Servers, wanted: Wanted, standing: Standing) -> frozenset[str]:
    """Name whose account, password or key is missing, unknown or somebody else's."""
    found = set()
    plan = access.plan_of(servers, wanted, standing)
    kinds = {
        "CreateAccount",
        "EntrustPassword",
        "SetPassword",
        "HandOutPassword",
        "DiscardPassword",
        "CreateKey",
        "DeleteKey",
    }
    for change in plan.changes:
        if type(change).__name__ in kinds:
            name = getattr(change, "name")  # noqa: B009  each of these kinds has one
            found.add(name.user if isinstance(name, AccountId) else str(name))
    adopted = {account.user for account, held in standing.found.mysql.accounts.items() if held.adopted}
    return frozenset(found | adopted)


def _of(
    servers: Servers, wanted: Wanted, standing: Standing, who: str
) -> tuple[AccountId, str, dict[str, str]]:
    """Return a principal's account, where its secret is, and what is recorded beside it."""
    project = wanted.project
    path = secret_path(project, who)
    host = project.environments[servers.site.environment].host_pattern
    return AccountId(who, host), path, dict(standing.found.secrets.secrets.get(path, {}))
