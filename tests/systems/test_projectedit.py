"""Edits leave everything else as it is, whatever the file looks like."""

from __future__ import annotations

import copy
import datetime as dt
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from djops.errors import ConfigError
from djops.model.editing import Append, Edit, Remove, SetValue
from djops.model.yamltree import parse
from djops.systems import projectedit
from djops.systems.projectedit import edit_text

DEMO = (Path(projectedit.__file__).parent.parent / "demo_pipeline" / "djops.yaml").read_text()
ALICE = ("people", "alice")
GRANT = {"role": "viewer", "on": "imaging"}

CASES: dict[str, tuple[str, Edit, str]] = {
    "append to lines": (
        "grants:\n  - {role: a}  # one\n  # - {role: old}\n\n# end\n",
        Append(("grants",), GRANT),
        "grants:\n  - {role: a}  # one\n  - {role: viewer, on: imaging}\n  # - {role: old}\n\n# end\n",
    ),
    "append to lines without indent": (
        "grants:\n- a\n- b\nx: 1\n",
        Append(("grants",), "c"),
        "grants:\n- a\n- b\n- c\nx: 1\n",
    ),
    "append a mapping where mappings have lines": (
        "grants:\n    -   role: a\n        on: b\n",
        Append(("grants",), GRANT),
        "grants:\n    -   role: a\n        on: b\n    - role: viewer\n      on: imaging\n",
    ),
    "append to brackets": ("on: [a,  b ]  # x\n", Append(("on",), "c"), "on: [a,  b, c ]  # x\n"),
    "append to empty brackets": ("a: {on: []}\n", Append(("a", "on"), "c"), "a: {on: [c]}\n"),
    "append to a word": ("on: 'a'  # x\n", Append(("on",), "c"), "on: [a, c]  # x\n"),
    "append to nothing": (
        "grants:  # none\nx: 1\n",
        Append(("grants",), "c"),
        "grants:  # none\n  - c\nx: 1\n",
    ),
    "append to an empty list": ("grants: []  # none\n", Append(("grants",), "c"), "grants:  # none\n  - c\n"),
    "append without a last line end": ("a:\n  - b", Append(("a",), "c"), "a:\n  - b\n  - c\n"),
    "append in Windows' way": ("a:\r\n  - b\r\n", Append(("a",), "c"), "a:\r\n  - b\r\n  - c\r\n"),
    "add a key to lines": (
        "p:\n    bob:\n        x: 1  # y\n\nz: 2\n",
        SetValue(("p", "amy"), {"e": "m@x", "grants": [GRANT], "none": []}),
        "p:\n    bob:\n        x: 1  # y\n    amy:\n        e: m@x\n        grants:\n"
        "            - {role: viewer, on: imaging}\n        none: []\n\nz: 2\n",
    ),
    "add a key to braces": ("a: {b: c}  # d\n", SetValue(("a", "e"), "f g"), "a: {b: c, e: f g}  # d\n"),
    "add a key to empty braces": ("a: {}  # d\nb: 1\n", SetValue(("a", "e"), 1), "a:  # d\n  e: 1\nb: 1\n"),
    "add a key to empty braces in braces": ("a: {b: {}}\n", SetValue(("a", "b", "e"), 1), "a: {b: {e: 1}}\n"),
    "add a key behind a text block": (
        "a:\n  b: |\n    x\n    y\nc: 1\n",
        SetValue(("a", "d"), 2),
        "a:\n  b: |\n    x\n    y\n  d: 2\nc: 1\n",
    ),
    "add a top key": (
        "a: 1\n# end\n",
        SetValue(("b",), {"c": {"d": 1}}),
        "a: 1\nb:\n  c:\n    d: 1\n# end\n",
    ),
    "set a word": ("a: 'b'   # c\n", SetValue(("a",), "d"), "a: d   # c\n"),
    "set a word that needs quotes": ("a: b\n", SetValue(("a",), "yes: #1"), "a: 'yes: #1'\n"),
    "set a date": (
        "a: {b: 1, until: x}\n",
        SetValue(("a", "until"), dt.date(2027, 1, 2)),
        "a: {b: 1, until: 2027-01-02}\n",
    ),
    "set what was nothing": ("a:  # c\nb: 1\n", SetValue(("a",), "d"), "a: d  # c\nb: 1\n"),
    "remove a first key": ("a: {b: 1, c: 2}\n", Remove(("a", "b")), "a: {c: 2}\n"),
    "remove a middle key": ("a: {b: 1, c: 2 , d: 3}\n", Remove(("a", "c")), "a: {b: 1 , d: 3}\n"),
    "remove an only key": ("a: {b: 1}\n", Remove(("a", "b")), "a: {}\n"),
    "remove a key of lines": ("a:\n  b: 1\n  c: 2\nd: 3\n", Remove(("a", "c")), "a:\n  b: 1\nd: 3\n"),
    "remove a key with its comment": (
        "a:\n  # of b\n  b: 1\n\n  # of c\n  # as well\n  c:\n    d: 2  # x\n  e: 3\n",
        Remove(("a", "c")),
        "a:\n  # of b\n  b: 1\n\n  e: 3\n",
    ),
    "remove an only key of lines": (
        "a:\n  b: 1\n\n# end\nc: 1\n",
        Remove(("a", "b")),
        "a: {}\n\n# end\nc: 1\n",
    ),
    "remove an item of lines": (
        "a:\n  - b\n  - c\n  # of d\n  - d\n",
        Remove(("a", 1)),
        "a:\n  - b\n  # of d\n  - d\n",
    ),
    "remove an item of several lines": (
        "a:\n  - b: 1\n    c: 2\n  - d: 3\n",
        Remove(("a", 0)),
        "a:\n  - d: 3\n",
    ),
    "remove an only item": (
        "a:\n  x: 1\n  g:\n    - c\nb: 1\n",
        Remove(("a", "g", 0)),
        "a:\n  x: 1\n  g: []\nb: 1\n",
    ),
    "remove the first key of an item": ("a:\n  - b: 1\n    c: 2\n", Remove(("a", 0, "b")), "a:\n  - c: 2\n"),
    "keep a byte order mark": ("\ufeffa: 1\n", SetValue(("a",), 2), "\ufeffa: 2\n"),
    "keep wide characters in their place": ("é: 'ü😀'\na: b\n", SetValue(("a",), "ß"), "é: 'ü😀'\na: ß\n"),
    "keep a document's frame": ("---\na:\n  - b\n...\n", Append(("a",), "c"), "---\na:\n  - b\n  - c\n...\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_text_is_exactly(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projectedit, "_rewrite", lambda *_: pytest.fail("rewrote the whole file"))
    before, edit, after = CASES[case]
    assert edit_text(before, "f", [edit]) == after


def test_each_edit_of_the_demo_touches_its_lines_only() -> None:
    edits: list[Edit] = [
        Append((*ALICE, "grants"), GRANT),
        Append((*ALICE, "grants", 0, "on"), "imaging"),
        SetValue(("people", "zoe"), {"grants": [GRANT]}),
        SetValue(("services", "worker"), {"grants": [GRANT]}),
        Remove(("people", "bob")),
    ]
    after = edit_text(DEMO, "f", edits)
    kept = [line for line in DEMO.splitlines() if line in after.splitlines()]
    lost = set(DEMO.splitlines()) - set(kept)
    assert len(after.splitlines()) == len(DEMO.splitlines()) + 1 + 3 + 3 - 5
    assert all("bob" in line or "imaging" in line or line.strip() in ALSO for line in lost)


ALSO = ("- {role: analyst, on: ephys}", "services: {}")


@pytest.mark.parametrize(
    ("before", "edit"),
    [
        ("a: {b: [\n  1,  # one\n  2,  # two\n  ]}\n", Append(("a", "b"), 3)),
        ("? a\n: - b\n", Append(("a",), "c")),
        ("a: [{b: 1\n  , c: 2}]\n", Remove(("a", 0, "b"))),
        ("a:\n  -\n    b: 1\n  -\n    c: 1\n", Remove(("a", 1))),
        ("a:\n  - - x\n    - y\n", Remove(("a", 0, 0))),
        ("a:\n  b:\n    c: 1\n", SetValue(("a", "b"), "d")),
        ("a: >-\n  folded\n  text\nb: 1\n", SetValue(("a",), "d")),
        ("{a: {b: 1}}\n", SetValue(("c",), {"d": [1]})),
        ('{"a": ["b"]}', Append(("a",), "c")),
        ("a: [b,]\n", Append(("a",), "c")),
        ("a: {b: 1,}\n", Remove(("a", "b"))),
    ],
)
def test_odd_layouts_end_right_too(before: str, edit: Edit) -> None:
    wanted = parse(before, "f").data
    projectedit._apply(wanted, edit)
    assert parse(edit_text(before, "f", [edit]), "f").data == wanted


def test_comments_survive_even_a_rewrite() -> None:
    before = "# top\na:\n  -\n    b: 1  # one\n  -\n    c: 1\n# end\n"
    after = edit_text(before, "f", [Remove(("a", 1))])
    assert all(comment in after for comment in ("# top", "# one"))


def test_what_cannot_be_edited_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projectedit, "_rewrite", lambda *_: "")
    with pytest.raises(ConfigError) as caught:
        edit_text("a:\n  b:\n    c: 1\n", "f", [SetValue(("a", "b"), "d")])
    assert caught.value.code == "E_EDIT"
    assert "set a.b to d" in str(caught.value)


# -- any data, laid out in any way -------------------------------------------------------------------

WORDS = st.sampled_from(
    ["ephys", "on", "no", "~", "1", "a: b", "x #y", "é", "2027-01-31", "", "- z", "[q", "it's"]
)
LEAVES = WORDS | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn")), max_size=6)
DATA = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=10,
)


def paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(found for key, value in items for found in paths(value, (*path, key)))]


@st.composite
def edits(draw: st.DrawFn, data: Any) -> Edit:
    path = draw(st.sampled_from(paths(data)))
    here = data
    for part in path:
        here = here[part]
    kind = draw(st.sampled_from(["set", "append", "remove"]))
    if kind == "remove" and path:
        return Remove(path)
    if isinstance(here, dict):
        return SetValue((*path, draw(WORDS)), draw(DATA))
    return Append(path, draw(DATA))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_edit_of_any_file_does_what_it_says(case: st.DataObject) -> None:
    data = case.draw(st.dictionaries(WORDS, DATA, min_size=1, max_size=4))
    flow = case.draw(st.sampled_from([True, False, None]))
    indent = case.draw(st.sampled_from([2, 4]))
    text = yaml.dump(data, Dumper=_Quoted, default_flow_style=flow, indent=indent, allow_unicode=True)
    text = case.draw(st.sampled_from([text, text.replace("\n", "  # note\n", 1), f"# top\n{text}# end\n"]))
    try:
        # A key behind a question mark is one that nobody writes; refusing it is right enough.
        assume(parse(text, "f").data == data and not re.search(r"^\W*\? ", text, re.MULTILINE))
    except ConfigError:
        assume(False)
    edit = case.draw(edits(data))
    wanted = copy.deepcopy(data)
    projectedit._apply(wanted, edit)
    after = edit_text(text, "f", [edit])
    assert parse(after, "f").data == projectedit._plain(wanted)
    if flow is not True and wanted:
        assert after.count("# end") == text.count("# end")


class _Quoted(yaml.SafeDumper):
    """Writes lists and mappings anew each time, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
