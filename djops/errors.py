"""Every error djops raises on purpose: a stable code, what is wrong, where, and what to do next.

Only ``djops.cli`` turns these into text or JSON and an exit status; no other floor prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Where:
    """A place in a file.

    Attributes:
        file: The file as the user would name it.
        line: Line number, counted from 1; ``None`` when the whole file is meant.
    """

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class DjopsError(Exception):
    """The root of all expected failures.

    Args:
        message: What is wrong, in one sentence, without secrets.
        where: The file and line, or the server, that it is about.
        hint: What to do next.
        code: Overrides the class's stable code where one class covers several causes.
    """

    code = "E_DJOPS"

    def __init__(
        self,
        message: str,
        *,
        where: Where | str | None = None,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = str(where) if where is not None else None
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{advice}"

    def flatten(self) -> Sequence[DjopsError]:
        """Return the single errors this one stands for, itself when it stands alone."""
        return (self,)


class ManyErrors(DjopsError):  # noqa: N818  it is many of them
    """Several independent errors found in one go, so that a user mends them in one go.

    Args:
        errors: The errors, in the order of the places they are about; at least one.
    """

    code = "E_MANY"

    def __init__(self, errors: Sequence[DjopsError]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = tuple(errors)

    def flatten(self) -> Sequence[DjopsError]:
        """Return the errors it was made of."""
        return self.errors


class ConfigError(DjopsError):
    """``djops.yaml`` or a file it names is not right. Nothing was touched."""

    code = "E_CONFIG"


class UsageError(DjopsError):
    """A command was given arguments that cannot be meant."""

    code = "E_USAGE"


class PipelineError(DjopsError):
    """The pipeline's source cannot be read, or contradicts itself."""

    code = "E_PIPELINE"


class NameRefusedError(DjopsError):
    """A name cannot be used in one of the systems."""

    code = "E_NAME"


class PolicyTooLargeError(DjopsError):
    """Somebody's rights do not fit into the policies that an object store takes."""

    code = "E_POLICY_SIZE"


class ServerUnavailableError(DjopsError):
    """A server cannot be reached, or went away in the middle."""

    code = "E_SERVER"


class AccessDeniedError(DjopsError):
    """A server refused the credentials or the right that djops itself needs."""

    code = "E_DENIED"


class InstallError(DjopsError):
    """A server program cannot be had on this machine."""

    code = "E_INSTALL"


class StartError(DjopsError):
    """A server of the local lab did not come up."""

    code = "E_START"


class LockedError(DjopsError):
    """Another djops works on the same project."""

    code = "E_LOCKED"


class ApplyError(DjopsError):
    """A change could not be carried out; what was done before it stands and is named."""

    code = "E_APPLY"


class ConflictError(DjopsError):
    """Somebody else changed an object between reading and writing it."""

    code = "E_CONFLICT"


class NotManagedError(DjopsError):
    """An object of that name exists that djops did not make, so djops does not touch it."""

    code = "E_UNMANAGED"


class DiskFullError(DjopsError):
    """There is no room left where djops keeps its data."""

    code = "E_DISK"


class ClientError(DjopsError):
    """The DataJoint client failed where it was expected to work."""

    code = "E_CLIENT"


class UndecidedError(DjopsError):
    """What a server's own catalog means cannot be told without guessing."""

    code = "E_UNDECIDED"
