"""README's tour works line by line, and shows what really comes out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import tour
from tests.support.labs import data_home

ROOT = Path(__file__).parent.parent


TURNS = tour.turns((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def played() -> Iterator[list[tour.Turn]]:
    """The tour, played with a lab of its own."""
    with data_home() as place:
        clone = place / "clone"
        clone.mkdir()
        environment = {**tour.environment_in(place), "DJOPS_DATA_HOME": str(place)}
        try:
            yield tour.play([turn.typed for turn in TURNS], clone, environment)
        finally:
            down = [".venv/bin/djops", "down", "-q", "-C", "demo-lab"]
            subprocess.run(down, cwd=clone, env=environment, check=False)


@pytest.mark.lab
def test_the_whole_tour_was_played(played: list[tour.Turn]) -> None:
    assert len(played) == len(TURNS) > 10


@pytest.mark.lab
@pytest.mark.parametrize("number", range(len(TURNS)), ids=[turn.typed[:40] for turn in TURNS])
def test_what_readme_shows_is_what_comes_out(number: int, played: list[tour.Turn]) -> None:
    assert played[number].comparable() == TURNS[number].comparable(), "run scripts/tour.py"
