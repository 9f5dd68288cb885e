"""The journal as text and JSON."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from djops.report.table import printable, table
from djops.services.log import Deed, Step, Verified

_ENDINGS = {"": "did not come to its end", "interrupted": "interrupted", "failed": "failed"}


def log_data(deeds: Sequence[Deed]) -> dict[str, Any]:
    """Return what was done for a ``--json`` answer.

    Args:
        deeds: What was done.
    """
    return {"log": [_deed_data(deed) for deed in deeds]}


def _deed_data(deed: Deed) -> dict[str, Any]:
    first = deed.entry
    plan = {"plan": first.plan, "ended": deed.ended or None} if first.run else {}
    steps = {"changes": [_step_data(step) for step in deed.steps]} if first.run else {}
    told = {"seq": first.seq, "at": first.at, "who": first.who, "host": first.host}
    said = {"command": first.command, "what": first.change, "reason": first.reason or None}
    return {**told, "environment": first.environment, **said, **plan, **steps}


def _step_data(step: Step) -> dict[str, Any]:
    return {
        "seq": step.entry.seq,
        "change": step.entry.change,
        "outcome": step.outcome,
        "why": step.why or None,
    }


def log_text(deeds: Sequence[Deed], *, full: bool = False) -> str:
    """Show what was done, the newest last.

    Args:
        deeds: What was done.
        full: Show every change.
    """
    if not deeds:
        return "Nothing is recorded."
    lines = table(("when", "who", "command", "what"), [_row(deed) for deed in deeds]).splitlines()
    shown = [lines[0]]
    for deed, line in zip(deeds, lines[-len(deeds) :], strict=True):
        shown.append(line)
        shown += [f"    {_step(step)}" for step in deed.steps if full]
    return "\n".join(shown)


def _row(deed: Deed) -> tuple[str, ...]:
    first = deed.entry
    when = first.at[:19].replace("T", " ")
    return when, f"{first.who}@{first.host}", first.command, _what(deed)


def _what(deed: Deed) -> str:
    counted = Counter(step.outcome for step in deed.steps)
    parts = [f"{count} {outcome}" for outcome, count in counted.items()]
    parts += [_ENDINGS[deed.ended]] if deed.entry.run and deed.ended in _ENDINGS else []
    text = f"changes: {', '.join(parts)}" if deed.entry.run else deed.entry.change
    return text + (f" ({deed.entry.reason})" if deed.entry.reason else "")


def _step(step: Step) -> str:
    return printable(f"{step.outcome}: {step.entry.change}" + (f": {step.why}" if step.why else ""))


def verified_data(verified: Verified) -> dict[str, Any]:
    """Return whether the journal is whole, for a ``--json`` answer.

    Args:
        verified: What looking at it came to.
    """
    checked = verified.checked
    return {
        "where": verified.where,
        "rows": checked.rows,
        "head": {"seq": checked.head.seq, "hash": checked.head.hash},
        "anchored": checked.anchored if verified.anchors else None,
        "waiting": verified.waiting,
        "faults": [dataclasses.asdict(fault) for fault in checked.faults],
    }


def verified_text(verified: Verified) -> str:
    """Show whether the journal is whole.

    Args:
        verified: What looking at it came to.
    """
    checked = verified.checked
    rows = f"{checked.rows} row{'s' * (checked.rows != 1)}"
    if checked.faults:
        lines = [f"{verified.where}: {rows}, and the chain is broken:"]
        return "\n".join([*lines, *(f"  {fault.text}" for fault in checked.faults)])
    lines = [f"{verified.where}: {rows}, the chain is whole; its end: {checked.head.hash}"]
    later = checked.head.seq - checked.anchored
    if not verified.anchors:
        lines.append(
            "An export shows that nothing in it was changed, not that nothing was taken off its end."
        )
    elif later:
        lines.append(f"The last {later} of them {'is' if later == 1 else 'are'} not noted elsewhere yet.")
    if verified.waiting:
        lines.append(f"{verified.waiting} more wait on this machine for the next contact.")
    return "\n".join(lines)
