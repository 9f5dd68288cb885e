"""Searches for secrets where none may be: command lines, logs, journals, reports, temporary files, git.

While tests run, every secret that passes through this process is noted, in memory only; so is the command
line of every process on the machine. When a lab ends, whatever its secrets server and its files of
credentials hold is added, and what the lab leaves on the disk and in its journal is searched; the rest when
the run ends. ``grep -F`` does the searching, with the secrets handed over through memory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from djops.compile.mysql_manager import EVENT_SCHEMA, JOURNAL_TABLE
from djops.compile.vault import MOUNT
from djops.errors import DjopsError
from djops.services import lab as labs
from djops.services.site import own_environment
from djops.systems import passwords
from djops.systems.connections import Secret
from djops.systems.files import read_json
from djops.systems.local import labfile, mysql, openbao
from djops.systems.local.server import Lab
from djops.systems.mysql import Mysql
from djops.systems.paths import server_account
from djops.systems.vault import Secrets
from tests.support import labs as homes

PAUSE = 0.05
"""Seconds between two looks at the machine's processes; each reads only what is new."""

_SHORTEST, _FEWEST_DIFFERENT = 16, 8
"""Of what djops makes nothing is shorter or more uniform; tests' own ``x`` and ``secret`` are."""

_SETTLED = 3
"""A process that was read so often has become what it was started for."""

_NAMELESS = 10.0
"""Seconds after which whatever has no command line will get none: threads of the kernel, and the dead."""

_SECRET_FIELDS = ("password", "secret_key", "secret_id", "password_next")

_MEANT = (
    re.compile(r"/\.secrets/[^/]+$"),  # what the DataJoint client reads
    re.compile(r"/secrets/[^/]+$"),  # djops' own log-ins, and what `password: {file: secrets/...}` names
    re.compile(r"\.link$"),  # `djops onboard --to`
    re.compile(r"/openbao/(seal\.key|first-start/[^/]+)$"),
    re.compile(r"/tls/[^/]+\.key$"),
)
"""Where secrets belong, in files that only their owner can read."""


@dataclass(frozen=True)
class Found:
    """A secret where none may be.

    Attributes:
        where: The file, the process, the row.
        origin: What kind of secret; never the secret.
    """

    where: str
    origin: str


