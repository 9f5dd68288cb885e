"""``djops graph``."""

from __future__ import annotations

import click

from djops.cli import common


@click.command()
@click.argument("schema", required=False)
@click.option("--tables", is_flag=True, help="Show the tables and what they reference.")
@click.option("--mermaid", is_flag=True, help="Write a flowchart in the Mermaid language.")
@click.option("--live", is_flag=True, help="Compare with the environment's database.")
@common.options
def command(out: common.Output, schema: str | None, tables: bool, mermaid: bool, live: bool) -> None:
    """Show the pipeline's schemas and what they depend on, read from the source and djops.yaml.

    With SCHEMA, show it with everything it depends on and everything that depends on it.

    Exit status: 0 nothing to say, 1 error, 2 findings: code and database differ, or something in the
    source cannot be read.
    """
    from djops.report.findings import ask_attention, findings_data, findings_text
    from djops.report.graph import graph_data, graph_mermaid, graph_text
    from djops.services import project

    loaded = project.load(out.project_file)
    findings = project.pipeline_findings(loaded)
    if live:
        findings += project.compare(loaded, project.live_graph(loaded, out.environment))
    schemas = project.around(loaded, schema)
    drawn = (
        graph_mermaid(loaded.graph, schemas, tables=tables)
        if mermaid
        else graph_text(loaded.graph, loaded.stage, schemas, tables=tables)
    )
    data = graph_data(loaded.graph, loaded.stage, schemas)
    out.emit(data | ({"mermaid": drawn} if mermaid else {}), drawn)
    out.emit({"findings": findings_data(findings)}, findings=ask_attention(findings))
    out.remark(findings_text(findings))
