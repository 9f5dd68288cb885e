"""One djops at a time for a project: on one machine by a file, over machines by the database.

Both locks are let go of by the kernel or the server when their holder dies. A holder that is cut off cannot
be told from one that is quiet: so the database ends a connection that says nothing for :data:`LEASE_SECONDS`,
and the holder sends nothing any more once it could not make itself heard for :data:`FRESH_SECONDS`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from djops.errors import DjopsError, LockedError
from djops.systems.connections import MysqlConnection
from djops.systems.files import disk_errors
from djops.systems.journal import caller, origin
from djops.systems.mysql import Mysql

LEASE_SECONDS = 20
"""How long the database keeps the lock for a connection that says nothing."""

FRESH_SECONDS = 10.0
"""How long a holder relies on the last answer: half of the lease, whatever the network delays."""

_BEAT_SECONDS = 1
"""Seconds of one statement that shows who holds the lock."""

_PATIENCE = 5
"""Seconds that its answer may be late."""

_SLICE = 1.0
"""Seconds of one wait, after which the waiting is told."""

Waiting = Callable[[str], None]


def _silence(text: str) -> None:
    """Tell nobody about the waiting."""


@contextlib.contextmanager
def locked(path: Path, purpose: str, wait: float = 0, waiting: Waiting = _silence) -> Iterator[None]:
    """Hold a lock file while the context lasts.

    Args:
        path: The lock file; its directory must exist.
        purpose: What it is held for, told to those who wait: ``up``, ``apply``...
        wait: Seconds to wait for another holder.
        waiting: Hears for whom it waits.

    Raises:
        LockedError: ``E_LOCKED`` naming the holder when it is still held after ``wait`` seconds.
    """
    deadline = time.monotonic() + wait
    while (handle := _acquire(path)) is None:
        holder = _describe(path)
        if time.monotonic() >= deadline:
            raise LockedError(
                f"another djops works here: {holder}",
                where=str(path),
                hint="wait for it to end, or give --lock-wait SECONDS",
            )
        waiting(f"{holder}; {deadline - time.monotonic():.0f} s left")
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


def _owner(purpose: str) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "who": caller(),
        "host": origin(),
        "purpose": purpose,
        "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _sign(handle: int, purpose: str) -> None:
    # A full disk must not forbid what may free it: the lock holds without a name on it.
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(_owner(purpose)).encode(), 0)


def _describe(path: Path) -> str:
    try:
        owner = json.loads(path.read_bytes())
        since = dt.datetime.fromisoformat(owner["since"])
        return _named(owner, (dt.datetime.now(dt.UTC) - since).total_seconds())
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not told who it is"


def _named(owner: Mapping[str, Any], seconds: float) -> str:
    """Name a holder with its purpose and age."""
    purpose = str(owner["purpose"]).removeprefix("djops ")
    who = f" of {owner['who']}" if "who" in owner else ""
    return f"`djops {purpose}`, process {owner['pid']}{who} on {owner['host']}, for {max(seconds, 0):.0f} s"


def _now() -> float:
    """Return seconds that go on while the machine sleeps: the database's do."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Lease:
    """The lock of a project in its database, on a connection of its own.

    That connection is always busy with a statement that names the holder in a comment: whoever waits sees
    it among the server's processes, and needs no right for that but the one djops has anyway.

    Args:
        connection: The database.
        name: Name of the lock, up to 64 characters.
        purpose: What it is held for.
    """

    def __init__(self, connection: MysqlConnection, name: str, purpose: str) -> None:
        self._mysql = Mysql(connection, answer_seconds=_BEAT_SECONDS + _PATIENCE)
        self._name, self._owner = name, _owner(purpose)
        self._held = threading.Event()
        self._lost: DjopsError | None = None
        self._began = self._heard = 0.0
        self._session = 0
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def acquire(self, wait: float, waiting: Waiting = _silence) -> None:
        """Take the lock.

        Args:
            wait: Seconds to wait for another holder.
            waiting: Hears for whom it waits.

        Raises:
            LockedError: ``E_LOCKED`` naming the holder when it is still held after ``wait`` seconds.
            DjopsError: The database does not answer, or refuses djops.
        """
        try:
            self._session = self._wait(time.monotonic() + wait, waiting)
        except BaseException:
            self._mysql.close()
            raise
        self._began = self._heard
        self._held.set()
        self._heart.start()

    def _wait(self, deadline: float, waiting: Waiting) -> int:
        self._mysql.query(f"SET SESSION wait_timeout = {LEASE_SECONDS}")
        while True:
            self._heard = _now()
            slice_ = max(0.0, min(deadline - time.monotonic(), _SLICE))
            got, session = self._mysql.query(
                "SELECT GET_LOCK(%s, %s), CONNECTION_ID()", (self._name, slice_)
            )[0]
            if got == 1:
                return int(session)
            holder = self._holder()
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"another djops is changing this project: {holder}",
                    where=self._mysql.where,
                    hint="wait for it to end, or give --lock-wait SECONDS",
                )
            waiting(f"{holder}; {deadline - time.monotonic():.0f} s left")

    def _holder(self) -> str:
        """Name who holds the lock, wherever it is."""
        asked = "SELECT user, host, info FROM information_schema.processlist WHERE id = IS_USED_LOCK(%s)"
        rows = self._mysql.query(asked, (self._name,))
        for user, host, info in rows:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                owner = json.loads(str(info).partition("/*")[2].rpartition("*/")[0])
                return _named(owner, float(owner["held"]))
            return f"{user} from {host}"
        return "it has just ended"

    def _beat(self) -> None:
        while self._held.is_set():
            sent = _now()
            shown = json.dumps({**self._owner, "held": round(sent - self._began)}).replace("*/", "* /")
            try:
                # The comment may hold a per cent sign; without values nothing is put in its place.
                row = self._mysql.query(f"SELECT SLEEP({_BEAT_SECONDS}), CONNECTION_ID() /* {shown} */")[0]
            except DjopsError as error:
                self._lost = error
                return
            if row[1] != self._session:
                self._lost = DjopsError("the connection that held it was replaced")
                return
            self._heard = sent

    def require(self) -> None:
        """See to it that the lock is still held.

        Raises:
            LockedError: ``E_LOCK_LOST`` when it is not, or when that cannot be known any more.
        """
        quiet = _now() - self._heard
        if self._lost is None and quiet > FRESH_SECONDS:
            self._lost = DjopsError(f"no answer for {quiet:.0f} s")
        if self._lost is not None:
            raise LockedError(
                f"the lock on this project was lost: {self._lost.message}",
                where=self._mysql.where,
                code="E_LOCK_LOST",
                hint="another djops may be at work now; nothing further was sent",
            )

    def release(self, end: Callable[[int], None]) -> None:
        """Let go of the lock.

        Args:
            end: Ends a session of the database, so that nobody has to wait for the statement under way.
        """
        self._held.clear()
        if self._lost is None and self._session:
            with contextlib.suppress(DjopsError):
                end(self._session)
        self._heart.join(timeout=_BEAT_SECONDS + _PATIENCE)
        self._mysql.close()
