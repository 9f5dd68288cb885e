"""Programs on this machine that are asked one question."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def output(command: Sequence[str], seconds: float = 30) -> str:
    """Return what a program prints on standard output; nothing when it cannot be run or takes too long.

    Args:
        command: The program and its arguments; none of them secret.
        seconds: How long it may take.
    """
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout
