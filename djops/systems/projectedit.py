"""Edits of the project file's text that leave everything else as it is, byte for byte.

Each edit is made at its place in the text, and the result is parsed and compared with what it should hold.
Where that fails, because the place is laid out in an unusual way, ruamel.yaml writes the whole file:
comments and order stay, blanks may not.
"""

from __future__ import annotations

import copy
import datetime as dt
import io
from collections.abc import Sequence
from typing import Any

import ruamel.yaml
import yaml

from djops.errors import ConfigError, DjopsError
from djops.model.editing import Append, Edit, Remove, SetValue
from djops.model.loading import path_text
from djops.model.yamltree import ListNode, MapNode, Node, Path, ScalarNode, parse

_WIDE = 1 << 20
_MARK = "\ufeff"


class _Dumper(yaml.SafeDumper):
    """Leaves ``on`` without quotes, because it is a key of this file."""


_Dumper.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if first != "o" or pair[0] != "tag:yaml.org,2002:bool"]
    for first, pairs in yaml.SafeDumper.yaml_implicit_resolvers.items()
}


class _NoPlaceError(Exception):
    """The text is laid out in a way that an edit at its place does not fit into."""


def edit_text(text: str, file: str, edits: Sequence[Edit]) -> str:
    """Make edits in a project file's text.

    Args:
        text: The content; it must be well formed.
        file: Its name, for messages.
        edits: What to change, one after the other.

    Returns:
        The new content.

    Raises:
        ConfigError: ``E_EDIT`` when an edit cannot be made.
    """
    mark = _MARK if text.startswith(_MARK) else ""
    text = text.removeprefix(_MARK)
    for edit in edits:
        text = _edit(text, file, edit)
    return mark + text


def _edit(text: str, file: str, edit: Edit) -> str:
    tree = parse(text, file)
    wanted = tree.data
    _apply(wanted, edit)
    wanted = _plain(wanted)
    for attempt in (_Surgeon(text, tree).operate, lambda edit: _rewrite(text, tree, edit)):
        try:
            changed = attempt(edit)
            if parse(changed, file).data == wanted:
                return changed
        except (_NoPlaceError, DjopsError, ruamel.yaml.error.YAMLError, LookupError, TypeError, ValueError):
            continue
    raise ConfigError(
        f"djops cannot edit {path_text(edit.path)} in the way this file is laid out",
        where=file,
        code="E_EDIT",
        hint=f"change it by hand, then run `djops apply`: {_words(edit)}",
    )


def _words(edit: Edit) -> str:
    match edit:
        case Remove():
            return f"remove {path_text(edit.path)}"
        case Append():
            return f"add {_flow(edit.value)} to {path_text(edit.path)}"
        case SetValue():
            return f"set {path_text(edit.path)} to {_flow(edit.value)}"


def _apply(data: Any, edit: Edit) -> None:  # noqa: ANN401  plain data, or ruamel's kind of it
    """Make an edit in plain data."""
    holder = data
    for part in edit.path[:-1]:
        if isinstance(edit, SetValue) and isinstance(holder, dict) and holder.get(part) is None:
            holder[part] = {}
        holder = holder[part]
    last: Any = edit.path[-1]
    match edit:
        case SetValue():
            holder[last] = copy.deepcopy(edit.value)
        case Remove():
            del holder[last]
        case Append():
            old = holder[last]
            if old is None or old == [] or not isinstance(old, list):
                holder[last] = [] if old is None or old == [] else [old]
            holder[last].append(copy.deepcopy(edit.value))


def _plain(data: Any) -> Any:  # noqa: ANN401  plain data
    """Turn dates into the text that the file holds."""
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    return data.isoformat() if isinstance(data, dt.date) else data


def _flow(value: Any) -> str:  # noqa: ANN401  plain data
    """Write a value in one line."""
    for allow_unicode in (True, False):
        text = yaml.dump(
            [value],
            Dumper=_Dumper,
            default_flow_style=True,
            width=_WIDE,
            allow_unicode=allow_unicode,
            sort_keys=False,
        ).strip()
        if "\n" not in text:
            break
    return text[1:-1]


