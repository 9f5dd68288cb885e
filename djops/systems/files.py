"""Files that hold secrets or state: private, and never half written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from djops.errors import DiskFullError, DjopsError
from djops.systems.paths import Account

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into an error that says where.

    Args:
        path: What is being written.

    Raises:
        DiskFullError: ``E_DISK`` when the device or the quota is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFullError(
            "no room left to write",
            where=str(path),
            hint=f"free some space (df -h {path.parent}) and run it again",
        ) from error


def require_space(path: Path, wanted: int) -> None:
    """Refuse to begin what cannot end.

    Args:
        path: A directory on the device in question; it or a parent must exist.
        wanted: Bytes that will be needed.

    Raises:
        DiskFullError: ``E_DISK`` when less is free for the caller.
    """
    existing = path
    while not existing.exists():
        existing = existing.parent
    status = os.statvfs(existing)
    free = status.f_bavail * status.f_frsize
    if free < wanted:
        raise DiskFullError(
            f"{wanted >> 20} MB are needed and {free >> 20} MB are free",
            where=str(path),
            hint=f"free some space (df -h {existing}) and run it again",
        )


def write_private(path: Path, data: str | bytes, *, owner: Account | None = None, mode: int = 0o600) -> None:
    """Write a whole file or nothing, readable by its owner only.

    A reader sees the old content or the new, never a part; after a power cut as well.

    Args:
        path: The file; its directory must exist and belong to the caller.
        data: Its content.
        owner: Who shall own it, when the caller is root; the caller when ``None``.
        mode: Permission bits.

    Raises:
        DiskFullError: ``E_DISK`` when there is no room.
    """
    content = data.encode() if isinstance(data, str) else data
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with disk_errors(path):
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                if owner is not None and os.geteuid() == 0:
                    os.fchown(file.fileno(), owner.uid, owner.gid)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames inside a directory survive a power cut.

    Args:
        path: The directory.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(
    path: Path, value: Mapping[str, Any], *, owner: Account | None = None, mode: int = 0o600
) -> None:
    """Write an object as JSON through :func:`write_private`.

    Args:
        path: The file.
        value: The object.
        owner: Who shall own it, when the caller is root.
        mode: Permission bits.

    Raises:
        DiskFullError: ``E_DISK`` when there is no room.
    """
    write_private(path, json.dumps(value, indent=2) + "\n", owner=owner, mode=mode)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read an object that djops wrote.

    Args:
        path: The file.

    Returns:
        The object, or ``None`` when there is no such file.

    Raises:
        DjopsError: ``E_STATE`` when the file does not hold a JSON object or may not be read.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise DjopsError(
            "this file belongs to somebody else",
            where=str(path),
            code="E_STATE",
            hint="run djops as its owner",
        ) from error
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(value, dict):
        raise _damaged(path)
    return value


def _damaged(path: Path) -> DjopsError:
    return DjopsError(
        "this file is not what djops wrote", where=str(path), code="E_STATE", hint="restore it from a backup"
    )
