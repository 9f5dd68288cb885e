"""The page about drift has every kind of it, as the program knows it."""

from __future__ import annotations

import pytest

from djops.plan.drift_kinds import MEANINGS, REMEDIES, DriftKind
from scripts.drift_doc import DOCUMENT, render


def test_the_table_is_what_the_program_knows() -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    assert render(page) == page, "run .venv/bin/python scripts/drift_doc.py"


def test_every_kind_has_a_meaning_and_a_remedy() -> None:
    assert set(MEANINGS) == set(REMEDIES) == set(DriftKind)


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places"):
        render("# Drift\n")
