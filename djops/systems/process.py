"""Programs that outlive djops, and programs djops waits for.

A pid alone proves nothing: numbers are used again, and what runs through a private prefix's loader is
called ``ld-linux`` whatever it is. So a pid file holds the boot's id and the process's whole line of
``/proc/PID/stat``, whose start time makes it unique. The process writes it itself, before it becomes
the server: no server can ever run without one, whenever djops is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djops.errors import DjopsError
from djops.systems.paths import Account

# $1 pid file, $2 log or "-"; the rest is the program. Redirections are made here, as the account the
# server runs as, so that nothing it owns can lead root astray by a symbolic link.
_LAUNCH = """
pid_file=$1 log=$2; shift 2
[ "$log" = - ] || exec >>"$log" 2>&1
read -r boot </proc/sys/kernel/random/boot_id || exit 125
read -r stat </proc/self/stat || exit 125
printf '%s\\n%s\\n' "$boot" "$stat" >"$pid_file.$$" || exit 125
mv -f "$pid_file.$$" "$pid_file" || exit 125
exec "$@"
"""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_REAP_SECONDS = 10.0
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class _Stat:
    """What matters of ``/proc/PID/stat``; field numbers are those of proc(5)."""

    pid: int
    state: str
    started: int

    @classmethod
    def parse(cls, line: str) -> _Stat:
        # The command name stands in parentheses and may hold anything, parentheses too.
        head, _, tail = line.rpartition(")")
        fields = tail.split()
        return cls(pid=int(head.split("(", 1)[0]), state=fields[0], started=int(fields[19]))


def environment(directory: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the whole environment of a server: nothing of the user's own leaks into it.

    Args:
        directory: Used as home directory.
        extra: Further variables.
    """
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        **(extra or {}),
    }


def spawn(
    argv: Sequence[str | Path],
    *,
    directory: Path,
    pid_file: Path,
    log: Path,
    account: Account,
    extra_environment: Mapping[str, str] | None = None,
) -> int:
    """Start a program that goes on when djops ends, unless its pid file says that it runs.

    Args:
        argv: The program and its arguments; no secrets, everybody can read them.
        directory: Working directory, owned by ``account``.
        pid_file: Where its identity is kept, in a directory that ``account`` can write.
        log: Gets everything it prints.
        account: Whom it runs as; only root can choose another than itself.
        extra_environment: Variables beside the clean set.

    Returns:
        Its process id.

    Raises:
        DjopsError: ``E_START`` when it cannot be started at all.
    """
    running = running_pid(pid_file, account)
    if running is not None:
        return running
    child = _launch(argv, directory, pid_file, str(log), account, extra_environment, subprocess.DEVNULL)
    _children[child.pid] = child
    deadline = time.monotonic() + 10
    while child.poll() is None and time.monotonic() < deadline:
        if running_pid(pid_file, account) == child.pid:
            break
        time.sleep(0.002)
    return child.pid


