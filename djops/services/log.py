"""The journal as it is shown: what was done, by whom, what came of it, and whether it is whole."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from djops.errors import ConfigError, UsageError
from djops.model.journal import Checked, Entry, check, numbers, read_lines
from djops.services.journal import Journal
from djops.systems import journal as local
from djops.systems.files import disk_errors, write_private

OPEN = "outcome unknown"
"""An intent without a mark: djops ended before it could tell. The next plan shows what is left of it."""


@dataclass(frozen=True)
class Step:
    """One change of a run.

    Attributes:
        entry: Its intent.
        outcome: ``done``, ``failed``, ``begun``, ``not sent``, or :data:`OPEN`.
        why: What the server said, for one that failed.
    """

    entry: Entry
    outcome: str
    why: str = ""


@dataclass(frozen=True)
class Deed:
    """One plan that was carried out, or something that stands alone.

    Attributes:
        entry: The row with which it begins.
        steps: Its changes.
        ended: How it ended: ``end``, ``failed``, ``interrupted``; empty when it never told.
    """

    entry: Entry
    steps: tuple[Step, ...] = ()
    ended: str = ""


@dataclass(frozen=True)
class Wanted:
    """What is to be shown.

    Attributes:
        since: Nothing before that time (UTC).
        who: Only what this account did.
        on: Only what names this person, schema or object.
    """

    since: dt.datetime | None = None
    who: str | None = None
    on: str | None = None

    @classmethod
    def of(cls, since: str | None, who: str | None, on: str | None, now: dt.datetime) -> Wanted:
        """Read what a user asks for.

        Args:
            since: A date, a date with time, or an age such as ``7d`` or ``12h``.
            who: An account.
            on: A name.
            now: This moment.

        Raises:
            UsageError: ``E_USAGE`` for a time that is none.
        """
        return cls(_moment(since, now) if since else None, who, on)

    def takes(self, deed: Deed) -> Deed | None:
        """Return what of a deed is to be shown, if anything.

        Args:
            deed: The deed.
        """
        if self.since is not None and _time_of(deed.entry) < self.since:
            return None
        if self.who is not None and self.who not in deed.entry.who.split():
            return None
        if self.on is None:
            return deed
        name = re.compile(rf"(?<![\w-]){re.escape(self.on)}(?![\w-])")
        steps = tuple(step for step in deed.steps if name.search(f"{step.entry.change} {step.entry.detail}"))
        found = steps or (not deed.steps and name.search(f"{deed.entry.change} {deed.entry.detail}"))
        return Deed(deed.entry, steps, deed.ended) if found else None


def _moment(text: str, now: dt.datetime) -> dt.datetime:
    age = re.fullmatch(r"(\d{1,5})([dhm])", text)
    if age:
        unit = {"d": "days", "h": "hours", "m": "minutes"}[age[2]]
        return now - dt.timedelta(**{unit: int(age[1])})
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no time", hint="give a date such as 2030-01-31, or an age such as 7d or 12h"
        ) from error
    return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)


def _time_of(entry: Entry) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(entry.at)
    except ValueError:
        return dt.datetime.max.replace(tzinfo=dt.UTC)


@dataclass
class _Open:
    """A run while its rows are read."""

    begin: Entry
    intents: list[Entry] = field(default_factory=list)
    outcome: dict[int, tuple[str, str]] = field(default_factory=dict)
    ended: str = ""

    def take(self, entry: Entry) -> None:
        if entry.event == "intent":
            self.intents.append(entry)
        elif entry.changes:
            told = entry.change if entry.event == "failed" else ""
            self.outcome.update(dict.fromkeys(numbers(entry.changes), (entry.event, told)))
        else:
            self.ended = entry.event
            for name in ("begun", "not_sent"):
                found = numbers(str(local.facts_of(entry).get(name, "")))
                self.outcome.update(dict.fromkeys(found, (name.replace("_", " "), "")))

    def deed(self) -> Deed:
        steps = (
            Step(entry, *self.outcome.get(number, (OPEN, "")))
            for entry in self.intents
            for number in numbers(entry.changes)
        )
        return Deed(self.begin, tuple(steps), self.ended)


def deeds(entries: Iterable[Entry], wanted: Wanted) -> tuple[Deed, ...]:
    """Put the rows of each run together.

    Args:
        entries: The rows.
        wanted: What is to be shown.

    Returns:
        What was done, in the order in which it began.
    """
    runs: dict[str, _Open] = {}
    order: list[Deed | _Open] = []
    for entry in entries:
        if not entry.run:
            order.append(Deed(entry))
        elif entry.event == "begin":
            runs[entry.run] = _Open(entry)
            order.append(runs[entry.run])
        elif entry.run in runs:
            runs[entry.run].take(entry)
    told = (one.deed() if isinstance(one, _Open) else one for one in order)
    return tuple(taken for taken in map(wanted.takes, told) if taken is not None)


@dataclass(frozen=True)
class Recorded:
    """Where the journal is, and what it says last.

    Attributes:
        where: Where it is.
        rows: How many rows it has.
        last: The last row, if any.
        newest: The newest plan of the environment that was to bring everything up to date, if any.
        waiting: Rows on this machine that have not reached it yet.
    """

    where: str
    rows: int
    last: Entry | None
    newest: Deed | None
    waiting: int

    @property
    def unfinished(self) -> Deed | None:
        """The newest plan when it failed, was interrupted, or has no end yet."""
        return self.newest if self.newest is not None and self.newest.ended != "end" else None


def recorded(journal: Journal, state: Path) -> Recorded:
    """Look where the journal is and what it says last; its chain is not checked.

    Args:
        journal: The journal.
        state: The directory of djops' own state for the environment.

    Raises:
        DjopsError: The journal cannot be read.
    """
    chain = journal.chain
    head = chain.head()
    last = next(iter(chain.read(head.seq - 1)), None) if head.seq else None
    begin = chain.newest_plan(without="expire")
    # Deeds come in the order in which they began.
    newest = deeds(chain.read(begin.seq - 1), Wanted())[0] if begin is not None else None
    return Recorded(chain.where, head.seq, last, newest, local.waiting(state))


@dataclass(frozen=True)
class Verified:
    """Whether the journal is whole.

    Attributes:
        where: Where it is.
        checked: What looking at it came to.
        waiting: Rows on this machine that have not reached it yet.
        anchors: Whether heads that were noted elsewhere were compared.
    """

    where: str
    checked: Checked
    waiting: int
    anchors: bool


def verify(journal: Journal, state: Path) -> Verified:
    """Look whether the journal is whole, and as it was when its heads were noted in the secrets server.

    Args:
        journal: The journal.
        state: The directory of djops' own state for the environment.

    Raises:
        DjopsError: Journal or heads cannot be read.
    """
    return Verified(journal.chain.where, journal.verify(), local.waiting(state), True)


def verify_export(path: Path) -> Verified:
    """Look whether an export is whole in itself.

    Args:
        path: The file.

    Raises:
        ConfigError: It cannot be read.
        DjopsError: ``E_JOURNAL`` naming a line that is none of an export.
    """
    return Verified(str(path), check(read_export(path)), 0, False)


def read_export(path: Path) -> Iterator[Entry]:
    """Read an export.

    Args:
        path: The file.

    Raises:
        ConfigError: It cannot be read.
        DjopsError: ``E_JOURNAL`` naming a line that is none of an export.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    return read_lines(lines, str(path))


def export(journal: Journal, path: Path) -> int:
    """Write all rows into a file that only its owner can read.

    Args:
        journal: The journal.
        path: The file, which is replaced.

    Returns:
        How many rows.

    Raises:
        ConfigError: It cannot be written.
        DjopsError: The journal cannot be read.
    """
    lines = [entry.to_line() + "\n" for entry in journal.read()]
    try:
        with disk_errors(path):
            write_private(path, "".join(lines))
    except OSError as error:
        raise ConfigError(f"the file cannot be written: {error.strerror}", where=str(path)) from error
    return len(lines)
