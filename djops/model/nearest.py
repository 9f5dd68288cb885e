"""What somebody probably meant by a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection

SHOWN = 8


def nearest(name: str, names: Collection[str]) -> str | None:
    """Return the name most like ``name``, or ``None`` when none is like it.

    Args:
        name: What was written.
        names: What exists.
    """
    by_folded = {other.casefold(): other for other in sorted(names)}
    longer = [folded for folded in by_folded if folded.startswith(name.casefold())] if name else []
    if len(longer) == 1:
        return by_folded[longer[0]]
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def advice(name: str, names: Collection[str], *, what: str = "names") -> str:
    """Say which name was probably meant, or which names there are.

    Args:
        name: What was written.
        names: What exists.
        what: What the names are names of, in the plural.

    Returns:
        A hint for an error.
    """
    found = nearest(name, names)
    if found is not None:
        return f"did you mean {found!r}?"
    if not names:
        return f"there are no {what}"
    shown = ", ".join(sorted(names)[:SHOWN])
    return f"there are these {what}: {shown}" + (", ..." if len(names) > SHOWN else "")
