"""Who did what with the administrator's power: one JSON object a line, only ever added to."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from djops.systems.files import disk_errors

FILE = "journal.jsonl"


def record(state: Path, action: str, **facts: str) -> None:
    """Add a line, on disk before this returns.

    Args:
        state: The directory of djops' own state for the environment.
        action: What was done, for example ``connect``.
        facts: What else is to be known; no secrets.

    Raises:
        DiskFullError: ``E_DISK`` when there is no room.
    """
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    line = json.dumps({"at": now, "who": caller(), "action": action, **facts}) + "\n"
    path = state / FILE
    with disk_errors(path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # One write, so that lines of two djops at once do not mix.
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)


def last(state: Path, action: str) -> Mapping[str, str]:
    """Return the newest line about an action, empty when there is none.

    Args:
        state: The directory of djops' own state for the environment.
        action: What was done.
    """
    found: Mapping[str, str] = {}
    try:
        lines = (state / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that was cut off when the machine went down
        if isinstance(entry, dict) and entry.get("action") == action:
            found = entry
    return found


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
