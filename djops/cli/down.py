"""``djops down``."""

from __future__ import annotations

import click

from djops.cli import common
from djops.errors import UsageError


@click.command()
@click.option("--purge", is_flag=True, help="Remove the lab's data as well, for good.")
@click.option("--project", "named", metavar="NAME", help="With --purge --yes: the project's name.")
@common.changing
def command(out: common.Output, *, purge: bool, named: str | None) -> None:
    """Stop what `up` started, and nothing else; data stays unless --purge is given.

    With `target: aws` everything is removed but data and what it needs, after showing it: what remains is
    listed with what it costs.
    """
    from djops.services import cloud, lab
    from djops.services.project import load_project
    from djops.services.site import own_environment

    project = load_project(out.project_file)
    if not purge and cloud.is_cloud(project, out.environment):
        from djops.cli import stack

        stack.down(out)
        return
    environment = own_environment(project, out.environment)
    if named is not None and named != project.project:
        raise UsageError(
            f"this project is called {project.project!r}, not {named!r}; nothing was changed",
            hint="go to the right directory, or name it with -C",
        )
    if purge and not (out.yes and named):
        question = f"All data of {project.project}, {environment}, will be gone. Type the project's name"
        options = f"--purge --yes --project {project.project}"
        out.confirm_by_name(question, project.project, action="removing all data", hint=options)
    done = lab.down(
        project,
        environment,
        purge=purge,
        progress=out.progress,
        lock_wait=out.lock_wait,
        reason=out.reason,
    )
    data = {
        "project": done.project,
        "environment": done.environment,
        "directory": done.directory,
        "stopped": done.stopped,
        "removed": done.removed,
    }
    stopped = f"stopped: {', '.join(done.stopped)}" if done.stopped else "nothing was running"
    kept = "its data is gone" if done.removed else f"its data stays in {done.directory}"
    out.emit(data, f"{stopped}; {kept}")
