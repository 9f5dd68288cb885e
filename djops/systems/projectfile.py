"""``djops.yaml`` on disk: found, read, and replaced whole."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from djops.errors import ConfigError
from djops.systems.files import disk_errors, sync_directory

NAME = "djops.yaml"
MAX_SIZE = 8 << 20
"""Bytes; a file of 10,000 people has about 2 MB."""


def find(start: Path) -> Path:
    """Find the project file in a folder or one above it.

    Args:
        start: The folder to begin in.

    Returns:
        The file.

    Raises:
        ConfigError: ``E_NO_PROJECT`` when there is none up to the root.
    """
    begin = start.absolute()
    for folder in (begin, *begin.parents):
        if (folder / NAME).is_file():
            return folder / NAME
    raise ConfigError(
        f"there is no {NAME} here or in a folder above",
        where=str(begin),
        code="E_NO_PROJECT",
        hint="`djops init` writes one for an existing pipeline",
    )


def shown(path: Path) -> str:
    """Return a path as its user would write it: relative where it lies below the working directory."""
    absolute = path.absolute()
    try:
        return str(absolute.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(absolute)


def read(path: Path) -> str:
    """Read a project file.

    Args:
        path: The file.

    Returns:
        Its text, line ends as they are.

    Raises:
        ConfigError: ``E_NO_PROJECT`` when there is none; ``E_UNREADABLE`` when it is no plain file, may
            not be read, is too big, or is not UTF-8.
    """
    return read_text(path, MAX_SIZE)


def read_text(path: Path, limit: int) -> str:
    """Read a text file that somebody else wrote.

    Args:
        path: The file.
        limit: How many bytes it may have.

    Returns:
        Its text, line ends as they are.

    Raises:
        ConfigError: ``E_NO_PROJECT`` or ``E_UNREADABLE``: see :func:`read`.
    """
    where = shown(path)
    try:
        # Not blocking, so that a named pipe is seen to be one instead of waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(
                    "this is no plain file", where=where, code="E_UNREADABLE", hint="put a text file there"
                )
            content = file.read(limit + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            "there is no such file", where=where, code="E_NO_PROJECT", hint="look at the path"
        ) from error
    except OSError as error:
        reason = "this is a folder" if error.errno == errno.EISDIR else f"cannot be read: {error.strerror}"
        raise ConfigError(
            reason, where=where, code="E_UNREADABLE", hint="look at its owner and permissions"
        ) from error
    if len(content) > limit:
        raise ConfigError(
            f"the file has more than {limit >> 20} MB",
            where=where,
            code="E_UNREADABLE",
            hint="is it the right one?",
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"byte {error.start} is not UTF-8",
            where=f"{where}:{line}",
            code="E_UNREADABLE",
            hint="save the file as UTF-8",
        ) from error


def write(path: Path, text: str, *, expected: str | None = None) -> None:
    """Replace a project file as a whole, keeping its mode and owner; a symbolic link stays one.

    Args:
        path: The file; made with mode 0644 less the umask when there is none.
        text: Its new content.
        expected: What it held when it was read; ``None`` when there must be none, or it does not matter.

    Raises:
        ConfigError: ``E_CHANGED`` when somebody else changed it meanwhile; ``E_UNREADABLE`` when it
            cannot be written.
        DiskFullError: ``E_DISK`` when there is no room.
    """
    target = path.resolve()
    if expected is not None and read(target) != expected:
        raise ConfigError(
            "somebody changed the file meanwhile; nothing was written",
            where=shown(path),
            code="E_CHANGED",
            hint="look at it and run the command again",
        )
    try:
        with disk_errors(path):
            _replace(target, text.encode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror}",
            where=shown(path),
            code="E_UNREADABLE",
            hint="look at the owner and permissions of its folder",
        ) from error


def _replace(target: Path, content: bytes) -> None:
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(handle, "wb") as file:
            if target.exists():
                old = target.stat()
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)