class SecretSearch:
    """What is known, what was seen, and what was found.

    Args:
        own: Texts in which tests themselves spell out values: those are no secrets.
        processes: Where the machine tells its processes.
    """

    def __init__(self, own: str = "", processes: str = "/proc") -> None:
        self._processes = processes
        self.found: list[Found] = []
        self.known: dict[bytes, str] = {}
        self.commands: set[bytes] = set()
        self.labs: list[str] = []
        self._own, self._spelled_out = own.encode(), dict[bytes, bool]()
        self._read: dict[tuple[int, int], int] = {}
        self._nameless: dict[tuple[int, int], float] = {}

    # What is secret

    def know(self, value: str | bytes, origin: str) -> None:
        """Note a secret.

        Args:
            value: The secret; of one with several lines the longest counts.
            origin: What it is, for whoever reads the outcome.
        """
        raw = value.encode() if isinstance(value, str) else value
        line = max(raw.splitlines(), key=len, default=b"")
        if len(line) >= _SHORTEST and len(set(line)) >= _FEWEST_DIFFERENT and line not in self.known:
            self.known[line] = origin

    def know_lab(self, lab: Lab) -> None:
        """Note what a lab's files of credentials and its secrets server hold, as far as it answers."""
        for file in lab.secrets.glob("*.json"):
            for field, value in (read_json(file) or {}).items():
                if field in _SECRET_FIELDS:
                    self.know(str(value), f"{file.name}: {field}")
        for file in [*lab.directory.glob("tls/*.key"), *lab.directory.glob("openbao/seal.key")]:
            self.know(file.read_bytes(), str(file))
        with contextlib.suppress(DjopsError), Secrets(openbao.connection(lab), timeout=5) as session:
            for path in _paths(session, f"{lab.project}/"):
                session.read_secret(path)  # what is read is noted; see `watching`

    # Processes

    def look_at_processes(self) -> None:
        """Read the command lines of processes that are new, or were a moment ago."""
        for name in os.listdir(self._processes):  # noqa: PTH208  ten times faster than a Path for each
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                key = (int(name), os.stat(f"{self._processes}/{name}").st_ctime_ns)  # noqa: PTH116
                if (times := self._read.get(key, 0)) < _SETTLED:
                    with open(f"{self._processes}/{name}/cmdline", "rb") as file:  # noqa: PTH123
                        line = file.read().replace(b"\0", b" ").replace(b"\n", b" ")
                    self.commands.add(line)
                    # In the midst of an exec the old line is gone and the new one is not there yet.
                    until = self._nameless.setdefault(key, time.monotonic() + _NAMELESS)
                    self._read[key] = times + (bool(line) or time.monotonic() > until)

    def saw_command(self, arguments: object) -> None:
        """Note what a process of ours is started with."""
        words = [arguments] if isinstance(arguments, str | bytes | os.PathLike) else arguments
        if isinstance(words, Iterable):
            line = b" ".join(os.fsencode(word) for word in words)
            self.commands.add(line.replace(b"\n", b" "))

    def judge_commands(self) -> None:
        """Search what was seen of command lines, with all that is known by now."""
        for line in self._matching_lines(b"\n".join(sorted(self.commands))):
            self._found(f"a command line: {line.split(b' ')[0].decode(errors='replace')}", line)

    # Files, rows, git

    def look_at_lab(self, directory: Path) -> None:
        """Search a lab: logs, data, and the journal's rows.

        Ceph's own store is left out: the object store keeps the keys of its users as they are.

        Args:
            directory: The lab's directory.
        """
        if (file := labfile.read(directory)) is None:
            return
        lab = labfile.lab_at(directory, file, server_account())
        self.know_lab(lab)
        self.labs.append(file.project)
        parts = [part for part in directory.iterdir() if part.name != "ceph"]
        self.look_at_files(*parts, *directory.glob("ceph/log"), *directory.glob("ceph/ceph.conf"))
        with contextlib.suppress(DjopsError):
            if (manager := mysql.manager_connection(lab)) is not None:
                with Mysql(manager) as server:
                    rows = server.query(f"SELECT * FROM `{EVENT_SCHEMA}`.`{JOURNAL_TABLE}`")
                lines = "\n".join(str(row).replace("\n", " ") for row in rows).encode()
                for line in self._matching_lines(lines):
                    self._found(f"a row of {file.project}'s journal", line)

    def look_at_home(self, base: Path) -> None:
        """Search all labs of a data home, and what else lies there."""
        for file in base.glob("**/lab.json"):
            self.look_at_lab(file.parent)
        self.look_at_files(*(part for part in base.iterdir() if part.name != "labs"))

    def look_at_files(self, *places: Path) -> None:
        """Search files and folders, and the objects of git repositories in them."""
        there = [str(place) for place in places if place.exists()]
        if not there:
            return
        for name in self._grep("-rlZ", "-D", "skip", "--", *there).split(b"\0"):
            path = Path(os.fsdecode(name))
            with contextlib.suppress(OSError):  # it may be gone by now
                if name and not self._is_meant(path):
                    self._found(str(path), path.read_bytes())
        repositories = ["find", *there, "-type", "d", "-name", "objects", "-prune", "-print0"]
        for name in subprocess.run(repositories, capture_output=True, check=False).stdout.split(b"\0"):
            if name and (Path(os.fsdecode(name)).parent / "HEAD").exists():
                self._look_at_git(Path(os.fsdecode(name)).parent)

    def _look_at_git(self, directory: Path) -> None:
        command = ["git", f"--git-dir={directory}", "cat-file", "--batch-all-objects", "--batch", "--buffer"]
        content = subprocess.run(command, capture_output=True, check=False).stdout
        for line in self._matching_lines(content):
            self._found(f"an object of the git repository {directory}", line)

    def _is_meant(self, path: Path) -> bool:
        """Tell whether secrets belong into a file, and nobody but its owner can read it."""
        text = str(path)
        return any(place.search(text) for place in _MEANT) and not stat.S_IMODE(path.stat().st_mode) & 0o077

    # Searching

    def _found(self, where: str, content: bytes) -> None:
        for value, origin in list(self.known.items()):
            if value in content:
                self.found.append(Found(where, origin))

    def _matching_lines(self, content: bytes) -> list[bytes]:
        return self._grep(content=content).splitlines()

    def _grep(self, *arguments: str, content: bytes = b"") -> bytes:
        known = list(self.known)
        if fresh := [value for value in known if value not in self._spelled_out]:
            examples = set(_fgrep(fresh, "-o", content=self._own).splitlines())
            self._spelled_out |= {value: value in examples for value in fresh}
        return _fgrep([value for value in known if not self._spelled_out[value]], *arguments, content=content)


