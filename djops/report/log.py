"""The journal as text and JSON."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from djops.model.journal import Entry
from djops.report.table import printable, table
from djops.services.log import Deed, Recorded, Step, Verified

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
    return {**_entry_data(first), **plan, **steps}


def _entry_data(entry: Entry) -> dict[str, Any]:
    told = {"seq": entry.seq, "at": entry.at, "who": entry.who, "host": entry.host}
    said = {"command": entry.command, "what": entry.change, "reason": entry.reason or None}
    return {**told, "environment": entry.environment, **said}


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


def recorded_data(found: Recorded | None) -> dict[str, Any] | None:
    """Return where the journal is and what it says last, for a ``--json`` answer.

    Args:
        found: The journal; ``None`` when it cannot be read.
    """
    if found is None:
        return None
    open_plan = found.unfinished
    return {
        "where": found.where,
        "rows": found.rows,
        "waiting": found.waiting,
        "last": _entry_data(found.last) if found.last else None,
        "unfinished": _deed_data(open_plan) if open_plan else None,
    }


def recorded_text(found: Recorded | None) -> str:
    """Show where the journal is and what it says last, in a line and one more for what is not finished.

    Args:
        found: The journal; ``None`` when it cannot be read.
    """
    if found is None:
        return "journal: it cannot be read now"
    text = f"journal: {found.where}: {found.rows} row{'s' * (found.rows != 1)}"
    if found.last:
        text += f", the last of {_by_whom(found.last)}"
    lines = [text]
    if deed := found.unfinished:
        ending = _ENDINGS[deed.ended] if deed.ended else "has no end: it is under way, or was cut off"
        counted = Counter(step.outcome for step in deed.steps)
        told = ", ".join(f"{count} {outcome}" for outcome, count in counted.items())
        lines.append(
            f"not finished: {_by_whom(deed.entry)} {ending} ({told}); `djops apply` goes on from there"
        )
    if found.waiting:
        more = "row more waits" if found.waiting == 1 else "rows more wait"
        lines.append(f"{found.waiting} {more} on this machine for the next contact")
    return "\n".join(lines)


def _by_whom(entry: Entry) -> str:
    when = entry.at[:19].replace("T", " ")
    return printable(f"{when} UTC, {entry.command} by {entry.who}@{entry.host}")
