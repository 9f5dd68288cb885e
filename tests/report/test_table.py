"""Tables line up and carry no control characters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from djops.report.table import clip, colour, printable, table, width


def test_columns_line_up() -> None:
    text = table(["server", "healthy", "s"], [["mysql", True, 1.5], ["secrets", None, 12]], right=[2])
    assert text.splitlines() == [
        "server   healthy    s",
        "mysql    yes      1.5",
        "secrets  -         12",
    ]


def test_wide_and_combining_characters_count_as_shown() -> None:
    assert width("猫") == 2
    assert width("e\u0301") == 1
    first, second = table([], [["猫", "x"], ["ab", "x"]]).splitlines()
    assert width(first) == width(second) == 5


def test_no_rows_and_no_header() -> None:
    assert table([], []) == ""
    assert table(["a", "b"], []) == "a  b"


def test_colour_only_when_wanted() -> None:
    assert colour("x", "red", on=False) == "x"
    assert colour("x", "red", on=True) == "\x1b[31mx\x1b[0m"


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1, max_size=5))
def test_any_content_gives_one_line_a_row(rows: list[list[str]]) -> None:
    lines = table([], rows).split("\n")
    assert len(lines) == len(rows)
    assert all(printable(line) == line for line in lines)


@given(st.text(alphabet=st.characters(categories=["Lo", "Ll", "Mn", "Nd"])), st.integers(0, 30))
def test_a_clipped_text_fits(text: str, columns: int) -> None:
    assert width(clip(text, columns)) <= columns
