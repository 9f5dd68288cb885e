"""Labs for tests: a bare directory for one server, or a whole project with all three."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from djops.systems import tls
from djops.systems.local import labfile
from djops.systems.local.labfile import LabFile
from djops.systems.local.server import Lab, Server
from djops.systems.paths import lab_directory, server_account

_PREFIX = "djops-test-"
_OWNER = "owner"
RUN = "DJOPS_TEST_RUN"
"""The variable by which the processes of one run know each other; it names the one that began it."""


@dataclass(frozen=True)
class Home:
    """A directory that somebody's tests keep labs in.

    Attributes:
        base: The directory.
        owner: The process that runs the tests.
        run: The process that was told to run the suite: the same, or the one that shares it out.
    """

    base: Path
    owner: int
    run: int


def homes() -> Iterator[Home]:
    """Yield every home on this machine."""
    for base in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            owner, run = map(int, (base / _OWNER).read_text().split())
            yield Home(base, owner, run)


def is_alive(pid: int) -> bool:
    """Tell whether a process still runs.

    Args:
        pid: Its id.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _sweep() -> None:
    """End what a killed run of the suite left behind: its servers, then its directory."""
    for home in homes():
        if not is_alive(home.owner):
            with contextlib.suppress(OSError):
                kill_all(home.base)
                shutil.rmtree(home.base)


@contextlib.contextmanager
def at_home(base: Path) -> Iterator[None]:
    """Let whatever runs inside keep its labs in a directory.

    Args:
        base: The directory.
    """
    before = os.environ.get("DJOPS_DATA_HOME")
    os.environ["DJOPS_DATA_HOME"] = str(base)
    try:
        yield
    finally:
        if before is None:
            del os.environ["DJOPS_DATA_HOME"]
        else:
            os.environ["DJOPS_DATA_HOME"] = before


def before_end(_base: Path) -> None:
    """Do what is to be done while a home's labs are still there; for others to replace."""


@contextlib.contextmanager
def data_home() -> Iterator[Path]:
    """Give labs a place of their own; in the end, kill what still runs there and remove it."""
    _sweep()
    # Not pytest's directory: nobody but the caller can enter that, and servers have an account of their own.
    base = Path(tempfile.mkdtemp(prefix=_PREFIX))
    base.chmod(0o711)
    (base / _OWNER).write_text(f"{os.getpid()} {os.environ.get(RUN, os.getpid())}")
    try:
        with at_home(base):
            yield base
            before_end(base)
    finally:
        kill_all(base)
        shutil.rmtree(base)


def bare_lab(kind: type[Server], project: str) -> Lab:
    """Make what one server needs of a lab, below the current data home.

    Args:
        kind: The server's class.
        project: Name of the project.
    """
    account = server_account()
    directory = lab_directory(project, "local")
    labfile.make_directories(directory, account)
    tls.ensure(directory / "tls", project, account)
    file = labfile.with_ports(LabFile(project, "local"), kind.port_names)
    labfile.write(directory, file)
    return labfile.lab_at(directory, file, account)


@dataclass(frozen=True)
class Process:
    """A process that has to do with a directory.

    Attributes:
        pid: Its id.
        arguments: Its command line.
    """

    pid: int
    arguments: tuple[str, ...]


def processes_of(directory: Path) -> list[Process]:
    """Find all live processes whose command line names a directory.

    Args:
        directory: The directory.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX" and any(str(directory) in argument for argument in arguments):
            found.append(Process(int(entry.name), tuple(arguments)))
    return found


def kill_all(directory: Path) -> None:
    """Kill every process whose command line names a directory; for the end of a test.

    Args:
        directory: The directory.
    """
    for process in processes_of(directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
