"""Prints the crash matrix; ``python -m crash --case NAME --kind KIND`` for some of it, ``--help`` for all.

Exit status: 0 nothing is wrong, 1 something is; each line about it names case and point.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from bench.__main__ import machine
from crash import cases, matrix
from crash.matrix import Choice, Row
from crash.points import KINDS, SYSTEMS
from crash.stage import staged
from djops.report.table import table
from djops.services import lab as labs
from djops.services.project import load_project
from tests.support.labs import data_home, kill_all

HEAD = (
    "case",
    "changes",
    "what",
    "system",
    "points",
    "converged",
    "cells",
    "questions",
    "probes",
    "violations",
)


def chosen(arguments: Sequence[str], known: Sequence[str]) -> Choice:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m crash", description=__doc__)
    parser.add_argument("--case", action="append", choices=known, default=[])
    parser.add_argument("--kind", action="append", choices=list(KINDS), default=[])
    parser.add_argument("--system", action="append", choices=SYSTEMS, default=[])
    parser.add_argument("--point", type=int, help="number of a request, from 0")
    parser.add_argument("--when", choices=("before", "unanswered", "after"))
    parser.add_argument("--every", type=int, default=1, help="only each so-manieth point")
    told = parser.parse_args(arguments)
    return Choice(told.case, told.kind, told.system, told.point, told.when, told.every)


@contextmanager
def own_lab() -> Iterator[Path]:
    """Bring up a lab of its own; yields its project file."""
    with data_home() as base:
        repository = base / "demo-lab"
        with resources.as_file(resources.files("djops") / "demo_pipeline") as shipped:
            shutil.copytree(shipped, repository)
        try:
            labs.up(load_project(repository / "djops.yaml"), "local")
            yield repository / "djops.yaml"
        finally:
            kill_all(base)


def line(row: Row) -> tuple[str, ...]:
    """Return one line of the table."""
    found = row.found
    numbers = (
        row.points,
        row.converged,
        found.cells,
        found.questions,
        found.probes,
        len(found.violations or ()),
    )
    return row.case, str(row.changes), KINDS[row.kind], row.system, *map(str, numbers)


def main() -> int:
    """Go through the matrix and print the table."""
    began = time.monotonic()
    rows: list[Row] = []

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {text}", file=sys.stderr, flush=True)

    with own_lab() as project_file, staged(project_file) as stage:
        known = cases.load(stage.site.project.project)
        choice = chosen(sys.argv[1:], tuple(known))
        meant = [case for name, case in known.items() if name in (choice.cases or known)]
        for row in matrix.go_through(stage, meant, choice, tell):
            rows.append(row)
            tell("  " + "  ".join(line(row)))
    print(machine())
    print(table(HEAD, [line(row) for row in rows]))
    wrong = [text for row in rows for text in row.found.violations or ()]
    points, seconds = sum(row.points for row in rows), time.monotonic() - began
    print(f"{points} points in {seconds:.0f} s, {len(wrong)} violations")
    for text in wrong:
        print(f"- {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
