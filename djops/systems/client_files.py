"""What lies around a person's DataJoint client: files it reads, files it ignores, modes, git's memory.

Names and precedence were measured with 2.3.5.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from djops.systems.process import reap

SETTINGS, SECRETS = "datajoint.json", ".secrets"

READ = re.compile(r"database\.(user|password)|stores\.[^.]+\.[^.]+")
"""Names in ``.secrets`` that the client reads."""

WINS = ("DJ_HOST", "DJ_USER", "DJ_PASS", "DJ_PORT", "DJ_BACKEND")
"""Variables that beat every file."""

IGNORED_NAMES: Mapping[str, str] = {
    "datajoint.json": "the client reads datajoint.json beside .secrets, not in it",
    "storage.access_key": "the client reads stores.STORE.access_key",
    "storage.secret_key": "the client reads stores.STORE.secret_key",
    "storage.credentials": "the client reads stores.STORE.access_key and stores.STORE.secret_key",
    "database.host": "the client reads the host in datajoint.json",
    "database.port": "the client reads the port in datajoint.json",
    "database.username": "the client reads database.user",
}
"""Names that documents recommend or people try, with what the client reads instead."""

IGNORED_BESIDE: Mapping[str, str] = {
    "dj_local_conf.json": "DataJoint 2 reads datajoint.json; this is the older client's, and MATLAB's",
    ".datajoint_config.json": "DataJoint 2 reads datajoint.json; this is the older client's, and MATLAB's",
    "datajoint.yaml": "the client reads datajoint.json",
    ".env": "the client reads no .env; what loads it may",
}

_CODE = re.compile(r"<\s*(?P<codec>[A-Za-z_]\w*)@\s*>")
_SKIPPED = {".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", "site-packages"}
_GIT_SECONDS = 60


@dataclass(frozen=True)
class Found:
    """Where the client finds its settings from a directory.

    Attributes:
        settings: The ``datajoint.json`` that it reads, if any.
        secrets: The directory of secrets that it reads, if any.
        above: A ``datajoint.json`` that it does not reach, because a repository begins in between.
    """

    settings: Path | None
    secrets: Path | None
    above: Path | None = None


def find(directory: Path) -> Found:
    """Look for the settings as the client does: upward, to the top of the repository.

    Args:
        directory: Where the client is started.
    """
    here, stopped, above = directory.resolve(), False, None
    for folder in (here, *here.parents):
        if (folder / SETTINGS).is_file():
            if stopped:
                above = folder / SETTINGS
                break
            secrets = folder / SECRETS
            system = Path("/run/secrets/datajoint")
            used = secrets if secrets.is_dir() else system if system.is_dir() else None
            return Found(folder / SETTINGS, used)
        stopped = stopped or (folder / ".git").exists() or (folder / ".hg").exists()
    return Found(None, None, above)


def too_open(path: Path) -> str | None:
    """Say who but its owner may read a file or list a directory; ``None`` when nobody may."""
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        return "it belongs to somebody else"
    return f"mode {mode:04o} lets others in" if mode & 0o077 else None


def git_root(directory: Path) -> Path | None:
    """Return the top of the repository that a directory lies in."""
    here = directory.resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)


def in_history(root: Path, secrets: Sequence[str]) -> tuple[str, ...]:
    """Find secrets in everything that a repository has ever held, without showing them to other processes.

    Args:
        root: The top of the repository.
        secrets: The secrets.

    Returns:
        Commits, short, in which one stands; newest first.

    Raises:
        OSError: There is no git, or it does not answer.
    """
    wanted = [secret.encode() for secret in secrets if secret]
    plain = ("--patch", "--no-color", "--no-ext-diff", "--text")
    command = ["git", "-C", str(root), "log", "--all", "--format=%x00%h", *plain]
    found: list[str] = []
    commit = ""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None  # noqa: S101  it is a pipe
    try:
        for line in process.stdout:
            if line.startswith(b"\0"):
                commit = line[1:].strip().decode(errors="replace")
            elif line.startswith((b"+", b"-")) and commit not in found and any(one in line for one in wanted):
                found.append(commit)
    finally:
        process.stdout.close()
        reap(process)
    return tuple(found)


def is_tracked(root: Path, path: Path) -> bool:
    """Tell whether git keeps a file, or would with the next ``git add .``."""
    tracked = _git(root, "ls-files", "--error-unmatch", "--", str(path))
    return tracked == 0 or _git(root, "check-ignore", "-q", "--", str(path)) == 1


def _git(root: Path, *arguments: str) -> int:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return -1
    return done.returncode


def nameless_stores(root: Path) -> Iterator[tuple[Path, int, str]]:
    """Find codecs without a store's name, which the client refuses when a row is inserted.

    Args:
        root: Where Python code lies.

    Yields:
        File, line number, and the codec.
    """
    for folder, below, files in os.walk(root):
        below[:] = sorted(set(below) - _SKIPPED)
        for name in sorted(files):
            if name.endswith(".py"):
                path = Path(folder) / name
                for number, line in enumerate(_lines(path), 1):
                    for match in _CODE.finditer(line.partition("#")[0]):
                        yield path, number, match["codec"]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
