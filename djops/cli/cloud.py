"""``djops cloud``."""

from __future__ import annotations

import click

from djops.cli import common


@click.group(cls=common.Group)
def command() -> None:
    """Get ready for the cloud: look whether all is there, make what Pulumi's state needs, begin."""


@command.command("check")
@common.options
def check(out: common.Output) -> None:
    """Look for all that would keep `djops up` from making an environment in AWS; change nothing.

    Credentials, account, region, every permission that the stacks need (simulated by AWS), quotas, names,
    the place of Pulumi's state, and the programs on this machine. Each failure comes with what to do.

    Exit status: 0 nothing is wrong, 1 error, 2 something is wrong.
    """
    from djops.report.cloud_check import check_text
    from djops.services import cloud_check
    from djops.services.project import load_project

    project = load_project(out.project_file)
    with out.progress.step("Asking AWS"):
        found = cloud_check.check(project, out.environment)
    data = {
        "environment": found.environment,
        "region": found.region,
        "rows": found.rows,
        "not_asked": cloud_check.NOT_ASKED,
    }
    out.emit(data, lambda: check_text(found, coloured=out.coloured), findings=not found.passed)
