"""Bringing the secrets server and the servers together, and nothing else: what a plan has about secrets."""

from __future__ import annotations

from dataclasses import dataclass

from djops.plan.change import Change, Plan
from djops.plan.mysql_changes import DiscardPassword, EntrustPassword, SetPassword
from djops.plan.rotation import FinishRotation, RetireKey
from djops.plan.s3_changes import CreateKey, CreatePrincipal, DeleteKey
from djops.plan.vault import ConnectDatabase, ForgetSecret, WritePolicy, WriteSettings
from djops.services import access
from djops.services.access import Servers, Wanted

_ABOUT_SECRETS = (
    SetPassword,
    DiscardPassword,
    FinishRotation,
    CreateKey,
    DeleteKey,
    RetireKey,
    WritePolicy,
    ForgetSecret,
    EntrustPassword,
    ConnectDatabase,
    WriteSettings,
)


@dataclass(frozen=True)
class Sync:
    """What is to be done about secrets.

    Attributes:
        plan: The changes, for :func:`djops.services.access.apply`.
        left: How many other changes a whole plan has.
    """

    plan: Plan
    left: int


def make_plan(servers: Servers, wanted: Wanted) -> Sync:
    """List what differs about secrets: passwords, access keys, and the secrets server's policies.

    Accounts and users that are not there at all are an apply's to make, with their secrets.

    Args:
        servers: The servers.
        wanted: What they should hold.

    Returns:
        What is to be done.

    Raises:
        DjopsError: A server cannot be read.
    """
    whole = access.make_plan(servers, wanted)
    made = {change.name for change in whole.changes if isinstance(change, CreatePrincipal)}
    chosen = tuple(change for change in whole.changes if _is_about_secrets(change, made))
    return Sync(Plan(chosen), len(whole.changes) - len(chosen))


def _is_about_secrets(change: Change, made: set[str]) -> bool:
    # A key cannot come before its user.
    early = isinstance(change, CreateKey) and change.name in made
    return isinstance(change, _ABOUT_SECRETS) and not early
