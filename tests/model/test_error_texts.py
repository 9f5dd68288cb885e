"""The catalogue of errors: every text of it is known, filled in, and told from the others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from djops.errors import ConfigError
from djops.model.error_texts import error_texts, split_object
from djops.systems.resources import load_error_texts

CASES = yaml.safe_load((Path(__file__).parents[1] / "data" / "error_texts.yaml").read_text())
CATALOGUE = load_error_texts()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_text_is_known_for_what_it_is(case: dict[str, Any]) -> None:
    reading = CATALOGUE.read(case["text"])
    assert reading is not None
    assert reading.entry.id == case["id"]
    wanted = case.get("found", {})
    assert {name: reading.found.get(name) for name in wanted} == wanted
    assert list(reading.also) == case.get("also", [])
    for text in (reading.entry.means, reading.entry.cause, reading.entry.do):
        assert "{" not in reading.fill(text)


def test_every_entry_has_a_case() -> None:
    assert {case["id"] for case in CASES} == {entry.id for entry in CATALOGUE.entries}
    assert len({entry.id for entry in CATALOGUE.entries}) == len(CATALOGUE.entries)


@pytest.mark.parametrize("entry", CATALOGUE.entries, ids=lambda entry: entry.id)
def test_words_that_are_filled_in_come_from_the_pattern(entry: Any) -> None:
    """A word that no text can give would stand there as its own name."""
    given = {"who", "table", "schema", "privileges"}
    for expression in entry.expressions:
        given |= set(expression.groupindex)
    for text in (entry.means, entry.cause, entry.do):
        for word in re.findall(r"\{(\w+)\}", text):
            assert word in given


@pytest.mark.parametrize("text", ["", "hello", "KeyError: 'subject_id'", "ValueError: None of them", "()"])
def test_other_texts_are_not_known(text: str) -> None:
    assert CATALOGUE.read(text) is None


def test_names_are_filled_in() -> None:
    reading = CATALOGUE.read("INSERT command denied to user 'alice'@'%' for table 'ephys._recording'")
    assert reading is not None
    assert reading.fill(reading.entry.means) == "alice lacks INSERT on ephys._recording"
    assert reading.fill(reading.entry.means, who="Alice", table=None).startswith(
        "Alice lacks INSERT on ephys"
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("`a`.`b.c`", ("a", "b.c")),
        ("'a.b'", ("a", "b")),
        ("'_b'", (None, "_b")),
        ("a.#b", ("a", "#b")),
        ("~lineage", (None, "~lineage")),
    ],
)
def test_tables_are_named_in_many_ways(text: str, wanted: tuple[str | None, str]) -> None:
    assert split_object(text) == wanted


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2, "errors": []},
        {
            "version": 1,
            "errors": [{"id": "x", "by": "mysql", "pattern": "(", "means": "", "cause": "", "do": ""}],
        },
        {"version": 1, "errors": [{"id": "x", "by": "oracle", "pattern": "x"}]},
    ],
)
def test_a_damaged_catalogue_is_told(damage: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        error_texts(damage, "errors.yaml")
    assert caught.value.code == "E_ERRORS"
    assert caught.value.where == "errors.yaml"
