"""Rows on schemas that hide each other: which of two a session goes by when both match.

Take away the row that hides, and the other comes to light. So what is hidden goes first. Without an active
role a session goes by the narrowest row and with one by the first spelling, so that there is not always such
an order; then both go in one statement. The rules were measured: docs/mysql-grants.md.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from djops.compile.mysql_state import AccountId, MysqlState
from djops.compile.sql import unescape_pattern

_LITERALS = re.compile(r"(?:[^\\_%]|\\.)*", re.DOTALL)

Patterns = Mapping[AccountId, frozenset[str]]
"""Patterns of rows on schemas, by who holds them."""


def spelling(pattern: str) -> tuple[bool, bytes]:
    """Return what sorts the row by which a session with a role goes before those that it hides.

    Args:
        pattern: The row's pattern, as the server keeps it.
    """
    return "_" in pattern or "%" in pattern, pattern.encode()


def emptied_together(
    found: MysqlState,
    lost: Patterns,
    held: Patterns,
    emptied: frozenset[AccountId],
    dropped: frozenset[AccountId],
) -> frozenset[AccountId]:
    """Name who loses everything in one statement, lest what a row hides comes to light.

    First rows go one by one, in the reverse order of their spelling, then all rows of whoever is named here
    at once, then those who are dropped.

    Args:
        found: What there is.
        lost: What each account or role of the project loses privileges of.
        held: What each of them holds.
        emptied: Those who lose everything in any case.
        dropped: Those who are dropped.

    Returns:
        The emptied ones, and those who have to go with them.
    """
    if not (lost or emptied or dropped):
        return emptied
    sessions = _Sessions(found)
    while True:
        gone = {name: held[name] for name in emptied | dropped if name in held}
        moment = dict.fromkeys(dropped, 2) | dict.fromkeys(emptied, 1)
        fresh = {
            one
            for hider, hidden in _hidings({**lost, **gone}, sessions)
            if _uncovers(moment.get(hider, 0), moment.get(hidden, 0), same=hider == hidden)
            for one in (hider, hidden)
        }
        if fresh <= emptied:
            return emptied
        emptied |= fresh


def _uncovers(hider: int, hidden: int, *, same: bool) -> bool:
    """Tell whether a row may go before one that it hides; those who are dropped go in any order."""
    return not hider if same else hider < hidden or (hider, hidden) == (2, 2)


def _hidings(lost: Patterns, sessions: _Sessions) -> Iterator[tuple[AccountId, AccountId]]:
    """Yield whose rows hide whose from some session; of one account's own rows, each may hide the other."""
    if not any(_is_open(pattern) for patterns in lost.values() for pattern in patterns):
        return
    together: dict[AccountId, list[tuple[AccountId, str]]] = defaultdict(list)
    for name, patterns in lost.items():
        for session in sessions[name]:
            together[session] += ((name, pattern) for pattern in patterns)
    for rows in together.values():
        for name, pattern in (row for row in rows if _is_open(row[1])):
            for other, another in rows:
                if _overlap(pattern, another):
                    first = spelling(pattern) < spelling(another)
                    yield (name, other) if first else (other, name)


@functools.cache
def _is_open(pattern: str) -> bool:
    return unescape_pattern(pattern) is None


def _overlap(pattern: str, other: str) -> bool:
    """Tell whether some schema may match both of two spellings, by what stands before the first wildcard."""
    stem, another = _stem(pattern), _stem(other)
    return pattern != other and (stem.startswith(another) or another.startswith(stem))


@functools.cache
def _stem(pattern: str) -> str:
    literals = _LITERALS.match(pattern)
    return re.sub(r"\\(.)", r"\1", literals[0], flags=re.DOTALL) if literals else ""


class _Sessions(dict[AccountId, frozenset[AccountId]]):
    """Whose sessions have the rows of an account or role: its own, and those of all who were granted it."""

    def __init__(self, found: MysqlState) -> None:
        self._members: dict[AccountId, list[AccountId]] = defaultdict(list)
        for edge in found.edges:
            self._members[edge.role].append(edge.member)

    def __missing__(self, name: AccountId) -> frozenset[AccountId]:
        self[name] = frozenset(self._reached(name))
        return self[name]

    def _reached(self, name: AccountId) -> Iterator[AccountId]:
        seen, todo = {name}, [name]
        while todo:
            yield (one := todo.pop())
            fresh = [member for member in self._members.get(one, ()) if member not in seen]
            seen.update(fresh)
            todo += fresh
