"""``djops --help`` against ``python -c pass``."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.timing import Pair, in_turns, run

ROUNDS = 15


def measure() -> Pair:
    """Time both, in turns."""
    djops = str(Path(sys.executable).parent / "djops")
    seconds, floor = in_turns(
        lambda: run([djops, "--help"]), lambda: run([sys.executable, "-c", "pass"]), ROUNDS
    )
    return Pair("djops --help", "python -c pass", seconds, floor, 4.0)
