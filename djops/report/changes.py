"""Plans as text: what changes on each system, and why."""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby
from typing import Any

from djops.compile.mysql_state import AccountId
from djops.plan.change import Change, Plan, Risk, System
from djops.plan.mysql_changes import (
    CreateRole,
    DropAccount,
    GrantPrivileges,
    GrantRole,
    RevokePrivileges,
    RevokeRole,
    SetDefaultRoles,
)
from djops.plan.operations import Operation, Sql
from djops.report.table import colour, printable, table

TITLES: Mapping[System, str] = {"mysql": "Database", "s3": "Object store", "secrets": "Secrets"}

_MARKS = {
    Risk.NARROWS: ("-", "yellow"),
    Risk.KEEPS: (".", "dim"),
    Risk.WIDENS: ("+", "green"),
    Risk.DESTROYS: ("!", "red"),
}


def plan_data(plan: Plan) -> dict[str, Any]:
    """Return a plan for JSON.

    Args:
        plan: The plan.

    Returns:
        ``changes``, a ``summary`` that counts them by risk, and ``unmanaged`` accounts.
    """
    counted = Counter(str(change.risk) for change in plan.changes)
    return {
        "changes": [change.as_data() for change in plan.changes],
        "summary": {str(risk): counted.get(str(risk), 0) for risk in Risk},
        "unmanaged": list(plan.unmanaged),
    }


def plan_text(plan: Plan, *, full: bool = False, coloured: bool = False) -> str:
    """Return a plan as people read it: by system, narrowing first, each line with its reason.

    However many changes there are, the text stays readable: what is alike shares a line and is counted.

    Args:
        plan: The plan.
        full: Every change on a line of its own, with all names.
        coloured: Whether the terminal takes colours.

    Returns:
        The text, ending with a line that counts.
    """
    if plan.is_empty:
        return "\n".join(["The servers hold what djops.yaml says.", *unmanaged(plan, full=full)])
    lines: list[str] = []
    shown = 0
    for system, title in TITLES.items():
        changes = [change for change in plan.changes if change.system == system]
        if changes:
            bundles = [[change] for change in changes] if full else _bundles(changes)
            shown += len(bundles)
            lines += [title, _rows(bundles, full=full, coloured=coloured), ""]
    count = summary(plan.changes)
    if shown < len(plan.changes) // 2:
        count += f" {shown} lines stand for them; `djops plan --full` and --json show every one."
    return "\n".join([*lines, count, *unmanaged(plan, full=full)])


def summary(changes: Sequence[Change]) -> str:
    """Return one line that counts changes by what they do to access."""
    counted = Counter(change.risk for change in changes)
    words = {
        Risk.NARROWS: "narrow access",
        Risk.WIDENS: "widen it",
        Risk.DESTROYS: "destroy something",
        Risk.KEEPS: "open nothing",
    }
    parts = [f"{counted[risk]} {text}" for risk, text in words.items() if counted[risk]]
    noun = "change" if len(changes) == 1 else "changes"
    return f"{len(changes)} {noun}: {', '.join(parts)}."


def unmanaged(plan: Plan, *, full: bool = False) -> list[str]:
    """Return a line about accounts that djops did not make, if there are any.

    Args:
        plan: The plan.
        full: Whether all of them are named.
    """
    if not plan.unmanaged:
        return []
    names = [printable(name) for name in plan.unmanaged]
    return [f"Left alone, not made by djops: {', '.join(names) if full else _some(names, _NAMED)}."]


_LINES = 40
"""Lines of one system above which changes of one kind share a line."""

_ALIKE = 5
"""Changes of one kind above which they do."""

_NAMED = 12
"""Names that are told one by one; of more than these, the first few are."""


def _some(names: Sequence[str], most: int, first: int = 3) -> str:
    """Join names; of many, the first few and how many more there are."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:first])} and {len(names) - first:,} more"


def _bundles(changes: Sequence[Change]) -> list[list[Change]]:
    """Put changes together that share a line: a role's privileges, and what is alike where there is much."""
    bundles: list[list[Change]] = []
    for key, group in groupby(changes, key=_bundle):
        bundle = list(group)
        bundles += [[change] for change in bundle] if key is None else [bundle]
    if len(bundles) <= _LINES:
        return bundles
    alike: dict[tuple[object, ...], list[list[Change]]] = {}
    for bundle in bundles:
        first = bundle[0]
        alike.setdefault((type(first), first.risk, _bundle(first) is None), []).append(bundle)
    folded = [[list(chain(*group))] if len(group) > _ALIKE else group for group in alike.values()]
    return [bundle for group in folded for bundle in group]


