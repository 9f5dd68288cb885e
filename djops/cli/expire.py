"""``djops expire``."""

from __future__ import annotations

import click

from djops.cli import common
from djops.errors import ManyErrors, UsageError


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be revoked.")
@click.option("--install-timer", is_flag=True, help="Have systemd run this every hour; revoke nothing now.")
@click.option("--remove-timer", is_flag=True, help="Take that back.")
@common.changing
def command(out: common.Output, dry_run: bool, install_timer: bool, remove_timer: bool) -> None:
    """Revoke what grants that are over left behind, without asking; for cron or a systemd timer.

    It takes away only what expired: nothing is given, and nothing else is mended. A server that does not
    answer does not stop the others; what could not be done there is told, and the next run does it.

    The timer is the machine's when root installs it (in /etc/systemd/system, or where SYSTEMD_UNIT_PATH
    says), and else the calling user's own. Where the database's event scheduler is on and djops may keep
    events, `djops apply` leaves one for each end of a grant as a second line, which needs no timer.

    Exit status: 0 done, 1 error or something is pending, 2 with --dry-run: something would be revoked.
    """
    if dry_run + install_timer + remove_timer > 1:
        raise UsageError("--dry-run, --install-timer and --remove-timer exclude each other", hint="give one")
    if install_timer or remove_timer:
        _timer(out, install=install_timer)
    else:
        _expire(out, dry_run=dry_run)


def _expire(out: common.Output, *, dry_run: bool) -> None:
    from djops.report import changes
    from djops.services import access, expiry, project

    with access.opened(project.load(out.project_file), out.environment) as (servers, wanted):
        expired = expiry.expire(
            servers,
            wanted,
            dry_run=dry_run,
            lock_wait=out.lock_wait,
            progress=out.progress,
            reason=out.reason,
        )
    data = {"expired": changes.plan_data(expired.plan), "over": expired.over, "done": len(expired.done)}
    if expired.plan.is_empty:
        text = "" if expired.pending else "Nothing that is over left anything behind."
    else:
        text = changes.plan_text(expired.plan, coloured=out.coloured)
    if expired.done:
        text += f"\nDone: {changes.summary(expired.done)}"
    out.emit(data, text, findings=dry_run and not expired.plan.is_empty)
    if expired.pending:
        raise ManyErrors(expired.pending) if len(expired.pending) > 1 else expired.pending[0]


def _timer(out: common.Output, *, install: bool) -> None:
    from djops.report.timer import timer_text
    from djops.services.project import load_project
    from djops.services.site import choose_environment
    from djops.systems import timer

    project = load_project(out.project_file)
    environment = choose_environment(project, out.environment)
    if install:
        done = timer.install(project.project, environment, out.project_file.parent)
        text = timer_text(done)
    else:
        done = timer.remove(project.project, environment)
        text = "\n".join(f"removed: {path}" for path in done.files) or "there was no timer"
    out.emit({"timer": done}, text)
