"""Which test each process of the suite is in: told when the run is ended early, or nothing goes on any more.

Each process writes the test that it begins into a file; on SIGUSR1 its threads' stacks go there too, past the
interpreter, so that it need not be able to go on. Whoever shares the work out reads them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.labs import is_alive

LIMIT = 900.0
"""Seconds in which a process begins no test, after which the run is ended: longer than any test may take."""

_LONG = 20.0
"""Seconds after which it is worth its lines where a process is, and what it waits for."""

_PATIENCE = 300.0
"""Seconds that an ended run may take to take its servers down, before it is ended for good."""

_FRAME = re.compile(r'  File "(?P<file>.*)", line \d+ in ')
_PLUMBING = re.compile(r"/(_pytest|pluggy|xdist|execnet|pytest_timeout)(/|\.py)|<frozen|/pytest/__main__")


class Stalls:
    """A plugin of pytest; the same in each process of a run.

    Args:
        config: The run.
        limit: Seconds in which a test must begin.
    """

    def __init__(self, config: pytest.Config, limit: float = LIMIT) -> None:
        inputs: dict[str, Any] | None = getattr(config, "workerinput", None)
        self._config, self._limit, self._is_first = config, limit, inputs is None
        self._place = Path(inputs["stalls"] if inputs else tempfile.mkdtemp(prefix="djops-stalls-"))
        self._file = (self._place / str(os.getpid())).open("wb", buffering=0)
        self._since: dict[int, tuple[str, float]] = {}
        self._told: list[str] = []
        self._over = threading.Event()
        self._write("the tests are collected")
        faulthandler.register(signal.SIGUSR1, self._file, all_threads=True)
        if self._is_first:
            threading.Thread(target=self._watch, name="stalls", daemon=True).start()

    # In each process

    def _write(self, what: str) -> None:
        os.ftruncate(self._file.fileno(), 0)
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        self._file.write(f"{what}\n".encode())

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note what begins."""
        self._write(nodeid)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Note that all is done; whoever is interrupted is still in what was begun."""
        if exitstatus != pytest.ExitCode.INTERRUPTED:
            self._write("all tests are done")

    def pytest_unconfigure(self) -> None:
        """Leave nothing behind."""
        self._over.set()
        (self._place / str(os.getpid())).unlink()
        faulthandler.unregister(signal.SIGUSR1)
        self._file.close()
        if self._is_first:
            shutil.rmtree(self._place, ignore_errors=True)

    # In the one that shares the work out, or does all of it

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to write."""
        node.workerinput["stalls"] = str(self._place)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Before anything is taken down: what was under way?"""
        if self._is_first and not self._told and excinfo.type is KeyboardInterrupt:
            self._told = list(self._tell())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what was under way when the run was ended."""
        if self._told:
            terminalreporter.write_sep("=", "under way when the run was ended")
            for line in self._told:
                terminalreporter.write_line(line)

    def _watch(self) -> None:
        while not self._over.wait(min(5, self._limit / 10)):
            late = time.monotonic() - self._limit
            if stuck := [pid for pid, (_, since) in self._look().items() if since < late]:
                self._told = [f"No test was begun for {self._limit:.0f} s in {stuck}.", *self._tell()]
                os.kill(os.getpid(), signal.SIGINT)
                for pid in stuck:
                    if pid != os.getpid():
                        os.kill(pid, signal.SIGKILL)
                if not self._over.wait(_PATIENCE):
                    self._config.get_terminal_writer().line("\n".join(self._told), flush=True)
                    os._exit(pytest.ExitCode.INTERRUPTED)

    def _look(self) -> dict[int, tuple[str, float]]:
        """Return what each process that is there does, and since when."""
        found = {}
        for file in self._place.glob("*"):
            with contextlib.suppress(OSError, IndexError):
                pid, what = int(file.name), file.read_text().splitlines()[0]
                if is_alive(pid) and (pid == os.getpid() or _parent(pid) == os.getpid()):
                    before = self._since.get(pid, ("", 0.0))
                    found[pid] = before if before[0] == what else (what, time.monotonic())
        workers = {pid: one for pid, one in found.items() if pid != os.getpid()}
        self._since = found
        return workers or found

    def _tell(self) -> Iterator[str]:
        for pid, (what, since) in self._look().items():
            seconds = time.monotonic() - since
            yield f"process {pid}, for {seconds:.0f} s: {what}"
            if seconds >= min(_LONG, self._limit):
                with contextlib.suppress(OSError):  # it may have ended by now
                    yield from (f"    {line}" for line in [*self._stacks(pid), *_below(pid)])

    def _stacks(self, pid: int) -> Iterator[str]:
        """Yield where the threads of a process are, without the frames that are the same everywhere."""
        file = self._place / str(pid)
        os.kill(pid, signal.SIGUSR1)
        before, until = -1, time.monotonic() + 5
        while (size := file.stat().st_size) != before and time.monotonic() < until:
            before = size
            time.sleep(0.5)
        for line in file.read_text(errors="replace").splitlines()[1:]:
            frame = _FRAME.match(line)
            if not (frame and _PLUMBING.search(frame["file"])):
                yield line


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5)'s ``stat`` from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _below(pid: int) -> Iterator[str]:
    """Yield the processes that a process has started, and those have: state, what they wait for, program."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            children.setdefault(_parent(int(entry.name)), []).append(int(entry.name))
    waiting = children.get(pid, [])[::-1]
    while waiting:
        child = waiting.pop()
        waiting += children.get(child, [])[::-1]
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            waits = Path(f"/proc/{child}/wchan").read_text()
            yield f"process {child} of {_parent(child)}, {_stat(child)[0]} {waits}: {command[:150]}"
