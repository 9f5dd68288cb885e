"""A change: one difference between what is wanted and what is there, that knows how to close itself."""

from __future__ import annotations

import abc
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

from djops.plan.operations import Operation

System = Literal["mysql", "s3", "secrets"]


class Risk(enum.StrEnum):
    """What a change does to access or data."""

    NARROWS = "narrows"
    KEEPS = "keeps"
    WIDENS = "widens"
    DESTROYS = "destroys"


class Phase(enum.IntEnum):
    """When a change is carried out: everything that narrows comes before anything that widens."""

    ADOPT = -1
    NARROW = 0
    END_SESSIONS = 1
    PREPARE = 2
    WIDEN = 3
    JOIN = 4
    ACTIVATE = 5
    CLEAN = 6


class Told(NamedTuple):
    """What a change says about itself.

    Attributes:
        object: What is changed, for people.
        before: What is there now; empty for nothing.
        after: What will be there; empty for nothing.
        risk: What it does to access or data.
        phase: When it is carried out.
    """

    object: str
    before: str
    after: str
    risk: Risk
    phase: Phase


@dataclass(frozen=True, kw_only=True)
class Change(abc.ABC):
    """One change.

    Attributes:
        why: The reasons, in the words of the project file.
    """

    why: tuple[str, ...]

    system: ClassVar[System]

    @abc.abstractmethod
    def _tell(self) -> Told:
        """Say what is changed from what to what, and how risky that is."""

    @cached_property
    def _told(self) -> Told:
        return self._tell()

    @property
    def object(self) -> str:
        """What is changed, for people."""
        return self._told.object

    @property
    def before(self) -> str:
        """What is there now; empty for nothing."""
        return self._told.before

    @property
    def after(self) -> str:
        """What will be there; empty for nothing."""
        return self._told.after

    @property
    def risk(self) -> Risk:
        """What it does to access or data."""
        return self._told.risk

    @property
    def phase(self) -> Phase:
        """When it is carried out."""
        return self._told.phase

    @abc.abstractmethod
    def operations(self) -> tuple[Operation, ...]:
        """Return what is sent to the servers, in order."""

    @abc.abstractmethod
    def reverse(self) -> Change:
        """Return the change that takes this one back."""

    def describe(self) -> str:
        """Return the change in one line."""
        if not self.before:
            return f"{self.object}: {self.after}"
        if not self.after:
            return f"{self.object}: no longer {self.before}"
        return f"{self.object}: {self.before} -> {self.after}"

    def as_data(self) -> Mapping[str, Any]:
        """Return the change for JSON."""
        return {
            "system": self.system,
            "kind": type(self).__name__,
            "object": self.object,
            "before": self.before or None,
            "after": self.after or None,
            "why": list(self.why),
            "risk": str(self.risk),
            "operations": [str(operation) for operation in self.operations()],
        }


@dataclass(frozen=True)
class Plan:
    """Everything that would bring the servers to what the project file says.

    Attributes:
        changes: The changes in the order in which they are carried out.
        unmanaged: Accounts on the servers that djops did not make and leaves alone, as ``system: name``.
    """

    changes: tuple[Change, ...]
    unmanaged: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the servers hold what they should."""
        return not self.changes


def in_order(changes: list[Change]) -> tuple[Change, ...]:
    """Put changes in the order in which they are safe: narrowing before widening, makers before users.

    Args:
        changes: Changes in any order.

    Returns:
        The same changes; those of one phase keep their order.
    """
    return tuple(sorted(changes, key=lambda change: change.phase))
