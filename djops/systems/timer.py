"""A systemd timer that runs one djops command every hour: the machine's for root, else the user's own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from djops.systems.files import write_private

MINUTE = 2
"""Of every hour: grants end with a day (UTC), and two minutes leave room for clocks that differ."""

_KEPT_VARIABLES = ("DJOPS_DATA_HOME", "DJOPS_CACHE_HOME")

_SERVICE = """\
# Written by `djops expire --install-timer`; `djops expire --remove-timer` removes it.
[Unit]
Description=Revoke what expired: djops project {project}, environment {environment}

[Service]
Type=oneshot
{account}{variables}ExecStart={command}
UMask=0077
NoNewPrivileges=yes
"""

_TIMER = """\
# Written by `djops expire --install-timer`; `djops expire --remove-timer` removes it.
[Unit]
Description=Revoke what expired, every hour: djops project {project}, environment {environment}

[Timer]
OnCalendar=*-*-* *:{minute:02}:00
Persistent=true

[Install]
WantedBy=timers.target
"""


@dataclass(frozen=True)
class Timer:
    """What was done about a timer.

    Attributes:
        files: The unit files that were written or removed.
        active: Whether systemd knows about it.
        by_hand: Commands that are left to do where it does not.
        crontab: A line for a crontab that does the same.
        machine: Whether it is the machine's, and does not wait for anybody's log-in.
    """

    files: tuple[Path, ...]
    active: bool
    by_hand: tuple[str, ...]
    crontab: str
    machine: bool = False


def install(project: str, environment: str, directory: Path) -> Timer:
    """Write the units and switch the timer on. Idempotent.

    Args:
        project: Name of the project.
        environment: Name of the environment.
        directory: Where djops.yaml is.

    Returns:
        What was done; that systemd does not run for this user is a result, not an error.

    Raises:
        DiskFullError: ``E_DISK`` when there is no room.
    """
    command = _command(directory, environment)
    facts = {"project": project, "environment": environment, "minute": MINUTE}
    variables = "".join(
        f"Environment={_quoted(f'{name}={os.environ[name]}', dollar='$')}\n"
        for name in _KEPT_VARIABLES
        if name in os.environ
    )
    machine = os.geteuid() == 0
    service, timer = _files(_folder(machine=machine), project, environment)
    # Services of the machine have no HOME unless they have an account.
    account = "User=root\n" if machine else ""
    service.parent.mkdir(parents=True, exist_ok=True)
    words = " ".join(map(_quoted, command))
    text = _SERVICE.format(**facts, account=account, variables=variables, command=words)
    write_private(service, text)
    write_private(timer, _TIMER.format(**facts))
    commands = (_systemctl("daemon-reload", machine), _systemctl(f"enable --now {timer.name}", machine))
    return Timer((service, timer), _run(commands), commands, _crontab(command), machine)


def remove(project: str, environment: str) -> Timer:
    """Switch the timer off and remove its units. Idempotent.

    Args:
        project: Name of the project.
        environment: Name of the environment.

    Returns:
        What was done.
    """
    removed: list[Path] = []
    off = True
    for machine in (True, False) if os.geteuid() == 0 else (False,):
        service, timer = _files(_folder(machine=machine), project, environment)
        there = [path for path in (service, timer) if path.exists()]
        if there:
            off = _run((_systemctl(f"disable --now {timer.name}", machine),)) and off
            for path in there:
                path.unlink()
            off = _run((_systemctl("daemon-reload", machine),)) and off
        removed += there
    return Timer(tuple(removed), bool(removed) and off, (), "")


def _systemctl(words: str, machine: bool) -> str:
    return f"systemctl {words}" if machine else f"systemctl --user {words}"


def _folder(*, machine: bool) -> Path:
    """Return where units are put: the first place that systemd reads, or the one for administrators."""
    if machine:
        return Path(os.environ.get("SYSTEMD_UNIT_PATH", "").split(":")[0] or "/etc/systemd/system")
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "systemd" / "user"


def _files(folder: Path, project: str, environment: str) -> tuple[Path, Path]:
    name = f"djops-expire-{project}-{environment}"
    return folder / f"{name}.service", folder / f"{name}.timer"


def _command(directory: Path, environment: str) -> tuple[str, ...]:
    program = (sys.executable, "-m", "djops.cli.main")
    return (*program, "expire", "--quiet", "-C", str(directory.absolute()), "--env", environment)


def _quoted(word: str, *, dollar: str = "$$") -> str:
    """Quote a word for a unit file, where % and $ also have a meaning (systemd.service(5))."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", dollar)
    return f'"{plain}"'


def _crontab(command: Sequence[str]) -> str:
    """Write a crontab line, in which % is a line end (crontab(5))."""
    return f"{MINUTE} * * * *  {shlex.join(command)}".replace("%", "\\%")


def _run(commands: Sequence[str]) -> bool:
    """Run commands until one fails, and tell whether all went well."""
    for command in commands:
        try:
            done = subprocess.run(
                shlex.split(command), capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode != 0:
            return False
    return True