def run(
    argv: Sequence[str | Path],
    *,
    directory: Path,
    pid_file: Path,
    account: Account,
    extra_environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, first ending what a killed djops left running of the same kind.

    Args:
        argv: The program and its arguments; no secrets, everybody can read them.
        directory: Working directory, owned by ``account``.
        pid_file: Where its identity is kept while it runs; gone afterwards.
        account: Whom it runs as; only root can choose another than itself.
        extra_environment: Variables beside the clean set.
        stdin: Text for its standard input.
        timeout: Seconds after which it is killed.

    Returns:
        Exit status and output.

    Raises:
        DjopsError: ``E_START`` when it cannot be started or takes too long.
    """
    terminate(pid_file, account, grace=0)
    child = _launch(argv, directory, pid_file, "-", account, extra_environment, subprocess.PIPE)
    try:
        out, err = child.communicate(None if stdin is None else stdin.encode(), timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise DjopsError(
            f"{_name(argv)} did not end within {timeout:.0f} s", where=str(directory), code="E_START"
        ) from error
    finally:
        if child.poll() is None:
            # What it started may hold its output open, and would be waited for.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            reap(child)
        with contextlib.suppress(OSError):
            pid_file.unlink(missing_ok=True)
    text = [stream.decode(errors="replace") for stream in (out, err)]
    return subprocess.CompletedProcess([str(part) for part in argv], child.returncode, *text)


def reap(child: subprocess.Popen[Any]) -> None:
    """Kill a child and wait for it, but not for one that the kernel does not let go; close its pipes.

    Args:
        child: The child; it may have ended already.
    """
    child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_REAP_SECONDS)
    for stream in (child.stdin, child.stdout, child.stderr):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()


def running_pid(pid_file: Path, account: Account) -> int | None:
    """Return the process a pid file is about, when it still is that very process.

    Args:
        pid_file: Written by :func:`spawn` or :func:`run`.
        account: Whom the process must belong to; a pid file is the server's own and could name any.
    """
    try:
        boot, line = pid_file.read_text().splitlines()[:2]
        recorded = _Stat.parse(line)
        if boot != _BOOT_ID.read_text().strip():
            return None
        process = Path("/proc") / str(recorded.pid)
        now = _Stat.parse((process / "stat").read_text())
        owner = _real_uid(process)
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    if now.started != recorded.started or now.state in "ZX":
        _reap(recorded.pid)
        return None
    return recorded.pid if owner == account.uid else None


def terminate(pid_file: Path, account: Account, *, grace: float = 20) -> bool:
    """End the process a pid file is about: SIGTERM, then SIGKILL; then remove the file.

    Args:
        pid_file: Written by :func:`spawn` or :func:`run`.
        account: Whom the process must belong to.
        grace: Seconds between the two signals.

    Returns:
        Whether there was one to end.

    Raises:
        DjopsError: ``E_STOP`` when it survives both.
    """
    pid = running_pid(pid_file, account)
    if pid is not None:
        signals = ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0))
        if not any(_signal_and_wait(pid, number, pid_file, account, seconds) for number, seconds in signals):
            raise DjopsError(f"process {pid} cannot be ended", where=str(pid_file), code="E_STOP")
    with contextlib.suppress(OSError):
        pid_file.unlink(missing_ok=True)
    return pid is not None


def fate(pid_file: Path) -> str:
    """Say how the program of a pid file ended, as far as this process started it; empty otherwise.

    Args:
        pid_file: Written by :func:`spawn`.
    """
    try:
        child = _children.get(_Stat.parse(pid_file.read_text().splitlines()[1]).pid)
    except (OSError, ValueError, IndexError):
        return ""
    status = None if child is None else child.poll()
    if status is None:
        return ""
    return f"by signal {-status}" if status < 0 else f"with status {status}"


def tail(log: Path, lines: int = 15) -> list[str]:
    """Return the last lines of a log.

    Args:
        log: The file; it may be missing.
        lines: How many at most.
    """
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 300 * lines))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def _launch(
    argv: Sequence[str | Path],
    directory: Path,
    pid_file: Path,
    log: str,
    account: Account,
    extra: Mapping[str, str] | None,
    streams: int,
) -> subprocess.Popen[bytes]:
    other = account if os.geteuid() == 0 and account.uid != 0 else None
    command = ["/bin/sh", "-c", _LAUNCH, "djops", str(pid_file), log, *map(str, argv)]
    try:
        return subprocess.Popen(
            command,
            cwd=directory,
            env=environment(directory, extra),
            stdin=streams,
            stdout=streams,
            stderr=streams,
            start_new_session=True,
            user=other.uid if other else None,
            group=other.gid if other else None,
            extra_groups=[] if other else None,
            umask=0o077,
        )
    except OSError as error:
        raise DjopsError(
            f"{_name(argv)} could not be started: {error.strerror}", where=str(directory), code="E_START"
        ) from error


def _name(argv: Sequence[str | Path]) -> str:
    """Name the program meant, past the loader and its options."""
    names = [Path(part).name for part in map(str, argv[:4])]
    if names[0].startswith("ld-linux") and len(names) == 4:
        return names[3]
    return names[0]


def _real_uid(process: Path) -> int:
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith("Uid:"))
    return int(line.split()[1])


def _signal_and_wait(
    pid: int, number: signal.Signals, pid_file: Path, account: Account, seconds: float
) -> bool:
    if seconds <= 0:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        _reap(pid)
        if running_pid(pid_file, account) != pid:
            return True
        time.sleep(0.02)
    return False


def _reap(pid: int) -> None:
    child = _children.get(pid)
    if child is not None:
        child.poll()
