"""Several processes at once, each with a lab of its own, that share out the cases."""

from __future__ import annotations

import multiprocessing
import queue
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from multiprocessing import Queue
from pathlib import Path
from typing import NoReturn

from crash import cases, matrix, points
from crash.matrix import Choice, Row
from crash.points import KINDS
from crash.stage import staged
from djops.services import lab as labs
from djops.services import servers
from djops.services.project import load_project
from djops.systems.connections import S3Connection
from djops.systems.s3 import S3
from tests.support.labs import data_home

_GOING = 600
"""Seconds in which a process ends its servers and goes."""

SILENCE = 0.5
"""Seconds that djops waits for a silent server where nothing else is to be done on the machine."""


def cached(make: Callable[[S3Connection], S3]) -> Callable[[S3Connection], S3]:
    """Keep clients of the object store: each takes as long to make as a plan."""
    kept: dict[tuple[str, str], S3] = {}

    def client(connection: S3Connection) -> S3:
        key = connection.admin_endpoint, connection.access_key
        if key not in kept:
            kept[key] = make(connection)
        return kept[key]

    return client


@contextmanager
def own_lab() -> Iterator[Path]:
    """Bring up a lab of its own; yields its project file."""
    with data_home() as base:
        repository = base / "demo-lab"
        with resources.as_file(resources.files("djops") / "demo_pipeline") as shipped:
            shutil.copytree(shipped, repository)
        labs.up(load_project(repository / "djops.yaml"), "local")
        yield repository / "djops.yaml"


def line(row: Row) -> tuple[str, ...]:
    """Return one line of the table."""
    found = row.found
    numbers = (row.points, row.converged, found.cells, found.questions, found.probes, len(found.violations))
    return row.case, str(row.changes), KINDS[row.kind], row.system, *map(str, numbers)


def tell(text: str) -> None:
    """Tell of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _go(_number: int, _frame: object) -> NoReturn:
    # Once: what goes on from here ends the servers.
    signal.signal(signal.SIGTERM, lambda *_: None)
    raise SystemExit(1)


def work(choice: Choice, names: Queue[str | None], rows: Queue[Row | None]) -> None:
    """Be one of several processes: go through cases, each process with a lab of its own.

    Args:
        choice: What of each case.
        names: Cases that nobody has begun with, then ``None`` for each process.
        rows: Gets the table's lines, then ``None`` when nothing went wrong with the process itself.
    """
    # A terminal's is for whoever began this, who tells it to end; programs that it starts do as always.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, _go)
    vars(servers)["S3"] = cached(S3)
    vars(points)["SILENCE"] = SILENCE
    with own_lab() as project_file, staged(project_file) as stage:
        known = cases.load(stage.site.project.project)
        meant = (known[name] for name in iter(names.get, None) if name is not None)
        for row in matrix.go_through(stage, meant, choice, tell):
            rows.put(row)
            tell("  " + "  ".join(line(row)) + f"  {row.seconds / row.points:.1f} s each")
    rows.put(None)


def go_through(choice: Choice, known: Sequence[str], jobs: int) -> list[Row]:
    """Go through the matrix with several processes.

    Args:
        choice: What of the matrix.
        known: Names of all cases.
        jobs: How many processes.

    Returns:
        The lines of the table, in the order of the cases.
    """
    context = multiprocessing.get_context("spawn")
    names: Queue[str | None] = context.Queue()
    rows: Queue[Row | None] = context.Queue()
    meant = [name for name in known if name in (choice.cases or known)]
    jobs = min(jobs, len(meant))
    # The last ones are the longest: begun first, so that at the end no process is alone with one of them.
    for name in (*reversed(meant), *[None] * jobs):
        names.put(name)
    workers = [context.Process(target=work, args=(choice, names, rows)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    found, ended = list[Row](), 0
    try:
        while ended < jobs:
            try:
                row = rows.get(timeout=1)
            except queue.Empty:
                if any(worker.exitcode for worker in workers):
                    raise SystemExit("a part of the matrix did not come to its end, see above") from None
                continue
            ended += row is None
            found += [] if row is None else [row]
    except BaseException:
        for worker in workers:
            worker.terminate()
        raise
    finally:
        for worker in workers:
            worker.join(_GOING)
    return sorted(found, key=lambda row: (meant.index(row.case), list(KINDS).index(row.kind)))
