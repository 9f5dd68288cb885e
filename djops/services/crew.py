"""Threads that carry out operations: one for the database, several for everything spoken over HTTP."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from djops.errors import AccessDeniedError, ApplyError, DjopsError
from djops.plan.operations import Operation
from djops.plan.schedule import Piece

THREADS = 8
"""Requests to the object store and the secrets server that are under way at once."""

AHEAD = 8 * THREADS
"""Changes begun and not finished, for the database and for the others each: what a failure leaves open.

More than share one statement, so that the next ones' passwords are kept meanwhile.
"""

_SINGLY_SECONDS = 30
"""How long accounts are tried one by one once one was refused: waiting is no account's fault."""

_REFUSALS = (ApplyError, AccessDeniedError)
"""What a server says that carried out nothing of a statement; it is there, and answers."""

_LOOK = 0.25
"""Seconds between two looks at the clock while operations are under way."""

_Job = Callable[[], None]


@dataclass
class Outcome:
    """What became of changes, by their numbers.

    Attributes:
        done: Those carried out, in the order in which they were finished.
        failed: Those that a server refused, and why.
        begun: Those of which something was sent, and the rest was not.
        untouched: Those of which nothing was sent.
    """

    done: list[int] = field(default_factory=list)
    failed: dict[int, DjopsError] = field(default_factory=dict)
    begun: list[int] = field(default_factory=list)
    untouched: list[int] = field(default_factory=list)

    def add(self, other: Outcome, first: int) -> None:
        """Add the outcome of later changes.

        Args:
            other: Their outcome.
            first: Number of the first of them.
        """
        self.done += (first + number for number in other.done)
        self.failed.update({first + number: error for number, error in other.failed.items()})
        self.begun += (first + number for number in other.begun)
        self.untouched += (first + number for number in other.untouched)


@dataclass(frozen=True)
class _Sent:
    """What came of sending an operation: errors by change, and the changes for which it is done."""

    errors: Mapping[int, BaseException] = field(default_factory=dict)
    done: tuple[int, ...] = ()


class Crew:
    """The threads; made once for a plan, started when there is work for them."""

    def __init__(self) -> None:
        self._database: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._others: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._started = [0, 0]
        self._guard = threading.Lock()

    def put(self, job: _Job, *, on_database: bool) -> None:
        """Have a job done by the next thread that is free.

        Args:
            job: The job; it raises nothing.
            on_database: Whether it is for the database's thread.
        """
        jobs, kind = (self._database, 0) if on_database else (self._others, 1)
        jobs.put(job)
        with self._guard:
            if self._started[kind] < (1 if on_database else THREADS):
                # Daemons: who interrupts twice does not wait for a server that does not answer.
                threading.Thread(target=_work, args=(jobs,), daemon=True).start()
                self._started[kind] += 1


