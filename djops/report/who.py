"""Who may do what: as text, as CSV, as JSON, as one HTML page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from djops.report.pages import templates
from djops.report.table import table
from djops.report.verify import letters
from djops.services.who import Extent, Holding, given

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that make a spreadsheet compute a cell instead of showing it."""

COLUMNS = ("who", "kind", "schema", "level", "djops.yaml", "database", "store", "agrees", "origin")


def who_text(holdings: Sequence[Holding]) -> str:
    """Show who may do one thing.

    Args:
        holdings: Everybody who may, of one schema or table and one capability.
    """
    if not holdings:
        return "nobody"
    rows = []
    asked = any(one.agrees is not None for one in holdings)
    for one in holdings:
        seen = [_word(one.model), *([_word(one.database), _word(one.store)] if asked else [])]
        mark = ["" if one.agrees is not False else "!"] if asked else []
        origins = one.origins or ("",)
        rows.append([one.who, one.kind, *seen, *mark, origins[0]])
        rows += [["", "", *([""] * (len(seen) + len(mark))), origin] for origin in origins[1:]]
    head = ["who", "", "djops.yaml", *(["database", "store", ""] if asked else []), "because"]
    return table(head, rows)


def matrix_text(holdings: Sequence[Holding]) -> str:
    """Show levels by person and schema, and below where they come from.

    Args:
        holdings: What everybody may do with each schema.
    """
    schemas = list(dict.fromkeys(one.schema for one in holdings))
    cells = {(one.who, one.schema): one for one in holdings}
    names = list(dict.fromkeys(one.who for one in holdings))
    rows = [[name, *(_level(cells[name, schema]) for schema in schemas)] for name in names]
    lines = [table(["", *schemas], rows), ""]
    if any(one.agrees is False for one in holdings):
        lines += ["! the servers give something else than djops.yaml says: see `djops verify`", ""]
    where: dict[tuple[str, str], list[str]] = {}
    for one in holdings:
        for origin in one.origins if one.kind != "administrator" else ():
            where.setdefault((one.who, origin), []).append(one.schema)
    rows = [[who, origin, ", ".join(found)] for (who, origin), found in where.items()]
    return "\n".join([*lines, table(("who", "because", "on"), rows)])


def _level(one: Holding) -> str:
    mark = "!" if one.agrees is False else ""
    if one.kind in ("person", "service"):
        return f"{one.level or '-'}{mark}"
    found = {**given(one.database), **given(one.store)}
    return f"({letters(found)}){mark}" if found else "-"


def _word(extents: Mapping[str, Extent] | None) -> str | None:
    """Return the one extent of an answer about a single capability, if it means anything there."""
    return next(iter((extents or {}).values()), None)


def as_data(holdings: Sequence[Holding]) -> list[dict[str, Any]]:
    """Return holdings for JSON.

    Args:
        holdings: The holdings.
    """
    return [asdict(one) for one in holdings]


def as_csv(holdings: Sequence[Holding]) -> str:
    """Return holdings as CSV, a line for each principal and schema.

    Args:
        holdings: The holdings.

    Returns:
        The text; cells that a spreadsheet would compute have an apostrophe before them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in holdings:
        writer.writerow([_harmless(cell) for cell in _cells(one)])
    return text.getvalue()


def _cells(one: Holding) -> list[str]:
    given = [_listed(extents) for extents in (one.model, one.database, one.store)]
    agrees = "" if one.agrees is None else "yes" if one.agrees else "no"
    return [one.who, one.kind, one.schema, one.level, *given, agrees, "; ".join(one.origins)]


def _listed(extents: Mapping[str, Extent] | None) -> str:
    return " ".join(
        name if extent == "yes" else f"{name}:{extent}" for name, extent in given(extents).items()
    )


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def as_html(title: str, holdings: Sequence[Holding]) -> str:
    """Return holdings as one page that needs nothing from anywhere else.

    Args:
        title: The page's heading.
        holdings: The holdings.
    """
    schemas = list(dict.fromkeys(one.schema for one in holdings))
    rows: dict[str, dict[str, Holding]] = {}
    for one in holdings:
        rows.setdefault(one.who, {})[one.schema] = one
    page = templates().get_template("who.html.j2")
    return page.render(title=title, schemas=schemas, rows=rows, level=_level, listed=_listed)
