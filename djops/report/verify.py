"""The outcome of a comparison as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from djops.model.roles import Capability
from djops.proof.cells import WHOLE, System
from djops.proof.theorems import Violation
from djops.report.table import colour, printable, table
from djops.services.verify import Disagreement, Verdict

LETTERS = {
    Capability.READ: "r",
    Capability.INSERT: "i",
    Capability.UPDATE: "u",
    Capability.DELETE: "d",
    Capability.JOBS: "j",
    Capability.DECLARE: "c",
    Capability.REFERENCE: "f",
    Capability.ALTER: "a",
    Capability.DROP: "x",
    Capability.GRANT: "g",
    Capability.INBOX: "n",
    Capability.COLLECT: "k",
}
"""One letter for each capability, so that many schemas fit beside each other."""

LEGEND = "  ".join(f"{letter} {capability}" for capability, letter in LETTERS.items())

SYSTEMS: dict[System, str] = {"mysql": "Database", "s3": "Object store"}

_SHOWN = 4
"""How many rows, statements or questions are shown of one finding; all of them stand in the JSON."""


def letters(capabilities: Iterable[str]) -> str:
    """Write capabilities as letters, in their fixed order."""
    wanted = frozenset(capabilities)
    return "".join(letter for capability, letter in LETTERS.items() if capability in wanted)


def verdict_text(verdict: Verdict, *, coloured: bool = False) -> str:
    """Return a comparison as people read it: the matrix, what differs, what was compared.

    Args:
        verdict: The outcome.
        coloured: Whether the terminal takes colours.
    """
    blocks = [matrix(verdict), LEGEND]
    for finding in verdict.disagreements:
        blocks.append(_disagreement(finding, coloured=coloured))
    for violation in verdict.violations:
        blocks.append(_violation(violation, coloured=coloured))
    notes = [f"not checked, {one.theorem}: {one.reason}" for one in verdict.unknown]
    notes += [f"note: {note}" for note in verdict.notes]
    notes += [f"no finding: {who} is {what}" for who, what in verdict.administrators.items()]
    if notes:
        blocks.append("\n".join(printable(note) for note in notes))
    return "\n\n".join([*blocks, _summary(verdict)])


def matrix(verdict: Verdict) -> str:
    """Return what principals may do by schema; ``!`` stands where a server says otherwise.

    Args:
        verdict: The outcome.
    """
    wrong = {(one.cell.principal, one.cell.schema) for one in verdict.disagreements}
    rows = []
    for name in verdict.principals:
        may = verdict.capabilities[name]
        whole = ["!"] if (name, WHOLE) in wrong else [""]
        cells = [
            (letters(may[schema]) or "-") + ("!" if (name, schema) in wrong else "")
            for schema in verdict.schemas
        ]
        rows.append([name, *cells, *whole])
    return table(["", *verdict.schemas], rows)


def _disagreement(one: Disagreement, *, coloured: bool) -> str:
    cell = one.cell
    place = f" on {cell.schema}" if cell.schema else ""
    head = f"{cell.principal}, {cell.capability}{place}, {SYSTEMS[cell.system]}: {_said(one)}"
    lines = [colour(printable(head), "red", on=coloured)]
    lines += _some(one.asks, "  ")
    lines += _some(one.because, "    ")
    return "\n".join(lines)


def _said(one: Disagreement) -> str:
    words = {True: "yes", False: "no"}
    parts = [f"djops.yaml says {words[one.model]}"]
    parts += [f"the catalog {words[one.reader]}"] if one.reader is not None else []
    parts += [f"the server {words[one.probe]}"] if one.probe is not None else []
    if len(parts) == 1:
        parts.append("what the server means cannot be told")
    return ", ".join(parts)


def _violation(one: Violation, *, coloured: bool) -> str:
    lines = [colour(f"{one.theorem}: {printable(one.text)}", "red", on=coloured)]
    return "\n".join([*lines, *_some(one.because, "    ")])


def _some(texts: Sequence[str], indent: str) -> list[str]:
    """Return the first few of many lines, and how many there are."""
    lines = [f"{indent}{printable(text)}" for text in texts[:_SHOWN]]
    rest = len(texts) - _SHOWN
    return [*lines, f"{indent}and {rest} more"] if rest > 0 else lines


def _summary(verdict: Verdict) -> str:
    lines = []
    for system, count in verdict.counts.items():
        parts = [f"{count.questions} questions to the catalog"] if count.questions else []
        parts += [f"{count.probes} tried as a twin"] if count.probes else []
        lines.append(f"{SYSTEMS[system]}: {count.cells} cells, {', '.join(parts) or 'nothing asked'}")
    broken = {violation.theorem for violation in verdict.violations}
    checked = [code for code in verdict.theorems if code not in {one.theorem for one in verdict.unknown}]
    if checked:
        lines.append(f"{len(checked) - len(broken)} of {len(checked)} theorems hold")
    found = [f"{len(verdict.disagreements)} disagreements"] if verdict.disagreements else []
    found += [f"{len(verdict.violations)} violations"] if verdict.violations else []
    return "\n".join([*lines, " and ".join(found) if found else "all deciders agree"])
