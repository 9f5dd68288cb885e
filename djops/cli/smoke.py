"""``djops smoke``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from djops.cli import common
from djops.errors import UsageError

if TYPE_CHECKING:
    from djops.services.smoke import Report


@click.command()
@click.option("--as", "role", metavar="ROLE", help="Try this role only.")
@click.option("--all", "every", is_flag=True, help="Try all roles; so it is without --as, too.")
@common.changing
def command(out: common.Output, role: str | None, every: bool) -> None:
    """Try every role through the real client, on a scratch schema.

    For each role a throw-away principal connects, reads, inserts with objects, updates, populates with
    reserved jobs, deletes, declares and drops, delivers raw files and collects garbage. Each must work or be
    refused as the role model says, and the role's limits must be in force.
    Everything made for it is removed, also after a failure.
    """
    from djops.services import smoke
    from djops.services.site import open_site

    if role is not None and every:
        raise UsageError("--as and --all exclude each other", hint="leave one out")
    site = open_site(out.project_file, out.environment)
    report = smoke.run(site, role, out.progress, out.lock_wait)
    removed = {"removed": report.removed}
    data = {"schema": report.schema, "cells": report.cells, "agrees": report.agrees, **removed}
    out.emit(data, lambda: _show(report), findings=not report.agrees)


def _show(report: Report) -> str:
    from djops.report.table import table

    roles = list(dict.fromkeys(cell.role for cell in report.cells))
    cells = {(cell.role, cell.action): cell for cell in report.cells}
    actions = list(dict.fromkeys(cell.action for cell in report.cells))
    rows = []
    for action in actions:
        there = [cells[role, action] for role in roles]
        shown = [cell.seen if cell.agrees else f"{cell.seen}, not {cell.expected}" for cell in there]
        rows.append([action, *shown])
    wrong = [cell for cell in report.cells if not cell.agrees]
    lines = [table(["", *roles], rows), ""]
    lines += [f"{cell.role}, {cell.action}: {cell.detail}" for cell in wrong if cell.detail]
    verdict = f"{len(wrong)} attempts went otherwise" if wrong else f"all {len(report.cells)} attempts went"
    return "\n".join([*lines, f"{verdict} {'than' if wrong else 'as'} the role model says"])
