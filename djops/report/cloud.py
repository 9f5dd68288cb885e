"""What Pulumi would do, and did, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from djops.plan.cloud import CloudPlan, CloudRow, Fate, StackStep
from djops.report.table import colour, table
from djops.services.cloud import CloudDown, Remaining

_MARKS = {
    Fate.DELETE: ("-", "red"),
    Fate.FORGET: ("x", "yellow"),
    Fate.REPLACE: ("!", "red"),
    Fate.CHANGE: ("~", "yellow"),
    Fate.CREATE: ("+", "green"),
}
_WORDS = {
    Fate.DELETE: "deleted",
    Fate.FORGET: "given up, and left in AWS",
    Fate.REPLACE: "replaced",
    Fate.CHANGE: "changed",
    Fate.CREATE: "created",
    Fate.KEEP: "kept",
}


def plan_text(plan: CloudPlan, *, source: str, full: bool = False, coloured: bool = False) -> str:
    """Return a plan as people read it, with what each row costs a month.

    Args:
        plan: The plan.
        source: Where the prices are from.
        full: Every resource on a row of its own.
        coloured: Whether the terminal takes colours.
    """
    rows = [row for row in plan.rows if row.step.fate is not Fate.KEEP]
    kept = plan.count()[str(Fate.KEEP)]
    if not rows:
        return f"Nothing to do: all {kept} resources are as djops.yaml says. {_costs(plan)} ({source})."
    shown = rows if full else [row for row in rows if _is_telling(row)]
    lines = [
        [
            colour(*_mark(row.step.fate), on=coloured),
            row.step.kind,
            row.step.name,
            _remark(row),
            money(row.usd),
        ]
        for row in shown
    ]
    text = table(["", "what", "name", "", "$ a month"], lines, right=[4])
    others = Counter(row.step.kind for row in rows if row not in shown)
    if others:
        told = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in sorted(others.items()))
        text += f"\n+ and, without a price of their own: {told}"
    return f"{text}\n\n{_summary(plan)}\n{_costs(plan)} (an estimate without use; prices of {source})"


def _is_telling(row: CloudRow) -> bool:
    return row.step.fate is not Fate.CREATE or bool(row.usd)


def _mark(fate: Fate) -> tuple[str, str]:
    return _MARKS[fate]


def _remark(row: CloudRow) -> str:
    words = [_WORDS[row.step.fate]] if row.step.fate is not Fate.CREATE else []
    if row.step.changed:
        words.append(", ".join(row.step.changed))
    if row.loses:
        if row.step.fate is Fate.FORGET:
            return f"{words[0]} with {row.loses}"
        words.append(f"LOSES {row.loses}")
    return ": ".join(words)


def _summary(plan: CloudPlan) -> str:
    counted = plan.count()
    return ", ".join(f"{counted[str(fate)]} {_WORDS[fate]}" for fate in Fate if counted[str(fate)])


def _costs(plan: CloudPlan) -> str:
    difference = f", {money(plan.difference)}" if plan.difference else ""
    given_up = f", and what is given up ${plan.given_up:,.2f}" if plan.given_up else ""
    return f"It costs ${plan.usd:,.2f} a month{difference}{given_up}"


def money(usd: Decimal) -> str:
    """Write a difference in US dollars: ``+53.20``; nothing for none.

    Args:
        usd: The difference.
    """
    return f"{usd:+,.2f}" if usd else ""


def endpoints_text(outputs: Mapping[str, Any], environment: str) -> str:
    """Return where everything is, and what to do next.

    Args:
        outputs: The stack's outputs.
        environment: Name of the environment.
    """
    database, secrets = outputs.get("database") or {}, outputs.get("secrets") or {}
    rows = [["database", f"{database.get('host')}:{database.get('port')}"]]
    rows += [["read replica", str(database["replica"])]] if database.get("replica") else []
    rows += [["secrets", str(secrets.get("address"))]]
    rows += [["bucket", str(name)] for name in outputs.get("buckets") or ()]
    rows += [["gate", str(outputs["gate"])]] if outputs.get("gate") else []
    following = [
        f"djops tunnel --env {environment}     reach the servers from this machine",
        f"djops status --env {environment}     see how they are",
        f"djops drift --env {environment}      see what somebody changed, in AWS or in the rights",
        f"djops cost --env {environment}       see what they cost",
    ]
    return "\n".join([table(["server", "where"], rows), "", "Next:", *(f"  {line}" for line in following)])


def down_text(going: Sequence[str], remaining: Sequence[Remaining]) -> str:
    """Return what would go, and what stays with what it costs.

    Args:
        going: What goes.
        remaining: What stays.
    """
    if not going:
        return "Nothing to remove.\n" + remaining_text(remaining)
    kinds = Counter(label.partition("::")[0].replace(".", " ") for label in going)
    told = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in sorted(kinds.items()))
    return f"{len(going)} resources go: {told}\n\n{remaining_text(remaining)}"


def remaining_text(remaining: Sequence[Remaining]) -> str:
    """Return what stays in AWS, and what it costs.

    Args:
        remaining: What stays.
    """
    if not remaining:
        return "Nothing of it is left in AWS."
    data = [one for one in remaining if one.protected and one.usd]
    rows = [[one.label, one.id, f"{one.usd:,.2f}"] for one in data]
    others = len(remaining) - len(data)
    total = sum((one.usd for one in remaining), Decimal(0))
    text = table(["stays", "in AWS", "$ a month"], rows, right=[2])
    more = f"and {others} more that cost nothing by themselves"
    return f"{text}\n{more}; together ${total:,.2f} a month without use"


def down_data(done: CloudDown) -> dict[str, Any]:
    """Return what became of taking an environment down, for JSON.

    Args:
        done: What was done.
    """
    return {
        "removed": list(done.removed),
        "remaining": remaining_data(done.remaining),
        "usd_per_month": str(done.usd),
        "seconds": round(done.seconds, 2),
    }


def remaining_data(remaining: Iterable[Remaining]) -> list[dict[str, Any]]:
    """Return what stays, for JSON.

    Args:
        remaining: What stays.
    """
    return [
        {"resource": one.label, "id": one.id, "usd_per_month": str(one.usd), "protected": one.protected}
        for one in remaining
    ]


def drift_data(steps: Iterable[StackStep]) -> list[dict[str, Any]]:
    """Return what differs in AWS, for JSON.

    Args:
        steps: The differences.
    """
    return [
        {"resource": one.label, "urn": one.urn, "gone": one.fate is Fate.DELETE, "changed": list(one.changed)}
        for one in steps
    ]


def drift_text(steps: Sequence[StackStep], environment: str) -> str:
    """Return what differs in AWS as people read it.

    Args:
        steps: The differences.
        environment: Name of the environment.
    """
    if not steps:
        return "AWS holds what Pulumi made."
    rows = [
        [one.kind, one.name, "gone" if one.fate is Fate.DELETE else f"changed: {', '.join(one.changed)}"]
        for one in steps
    ]
    mend = f"`djops up --env {environment} --refresh` brings it back"
    return f"{table(['in AWS', 'name', 'what somebody did'], rows)}\n{mend}"
