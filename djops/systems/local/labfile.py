"""A lab's directory on disk, and ``lab.json`` in it: which ports were promised, which versions run.

The directory belongs to whoever runs djops; the servers' account may pass through it to the directories
it owns, and to nothing else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from djops.errors import ConfigError, DjopsError
from djops.systems.files import disk_errors, read_json, write_json
from djops.systems.local.server import Lab
from djops.systems.paths import Account, lab_directory, private_directory, roots
from djops.systems.ports import free_ports

FILE = "lab.json"
_FORMAT = 1


@dataclass(frozen=True)
class LabFile:
    """What ``lab.json`` says.

    Attributes:
        project: Name of the project.
        environment: Name of the environment.
        ports: Ports by name; once promised they stay, because people's credentials name them.
        versions: The version of each server that was brought up.
    """

    project: str
    environment: str
    ports: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def read(directory: Path) -> LabFile | None:
    """Read a lab's file.

    Args:
        directory: The lab's directory.

    Returns:
        What it says, or ``None`` when there is no lab.

    Raises:
        DjopsError: ``E_STATE`` when the file is damaged.
    """
    found = read_json(directory / FILE)
    if found is None:
        return None
    try:
        return LabFile(
            project=str(found["project"]),
            environment=str(found["environment"]),
            ports={str(name): int(port) for name, port in found["ports"].items()},
            versions={str(name): str(version) for name, version in found.get("versions", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DjopsError(
            "this file is not what djops wrote",
            where=str(directory / FILE),
            code="E_STATE",
            hint="restore it from a backup",
        ) from error


def write(directory: Path, file: LabFile) -> None:
    """Write a lab's file.

    Args:
        directory: The lab's directory.
        file: What it shall say.

    Raises:
        DiskFullError: ``E_DISK`` when there is no room.
    """
    content = {
        "format": _FORMAT,
        "project": file.project,
        "environment": file.environment,
        "ports": dict(sorted(file.ports.items())),
        "versions": dict(sorted(file.versions.items())),
    }
    write_json(directory / FILE, content)


def with_ports(file: LabFile, names: Iterable[str]) -> LabFile:
    """Promise a free port to every name that has none yet.

    Args:
        file: What was promised before.
        names: Names of the ports that are needed.

    Raises:
        StartError: ``E_PORT`` when there are not enough free ports.
    """
    missing = [name for name in names if name not in file.ports]
    if not missing:
        return file
    promised = {port for other in _all() for port in other.ports.values()} | set(file.ports.values())
    found = free_ports(len(missing), avoid=promised)
    return replace(file, ports={**file.ports, **dict(zip(missing, found, strict=True))})


def make_directories(directory: Path, account: Account) -> None:
    """Make a lab's directory with what djops itself keeps in it.

    Args:
        directory: The lab's directory, below the data root.
        account: Whom the servers run as.

    Raises:
        ConfigError: ``E_DATA_HOME`` when that account cannot get there.
        DiskFullError: ``E_DISK`` when there is no room.
    """
    mine = account.uid == os.geteuid()
    with disk_errors(directory):
        missing = [parent for parent in directory.parents if not parent.exists()]
        directory.parent.mkdir(parents=True, exist_ok=True)
        for parent in missing:
            parent.chmod(0o700 if mine else 0o711)
        private_directory(directory)
        if not mine:
            os.chown(directory, 0, account.gid)
            directory.chmod(0o710)
            _require_way(directory, account)
        private_directory(directory / "secrets")
        private_directory(directory / "tls").chmod(0o755)


def lab_at(directory: Path, file: LabFile, account: Account, buckets: Iterable[str] = ()) -> Lab:
    """Describe a lab to its servers.

    Args:
        directory: The lab's directory.
        file: What ``lab.json`` says.
        account: Whom the servers run as.
        buckets: Buckets the project's stores need.
    """
    names = tuple(sorted(set(buckets)))
    return Lab(directory, file.project, file.environment, account, dict(file.ports), names)


def find(project: str, environment: str) -> tuple[Path, LabFile | None]:
    """Return where a lab is, and its file when it was ever brought up.

    Args:
        project: Name of the project.
        environment: Name of the environment.
    """
    directory = lab_directory(project, environment)
    return directory, read(directory)


def _all() -> list[LabFile]:
    """Read the files of all labs of this user, as far as they can be read."""
    found = []
    for path in roots().data.glob(f"*/*/{FILE}"):
        try:
            file = read(path.parent)
        except DjopsError:
            continue
        if file is not None:
            found.append(file)
    return found


def _require_way(directory: Path, account: Account) -> None:
    for parent in reversed(directory.parents):
        status = parent.stat()
        bit = stat.S_IXUSR if status.st_uid == account.uid else stat.S_IXOTH
        if status.st_gid == account.gid and status.st_uid != account.uid:
            bit = stat.S_IXGRP
        if not status.st_mode & bit:
            raise ConfigError(
                f"the servers run as the account {account.name!r}, which cannot pass through {parent}",
                where=str(directory),
                code="E_DATA_HOME",
                hint=f"run `chmod o+x {parent}`, or set DJOPS_DATA_HOME to another directory",
            )
