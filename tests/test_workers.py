"""The suite's own processes: what they share, and that none leaves anything behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
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
    server.wait(600)
"""

STALLING = """
import pathlib, threading, time
from tests.support.stalls import Stalls

def pytest_configure(config):
    stalls = Stalls(config)
    config.pluginmanager.register(stalls)

    def shorten():  # how long it takes until a test begins is the machine's business
        while not pathlib.Path("begun").exists():
            time.sleep(0.05)
        stalls._limit = {limit}

    threading.Thread(target=shorten, daemon=True).start()
"""
DEAF = """
import os, signal, subprocess

def test_short():
    pass

def test_waits_for_ever():
    if "PYTEST_XDIST_WORKER" in os.environ:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGINT, signal.SIGTERM])
    open("begun", "w").close()
    subprocess.Popen(["cat"], stdin=subprocess.PIPE).wait(600)

def test_behind_it():
    pass
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


def suite(place: Path, limit: float, *options: str) -> subprocess.Popen[str]:
    """A suite of its own that hangs; in a worker its test hears no signal."""
    (place / "conftest.py").write_text(STALLING.format(limit=limit))
    (place / "test_deaf.py").write_text(DEAF)
    (place / "pytest.ini").write_text("[pytest]\n")
    kept = {name: value for name, value in os.environ.items() if "PYTEST" not in name and name != labs.RUN}
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options], cwd=place, text=True,
        env={**kept, "PYTHONPATH": str(TESTS.parent), "TMPDIR": str(place)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_a_run_in_which_nothing_goes_on_ends_and_says_where_it_stands(tmp_path: Path) -> None:
    with suite(tmp_path, 1, "-n1", "--dist=loadfile") as process:
        told, _ = process.communicate(timeout=300)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, told
    _, _, under_way = told.partition("under way when the run was ended")
    assert "No test was begun for 1 s in [" in under_way, told
    assert "test_deaf.py::test_waits_for_ever\n" in under_way
    assert re.search(r'test_deaf.py", line \d+ in test_waits_for_ever\n', under_way), told
    assert re.search(r"process \d+ of \d+, S \w+: cat ", under_way), told
    assert not list(tmp_path.glob("djops-stalls-*"))


def test_a_run_that_is_ended_says_where_it_stands(tmp_path: Path) -> None:
    with suite(tmp_path, 900, "-p", "no:xdist") as process:
        until = time.monotonic() + 120
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=120)
    _, _, under_way = told.partition("under way when the run was ended")
    assert re.search(r"process \d+, for \d+ s: test_deaf.py::test_waits_for_ever\n", under_way), told
    assert not list(tmp_path.glob("djops-stalls-*"))
