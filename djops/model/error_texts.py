"""Texts of errors from the client and the servers, and what they mean: the catalogue as typed data.

The catalogue is ``policies/errors.yaml``, which says how its patterns are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from djops.errors import ConfigError
from djops.model.roles import Capability

_QUOTED_OR_NOT = r"`[^`]*`\.`[^`]*`|`[^`]*`|'[^']*'|\"[^\"]*\"|[\w#~$.]*[\w#~$]"
_PLACES = {
    "user": r"'(?P<user>[^']*)'@'(?P<host>[^']*)'",
    "object": rf"(?P<object>{_QUOTED_OR_NOT})",
    "schema": r"(?P<schema>[^`']+)",
    "store": r"(?P<store>[\w-]+)",
    "privileges": r"(?P<privileges>[A-Z][A-Z ]*(?:, [A-Z][A-Z ]*)*)",
    "action": r"(?P<action>[A-Z]\w+)",
    "job": r"(?P<job>~~\w+)",
    "lineage": r"(?P<lineage>~lineage)",
    "lookup": r"(?P<lookup>#\w+)",
    "reason": r"(?P<reason>.+)",
}
"""What the placeholders of patterns stand for; any other one stands for a word or a quoted text."""

_ANY = r"(?P<{0}>[^`'\" ()]+|[A-Z]+ [A-Z]+)"
_PLACE = re.compile(r"\{([a-z_]+)\}")
_WORDS = {"who": "the account", "table": "the table", "schema": "the schema", "privileges": "the right"}


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class ErrorText(BaseModel):
    """One text of the catalogue.

    Attributes:
        id: Its stable name.
        by: Who says it.
        pattern: A regular expression with placeholders, or several.
        means: What it says, in one sentence with placeholders.
        cause: Why it happens.
        do: What to do.
        denied: Whether a server refused a right.
        misleading: Whether the text names another cause than the real one, or none.
        capability: What was tried, where the text does not tell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    by: Literal["datajoint", "mysql", "s3"]
    pattern: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(min_length=1)
    means: str
    cause: str
    do: str
    denied: bool = False
    misleading: bool = False
    capability: Capability | None = None

    @cached_property
    def expressions(self) -> tuple[re.Pattern[str], ...]:
        """The patterns, compiled."""
        return tuple(
            re.compile(_PLACE.sub(lambda match: _PLACES.get(match[1]) or _ANY.format(match[1]), pattern))
            for pattern in self.pattern
        )

    def matches(self, text: str) -> Iterator[re.Match[str]]:
        """Yield every place of a text where it stands."""
        for expression in self.expressions:
            yield from expression.finditer(text)


class _Catalogue(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    errors: tuple[ErrorText, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Reading:
    """An error's text, looked up.

    Attributes:
        entry: What the catalogue says of it.
        found: What the text names: ``user``, ``host``, ``object``, ``schema``, ``privileges``, ...
        also: Other entries of the catalogue that occur in the text.
    """

    entry: ErrorText
    found: Mapping[str, str]
    also: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str | None, str | None]:
        """The schema and the table that the text names, as far as it does."""
        schema, table = split_object(self.found["object"]) if "object" in self.found else (None, None)
        special = (self.found.get(name) for name in ("job", "lineage", "lookup"))
        return schema or self.found.get("schema"), table or next(filter(None, special), None)

    def fill(self, text: str, **known: str | None) -> str:
        """Fill the placeholders of ``means``, ``cause`` or ``do``.

        Args:
            text: The text with placeholders.
            known: What is known better than from the error's text, such as ``who`` and ``table``.
        """
        schema, table = self.place
        named = {"who": self.found.get("user"), "schema": schema}
        named["table"] = f"{schema}.{table}" if schema and table else table
        better = {name: word for name, word in (*named.items(), *known.items()) if word}
        words = {**_WORDS, **self.found, **better}
        return _PLACE.sub(lambda match: words.get(match[1], match[1]), text)


@dataclass(frozen=True)
class ErrorTexts:
    """The catalogue.

    Attributes:
        entries: Its texts, special ones before general ones.
    """

    entries: tuple[ErrorText, ...]

    def read(self, text: str) -> Reading | None:
        """Look a text up.

        Args:
            text: What the client or a server said; a whole traceback does, too. Of several errors in it
                the last counts, as the last exception of a traceback does.

        Returns:
            What it means, or ``None`` for an unknown text.
        """
        plain = " ".join(text.split())
        taken: list[tuple[int, int, ErrorText, dict[str, str]]] = []
        for entry in self.entries:
            for match in entry.matches(plain):
                start, end = match.span()
                if not any(start < other_end and other_start < end for other_start, other_end, *_ in taken):
                    groups = {name: value for name, value in match.groupdict().items() if value}
                    taken.append((start, end, entry, groups))
        if not taken:
            return None
        taken.sort(key=lambda one: one[0])
        *before, (_, _, entry, found) = taken
        # The exception before may name the account where the last one does not.
        user = {k: v for *_, groups in before for k, v in groups.items() if k in ("user", "host")}
        also = dict.fromkeys(other.id for _, _, other, _ in before if other.id != entry.id)
        return Reading(entry, {**user, **found}, tuple(also))


def error_texts(data: Mapping[str, Any], file: str) -> ErrorTexts:
    """Check the catalogue's data.

    Args:
        data: What the YAML file holds.
        file: Its name, for messages.

    Returns:
        The catalogue.

    Raises:
        ConfigError: ``E_ERRORS`` when the data is not a catalogue.
    """
    try:
        entries = _Catalogue.model_validate(data).errors
        for entry in entries:
            entry.expressions  # noqa: B018  a pattern that does not compile raises
    except (ValidationError, re.error) as error:
        raise ConfigError(
            f"the catalogue of errors is damaged: {' '.join(str(error).split())[:200]}",
            where=file,
            code="E_ERRORS",
            hint="compare with the file that djops ships",
        ) from error
    return ErrorTexts(entries)


def split_object(text: str) -> tuple[str | None, str]:
    """Split a table as an error names it into schema and table.

    Args:
        text: ```a`.`b```, ``'a.b'``, ``a.b``, ``'b'``, ...

    Returns:
        The schema, or ``None`` where the text does not name it, and the table.
    """
    quoted = re.fullmatch(r"`([^`]*)`\.`([^`]*)`", text)
    if quoted:
        return quoted[1], quoted[2]
    plain = text.strip("`'\"")
    schema, dot, table = plain.partition(".")
    return (schema, table) if dot else (None, plain)
