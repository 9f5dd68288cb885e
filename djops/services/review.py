"""A review of grants: which lines of the project file stay, which go."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from djops.errors import ConfigError, DjopsError, ManyErrors, UsageError
from djops.model.editing import Edit, Remove
from djops.model.project import Project
from djops.services import project
from djops.services.audit_findings import grants_of
from djops.services.journal import Cause, note_at
from djops.services.project import Edited, Loaded
from djops.services.site import open_site

Verdict = Literal["keep", "revoke", ""]
"""What a reviewer says about a grant; nothing while it is undecided."""

NEEDED = ("entry", "holder", "role", "on", "decision")
"""Columns that a sheet must have."""

ANSWERS: Mapping[str, Verdict] = {"k": "keep", "r": "revoke", "s": ""}
"""What a reviewer answers at a terminal."""

_WORDS: dict[str, Verdict] = {
    "keep": "keep", "k": "keep", "yes": "keep", "ok": "keep",
    "revoke": "revoke", "r": "revoke", "no": "revoke", "remove": "revoke", "": "",
}  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """What a reviewer says about one line of the project file.

    Attributes:
        entry: The line's place, for example ``people.alice.grants[0]``.
        holder: Who has it.
        role: The role.
        on: The schemas, as the file names them.
        verdict: What is to become of it.
        where: Where the decision stands.
    """

    entry: str
    holder: str
    role: str
    on: tuple[str, ...]
    verdict: Verdict
    where: str = ""


def read_sheet(path: Path) -> tuple[Decision, ...]:
    """Read a sheet that a reviewer filled in.

    Args:
        path: The CSV file, with a comma or a semicolon between cells.

    Raises:
        ConfigError: ``E_REVIEW`` for what cannot be understood, with file and line.
        ManyErrors: Several of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the sheet cannot be read: {error}", where=str(path), code="E_REVIEW") from error
    head = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(), delimiter=";" if head.count(";") > head.count(",") else ",")
    missing = [name for name in NEEDED if name not in (rows.fieldnames or ())]
    if missing:
        raise ConfigError(
            f"the sheet has no column {', '.join(missing)}",
            where=str(path),
            code="E_REVIEW",
            hint="`djops audit --to DIR --format csv` writes review.csv; fill in its column `decision`",
        )
    found, errors = [], list[DjopsError]()
    for row in rows:
        where = f"{path}:{rows.line_num}"
        word = (row["decision"] or "").strip().lower()
        if word not in _WORDS:
            message = f"{row['decision']!r} is no decision"
            errors.append(ConfigError(message, where=where, code="E_REVIEW", hint="write keep or revoke"))
            continue
        cells = [(row[name] or "").strip().removeprefix("'") for name in ("entry", "holder", "role", "on")]
        entry, holder, role, on = cells
        found.append(Decision(entry, holder, role, tuple(on.split()), _WORDS[word], where))
    if errors:
        raise ManyErrors(errors) if len(errors) > 1 else errors[0]
    return tuple(found)


def lines_to_review(loaded: Loaded) -> tuple[Decision, ...]:
    """Return every line that gives something, undecided.

    Args:
        loaded: The project.
    """
    return tuple(
        Decision(entry, holder, grant.role, grant.on, "")
        for entry, holder, grant in grants_of(loaded.project)
    )


def revoking(project_file: Path, decisions: Sequence[Decision]) -> Edited:
    """Work out the change of the project file that a review comes to.

    Args:
        project_file: The ``djops.yaml``.
        decisions: What the reviewer said.

    Returns:
        The change, checked and not yet written.

    Raises:
        UsageError: ``E_REVIEW`` when the file is not the one that was reviewed.
    """
    decide: Callable[[Loaded], Sequence[Edit]] = lambda loaded: _edits(loaded.project, decisions)  # noqa: E731
    return project.edit(project_file, decide)


def _edits(of: Project, decisions: Sequence[Decision]) -> list[Edit]:
    there = {entry: (holder, grant.role, grant.on) for entry, holder, grant in grants_of(of)}
    chosen: set[str] = set()
    for one in decisions:
        if one.verdict and there.get(one.entry) != (one.holder, one.role, one.on):
            raise UsageError(
                f"{one.entry} is no longer {one.role} on {', '.join(one.on)} of {one.holder}",
                where=one.where or None,
                code="E_REVIEW",
                hint="djops.yaml was changed since the sheet was written: write and fill in a new one",
            )
        if one.verdict == "revoke":
            chosen.add(one.entry)
    edits: list[Edit] = []
    for section, name, index, _ in reversed(list(of.entries())):
        if f"{section}.{name}.grants[{index}]" in chosen:
            edits.append(Remove((section, name, "grants", index)))
    return edits


def record(project_file: Path, environment: str | None, decisions: Sequence[Decision], reason: str) -> None:
    """Note in the journal that grants were reviewed.

    Args:
        project_file: The ``djops.yaml``.
        environment: Name of the environment; ``None`` means the only one, or ``local``.
        decisions: What the reviewer said.
        reason: Why, in the reviewer's words.
    """
    named = {
        verdict: ", ".join(one.entry for one in decisions if one.verdict == verdict)
        for verdict in ("keep", "revoke", "")
    }
    facts = {"kept": named["keep"], "revoked": named["revoke"], "undecided": named[""]}
    told = {name: text for name, text in facts.items() if text}
    note_at(open_site(project_file, environment), Cause("audit", reason), review=str(len(decisions)), **told)
