"""Table definitions in DataJoint's own language: which lines reference tables, which use a store.

Follows the client's ``declare`` module (2.3.5): lines are split at line ends, ``#`` starts a comment,
``---`` parts the primary key from the rest, and a line is a reference when ``->`` stands in it outside of
quotes and comments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPTIONS = re.compile(r"->\s*(?:\[(?P<options>[^\]]*)\])?(?P<table>.*)", re.DOTALL)
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_CODEC = re.compile(
    r"\s*(?P<name>[a-z_][a-z0-9_]*)[^:]*:\s*<\s*(?P<codec>\w+)\s*(?:@\s*(?P<store>[^>]*?))?\s*>"
)
ALLOWED_OPTIONS = frozenset({"nullable", "unique"})


@dataclass(frozen=True)
class Reference:
    """A line that references a table.

    Attributes:
        line: Its number in the definition, counted from 0.
        table: The expression that names the table.
        options: What stands in the brackets, in lower case.
    """

    line: int
    table: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredAttribute:
    """An attribute whose values a codec encodes.

    Attributes:
        line: Its number in the definition, counted from 0.
        name: The attribute.
        codec: The codec.
        store: The store; empty for ``<codec@>``, ``None`` when the values stay in the database.
    """

    line: int
    name: str
    codec: str
    store: str | None


def read_definition(text: str) -> tuple[list[Reference], list[StoredAttribute]]:
    """Read what a definition says about other tables and about stores.

    Args:
        text: The definition.

    Returns:
        The references and the attributes with codecs, in the order of their lines.
    """
    references: list[Reference] = []
    attributes: list[StoredAttribute] = []
    for number, line in enumerate(text.split("\n")):
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", "---")):
            continue
        if _is_reference(stripped):
            match = _OPTIONS.search(stripped)
            if match is not None:
                options = tuple(part.strip().lower() for part in (match["options"] or "").split(",") if part)
                references.append(Reference(number, match["table"].strip(), options))
        elif match := _CODEC.match(_QUOTED.sub("''", stripped).partition("#")[0]):
            attributes.append(StoredAttribute(number, match["name"], match["codec"], match["store"]))
    return references, attributes


def _is_reference(line: str) -> bool:
    before, arrow, _ = line.partition("->")
    return bool(arrow) and not any(character in before for character in "\"#'")
