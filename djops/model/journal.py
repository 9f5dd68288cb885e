"""The journal: who changed what, each row sealed with a hash over itself and the row before it.

Whoever changes, removes, inserts or reorders rows breaks the chain; whoever computes it anew from some row
on, or cuts off its end, contradicts the heads that were noted elsewhere (anchors).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from djops.errors import DjopsError

GENESIS = "0" * 64
"""What stands in the place of a hash before the first row."""

FORMAT = "djops journal 1"
"""Part of what is hashed, so that a later format cannot be taken for this one."""

Event = Literal["note", "begin", "intent", "done", "failed", "interrupted", "end"]
EVENTS: frozenset[str] = frozenset(get_args(Event))

_LIMITS = {"who": 255, "host": 255, "command": 255, "reason": 4000, "change": 100_000}
"""Characters; what is longer is cut, with a mark."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A row that has no place in the chain yet.

    Attributes:
        id: 32 hexadecimal digits of its own, by which it is known wherever it was kept.
        at: When, as ``2030-01-31T12:00:00.000000Z``.
        who: The account on that machine.
        host: The machine.
        command: The command, without arguments.
        event: What happened: a plan's ``begin``, an ``intent`` for each change before it is sent, what came
            of changes (``done``, ``failed``), the plan's ``end`` or why there is none (``failed``,
            ``interrupted``); a ``note`` stands alone.
        run: What rows of one plan have in common, 32 hexadecimal digits.
        changes: Which changes of the plan it is about, as ``3`` or ``1-5,9``.
        plan: SHA-256 over the plan.
        change: The change in words, or what else there is to say.
        detail: JSON object with the same for programs; never a secret.
        reason: Why, in the words of whoever called the command.
    """

    id: str
    at: str
    who: str
    host: str
    command: str
    event: Event
    run: str = ""
    changes: str = ""
    plan: str = ""
    change: str = ""
    detail: str = "{}"
    reason: str = ""

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            text: str = getattr(self, name)
            if len(text) > limit or not text.isascii():
                text = text.encode("utf-8", "backslashreplace").decode()
                object.__setattr__(self, name, text if len(text) <= limit else text[: limit - 1] + "…")


@dataclass(frozen=True, kw_only=True)
class Entry(Draft):
    """A row in its place.

    Attributes:
        project: The project whose chain it is in.
        environment: The environment it is about.
        seq: Its number in the chain, from 1.
        previous: Hash of the row before it.
        hash: SHA-256 over all of the above.
    """

    project: str
    environment: str
    seq: int
    previous: str
    hash: str = ""

    def __post_init__(self) -> None:
        """Take the text as it is: whatever a stored row has too much must not pass for what it is cut to."""

    def digest(self) -> str:
        """Compute what :attr:`hash` should be."""
        return _digest(vars(self))

    def to_line(self) -> str:
        """Return the row as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=True, sort_keys=True)

    @classmethod
    def from_data(cls, data: Any) -> Self:  # noqa: ANN401  it comes from outside
        """Read what :meth:`to_line` wrote.

        Raises:
            ValueError: It is something else.
        """
        if not isinstance(data, dict) or data.keys() != {*_HASHED, "hash"}:
            raise ValueError("not a row of a djops journal")
        if not all(isinstance(value, int if key == "seq" else str) for key, value in data.items()):
            raise ValueError("a field has the wrong type")
        return cls(**data)


_HASHED = tuple(sorted(field.name for field in fields(Entry) if field.name != "hash"))