def _rows(bundles: Sequence[Sequence[Change]], *, full: bool, coloured: bool) -> str:
    marks = [_MARKS[bundle[0].risk] for bundle in bundles]
    rows = [
        ("", mark[0], _text(bundle, full=full), _reason(bundle, full=full))
        for mark, bundle in zip(marks, bundles, strict=True)
    ]
    lines = table((), rows).split("\n")
    return "\n".join(colour(line, mark[1], on=coloured) for line, mark in zip(lines, marks, strict=True))


def _text(bundle: Sequence[Change], *, full: bool) -> str:
    if len(bundle) > 1:
        return _bundled(bundle)
    (change,) = bundle
    members = [str(member) for member in getattr(change, "members", ())]
    text = change.describe()
    # Only what is shown is shortened: a change itself always tells everything.
    return text if full else text.replace(", ".join(members), _some(members, _NAMED), 1)


def _bundle(change: Change) -> tuple[type[Change], AccountId | None] | None:
    """Tell which changes may share a line: one grantee's privileges, and what only concerns roles."""
    match change:
        case GrantPrivileges() | RevokePrivileges():
            return type(change), change.grantee
        case CreateRole() | GrantRole(inner=True) | RevokeRole(inner=True):
            return type(change), None
        case DropAccount(account=account) if account.kind == "role":
            return type(change), None
    return None


def _bundled(changes: Sequence[Change]) -> str:
    """Describe changes that share a line."""
    first, count = changes[0], f"{len(changes):,}"
    match first:
        case GrantPrivileges() | RevokePrivileges():
            found = [change for change in changes if isinstance(change, GrantPrivileges | RevokePrivileges)]
            names = ", ".join(sorted({name for change in found for name in change.privileges}))
            lost = "no longer " if isinstance(first, RevokePrivileges) else ""
            grantees = list(dict.fromkeys(str(change.grantee) for change in found))
            return f"{_some(grantees, 1)}: {lost}{names} on {count} schemas or tables"
        case GrantRole() | RevokeRole():
            return _memberships(changes)
        case SetDefaultRoles():
            defaults = [change for change in changes if isinstance(change, SetDefaultRoles)]
            members = list(dict.fromkeys(str(member) for change in defaults for member in change.members))
            return f"roles active at log-in of {_some(members, 1)}"
        case DropAccount(account=account) if account.kind == "role":
            return f"{count} roles: dropped"
        case CreateRole():
            return f"{count} roles: created"
    objects = list(dict.fromkeys(change.object for change in changes))
    common = os.path.commonprefix(objects).rpartition(" ")[0]  # noqa: RUF071  they are no paths
    short = [text[len(common) :].strip() for text in objects]
    becomes = {change.after or "removed" for change in changes}
    after = f": {becomes.pop()}" if len(becomes) == 1 else ""
    return f"{count} x {common}{' ' * bool(common)}{_some(short, 1)}{after}"


def _memberships(changes: Sequence[Change]) -> str:
    found = [change for change in changes if isinstance(change, GrantRole | RevokeRole)]
    count = f"{sum(len(change.members) for change in found):,}"
    gone = isinstance(changes[0], RevokeRole)
    if all(change.inner for change in found):
        told = "that no longer include others" if gone else "that include others"
        return f"roles {told}: {count} memberships"
    members = list(dict.fromkeys(str(member) for change in found for member in change.members))
    roles = len({change.role for change in found})
    return f"{_some(members, 1)}: {'no longer ' * gone}in {roles:,} roles, {count} memberships"


def _reason(changes: Sequence[Change], *, full: bool) -> str:
    """Return the reason of changes that share a line, when they share that too."""
    reasons = list(dict.fromkeys(reason for change in changes for reason in change.why))
    if len(changes) == 1:
        return "; ".join(reasons) if full or len(reasons) <= _NAMED else _some(reasons, 1, 1)
    if len({change.why for change in changes}) == 1:
        return "; ".join(reasons)
    if all(_bundle(change) is not None for change in changes):
        return "so that people hold roles only"
    return _some(reasons, 1, 1)


def plan_sql(plan: Plan) -> str:
    """Return everything that would be sent, for reading or for running the SQL by hand.

    Args:
        plan: The plan.

    Returns:
        SQL with reasons as comments; what goes to the other systems stands in comments too. Passwords
        stand as the place where they are kept.
    """
    lines: list[str] = []
    for change in plan.changes:
        lines.append(
            f"-- {change.system}: {printable(change.describe())} ({printable('; '.join(change.why))})"
        )
        lines += _statements(change.operations())
    return "\n".join(lines)


def _statements(operations: Iterable[Operation]) -> Iterable[str]:
    for operation in operations:
        yield f"{operation};" if isinstance(operation, Sql) else f"-- {printable(str(operation))}"
