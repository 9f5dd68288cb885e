"""``djops offboard``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from djops.cli import common

if TYPE_CHECKING:
    from djops.services.access import Servers
    from djops.services.leaving import Left


@click.command()
@click.argument("who", required=False)
@click.option("--hand-over-to", "heir", metavar="NAME", help="Who takes over what would be nobody's.")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write the certificate there, as JSON and as a page.",
)
@common.changing
def command(out: common.Output, who: str | None, heir: str | None, directory: Path | None) -> None:
    """Close every way in that WHO has, hand over what she held, and write a certificate.

    Account locked, sessions ended, account dropped; access keys deactivated, then deleted; policy, tokens
    and links ended; jobs she reserved are free again; what runs with her rights goes to NAME, and so do her
    roles on schemas that nobody else could work on. Her entry in djops.yaml goes; the journal and the
    certificate keep what it said. At the end every way in is tried with her old password, keys and token.

    A system that is down stops nothing: the same command finishes the rest later. Without WHO, it says
    whose leaving is not finished.

    Exit status: 0 done, 1 error, 2 something is pending.
    """
    from djops.services import access, leaving, project

    loaded = project.load(out.project_file)
    with access.opened(loaded, out.environment) as (servers, _):
        if who is None:
            return _unfinished(out, servers)
        found = leaving.survey(servers, loaded, who, heir, out.reason)
        _ask(out, found)
        with leaving.alone(servers, out.lock_wait, out.reason):
            left = leaving.leave(servers, loaded, found, out.progress)
        _tell(out, left, directory)
    if not left.pending:
        _apply_the_rest(out)
    return None


def _ask(out: common.Output, found: object) -> None:
    from djops.report import leaving as report
    from djops.services.leaving import Survey

    assert isinstance(found, Survey)  # noqa: S101  narrows the type
    out.emit(report.survey_data(found), report.survey_text(found))
    who = found.leaver.who
    out.confirm(f"Close every way in of {who}?", action=f"offboarding {who}")


def _tell(out: common.Output, left: Left, directory: Path | None) -> None:
    from djops.report import leaving as report
    from djops.systems.files import write_private

    data = {"steps": left.leaver.steps, "pending": report.pending_data(left.pending)}
    out.emit(data, report.steps_text(left.leaver, left.pending), findings=bool(left.pending))
    if left.certificate is None:
        return
    out.emit({"certificate": left.certificate}, report.attempts_text(left.certificate))
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        base = directory / f"{left.leaver.who}-left"
        write_private(base.with_suffix(".json"), json.dumps(left.certificate, indent=2) + "\n")
        write_private(base.with_suffix(".html"), report.certificate_html(left.certificate))
        out.emit({}, f"{base}.json\n{base}.html")


def _unfinished(out: common.Output, servers: Servers) -> None:
    from djops.report.table import table
    from djops.services import leaving

    found = leaving.unfinished(servers.site.lab)
    rows = [
        (one.who, one.since, ", ".join(leaving.TITLES[name] for name in _open_systems(one.finished)))
        for one in found
    ]
    text = table(("who", "since", "not finished"), rows) if rows else "nobody's leaving is unfinished"
    names = [{"who": one.who, "since": one.since, "pending": _open_systems(one.finished)} for one in found]
    out.emit({"unfinished": names}, text, findings=bool(found))


def _open_systems(finished: dict[str, str]) -> list[str]:
    from djops.services.leaving import SYSTEMS

    return [name for name in SYSTEMS if name not in finished]


def _apply_the_rest(out: common.Output) -> None:
    """Bring the servers to the changed project file: unused roles go, the heir gets hers."""
    from djops.report import changes
    from djops.services import access, project
    from djops.services.access import make_plan

    loaded = project.load(out.project_file)
    with (
        access.opened(loaded, out.environment) as (servers, wanted),
        servers.changing("offboard", out.lock_wait, reason=out.reason, progress=out.progress),
    ):
        plan = make_plan(servers, wanted)
        if plan.is_empty:
            return
        out.emit(changes.plan_data(plan), changes.plan_text(plan, coloured=out.coloured))
        out.confirm("Apply what is left?", action="applying what is left")
        access.apply(servers, plan, out.progress)
