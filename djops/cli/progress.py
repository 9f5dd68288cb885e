"""Steps with elapsed seconds on standard error, from any number of threads at once."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from djops.report.table import clip, printable

INTERVAL = 0.2
"""Seconds between two looks at the clock, and two drawings of the live line."""
FIRST_WORD = 2.0
"""Seconds after which a plain log hears of a step under way; shorter ones get a line when they end."""
HEARTBEAT = 15.0
"""Seconds of silence after which a plain log hears that a step is still under way."""


@dataclass(eq=False)
class RunningStep:
    """One step under way.

    Attributes:
        name: What is being done.
        started: When it began, on the monotonic clock.
        due: When a plain log hears of it next, on the monotonic clock.
        text: The latest note.
    """

    name: str
    started: float
    due: float
    text: str = ""

    def note(self, text: str) -> None:
        """Say something about the step."""
        self.text = printable(text)

    def describe(self) -> str:
        """Return the name with the latest note."""
        return f"{self.name}: {self.text}" if self.text else self.name


@dataclass
class StepLog:
    """Shows steps on a stream: a live line on a terminal, plain lines elsewhere.

    Attributes:
        stream: Where to write.
        live: Whether the stream is a terminal.
    """

    stream: TextIO
    live: bool
    _running: list[RunningStep] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _ticker: threading.Thread | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[RunningStep]:
        """Show a step until the context is left, and then how long it took and how it ended.

        Args:
            name: What is being done, in a few words.

        Yields:
            The step, to which notes can be given.
        """
        now = time.monotonic()
        running = RunningStep(printable(name), now, now + FIRST_WORD)
        self._begin(running)
        try:
            yield running
        except BaseException:
            self._end(running, "failed")
            raise
        self._end(running, "ok")

    def _begin(self, step: RunningStep) -> None:
        with self._guard:
            self._running.append(step)
            if self._ticker is None:
                self._over = threading.Event()
                self._ticker = threading.Thread(target=self._tick, args=(self._over,), daemon=True)
                self._ticker.start()

    def _end(self, step: RunningStep, outcome: str) -> None:
        with self._guard:
            self._running.remove(step)
            self._line(f"{outcome:<6} {time.monotonic() - step.started:>5.1f} s  {step.describe()}")
            if not self._running:
                self._over.set()
                self._ticker = None

    def _tick(self, over: threading.Event) -> None:
        while not over.wait(INTERVAL):
            with self._guard:
                if over.is_set():
                    return
                if self.live:
                    self._draw()
                else:
                    self._beat()

    def _draw(self) -> None:
        now = time.monotonic()
        parts = [f"{step.describe()} {now - step.started:.0f} s" for step in self._running]
        width = shutil.get_terminal_size().columns - 1
        self._write("\r\x1b[K" + clip(" | ".join(parts), width))

    def _beat(self) -> None:
        now = time.monotonic()
        for step in self._running:
            if now >= step.due:
                step.due = now + HEARTBEAT
                self._line(f"{'...':<6} {now - step.started:>5.0f} s  {step.describe()}")

    def _line(self, text: str) -> None:
        self._write(("\r\x1b[K" if self.live else "") + text + "\n")

    def _write(self, text: str) -> None:
        # Whoever closed standard error does not want to hear of steps; the work itself goes on.
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()
