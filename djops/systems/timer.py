"""A systemd timer of the calling user that runs one djops command every hour."""

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
{variables}ExecStart={command}
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
    """

    files: tuple[Path, ...]
    active: bool
    by_hand: tuple[str, ...]
    crontab: str


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
    service, timer = _files(project, environment)
    service.parent.mkdir(parents=True, exist_ok=True)
    text = _SERVICE.format(**facts, variables=variables, command=" ".join(map(_quoted, command)))
    write_private(service, text)
    write_private(timer, _TIMER.format(**facts))
    commands = ("systemctl --user daemon-reload", f"systemctl --user enable --now {timer.name}")
    return Timer((service, timer), _run(commands), commands, _crontab(command))


def remove(project: str, environment: str) -> Timer:
    """Switch the timer off and remove its units. Idempotent.

    Args:
        project: Name of the project.
        environment: Name of the environment.

    Returns:
        What was done.
    """
    service, timer = _files(project, environment)
    there = tuple(path for path in (service, timer) if path.exists())
    off = _run((f"systemctl --user disable --now {timer.name}",)) if there else False
    for path in there:
        path.unlink()
    return Timer(there, off and _run(("systemctl --user daemon-reload",)), (), "")


def _files(project: str, environment: str) -> tuple[Path, Path]:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    name = f"djops-expire-{project}-{environment}"
    folder = home / "systemd" / "user"
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
