"""The drawing of the pipeline: whole, readable, and safe in a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from djops.model.graph import PipelineGraph
from djops.report.drawing import Mark, schema_drawing
from tests.support.projects import pipeline

SVG = "{http://www.w3.org/2000/svg}"
CHAIN = {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["b"], "e": []}


def drawn(parents: dict[str, list[str]], words: str = "you read") -> ElementTree.Element:
    text = schema_drawing(pipeline(parents, ()), lambda name: Mark("read", words), "what it shows")
    return ElementTree.fromstring(text)


def boxes(svg: ElementTree.Element) -> dict[str, tuple[float, float, float]]:
    found = {}
    for group in svg.iter(f"{SVG}g"):
        rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert rect is not None and text is not None
        found[str(text.text)] = (
            float(rect.attrib["x"]),
            float(rect.attrib["y"]),
            float(rect.attrib["width"]),
        )
    return found


def test_what_is_needed_stands_left_of_what_needs_it() -> None:
    places = boxes(drawn(CHAIN))
    assert set(places) == set(CHAIN)
    for child, above in CHAIN.items():
        for parent in above:
            assert places[parent][0] + places[parent][2] < places[child][0]


def test_an_arrow_that_a_longer_way_shows_is_left_out() -> None:
    arrows = [path for path in drawn(CHAIN).iter(f"{SVG}path") if path.attrib["class"] == "arrow"]
    assert len(arrows) == 3  # a-b, b-c, b-d; not a-c


def test_no_box_lies_on_another_and_all_lie_inside() -> None:
    parents = {f"s{n}": [f"s{n // 3}"] if n else [] for n in range(40)}
    svg = drawn(parents)
    width, height = (float(svg.attrib[name]) for name in ("width", "height"))
    places = list(boxes(svg).values())
    for number, (x, y, wide) in enumerate(places):
        assert x >= 0 and x + wide <= width
        assert y >= 0 and y + 46 <= height
        for other_x, other_y, other in places[:number]:
            assert x >= other_x + other or other_x >= x + wide or abs(y - other_y) >= 46


def test_it_speaks_to_those_who_do_not_see_it() -> None:
    svg = drawn({"a": []})
    assert svg.attrib["role"] == "img"
    named = {str(one.attrib["id"]): one.text for one in svg if "id" in one.attrib}
    assert svg.attrib["aria-labelledby"].split() == list(named)
    assert list(named.values()) == ["what it shows", "a: you read"]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a"b', "a&b"])
def test_names_are_only_names(name: str) -> None:
    svg = drawn({name: []}, words=name)
    assert name in boxes(svg)
    assert not list(svg.iter(f"{SVG}script"))


def test_without_schemas_there_is_no_drawing() -> None:
    assert schema_drawing(PipelineGraph(), lambda name: Mark("", ""), "") == ""


def test_it_needs_nothing_from_elsewhere() -> None:
    text = schema_drawing(pipeline(CHAIN, ()), lambda name: Mark("read", "x"), "t")
    assert re.findall(r"(?:href|src|url)\W+\S*//", text.replace("http://www.w3.org/2000/svg", "")) == []
