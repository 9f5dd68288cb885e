"""One djops at a time per lab: a lock the kernel lets go of when its holder dies."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from djops.errors import DjopsError, LockedError
from djops.systems.files import disk_errors


@contextlib.contextmanager
def locked(path: Path, purpose: str, wait: float = 0) -> Iterator[None]:
    """Hold a lock file while the context lasts.

    Args:
        path: The lock file; its directory must exist.
        purpose: What it is held for, told to those who wait: ``up``, ``apply``...
        wait: Seconds to wait for another holder.

    Raises:
        LockedError: ``E_LOCKED`` naming the holder when it is still held after ``wait`` seconds.
    """
    deadline = time.monotonic() + wait
    while (handle := _acquire(path)) is None:
        if time.monotonic() >= deadline:
            raise LockedError(
                f"another djops works here: {_describe(path)}",
                where=str(path),
                hint="wait for it to end, or give --lock-wait SECONDS",
            )
        time.sleep(0.1)
    try:
        _sign(handle, purpose)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
        os.close(handle)


def _acquire(path: Path) -> int | None:
    try:
        with disk_errors(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError as error:
        raise DjopsError(
            "this lab was removed meanwhile", where=str(path), code="E_STATE", hint="run it again"
        ) from error
    except PermissionError as error:
        raise DjopsError(
            "this lab belongs to somebody else",
            where=str(path),
            code="E_STATE",
            hint="run djops as its owner",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A purge may have removed the file between opening and locking it: then nobody else sees this lock.
        if os.fstat(handle).st_ino == path.stat().st_ino:
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def _sign(handle: int, purpose: str) -> None:
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "purpose": purpose,
        "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    # A full disk must not forbid what may free it: the lock holds without a name on it.
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(owner).encode(), 0)


def _describe(path: Path) -> str:
    try:
        owner = json.loads(path.read_bytes())
        held = f"`djops {owner['purpose']}`, process {owner['pid']} on {owner['host']}"
        return f"{held}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not told who it is"
