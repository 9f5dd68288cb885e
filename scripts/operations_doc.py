"""Writes what each role may do with the real client, found by running it, into docs/operations.md.

Usage: ``.venv/bin/python scripts/operations_doc.py [--check] [DIRECTORY]``

DIRECTORY holds the djops.yaml of a project whose servers are up, ``demo-lab`` unless another is named.
Only the part between ``<!-- operations -->`` and ``<!-- end -->`` is written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from djops.services.site import open_site
from djops.systems.resources import load_error_texts, load_roles
from scripts.operations import Cell, Outcome, run

DOCUMENT = Path(__file__).parent.parent / "docs" / "operations.md"
PART = re.compile(r"<!-- operations -->\n.*?<!-- end -->\n", re.DOTALL)

WORDS: Mapping[Outcome, str] = {
    "works": "works",
    "denied": "denied",
    "nothing": "**nothing**",
    "harm": "**harm**",
    "failed": "fails",
}


def render(cells: Sequence[Cell]) -> str:
    """Return the generated part.

    Args:
        cells: Every role's outcome of every operation.
    """
    roles = list(dict.fromkeys(cell.role for cell in cells))
    services = [name for name, role in load_roles().roles.items() if "people" not in role.holders]
    notes = _notes(cells)
    numbers = {operation: number for number, operation in enumerate(notes, start=1)}
    lines = ["<!-- operations -->"]
    for title, columns in (
        ("People", [role for role in roles if role not in services]),
        ("Services", [role for role in roles if role in services]),
    ):
        lines += [f"## {title}", "", *_table(cells, columns, numbers), ""]
    lines += ["## What the client says", ""]
    for operation, found in notes.items():
        lines += [f"{numbers[operation]}. {operation}", *(f"   - {note}" for note in found)]
    return "\n".join([*lines, "<!-- end -->", ""])


def _table(cells: Sequence[Cell], columns: Sequence[str], numbers: Mapping[str, int]) -> Iterator[str]:
    by_place = {(cell.operation, cell.role): cell for cell in cells}
    yield f"| | {' | '.join(columns)} |"
    yield "| --- |" + " --- |" * len(columns)
    for operation in dict.fromkeys(cell.operation for cell in cells):
        mark = f" [{numbers[operation]}]" if operation in numbers else ""
        words = (WORDS[by_place[operation, role].outcome] for role in columns)
        yield f"| {operation}{mark} | {' | '.join(words)} |"


def _notes(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Say of each operation where the client's text is not the truth, and what is."""
    texts = {entry.id: entry for entry in load_error_texts().entries}
    notes: dict[str, dict[str, None]] = {}
    for cell in cells:
        entry = texts.get(cell.error or "")
        if cell.outcome == "nothing":
            note = "**nothing**: the client does not complain, and nothing happens"
        elif cell.outcome == "harm":
            note = f"**harm**: {_code(cell.text)}, after what depends on the table was dropped"
        elif entry is not None and (entry.misleading or cell.outcome == "failed"):
            note = f"{_code(cell.text)}: {meaning(cell)}"
        else:
            continue
        notes.setdefault(cell.operation, {})[note] = None
    return {operation: list(found) for operation, found in notes.items()}


def _code(text: str) -> str:
    """Write a text as code, whatever backticks it holds."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def meaning(cell: Cell) -> str:
    """Return what the client's text means, from the catalogue."""
    reading = load_error_texts().read(cell.text)
    return reading.fill(reading.entry.means) if reading else ""


def outcomes(page: str) -> dict[tuple[str, str], Outcome]:
    """Read the tables of a page.

    Args:
        page: The page.

    Returns:
        The outcome by role and operation.
    """
    words = {word: outcome for outcome, word in WORDS.items()}
    found: dict[tuple[str, str], Outcome] = {}
    columns: list[str] = []
    for line in page.splitlines():
        if line.startswith("| | "):
            columns = [cell.strip() for cell in line.split("|")[2:-1]]
        elif line.startswith("| ") and columns and not line.startswith("| ---"):
            first, *rest = (cell.strip() for cell in line.split("|")[1:-1])
            operation = re.sub(r" \[\d+\]$", "", first)
            found |= {(role, operation): words[word] for role, word in zip(columns, rest, strict=True)}
    return found


def main() -> None:
    """Run everything and write the page, or with ``--check`` only tell whether it is up to date."""
    named = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    current = DOCUMENT.read_text(encoding="utf-8")
    cells = run(open_site(Path(*named or ["demo-lab"]) / "djops.yaml"))
    wanted = PART.sub(lambda _: render(cells), current)
    if current == wanted:
        return
    if "--check" in sys.argv:
        sys.exit("docs/operations.md is out of date: run .venv/bin/python scripts/operations_doc.py")
    DOCUMENT.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
