"""YAML as a tree that knows where everything stands, in the safe subset that project files use.

Built on the parser's events, because its own composer resolves words by YAML 1.1, in which ``on``,
``off``, ``yes`` and ``no`` are booleans, lets the last of two equal keys win, and follows aliases. Here
``true``, ``false``, ``null``, ``~`` and decimal integers are not text; every other plain scalar is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml

from djops.errors import ConfigError, DjopsError, ManyErrors, Where

Path = tuple[str | int, ...]
"""Keys and indices from the root: ``("people", "alice", "grants", 0, "role")``."""

MAX_DEPTH = 24
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}


class Mark(Protocol):
    """A place in the text, counted from 0."""

    index: int
    line: int
    column: int


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Node:
    """One value of the file.

    Attributes:
        start: Offset of its first character in the text.
        end: Offset behind its last character; of a block collection, behind its last value.
        line: Line of its first character, counted from 1.
        column: Column of its first character, counted from 0.
        flow: Whether it is a collection written with brackets or braces.
    """

    start: int
    end: int
    line: int
    column: int
    flow: bool = False

    @property
    def data(self) -> Any:  # noqa: ANN401  whatever the file holds
        """The value as plain Python data."""
        raise NotImplementedError


@dataclass
class ScalarNode(Node):
    """A text, a number, a boolean or nothing."""

    value: str | int | bool | None = None

    @property
    def data(self) -> str | int | bool | None:
        """The value."""
        return self.value


@dataclass
class ListNode(Node):
    """A sequence."""

    items: list[Node] = field(default_factory=list)

    @property
    def data(self) -> list[Any]:
        """The values."""
        return [item.data for item in self.items]


@dataclass
class MapNode(Node):
    """A mapping; its keys are texts.

    Attributes:
        entries: Key and value by the key's text, in the order of the file.
    """

    entries: dict[str, tuple[ScalarNode, Node]] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        """The values by key."""
        return {key: value.data for key, (_, value) in self.entries.items()}


@dataclass(frozen=True)
class Positions:
    """Where the values of a file stand.

    Attributes:
        file: The file, as its user names it.
        lines: Line of every key and list item, by path.
    """

    file: str
    lines: dict[Path, int]

    def where(self, *path: str | int) -> Where:
        """Return the place of a value, or of the nearest thing around it that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return Where(self.file, self.lines.get(path))


def positions(root: Node, file: str) -> Positions:
    """Collect the lines of all keys and list items of a tree."""
    return Positions(file, dict(_lines(root, ())))


def _lines(node: Node, path: Path) -> Iterator[tuple[Path, int]]:
    if isinstance(node, MapNode):
        for key, (key_node, value) in node.entries.items():
            yield (*path, key), key_node.line
            yield from _lines(value, (*path, key))
    elif isinstance(node, ListNode):
        for index, item in enumerate(node.items):
            yield (*path, index), item.line
            yield from _lines(item, (*path, index))


def parse(text: str, file: str) -> MapNode:
    """Parse a file whose root is a mapping.

    Args:
        text: The file's content.
        file: Its name, for messages.

    Returns:
        The tree; offsets count from the start of ``text``, behind a byte order mark.

    Raises:
        ConfigError: ``E_YAML`` when it is not YAML; ``E_YAML_SUBSET`` for anchors, aliases, tags, merge
            keys or keys that are not text; ``E_DUPLICATE_KEY``.
        ManyErrors: Several of the latter.
    """
    builder = _Builder(file)
    text = text.removeprefix("\ufeff")
    try:
        text.encode()  # the C parser takes UTF-8: a lone surrogate must not reach it
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, file) from None
    except ValueError as error:
        raise ConfigError(
            "the file is not valid Unicode", where=file, code="E_YAML", hint="save it as UTF-8"
        ) from error
    if builder.root is None and not builder.errors:
        raise ConfigError("the file is empty", where=file, code="E_YAML", hint="`djops init` writes one")
    if not builder.errors and not isinstance(builder.root, MapNode):
        builder.refuse(builder.root_line, "the file must hold keys with values", "begin it with `version: 1`")
    if builder.errors:
        raise ManyErrors(builder.errors) if len(builder.errors) > 1 else builder.errors[0]
    if not isinstance(builder.root, MapNode):
        raise TypeError("no root")
    return builder.root


def _syntax_error(error: yaml.YAMLError, text: str, file: str) -> ConfigError:
    marks = [getattr(error, name, None) for name in ("problem_mark", "context_mark")]
    if "end of stream" in str(getattr(error, "problem", "")):
        marks.reverse()  # the end says nothing; where the quote or bracket was opened does
    mark = next((mark for mark in marks if mark is not None), None)
    line = mark.line + 1 if mark is not None else None
    position = getattr(error, "position", None)
    if line is None and isinstance(position, int):
        line = text.count("\n", 0, position) + 1
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
    context = getattr(error, "context", None)
    lines = text.splitlines()
    shown = lines[line - 1] if line is not None and line <= len(lines) else ""
    hint = "look at the line and the one above: indentation, a missing colon, quote or bracket"
    if "\t" in shown[: len(shown) - len(shown.lstrip())]:
        hint = "indent with blanks; YAML does not allow tabs there"
    message = f"this is not YAML: {context + ', ' if context else ''}{problem}"
    return ConfigError(message, where=Where(file, line), code="E_YAML", hint=hint)


