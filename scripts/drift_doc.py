"""Writes the table of all kinds of drift into docs/drift.md.

Usage: ``.venv/bin/python scripts/drift_doc.py``

Only the part between ``<!-- kinds -->`` and ``<!-- end -->`` is written.
"""

from __future__ import annotations

import re
from pathlib import Path

from djops.plan.drift_kinds import MEANINGS, REMEDIES, DriftKind

DOCUMENT = Path(__file__).parent.parent / "docs" / "drift.md"
PART = re.compile(r"<!-- kinds -->\n.*?<!-- end -->\n", re.DOTALL)


def render(page: str) -> str:
    """Return the page with its table as the program knows it.

    Args:
        page: The page so far.
    """
    rows = [f"| {kind} | {MEANINGS[kind]} | {REMEDIES[kind]} |" for kind in DriftKind]
    lines = ["| Kind | What it means | What mends it |", "| --- | --- | --- |", *rows]
    table = "\n".join(["<!-- kinds -->", *lines, "<!-- end -->", ""])
    found, count = PART.subn(lambda _: table, page)
    if count != 1:
        raise ValueError(f"{count} places for the table in {DOCUMENT.name}, not one")
    return found


if __name__ == "__main__":
    DOCUMENT.write_text(render(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
