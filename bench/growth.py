"""How figures grow with the people: doubling them at most doubles what each takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import consortium
from bench.consortium import Consortium
from bench.plan import ROUNDS
from bench.timing import Pair
from djops.model import loading
from djops.plan.mysql_changes import CreateAccount

SIZES = ((500, 50), (1_000, 50), (2_000, 50), (4_000, 50), (5_000, 200))


def measure(place: Path) -> Iterator[Pair | str]:
    """Compile and plan at several sizes, from empty, asking no server; and count what would be sent.

    Args:
        place: An empty directory.
    """
    before: dict[tuple[int, int], _Work] = {}
    for people, schemas in SIZES:
        folder = place / f"{people}-{schemas}"
        folder.mkdir()
        found = consortium.written(folder, people, schemas)
        work = _measured(found)
        half = before.get((people // 2, schemas))
        yield _line(found, work) + (_growth(work, half) if half else "")
        before[people, schemas] = work


def _worked(work: Callable[[], object]) -> float:
    """Return the processor's seconds: nothing here waits for anybody."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


@dataclass(frozen=True)
class _Work:
    """What one size takes: seconds of the processor, and how much would be sent."""

    planning: float
    parsing: float
    statements: int
    accounts: int


def _measured(found: Consortium) -> _Work:
    text, wanted = found.project_file.read_text(), found.wanted()
    took = statistics.median(_worked(lambda: consortium.plan_from_empty(wanted)) for _ in range(ROUNDS))
    parsing = statistics.median(_worked(lambda: loading.load(text, "djops.yaml")) for _ in range(ROUNDS))
    changes = [one for one in consortium.plan_from_empty(wanted).changes if one.system == "mysql"]
    made = sum(isinstance(one, CreateAccount) for one in changes)
    return _Work(took, parsing, len(consortium.statements(changes, {})), made)


def _line(found: Consortium, work: _Work) -> str:
    return (
        f"{found.size}: compile and plan {work.planning:.2f} s of work, parse the YAML {work.parsing:.2f} s "
        f"({work.planning / work.parsing:.2f}); {work.statements:,} statements, among others for "
        f"{work.accounts:,} accounts"
    )


def _growth(work: _Work, half: _Work) -> str:
    pairs = (
        ("work", work.planning / half.planning),
        ("parsing", work.parsing / half.parsing),
        ("statements", work.statements / half.statements),
    )
    return "; twice the people: " + ", ".join(f"{name} x {ratio:.2f}" for name, ratio in pairs)
