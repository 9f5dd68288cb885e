"""Code against database: both sides are named."""

from __future__ import annotations

import pytest

from djops.model.compare import disagreements
from djops.model.graph import PipelineGraph, TableName


def graph(
    tables: dict[str, list[str]], schemas: set[str] | None = None, *, code: bool = False
) -> PipelineGraph:
    def name(text: str) -> TableName:
        return TableName(*text.split(".", 1))

    found = frozenset(name(one) for one in tables)
    every = frozenset(schemas if schemas is not None else {one.schema for one in found})
    return PipelineGraph(
        schemas=every,
        tables=found,
        references={name(one): frozenset(map(name, above)) for one, above in tables.items() if above},
        modules={schema: f"pipe.{schema}" for schema in every} if code else {},
        classes={one: f"pipe.{one.schema}.{one.table.title()}" for one in found} if code else {},
    )


PIPELINE = {"s.session": [], "e._recording": ["s.session"], "e._recording__channel": ["e._recording"]}


def test_equal_graphs_agree() -> None:
    live = graph({**PIPELINE, "e.~lineage": [], "e.~~recording": [], "e.odd!": []})
    assert disagreements(graph(PIPELINE, code=True), live) == []


@pytest.mark.parametrize(
    ("code", "live", "expected"),
    [
        (PIPELINE, {}, [("W_NOT_DECLARED", "'e'", "info"), ("W_NOT_DECLARED", "'s'", "info")]),
        (PIPELINE, {**PIPELINE, "e.extra": []}, [("W_NOT_IN_CODE", "e.extra", "warning")]),
        ({**PIPELINE, "s.new": []}, PIPELINE, [("W_NOT_DECLARED", "pipe.s.New", "info")]),
        (
            {**PIPELINE, "e._recording": []},
            PIPELINE,
            [("W_REFERENCE_DIFFERS", "the database has a foreign key to s.session", "warning")],
        ),
        (
            PIPELINE,
            {**PIPELINE, "e._recording": []},
            [("W_REFERENCE_DIFFERS", "the code references s.session", "warning")],
        ),
    ],
)
def test_what_differs_is_named(
    code: dict[str, list[str]], live: dict[str, list[str]], expected: list[tuple[str, str, str]]
) -> None:
    found = disagreements(graph(code, code=True), graph(live))
    assert len(found) == len(expected)
    for one, (name, fragment, severity) in zip(found, expected, strict=True):
        assert (one.code, one.severity) == (name, severity)
        assert fragment in one.message
        assert "database" in one.message
        assert one.hint


def test_the_place_of_the_class_is_told() -> None:
    code = graph({**PIPELINE, "s.new": []}, code=True)
    found = disagreements(code, graph(PIPELINE), {TableName("s", "new"): "src/pipe/s.py:7"})
    assert [one.where for one in found] == ["src/pipe/s.py:7"]


def test_a_schema_without_code_is_not_searched_for_classes() -> None:
    code = PipelineGraph(schemas=frozenset({"old"}))
    assert disagreements(code, graph({"old.table": []})) == []
    assert [one.severity for one in disagreements(code, PipelineGraph())] == ["warning"]
