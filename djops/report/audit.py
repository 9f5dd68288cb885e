"""An audit as one HTML page, JSON, CSV, Markdown, and a summary for the terminal."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import jinja2
from markupsafe import Markup

from djops.model.audit import SEVERITIES, AuditFinding
from djops.report import who as matrix_texts
from djops.report.envelope import plain
from djops.report.log import log_data, verified_data
from djops.report.pages import templates
from djops.report.table import colour, printable, printable_lines, table
from djops.services.audit import Audit, GrantLine
from djops.services.audit_records import Switch
from djops.services.log import Deed
from djops.services.who import Holding, given

Format = Literal["html", "json", "csv", "markdown"]
FORMATS: Mapping[str, str] = {"html": ".html", "json": ".json", "csv": ".csv", "markdown": ".md"}
"""Formats, and what their files end with."""

FINDING_COLUMNS = ("severity", "kind", "title", "who", "found", "mend", "because")
REVIEW_COLUMNS = (
    "entry", "holder", "kind", "role", "on", "until", "reason", "members", "last seen", "decision", "comment",
)  # fmt: skip
"""The sheet that a reviewer fills in: ``keep`` or ``revoke`` as the decision."""

STRENGTHS: tuple[tuple[str, frozenset[str]], ...] = (
    ("nothing", frozenset()),
    ("reads", frozenset({"read", "jobs", "inbox", "reference"})),
    ("adds", frozenset({"insert"})),
    ("changes", frozenset({"update", "delete", "collect"})),
    ("develops", frozenset({"declare", "alter", "drop"})),
    ("administers", frozenset({"grant"})),
)
"""How much somebody may do on a schema, from nothing on, and the capabilities that make it so much."""

TITLES = {"mysql": "MySQL", "s3": "object store", "secrets": "secrets server"}
_ORIGINS = ("grant", "team", "closure", "server")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_COLOURS = {"high": "red", "medium": "yellow", "low": "dim", "note": "dim"}


@dataclass(frozen=True)
class Cell:
    """One cell of the drawn matrix.

    Attributes:
        level: What is given, in a word.
        strength: 0 for nothing to 5 for an administrator's rights.
        means: The strength in a word.
        origins: Where it comes from, in one word each: ``grant``, ``team``, ``closure``, ``server``.
        holding: All about it.
    """

    level: str
    strength: int
    means: str
    origins: tuple[str, ...]
    holding: Holding


def cell_of(one: Holding) -> Cell:
    """Return how a holding is drawn.

    Args:
        one: What somebody may do with a schema.
    """
    held = {*given(one.model), *given(one.database), *given(one.store)}
    found = {_origin(text) for text in one.origins}
    strength = max((rank for rank, (_, names) in enumerate(STRENGTHS) if names & held), default=0)
    return Cell(
        level=one.level or "-" if held else "-",
        strength=strength,
        means=STRENGTHS[strength][0],
        origins=tuple(name for name in _ORIGINS if name in found) if held else (),
        holding=one,
    )


def _origin(text: str) -> str:
    if re.search(r", (upstream|downstream) of ", text):
        return "closure"
    if text.startswith("teams."):
        return "team"
    return "grant" if text.startswith(("people.", "services.")) else "server"


def rows_of(audit: Audit) -> dict[str, dict[str, Cell]]:
    """Return the drawn matrix: cells by name and schema; administrators of the servers are left out.

    Args:
        audit: The report.
    """
    rows: dict[str, dict[str, Cell]] = {}
    for one in audit.holdings:
        if one.kind != "administrator":
            rows.setdefault(one.who, {})[one.schema] = cell_of(one)
    return rows


def counted(findings: Iterable[AuditFinding]) -> dict[str, int]:
    """Return the number of findings by severity, the worst first.

    Args:
        findings: The findings.
    """
    found = Counter(one.severity for one in findings)
    return {severity: found[severity] for severity in SEVERITIES}


def as_data(audit: Audit) -> dict[str, Any]:
    """Return a report for JSON.

    Args:
        audit: The report.
    """
    verdict = audit.verdict
    return {
        "project": audit.project,
        "environment": audit.environment,
        "made_at": audit.made_at,
        "made_by": audit.made_by,
        "version": audit.version,
        "since": audit.since or None,
        "clean": audit.is_clean,
        "complete": not audit.unread,
        "unread": [asdict(one) for one in audit.unread],
        "counts": counted(audit.findings),
        "findings": [asdict(one) for one in audit.findings],
        "access": matrix_texts.as_data(audit.holdings),
        "grants": [asdict(one) for one in audit.grants],
        "proof": {
            "agrees": verdict.agrees if verdict.counts else None,
            "compared": {system: asdict(count) for system, count in verdict.counts.items()},
            "disagreements": [{**asdict(one), "cell": one.cell._asdict()} for one in verdict.disagreements],
            "theorems": dict(verdict.theorems),
            "violations": [asdict(one) for one in verdict.violations],
            "unknown": [asdict(one) for one in verdict.unknown],
            "live": asdict(audit.live) if audit.live else None,
        },
        "journal": {**verified_data(audit.verified), **log_data(audit.deeds)},
        "records": asdict(audit.records),
    }


def as_json(audit: Audit) -> str:
    """Return a report as JSON.

    Args:
        audit: The report.
    """
    return json.dumps(plain(as_data(audit)), indent=2, ensure_ascii=True) + "\n"


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        # A spreadsheet would compute such a cell instead of showing it.
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in row])
    return text.getvalue()


def findings_csv(audit: Audit) -> str:
    """Return the findings as CSV.

    Args:
        audit: The report.
    """
    return _csv(
        FINDING_COLUMNS,
        (
            (one.severity, one.kind, one.title, one.who, one.text, one.mend, "; ".join(one.because))
            for one in audit.findings
        ),
    )


def review_csv(grants: Iterable[GrantLine]) -> str:
    """Return the sheet that a reviewer fills in.

    Args:
        grants: The lines of the project file.
    """
    return _csv(
        REVIEW_COLUMNS,
        (
            (one.entry, one.holder, one.kind, one.role, " ".join(one.on), one.until, one.reason,
             " ".join(one.members), one.seen, "", "")
            for one in grants
        ),
    )  # fmt: skip


def as_markdown(audit: Audit) -> str:
    """Return a report as Markdown.

    Args:
        audit: The report.
    """
    counts = counted(audit.findings)
    lines = [
        f"# Access audit of {_md(audit.project)}",
        "",
        f"Environment {_md(audit.environment)}, {audit.made_at}, by {_md(audit.made_by)}, "
        f"djops {audit.version}.",
        "",
        *(f"**{_md(line)}**\n" for line in unread_lines(audit)),
        f"**{verdict_line(audit)}** " + ", ".join(f"{number} {name}" for name, number in counts.items()),
        "",
        "## Findings",
        "",
        *_md_table(
            ("severity", "what", "who", "found", "mended by"),
            [(one.severity, one.title, one.who, one.text, one.mend) for one in audit.findings],
        ),
        "## Who can do what",
        "",
    ]
    rows = [
        [name, *(_cell_text(cells.get(schema)) for schema in audit.schemas)]
        for name, cells in rows_of(audit).items()
    ]
    lines += [*_md_table(("", *audit.schemas), rows), "## Proof", "", *map(_md, proof_lines(audit)), ""]
    lines += [f"## Changes {audit.since_why}", ""]
    changes = [_change(deed) for deed in audit.deeds]
    lines += _md_table(("when", "who", "command", "what", "why"), changes)
    lines += ["## What the servers recorded", ""]
    sources = [
        (TITLES[one.system], one.what, "yes" if one.recorded else "no", one.note)
        for one in audit.records.sources
    ]
    lines += _md_table(("server", "what", "recorded", ""), sources)
    seen = [
        (one.who, TITLES[one.system], one.last, str(one.log_ins), str(one.refused))
        for one in audit.records.seen
    ]
    lines += _md_table(("who", "server", "last seen", "log-ins", "refused"), seen)
    events = [(one.at, TITLES[one.system], one.what, one.who, one.detail) for one in audit.records.events]
    lines += _md_table(("when", "server", "what", "who", ""), events)
    return "\n".join(lines).rstrip() + "\n"


def _cell_text(cell: Cell | None) -> str:
    if cell is None or not cell.strength:
        return "-"
    return f"{cell.level} ({', '.join(cell.origins)})" if cell.origins else cell.level


def _md_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["None.", ""]
    marked = [f"| {' | '.join(map(_md, row))} |" for row in (head, *rows)]
    return [marked[0], f"|{' --- |' * len(head)}", *marked[1:], ""]


def _md(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>()#|!~&])", r"\\\1", printable(text))


def verdict_line(audit: Audit) -> str:
    """Say in one sentence how it stands.

    Args:
        audit: The report.
    """
    open_ones = sum(one.severity != "note" for one in audit.findings)
    if not open_ones:
        return "Nothing asks for attention."
    return f"{open_ones} finding{'s ask' if open_ones > 1 else ' asks'} for attention."


def unread_lines(audit: Audit) -> list[str]:
    """Say what the report lacks.

    Args:
        audit: The report.
    """
    return [
        f"Incomplete: the {TITLES[one.system]} could not be read ({one.why}). Missing: {one.what}."
        for one in audit.unread
    ]


def proof_lines(audit: Audit) -> list[str]:
    """Say what was compared, and what it came to.

    Args:
        audit: The report.
    """
    verdict, lines = audit.verdict, list[str]()
    if not verdict.counts:
        return ["Nothing was compared: the database could not be read."]
    for system, count in verdict.counts.items():
        lines.append(f"{TITLES[system]}: {count.cells} cells compared by {count.questions} questions.")
    lines.append(f"Cells in which servers and djops.yaml disagree: {len(verdict.disagreements)}.")
    lines.append(
        f"Theorems: {len(verdict.theorems)} checked, {len({one.theorem for one in verdict.violations})} do "
        f"not hold, {len(verdict.unknown)} could not be checked."
    )
    live = audit.live
    lines.append(
        f"Last tried on the servers themselves: {live.at} by {live.who}: {live.what}."
        if live
        else "Never tried on the servers themselves: `djops verify --live` does."
    )
    return lines


def _change(deed: Deed) -> tuple[str, str, str, str, str]:
    first = deed.entry
    outcomes = Counter(step.outcome for step in deed.steps)
    what = first.change
    if first.run:
        what = "; ".join(f"{number} {outcome}" for outcome, number in outcomes.items()) or "nothing to do"
    who = f"{first.who}@{first.host}"
    return f"{first.at[:19]}Z", who, first.command, what, first.reason


def as_html(audit: Audit) -> str:
    """Return a report as one page that needs nothing from anywhere else.

    Args:
        audit: The report.
    """
    # What would turn the reading direction around, or show as nothing, is written out.
    environment = templates(lambda value: printable_lines(value) if type(value) is str else value)
    style, script = (_source(environment, name) for name in ("audit.css", "audit.js"))
    rows = rows_of(audit)
    return environment.get_template("audit.html.j2").render(
        audit=audit,
        counts=counted(audit.findings),
        verdict=verdict_line(audit),
        unread=unread_lines(audit),
        rows=rows,
        strengths=[name for name, _ in STRENGTHS],
        listed=lambda extents: ", ".join(
            name if extent == "yes" else f"{name} ({extent})" for name, extent in given(extents).items()
        ),
        changes=[(_change(deed), deed.steps) for deed in audit.deeds],
        titles=TITLES,
        style=Markup(style),  # noqa: S704  shipped with djops
        script=Markup(script),  # noqa: S704  shipped with djops
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'",
    )


def _source(environment: jinja2.Environment, name: str) -> str:
    loader = environment.loader
    return "" if loader is None else loader.get_source(environment, name)[0].strip()


def _hash(text: str) -> str:
    # The element's content begins and ends with a line break of the template.
    digest = hashlib.sha256(f"\n{text}\n".encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def rendered(audit: Audit, form: str) -> str:
    """Return a report in one format; CSV holds the findings.

    Args:
        audit: The report.
        form: One of :data:`FORMATS`.
    """
    makers = {"html": as_html, "json": as_json, "csv": findings_csv, "markdown": as_markdown}
    return makers[form](audit)


def files_of(audit: Audit, forms: Iterable[str]) -> dict[str, str]:
    """Return the files of a report, by name; CSV is three: findings, access, and the reviewer's sheet.

    Args:
        audit: The report.
        forms: Some of :data:`FORMATS`.
    """
    files: dict[str, str] = {}
    for form in forms:
        if form == "csv":
            files["findings.csv"] = findings_csv(audit)
            files["access.csv"] = matrix_texts.as_csv(audit.holdings)
            files["review.csv"] = review_csv(audit.grants)
        else:
            files[f"audit{FORMATS[form]}"] = rendered(audit, form)
    return files


def summary(audit: Audit, *, coloured: bool = False) -> str:
    """Return a report for the terminal: findings, and how the rest stands.

    Args:
        audit: The report.
        coloured: Whether the terminal takes colours.
    """
    lines = []
    for one in audit.findings:
        severity = colour(f"{one.severity:<6}", _COLOURS[one.severity], on=coloured)
        lines += [f"{severity} {printable(f'{one.title}: {one.text}')}", f"       -> {printable(one.mend)}"]
    lines += [*([""] if lines else []), *proof_lines(audit)]
    checked = audit.verified.checked
    whole = "broken" if checked.faults else "whole"
    if "mysql" in audit.down:
        lines.append(f"Journal: not read; {audit.verified.waiting} rows wait on this machine.")
    else:
        lines.append(
            f"Journal: {checked.rows} rows, the chain is {whole}; {len(audit.deeds)} deeds {audit.since_why}."
        )
    silent = [f"{TITLES[one.system]}: {one.what}" for one in audit.records.sources if not one.recorded]
    lines += [f"Not recorded by {printable(one)}" for one in silent]
    return "\n".join([*lines, "", *unread_lines(audit), verdict_line(audit)])


def setup_text(switches: Sequence[Switch]) -> str:
    """Show what servers record from now on.

    Args:
        switches: Their facilities.
    """
    return table(("server", "records", ""), [(TITLES[one.system], one.what, one.state) for one in switches])
