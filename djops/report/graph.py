"""The pipeline's graph as text, JSON and Mermaid."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from djops.model.graph import PipelineGraph, TableName
from djops.report.table import table

_ARROW = "-->"


def graph_data(graph: PipelineGraph, stage: Callable[[str], str], schemas: Collection[str]) -> dict[str, Any]:
    """Return the graph for a ``--json`` answer.

    Args:
        graph: The pipeline.
        stage: Tells a schema's stage.
        schemas: The schemas to show.

    Returns:
        ``order`` and ``schemas``, each with its neighbours, closures and tables.
    """
    shown = [name for name in graph.order if name in schemas]
    return {
        "order": shown,
        "schemas": [
            {
                "name": name,
                "module": graph.modules.get(name),
                "stage": stage(name),
                "parents": graph.parents[name],
                "children": graph.children[name],
                "upstream": graph.upstream(name),
                "downstream": graph.downstream(name),
                "tables": [_table_data(graph, one) for one in graph.tables_of(name)],
            }
            for name in shown
        ],
    }


def _table_data(graph: PipelineGraph, one: TableName) -> dict[str, Any]:
    return {
        "name": one.table,
        "class": graph.classes.get(one),
        "tier": one.tier,
        "references": sorted(str(parent) for parent in graph.references.get(one, ())),
    }


def graph_text(
    graph: PipelineGraph, stage: Callable[[str], str], schemas: Collection[str], *, tables: bool = False
) -> str:
    """Show the graph as a table, parents before children.

    Args:
        graph: The pipeline.
        stage: Tells a schema's stage.
        schemas: The schemas to show.
        tables: Whether to list the tables below each schema, with what they reference.

    Returns:
        The text.
    """
    shown = [name for name in graph.order if name in schemas]
    if not shown:
        return "no schemas"
    if tables:
        return "\n".join(_with_tables(graph, name, stage(name)) for name in shown)
    rows = [
        (
            name,
            stage(name),
            len(graph.tables_of(name)),
            _names(graph.parents[name]),
            _names(graph.children[name]),
            graph.modules.get(name),
        )
        for name in shown
    ]
    return table(("schema", "stage", "tables", "depends on", "needed by", "module"), rows, right=(2,))


def _names(names: Collection[str]) -> str | None:
    return ", ".join(sorted(names)) or None


def _with_tables(graph: PipelineGraph, schema: str, stage: str) -> str:
    rows = [
        (
            f"  {one.table}",
            one.tier,
            _names([_short(schema, parent) for parent in graph.references.get(one, ())]),
        )
        for one in graph.tables_of(schema)
    ]
    head = table((), [(schema, stage, f"depends on {_names(graph.parents[schema]) or 'nothing'}")])
    return f"{head}\n{table((), rows)}" if rows else head


def _short(schema: str, one: TableName) -> str:
    return one.table if one.schema == schema else str(one)


def graph_mermaid(graph: PipelineGraph, schemas: Collection[str], *, tables: bool = False) -> str:
    """Write the graph in the Mermaid language, arrows from what is needed to what needs it.

    Args:
        graph: The pipeline.
        schemas: The schemas to show.
        tables: Whether to draw tables, grouped by schema, instead of schemas.

    Returns:
        A flowchart; names stand in quotes with everything Mermaid would read written as entities.
    """
    shown = [name for name in graph.order if name in schemas]
    if tables:
        return "\n".join(["flowchart TD", *_table_lines(graph, shown)])
    ids = {name: f"s{number}" for number, name in enumerate(shown)}
    lines = [f'    {ids[name]}["{_label(name)}"]' for name in shown]
    lines += [
        f"    {ids[parent]} {_ARROW} {ids[name]}"
        for name in shown
        for parent in sorted(graph.parents[name])
        if parent in ids
    ]
    return "\n".join(["flowchart TD", *lines])


def _table_lines(graph: PipelineGraph, shown: list[str]) -> list[str]:
    every = [one for name in shown for one in graph.tables_of(name)]
    ids = {one: f"t{number}" for number, one in enumerate(every)}
    lines: list[str] = []
    for number, name in enumerate(shown):
        lines.append(f'    subgraph s{number}["{_label(name)}"]')
        lines += [f'        {ids[one]}["{_label(one.table)}"]' for one in graph.tables_of(name)]
        lines.append("    end")
    for one in every:
        above = sorted(parent for parent in graph.references.get(one, ()) if parent in ids)
        lines += [f"    {ids[parent]} {_ARROW} {ids[one]}" for parent in above]
    return lines


def _label(name: str) -> str:
    """Write everything but letters, digits and blanks as Mermaid's entity of its number."""
    return "".join(
        character if character.isalnum() or character in " _-." else f"#{ord(character)};"
        for character in name
    )
