"""The chain of the journal: every kind of tampering is found, and told row by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djops.errors import DjopsError
from djops.model.journal import (
    EVENTS,
    GENESIS,
    Draft,
    Entry,
    Head,
    check,
    numbers,
    ranges,
    read_lines,
    seal,
)

TEXT = st.text(max_size=30)
DRAFTS = st.builds(
    Draft,
    id=st.uuids().map(lambda one: one.hex),
    at=st.datetimes().map(lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")),
    who=TEXT,
    host=TEXT,
    command=TEXT,
    event=st.sampled_from(sorted(EVENTS)),
    change=TEXT,
    reason=TEXT,
)


def draft(number: int) -> Draft:
    at = f"2030-01-01T00:00:{number:02d}.000000Z"
    return Draft(id=f"{number:032x}", at=at, who="ada", host="ws1", command="apply", event="note")


def chain(length: int) -> list[Entry]:
    return list(seal(map(draft, range(1, length + 1)), Head(), "lab", "local"))


def sealed_anew(entries: Sequence[Entry], first: int) -> list[Entry]:
    """Compute the chain anew from a row on, as somebody who knows how would."""
    kept = list(entries[: first - 1])
    head = Head(kept[-1].seq, kept[-1].hash) if kept else Head()
    return [*kept, *seal(entries[first - 1 :], head, "lab", "local")]


def changed(entries: list[Entry], seq: int, **what: Any) -> list[Entry]:
    return [replace(entry, **what) if entry.seq == seq else entry for entry in entries]


ROWS = 9
TAMPERING: dict[str, tuple[Callable[[list[Entry]], list[Entry]], list[tuple[int, str]]]] = {
    "a changed row": (lambda rows: changed(rows, 4, who="eve"), [(4, "changed")]),
    "a changed row with its own hash": (
        lambda rows: changed(rows, 4, who="eve", hash=replace(rows[3], who="eve").digest()),
        [(5, "unlinked")],
    ),
    "a changed hash": (lambda rows: changed(rows, 4, hash="f" * 64), [(4, "changed"), (5, "unlinked")]),
    "a removed row": (lambda rows: rows[:3] + rows[4:], [(4, "missing")]),
    "several removed rows": (lambda rows: rows[:3] + rows[6:], [(4, "missing")]),
    "the first row removed": (lambda rows: rows[1:], [(1, "missing")]),
    "the end removed": (lambda rows: rows[:6], [(7, "cut off")]),
    "everything removed": (lambda rows: [], [(1, "cut off")]),
    "two rows in the other order": (
        lambda rows: [*rows[:3], rows[4], rows[3], *rows[5:]],
        [(4, "missing"), (4, "reordered")],
    ),
    "a row twice": (lambda rows: [*rows[:4], rows[3], *rows[4:]], [(4, "inserted")]),
    "a row put in and the others moved": (
        lambda rows: [
            *rows[:3],
            replace(rows[3], who="eve"),
            *(replace(row, seq=row.seq + 1) for row in rows[3:]),
        ],
        [(4, "changed"), (5, "changed")],
    ),
    "a row put in and all sealed anew": (
        lambda rows: sealed_anew([*rows[:3], replace(rows[3], who="eve"), *rows[3:]], 4),
        [(4, "rewritten")],
    ),
    "sealed anew from the middle": (
        lambda rows: sealed_anew(changed(rows, 5, who="eve"), 5),
        [(4, "rewritten")],
    ),
    "sealed anew from the beginning": (
        lambda rows: sealed_anew(changed(rows, 1, who="eve"), 1),
        [(1, "rewritten"), (1, "rewritten")],
    ),
    "the end replaced": (
        lambda rows: sealed_anew([*rows[:6], *(replace(row, who="eve") for row in rows[6:])], 7),
        [(4, "rewritten")],
    ),
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_tampering_is_found(kind: str) -> None:
    rows = chain(ROWS)
    anchors = {3: rows[2].hash, ROWS: rows[-1].hash}
    assert not check(rows, anchors).faults
    tamper, wanted = TAMPERING[kind]
    found = check(tamper(rows), anchors).faults
    # Of rows that were moved each tells for itself; the first two are enough.
    assert [(fault.seq, fault.kind) for fault in found][: len(wanted)] == wanted
    assert len(found) == len(wanted) or kind.endswith("others moved")


def test_what_is_told_names_rows() -> None:
    rows = chain(ROWS)
    anchors = {3: rows[2].hash, ROWS: rows[-1].hash}
    (fault,) = check(sealed_anew(changed(rows, 5, who="eve"), 5), anchors).faults
    assert "rows 4 to 9" in fault.text
    (fault,) = check(rows[:6], anchors).faults
    assert fault.text == "rows 7 to 9 at the end are gone: the anchor names row 9"
    assert check(rows[:5], {5: rows[4].hash}).anchored == 5


@given(st.lists(DRAFTS, min_size=1, max_size=6), st.data())
def test_no_field_of_any_row_can_be_changed(drafts: list[Draft], data: st.DataObject) -> None:
    rows = list(seal(drafts, Head(), "lab", "local"))
    assert not check(rows).faults
    place = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.sampled_from([field.name for field in fields(Entry)]))
    old = getattr(rows[place], field)
    new = old + data.draw(st.integers(1, 9)) if field == "seq" else old + "x"
    rows[place] = replace(rows[place], **{field: new})
    assert check(rows).faults


@given(st.lists(DRAFTS, max_size=4))
def test_an_export_is_read_as_it_was_written(drafts: list[Draft]) -> None:
    rows = list(seal(drafts, Head(), "lab", "local"))
    assert list(read_lines([row.to_line() for row in rows], "file")) == rows


@pytest.mark.parametrize("line", ["", "{}", "[1]", "nonsense", '{"seq": "1"}'])
def test_a_line_that_is_no_row_is_named(line: str) -> None:
    good = chain(1)[0].to_line()
    with pytest.raises(DjopsError, match="file:2") as caught:
        list(read_lines([good, line], "file"))
    assert caught.value.code == "E_JOURNAL"


def test_a_field_of_another_type_is_no_row() -> None:
    data = json.loads(chain(1)[0].to_line())
    with pytest.raises(ValueError, match="wrong type"):
        Entry.from_data(data | {"who": 4})


def test_long_text_is_cut_when_written_and_not_when_read() -> None:
    long = replace(draft(1), change="x" * 200_000, reason="\ud800")
    (row,) = seal([long], Head(), "lab", "local")
    assert len(row.change) == 100_000
    assert row.reason == "\\ud800"
    assert check([replace(row, change=row.change + "more")]).faults


def test_an_empty_chain_is_whole() -> None:
    found = check([])
    assert (found.rows, found.head, found.faults) == (0, Head(0, GENESIS), ())


@given(st.sets(st.integers(1, 60)))
def test_numbers_are_written_as_ranges(some: set[int]) -> None:
    assert set(numbers(ranges(some))) == some


def test_ranges() -> None:
    assert ranges([1, 2, 3, 7, 9, 10]) == "1-3,7,9-10"
    assert not ranges([])
