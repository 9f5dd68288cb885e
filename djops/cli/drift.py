"""``djops drift``."""

from __future__ import annotations

import click

from djops.cli import common


@click.command()
@common.options
def command(out: common.Output) -> None:
    """Name everything that somebody changed on the servers, with what mends it; change nothing.

    Where djops may not mend something, the answer says who must do what. With `target: aws` what differs in
    AWS from what Pulumi made is shown first.

    Exit status: 0 no drift, 1 error, 2 drift.
    """
    from djops.report import changes
    from djops.report import drift as texts
    from djops.services import access, cloud, drift, project

    loaded = project.load(out.project_file)
    if cloud.is_cloud(loaded.project, out.environment):
        from djops.cli import stack

        stack.drift(out)
    with (
        access.opened(loaded, out.environment) as (servers, wanted),
        out.progress.step("Reading the servers") as step,
    ):
        report = drift.look(servers, wanted)
        step.note(f"{len(report.drift)} differences")
    data = {
        "drift": texts.drift_data(report.drift),
        "edited_since": report.edited_since,
        "unmanaged": list(report.plan.unmanaged),
    }
    lines = [texts.drift_text(report.drift, coloured=out.coloured), *changes.unmanaged(report.plan)]
    out.emit(data, "\n".join(lines), findings=bool(report.drift))
    if report.drift and report.edited_since:
        out.remark("djops.yaml was changed after the last apply: some of this may never have been applied")
