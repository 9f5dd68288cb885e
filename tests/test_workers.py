"""The suite's own processes: what they share, and that none leaves anything behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import labs, workers

TESTS = Path(__file__).parent

OTHER = """
import signal, subprocess, sys
from tests.support.labs import data_home
deaf = sys.argv[1] == "deaf"
def stop(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else stop)
with data_home() as base:
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", str(base)])
    print(base, flush=True)
    server.wait()
"""


def test_the_longest_files_are_there() -> None:
    assert [name for name in workers.LONGEST if not (TESTS / name).is_file()] == []


def test_what_takes_long_comes_first() -> None:
    files = ["tests/model/test_teams.py", "tests/services/test_can.py", f"tests/{workers.LONGEST[0]}"]
    assert sorted(files, key=workers.rank) == files[::-1]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_no_two_processes_take_their_ports_from_the_same(count: int) -> None:
    ranges = [workers.ports_of(number, count).split("-") for number in range(count)]
    ports = [port for first, last in ranges for port in range(int(first), int(last) + 1)]
    assert len(ports) == len(set(ports)) > 5000


@pytest.mark.parametrize("hears", ["obedient", "deaf"])
def test_a_process_that_ends_early_leaves_nothing(hears: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", OTHER, hears]
    monkeypatch.setenv(labs.RUN, str(os.getpid()))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TESTS.parent) as other:
        assert other.stdout is not None
        base = Path(other.stdout.readline().strip())
        assert labs.processes_of(base)
        workers.end(os.getpid(), seconds=60 if hears == "obedient" else 0.5)
        assert not base.exists()
        assert labs.processes_of(base) == []
        if hears == "deaf":
            assert other.poll() is None
            other.kill()
