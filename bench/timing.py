"""Timing pairs of things in turns, so that a busy machine slows both."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """A measurement against its floor.

    Attributes:
        name: What was measured.
        floor_name: What it is compared with.
        seconds: One figure a round.
        floor: One figure a round.
        goal: The ratio to stay under.
    """

    name: str
    floor_name: str
    seconds: Sequence[float]
    floor: Sequence[float]
    goal: float

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: both sides of a round had the same machine."""
        return statistics.median(a / b for a, b in zip(self.seconds, self.floor, strict=True))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turns(
    work: Callable[[], object], floor: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Time two things alternately, after one round that does not count.

    Args:
        work: What is measured.
        floor: What it is compared with.
        rounds: How often.

    Returns:
        The seconds of both.
    """
    work()
    floor()
    pairs = [(timed(work), timed(floor)) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def run(command: Sequence[str], **options: object) -> None:
    """Run a program quietly; fail with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode not in (0, 2):
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
