"""Where djops keeps what: data, caches and fetched programs, following the XDG base directories.

As root the places are system directories and the servers run as an account of their own, because
``mysqld`` refuses to run as root and nothing else should.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from djops.errors import InstallError

SYSTEM_ACCOUNT = "djops"


@dataclass(frozen=True)
class Account:
    """The operating-system account that servers run as.

    Attributes:
        name: Account name.
        uid: User id.
        gid: Group id.
    """

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Roots:
    """The directories everything else lies under.

    Attributes:
        data: Servers' data and state; losing it loses the lab.
        cache: Fetched packages; losing it costs a download.
        programs: Unpacked server programs; rebuilt from the cache.
    """

    data: Path
    cache: Path
    programs: Path


def roots() -> Roots:
    """Return the directories for the calling user.

    Returns:
        ``/var/lib/djops`` and ``/var/cache/djops`` for root, the XDG directories for others.
        ``DJOPS_DATA_HOME`` and ``DJOPS_CACHE_HOME`` override both.
    """
    if os.geteuid() == 0:
        data, cache = Path("/var/lib/djops"), Path("/var/cache/djops")
    else:
        home = Path.home()
        data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "djops"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "djops"
    data = Path(os.environ.get("DJOPS_DATA_HOME") or data)
    cache = Path(os.environ.get("DJOPS_CACHE_HOME") or cache)
    return Roots(data=data / "labs", cache=cache / "packages", programs=cache / "programs")


def lab_directory(project: str, environment: str) -> Path:
    """Return the directory of one environment of one project, whether it exists or not."""
    return roots().data / project / environment


def server_account() -> Account:
    """Return the account that servers run as, making it when root has none yet.

    Returns:
        The caller's own account, or for root the system account ``djops``.

    Raises:
        InstallError: ``E_ACCOUNT`` when root cannot make the account.
    """
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    try:
        entry = pwd.getpwnam(SYSTEM_ACCOUNT)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        command += ["--shell", "/usr/sbin/nologin", SYSTEM_ACCOUNT]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            said = done.stderr.strip()
        except subprocess.TimeoutExpired:
            said = "useradd did not end within 60 s"
        try:
            entry = pwd.getpwnam(SYSTEM_ACCOUNT)  # of two at once, the other may have made it
        except KeyError:
            raise InstallError(
                f"root cannot run the servers itself, and the account {SYSTEM_ACCOUNT!r} could not be made: "
                f"{said}",
                code="E_ACCOUNT",
                hint=f"make it by hand: {' '.join(command)}",
            ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def private_directory(path: Path, owner: Account | None = None) -> Path:
    """Make a directory that only its owner can enter, and every missing parent.

    Args:
        path: The directory.
        owner: Who shall own it; the caller when ``None``.

    Returns:
        ``path``.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    if owner is not None and os.geteuid() == 0:
        os.chown(path, owner.uid, owner.gid)
    return path
