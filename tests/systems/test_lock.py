"""One djops at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from djops.errors import DjopsError, LockedError
from djops.systems.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from djops.systems.lock import locked
with locked(Path(sys.argv[1]), 'apply'):
    print('held', flush=True)
    time.sleep(60)
"""


def held_by_another(path: Path) -> subprocess.Popen[str]:
    other = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


def test_the_holder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_by_another(path) as other:
        with (
            pytest.raises(
                LockedError, match=f"`djops apply`, process {other.pid} of .* on .*, for [0-9]+ s"
            ) as caught,
            locked(path, "up"),
        ):
            pytest.fail("two hold it")
        assert caught.value.code == "E_LOCKED"
        other.kill()


def test_it_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_by_another(path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait(120)
        with locked(path, "up"):
            assert json.loads(path.read_text())["pid"] == os.getpid()


def test_waiting_ends_when_the_holder_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_by_another(path) as other:
        threading.Timer(0.3, other.kill).start()
        began = time.monotonic()
        with locked(path, "up", wait=60):
            assert 0.2 < time.monotonic() - began < 50


def test_waiting_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_by_another(path) as other:
        began = time.monotonic()
        with pytest.raises(LockedError), locked(path, "up", wait=0.3):
            pytest.fail("two hold it")
        assert time.monotonic() - began >= 0.3
        other.kill()


def test_a_lock_file_that_was_removed_does_not_lock(tmp_path: Path) -> None:
    """A purge removes the directory with the lock in it, while others wait for the lock."""
    path = tmp_path / "lock"
    with locked(path, "purge"):
        path.unlink()
        with locked(path, "up"):
            assert json.loads(path.read_text())["purpose"] == "up"


def test_a_directory_that_was_removed_is_told(tmp_path: Path) -> None:
    with pytest.raises(DjopsError) as caught, locked(tmp_path / "gone" / "lock", "up"):
        pytest.fail("there is no such directory")
    assert caught.value.code == "E_STATE"


def test_garbage_in_the_file_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"\xff{")
    with locked(path, "up"), pytest.raises(LockedError), locked(path, "up"):
        pytest.fail("two hold it")
