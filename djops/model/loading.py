"""The project file's text turned into a :class:`~djops.model.project.Project`.

Every problem is an error that says file, line, what is wrong and what to do, and all of them come at once.
What needs to know the roles and the pipeline is in :mod:`djops.model.checking`.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from djops.errors import ConfigError, DjopsError, ManyErrors
from djops.model.nearest import advice
from djops.model.project import Project
from djops.model.yamltree import Path, Positions, parse, positions

PATTERN_WORDS = {
    r"^[a-z0-9_-]{1,40}$": "up to 40 lower case letters, digits, '_' and '-'",
    r"^(file|cloud|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w./-]+)?)$": (
        "`file`, `s3://BUCKET/PREFIX` or `cloud`"
    ),
    r"^(passphrase|awskms://[\w/:.-]+)$": "`passphrase` or awskms://alias/NAME",
    r"^[A-Za-z0-9_-]{1,40}$": "up to 40 letters, digits, _ and -",
    r"^vpc-[0-9a-f]+$": "the id of a VPC, like vpc-0123456789abcdef0",
    r"^subnet-[0-9a-f]+$": "the id of a subnet, like subnet-0123456789abcdef0",
    r"^arn:aws[a-z-]*:secretsmanager:\S+$": "the ARN of a secret in Secrets Manager",
    r"^https://\S+\.rpm$": "https://HOST/....rpm",
    r"^[0-9a-f]{64}$": "64 hexadecimal digits",
    r"^[0-9a-f]{40}$": "a whole git commit id, 40 hexadecimal digits",
    r"^[^\s@]+@sha256:[0-9a-f]{64}$": "REGISTRY/NAME@sha256:DIGEST",
    r"^[^/].*/$": "a key prefix that ends with a slash and begins with none",
    r"^[a-z]{2}(-[a-z]+)+-[0-9]$": "the name of an AWS region, like eu-central-1",
    r"^[0-9]{12}$": "12 digits, in quotes",
    r"^[0-9.]{7,15}/(1[6-9]|20)$": "a private network between /16 and /20, like 10.40.0.0/16",
    r"^[a-z][a-z0-9-]{0,30}$": "at most 31 lower-case letters, digits and -, a letter first",
    r"^[1-9][0-9]{0,5}[smhd]$": "a number with s, m, h or d behind it, like 90d",
    r"^ldaps?://[^\s/]+/?$": "ldaps://HOST or ldap://HOST, with a port where it is another one",
    r"^[A-Za-z][A-Za-z0-9-]*$": "the name of an LDAP attribute",
    r"^[\w./-]+$": "the name of a claim",
    r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$": "the name of a package as Python imports it, like my_pipeline",
    r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$": "3 to 63 lower-case letters, digits, dots and hyphens",
    r"^[a-z][a-z0-9_-]{0,30}$": "at most 31 lower-case letters, digits, _ and -, a letter first",
    r"^[a-z][a-z0-9_-]{0,15}$": "at most 16 lower-case letters, digits, _ and -, a letter first",
    r"^[A-Za-z][A-Za-z0-9_-]{0,30}$": "at most 31 letters, digits, _ and -, a letter first",
    r"^[A-Za-z][A-Za-z0-9_]{0,13}_$": "at most 15 letters, digits and _, a letter first and _ last",
    r"^[A-Za-z][A-Za-z0-9._-]{0,31}$": "at most 32 letters, digits, dots, _ and -, a letter first",
}
"""What each pattern of the project file asks for, in words."""

_SECRET_KEYS = frozenset(
    {"password", "access_key", "secret_key", "role_id", "secret_id", "bind_password", "client_secret"}
)
_SHOWN = 60


def load(text: str, file: str) -> tuple[Project, Positions]:
    """Read a project file's text.

    Args:
        text: The content of ``djops.yaml``.
        file: Its name, as its user would name it.

    Returns:
        The project, and where in the file everything stands.

    Raises:
        ConfigError: One problem, with its line.
        ManyErrors: Several problems, in the order of their lines.
    """
    tree = parse(text, file)
    places = positions(tree, file)
    data = tree.data
    try:
        return Project.model_validate(data), places
    except ValidationError as error:
        found = [_explain(details, data, places) for details in _telling(error)]
    found = sorted(found, key=lambda one: one[0])
    errors = [one[1] for one in found]
    raise ManyErrors(errors) if len(errors) > 1 else errors[0]


def path_text(path: Path) -> str:
    """Write a path the way people do: ``people.alice.grants[0].role``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _telling(error: ValidationError) -> list[ErrorDetails]:
    """Leave out that a list is too short when its items were refused."""
    every = error.errors(include_url=False)
    refused = {details["loc"][:-1] for details in every}
    return [details for details in every if details["type"] != "too_short" or details["loc"] not in refused]


