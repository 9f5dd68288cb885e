"""Prints the crash matrix; ``python -m crash --case NAME --kind KIND`` for some of it, ``--help`` for all.

Exit status: 0 nothing is wrong, 1 something is; each line about it names case and point.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.__main__ import machine
from crash import cases
from crash.matrix import Choice
from crash.points import KINDS, SYSTEMS
from crash.workers import go_through, line
from djops.report.table import table

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


TABLE = "## The table"


def chosen(arguments: Sequence[str], known: Sequence[str]) -> tuple[Choice, int, Path | None]:
    """Read the command line: what of the matrix, with how many processes, into which page."""
    parser = argparse.ArgumentParser(prog="python -m crash", description=__doc__)
    parser.add_argument("--case", action="append", choices=known, default=[])
    parser.add_argument("--kind", action="append", choices=list(KINDS), default=[])
    parser.add_argument("--system", action="append", choices=SYSTEMS, default=[])
    parser.add_argument("--point", type=int, help="number of a request, from 0")
    parser.add_argument("--when", choices=("before", "unanswered", "after"))
    parser.add_argument("--every", type=int, default=1, help="only each so-manieth point")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, each with its own lab")
    parser.add_argument("--into", type=Path, help=f"a page whose part {TABLE!r} is written anew")
    told = parser.parse_args(arguments)
    choice = Choice(told.case, told.kind, told.system, told.point, told.when, told.every)
    return choice, told.jobs, told.into


def main() -> int:
    """Go through the matrix and print the table."""
    began = time.monotonic()
    known = tuple(cases.load("demo_lab"))
    choice, jobs, into = chosen(sys.argv[1:], known)
    rows = go_through(choice, known, jobs)
    wrong = [text for row in rows for text in row.found.violations]
    points, minutes = sum(row.points for row in rows), (time.monotonic() - began) / 60
    summary = f"{points} points in {minutes:.1f} minutes, {len(wrong)} violations"
    told = "\n".join([machine(), "", table(HEAD, [line(row) for row in rows]), "", summary])
    print("\n".join([told, *(f"- {text}" for text in wrong)]))
    if into is not None:
        before = into.read_text(encoding="utf-8").partition(TABLE)[0]
        into.write_text(f"{before}{TABLE}\n\n```\n{told}\n```\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
