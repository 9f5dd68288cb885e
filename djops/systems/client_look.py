"""Runs :mod:`djops.systems.client_probe` as a person's client would run, in her directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROBE = Path(__file__).with_name("client_probe.py")
SECONDS = 60.0


@dataclass(frozen=True)
class Failure:
    """What a client said that failed.

    Attributes:
        kind: Name of the exception.
        text: Its text.
        number: MySQL's number of the error, if it has one.
    """

    kind: str
    text: str
    number: int | None = None


@dataclass(frozen=True)
class ClientView:
    """What a client in a directory reads and reaches.

    Attributes:
        version: The client's version, empty when it could not be imported.
        account: The account that the server took the log-in for.
        server: Name and version of the server.
        roles: Active roles.
        tls: TLS version of the connection; empty where it is in plain text.
        grants: What the server says that the account may do.
        schemas: The schemas it sees.
        stores: Endpoint and bucket by store, and whether a schema's objects could be listed.
        failure: Why the database could not be used.
        store_failures: Why a store could not be used.
    """

    version: str = ""
    account: str = ""
    server: str = ""
    roles: tuple[str, ...] = ()
    tls: str = ""
    grants: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    stores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failure: Failure | None = None
    store_failures: Mapping[str, Failure] = field(default_factory=dict)


def look(directory: Path, schema: str | None = None) -> ClientView:
    """Start the installed client in a directory and ask it what it reads and reaches.

    Args:
        directory: Where somebody would start it.
        schema: A schema whose objects are to be listed in every store.

    Returns:
        What it says; it never raises for what the client or a server refuses.
    """
    # The client says on its log stream where it connects to; the answer is the last line.
    environment = {**os.environ, "DJ_LOG_STREAM": "stderr", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(PROBE), *([schema] if schema else [])]
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return ClientView(failure=Failure("Timeout", f"no answer within {SECONDS:.0f} s"))
    except (IndexError, ValueError):
        last: Sequence[str] = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        return ClientView(failure=Failure("Client", last[0].strip() if last else "it ended without a word"))
    return _view(answer)


def _view(answer: Mapping[str, Any]) -> ClientView:
    database = answer.get("database") or {}
    return ClientView(
        version=answer.get("version", ""),
        account=database.get("account", ""),
        server=f"{database.get('server', '')} {database.get('version', '')}".strip(),
        roles=tuple(role.replace("`", "").removesuffix("@%") for role in database.get("roles", ())),
        tls=database.get("tls", ""),
        grants=tuple(database.get("grants", ())),
        schemas=tuple(name for name in answer.get("schemas", ()) if not _is_system(name)),
        stores=answer.get("stores", {}),
        failure=_failure(answer.get("error")),
        store_failures={
            name: failure
            for name, told in answer.get("store_errors", {}).items()
            if (failure := _failure(told)) is not None
        },
    )


def _is_system(schema: str) -> bool:
    return schema in ("information_schema", "performance_schema", "mysql", "sys")


def _failure(told: Mapping[str, Any] | None) -> Failure | None:
    return None if told is None else Failure(told["kind"], told["text"], told["number"])
