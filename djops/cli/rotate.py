"""``djops rotate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from djops.cli import common
from djops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djops.plan.change import Plan
    from djops.services.access import Servers, Wanted
    from djops.services.rotation import Under

GRACE_DAYS = 7


@click.command()
@click.argument("names", nargs=-1, metavar="[WHO]...")
@click.option("--all", "everybody", is_flag=True, help="Everybody in djops.yaml, people and services.")
@click.option("--root", is_flag=True, help="The administrators of djops' own local lab instead.")
@click.option("--finish", is_flag=True, help="End the old credentials now.")
@click.option(
    "--grace",
    type=click.IntRange(min=0),
    default=GRACE_DAYS,
    show_default=True,
    metavar="DAYS",
    help="How long the old ones hold at most: after that they are drift, and the next `apply` ends them.",
)
@click.option(
    "--wait", metavar="TIME", help="With --finish: wait so long for who works with the old ones, 8h."
)
@click.option("--force", is_flag=True, help="With --finish: end them even while somebody works with them.")
@common.changing
def command(
    out: common.Output,
    names: tuple[str, ...],
    everybody: bool,
    root: bool,
    finish: bool,
    grace: int,
    wait: str | None,
    force: bool,
) -> None:
    """Renew somebody's password and access key while everything that runs goes on.

    The old ones hold beside the new ones until --finish, or until the days of grace are over: sessions that
    are open and computations under way go on. Who asks for credentials (`djops credentials`, a welcome link)
    gets the new ones. Database sessions outlive --finish too; a program that was started with the old access
    key does not reach the store any more, so start it anew before, or let it end. --finish refuses while
    somebody has a session open, or where the store tells that the old key was used within the hour; --wait
    waits for that, --force does not. Without WHO, tells whose renewal is under way.

    With --root: MySQL's root, the object store's root, the accounts that djops itself works as, and djops'
    log-in at the secrets server. Both roots are kept in the secrets server alone from then on.

    Exit status: 0 done, 1 error.
    """
    if bool(names) + everybody + root > 1:
        raise UsageError("names, --all and --root exclude each other", hint="give one of them")
    if root and finish:
        raise UsageError("--root ends the old credentials itself", hint="leave --finish out")
    if (wait or force) and not finish:
        raise UsageError("--wait and --force are about ending old credentials", hint="add --finish")
    if root:
        _rotate_root(out)
    elif finish:
        _finish(out, names, wait, force=force)
    elif names or everybody:
        _begin(out, names, grace)
    else:
        _list(out)


def _begin(out: common.Output, names: tuple[str, ...], grace: int) -> None:
    import datetime as dt

    from djops.services import access, project, rotation

    with (
        access.opened(project.load(out.project_file), out.environment) as (servers, wanted),
        servers.changing("rotate", out.lock_wait, reason=out.reason, progress=out.progress),
    ):
        until = (wanted.today + dt.timedelta(days=grace)).isoformat()
        plan = rotation.begin(servers, wanted, names, until)
        _show(out, plan, "The rotation is under way already.")
        done = _carry_out(out, servers, wanted, plan)
    if done:
        out.remark("hand the new ones out with `djops credentials WHO`; then `djops rotate WHO --finish`")


def _finish(out: common.Output, names: tuple[str, ...], wait: str | None, *, force: bool) -> None:
    from djops.services import access, project, rotation, rotation_use
    from djops.services.onboarding import parse_duration

    with access.opened(project.load(out.project_file), out.environment) as (servers, wanted):
        if wait:
            rotation_use.await_unused(servers, wanted, names, parse_duration(wait), out.progress)
        with servers.changing("rotate", out.lock_wait, reason=out.reason, progress=out.progress):
            plan = rotation.finish(servers, wanted, names)
            _show(out, plan, "No rotation is under way.")
            if not force:
                rotation_use.require_unused(servers, plan)
            elif busy := rotation_use.in_use(servers, plan):
                told = rotation_use.told(busy)
                out.remark(f"{told}; a program that was started with the old access key loses the store now")
            _carry_out(out, servers, wanted, plan)


def _show(out: common.Output, plan: Plan, nothing: str) -> None:
    from djops.report import changes

    text = nothing if plan.is_empty else changes.plan_text(plan, coloured=out.coloured)
    out.emit(changes.plan_data(plan), text)


def _carry_out(out: common.Output, servers: Servers, wanted: Wanted, plan: Plan) -> int:
    from djops.services import access

    if not plan.is_empty:
        out.confirm("Carry this out?", action="the rotation")
    done = len(access.apply(servers, plan, out.progress).done)
    _tell(out, servers, wanted, done)
    return done


def _tell(out: common.Output, servers: Servers, wanted: Wanted, done: int) -> None:
    from djops.services import rotation

    left = rotation.under_way(servers, wanted)
    out.emit({"applied": done, "under_way": left}, f"Done: {done} changes\n{_table(left)}" if done else "")


def _list(out: common.Output) -> None:
    from djops.services import access, project, rotation

    with access.opened(project.load(out.project_file), out.environment) as (servers, wanted):
        left = rotation.under_way(servers, wanted)
    out.emit({"under_way": left}, _table(left) or "No rotation is under way.")


def _table(left: Sequence[Under]) -> str:
    from djops.report.table import table

    rows = [
        (one.who, "holds" if one.password else None, one.key or None, one.until or "--finish") for one in left
    ]
    return table(("who", "old password", "old key", "until"), rows) if rows else ""


def _rotate_root(out: common.Output) -> None:
    from djops.report.table import table
    from djops.services import administrators, project

    loaded = project.load(out.project_file)
    out.confirm("Renew the credentials of every server's administrators?", action="the rotation")
    renewed = administrators.rotate(
        loaded.project,
        out.environment,
        lock_wait=out.lock_wait,
        progress=out.progress,
        reason=out.reason,
    )
    rows = [
        (one.title, "renewed" if one.done else "as before", one.kept, one.note or None) for one in renewed
    ]
    out.emit({"renewed": renewed}, table(("credential", "now", "kept in", "note"), rows))