class _Surgeon:
    """Makes one edit at its place in the text.

    Args:
        text: The content.
        tree: The same, parsed.
    """

    def __init__(self, text: str, tree: MapNode) -> None:
        self.text = text
        self.tree = tree
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.unit, self.dash = _habits(tree)

    def operate(self, edit: Edit) -> str:
        match edit:
            case SetValue():
                return self._set(edit.path, edit.value)
            case Append():
                return self._append(edit.path, edit.value)
            case Remove():
                return self._remove(edit.path)

    def _node(self, path: Path) -> Node:
        node: Node = self.tree
        for part in path:
            if isinstance(node, MapNode):
                node = node.entries[str(part)][1]
            elif isinstance(node, ListNode):
                node = node.items[int(part)]
            else:
                raise _NoPlaceError
        return node

    def _key(self, path: Path) -> ScalarNode:
        holder = self._node(path[:-1])
        if not isinstance(holder, MapNode):
            raise _NoPlaceError
        return holder.entries[str(path[-1])][0]

    # -- places in the text --------------------------------------------------------------------------

    def _line_start(self, offset: int) -> int:
        return self.text.rfind("\n", 0, offset) + 1

    def _behind_line(self, offset: int) -> int:
        found = self.text.find("\n", offset)
        return len(self.text) if found < 0 else found + 1

    def _end(self, node: Node) -> int:
        """Return where a value's own text ends; a block text's ends with its last line."""
        return max(node.start, len(self.text[: node.end].rstrip()))

    def _spliced(self, start: int, end: int, new: str) -> str:
        return self.text[:start] + new + self.text[end:]

    def _insert_lines(self, offset: int, lines: Sequence[str]) -> str:
        """Put lines behind the line that an offset is in."""
        place = self._behind_line(offset)
        before = self.text[:place]
        if not before.endswith("\n"):
            before += self.newline
        return before + "".join(line + self.newline for line in lines) + self.text[place:]

    def _is_first(self, node: Node, *, behind: str = "") -> bool:
        """Tell whether nothing, or only ``behind``, stands before a node in its line."""
        return self.text[self._line_start(node.start) : node.start].strip() == behind

    # -- setting and adding --------------------------------------------------------------------------

    def _set(self, path: Path, value: Any) -> str:  # noqa: ANN401  plain data
        if path[0] not in self.tree.entries and len(path) > 1:
            return self._set(path[:-1], {path[-1]: value})
        holder = self._node(path[:-1])
        key = str(path[-1])
        if isinstance(holder, ScalarNode) and holder.value is None:
            return self._fill(path[:-1], {key: value})
        if not isinstance(holder, MapNode):
            raise _NoPlaceError
        if key in holder.entries:
            return self._replace(path, holder.entries[key][1], value)
        entry = _flow({key: value})[1:-1]
        if holder.flow:
            if not holder.entries and self._may_be_block(path[:-1]):
                return self._fill(path[:-1], {key: value})
            return self._insert_in_flow(holder, [self._end(v) for _, v in holder.entries.values()], entry)
        column = next(iter(holder.entries.values()))[0].column
        return self._insert_lines(self._end(holder), self._block({key: value}, column))

    def _replace(self, path: Path, old: Node, value: Any) -> str:  # noqa: ANN401  plain data
        is_empty = isinstance(old, MapNode | ListNode) and not old.data
        if isinstance(value, dict | list) and value and self._may_be_block(path):
            if is_empty or old.data is None:
                return self._fill(path, value)
            raise _NoPlaceError
        if isinstance(old, ScalarNode) and old.start == old.end:
            colon = self._colon(path)
            return self._spliced(colon, colon, f" {_flow(value)}")
        if isinstance(old, MapNode | ListNode) and not old.flow:
            raise _NoPlaceError
        return self._spliced(old.start, self._end(old), _flow(value))

    def _colon(self, path: Path) -> int:
        """Return the place behind the colon of a key."""
        return self.text.index(":", self._key(path).end) + 1

    def _may_be_block(self, path: Path) -> bool:
        """Tell whether lines may be put below a key: nothing around it is in braces."""
        return all(not self._node(path[:depth]).flow for depth in range(len(path)))

    def _fill(self, path: Path, value: Any) -> str:  # noqa: ANN401  plain data
        """Put lines below a key whose value is empty: nothing, ``{}`` or ``[]``."""
        if not path or not self._may_be_block(path):
            raise _NoPlaceError
        key, old, colon = self._key(path), self._node(path), self._colon(path)
        shorter = self.text[:colon] + self.text[self._end(old) if old.end > old.start else colon :]
        column = key.column + (self.dash if isinstance(value, list) else self.unit)
        return _Surgeon(shorter, self.tree)._insert_lines(colon, self._block(value, column))

    def _append(self, path: Path, value: Any) -> str:  # noqa: ANN401  plain data
        holder = self._node(path)
        if isinstance(holder, ScalarNode) and holder.value is not None:
            return self._spliced(holder.start, self._end(holder), _flow([holder.value, value]))
        if not isinstance(holder, ListNode) or (not holder.items and self._may_be_block(path)):
            return self._fill(path, [value])
        if holder.flow:
            return self._insert_in_flow(holder, [self._end(item) for item in holder.items], _flow(value))
        last = holder.items[-1]
        as_lines = isinstance(last, MapNode) and not last.flow and isinstance(value, dict)
        lines = self._block(value, holder.column + 2) if as_lines else [_flow(value)]
        first = f"{' ' * holder.column}- {lines[0].lstrip()}"
        return self._insert_lines(self._end(holder), [first, *lines[1:]])

    def _insert_in_flow(self, holder: Node, ends: Sequence[int], entry: str) -> str:
        if ends:
            return self._spliced(ends[-1], ends[-1], f", {entry}")
        return self._spliced(holder.start + 1, holder.end - 1, entry)

    def _block(self, value: Any, column: int) -> list[str]:  # noqa: ANN401  plain data
        """Write a mapping or a list as lines; mappings within lists in one line each."""
        margin = " " * column
        if isinstance(value, list):
            return [f"{margin}- {_flow(item)}" for item in value]
        lines: list[str] = []
        for key, item in value.items():
            if isinstance(item, dict | list) and item:
                lines.append(f"{margin}{_flow(key)}:")
                lines += self._block(item, column + (self.dash if isinstance(item, list) else self.unit))
            else:
                lines.append(margin + _flow({key: item})[1:-1])
        return lines

    # -- removing ------------------------------------------------------------------------------------

    def _remove(self, path: Path) -> str:
        holder = self._node(path[:-1])
        if isinstance(holder, MapNode):
            spans = [(key.start, self._end(value)) for key, value in holder.entries.values()]
            index = list(holder.entries).index(str(path[-1]))
        elif isinstance(holder, ListNode):
            spans = [(item.start, self._end(item)) for item in holder.items]
            index = int(path[-1])
        else:
            raise _NoPlaceError
        spans = [(start, max(start, end)) for start, end in spans]
        if holder.flow:
            return self._remove_from_flow(holder, spans, index)
        if len(spans) == 1:
            return self._empty(path[:-1], holder, spans[0])
        return self._remove_lines(holder, spans, index)

    def _remove_from_flow(self, holder: Node, spans: Sequence[tuple[int, int]], index: int) -> str:
        if len(spans) == 1:
            return self._spliced(holder.start + 1, holder.end - 1, "")
        if index == 0:
            return self._spliced(spans[0][0], spans[1][0], "")
        return self._spliced(spans[index - 1][1], spans[index][1], "")

    def _remove_lines(self, holder: Node, spans: Sequence[tuple[int, int]], index: int) -> str:
        start, end = spans[index]
        before = self.text[self._line_start(start) : start].strip()
        if isinstance(holder, MapNode) and before == "-" and index == 0:
            return self._spliced(start, spans[1][0], "")
        if before != ("-" if isinstance(holder, ListNode) else ""):
            raise _NoPlaceError
        return self._spliced(self._with_comments(start, holder), self._behind_line(end), "")

    def _with_comments(self, start: int, holder: Node) -> int:
        """Return where a key's lines begin, with the comment lines right above that are its own."""
        begin = self._line_start(start)
        if not isinstance(holder, MapNode):
            return begin
        margin = self.text[begin:start]
        while begin > 0:
            above = self._line_start(begin - 1)
            if not self.text[above:begin].startswith(f"{margin}#"):
                break
            begin = above
        return begin

    def _empty(self, path: Path, holder: Node, span: tuple[int, int]) -> str:
        """Remove the only entry of a block collection, and say that it is empty."""
        if not path or isinstance(path[-1], int):
            raise _NoPlaceError
        colon = self._colon(path)
        begin = self._with_comments(span[0], holder)
        if begin < colon:
            raise _NoPlaceError
        empty = " {}" if isinstance(holder, MapNode) else " []"
        return self.text[:colon] + empty + self.text[colon:begin] + self.text[self._behind_line(span[1]) :]


