"""Files that djops ships: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

import djops
from djops.errors import InstallError
from djops.model.error_texts import ErrorTexts, error_texts
from djops.model.roles import RoleModel, role_model


@dataclass(frozen=True)
class Words:
    """Plain words for capabilities.

    Attributes:
        can: What a capability lets its holder do, by its name.
        level: What somebody does whose strongest capability it is, weakest first.
        refused: The capabilities whose lack is worth a word.
    """

    can: Mapping[str, str]
    level: Mapping[str, str]
    refused: tuple[str, ...]


def shipped(name: str) -> Path:
    """Return the path of a shipped file or folder.

    Args:
        name: Its path from the project's top, for example ``policies/roles.yaml``.

    Raises:
        InstallError: ``E_INSTALL`` when the installation is not whole.
    """
    package = Path(djops.__file__).parent
    for base in (package / "_shipped", package.parent):
        if (base / name).exists():
            return base / name
    raise InstallError(f"{name} is missing from this installation of djops", hint="install djops again")


def load_roles() -> RoleModel:
    """Read the shipped role model.

    Returns:
        The roles.

    Raises:
        ConfigError: ``E_ROLES`` when the file was damaged.
    """
    path = shipped("policies/roles.yaml")
    return role_model(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


@functools.cache
def load_words() -> Words:
    """Read what capabilities are called where people read it.

    Returns:
        The words.
    """
    path = shipped("policies/words.yaml")
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    told = data["capabilities"]
    return Words(
        {name: words["can"] for name, words in told.items()},
        {name: words["level"] for name, words in told.items()},
        tuple(data["refused"]),
    )


@functools.cache
def load_error_texts() -> ErrorTexts:
    """Read the shipped catalogue of errors.

    Returns:
        What texts of the client and the servers mean.

    Raises:
        ConfigError: ``E_ERRORS`` when the file was damaged.
    """
    path = shipped("policies/errors.yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return error_texts(yaml.load(path.read_text(encoding="utf-8"), loader), str(path))  # noqa: S506
