"""``djops explain``."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import click

from djops.cli import common
from djops.errors import DjopsError, UsageError

if TYPE_CHECKING:
    from djops.services.explain import Explanation
    from djops.services.project import Loaded

_AWAY = ("E_NOT_UP", "E_SERVER", "E_TLS", "E_ENVIRONMENT", "E_DENIED")


@click.command()
@click.argument("who", required=False)
@click.argument("what", required=False)
@click.argument("on", required=False)
@click.option("--error", "text", metavar="TEXT", help="An error to explain instead; - reads it from stdin.")
@click.option("--who", "whose", metavar="NAME", help="Whose error it is, where its text does not say.")
@click.option("--offline", is_flag=True, help="Ask no server: only what djops.yaml and the code say.")
@common.options
def command(
    out: common.Output,
    who: str | None,
    what: str | None,
    on: str | None,
    text: str | None,
    whose: str | None,
    offline: bool,
) -> None:
    """Show why WHO may do WHAT on ON, or which one thing is missing.

    The chain goes from the line in djops.yaml over role and grants to the policy, and each server is asked
    whether it really has its part. Where something is missing: the command that adds it, and what else that
    would open.

    With --error the text of an error from DataJoint, MySQL or the S3 client is explained: what it means
    here, whatever it says, and what to do.

    Exit status: 0 allowed, or the text is known; 1 error; 2 not allowed, or the text is not known.
    """
    from djops.services import project

    loaded = project.load(out.project_file)
    if text is not None:
        if who is not None:
            raise UsageError("--error takes no WHO WHAT ON", hint="name whose error it is with --who")
        _explain_error(out, loaded, sys.stdin.read() if text == "-" else text, whose, offline)
    elif who is None or what is None or on is None:
        raise UsageError(
            "who, what and where are needed",
            hint="as in `djops explain alice insert ephys.Recording`, or give --error TEXT",
        )
    else:
        from djops.report.access import explanation_text

        found = _explained(out, loaded, who, what, on, offline=offline)
        data = dataclasses.asdict(found)
        out.emit(data, lambda: explanation_text(found, coloured=out.coloured), findings=not found.allowed)


def _explained(
    out: common.Output, loaded: Loaded, who: str, what: str, on: str, *, offline: bool
) -> Explanation:
    from djops.services import explain
    from djops.services.access import opened

    if offline:
        return explain.offline(loaded, who, what, on, out.environment)
    with opened(loaded, out.environment) as (servers, wanted):
        return explain.live(servers, loaded, wanted, who, what, on)


def _explain_error(out: common.Output, loaded: Loaded, text: str, whose: str | None, offline: bool) -> None:
    from djops.report.access import error_text
    from djops.services import explain_error

    def explained(who: str, what: str, on: str) -> Explanation:
        try:
            return _explained(out, loaded, who, what, on, offline=offline)
        except DjopsError as error:
            if error.code not in _AWAY:
                raise
            out.remark(f"the servers were not asked: {error.message}")
            return _explained(out, loaded, who, what, on, offline=True)

    meaning = explain_error.read(loaded, text, whose, explained)
    if meaning is None:
        out.emit({"error": None}, "this text is not known; nothing can be said about it", findings=True)
    else:
        shown = meaning
        out.emit({"error": dataclasses.asdict(meaning)}, lambda: error_text(shown, coloured=out.coloured))