def _digest(row: Mapping[str, Any]) -> str:
    text = json.dumps([FORMAT, *(row[name] for name in _HASHED)], ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Head:
    """The end of a chain.

    Attributes:
        seq: Number of the last row, 0 when there is none.
        hash: Its hash.
    """

    seq: int = 0
    hash: str = GENESIS


def seal(drafts: Iterable[Draft], head: Head, project: str, environment: str) -> Iterator[Entry]:
    """Give rows their places behind the end of a chain.

    Args:
        drafts: The rows.
        head: The end so far.
        project: Whose chain it is.
        environment: The environment they are about.
    """
    seq, previous = head.seq, head.hash
    for draft in drafts:
        seq += 1
        own = {name: getattr(draft, name) for name in _DRAFTED}
        row = {**own, "project": project, "environment": environment, "seq": seq, "previous": previous}
        previous = _digest(row)
        yield Entry(**row, hash=previous)


_DRAFTED = tuple(field.name for field in fields(Draft))


def read_lines(lines: Iterable[str], name: str) -> Iterator[Entry]:
    """Read an export.

    Args:
        lines: Its lines.
        name: What to call it in errors.

    Raises:
        DjopsError: ``E_JOURNAL`` naming the first line that is none of an export.
    """
    for number, line in enumerate(lines, 1):
        try:
            yield Entry.from_data(json.loads(line))
        except ValueError as error:
            raise DjopsError(
                f"this line is no row of a journal: {error}",
                where=f"{name}:{number}",
                code="E_JOURNAL",
                hint="exports are written by `djops log --export FILE`",
            ) from error


@dataclass(frozen=True)
class Fault:
    """Where a chain is broken.

    Attributes:
        seq: The row, or the first of several.
        kind: ``changed``, ``missing``, ``inserted``, ``reordered``, ``unlinked``, ``cut off`` or
            ``rewritten``.
        text: What is wrong, in a sentence.
    """

    seq: int
    kind: str
    text: str


@dataclass(frozen=True)
class Checked:
    """What looking at a chain came to.

    Attributes:
        rows: How many rows there are.
        head: Its end.
        faults: Where it is broken.
        anchored: Number of the last row that an anchor vouches for, 0 when there is no anchor.
    """

    rows: int
    head: Head
    faults: tuple[Fault, ...]
    anchored: int


def check(entries: Iterable[Entry], anchors: Mapping[int, str] | None = None) -> Checked:
    """Look whether a chain is whole.

    Args:
        entries: Its rows, in the order in which they are kept.
        anchors: Hashes of rows that were noted elsewhere, by number.

    Returns:
        Every place where it is broken, in the rows' order.
    """
    faults: list[Fault] = []
    noted, seen = dict(anchors or {}), set[int]()
    head, rows, trusted, anchored = Head(), 0, 0, 0
    for entry in entries:
        rows += 1
        faults += _at_row(entry, head, seen)
        seen.add(entry.seq)
        wanted = noted.pop(entry.seq, None)
        if wanted is not None and wanted != entry.hash:
            faults.append(_rewritten(trusted + 1, entry.seq))
        trusted = entry.seq if wanted == entry.hash else trusted
        anchored = entry.seq if wanted is not None else anchored
        head = Head(entry.seq, entry.hash) if entry.seq > head.seq else head
    cut = [seq for seq in noted if seq > head.seq]
    if cut:
        text = (
            f"{_rows(head.seq + 1, max(cut))} at the end {_are(max(cut) - head.seq)} gone: the anchor names"
        )
        faults.append(Fault(head.seq + 1, "cut off", f"{text} row {max(cut)}"))
    return Checked(rows, head, tuple(faults), anchored)


def _at_row(entry: Entry, head: Head, seen: set[int]) -> Iterator[Fault]:
    seq = entry.seq
    if entry.digest() != entry.hash:
        yield Fault(seq, "changed", f"row {seq} was changed: its content does not give its hash")
    if seq in seen:
        yield Fault(seq, "inserted", f"there are two rows {seq}")
    elif seq <= head.seq:
        yield Fault(seq, "reordered", f"row {seq} stands behind row {head.seq}")
    elif seq > head.seq + 1:
        missing = seq - head.seq - 1
        yield Fault(head.seq + 1, "missing", f"{_rows(head.seq + 1, seq - 1)} {_are(missing)} gone")
    elif entry.previous != head.hash:
        before = f"row {head.seq}" if head.seq else "the beginning"
        text = f"row {seq} does not continue {before}: one of the two was put in the place of another"
        yield Fault(seq, "unlinked", text)


def _rewritten(first: int, last: int) -> Fault:
    text = f"{_rows(first, last)} {_are(last - first + 1)} not what was noted elsewhere: row {last}"
    return Fault(
        first, "rewritten", f"{text} has another hash, so that at or after row {first} history changed"
    )


def _rows(first: int, last: int) -> str:
    return f"row {first}" if first == last else f"rows {first} to {last}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as ``1-5,9``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def numbers(text: str) -> Sequence[int]:
    """Read what :func:`ranges` wrote; anything else in it is left out."""
    found: list[int] = []
    for part in re.finditer(r"(\d{1,9})(?:-(\d{1,9}))?", text):
        found += range(int(part[1]), int(part[2] or part[1]) + 1)
    return found
