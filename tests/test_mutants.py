"""The list of sabotages keeps up with the source: each place still stands exactly once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from scripts.mutants import ROOT, mutants, sabotage


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant["name"])
def test_the_place_is_there(mutant: Mapping[str, str]) -> None:
    text = (ROOT / "djops" / mutant["file"]).read_text(encoding="utf-8")
    compile(sabotage(text, mutant), mutant["file"], "exec")


def test_there_are_enough_of_them() -> None:
    names = [mutant["name"] for mutant in mutants()]
    assert len(names) == len(set(names)) >= 40
