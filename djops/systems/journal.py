"""What is kept of the journal on this machine, one JSON object a line.

The spool holds rows that have not reached the chain yet: what happens before or without a database. The
chain file is the chain itself where the database has no table for it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
import pwd
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from djops.errors import LockedError
from djops.model.journal import Draft, Entry, Event, Head, read_lines, seal
from djops.systems.files import disk_errors

FILE = "journal.jsonl"
"""The spool."""

CHAIN = "journal-chain.jsonl"
"""The chain, where there is no table."""

_LOCK_SECONDS = 60.0


def draft(command: str, event: Event, **told: str) -> Draft:
    """Begin a row with who, when and from where.

    Args:
        command: The command, without arguments.
        event: What happened.
        told: The other fields of :class:`~djops.model.journal.Draft`.
    """
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return Draft(
        id=uuid.uuid4().hex, at=now, who=caller(), host=origin(), command=command, event=event, **told
    )


def record(state: Path, action: str, *, reason: str = "", **facts: str) -> None:
    """Note that something was done, on disk before this returns.

    Args:
        state: The directory of djops' own state for the environment.
        action: What was done, for example ``connect``.
        reason: Why.
        facts: What else is to be known; no secrets.

    Raises:
        DiskFullError: ``E_DISK`` when there is no room.
    """
    words = ", ".join(f"{key} {value}" for key, value in facts.items())
    spool(
        state, [draft(action, "note", change=words, detail=json.dumps(facts, sort_keys=True), reason=reason)]
    )


def spool(state: Path, drafts: Iterable[Draft]) -> None:
    """Keep rows until they reach the chain, on disk before this returns.

    Args:
        state: The directory of djops' own state for the environment.
        drafts: The rows.

    Raises:
        DiskFullError: ``E_DISK`` when there is no room.
    """
    text = "".join(json.dumps(vars(one), sort_keys=True) + "\n" for one in drafts)
    with _opened(state / FILE) as handle:
        _add(handle, text)


@contextlib.contextmanager
def spooled(state: Path) -> Iterator[list[Draft]]:
    """Hand out the rows of the spool, and empty it when the context is left without an error.

    Args:
        state: The directory of djops' own state for the environment.
    """
    path = state / FILE
    if not path.exists() or not path.stat().st_size:
        yield []
        return
    with _opened(path) as handle:
        text = _content(handle)
        yield [row for number, line in enumerate(text.splitlines()) for row in _row(line, number)]
        os.ftruncate(handle, 0)
        os.fsync(handle)


def waiting(state: Path) -> int:
    """Return how many rows wait in the spool.

    Args:
        state: The directory of djops' own state for the environment.
    """
    try:
        return (state / FILE).read_bytes().count(b"\n")
    except OSError:
        return 0


def _row(line: str, number: int) -> Iterator[Draft]:
    """Read one line of the spool; one that was cut off when the machine went down is none."""
    try:
        data = json.loads(line)
        if "action" not in data:
            yield Draft(**data)
        else:
            yield _older(data, line, number)
    except (ValueError, TypeError, AttributeError):
        return


def _older(data: dict[str, Any], line: str, number: int) -> Draft:
    """Read a line of the first format; its number makes equal lines different and the same line the same."""
    facts = {key: str(value) for key, value in data.items() if key not in ("at", "who", "action")}
    at = dt.datetime.fromisoformat(data["at"]).astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return Draft(
        id=hashlib.sha256(f"{number} {line}".encode()).hexdigest()[:32],
        at=at,
        who=str(data["who"]),
        host=origin(),
        command=str(data["action"]),
        event="note",
        change=", ".join(f"{key} {value}" for key, value in facts.items()),
        detail=json.dumps(facts, sort_keys=True),
    )


class FileChain:
    """The chain in a file of this machine, for servers without a table for it.

    Args:
        state: The directory of djops' own state for the environment.
        project: Whose chain it is.
        environment: The environment.
    """

    def __init__(self, state: Path, project: str, environment: str) -> None:
        self.path = state / CHAIN
        self.where = str(self.path)
        self.name = f"local-{origin()}"
        self._project, self._environment = project, environment

    def head(self) -> Head:
        """Return the end of the chain."""
        head = Head()
        for entry in self.read():
            head = Head(entry.seq, entry.hash)
        return head

    def read(self, after: int = 0) -> Iterator[Entry]:
        """Return the rows in the order in which they are kept.

        Args:
            after: Rows up to this number are left out.

        Raises:
            DjopsError: ``E_JOURNAL`` for a line that is none.
        """
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        except FileNotFoundError:
            return
        # What was cut off when the machine went down was not acknowledged either.
        whole = lines if not lines or lines[-1].endswith("\n") else lines[:-1]
        yield from (entry for entry in read_lines(whole, self.where) if entry.seq > after)

    def newest_plan(self, without: str) -> Entry | None:
        """Return where the newest plan begins.

        Args:
            without: A command whose plans do not count.
        """
        plans = (entry for entry in self.read() if entry.event == "begin" and entry.command != without)
        return next(iter([*plans][::-1]), None)

    def newest_end(self, without: str) -> int:
        """Return the number of the row with which the newest plan ended well, 0 without one.

        Args:
            without: A command whose plans do not count.
        """
        ends = (entry.seq for entry in self.read() if entry.event == "end" and entry.command != without)
        return max(ends, default=0)

    def append(self, drafts: Iterable[Draft]) -> Head:
        """Add rows, on disk before this returns.

        Args:
            drafts: The rows.

        Returns:
            The new end of the chain.
        """
        with _opened(self.path) as handle:
            text = _content(handle)
            if text and not text.endswith("\n"):
                os.ftruncate(handle, len(text[: text.rfind("\n") + 1].encode()))
            entries = list(self.read())
            known = {entry.id for entry in entries}
            head = Head(entries[-1].seq, entries[-1].hash) if entries else Head()
            fresh = [one for one in drafts if one.id not in known]
            added = list(seal(fresh, head, self._project, self._environment))
            _add(handle, "".join(entry.to_line() + "\n" for entry in added))
            return Head(added[-1].seq, added[-1].hash) if added else head

    def retire(self) -> None:
        """Keep the file under another name: its rows are in the table now."""
        number = 1
        while (aside := self.path.with_suffix(f".moved-{number}.jsonl")).exists():
            number += 1
        self.path.rename(aside)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file for adding, one process at a time."""
    with disk_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _take(handle, path)
            yield handle
        finally:
            os.close(handle)


def _take(handle: int, path: Path) -> None:
    """Lock a file that others hold for moments only."""
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise LockedError(
                    f"another process has held the journal for {_LOCK_SECONDS:.0f} s",
                    where=str(path),
                    hint=f"`fuser -v {path}` tells which",
                ) from error
        time.sleep(0.005)


def _add(handle: int, text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(handle, data) :]
    os.fsync(handle)


def _content(handle: int) -> str:
    size = os.fstat(handle).st_size
    return os.pread(handle, size, 0).decode("utf-8", "replace") if size else ""


def digest(path: Path) -> str:
    """Return what tells one content of a file from another, empty when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def caller() -> str:
    """Return the account that called djops, behind ``sudo`` the one that called that."""
    try:
        own = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        own = str(os.getuid())
    behind = os.environ.get("SUDO_USER") if os.getuid() == 0 else None
    return f"{behind} as {own}" if behind else own


def origin() -> str:
    """Return the name of this machine."""
    return socket.gethostname() or "unknown"


def facts_of(one: Draft) -> Mapping[str, Any]:
    """Return the detail of a row, empty when it is damaged."""
    with contextlib.suppress(ValueError):
        found = json.loads(one.detail)
        if isinstance(found, dict):
            return found
    return {}
