"""Proposals for adoption as text and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from djops.model.editing import grant_data
from djops.model.project import Grant
from djops.proof.cells import SCHEMA_PRIVILEGES
from djops.report.table import printable, table
from djops.services.adoption import Proposal, Survey


def survey_data(survey: Survey) -> dict[str, Any]:
    """Return a survey for JSON.

    Args:
        survey: Who is there.
    """
    return {
        "proposals": [
            {
                "name": one.name,
                "section": one.section,
                "account": None if one.account is None else str(one.account),
                "iam_path": one.user_path,
                "grants": [grant_data(grant) for grant in one.grants],
                "written": one.written,
                "loses": {schema: list(words) for schema, words in one.loses.items()},
                "gains": {schema: list(words) for schema, words in one.gains.items()},
                "outside": list(one.outside),
                "notes": list(one.notes),
            }
            for one in survey.proposals
        ],
        "left": [dataclasses.asdict(one) for one in survey.left],
    }


def survey_text(survey: Survey, *, only_looked: bool = True) -> str:
    """Return a survey as people read it: each account with what it would have, lose and gain.

    Args:
        survey: Who is there.
        only_looked: Whether nothing is to be changed.
    """
    lines: list[str] = []
    for one in survey.proposals:
        lines += [*_proposal(one), ""]
    if survey.left:
        rows = [(one.account, one.why) for one in survey.left]
        lines += ["Left alone", *(f"  {line}" for line in table((), rows).split("\n")), ""]
    count = len(survey.proposals)
    verdict = f"{count} {'account' if count == 1 else 'accounts'} can be taken over"
    verdict += "; nothing was changed." if only_looked else "."
    return "\n".join([*lines, verdict if count else "There is nobody to take over."])


def _proposal(one: Proposal) -> Iterator[str]:
    written = ", as djops.yaml says" if one.written else ""
    yield f"{printable(str(one.account or one.name))}: {_grants(one.grants)}{written}"
    rows = [("loses", *row) for row in _by_words(one.loses)]
    rows += [("loses", "elsewhere", text) for text in one.outside]
    rows += [("gains", *row) for row in _by_words(one.gains)]
    rows += [("and", "", note) for note in one.notes]
    for line in table((), rows).split("\n"):
        yield f"  {line}"


def _grants(grants: Sequence[Grant]) -> str:
    return "; ".join(f"{grant.role} on {', '.join(grant.on)}" for grant in grants) or "no grant"


def _joined(words: Sequence[str]) -> Iterator[str]:
    """Put together what is about rows, about objects and about the inbox."""
    rows = [word for word in words if ": " not in word]
    if rows:
        yield ", ".join(rows)
    for where in ("objects", "inbox"):
        what = [word.removeprefix(f"{where}: ") for word in words if word.startswith(f"{where}: ")]
        # Whoever puts objects may also end what he began.
        shown = [word for word in what if word != "abort uploads" or "put" not in what]
        if shown:
            yield f"{where}: {', '.join(shown)}"


_NO_ROLE = frozenset(name.lower() for name, capability in SCHEMA_PRIVILEGES.items() if capability is None)


def _by_words(found: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Put schemas together of which the same is to be said."""
    same: dict[tuple[str, ...], list[str]] = {}
    for schema, words in found.items():
        same.setdefault(tuple(words), []).append(schema)
    for words, schemas in same.items():
        known = [word for word in words if word not in _NO_ROLE]
        other = [word for word in words if word in _NO_ROLE]
        if known:
            yield ", ".join(schemas), "; ".join(_joined(known))
        if other:
            yield ", ".join(schemas), f"what no role has: {', '.join(other)}"
