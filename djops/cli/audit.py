"""``djops audit``."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from djops.cli import common
from djops.errors import UsageError

if TYPE_CHECKING:
    from djops.services.audit import Audit
    from djops.services.review import Decision

_TERMINAL = "-"
"""What ``--review`` holds without a file."""


@click.command()
@click.argument("action", required=False, type=click.Choice(["setup"]), metavar="[setup]")
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write the report: a directory, or one file.",
)
@click.option("--format", "forms", metavar="FORMATS", help="html, json, csv, markdown; several with commas.")
@click.option("--exit-code", "strict", is_flag=True, help="Exit status 2 when something asks for attention.")
@click.option(
    "--since", metavar="WHEN", help="Changes since a date or an age (7d), not since the last report."
)
@click.option(
    "--review",
    "sheet",
    is_flag=False,
    flag_value=_TERMINAL,
    metavar="[FILE.csv]",
    help="Keep or revoke each grant, one after the other or as a filled-in sheet says.",
)
@common.changing
def command(
    out: common.Output,
    action: str | None,
    to: Path | None,
    forms: str | None,
    strict: bool,
    since: str | None,
    sheet: str | None,
) -> None:
    """Report who can do what, whether that is proven, what asks for attention, and what changed.

    Without --to and --format a summary is shown. `--to DIR` writes audit.html, one page that needs nothing
    from anywhere else, and other formats when --format names them; `--to FILE.html` writes one file. CSV in
    a directory is three files: findings.csv, access.csv, and review.csv for --review.

    --review steps through the grants, or takes the decisions of a sheet; what is revoked is taken out of
    djops.yaml and off the servers, after the plan was shown. `djops audit setup` switches on what the
    servers can write down about log-ins and requests, and tells what they cannot.

    While a server is down the report is made of what can be read, and says what it lacks.

    Exit status: 0 done, 1 error, 2 a server could not be read, or with --exit-code: something asks for
    attention.
    """
    chosen = _formats(forms, to)
    if action == "setup":
        _refuse(bool(to or forms or strict or since or sheet), "setup takes no options of the report")
        _setup(out)
    elif sheet is not None:
        _refuse(bool(to or forms or strict or since), "--review takes no options of the report")
        _review(out, sheet)
    else:
        _report(out, to, chosen, strict=strict, since=since)


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise UsageError(message, hint="call `djops audit` once for each")


def _formats(forms: str | None, to: Path | None) -> tuple[str, ...]:
    """Return the formats meant, by name or by the file's ending."""
    from djops.model.nearest import advice
    from djops.report.audit import FORMATS

    endings = {ending: form for form, ending in FORMATS.items()}
    if forms is None:
        if to is None:
            return ()
        known = to.suffix in endings and not to.is_dir()
        return (endings[to.suffix],) if known else ("html",)
    named = tuple(dict.fromkeys(one.strip() for one in forms.split(",")))
    for one in named:
        if one not in FORMATS:
            raise UsageError(f"there is no format {one!r}", hint=advice(one, FORMATS, what="formats"))
    if len(named) > 1 and (to is None or to.suffix in endings):
        raise UsageError("several formats need a directory", hint="give --to DIR")
    return named


def _report(
    out: common.Output, to: Path | None, forms: tuple[str, ...], *, strict: bool, since: str | None
) -> None:
    from djops.report import audit as texts
    from djops.services import access, audit, log, project
    from djops.services.audit_policy import policy_of

    start = log.Wanted.of(since, None, None, dt.datetime.now(dt.UTC)).since
    policy = policy_of(out.project_file)
    with access.opened(project.load(out.project_file), out.environment) as (servers, wanted):
        found = audit.gather(servers, wanted, policy, start, out.progress)
        files = _files(found, to, forms)
        if files:
            # The next one tells what changed since the last that could tell it.
            audit.keep(servers, found, files, out.reason, told="mysql" not in found.down)
    data = {**texts.as_data(found), "files": [str(path) for path in files]}
    findings = bool(found.unread) or (strict and not found.is_clean)
    if forms and to is None and not out.json:
        out.emit(data, texts.rendered(found, forms[0]), findings=findings)
        return
    out.emit(data, lambda: texts.summary(found, coloured=out.coloured), findings=findings)
    if files:
        out.emit({}, "".join(f"written: {path}\n" for path in files))


def _files(found: Audit, to: Path | None, forms: tuple[str, ...]) -> dict[Path, str]:
    """Return the texts to write, by file."""
    from djops.report import audit as texts

    if to is None:
        return {}
    if to.suffix in texts.FORMATS.values() and not to.is_dir():
        return {to: texts.rendered(found, forms[0])}
    return {to / name: text for name, text in texts.files_of(found, forms).items()}


def _setup(out: common.Output) -> None:
    from djops.report.audit import setup_text
    from djops.services import audit_records
    from djops.services.journal import Cause, note_at
    from djops.services.site import open_site

    site = open_site(out.project_file, out.environment)
    planned = audit_records.setup(site, dry_run=True)
    text = setup_text(planned)
    changes = [one for one in planned if one.changes]
    out.emit({"switches": planned, "switched": len(changes)}, text)
    if not changes:
        return
    out.confirm("Switch these on?", action="the set-up")
    note_at(site, Cause("audit", out.reason), setup=", ".join(f"{one.system}: {one.what}" for one in changes))
    audit_records.setup(site, dry_run=False)
    later = any("next start" in one.state for one in changes)
    out.emit({}, "switched on" + ("; `djops down` and `djops up` put the rest in force" if later else ""))


def _review(out: common.Output, sheet: str) -> None:
    from djops.cli import editing
    from djops.services import project, review

    if sheet == _TERMINAL:
        decisions = _ask(out, review.lines_to_review(project.load(out.project_file)))
    else:
        decisions = review.read_sheet(Path(sheet))
    edited = review.revoking(out.project_file, decisions)
    revoked = [one.entry for one in decisions if one.verdict == "revoke"]
    kept = sum(one.verdict == "keep" for one in decisions)
    counts = f"{kept} kept, {len(revoked)} revoked, {len(decisions) - kept - len(revoked)} undecided"
    out.reason = f"review: {counts}" + (f" ({out.reason})" if out.reason else "")
    if revoked:
        editing.carry_out(out, edited, "the review")
    review.record(out.project_file, out.environment, decisions, out.reason)
    out.emit({"review": {"kept": kept, "revoked": revoked, "lines": len(decisions)}}, f"Review: {counts}.")


def _ask(out: common.Output, lines: tuple[Decision, ...]) -> tuple[Decision, ...]:
    """Step a reviewer through the grants."""
    import dataclasses
    import sys

    from djops.report.table import printable
    from djops.services.review import ANSWERS

    if out.json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise common.ConfirmError(
            "a review asks about each grant, and nobody can be asked; nothing was changed",
            hint="fill in review.csv of `djops audit --to DIR --format csv`; give it: --review review.csv",
        )
    found: list[Decision] = []
    choices = click.Choice([*ANSWERS, "q"])
    click.echo("k keep, r revoke, s skip, q end here", err=True)
    for number, one in enumerate(lines, 1):
        text = f"{number}/{len(lines)} {one.holder}: {one.role} on {', '.join(one.on)} ({one.entry})"
        answer = click.prompt(printable(text), type=choices, default="k", err=True)
        if answer == "q":
            found += lines[number - 1 :]
            break
        found.append(dataclasses.replace(one, verdict=ANSWERS[answer]))
    return tuple(found)
