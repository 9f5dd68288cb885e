"""``djops validate``."""

from __future__ import annotations

import click

from djops.cli import common

SINGULAR = {
    "schemas": "schema",
    "tables": "table",
    "stores": "store",
    "people": "person",
    "services": "service",
    "grants": "grant",
}


@click.command()
@click.option("--strict", is_flag=True, help="Take warnings for errors: exit status 1.")
@common.options
def command(out: common.Output, strict: bool) -> None:
    """Check djops.yaml and the pipeline's source; nothing is run and nothing is touched.

    Exit status: 0 all is right, 1 error, 2 warnings.
    """
    from djops.errors import ConfigError, ManyErrors
    from djops.report.findings import ask_attention, findings_data, findings_text
    from djops.services import project

    loaded = project.load(out.project_file)
    warnings = [finding for finding in loaded.findings if finding.severity == "warning"]
    if strict and warnings:
        raise ManyErrors(
            [ConfigError(one.message, where=one.where, hint=one.hint, code=one.code) for one in warnings]
        )
    counts = project.counts(loaded)
    summary = ", ".join(
        f"{number} {what if number != 1 else SINGULAR[what]}" for what, number in counts.items()
    )
    data = {"project": loaded.project.project, "counts": counts, "findings": findings_data(loaded.findings)}
    text = findings_text(loaded.findings, coloured=out.coloured)
    verdict = f"{loaded.positions.file} is right: {summary}"
    out.emit(
        data, "\n".join(part for part in (text, verdict) if part), findings=ask_attention(loaded.findings)
    )
