"""Drift as text and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from djops.plan.drift_kinds import MEANINGS, Drift
from djops.report.changes import TITLES
from djops.report.table import colour, table


def drift_data(drift: Sequence[Drift]) -> list[Mapping[str, Any]]:
    """Return drift for JSON.

    Args:
        drift: What was found.
    """
    return [
        {
            "kind": str(one.kind),
            "meaning": MEANINGS[one.kind],
            "system": one.system,
            "object": one.object,
            "found": list(one.found),
            "changes": [change.as_data() for change in one.changes],
            "remedy": one.remedy or None,
        }
        for one in drift
    ]


def drift_text(drift: Sequence[Drift], *, coloured: bool = False) -> str:
    """Return drift as people read it: by system, each with what mends it; then what the kinds mean.

    Args:
        drift: What was found.
        coloured: Whether the terminal takes colours.
    """
    if not drift:
        return "No drift: the servers hold what djops.yaml says, and nothing beside it."
    lines: list[str] = []
    for system, title in TITLES.items():
        here = [one for one in drift if one.system == system]
        if here:
            rows = [(one.kind, one.object, "; ".join(one.found), one.mended_by) for one in here]
            lines += [title, table(("drift", "of", "found", "mended by"), rows), ""]
    kinds = Counter(one.kind for one in drift)
    meanings = table((), [(f"{kind}:", MEANINGS[kind]) for kind in kinds])
    count = f"{len(drift)} {'thing is' if len(drift) == 1 else 'things are'} not as djops.yaml says."
    return "\n".join([*lines, colour(meanings, "dim", on=coloured), "", count])
