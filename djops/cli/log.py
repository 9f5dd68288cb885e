"""``djops log``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from djops.cli import common
from djops.errors import UsageError

if TYPE_CHECKING:
    from djops.services.journal import Journal
    from djops.services.log import Deed, Verified, Wanted
    from djops.services.site import Site


@click.command()
@click.option("--since", metavar="WHEN", help="A date such as 2030-01-31 (UTC), or an age: 7d, 12h, 30m.")
@click.option("--who", metavar="ACCOUNT", help="Only what this account did.")
@click.option("--on", metavar="NAME", help="Only what names this person, schema or object.")
@click.option("--full", is_flag=True, help="Show every change of every plan.")
@click.option("--verify", is_flag=True, help="Tell whether nothing was changed or taken away.")
@click.option(
    "--export",
    "target",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write all rows as JSON lines; - is standard output.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Read an export instead of the servers.",
)
@common.options
def command(
    out: common.Output,
    since: str | None,
    who: str | None,
    on: str | None,
    full: bool,
    verify: bool,
    target: Path | None,
    source: Path | None,
) -> None:
    """Show who changed what, when, from where and why, and what came of it.

    Each row of the journal is sealed with a hash over itself and the row before it, and the last hash is
    noted in the secrets server after each command. --verify finds every row that was changed, removed or
    put in since, and tells when history was computed anew.

    Exit status: 0 done, 1 error, 2 with --verify: the journal is not whole.
    """
    from djops.services import log

    if target is not None and (verify or source or since or who or on):
        raise UsageError("an export is always of all rows", hint="give --export alone")
    wanted = log.Wanted.of(since, who, on, dt.datetime.now(dt.UTC))
    if source is not None:
        _from_export(out, source, wanted, full=full, verify=verify)
        return
    with _opened(out) as (site, journal):
        if target is not None:
            _export(out, journal, target)
        elif verify:
            _verify(out, log.verify(journal, site.lab))
        else:
            _show(out, log.deeds(journal.read(), wanted), full=full or on is not None)


@contextmanager
def _opened(out: common.Output) -> Iterator[tuple[Site, Journal]]:
    from contextlib import closing, suppress

    from djops.errors import DjopsError
    from djops.services.journal import Journal
    from djops.services.site import open_site
    from djops.systems.mysql import Mysql
    from djops.systems.vault import Secrets

    site = open_site(out.project_file, out.environment)
    with closing(Mysql(site.mysql)) as mysql, Secrets(site.secrets) as secrets:
        journal = Journal(site, mysql, secrets)
        # What waits here belongs to the answer; when it cannot be added, the answer says that it waits.
        with suppress(DjopsError):
            journal.catch_up()
        yield site, journal


def _from_export(out: common.Output, source: Path, wanted: Wanted, *, full: bool, verify: bool) -> None:
    from djops.services import log

    if verify:
        _verify(out, log.verify_export(source))
    else:
        _show(out, log.deeds(log.read_export(source), wanted), full=full or wanted.on is not None)


def _show(out: common.Output, deeds: tuple[Deed, ...], *, full: bool) -> None:
    from djops.report.log import log_data, log_text

    out.emit(log_data(deeds), lambda: log_text(deeds, full=full))


def _verify(out: common.Output, verified: Verified) -> None:
    from djops.report.log import verified_data, verified_text

    data = verified_data(verified)
    out.emit(data, verified_text(verified), findings=bool(data["faults"]))


def _export(out: common.Output, journal: Journal, target: Path) -> None:
    from djops.services import log

    if str(target) != "-":
        rows = log.export(journal, target)
        out.emit({"rows": rows, "file": target}, f"{target}: {rows} rows")
    elif out.json:
        raise UsageError("--json and --export - are both standard output", hint="give --export a file")
    else:
        for entry in journal.read():
            out.emit({}, entry.to_line())
