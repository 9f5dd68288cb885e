"""Plain aligned text tables, safe for any content."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def width(text: str) -> int:
    """Return how many terminal columns a text takes: wide East Asian characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def printable(text: str) -> str:
    """Return a text with control characters shown as escapes, so that no name can steer a terminal."""
    if text.isprintable():
        return text
    return "".join(character if _harmless(character) else _escape(character) for character in text)


def _harmless(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) in ("Zs", "Mn")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def printable_lines(text: str) -> str:
    """Return a text of several lines with all control characters but the line ends shown as escapes."""
    return "\n".join(printable(line.expandtabs(4)) for line in text.split("\n"))


def clip(text: str, columns: int) -> str:
    """Cut a text to a number of terminal columns, with ``...`` where something is missing.

    Args:
        text: One line.
        columns: Terminal columns to fill at most.

    Returns:
        ``text`` itself when it fits.
    """
    if width(text) <= columns:
        return text
    kept, used = "", 3
    for character in text:
        used += _columns(character)
        if used > columns:
            break
        kept += character
    return (kept + "...")[: max(columns, 0)]


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Lay out a table in columns that are two blanks apart.

    Args:
        header: The columns' names; empty for a table without a header.
        rows: The cells; ``None`` shows as ``-``, booleans as ``yes`` and ``no``.
        right: Indices of columns aligned to the right.

    Returns:
        The table without a final line end; a header alone when there are no rows.
    """
    lines = [[_cell(cell) for cell in row] for row in ([header] if header else [])]
    lines += [[_cell(cell) for cell in row] for row in rows]
    if not lines:
        return ""
    count = max(len(line) for line in lines)
    lines = [line + [""] * (count - len(line)) for line in lines]
    widths = [max(width(line[index]) for line in lines) for index in range(count)]
    return "\n".join(
        "  ".join(_pad(cell, widths[index], index in right) for index, cell in enumerate(line)).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


def _pad(cell: str, columns: int, right: bool) -> str:
    blanks = " " * (columns - width(cell))
    return blanks + cell if right else cell + blanks


def colour(text: str, name: str, *, on: bool) -> str:
    """Colour a text for a terminal.

    Args:
        text: The text.
        name: ``red``, ``green``, ``yellow``, ``bold`` or ``dim``.
        on: Whether the stream takes colours; without, ``text`` comes back as it is.

    Returns:
        The text with the terminal's codes around it.
    """
    return f"\x1b[{COLOURS[name]}m{text}\x1b[0m" if on else text
