"""What ``SHOW GRANTS`` tells an account about itself, as capabilities by schema; pure.

It serves somebody who wants to know what she may do, with no right to read the grant tables. It counts a
capability where it holds for at least one table: which tables is for ``djops can`` and ``djops verify``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_GRANT = re.compile(r"^GRANT (?P<what>.+?) ON (?P<on>.+?) TO ", re.IGNORECASE)
_NAME = re.compile(r"`((?:[^`]|``)*)`")
_COLUMNS = re.compile(r"\s*\([^)]*\)")

MEANS: Mapping[str, str] = {
    "SELECT": "read",
    "INSERT": "insert",
    "UPDATE": "update",
    "DELETE": "delete",
    "CREATE": "declare",
    "ALTER": "alter",
    "DROP": "drop",
    "REFERENCES": "reference",
}
"""Capability by privilege, on tables that hold data."""

JOBS = "~~"
LINEAGE = "~lineage"
ALL = "ALL PRIVILEGES"


def capabilities(lines: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """Read what an account may do.

    Args:
        lines: The answer of ``SHOW GRANTS FOR CURRENT_USER() USING`` its active roles.

    Returns:
        Capabilities by schema as it stands there, ``*`` for the whole server; patterns lose their escapes.
    """
    found: dict[str, set[str]] = {}
    for line in lines:
        matched = _GRANT.match(line)
        if matched is None or matched["what"].startswith("`"):
            continue  # a role that is held
        names = _NAME.findall(matched["on"])
        schema = names[0].replace("``", "`").replace("\\_", "_").replace("\\%", "%") if names else "*"
        table = names[1].replace("``", "`") if len(names) > 1 else ""
        held = {name.strip().upper() for name in _COLUMNS.sub("", matched["what"]).split(",")}
        named = set(_meant(held, table))
        if named:
            found.setdefault(schema, set()).update(named)
    return {schema: frozenset(named) for schema, named in found.items()}


def _meant(held: Iterable[str], table: str) -> Iterable[str]:
    names = set(MEANS) if ALL in held else set(held)
    if table.startswith(JOBS):
        return ["jobs"] if "UPDATE" in names else []
    if table == LINEAGE:
        return []
    return [MEANS[name] for name in names & MEANS.keys()]


def powers(lines: Iterable[str]) -> frozenset[str]:
    """Name the privileges on the whole server, which a scientist's account has none of.

    Args:
        lines: As for :func:`capabilities`.
    """
    found: set[str] = set()
    for line in lines:
        matched = _GRANT.match(line)
        if matched is not None and matched["on"] == "*.*":
            found |= {name.strip().upper() for name in matched["what"].split(",")}
    return frozenset(found - {"USAGE"})
