"""``djops status``."""

from __future__ import annotations

import click

from djops.cli import common


@click.command()
@common.options
def command(out: common.Output) -> None:
    """Show the health of every server, and where the journal is and what it says last.

    A plan that failed, was interrupted or cut off is told. Exit status 2 when a server does not answer.
    """
    from djops.report.lab import BESIDE, health_table
    from djops.report.log import recorded_data, recorded_text
    from djops.services import health

    found = health.status(out.project_file, out.environment)
    journal = health.journal_of(found, out.project_file)
    data = {
        "project": found.project,
        "environment": found.environment,
        "target": found.target,
        "directory": found.directory,
        "servers": found.servers,
        "journal": recorded_data(journal),
        "unseal_key": health.unseal_key(found),
    }
    out.emit(
        data,
        lambda: f"{health_table(found.servers, coloured=out.coloured)}\n\n{recorded_text(journal)}",
        findings=not found.healthy,
    )
    if key := health.unseal_key(found):
        out.remark(f"{BESIDE}: {key} (see docs/secrets-server.md)")
