"""``djops verify``."""

from __future__ import annotations

import dataclasses

import click

from djops.cli import common
from djops.errors import UsageError


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--static", is_flag=True, help="Only read the servers' catalogs; nothing is made.")
@click.option("--live", is_flag=True, help="Only try it, as a throw-away twin of each principal.")
@click.option("--who", multiple=True, metavar="NAME", help="Compare this person or service; repeatable.")
@click.option("--on", multiple=True, metavar="SCHEMA", help="Compare this schema; repeatable.")
@common.options
def command(
    out: common.Output,
    names: tuple[str, ...],
    static: bool,
    live: bool,
    who: tuple[str, ...],
    on: tuple[str, ...],
) -> None:
    """Compare what djops.yaml says with what the servers mean and do.

    Each right is asked of three deciders: djops.yaml, the servers' own catalogs, and the servers
    themselves, as somebody with the same roles and policies. And some sentences must hold for everybody
    on the servers, such as: nobody holds anything on *.*. NAME is a person, a service or a schema; without
    any, everything is compared. No password is needed, and no row or object of anybody is touched.

    Exit status: 0 all agree, 1 error, 2 something differs.
    """
    from djops.report.verify import verdict_text
    from djops.services import access, project, verify

    if static and live:
        raise UsageError("--static and --live exclude each other", hint="without either, both are done")
    loaded = project.load(out.project_file)
    with access.opened(loaded, out.environment) as (servers, wanted):
        choice = verify.Choice.of(wanted, names, who, on)
        deciders = verify.STATIC if static else verify.LIVE if live else verify.BOTH
        verdict = verify.verify(servers, wanted, choice, deciders, out.progress)
        verify.record(servers, verdict, names=(*names, *who, *on), deciders=deciders)
    data = {field.name: getattr(verdict, field.name) for field in dataclasses.fields(verdict)}
    data["disagreements"] = [
        {**dataclasses.asdict(one), "cell": one.cell._asdict()} for one in verdict.disagreements
    ]
    text = verdict_text(verdict, coloured=out.coloured)
    out.emit({**data, "agrees": verdict.agrees}, text, findings=not verdict.agrees)
