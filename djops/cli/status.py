"""``djops status``."""

from __future__ import annotations

import click

from djops.cli import common


@click.command()
@common.options
def command(out: common.Output) -> None:
    """Show the health of every server; exit status 2 when one does not answer."""
    from djops.report.lab import BESIDE, health_table
    from djops.services import health

    found = health.status(out.project_file, out.environment)
    data = {
        "project": found.project,
        "environment": found.environment,
        "target": found.target,
        "directory": found.directory,
        "servers": found.servers,
        "unseal_key": health.unseal_key(found),
    }
    out.emit(
        data,
        lambda: health_table(found.servers, coloured=out.coloured),
        findings=not found.healthy,
    )
    if key := health.unseal_key(found):
        out.remark(f"{BESIDE}: {key} (see docs/secrets-server.md)")
