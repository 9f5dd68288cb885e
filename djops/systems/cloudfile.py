"""``cloud.json`` in an environment's directory: where Pulumi put the servers; nothing in it is secret."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from djops.errors import DjopsError
from djops.systems.files import read_json, write_json
from djops.systems.paths import private_directory

FILE = "cloud.json"

_FORMAT = 1


@dataclass(frozen=True)
class CloudFile:
    """Where an environment's servers are.

    Attributes:
        region: AWS region.
        mysql_host: The database's host.
        mysql_port: Its TCP port.
        mysql_secret: ARN of the secret with its administrator's name and password.
        secrets_address: URL of the secrets server.
        secrets_init: ARN of the secret with its first token; empty where it was there before.
        secrets_ca: Name of the SSM parameter with its authority's certificate; empty likewise.
        buckets: The buckets.
        access_manager: The IAM user that djops works as.
        gate: The instance that tunnels go through.
        people_boundary: ARN of the permissions boundary of everybody's IAM user; empty where the stack is of
            a time before there was one.
    """

    region: str
    mysql_host: str
    mysql_port: int
    mysql_secret: str
    secrets_address: str
    secrets_init: str
    secrets_ca: str
    buckets: tuple[str, ...]
    access_manager: str
    gate: str
    people_boundary: str = ""


def from_outputs(outputs: Mapping[str, Any], region: str) -> CloudFile:
    """Read a stack's outputs.

    Args:
        outputs: What ``stacks/cloud/program.py`` exports.
        region: AWS region.
    """
    database, secrets = outputs.get("database") or {}, outputs.get("secrets") or {}
    return CloudFile(
        region=region,
        mysql_host=str(database.get("host", "")),
        mysql_port=int(database.get("port") or 3306),
        mysql_secret=str(database.get("adminSecret") or ""),
        secrets_address=str(secrets.get("address") or ""),
        secrets_init=str(secrets.get("initSecret") or ""),
        secrets_ca=str(secrets.get("caParameter") or ""),
        buckets=tuple(str(name) for name in outputs.get("buckets") or ()),
        access_manager=str(outputs.get("accessManager") or ""),
        gate=str(outputs.get("gate") or ""),
        people_boundary=str(outputs.get("peopleBoundary") or ""),
    )


def read(directory: Path) -> CloudFile | None:
    """Read the file.

    Args:
        directory: The environment's directory.

    Returns:
        What it says, or ``None`` when the environment was never brought up from this machine.

    Raises:
        DjopsError: ``E_STATE`` when the file is damaged.
    """
    found = read_json(directory / FILE)
    if found is None:
        return None
    found.pop("format", None)
    try:
        return CloudFile(**{**found, "buckets": tuple(found["buckets"])})
    except (KeyError, TypeError) as error:
        raise DjopsError(
            "this file is not what djops wrote",
            where=str(directory / FILE),
            code="E_STATE",
            hint="remove it, and run `djops up` again",
        ) from error


def write(directory: Path, file: CloudFile) -> None:
    """Write the file.

    Args:
        directory: The environment's directory.
        file: What it shall say.
    """
    write_json(directory / FILE, {"format": _FORMAT, **asdict(file)})


@contextlib.contextmanager
def tunnel_noted(directory: Path, server: str, port: int) -> Iterator[None]:
    """Have other runs of djops reach a server through a tunnel as long as it is open.

    Args:
        directory: The environment's directory.
        server: ``mysql`` or ``secrets``.
        port: Where the tunnel ends on this machine.
    """
    file = private_directory(directory) / f"tunnel-{server}.json"
    write_json(file, {"port": port, "pid": os.getpid()})
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def tunnel_held(directory: Path, server: str, port: int) -> Iterator[None]:
    """Have this run of djops alone reach a server through a tunnel as long as it is open.

    Args:
        directory: The environment's directory.
        server: ``mysql`` or ``secrets``.
        port: Where the tunnel ends on this machine.
    """
    _HELD[directory, server] = port
    try:
        yield
    finally:
        del _HELD[directory, server]


_HELD: dict[tuple[Path, str], int] = {}


def tunnelled(directory: Path) -> Mapping[str, int]:
    """Return the ports on 127.0.0.1 through which servers are reached while a tunnel is open.

    Args:
        directory: The environment's directory.

    Returns:
        Ports by ``mysql`` and ``secrets``; empty without a tunnel.
    """
    noted = {server: read_json(directory / f"tunnel-{server}.json") for server in ("mysql", "secrets")}
    open_ = {server: int(one["port"]) for server, one in noted.items() if one and _lives(int(one["pid"]))}
    return open_ | {server: port for (where, server), port in _HELD.items() if where == directory}


def _lives(process: int) -> bool:
    # Who was killed left the note behind.
    return Path(f"/proc/{process}").exists()
