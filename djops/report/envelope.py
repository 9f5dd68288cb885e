"""The one object that every ``--json`` answer is.

``{"djops": 1, "command": "status", "status": "ok", "data": {...}, "errors": []}``; ``status`` is ``ok``,
``findings`` (drift, a refusal, a failed check: exit status 2) or ``error`` (exit status 1).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import Literal, TypedDict

from djops.errors import DjopsError

VERSION = 1
"""Raised when a key of the envelope changes its name or its meaning."""

Status = Literal["ok", "findings", "error"]


class ErrorObject(TypedDict):
    """One error of an answer."""

    code: str
    message: str
    where: str | None
    hint: str | None


class Envelope(TypedDict):
    """One answer."""

    djops: int
    command: str
    status: Status
    data: dict[str, object]
    errors: list[ErrorObject]


def envelope(
    command: str, data: Mapping[str, object], errors: Sequence[DjopsError] = (), *, findings: bool = False
) -> Envelope:
    """Put an answer together.

    Args:
        command: The command's name, with its subcommand, as in ``users add``.
        data: The result; dataclasses, dates, paths, enums and sets are made plain.
        errors: What went wrong; compound errors are taken apart.
        findings: Whether the result asks for attention.

    Returns:
        An object that :func:`json.dumps` takes.

    Raises:
        TypeError: ``data`` holds something that must not or cannot be shown, such as a secret.
    """
    single = [error_object(error) for many in errors for error in many.flatten()]
    status: Status = "error" if single else "findings" if findings else "ok"
    shown = {str(key): plain(value) for key, value in data.items()}
    return {"djops": VERSION, "command": command, "status": status, "data": shown, "errors": single}


def error_object(error: DjopsError) -> ErrorObject:
    """Return an error as the envelope shows it."""
    return {"code": error.code, "message": error.message, "where": error.where, "hint": error.hint}


def to_json(answer: Envelope) -> str:
    """Return an answer as text, ASCII only, so that no terminal or pipe can spoil it."""
    return json.dumps(answer, indent=2)


def plain(value: object) -> object:
    """Turn a result into what JSON knows.

    Args:
        value: Plain values, mappings, sequences, sets (sorted), dataclasses, enums, dates and paths.

    Returns:
        The same made of dictionaries, lists, strings, numbers, booleans and ``None``.

    Raises:
        TypeError: For any other type: a secret must not slip through as text.
    """
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be part of an answer")
