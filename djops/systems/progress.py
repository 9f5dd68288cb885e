"""How long work tells what it is doing, without knowing who listens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class Step(Protocol):
    """One step under way."""

    def note(self, text: str) -> None:
        """Say something about the step, for example ``47 of 115 packages`` or ``already there``."""


class Progress(Protocol):
    """Whoever wants to know about steps; the command line shows them with elapsed seconds."""

    def step(self, name: str) -> AbstractContextManager[Step]:
        """Announce a step; it is over, or failed, when the context is left."""


class _SilentStep:
    def note(self, text: str) -> None:
        """Ignore the note."""


class Silent:
    """Progress that nobody wants to see."""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Do nothing around the step."""
        yield _SilentStep()
