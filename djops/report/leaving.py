"""Somebody's leaving as text, and the certificate at its end as one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from djops.errors import DjopsError
from djops.report.pages import templates
from djops.report.table import table
from djops.services.leaving import TITLES, Leaver, Survey


def survey_text(found: Survey) -> str:
    """Show what somebody has, and what will be done.

    Args:
        found: What was found.
    """
    leaver, rows = found.leaver, []
    for system, had in leaver.had.items():
        rows += [(TITLES[system], name, _shown(value)) for name, value in had.items() if value]
    rows += [
        (TITLES[system], "does not answer", error.message) for system, error in found.unreachable.items()
    ]
    lines = [f"{leaver.who} has:", table((), rows) if rows else "  nothing on the servers"]
    for schema, names in found.orphans.items():
        after = f"goes to {leaver.heir}" if leaver.heir else "nobody else can: see --hand-over-to"
        lines.append(f"{schema}: {', '.join(names)}: {after}")
    if leaver.steps:
        lines.append(f"begun on {leaver.since}; {len(leaver.steps)} steps are done already")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join("@".join(one) if isinstance(one, list) else str(one) for one in value)
    return "yes" if value is True else str(value)


def steps_text(leaver: Leaver, pending: Mapping[str, DjopsError]) -> str:
    """Show what was done, and what is pending.

    Args:
        leaver: Whose leaving.
        pending: Why something is not done, by system.
    """
    rows = [(one["at"], TITLES.get(one["system"], one["system"]), one["what"]) for one in leaver.steps]
    lines = [table((), rows)] if rows else []
    lines += [f"note: {text}" for text in dict.fromkeys(leaver.tellings)]
    for system, error in pending.items():
        lines.append(f"PENDING {TITLES.get(system, system)}: {error.message}")
        lines += [f"  -> {error.hint}"] if error.hint else []
    if pending:
        lines.append(f"`djops offboard {leaver.who}` finishes what is pending")
    return "\n".join(lines)


def pending_data(pending: Mapping[str, DjopsError]) -> dict[str, Any]:
    """Return what is pending, for JSON."""
    return {
        system: {"code": error.code, "message": error.message, "hint": error.hint}
        for system, error in pending.items()
    }


def survey_data(found: Survey) -> dict[str, Any]:
    """Return what was found, for JSON."""
    return {
        "who": found.leaver.who,
        "hand_over_to": found.leaver.heir,
        "had": found.leaver.had,
        "orphans": found.orphans,
        "unreachable": pending_data(found.unreachable),
    }


def attempts_text(certificate: Mapping[str, Any]) -> str:
    """Show every way in, before and after.

    Args:
        certificate: The certificate.
    """
    rows = [
        (one["at"], TITLES[one["system"]], one["way"], one["outcome"], one["answer"])
        for one in certificate["attempts"]
    ]
    head = ("tried at", "on the", "with", "was", "because")
    return f"{table(head, rows)}\ncertificate {certificate['digest']}"


def certificate_html(certificate: Mapping[str, Any]) -> str:
    """Write the certificate as one page that needs nothing from anywhere else.

    Args:
        certificate: The certificate.
    """
    page = templates().get_template("offboard.html.j2")
    return page.render(certificate=certificate, titles=TITLES, shown=_shown)
