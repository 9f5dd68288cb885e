"""Wildcards in policies, as AWS and as Ceph read them.

AWS knows ``*`` and ``?`` over characters, ``${*}`` for a literal one, and variables such as
``${aws:username}``. Ceph hands patterns to the C library's ``fnmatch`` over bytes: ``[...]`` is a set,
a backslash escapes, and ``${...}`` is nothing special (20.2.4, measured).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Dialect = Literal["aws", "ceph"]
"""Whose reading of a policy is meant."""

Lookup = Callable[[str], str | None]
"""Gives the value of a policy variable, ``None`` when it has none."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_ARN_PARTS = 6
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t-\\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


@dataclass(frozen=True)
class Compiled:
    """A pattern, ready to be matched.

    Attributes:
        literal: The text it stands for, up to a closing ``*`` if it is ``open``; ``None`` when wildcards
            stand elsewhere.
        open: Whether anything may follow the literal text.
        regex: The pattern as a regular expression.
    """

    literal: str | None
    open: bool
    regex: re.Pattern[str]


def encode(text: str, dialect: Dialect) -> str:
    """Return a text in the units a server compares: characters, or bytes for Ceph."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1") if dialect == "ceph" else text


def variables_in(pattern: str) -> list[str]:
    """Return the names of what AWS would put a request's values in the place of."""
    if "${" not in pattern:
        return []
    names = (found.partition(",")[0].strip() for found in _VARIABLE.findall(pattern))
    return [name for name in names if name not in ("*", "?", "$")]


def compile_pattern(
    pattern: str, dialect: Dialect, lookup: Lookup | None = None, fold: bool = False
) -> Compiled | None:
    """Make a pattern ready.

    Args:
        pattern: As written in a policy.
        dialect: Whose reading.
        lookup: Gives values of variables; ``None`` when the policy's language version has none.
        fold: Whether upper and lower case are the same.

    Returns:
        The pattern; ``None`` when it names a variable without a value, so that it matches nothing.

    Raises:
        ValueError: For a set of characters that is not understood here.
    """
    parts = _ceph_parts(encode(pattern, dialect)) if dialect == "ceph" else _aws_parts(pattern, lookup)
    if parts is None:
        return None
    regex = "".join(re.escape(text) if literal else text for text, literal in parts)
    flags = re.DOTALL | (re.IGNORECASE | re.ASCII if fold else 0)
    is_open = bool(parts) and parts[-1] == (".*", False)
    front = parts[:-1] if is_open else parts
    plain = all(literal for _, literal in front) and not fold
    text = "".join(text for text, _ in front) if plain else None
    return Compiled(text, is_open, re.compile(regex, flags))


def _aws_parts(pattern: str, lookup: Lookup | None) -> list[tuple[str, bool]] | None:
    """Split into literal texts and regular expressions; a variable's value is literal."""
    parts: list[tuple[str, bool]] = []
    at = 0
    for found in _VARIABLE.finditer(pattern) if lookup else ():
        parts += _wildcards(pattern[at : found.start()])
        value = _value(found.group(1), lookup)
        if value is None:
            return None
        parts.append((value, True))
        at = found.end()
    return parts + _wildcards(pattern[at:])


def _value(name: str, lookup: Lookup | None) -> str | None:
    if name in ("*", "?", "$"):
        return name
    key, comma, default = name.partition(",")
    value = lookup(key.strip()) if lookup else None
    if value is None and comma:
        return default.strip().strip("'")
    return value


def _wildcards(text: str) -> list[tuple[str, bool]]:
    meaning = {"*": (".*", False), "?": (".", False)}
    pieces = re.split(r"(\*+|\?)", text)
    return [meaning.get(piece[0], (piece, True)) for piece in pieces if piece]


def _ceph_parts(pattern: str) -> list[tuple[str, bool]]:
    """Split as ``fnmatch`` without flags reads it."""
    parts: list[tuple[str, bool]] = []
    at = 0
    while at < len(pattern):
        mark = pattern[at]
        at += 1
        if mark == "*":
            if parts[-1:] != [(".*", False)]:
                parts.append((".*", False))
        elif mark == "?":
            parts.append((".", False))
        elif mark == "\\":
            # At the very end it escapes nothing, and the pattern matches nothing.
            parts.append((pattern[at], True) if at < len(pattern) else ("(?!)", False))
            at += 1
        elif mark == "[":
            regex, at = _set(pattern, at)
            parts.append((regex, False) if regex else ("[", True))
        else:
            parts.append((mark, True))
    return parts


