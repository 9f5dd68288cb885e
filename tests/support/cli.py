"""Runs the command line, in this process or as the real program."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djops.cli.common import run

PROGRAM = Path(sys.executable).parent / "djops"


@dataclass(frozen=True)
class Run:
    """How a run ended.

    Attributes:
        status: Exit status.
        stdout: Standard output.
        stderr: Standard error.
    """

    status: int
    stdout: str
    stderr: str

    @property
    def answer(self) -> dict[str, Any]:
        """The JSON answer."""
        parsed = json.loads(self.stdout)
        assert isinstance(parsed, dict)
        return parsed


def invoke(*arguments: str | Path, cwd: Path | None = None) -> Run:
    """Run the command line in this process, without a terminal; that costs no start of an interpreter.

    Args:
        arguments: What stands after ``djops``.
        cwd: Working directory; this process' own when ``None``.

    Returns:
        How it ended; what other programs write is not in it.
    """
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as meanwhile:
        meanwhile.enter_context(_signals_kept())
        meanwhile.enter_context(contextlib.redirect_stdout(output))
        meanwhile.enter_context(contextlib.redirect_stderr(errors))
        if cwd is not None:
            meanwhile.enter_context(contextlib.chdir(cwd))
        status = run([str(argument) for argument in arguments])
    return Run(status, output.getvalue(), errors.getvalue())


def wait_until_it_minds_signals(pid: int, seconds: float = 120) -> None:
    """Wait until a program that was just started is djops: before, a signal ends a bare interpreter.

    Args:
        pid: Its process id.
        seconds: How long at most.
    """
    until = time.monotonic() + seconds
    while True:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        assert time.monotonic() < until, "it never began"
        time.sleep(0.01)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    # As in a fresh process, whatever the test run itself does about signals.
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def djops(
    *arguments: str | bytes | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 180
) -> Run:
    """Run the installed program, without a terminal.

    Args:
        arguments: What stands after ``djops``.
        cwd: Working directory.
        env: Environment variables to add.
        timeout: Seconds.

    Returns:
        How it ended.
    """
    done = subprocess.run(
        [PROGRAM, *arguments], cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=timeout, check=False,
    )  # fmt: skip
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


def shell(script: str, *, cwd: Path) -> Run:
    """Run a line of shell in which ``$0`` is the installed program."""
    command = ["bash", "-c", script, str(PROGRAM)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=180, check=False)
    return Run(done.returncode, done.stdout, done.stderr)
