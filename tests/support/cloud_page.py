"""What docs/cloud.md shows, compared with what comes out, or written anew when its script asks."""

from __future__ import annotations

import os

from scripts.cloud_doc import DOCUMENT, WRITE, replaced, settled, shown

SEEN: set[str] = set()
"""Names of the parts that were compared in this run."""


def shows(name: str, text: str) -> None:
    """See that the page shows an answer.

    Args:
        name: The name of the page's part.
        text: The answer.
    """
    SEEN.add(name)
    page = DOCUMENT.read_text(encoding="utf-8")
    if WRITE in os.environ:
        DOCUMENT.write_text(replaced(page, name, text), encoding="utf-8")
        return
    assert shown(page, name) == settled(text), "run .venv/bin/python scripts/cloud_doc.py"
