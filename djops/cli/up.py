"""``djops up``."""

from __future__ import annotations

import click

from djops.cli import common


@click.command()
@click.option("--timer", is_flag=True, help="Also have systemd run `djops expire` every hour.")
@click.option(
    "--allow-data-loss",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="target aws: let this go, and what it holds.",
)
@click.option("--refresh", is_flag=True, help="target aws: also bring back what somebody changed there.")
@click.option("--full", is_flag=True, help="target aws: show every resource of the plan.")
@common.changing
def command(out: common.Output, timer: bool, allowed: tuple[str, ...], *, refresh: bool, full: bool) -> None:
    """Start the environment's servers and make them ready.

    What runs already is left alone; what is missing is fetched, prepared and started. It may be
    interrupted at any time and run again. After a first start the roots of MySQL and of the object store get
    new secrets, which are kept in the secrets server alone. Where the servers are others'
    (`target: existing`) nothing is started or changed: it checks that they have what djops needs, and names
    what they lack.

    With `target: aws` Pulumi makes them: what it would do and what that costs is shown first, then asked for;
    whatever would lose data is refused unless it is named. An update that failed goes on when it is run
    again.
    """
    from djops.report.lab import BESIDE, up_table
    from djops.report.timer import timer_text
    from djops.services import health, lab
    from djops.services.project import load, load_project
    from djops.services.site import choose_environment
    from djops.systems.timer import install

    project = load_project(out.project_file)
    environment = choose_environment(project, out.environment)
    if project.environments[environment].target == "aws":
        from djops.cli import stack

        stack.up(out, allowed=allowed, full=full, refresh=refresh)
        return
    if project.environments[environment].target == "existing":
        done = health.check(load(out.project_file), environment, out.progress)
    else:
        done = lab.up(project, environment, progress=out.progress, lock_wait=out.lock_wait, reason=out.reason)
    data = {
        "project": done.project,
        "environment": done.environment,
        "directory": done.directory,
        "changed": done.changed,
        "seconds": round(done.seconds, 2),
        "servers": done.servers,
        "renewed": done.put_away,
        "unseal_key": done.unseal_key,
    }
    if done.put_away:
        out.remark(f"renewed, and kept in the secrets server alone: {', '.join(done.put_away)}")
    if done.unseal_key:
        out.remark(f"{BESIDE}: {done.unseal_key} (see docs/secrets-server.md)")
    if not timer:
        out.emit(data, lambda: up_table(done.servers))
        return
    units = install(done.project, done.environment, out.project_file.parent)
    out.emit({**data, "timer": units}, lambda: f"{up_table(done.servers)}\n{timer_text(units)}")
