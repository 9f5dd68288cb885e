"""Property bags between Python and the protocol's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from pulumi.runtime.rpc import UNKNOWN

__all__ = ["UNKNOWN", "has_unknown", "to_python", "to_struct"]


def to_python(message: struct_pb2.Struct) -> dict[str, Any]:
    """Return a bag with whole numbers as such: the protocol knows only floating ones."""
    found: dict[str, Any] = _whole(json_format.MessageToDict(message))
    return found


def to_struct(bag: Mapping[str, Any]) -> struct_pb2.Struct:
    """Return the message of a bag."""
    return json_format.ParseDict(dict(bag), struct_pb2.Struct())


def has_unknown(value: Any) -> bool:
    """Tell whether something in a value is known only after the update."""
    if isinstance(value, Mapping):
        return any(has_unknown(one) for one in value.values())
    if isinstance(value, list):
        return any(has_unknown(one) for one in value)
    return bool(value == UNKNOWN)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
