"""``djops can``."""

from __future__ import annotations

import dataclasses

import click

from djops.cli import common
from djops.errors import UsageError


@click.command()
@click.argument("who")
@click.argument("what")
@click.argument("on")
@click.option(
    "--live", is_flag=True, help="Count the rows that a delete, update or drop of a table would reach."
)
@click.option(
    "--where",
    multiple=True,
    metavar="ATTRIBUTE=VALUE",
    help="Count only from rows with this value; may be given several times. Implies --live.",
)
@common.options
def command(out: common.Output, who: str, what: str, on: str, live: bool, where: tuple[str, ...]) -> None:
    """Tell whether WHO may do WHAT on ON, and why.

    WHAT is read, insert, update, delete, jobs, declare, reference, alter, drop or grant; ON is a schema,
    or a table as ephys.Recording. For delete, update and drop it tells what else they reach: schemas that
    a delete needs too, rows that a changed key rewrites, tables that go before a drop is refused.

    Nothing is changed, whatever is counted.

    Exit status: 0 yes, 1 error, 2 no.
    """
    from djops.report.access import answer_text
    from djops.services import can, project
    from djops.services.access import Wanted, opened

    loaded = project.load(out.project_file)
    if live or where:
        with opened(loaded, out.environment) as (servers, wanted):
            answer = can.live(servers, wanted, who, what, on, _values(where))
    else:
        answer = can.can(Wanted.of(loaded.project, loaded.graph), who, what, on)
    data = {**dataclasses.asdict(answer), "succeeds": answer.succeeds}
    out.emit(data, lambda: answer_text(answer), findings=not answer.succeeds)


def _values(where: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for one in where:
        attribute, equals, value = one.partition("=")
        if not equals or not attribute or attribute in values:
            raise UsageError(
                f"--where {one!r} is no restriction", hint="write ATTRIBUTE=VALUE, each attribute once"
            )
        values[attribute] = value
    return values
