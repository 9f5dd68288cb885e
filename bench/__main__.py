"""Prints the table; ``python -m bench [start|up|plan|access|growth|peers|large]...`` for some of it."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bench import access, growth, peers, plan, start, up
from bench.timing import Pair
from djops.cli.common import collect_seldom
from djops.report.table import table

MEASURES: Mapping[str, Callable[[Path], Iterable[Pair | str]]] = {
    "start": lambda place: [start.measure()],
    "up": lambda place: [up.measure(place)],
    "plan": lambda place: [plan.measure(place)],
    "access": lambda place: access.measure(place, plan.PEOPLE, plan.SCHEMAS),
    "growth": growth.measure,
    "peers": peers.measure,
    "large": access.large,
}
"""What each prints: lines of the table, and sentences below it."""

EVERYTHING = ("start", "up", "access", "growth", "peers")
"""What is measured unless something is named: `plan` is a part of `access`, and `large` takes long."""


def machine() -> str:
    """Describe the machine in one line."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    cores = len(os.sched_getaffinity(0))
    return f"{cores} x {cpu}, {memory:.0f} GiB, {system}, Python {platform.python_version()}"


def row(pair: Pair) -> tuple[str, ...]:
    """Return one line of the table."""
    seconds, floor = statistics.median(pair.seconds), statistics.median(pair.floor)
    verdict = "met" if pair.ratio < pair.goal else "MISSED"
    rounds = str(len(pair.seconds))
    return (
        pair.name, f"{seconds:.3f} s", pair.floor_name, f"{floor:.3f} s", f"{pair.ratio:.2f}",
        f"< {pair.goal:g}", verdict, rounds,
    )  # fmt: skip


def _wanted() -> list[str]:
    parser = argparse.ArgumentParser(
        "python -m bench", description="How much djops adds to the servers' own time."
    )
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"one of {', '.join(MEASURES)}")
    wanted = parser.parse_args().measures or list(EVERYTHING)
    if unknown := [name for name in wanted if name not in MEASURES]:
        parser.error(
            f"nothing is measured that is called {', '.join(unknown)}: choose from {', '.join(MEASURES)}"
        )
    return wanted


def main() -> None:
    """Measure and print."""
    collect_seldom()  # as every djops does
    wanted = _wanted()
    found: list[Pair | str] = []
    for name in wanted:
        print(f"measuring: {name} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="djops-bench-") as place:
            Path(place).chmod(0o711)
            for one in MEASURES[name](Path(place)):
                found.append(one)
                print(
                    "  " + (one if isinstance(one, str) else "  ".join(row(one))), file=sys.stderr, flush=True
                )
    print(machine())
    print()
    header = ["measured", "median", "against", "median", "ratio", "goal", "", "rounds"]
    print(table(header, [row(one) for one in found if isinstance(one, Pair)], right=[1, 3, 4, 5, 7]))
    print()
    print("\n".join(one for one in found if isinstance(one, str)))


if __name__ == "__main__":
    main()