def _set(pattern: str, at: int) -> tuple[str, int]:
    """Read ``[...]`` from behind its bracket; an empty expression for one that never closes."""
    start, negated = at, pattern[at : at + 1] in ("!", "^") and at < len(pattern)
    at += negated
    members = ""
    first = True
    while at < len(pattern) and (first or pattern[at] != "]"):
        if pattern[at : at + 2] in ("[=", "[."):
            raise ValueError(f"the set of characters in {pattern!r} is not understood")
        named = re.compile(r"\[:([a-y]*):\]").match(pattern, at)
        if named and named.group(1) in _CLASSES:
            members, at = members + _CLASSES[named.group(1)], named.end()
        else:
            member, at = _member(pattern, at)
            members += member
        first = False
    if at >= len(pattern):
        return "", start
    nothing = "." if negated else "(?!)"
    return (f"[{'^' if negated else ''}{members}]" if members else nothing), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    """Read one member of a set, or a range."""
    low, at = _one(pattern, at)
    if pattern[at : at + 1] != "-" or pattern[at + 1 : at + 2] in ("", "]"):
        return re.escape(low), at
    high, at = _one(pattern, at + 1)
    # A range the wrong way round has no members, which a regular expression cannot say inside a set.
    return (f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""), at


def _one(pattern: str, at: int) -> tuple[str, int]:
    at += pattern[at] == "\\" and at + 1 < len(pattern)
    return pattern[at], at + 1


class PatternSet:
    """Patterns of which one must match; thousands of prefixes cost no more than one.

    Args:
        patterns: As written in a policy.
        dialect: Whose reading.
        lookup: Gives values of variables; ``None`` when there are none.
        fold: Whether upper and lower case are the same.
    """

    def __init__(
        self,
        patterns: Iterable[str],
        dialect: Dialect,
        lookup: Lookup | None = None,
        fold: bool = False,
    ) -> None:
        self._dialect = dialect
        self._exact: dict[str, str] = {}
        self._prefixes: dict[str, str] = {}
        self._others: list[tuple[str, re.Pattern[str]]] = []
        for pattern in patterns:
            compiled = compile_pattern(pattern, dialect, lookup, fold)
            if compiled is None:
                continue
            if compiled.literal is None:
                self._others.append((pattern, compiled.regex))
            else:
                (self._prefixes if compiled.open else self._exact)[compiled.literal] = pattern
        self._lengths = sorted({len(prefix) for prefix in self._prefixes})

    def first(self, text: str) -> str | None:
        """Return a pattern that matches, as it was written, or ``None``."""
        text = encode(text, self._dialect)
        if text in self._exact:
            return self._exact[text]
        for length in self._lengths:
            if length > len(text):
                break
            found = self._prefixes.get(text[:length])
            if found is not None:
                return found
        return next((pattern for pattern, regex in self._others if regex.fullmatch(text)), None)


class ArnSet:
    """Resource patterns of which one must match.

    Args:
        patterns: As written in a policy: ARNs, or ``*``.
        dialect: Whose reading.
        lookup: Gives values of variables; ``None`` when there are none.
    """

    def __init__(self, patterns: Sequence[str], dialect: Dialect, lookup: Lookup | None = None) -> None:
        self.patterns = tuple(patterns)
        self._dialect = dialect
        self._everything = "*" in patterns
        whole: list[str] = []
        heads: dict[tuple[str, ...], list[str]] = {}
        for pattern in patterns:
            head = pattern.split(":", _ARN_PARTS - 1)
            if len(head) == _ARN_PARTS:
                heads.setdefault(tuple(head[:-1]), []).append(head[-1])
            elif pattern != "*" and dialect == "aws":
                whole.append(pattern)
        self._whole = PatternSet(whole, dialect, lookup)
        self._by_head = [
            (head, [_head_part(part, dialect) for part in head], PatternSet(tails, dialect, lookup))
            for head, tails in heads.items()
        ]
        # Nearly all questions are about the same kind of resource.
        self._known: dict[str, list[tuple[str, PatternSet]]] = {}

    def first(self, arn: str) -> str | None:
        """Return a pattern that matches, as it was written, or ``None``."""
        if self._everything:
            return "*"
        *parts, resource = arn.split(":", _ARN_PARTS - 1)
        head = ":".join(parts)
        if head not in self._known:
            self._known[head] = self._matching(parts)
        for written, tails in self._known[head]:
            found = tails.first(resource)
            if found is not None:
                return f"{written}:{found}"
        return self._whole.first(arn)

    def _matching(self, parts: Sequence[str]) -> list[tuple[str, PatternSet]]:
        """Return what is to be matched behind the first parts of an ARN."""
        if len(parts) != _ARN_PARTS - 1:
            return []
        return [
            (":".join(head), tails)
            for head, matchers, tails in self._by_head
            if all(one.first(part) is not None for one, part in zip(matchers, parts, strict=True))
        ]


def _head_part(part: str, dialect: Dialect) -> PatternSet:
    return PatternSet([part], dialect, fold=dialect == "ceph")
