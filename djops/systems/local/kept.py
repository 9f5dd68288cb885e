"""Administrators' secrets that lie in the lab's secrets server, and on the disk no more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from djops.errors import DjopsError, ServerUnavailableError
from djops.systems.connections import Secret
from djops.systems.local.server import Lab

SECTION = "servers"
"""Below the project's path, beside people and services."""

KEPT = "kept_at"
"""Field of a file of credentials: where the secret is instead, below the mount of the secrets server."""


def kept_path(lab: Lab, name: str) -> str:
    """Return where an administrator's secret is kept.

    Args:
        lab: The lab.
        name: What its file on disk is called, without the ending.
    """
    return f"{lab.project}/{SECTION}/{name}"


class KeptSecret(Secret):
    """A secret that is fetched from the lab's secrets server when it is used, and not before.

    Args:
        lab: The lab.
        path: Where it is kept, below the mount.
        field: Name of the field.
        patience: Seconds to wait for a secrets server that is just starting.
    """

    __slots__ = ("_field", "_lab", "_path", "_patience")

    def __init__(self, lab: Lab, path: str, field: str, patience: float = 0) -> None:
        super().__init__("")
        self._lab, self._path, self._field, self._patience = lab, path, field, patience

    def reveal(self) -> str:
        """Fetch the secret.

        Returns:
            The secret.

        Raises:
            ServerUnavailableError: The secrets server does not answer.
            DjopsError: ``E_DATA_LOST`` when it does not have the secret.
        """
        if not self._value:
            self._value = self._fetch()
        return self._value

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def _fetch(self) -> str:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                found = read(self._lab, self._path).get(self._field)
                break
            except (ServerUnavailableError, DjopsError) as error:
                waits = isinstance(error, ServerUnavailableError) or error.code == "E_NOT_UP"
                if not waits or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        if not found:
            raise DjopsError(
                "an administrator's secret is kept in the secrets server, and is not there any more",
                where=self._path,
                code="E_DATA_LOST",
                hint="bring it back with `djops secrets import FILE`, from an export",
            )
        return found


def read(lab: Lab, path: str) -> Mapping[str, str]:
    """Read what the lab's secrets server keeps at a path.

    Args:
        lab: The lab.
        path: The path below the mount.

    Returns:
        The fields; empty when there is nothing.

    Raises:
        DjopsError: ``E_NOT_UP`` when the server was never brought up; or it does not answer.
    """
    from djops.systems.local import openbao
    from djops.systems.vault import Secrets  # slow to import, and seldom needed here

    with Secrets(openbao.connection(lab)) as session:
        stored = session.read_secret(path)
    return stored.fields if stored else {}


def secret_in(lab: Lab, kept: Mapping[str, Any], field: str, patience: float = 0) -> Secret:
    """Return the secret that a file of credentials holds, or tells the place of.

    Args:
        lab: The lab.
        kept: The file's content.
        field: Name of the secret's field.
        patience: Seconds to wait for a secrets server that is just starting.
    """
    if KEPT in kept:
        return KeptSecret(lab, str(kept[KEPT]), field, patience)
    return Secret(str(kept[field]))
