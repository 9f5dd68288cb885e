"""Reader of OpenBao and Vault policies: which of them open a path, by the servers' own precedence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|//[^\n]*|/\*.*?\*/          # blanks and comments
    |(?P<text>"(?:\\.|[^"\\])*")|(?P<word>[\w.-]+)|(?P<sign>[{}\[\]=,:])""",
    re.VERBOSE | re.DOTALL,
)

_OLD_WORDS = {
    "deny": frozenset({"deny"}),
    "read": frozenset({"read", "list"}),
    "write": frozenset({"create", "read", "update", "delete", "list"}),
    "sudo": frozenset({"create", "read", "update", "delete", "list", "sudo"}),
}
"""What ``policy = "..."`` means, from before there were capabilities."""


class UnreadableError(Exception):
    """A policy that this reader does not understand."""


@dataclass(frozen=True)
class PathRule:
    """One path of a policy.

    Attributes:
        pattern: The path, with ``+`` for one segment and ``*`` at its end for anything.
        capabilities: What it gives.
    """

    pattern: str
    capabilities: frozenset[str]

    def matches(self, path: str) -> bool:
        """Tell whether the rule is about a path."""
        rest = self.pattern.endswith("*")
        pieces = (self.pattern[:-1] if rest else self.pattern).split("/")
        # A plus stands for a whole segment, and nowhere else for anything.
        expression = "/".join("[^/]+" if piece == "+" else re.escape(piece) for piece in pieces)
        return re.fullmatch(expression + (".*" if rest else ""), path, re.DOTALL) is not None

    @property
    def precedence(self) -> tuple[int, bool, int, int, str]:
        """The more specific rule has the greater one: the order that the servers document."""
        wild = min(
            (at for at in (self.pattern.find("+"), self.pattern.find("*")) if at >= 0), default=1 << 30
        )
        return (
            wild,
            not self.pattern.endswith("*"),
            -self.pattern.count("+"),
            len(self.pattern),
            self.pattern,
        )


def read_policy(text: str) -> tuple[PathRule, ...]:
    """Read a policy.

    Args:
        text: In HCL or JSON, as the server keeps it.

    Returns:
        Its paths.

    Raises:
        UnreadableError: It is neither.
    """
    if text.lstrip().startswith("{"):
        try:
            parsed = json.loads(text)
            found = parsed.get("path", {}) if isinstance(parsed, dict) else {}
            return tuple(PathRule(path, _capabilities(body)) for path, body in found.items())
        except (ValueError, AttributeError, TypeError) as error:
            raise UnreadableError from error
    tokens = _tokens(text)
    return tuple(_blocks(tokens))


def opened_by(rules: tuple[PathRule, ...], path: str) -> frozenset[str]:
    """Return what a policy lets its holder do at a path.

    Args:
        rules: The policy's paths.
        path: An API path.

    Returns:
        Capabilities; empty when it says nothing, or denies.
    """
    matching = [rule for rule in rules if rule.matches(path)]
    if not matching:
        return frozenset()
    best = max(rule.precedence for rule in matching)
    # The same path twice in one policy adds up.
    held = frozenset().union(*(rule.capabilities for rule in matching if rule.precedence == best))
    return frozenset() if "deny" in held else held


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise UnreadableError
        at = match.end()
        if match.lastgroup:
            found.append(match[0])
    return found


def _blocks(tokens: list[str]) -> Iterator[PathRule]:
    """Yield the blocks that begin with ``path``."""
    at = 0
    while at < len(tokens):
        word = tokens[at].strip('"')
        if word == "name" and tokens[at + 1 : at + 2] == ["="]:
            at += 3
            continue
        if word != "path" or tokens[at + 2 : at + 3] != ["{"] or not tokens[at + 1].startswith('"'):
            raise UnreadableError
        end = _closing(tokens, at + 2)
        yield PathRule(json.loads(tokens[at + 1]), _capabilities(_settings(tokens[at + 3 : end])))
        at = end + 1


def _closing(tokens: list[str], at: int) -> int:
    depth = 0
    for number in range(at, len(tokens)):
        depth += (tokens[number] in "{[") - (tokens[number] in "}]")
        if depth == 0:
            return number
    raise UnreadableError


def _settings(tokens: list[str]) -> Mapping[str, object]:
    """Read the settings of one block; those that only narrow what may be sent are left out."""
    found: dict[str, object] = {}
    at = 0
    while at < len(tokens):
        name = tokens[at].strip('"')
        at += 1 + (tokens[at + 1 : at + 2] in (["="], [":"]))
        if at >= len(tokens):
            raise UnreadableError
        if tokens[at] in "{[":
            end = _closing(tokens, at)
            found[name] = [json.loads(one) for one in tokens[at:end] if one.startswith('"')]
            at = end
        else:
            found[name] = tokens[at].strip('"')
        at += 1
        while tokens[at : at + 1] == [","]:
            at += 1
    return found


def _capabilities(body: Mapping[str, object]) -> frozenset[str]:
    old = body.get("policy")
    given = body.get("capabilities")
    named = frozenset(str(one) for one in given) if isinstance(given, list) else frozenset()
    return named | _OLD_WORDS.get(str(old), frozenset()) if old else named
