"""``djops who``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from djops.cli import common
from djops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djops.services.who import Holding

FORMATS = ("text", "csv", "json", "html")


@click.command()
@click.argument("question", nargs=-1, metavar="[can WHAT ON]")
@click.option("--matrix", is_flag=True, help="Show everybody and every schema.")
@click.option("--on", multiple=True, metavar="SCHEMA", help="Only this schema, in the matrix; repeatable.")
@click.option("--model", is_flag=True, help="Answer from djops.yaml alone, without asking the servers.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    metavar="FORMAT",
    help="How to show it: text, csv, json or html.",
)
@common.options
def command(
    out: common.Output, question: tuple[str, ...], matrix: bool, on: tuple[str, ...], model: bool, form: str
) -> None:
    """Tell who may do WHAT on ON, or with --matrix who may do what at all.

    WHAT is a capability, such as read or insert; ON is a schema, or a table as ephys.Recording. The answer
    names everybody who may by djops.yaml or on one of the servers, accounts that djops did not make
    included, and why: the grant in djops.yaml, the team, the dependency, or the grant row or policy
    statement that gives more than that.
    """
    from djops.services import access, evidence, project, who

    if matrix == bool(question) or (question and (len(question) != 3 or question[0] != "can")):
        raise UsageError("the question is not understood", hint="`djops who can read ephys`, or --matrix")
    if on and not matrix:
        raise UsageError("--on goes with --matrix", hint="`djops who can WHAT ON` has its own ON")
    out.json = out.json or form == "json"
    loaded = project.load(out.project_file)

    def answer(wanted: access.Wanted, found: evidence.Evidence | None) -> Sequence[Holding]:
        if matrix:
            return who.matrix(wanted, on, found)
        return who.who_can(wanted, question[1], question[2], found)

    if model:
        holdings = answer(access.Wanted.of(loaded.project, loaded.graph), None)
    else:
        with access.opened(loaded, out.environment) as (servers, wanted):
            with out.progress.step("Reading the servers"):
                found = evidence.gather(servers, wanted)
            holdings = answer(wanted, found)
    title = f"{loaded.project.project}: who {' '.join(question) or 'may do what'}"
    _show(out, title, holdings, form, matrix=matrix)


def _show(out: common.Output, title: str, holdings: Sequence[Holding], form: str, *, matrix: bool) -> None:
    from djops.report import who

    def text() -> str:
        if form == "html":
            return who.as_html(title, holdings)
        if form == "csv":
            return who.as_csv(holdings)
        return who.matrix_text(holdings) if matrix else who.who_text(holdings)

    out.emit({"holdings": who.as_data(holdings)}, text)
