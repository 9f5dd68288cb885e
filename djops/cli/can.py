"""``djops can``."""

from __future__ import annotations

import dataclasses

import click

from djops.cli import common


@click.command()
@click.argument("who")
@click.argument("what")
@click.argument("on")
@common.options
def command(out: common.Output, who: str, what: str, on: str) -> None:
    """Tell whether WHO may do WHAT on ON, and why.

    WHAT is read, insert, update, delete, jobs, declare, reference, alter, drop or grant; ON is a schema,
    or a table as ephys.Recording.

    Exit status: 0 yes, 1 error, 2 no.
    """
    from djops.services import can, project
    from djops.services.access import Wanted

    loaded = project.load(out.project_file)
    answer = can.can(Wanted.of(loaded.project, loaded.graph), who, what, on)
    lines = ["yes" if answer.allowed else "no", *(f"  {reason}" for reason in answer.because)]
    lines += [f"  but: {note}" for note in answer.notes]
    out.emit(dataclasses.asdict(answer), "\n".join(lines), findings=not answer.allowed)
