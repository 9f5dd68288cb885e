"""A report in every format, whatever names it has to tell."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from djops.report import audit as report
from tests.support.audits import HOSTILE, audit


class Page(HTMLParser):
    """Elements and text of a page; what a name smuggles in would be an element too."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> Page:
    parsed = Page()
    parsed.feed(report.as_html(audit()))
    return parsed


def test_no_name_becomes_an_element(page: Page) -> None:
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count("owned") > 10
    assert "{{7*7}}" in page.text
    assert "\u202e" not in page.text


def test_the_page_asks_for_nothing_from_anywhere(page: Page) -> None:
    wanted = [value for _, found in page.elements for name, value in found.items() if name in ("src", "href")]
    assert wanted and all(value and value.startswith("#") for value in wanted)
    assert "url(" not in report.as_html(audit())
    policy = next(found["content"] for tag, found in page.elements if "http-equiv" in found)
    assert policy and policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_the_page_can_be_read_aloud(page: Page) -> None:
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == tags.count("main") == tags.count("header") == tags.count("footer") == 1
    assert all("scope" in found for tag, found in page.elements if tag == "th")
    labels = {found.get("id") for _, found in page.elements}
    for tag, found in page.elements:
        assert tag != "section" or found["aria-labelledby"] in labels
        assert tag != "a" or (found["href"] or "")[1:] in labels
    html = next(found for tag, found in page.elements if tag == "html")
    assert html["lang"] == "en"


def test_the_matrix_tells_level_and_origin() -> None:
    rows = report.rows_of(audit())
    zoe = rows["zoe"]["alpha"]
    assert (zoe.level, zoe.means, zoe.strength, zoe.origins) == ("admin", "administers", 5, ("grant",))
    assert (rows["zoe"]["beta"].strength, rows["zoe"]["beta"].origins) == (0, ())
    assert rows[HOSTILE]["alpha"].origins == ("server",)
    held = replace(
        rows["zoe"]["alpha"].holding,
        origins=("people.z.grants[0]: viewer on b, upstream of b", "teams.t.grants[0]: viewer on a"),
    )
    assert report.cell_of(held).origins == ("team", "closure")


def test_json_is_ascii_and_whole() -> None:
    text = report.as_json(audit())
    data = json.loads(text)
    assert text.isascii()
    assert data["counts"] == {"high": 1, "medium": 1, "low": 1, "note": 1}
    assert data["findings"][0]["who"] == HOSTILE
    assert {"access", "grants", "proof", "journal", "records"} <= data.keys()


def test_no_cell_of_a_sheet_is_computed() -> None:
    files = report.files_of(audit(), ["csv"])
    assert set(files) == {"findings.csv", "access.csv", "review.csv"}
    rows = list(csv.DictReader(io.StringIO(files["findings.csv"])))
    assert tuple(rows[0]) == report.FINDING_COLUMNS
    assert rows[2]["found"] == "'=1+1"
    review = list(csv.DictReader(io.StringIO(files["review.csv"])))
    assert [(row["entry"], row["on"], row["decision"]) for row in review] == [
        ("people.zoe.grants[0]", "all", ""),
        ("teams.t.grants[0]", "a b", ""),
    ]


def test_markdown_keeps_its_tables() -> None:
    text = report.as_markdown(audit())
    assert "\\<script" in text
    assert not re.search(r"(?<!\\)<", text)
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) >= 6
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block}) == 1, block


def test_the_summary_ends_with_how_it_stands() -> None:
    assert report.summary(audit()).splitlines()[-1] == "3 findings ask for attention."
    clean = replace(audit(), findings=audit().findings[3:])
    assert clean.is_clean
    assert report.summary(clean).splitlines()[-1] == "Nothing asks for attention."
    assert "\u202e" not in report.summary(audit())
