"""The page about the project file names every code that reading it can give."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
READERS = (
    "model/yamltree",
    "model/loading",
    "model/checking",
    "model/source",
    "model/symbols",
    "model/compare",
)


def test_every_code_is_explained() -> None:
    page = (ROOT / "docs" / "project-file.md").read_text()
    names = (*READERS, "services/project", "systems/sources")
    source = "".join((ROOT / "djops" / f"{name}.py").read_text() for name in names)
    used = set(re.findall(r'"([EW]_[A-Z_]+)"', source)) - {"E_TOO_MUCH"}
    explained = set(re.findall(r"`([EW]_[A-Z_]+)`", page))
    assert used == explained