def _work(jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        jobs.get()()


class PhaseRun:
    """Carries out the changes of one phase.

    Changes that share a statement are begun together. A statement about several accounts that the server
    refuses did nothing, and is sent again for each by itself, so that one account holds up no other.

    On a failure no further change is begun, and those under way are carried on as far as they do not
    depend on what failed. The same on an interruption; at a second one, whatever is under way is left.

    Args:
        crew: The threads.
        pieces: The operations.
        count: How many changes there are.
        send: Sends one operation.
        finished: Hears the number of each change that is done, on any thread.
        pause: Called on the database's thread now and then.
        outcome: Where the outcome goes.
    """

    def __init__(
        self,
        crew: Crew,
        pieces: Sequence[Piece],
        count: int,
        *,
        send: Callable[[Operation], None],
        finished: Callable[[int], None],
        pause: Callable[[], None],
    ) -> None:
        self.outcome = Outcome()
        self.crash: BaseException | None = None
        self._crew, self._pieces, self._send = crew, pieces, send
        self._finished, self._pause = finished, pause
        self._turn = threading.Condition()
        self._open = [len(piece.after) for piece in pieces]
        self._next: defaultdict[int, list[int]] = defaultdict(list)
        self._of: list[list[int]] = [[] for _ in range(count)]
        self._mates: list[tuple[int, ...]] = [(number,) for number in range(count)]
        for number, piece in enumerate(pieces):
            for change in piece.changes:
                self._of[change].append(number)
                self._mates[change] = max(self._mates[change], piece.changes, key=len)
            for before in piece.after:
                self._next[before].append(number)
        self._left = [len(numbers) for numbers in self._of]
        self._admitted, self._begun = [False] * count, [False] * count
        mixed = [any(pieces[number].on_database for number in numbers) for numbers in self._of]
        self._waiting: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}
        for mates in reversed(dict.fromkeys(self._mates)):
            self._waiting[mixed[mates[0]]].append(mates)
        self._kind, self._under_way = mixed, {True: 0, False: 0}
        self._queued = 0
        self._stopping = self._abandoned = self._over = False

    def run(self) -> Outcome:
        """Carry everything out.

        Returns:
            What became of it.

        Raises:
            KeyboardInterrupt: Somebody asked to stop; what was under way has come to its end.
        """
        try:
            self._wait()
        except KeyboardInterrupt:
            self._stopping = True
            self._wait()
            raise
        finally:
            with self._turn:
                self._abandoned = True
                self._conclude()
        if self.crash is not None:
            raise self.crash
        return self.outcome

    def _wait(self) -> None:
        # All else is done by the threads: an interruption finds nothing half changed here.
        self._crew.put(self._begin, on_database=True)
        with self._turn:
            while not self._over:
                if not self._turn.wait(_LOOK):
                    self._crew.put(self._mark, on_database=True)

    def _begin(self) -> None:
        with self._turn:
            self._admit()
            self._look_whether_over()

    def _look_whether_over(self) -> None:
        if not self._queued:
            self._over = True
            self._turn.notify()

    def _admit(self) -> None:
        for kind, waiting in self._waiting.items():
            while waiting and not self._stopping and self._under_way[kind] < AHEAD:
                together = waiting.pop()
                for change in together:
                    self._admitted[change] = True
                    if not self._of[change]:
                        self._end(change)
                        continue
                    self._under_way[kind] += 1
                for number in dict.fromkeys(number for change in together for number in self._of[change]):
                    if not self._open[number]:
                        self._enqueue(number)

    def _enqueue(self, number: int) -> None:
        self._queued += 1
        self._crew.put(lambda: self._do(number), on_database=self._pieces[number].on_database)

    def _do(self, number: int) -> None:
        piece = self._pieces[number]
        with self._turn:
            begun = any(self._begun[change] for change in self._mates[piece.changes[0]])
            dropped = self._abandoned or (self._stopping and not begun)
            for change in piece.changes:
                self._begun[change] |= not dropped
        sent = _Sent() if dropped else self._sent(piece)
        with self._turn:
            for change, error in sent.errors.items():
                self._fail(change, error)
            self._settle(number, sent.done)
            self._queued -= 1
            self._look_whether_over()

    def _sent(self, piece: Piece) -> _Sent:
        try:
            self._send(piece.operation)
        except _REFUSALS as error:
            return self._sent_singly(piece) if piece.singly else _Sent({piece.changes[0]: error})
        except BaseException as error:
            return _Sent({piece.changes[0]: error})
        try:
            if piece.on_database:
                self._pause()
        except BaseException as error:
            return _Sent({piece.changes[0]: error}, piece.changes[1:])
        return _Sent(done=piece.changes)

    def _sent_singly(self, piece: Piece) -> _Sent:
        errors: dict[int, BaseException] = {}
        done: list[int] = []
        until = time.monotonic() + _SINGLY_SECONDS
        for change, operation in zip(piece.changes, piece.singly, strict=True):
            if self._abandoned or (errors and time.monotonic() > until):
                break
            try:
                self._send(operation)
                done.append(change)
            except BaseException as error:
                errors[change] = error
                if not isinstance(error, _REFUSALS):
                    break
        return _Sent(errors, tuple(done))

    def _fail(self, change: int, error: BaseException) -> None:
        self._stopping = True
        if isinstance(error, DjopsError):
            self.outcome.failed.setdefault(change, error)
            # Without the lock nothing more may be sent at all.
            self._abandoned |= error.code == "E_LOCK_LOST"
        else:
            self.crash, self._abandoned = self.crash or error, True

    def _settle(self, number: int, done: Sequence[int]) -> None:
        whole = len(done) == len(self._pieces[number].changes)
        for change in done:
            self._left[change] -= 1
        for after in self._next[number]:
            # What is left to do for those that went through may follow, but no later statement.
            if whole or {*self._pieces[after].changes} <= {*done}:
                self._open[after] -= 1
                if not self._open[after] and self._admitted[self._pieces[after].changes[0]]:
                    self._enqueue(after)
        for change in done:
            if not self._left[change]:
                self._under_way[self._kind[change]] -= 1
                self._end(change)
        self._admit()

    def _end(self, change: int) -> None:
        self.outcome.done.append(change)
        try:
            self._finished(change)
        except BaseException as error:
            self._crash(error)

    def _mark(self) -> None:
        try:
            self._pause()
        except BaseException as error:
            with self._turn:
                self._crash(error)

    def _crash(self, error: BaseException) -> None:
        """End the run with what went wrong beside it: a thread that ended of it would be waited for."""
        self._stopping = self._abandoned = True
        self.crash = self.crash or error

    def _conclude(self) -> None:
        settled = {*self.outcome.done, *self.outcome.failed}
        for change, begun in enumerate(self._begun):
            if change not in settled:
                (self.outcome.begun if begun else self.outcome.untouched).append(change)