def _habits(tree: MapNode) -> tuple[int, int]:
    """Return by how much the file indents mappings, and list items behind their key."""
    unit = dash = None
    todo: list[tuple[int, Node]] = [(key.column, value) for key, value in tree.entries.values()]
    while todo:
        column, node = todo.pop(0)
        if node.flow or not node.data:
            continue
        if isinstance(node, MapNode):
            entries = list(node.entries.values())
            unit = entries[0][0].column - column if unit is None else unit
            todo += [(key.column, value) for key, value in entries]
        elif isinstance(node, ListNode):
            dash = node.column - column if dash is None else dash
            todo += [(item.column, item) for item in node.items if isinstance(item, MapNode)]
    unit = unit if unit and unit > 0 else 2
    return unit, dash if dash is not None and dash >= 0 else unit


def _rewrite(text: str, tree: MapNode, edit: Edit) -> str:
    """Let ruamel.yaml make the edit and write the whole file anew."""
    unit, dash = _habits(tree)
    editor = ruamel.yaml.YAML(typ="rt")
    editor.preserve_quotes = True
    editor.width = _WIDE
    editor.indent(mapping=unit, sequence=dash + 2, offset=dash)
    data = editor.load(text)
    _apply(data, edit)
    stream = io.StringIO()
    editor.dump(data, stream)
    return stream.getvalue()
