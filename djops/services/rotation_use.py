"""Whether somebody still works with credentials that are about to end."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass

from djops.errors import ConflictError
from djops.plan.change import Plan
from djops.plan.rotation import RetireKey
from djops.services import rotation
from djops.services.access import Servers, Wanted
from djops.systems.progress import Progress, Silent

QUIET = dt.timedelta(hours=1)
"""A key that was used more recently counts as in use."""

_PAUSE = 5.0
"""Seconds between two looks, when somebody is waited for."""


@dataclass(frozen=True)
class InUse:
    """Somebody who works with an access key from before.

    Attributes:
        who: The person or service.
        why: What shows it.
    """

    who: str
    why: str


def in_use(servers: Servers, plan: Plan) -> tuple[InUse, ...]:
    """Tell who works with an access key that a plan ends, as far as the servers show it.

    Open sessions outlive their password, and no server tells which password one was opened with; a program
    with a session open was started with some key, though, and may reach for the store with it. AWS tells
    when a key was last used; Ceph does not.

    Args:
        servers: The servers.
        plan: What :func:`djops.services.rotation.finish` returned.

    Raises:
        DjopsError: A server cannot be read.
    """
    busy = rotation.connected(servers, plan)
    found = [InUse(who, "has a database session open") for who in busy]
    now = dt.datetime.now(dt.UTC)
    for change in plan.changes:
        if isinstance(change, RetireKey):
            used = servers.s3.ask("iam", "GetAccessKeyLastUsed", None, AccessKeyId=change.key) or {}
            at = used.get("AccessKeyLastUsed", {}).get("LastUsedDate")
            if at is not None and now - at < QUIET:
                found.append(InUse(change.name, f"used the old access key at {at:%Y-%m-%d %H:%M} UTC"))
    return tuple(found)


def require_unused(servers: Servers, plan: Plan) -> None:
    """Refuse to end credentials that somebody works with.

    Args:
        servers: The servers.
        plan: What :func:`djops.services.rotation.finish` returned.

    Raises:
        ConflictError: ``E_IN_USE`` naming who, and what shows it.
    """
    if found := in_use(servers, plan):
        raise ConflictError(
            f"{told(found)}; a program that was started with the old access key would lose the store",
            code="E_IN_USE",
            hint="start it anew with the new files, or let it end: `--wait 8h` waits, `--force` does not",
        )


def await_unused(
    servers: Servers, wanted: Wanted, names: Sequence[str], seconds: float, progress: Progress | None = None
) -> None:
    """Wait until nobody works with credentials that are to end; no lock is held meanwhile.

    Args:
        servers: The servers.
        wanted: What they should hold.
        names: People and services; all when empty.
        seconds: How long to wait; whoever is at work afterwards is refused by :func:`require_unused`.
        progress: Hears who is waited for.

    Raises:
        DjopsError: As :func:`djops.services.rotation.finish`.
    """
    until = time.monotonic() + seconds
    with (progress or Silent()).step("Waiting for who works with old credentials") as step:
        while found := in_use(servers, rotation.finish(servers, wanted, names)):
            left = until - time.monotonic()
            if left <= 0:
                return
            step.note(told(found))
            time.sleep(min(_PAUSE, left))


def told(found: Sequence[InUse]) -> str:
    """Say who works, and what shows it."""
    return "; ".join(f"{one.who} {one.why}" for one in found)