def _explain(details: ErrorDetails, data: Mapping[str, Any], places: Positions) -> tuple[int, DjopsError]:
    """Turn one of pydantic's errors into the user's, with its line to sort by."""
    path = tuple(part for part in details["loc"] if part != "[key]")
    where = places.where(*path)
    message, hint, code = _words(details, path, data)
    return where.line or 0, ConfigError(message, where=where, hint=hint, code=code)


def _words(details: ErrorDetails, path: Path, data: Mapping[str, Any]) -> tuple[str, str, str]:
    kind, context = details["type"], details.get("ctx", {})
    shown, value = path_text(path), details["input"]
    owner = _model_at(path[:-1])
    if kind == "extra_forbidden":
        fields = [] if owner is None else list(owner.model_fields)
        inside = f" in {path_text(path[:-1])}" if path[:-1] else ""
        hint = advice(str(path[-1]), fields, what="keys")
        return f"unknown key {path[-1]!r}{inside}", hint, "E_UNKNOWN_KEY"
    if kind == "missing":
        purpose = _purposes(owner).get(str(path[-1]), "") if owner is not None else ""
        place = path_text(path[:-1]) or "the file"
        return f"{place} lacks the key {path[-1]!r}", f"add it: {purpose}", "E_MISSING_KEY"
    if _SECRET_KEYS.intersection(path):
        hint = "write {file: PATH} or {env: NAME}, and keep the secret there"
        return f"{shown} must say where the secret is; a secret does not stand in this file", hint, "E_SECRET"
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        message = f"{shown} is {_show(value)}, which must be {context['expected']}"
        hint = advice(str(value), names, what="values") if len(names) > 1 else f"write {context['expected']}"
        return message, hint, "E_BAD_VALUE"
    if kind == "string_pattern_mismatch":
        words = PATTERN_WORDS.get(context["pattern"], f"a match of {context['pattern']}")
        is_key = details["loc"][-1] == "[key]"
        what = f"in {path_text(path[:-1])}, the name" if is_key else f"{shown} is {_show(value)}, which"
        name = f" {_show(path[-1])}" if is_key else ""
        return f"{what}{name} is not allowed", f"use {words}", "E_BAD_NAME"
    if kind.startswith("date") or (kind == "value_error" and path[-1] == "until"):
        hint = "write YYYY-MM-DD, a day that exists, like 2027-01-31"
        return f"{shown} is {_show(value)}, which is no date", hint, "E_BAD_DATE"
    return _type_words(kind, shown, value, details["msg"])


