"""``djops up``."""

from __future__ import annotations

import click

from djops.cli import common


@click.command()
@common.changing
def command(out: common.Output) -> None:
    """Start the environment's servers and make them ready.

    What runs already is left alone; what is missing is fetched, prepared and started. It may be
    interrupted at any time and run again.
    """
    from djops.report.lab import up_table
    from djops.services import lab
    from djops.services.project import load_project

    project = load_project(out.project_file)
    done = lab.up(project, out.environment, progress=out.progress, lock_wait=out.lock_wait)
    data = {
        "project": done.project,
        "environment": done.environment,
        "directory": done.directory,
        "changed": done.changed,
        "seconds": round(done.seconds, 2),
        "servers": done.servers,
    }
    out.emit(data, lambda: up_table(done.servers))
