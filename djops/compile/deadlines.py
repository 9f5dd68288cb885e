"""Ends of grants as MySQL events: a second line, for when nobody runs djops after a grant is over."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Mapping

from djops.compile.mysql import plain_level, role_name
from djops.compile.mysql_state import AccountId, Event
from djops.compile.rights import Right, Rights
from djops.compile.sql import quote_account
from djops.model.project import Project

_Ends = tuple[dt.date | None, ...]


def compile_deadlines(project: Project, rights: Rights, host: str) -> Mapping[str, Event]:
    """Compile the ends of all grants in force to events.

    Args:
        project: The project, for the ends.
        rights: The rights in force.
        host: Host part of people's and services' accounts.

    Returns:
        One event for each account and day, by name. It revokes the roles that nothing gives any longer
        after that day; where another grant gives less from then on, that is left to the next apply.
    """
    ends = {entry: grant.until for name in project.principals for entry, grant in project.grants_of(name)}
    if not any(ends.values()):
        return {}
    roles: dict[tuple[str, dt.date], set[str]] = {}
    for principal, role, last in _last_days(rights, ends):
        roles.setdefault((principal, last), set()).add(role)
    events: dict[str, Event] = {}
    for (principal, last), names in roles.items():
        member, taken = AccountId(principal, host), [AccountId(name) for name in sorted(names)]
        event = _event(member, taken, last)
        digest = hashlib.sha256(event.body.encode()).hexdigest()[:12]
        events[f"{project.project}:{last}:{digest}"] = event
    return events


def _event(member: AccountId, roles: Iterable[AccountId], last: dt.date) -> Event:
    names = tuple(roles)
    listed = ", ".join(quote_account(*role) for role in names)
    # It must not fail for good because one of the roles is gone already.
    body = f"REVOKE IF EXISTS {listed} FROM {quote_account(*member)} IGNORE UNKNOWN USER"
    about = f"{member} loses {', '.join(map(str, names))} after {last}"
    return Event(f"{last + dt.timedelta(days=1)} 00:00:00", body, about=about)


def _last_days(rights: Rights, ends: Mapping[str, dt.date | None]) -> Iterator[tuple[str, str, dt.date]]:
    """Yield for each membership that ends its principal, MySQL role and last day."""
    given: dict[tuple[str, str], list[dt.date | None]] = {}
    for right in rights.rights:
        if right.because.relation == "target":
            role = role_name(right.schema, right.because.role)
            given.setdefault((right.principal, role), []).append(ends[right.because.entry])
    for (principal, role), days in given.items():
        last = _latest(days)
        if last is not None:
            yield principal, role, last
    for (principal, schema), below in rights.downstream.items():
        last = _first_change(below, ends)
        if last is not None:
            yield principal, role_name(schema, plain_level(right.capability for right in below)), last


def _latest(days: Iterable[dt.date | None]) -> dt.date | None:
    """Return the last of several days; ``None`` stands for no end."""
    known = tuple(days)
    return None if None in known else max(day for day in known if day is not None)


def _first_change(below: Iterable[Right], ends: Mapping[str, dt.date | None]) -> dt.date | None:
    """Return the day after which a downstream role gives more than is left: one capability has ended."""
    given: dict[str, list[dt.date | None]] = {}
    for right in below:
        given.setdefault(right.capability, []).append(ends[right.because.entry])
    days = [last for last in map(_latest, given.values()) if last is not None]
    return min(days, default=None)
