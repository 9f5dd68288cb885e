"""The graph as text, JSON and Mermaid, hostile names included."""

from __future__ import annotations

import re

from djops.model.findings import Finding
from djops.model.graph import PipelineGraph, TableName
from djops.report.findings import ask_attention, findings_text
from djops.report.graph import graph_data, graph_mermaid, graph_text

ODD = 'x"]; click s0 "javascript:alert(1)" %%\x1b[31m\n`<b>`&#35;'
REC, PROBE, SESSION = (
    TableName("ephys", "_rec"),
    TableName("ephys", "#probe"),
    TableName("session", "session"),
)
GRAPH = PipelineGraph(
    schemas=frozenset({"ephys", "session", ODD}),
    tables=frozenset(
        {TableName("session", "session"), TableName("ephys", "#probe"), TableName("ephys", "_rec")}
    ),
    references={
        TableName("ephys", "_rec"): frozenset({TableName("session", "session"), TableName("ephys", "#probe")})
    },
    extra={ODD: frozenset({"ephys"})},
    modules={"ephys": "pipe.ephys", "session": "pipe.session"},
    classes={REC: "pipe.ephys.Rec"},
)
ALL = GRAPH.schemas


def stage(schema: str) -> str:
    return "development" if schema == "ephys" else "production"


def test_text_puts_parents_first() -> None:
    lines = graph_text(GRAPH, stage, ALL).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["session", "ephys"]
    assert "development" in lines[2] and "pipe.ephys" in lines[2]
    assert len(lines) == 4
    assert "\x1b" not in lines[3]
    assert graph_text(GRAPH, stage, []) == "no schemas"


def test_tables_are_listed_with_what_they_reference() -> None:
    text = graph_text(GRAPH, stage, ALL, tables=True)
    assert re.search(r"^ {2}_rec +imported +#probe, session.session$", text, re.MULTILINE)


def test_data_has_neighbours_and_closures() -> None:
    data = graph_data(GRAPH, stage, ALL)
    assert data["order"] == ["session", "ephys", ODD]
    ephys = data["schemas"][1]
    assert (ephys["parents"], ephys["children"]) == ({"session"}, {ODD})
    assert data["schemas"][2]["upstream"] == {"session", "ephys"}
    assert data["schemas"][0]["downstream"] == {"ephys", ODD}
    assert ephys["tables"][1] == {
        "name": "_rec",
        "class": "pipe.ephys.Rec",
        "tier": "imported",
        "references": ["ephys.#probe", "session.session"],
    }
    assert graph_data(GRAPH, stage, {"ephys"})["order"] == ["ephys"]


LINE = re.compile(
    r'flowchart TD| *(subgraph )?[st]\d+\["[\w .\-#;]*"\]| *end| {4}[st]\d+ --> [st]\d+', re.ASCII
)


def test_mermaid_cannot_be_escaped_from() -> None:
    for tables in (False, True):
        drawn = graph_mermaid(GRAPH, ALL, tables=tables)
        assert all(LINE.fullmatch(line) for line in drawn.splitlines()), drawn
    assert "s0 --> s1" in graph_mermaid(GRAPH, ALL)
    assert '["#35;probe"]' in graph_mermaid(GRAPH, ALL, tables=True)
    assert "-->" not in graph_mermaid(GRAPH, {"session"})


def test_findings_show_warnings_first_and_no_control_characters() -> None:
    findings = [
        Finding("W_A", "mild", "a:1", "do", "info"),
        Finding("W_B", "bad \x1b[2J", None, None, "warning"),
    ]
    assert findings_text(findings) == "warning [W_B] bad \\x1b[2J\ninfo [W_A] a:1: mild\n  -> do"
    assert findings_text([]) == ""
    assert ask_attention(findings) and not ask_attention(findings[:1])
