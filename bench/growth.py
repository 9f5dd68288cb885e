"""How figures grow with the people: doubling them at most doubles what each takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import consortium
from bench.access import ROUNDS
from bench.consortium import Consortium
from bench.timing import Pair
from djops.model import loading
from djops.plan.mysql_changes import CreateAccount

SIZES = ((500, 50), (1_000, 50), (2_000, 50), (4_000, 50), (5_000, 200))


def measure(place: Path) -> Iterator[Pair | str]:
    """Compile and plan at several sizes, from empty, asking no server; and count what would be sent.

    Args:
        place: An empty directory.
    """
    for people, schemas in SIZES:
        folder = place / f"{people}-{schemas}"
        folder.mkdir()
        yield _line(consortium.written(folder, people, schemas))


def _worked(work: Callable[[], object]) -> float:
    """Return the processor's seconds: nothing here waits for anybody."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _line(found: Consortium) -> str:
    text, wanted = found.project_file.read_text(), found.wanted()
    took = statistics.median(_worked(lambda: consortium.plan_from_empty(wanted)) for _ in range(ROUNDS))
    parsing = statistics.median(_worked(lambda: loading.load(text, "djops.yaml")) for _ in range(ROUNDS))
    changes = [one for one in consortium.plan_from_empty(wanted).changes if one.system == "mysql"]
    sent = len(consortium.statements(changes, {}))
    made = sum(isinstance(one, CreateAccount) for one in changes)
    return (
        f"{found.size}: compile and plan {took:.2f} s of work, parse the YAML {parsing:.2f} s "
        f"({took / parsing:.2f}); {sent:,} statements, {made:,} of them accounts"
    )
