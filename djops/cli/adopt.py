"""``djops adopt``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from djops.cli import common
from djops.errors import UsageError

if TYPE_CHECKING:
    from djops.services.adoption import Survey
    from djops.services.project import Loaded


@click.command()
@click.argument("names", nargs=-1)
@click.option("--service", "services", multiple=True, metavar="NAME", help="This one is a machine's account.")
@click.option("--write", is_flag=True, help="Write the proposal into djops.yaml; change no server.")
@click.option(
    "--apply", "take", is_flag=True, help="Write what is not written yet, and take the accounts over."
)
@click.option("--finish", is_flag=True, help="End the old passwords and keys of accounts taken over before.")
@common.changing
def command(
    out: common.Output,
    names: tuple[str, ...],
    services: tuple[str, ...],
    write: bool,
    take: bool,
    finish: bool,
) -> None:
    """Bring accounts that are there already under management: NAMES, or all that reach the pipeline.

    Without an option it only shows who has what, which roles come closest, and what each would lose and
    gain. Taken over, an account keeps its password and its keys beside the new ones until --finish, so
    that nobody is cut off; what it holds itself is replaced by roles.

    Exit status: 0 done or nobody to take over, 1 error, 2 somebody could be taken over and was not.
    """
    from djops.services import access, project

    if write + take + finish > 1:
        raise UsageError("--write, --apply and --finish exclude each other", hint="give one")
    loaded = project.load(out.project_file)
    if finish:
        _finish(out, loaded, names)
        return
    from djops.report import adoption as texts
    from djops.services import adoption

    with (
        access.opened(loaded, out.environment) as (servers, wanted),
        out.progress.step("Reading the servers"),
    ):
        survey = adoption.survey(servers, wanted, names, services)
    chosen = bool(survey.proposals)
    looked = not (write or take)
    text = texts.survey_text(survey, only_looked=looked)
    out.emit(texts.survey_data(survey), text, findings=chosen and looked)
    if write and chosen:
        _write(out, survey)
    elif take and chosen:
        _take_over(out, survey)
    elif take:
        _go_on(out, loaded)


def _write(out: common.Output, survey: Survey) -> None:
    from djops.services import adoption, project

    edited = adoption.writing(out.project_file, survey.proposals)
    if edited.changed:
        out.confirm("Write this into djops.yaml?", action="the proposal")
    project.save(edited, out.project_file)
    text = "djops.yaml: changed; look it over, then `djops adopt --apply`." if edited.changed else ""
    out.emit({"written": edited.changed}, text or "djops.yaml: said so already.")


def _take_over(out: common.Output, survey: Survey) -> None:
    from djops.report import changes
    from djops.services import access, adoption, project

    edited = adoption.writing(out.project_file, survey.proposals)
    with (
        access.opened(edited.loaded, out.environment) as (servers, wanted),
        servers.changing("djops adopt --apply", out.lock_wait, reason=out.reason, progress=out.progress),
    ):
        plan = adoption.plan(servers, wanted, survey.proposals)
        out.emit(changes.plan_data(plan), changes.plan_text(plan, coloured=out.coloured))
        out.confirm("Take them over?", action="the adoption")
        project.save(edited, out.project_file)
        applied = access.apply(servers, plan, out.progress)
    text = f"Done: {changes.summary(applied.done)}\nThen hand out credentials, and `djops adopt --finish`."
    out.emit({"written": edited.changed, "applied": len(applied.done)}, text)


def _go_on(out: common.Output, loaded: Loaded) -> None:
    """Do what a run that was cut short left."""
    from djops.report import changes
    from djops.services import access, adoption

    with (
        access.opened(loaded, out.environment) as (servers, wanted),
        servers.changing("djops adopt --apply", out.lock_wait, reason=out.reason, progress=out.progress),
    ):
        plan = adoption.unfinished(servers, wanted)
        if plan.is_empty:
            return
        out.emit(changes.plan_data(plan), changes.plan_text(plan, coloured=out.coloured))
        out.confirm("Finish what was begun?", action="the rest of the adoption")
        applied = access.apply(servers, plan, out.progress)
    out.emit({"applied": len(applied.done)}, f"Done: {changes.summary(applied.done)}")


def _finish(out: common.Output, loaded: Loaded, names: tuple[str, ...]) -> None:
    from djops.report import changes
    from djops.services import access, adoption

    with (
        access.opened(loaded, out.environment) as (servers, wanted),
        servers.changing("djops adopt --finish", out.lock_wait, reason=out.reason, progress=out.progress),
    ):
        plan = adoption.finishing(servers, wanted, names)
        if plan.is_empty:
            out.emit({"applied": 0}, "No old password or key holds any more.")
            return
        out.emit(changes.plan_data(plan), changes.plan_text(plan, coloured=out.coloured))
        out.confirm("End them?", action="the end of the old credentials")
        applied = access.apply(servers, plan, out.progress)
    out.emit({"applied": len(applied.done)}, f"Done: {changes.summary(applied.done)}")
