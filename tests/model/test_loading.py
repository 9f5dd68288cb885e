"""The project file's text: each file in tests/data/config says in its own comments what is wrong with it.

``#! CODE: fragment`` expects an error in that line whose message or hint holds the fragment, ``|`` parts
several; as the first line it stands for errors without a line, and ``@N`` at the end names another one.
``#= schemas: a, b`` says which schemas the pipeline has.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djops.errors import ConfigError, DjopsError, ManyErrors
from djops.model.checking import check, remarks
from djops.model.loading import PATTERN_WORDS, load, project_json_schema
from djops.model.project import resolve_on
from djops.model.yamltree import Positions, parse
from djops.systems.resources import load_roles

CASES = sorted((Path(__file__).parent.parent / "data" / "config").glob("*.yaml"))
HEAD = "version: 1\nproject: p\npipeline: {package: q}\nenvironments: {local: {target: local}}\n"
TODAY = dt.date(2026, 6, 1)


def expected(text: str) -> list[tuple[int, str, str]]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for part in line.partition("#! ")[2].split(" | ") if "#! " in line else ():
            spec, _, place = part.partition(" @")
            code, _, fragment = spec.partition(": ")
            here = int(place) if place else 0 if line.startswith("#!") else number
            found.append((here, code.strip(), fragment.strip()))
    return found


def problems(text: str) -> list[DjopsError]:
    declared = re.search(r"^#= schemas: (.*)$", text, re.MULTILINE)
    schemas = [] if declared is None else declared[1].split(", ")
    try:
        project, places = load(text, "djops.yaml")
    except DjopsError as error:
        return list(error.flatten())
    return check(project, schemas, load_roles(), places)


def line_of(error: DjopsError) -> int:
    return int((error.where or "").partition(":")[2] or 0)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_problem_is_told_with_its_line(case: Path) -> None:
    text = case.read_text()
    found = problems(text)
    wanted = expected(text)
    told = [f"{line_of(error)} {error.code} {error.message} -> {error.hint}" for error in found]
    assert sorted((line_of(e), e.code) for e in found) == sorted((n, c) for n, c, _ in wanted), told
    for number, code, fragment in wanted:
        assert any(line.startswith(f"{number} {code} ") and fragment in line for line in told), (
            fragment,
            told,
        )
    assert all(isinstance(error, ConfigError) and error.hint for error in found)
    assert [line_of(error) for error in found] == sorted(line_of(error) for error in found)
    assert "hunter2" not in "".join(told)


def test_whole_file_is_read() -> None:
    text = (CASES[0].parent / "whole.yaml").read_text()
    project, places = load(text, "djops.yaml")
    alice = project.people["alice"]
    assert alice.grants[1].until == dt.date(2027, 1, 31)
    assert alice.grants[1].reason == "thesis: part #2"
    assert alice.grants[4].cascade is True
    assert project.schemas["imaging"].upstream == ("ephys",)
    assert project.people["bob"].grants == ()
    lines = text.splitlines()
    assert lines[places.lines["people", "alice", "grants", 1, "on", 0] - 1].strip() == "- imaging"
    assert lines[places.lines["people", "alice", "grants", 1, "until"] - 1].strip().startswith("until")
    assert str(places.where("people", "alice", "nothing", "there")) == str(places.where("people", "alice"))


def test_yaml_11_booleans_stay_words() -> None:
    project, _ = load((CASES[0].parent / "words_that_yaml_11_takes_for_booleans.yaml").read_text(), "f")
    assert project.project == "off"
    assert [grant.on for grant in project.people["n"].grants] == [("on",), ("yes", "no", "off", "y", "n")]


@pytest.mark.parametrize("separator", ["\n", "\r\n"])
def test_lines_are_counted_whatever_ends_them(separator: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load((HEAD + "# a\n\npeple: {}\n").replace("\n", separator), "f")
    assert caught.value.where == "f:7"


def test_a_byte_order_mark_does_no_harm() -> None:
    assert load("\ufeff" + HEAD, "f")[0].project == "p"


@pytest.mark.parametrize(
    "text", ["", "  \n", "\x00", "a: \ud800", "%YAML 9.9\n---\na: 1", "a: !", "? ", "&a"]
)
def test_garbage_is_a_clear_error(text: str) -> None:
    with pytest.raises((ConfigError, ManyErrors)):
        load(text, "f")


ODD = st.text(alphabet=st.sampled_from("ab: -[]{},'\"#&*!|>%@`?\n\t\r~\x00\ufeff\u2028é1"), max_size=40)


@settings(deadline=None)
@given(ODD | st.text(max_size=60))
def test_arbitrary_text_raises_nothing_else(text: str) -> None:
    for whole in (text, HEAD + text):
        try:
            load(whole, "f")
        except DjopsError as error:
            assert error.flatten()


# What JSON writes as it is and YAML reads as it is.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Zl", "Zp")), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)
NAMES = ["version", "project", "pipeline", "environments", "stores", "schemas", "people", "services", "x"]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), PLAIN, max_size=8))
def test_any_data_is_accepted_or_refused_clearly(data: dict[str, Any]) -> None:
    base = {
        "version": 1,
        "project": "p",
        "pipeline": {"package": "q"},
        "environments": {"l": {"target": "local"}},
    }
    text = json.dumps({**base, **data}, ensure_ascii=False)
    try:
        project, places = load(text, "f")
    except DjopsError as error:
        assert all(one.code.startswith("E_") for one in error.flatten())
    else:
        for one in check(project, [], load_roles(), places):
            assert one.hint


@settings(deadline=None)
@given(PLAIN)
def test_the_tree_reads_what_json_writes(data: Any) -> None:
    text = json.dumps({"a": data}, ensure_ascii=False)
    if '"<<"' not in text:
        assert parse(text, "f").data == {"a": data}


def test_the_pure_parser_builds_the_same_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    from djops.model import yamltree

    text = (CASES[0].parent / "whole.yaml").read_text()
    fast = parse(text, "f")
    monkeypatch.setattr(yamltree, "_Loader", yaml.SafeLoader)
    assert parse(text, "f") == fast


def test_grants_that_are_over_or_covered_are_remarks() -> None:
    text = HEAD + (
        "people:\n  alice:\n    grants:\n"
        "      - {role: viewer, on: ephys, until: 2026-05-31}\n"
        "      - {role: viewer, on: ephys, until: 2026-06-01}\n"
        "      - {role: viewer, on: all}\n"
        "      - {role: analyst, on: ephys}\n"
    ).replace("on: ephys, until: 2026-06-01", "on: imaging, until: 2026-06-01")
    project, places = load(text, "f")
    found = remarks(project, ["ephys", "imaging"], places, TODAY)
    assert [(one.code, one.where, one.severity) for one in found] == [
        ("W_EXPIRED", "f:8", "info"),
        ("W_COVERED", "f:9", "info"),
    ]


def test_check_works_without_positions() -> None:
    project, _ = load(HEAD + "people: {root: }\n", "f")
    assert [error.where for error in check(project, [], load_roles())] == ["djops.yaml"]
    assert Positions("f", {}).where("a", "b").line is None


@pytest.mark.parametrize(
    ("on", "schemas", "meant"),
    [
        (("ephys",), {"ephys", "imaging"}, ("ephys",)),
        (("nothing",), {"ephys"}, ()),
        (("all",), {"b", "a"}, ("a", "b")),
        (("all",), {"all", "a"}, ("all",)),
        (("dev_*", "ephys"), {"dev_b", "dev_a", "ephys", "devx"}, ("dev_a", "dev_b", "ephys")),
        (("DEV_*",), {"dev_a"}, ()),
        (("a[b",), {"a[b", "ab"}, ("a[b",)),
        (("a_b",), {"a_b", "axb"}, ("a_b",)),
        (("e%",), {"ephys", "e%"}, ("e%",)),
    ],
)
def test_on_is_expanded(on: tuple[str, ...], schemas: set[str], meant: tuple[str, ...]) -> None:
    assert resolve_on(on, schemas) == meant


# -- JSON Schema -------------------------------------------------------------------------------------


def parts(schema: object) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for part in schema for found in parts(part)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(found for value in schema.values() for found in parts(value))]


def test_the_json_schema_tells_what_every_key_is_for() -> None:
    schema = project_json_schema()
    for part in [schema, *schema["$defs"].values()]:
        assert part["description"]
        if "enum" in part:
            continue
        assert part["additionalProperties"] is False
        for name, field in part["properties"].items():
            assert field.get("description"), name
            assert "``" not in field["description"]


def test_every_pattern_has_words() -> None:
    patterns = {
        part["pattern"] for part in parts(project_json_schema()) if isinstance(part.get("pattern"), str)
    }
    patterns |= {
        pattern for part in parts(project_json_schema()) for pattern in part.get("patternProperties", {})
    }
    assert patterns == set(PATTERN_WORDS)
