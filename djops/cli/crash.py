"""What a user sees of an exception that nobody foresaw, and what is kept of it for whoever mends it."""

from __future__ import annotations

import datetime as dt
import errno
import os
import platform
import tempfile
import traceback
from pathlib import Path

from djops import __version__
from djops.errors import DiskFullError, DjopsError
from djops.systems.paths import private_directory, roots

HARMLESS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    OSError,
    TypeError,
)
"""Exceptions whose message tells about the program; any other's may quote a value, so a secret."""


class PermissionRefusedError(DjopsError):
    """The operating system does not let djops read or write something."""

    code = "E_PERMISSION"


class FileError(DjopsError):
    """A file or directory is not what djops needs it to be."""

    code = "E_FILE"


class Bug(DjopsError):  # noqa: N818  # it is one
    """djops itself is wrong."""

    code = "E_BUG"


def explain(error: Exception) -> DjopsError:
    """Turn any exception into an error for the user.

    Args:
        error: What was raised.

    Returns:
        An error about the disk or a permission where that is the cause; else ``E_BUG`` with the file
        that the traceback was saved to.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            "there is no room left on the disk", where=_file(error), hint="make room, run it again"
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = (error.strerror or "permission denied").lower()
        return PermissionRefusedError(
            f"the operating system refuses: {reason}",
            where=_file(error),
            hint="run djops as the user who owns it, or mend its permissions",
        )
    kept = _keep(error)
    if isinstance(error, OSError) and _file(error) is not None:
        reason = (error.strerror or type(error).__name__).lower()
        return FileError(f"djops cannot go on: {reason}", where=_file(error), hint=f"details are in {kept}")
    where = f"the traceback is in {kept}" if kept else "the traceback could not be saved"
    return Bug(
        f"djops failed in a way that nobody foresaw: {type(error).__name__}",
        hint=f"{where}; please report it: it names code and no data",
    )


def _file(error: OSError) -> str | None:
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None


def _keep(error: BaseException) -> Path | None:
    """Save a traceback, without any variable's value, where only the caller can read it."""
    now = dt.datetime.now(dt.UTC)
    name = f"{now:%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    text = (
        f"djops {__version__}, Python {platform.python_version()}, {platform.platform()}\n{now.isoformat()}\n"
    )
    text += "\n".join(render(error)) + "\n"
    for make in (_data_folder, _temporary_folder):
        try:
            path = make() / name
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
        except OSError:
            continue
        return path
    return None


def _data_folder() -> Path:
    return private_directory(roots().data.parent / "crashes")


def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="djops-crash-"))


def render(error: BaseException) -> list[str]:
    """Return the lines of a traceback and its causes; messages only where they cannot quote a value."""
    lines = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        lines += [*render(cause), "", "and from there:", ""]
    for frame in traceback.extract_tb(error.__traceback__):
        lines += [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}', f"    {frame.line}"]
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    lines.append(f"{name}: {error}" if isinstance(error, HARMLESS) else f"{name} (its message is not kept)")
    return lines