def _fgrep(values: Sequence[bytes], *arguments: str, content: bytes) -> bytes:
    """Search for values, which are handed over through memory, and return what ``grep`` prints."""
    if not values:
        return b""
    handle = os.memfd_create("patterns", 0)
    try:
        with os.fdopen(os.dup(handle), "wb") as patterns:
            patterns.write(b"\n".join(values) + b"\n")
        command = ["grep", "-aF", "-f", f"/proc/self/fd/{handle}", *arguments]
        return subprocess.run(
            command, input=content, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"}, pass_fds=(handle,), check=False,
        ).stdout  # fmt: skip
    finally:
        os.close(handle)


@functools.cache
def spelled_out() -> str:
    """Return the text of all tests: a value that stands there is an example, no secret."""
    tests = Path(__file__).parents[1]
    files = [path for path in sorted(tests.rglob("*")) if path.suffix in (".py", ".yaml", ".json", ".txt")]
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)


@contextlib.contextmanager
def watching(search: SecretSearch, *places: Path) -> Iterator[SecretSearch]:
    """Note secrets and command lines while something runs, and search labs that end and the places.

    Args:
        search: Where to note it.
        places: Folders to search in the end.
    """
    over, began = threading.Event(), time.time()

    def watch() -> None:
        while not over.wait(PAUSE):
            search.look_at_processes()

    watcher = threading.Thread(target=watch, name="secret search", daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        _note_secrets(patch, search)
        _note_processes(patch, search)
        _search_what_ends(patch, search)
        watcher.start()
        try:
            yield search
        finally:
            over.set()
            watcher.join(120)
            search.look_at_files(*places, *_temporary(began))
            search.judge_commands()


def _temporary(since: float) -> list[Path]:
    """Return what was put directly into the directory of temporary files, by us or by somebody else."""
    found = []
    for path in Path(tempfile.gettempdir()).iterdir():
        with contextlib.suppress(OSError):
            about = path.lstat()
            ours = stat.S_ISREG(about.st_mode) or path.name.startswith("tmp")
            if ours and about.st_mtime >= since:
                found.append(path)
    return found


def _note_secrets(patch: pytest.MonkeyPatch, search: SecretSearch) -> None:
    """Have this process note passwords it makes, and whatever it hands to or gets from secrets servers."""

    def secret(self: Secret, value: str) -> None:
        _plain_secret(self, value)
        frame = sys._getframe(1)
        search.know(value, f"a secret of {frame.f_code.co_filename}:{frame.f_lineno}")

    def generate(length: int = 32) -> str:
        made = _plain_generate(length)
        search.know(made, "a password that djops made")
        return made

    def read(self: Secrets, path: str) -> Any:
        stored = _plain_read(self, path)
        _know_fields(search, path, stored.fields if stored else {})
        return stored

    def write(self: Secrets, path: str, fields: Mapping[str, str], cas: int) -> int:
        _know_fields(search, path, fields)
        return _plain_write(self, path, fields, cas)

    _plain_secret, _plain_generate = Secret.__init__, passwords.generate
    _plain_read, _plain_write = Secrets.read_secret, Secrets.write_secret
    patch.setattr(Secret, "__init__", secret)
    patch.setattr(passwords, "generate", generate)
    patch.setattr(Secrets, "read_secret", read)
    patch.setattr(Secrets, "write_secret", write)


def _know_fields(search: SecretSearch, path: str, fields: Mapping[str, str]) -> None:
    for name, value in fields.items():
        if not name.endswith((".user", ".access_key")) and name not in ("user", "access_key"):
            search.know(value, f"{path}: {name}")


def _note_processes(patch: pytest.MonkeyPatch, search: SecretSearch) -> None:
    """Have this process note what it starts: a process may be gone before the watcher's next look."""

    def begin(self: Any, arguments: Any, *more: Any, **options: Any) -> None:
        search.saw_command(arguments)
        plain(self, arguments, *more, **options)

    plain = subprocess.Popen.__init__
    patch.setattr(subprocess.Popen, "__init__", begin)


def _search_what_ends(patch: pytest.MonkeyPatch, search: SecretSearch) -> None:
    """Have labs searched while they are still there."""

    def down(project: Any, environment: str | None = None, *, purge: bool = False, **options: Any) -> Any:
        if purge:
            with contextlib.suppress(DjopsError, OSError):
                name = own_environment(project, environment)
                search.look_at_lab(labfile.find(project.project, name)[0])
        return plain(project, environment, purge=purge, **options)

    plain = labs.down
    patch.setattr(labs, "down", down)
    patch.setattr(homes, "before_end", search.look_at_home)


def _paths(session: Secrets, below: str) -> Iterator[str]:
    answer = session.request("LIST", f"{MOUNT}/metadata/{below}") or {}
    for name in (answer.get("data") or {}).get("keys", ()):
        if str(name).endswith("/"):
            yield from _paths(session, f"{below}{name}")
        else:
            yield f"{below}{name}"
