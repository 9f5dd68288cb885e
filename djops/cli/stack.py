"""``djops up``, ``down`` and ``drift`` where Pulumi makes the servers (``target: aws``)."""

from __future__ import annotations

from collections.abc import Sequence

from djops.cli import common
from djops.errors import ServerUnavailableError
from djops.services.cloud import Cloud


def up(out: common.Output, *, allowed: Sequence[str], full: bool, refresh: bool) -> None:
    """Show what Pulumi would do, ask, have it done, and tell where everything is.

    Args:
        out: The run.
        allowed: What may be lost.
        full: Show every resource.
        refresh: Look first what somebody changed in AWS.
    """
    from djops.report import cloud as texts
    from djops.services import cloud

    opened = _opened(out)
    with cloud.prepared(
        opened, allowed, refresh=refresh, progress=out.progress, lock_wait=out.lock_wait
    ) as ready:
        plan = ready.plan
        text = texts.plan_text(plan, source=opened.prices.source, full=full, coloured=out.coloured)
        out.emit({**_place(opened), "plan": plan.as_data()}, text)
        if not plan.is_empty:
            out.confirm("Have Pulumi do this?", action="the plan")
        done = cloud.up(ready, progress=out.progress, reason=out.reason)
    data = {"changed": not plan.is_empty, "outputs": dict(done.outputs), "seconds": round(done.seconds, 2)}
    out.emit(data)
    _give_access(out, opened)
    out.emit({}, lambda: texts.endpoints_text(done.outputs, opened.environment))


def _give_access(out: common.Output, opened: Cloud) -> None:
    """Have the new servers hold what djops.yaml says, by the same way as everywhere."""
    from djops.report import changes
    from djops.services import access, cloud_access
    from djops.services.project import load

    loaded = load(out.project_file)
    schemas = access.Wanted.of(loaded.project, loaded.graph).graph.schemas
    try:
        cloud_access.set_up(opened, out.project_file, schemas, progress=out.progress)
    except ServerUnavailableError as error:
        out.emit({"access": None}, findings=True)
        where = f"the servers are made, and this machine does not reach them ({error.message})"
        way = error.hint or f"open a way with `djops tunnel {opened.command}`"
        out.remark(f"{where}: {way}; then run this again")
        return
    with (
        access.opened(loaded, opened.environment) as (servers, wanted),
        servers.changing("djops up", out.lock_wait, reason=out.reason, progress=out.progress),
    ):
        plan = access.make_plan(servers, wanted)
        out.emit({"access": changes.plan_data(plan)}, changes.plan_text(plan, coloured=out.coloured))
        if not plan.is_empty:
            out.confirm("Give these rights?", action="giving rights")
        access.apply(servers, plan, out.progress)


def down(out: common.Output) -> None:
    """Show what would go and what stays, ask, and take everything down but data.

    Args:
        out: The run.
    """
    from djops.report import cloud as texts
    from djops.services import cloud

    opened = _opened(out)
    going, remaining = cloud.down_plan(opened)
    labels = [one.label for one in going]
    out.emit({**_place(opened), "removes": labels}, lambda: texts.down_text(labels, remaining))
    if not going:
        out.emit({"removed": [], "remaining": texts.remaining_data(remaining)})
        return
    out.confirm("Take these down?", action="taking the servers down")
    done = cloud.down(opened, progress=out.progress, lock_wait=out.lock_wait, reason=out.reason)
    out.emit(texts.down_data(done), f"{len(done.removed)} resources are gone.")


def drift(out: common.Output) -> None:
    """Show what somebody changed in AWS.

    Args:
        out: The run.
    """
    from djops.report import cloud as texts
    from djops.services import cloud

    opened = _opened(out)
    with out.progress.step("Asking AWS what is there") as step:
        found = cloud.drift(opened)
        step.note(f"{len(found)} differences")
    data = {"cloud": texts.drift_data(found)}
    out.emit(data, lambda: texts.drift_text(found, opened.environment), findings=bool(found))


def _opened(out: common.Output) -> Cloud:
    from djops.services import cloud
    from djops.services.project import load

    return cloud.open_cloud(load(out.project_file).project, out.environment)


def _place(cloud: Cloud) -> dict[str, object]:
    return {"project": cloud.project.project, "environment": cloud.environment, "directory": cloud.directory}
