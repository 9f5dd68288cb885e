"""Plans as text: what changes on each system, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
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

    Args:
        plan: The plan.
        full: Every privilege on a line of its own; otherwise those of one role are put together.
        coloured: Whether the terminal takes colours.

    Returns:
        The text, ending with a line that counts.
    """
    if plan.is_empty:
        return "\n".join(["The servers hold what djops.yaml says.", *unmanaged(plan)])
    lines: list[str] = []
    for system, title in TITLES.items():
        changes = [change for change in plan.changes if change.system == system]
        if changes:
            lines += [title, _rows(changes, full=full, coloured=coloured), ""]
    return "\n".join([*lines, summary(plan.changes), *unmanaged(plan)])


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


def unmanaged(plan: Plan) -> list[str]:
    """Return a line about accounts that djops did not make, if there are any.

    Args:
        plan: The plan.
    """
    if not plan.unmanaged:
        return []
    return [f"Left alone, not made by djops: {', '.join(printable(name) for name in plan.unmanaged)}."]


def _rows(changes: Sequence[Change], *, full: bool, coloured: bool) -> str:
    bundles: list[list[Change]] = []
    for key, group in groupby(changes, key=_bundle):
        bundle = list(group)
        bundles += [[change] for change in bundle] if full or key is None else [bundle]
    marks = [_MARKS[bundle[0].risk] for bundle in bundles]
    texts = [bundle[0].describe() if len(bundle) == 1 else _bundled(bundle) for bundle in bundles]
    rows = [("", m[0], text, _reason(bundle)) for m, text, bundle in zip(marks, texts, bundles, strict=True)]
    lines = table((), rows).split("\n")
    return "\n".join(colour(line, mark[1], on=coloured) for line, mark in zip(lines, marks, strict=True))


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
    first, count = changes[0], len(changes)
    match first:
        case GrantPrivileges() | RevokePrivileges():
            names = {
                n for c in changes if isinstance(c, GrantPrivileges | RevokePrivileges) for n in c.privileges
            }
            lost = "no longer " if isinstance(first, RevokePrivileges) else ""
            return f"{first.grantee}: {lost}{', '.join(sorted(names))} on {count} schemas or tables"
        case GrantRole():
            return f"roles that include others: {count} memberships"
        case RevokeRole():
            return f"roles that no longer include others: {count} memberships"
        case DropAccount():
            return f"{count} roles: dropped"
    return f"{count} roles: created"


def _reason(changes: Sequence[Change]) -> str:
    """Return the reason of changes that share a line, when they share that too."""
    reasons = {change.why for change in changes}
    return "; ".join(changes[0].why) if len(reasons) == 1 else "so that people hold roles only"


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
