"""What the commands that edit djops.yaml share: show the plan, ask, write, apply, tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djops.cli import common

if TYPE_CHECKING:
    from djops.plan.change import Plan
    from djops.services.project import Edited


def carry_out(out: common.Output, edited: Edited, action: str) -> None:
    """Carry out a change of the project file.

    Args:
        out: The running command.
        edited: The change.
        action: What it is, for the question and for errors.

    Raises:
        DjopsError: Whatever keeps it from being done.
    """
    from djops.report import changes
    from djops.services import people
    from djops.services.journal import Cause

    def show(plan: Plan) -> None:
        out.emit({"edited": edited.changed, **changes.plan_data(plan)}, "")
        if plan.is_empty and not edited.changed:
            return
        if not plan.is_empty:
            out.emit({}, changes.plan_text(plan, coloured=out.coloured))
        out.confirm(f"Carry out {action}?", action=action)

    applied = people.carry_out(
        edited, out.environment, out.lock_wait, show, out.progress, Cause(out.command, out.reason)
    )
    lines = ["djops.yaml: changed." if edited.changed else "djops.yaml: said so already."]
    lines.append(
        f"Servers: {changes.summary(applied.done)}" if applied.done else "Servers: nothing to change."
    )
    out.emit({"applied": len(applied.done)}, "\n".join(lines))