@dataclass
class _Open:
    """A collection whose end has not been seen."""

    node: ListNode | MapNode
    key: ScalarNode | None = None
    wants_key: bool = True


class _Builder:
    """Makes a tree of the parser's events, and collects what the subset does not allow."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.root_line = 1
        self.errors: list[DjopsError] = []
        self.stack: list[_Open] = []
        self.documents = 0

    def refuse(self, line: int, message: str, hint: str, code: str = "E_YAML_SUBSET") -> None:
        self.errors.append(ConfigError(message, where=Where(self.file, line), hint=hint, code=code))

    def take(self, event: yaml.Event) -> None:
        line = _marks(event)[0].line + 1
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    self._stop(line, "the file holds more than one document", "remove everything from `---`")
            case yaml.AliasEvent():
                self.refuse(line, f"an alias, *{event.anchor}, is not allowed", "write the value out")
                self._place(self._scalar(event, None))
            case yaml.ScalarEvent():
                self._forbid_extras(event, line)
                self._place(self._scalar(event, _value(event.value) if event.implicit[0] else event.value))
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._forbid_extras(event, line)
                self._open(event, line)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._close(event)

    def _stop(self, line: int, message: str, hint: str) -> None:
        raise ConfigError(message, where=Where(self.file, line), hint=hint, code="E_YAML_SUBSET")

    def _forbid_extras(self, event: yaml.NodeEvent, line: int) -> None:
        if event.anchor is not None:
            self.refuse(line, f"an anchor, &{event.anchor}, is not allowed", "write the value out each time")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self.refuse(line, f"a tag, {tag}, is not allowed", "write the value without the tag")

    def _scalar(self, event: yaml.Event, value: str | int | bool | None) -> ScalarNode:
        start, end = _marks(event)
        return ScalarNode(start.index, end.index, start.line + 1, start.column, value=value)

    def _open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        if len(self.stack) >= MAX_DEPTH:
            self._stop(line, f"values are nested deeper than {MAX_DEPTH}", "nothing in this file needs that")
        kind = ListNode if isinstance(event, yaml.SequenceStartEvent) else MapNode
        start, end = _marks(event)
        node = kind(start.index, end.index, line, start.column, bool(event.flow_style))
        self._place(node)
        self.stack.append(_Open(node))

    def _close(self, event: yaml.Event) -> None:
        node = self.stack.pop().node
        if node.flow:
            node.end = _marks(event)[1].index
        elif isinstance(node, ListNode):
            node.end = max([node.end, *(item.end for item in node.items)])
        else:
            node.end = max([node.end, *(max(key.end, value.end) for key, value in node.entries.values())])

    def _place(self, node: Node) -> None:
        if not self.stack:
            self.root, self.root_line = node, node.line
            return
        top = self.stack[-1]
        if isinstance(top.node, ListNode):
            top.node.items.append(node)
        elif top.wants_key:
            top.key, top.wants_key = self._key(node, top.node), False
        else:
            if top.key is not None:
                top.node.entries[str(top.key.value)] = (top.key, node)
            top.key, top.wants_key = None, True

    def _key(self, node: Node, owner: MapNode) -> ScalarNode | None:
        """Return the key when it is allowed; its value is read and dropped otherwise."""
        if not isinstance(node, ScalarNode):
            self.refuse(node.line, "a list or a mapping cannot be a key", "keys are names")
            return None
        if not isinstance(node.value, str):
            shown = json.dumps(node.value)
            self.refuse(node.line, f"the key {shown} is not text", f"put it in quotes: '{shown}'")
            return None
        if node.value == "<<":
            self.refuse(node.line, "a merge key, <<, is not allowed", "write the values out")
            return None
        if node.value in owner.entries:
            first = owner.entries[node.value][0].line
            self.refuse(
                node.line,
                f"the key {node.value!r} stands here and in line {first}",
                "keep one of them; YAML readers silently use the last",
                "E_DUPLICATE_KEY",
            )
            return None
        return node


def _marks(event: yaml.Event) -> tuple[Mark, Mark]:
    """Return where an event starts and ends; events of a parser always know it."""
    start, end = event.start_mark, event.end_mark
    if start is None or end is None:
        raise TypeError("an event without its place")
    return start, end


def _value(text: str) -> str | int | bool | None:
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if _INTEGER.fullmatch(text) else text
