"""What `djops cloud check` found, as text."""

from __future__ import annotations

from djops.report.table import colour, table
from djops.services.cloud_check import NOT_ASKED, CloudCheck, State

_COLOURS = {State.OK: "green", State.WRONG: "red", State.UNKNOWN: "yellow"}


def check_text(found: CloudCheck, *, coloured: bool = False) -> str:
    """Lay out what was found: a table, then what to do, then what was not asked.

    Args:
        found: What was found.
        coloured: Whether the text may carry colours.
    """
    rows = [(one.what, one.state.value, one.found) for one in found.rows]
    lines = [table(("what", "", "found"), rows)]
    for state in (State.WRONG, State.UNKNOWN, State.OK):
        fixes = [one for one in found.rows if one.fix and one.state is state]
        lines += [f"{colour(one.what, _COLOURS[state], on=coloured)}\n  -> {one.fix}" for one in fixes]
    wrong = sum(one.state is State.WRONG for one in found.rows)
    verdict = f"{wrong} of {len(found.rows)} wrong" if wrong else "nothing stands in the way"
    lines += [
        "",
        f"{found.environment} in {found.region}: {verdict}.",
        f"{NOT_ASKED[:1].upper()}{NOT_ASKED[1:]}.",
    ]
    return "\n".join(lines)
