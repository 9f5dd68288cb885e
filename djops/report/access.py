"""Answers about access as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from djops.report.table import colour, table
from djops.services.can import Answer, Touched
from djops.services.explain import Explanation, Step
from djops.services.explain_error import ErrorMeaning
from djops.services.question import Opening

_SHOWN = 8
_SYSTEMS = {"project": "djops.yaml", "mysql": "MySQL", "s3": "S3"}


def explanation_text(explanation: Explanation, *, coloured: bool = False) -> str:
    """Show a chain, or what is missing of it.

    Args:
        explanation: The explanation.
        coloured: Whether the terminal takes colours.
    """
    word = colour("yes", "green", on=coloured) if explanation.allowed else colour("no", "red", on=coloured)
    rows = [_row(step, live=explanation.live) for step in explanation.steps]
    lines = [word, *(f"  {line}" for line in table((), rows).split("\n") if rows)]
    lines += [f"  {line}" for line in explanation.missing]
    if explanation.command:
        beside = f", and would open beside it: {_openings(explanation.opens)}" if explanation.opens else ""
        lines.append(f"  `{explanation.command}` would{beside}")
    if explanation.beyond:
        lines.append("  but the database allows it, and `djops apply` takes that back:")
        lines += [f"    {line}" for line in explanation.beyond[:_SHOWN]]
    return "\n".join(lines)


def _row(step: Step, *, live: bool) -> tuple[str, ...]:
    place = step.where or (_SYSTEMS[step.system] if step.system != "project" else "")
    state = "" if step.holds is None else "has" if step.holds else "lacks"
    return (place, state, step.text) if live else (place, step.text)


def _openings(openings: Sequence[Opening]) -> str:
    by_capabilities: dict[tuple[str, ...], list[str]] = {}
    for opening in openings:
        by_capabilities.setdefault(opening.capabilities, []).append(opening.schema)
    return "; ".join(f"{', '.join(names)} on {', '.join(on)}" for names, on in by_capabilities.items())


def error_text(meaning: ErrorMeaning, *, coloured: bool = False) -> str:
    """Show what an error's text means.

    Args:
        meaning: Its meaning.
        coloured: Whether the terminal takes colours.
    """
    rows = [("means", meaning.means), ("because", meaning.cause), ("do", meaning.do)]
    rows += [("note", note) for note in meaning.notes]
    lines = table((), rows).split("\n")
    if meaning.explanation is not None:
        found = meaning.explanation
        asked = f"may {found.who} {found.what} {found.table or found.schema}?"
        lines += ["", asked, explanation_text(found, coloured=coloured)]
    return "\n".join(lines)


def answer_text(answer: Answer) -> str:
    """Show whether somebody may do something, and what it would touch.

    Args:
        answer: The answer.
    """
    lines = ["yes" if answer.allowed else "no", *(f"  {reason}" for reason in answer.because)]
    lines += [f"  but: {note}" for note in answer.notes]
    if answer.touched is not None:
        header = ("table", "rows", f"{answer.who} may", "names")
        rows = [(one.name, one.rows, one.allowed, _named(one, answer.who)) for one in answer.touched]
        lines += ["", table(header, rows, right=(1,))]
        lines += ["", _by_schema(answer.touched), *_outcome(answer, answer.touched)]
    return "\n".join(lines)


def _named(touched: Touched, who: str) -> str:
    names = [
        f"{name} {count} ({attribute})"
        for attribute, found in touched.named.items()
        for name, count in sorted(found.items())
        if name != who
    ]
    return ", ".join(names)


def _by_schema(touched: Sequence[Touched]) -> str:
    counts: dict[str, int] = {}
    for one in touched:
        counts[one.table.schema] = counts.get(one.table.schema, 0) + one.rows
    return "rows: " + ", ".join(f"{schema} {rows}" for schema, rows in counts.items())


def _outcome(answer: Answer, touched: Sequence[Touched]) -> Iterator[str]:
    blocking = [one.name for one in touched if one.blocks]
    if answer.allowed and blocking:
        verb = "stops" if answer.what == "drop" else "is rolled back"
        yield f"it {verb}: {answer.who} may not {answer.what} on {', '.join(blocking)}"
