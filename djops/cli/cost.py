"""``djops cost``."""

from __future__ import annotations

import click

from djops.cli import common


@click.command()
@common.options
def command(out: common.Output) -> None:
    """Estimate what an environment in the cloud costs in a month, row by row, and what each size would.

    It multiplies what the size consists of by a price table that is part of djops, with its date and source;
    it asks nobody and is never a bill. What is there already (`existing:`) costs nothing here.

    Exit status: 0 done, 1 error.
    """
    from djops.report.cloud_cost import cost_data, cost_text
    from djops.services.cloud_cost import cost
    from djops.services.project import load_project

    found = cost(load_project(out.project_file), out.environment)
    out.emit(cost_data(found), lambda: cost_text(found))