def _type_words(kind: str, shown: str, value: object, fallback: str) -> tuple[str, str, str]:
    """Explain that a value is of the wrong kind."""
    if kind == "value_error":
        text = fallback.removeprefix("Value error, ")
        return f"in {shown}, {text}", "see `djops config schema`", "E_BAD_VALUE"
    expected, hint = {
        "string_type": ("text", "write a text"),
        "string_too_short": ("a text that is not empty", "write something, or remove it"),
        "too_short": ("something", "write at least one, or remove the key"),
        "tuple_type": ("a list", "write it as [one, two] or as lines that begin with a dash"),
        "model_type": ("keys with values", "write it as {key: value} or as indented lines"),
        "dict_type": ("keys with values", "write it as {key: value} or as indented lines"),
        "bool_parsing": ("true or false", "write true or false"),
        "bool_type": ("true or false", "write true or false"),
        "int_parsing": ("a whole number", "write digits only"),
        "int_type": ("a whole number", "write digits only"),
    }.get(kind, (fallback[:1].lower() + fallback[1:], "see `djops config schema`"))
    if kind == "string_type" and isinstance(value, bool | int):
        hint = f"put it in quotes: '{json.dumps(value)}'"
    if kind not in ("string_too_short", "too_short") and expected == fallback[:1].lower() + fallback[1:]:
        return f"{shown} is {_show(value)}: {expected}", hint, "E_BAD_VALUE"
    return f"{shown} is {_show(value)}, where {expected} must stand", hint, "E_BAD_VALUE"


def _show(value: object) -> str:
    """Show a value of the file, shortened."""
    if isinstance(value, Mapping):
        return "a mapping" if value else "empty"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, bool | int) else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 4] + "...'"


def _model_at(path: Path) -> type[BaseModel] | None:
    """Return the model that describes the mapping at a path."""
    here: Any = Project
    for part in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(part))
            here = None if field is None else _inner(field.annotation)
        elif typing.get_origin(here) in (dict, tuple):
            here = _inner(typing.get_args(here)[1 if typing.get_origin(here) is dict else 0])
        else:
            return None
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _inner(annotation: Any) -> Any:  # noqa: ANN401  any annotation
    """Strip ``Annotated`` and ``| None`` from an annotation."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next(one for one in typing.get_args(annotation) if one is not type(None))
        else:
            return annotation


_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)


def _purposes(model: type[BaseModel]) -> Mapping[str, str]:
    """Return what each key is for, from the section ``Attributes`` of the model's docstring."""
    found: dict[str, str] = {}
    for described in (one for one in reversed(model.__mro__) if issubclass(one, BaseModel)):
        text = (described.__doc__ or "").partition("Attributes:")[2]
        lines = "\n".join(line[4:] if line.startswith("        ") else line for line in text.splitlines())
        found |= {name: " ".join(words.split()) for name, words in _ATTRIBUTE.findall(lines)}
    return {name: words.replace("``", "`") for name, words in found.items() if name in model.model_fields}


def project_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``djops.yaml``, with what each key is for.

    Returns:
        A schema of draft 2020-12, which editors use to complete and check the file.
    """
    schema = Project.model_json_schema()
    described = {model.__name__: model for model in _models(Project)}
    for name, part in [("Project", schema), *schema.get("$defs", {}).items()]:
        model = described.get(name)
        if model is None:  # a list of words, such as the capabilities
            continue
        part["description"] = (model.__doc__ or "").partition("\n")[0]
        for key, words in _purposes(model).items():
            part["properties"][key]["description"] = words
            part["properties"][key].pop("title", None)
    _close_patterns(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "djops.yaml",
    }


def _close_patterns(part: object) -> None:
    """Forbid keys that match no pattern, as the model does."""
    if isinstance(part, dict):
        if "patternProperties" in part:
            part["additionalProperties"] = False
        for value in part.values():
            _close_patterns(value)
    elif isinstance(part, list):
        for value in part:
            _close_patterns(value)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401  any annotation
    """Yield every model that an annotation leads to."""
    here = _inner(annotation)
    if isinstance(here, type) and issubclass(here, BaseModel):
        yield here
        for field in here.model_fields.values():
            yield from _models(field.annotation)
    elif typing.get_origin(here) in (dict, tuple):
        for argument in typing.get_args(here):
            yield from _models(argument)
