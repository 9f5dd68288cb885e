"""The pipeline as a drawing: an SVG that stands in a page and needs nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from djops.model.graph import PipelineGraph

BOX_HEIGHT, ROW, GAP, MARGIN = 46, 66, 64, 8
"""Pixels: height of a box, from box to box below, between columns, around everything."""

LETTER = 8.2
"""Pixels that a letter of a label takes at most, in the drawing's font."""


@dataclass(frozen=True)
class Mark:
    """How a schema is drawn.

    Attributes:
        style: A CSS class of the page.
        words: What stands below the name; a drawing must not speak by colours alone.
    """

    style: str
    words: str


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        return self.y + BOX_HEIGHT / 2


def schema_drawing(graph: PipelineGraph, mark: Callable[[str], Mark], title: str) -> str:
    """Draw the schemas from left to right: what is needed stands left of what needs it.

    Args:
        graph: The pipeline.
        mark: Says how a schema is to be drawn.
        title: What the drawing shows, for those who cannot see it.

    Returns:
        An ``svg`` element; empty when there are no schemas. Its colours come from the page's style sheet.
    """
    columns = _columns(graph)
    if not columns:
        return ""
    marks = {name: mark(name) for column in columns for name in column}
    boxes = _boxes(columns, marks)
    width = max(box.x + box.width for box in boxes.values()) + MARGIN
    height = max(box.y for box in boxes.values()) + BOX_HEIGHT + MARGIN
    told = "; ".join(f"{name}: {marks[name].words}" for column in columns for name in column)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-labelledby="drawing-title drawing-text">',
        f'<title id="drawing-title">{escape(title)}</title>',
        f'<desc id="drawing-text">{escape(told)}</desc>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    lines += [_arrow(boxes[parent], boxes[child]) for parent, child in _edges(graph, boxes)]
    lines += [_box(name, boxes[name], marks[name]) for column in columns for name in column]
    return "\n".join([*lines, "</svg>"])


def _columns(graph: PipelineGraph) -> list[list[str]]:
    """Put each schema right of everything it depends on; within a column near what it depends on."""
    depth: dict[str, int] = {}
    for name in graph.order:
        depth[name] = 1 + max((depth[parent] for parent in graph.parents[name]), default=-1)
    columns: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    row: dict[str, float] = {}
    for number, column in enumerate(columns):
        column += [name for name in graph.order if depth[name] == number]
        column.sort(key=lambda name: (_mean([row[parent] for parent in graph.parents[name]]), name))
        row.update({name: place - (len(column) - 1) / 2 for place, name in enumerate(column)})
    return columns


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0


def _boxes(columns: Sequence[Sequence[str]], marks: Mapping[str, Mark]) -> dict[str, _Box]:
    rows = max(len(column) for column in columns)
    boxes: dict[str, _Box] = {}
    x = float(MARGIN)
    for column in columns:
        widest = max(max(len(name), len(marks[name].words)) for name in column)
        width = max(96.0, widest * LETTER + 20)
        top = MARGIN + (rows - len(column)) * ROW / 2
        boxes.update({name: _Box(x, top + place * ROW, width) for place, name in enumerate(column)})
        x += width + GAP
    return boxes


def _edges(graph: PipelineGraph, boxes: Collection[str]) -> list[tuple[str, str]]:
    """Return the arrows; one that a longer way shows already is left out."""
    found = []
    for child in boxes:
        above = graph.parents[child]
        told = frozenset().union(*(graph.upstream(parent) for parent in above)) if above else frozenset()
        found += [(parent, child) for parent in sorted(above - told)]
    return found


def _arrow(start: _Box, end: _Box) -> str:
    x, y, to = start.x + start.width, start.middle, end.x - 2
    bend = (to - x) / 2
    return (
        f'<path class="arrow" marker-end="url(#tip)" d="M{x:.0f} {y:.0f}C{x + bend:.0f} {y:.0f} '
        f'{to - bend:.0f} {end.middle:.0f} {to:.0f} {end.middle:.0f}"/>'
    )


def _box(name: str, box: _Box, mark: Mark) -> str:
    middle = box.x + box.width / 2
    return (
        f'<g class="schema {escape(mark.style)}"><rect x="{box.x:.0f}" y="{box.y:.0f}" '
        f'width="{box.width:.0f}" height="{BOX_HEIGHT}" rx="6"/>'
        f'<text x="{middle:.0f}" y="{box.y + 20:.0f}">{escape(name)}</text>'
        f'<text class="words" x="{middle:.0f}" y="{box.y + 37:.0f}">{escape(mark.words)}</text></g>'
    )
