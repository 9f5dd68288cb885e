"""Findings as text and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from djops.model.findings import Finding
from djops.report.table import colour, printable_lines

_COLOURS = {"warning": "yellow", "info": "dim"}


def findings_data(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings for a ``--json`` answer."""
    return [dataclasses.asdict(finding) for finding in findings]


def findings_text(findings: Sequence[Finding], *, coloured: bool = False) -> str:
    """Show findings, warnings first, in the way errors are shown.

    Args:
        findings: What was found.
        coloured: Whether the terminal takes colours.

    Returns:
        The text; empty when nothing was found.
    """
    ordered = sorted(findings, key=lambda finding: finding.severity != "warning")
    return "\n".join(_text(finding, coloured) for finding in ordered)


def _text(finding: Finding, coloured: bool) -> str:
    place = f"{finding.where}: " if finding.where else ""
    severity = colour(finding.severity, _COLOURS[finding.severity], on=coloured)
    text = f"{severity} [{finding.code}] {printable_lines(place + finding.message)}"
    return f"{text}\n  -> {printable_lines(finding.hint)}" if finding.hint else text


def ask_attention(findings: Sequence[Finding]) -> bool:
    """Tell whether any finding asks for attention."""
    return any(finding.severity == "warning" for finding in findings)
