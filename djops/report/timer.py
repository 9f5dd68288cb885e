"""What was done about a timer, in words."""

from __future__ import annotations

from djops.systems.timer import Timer


def timer_text(done: Timer) -> str:
    """Say what was written, and what is left to do where systemd does not run.

    Args:
        done: What was done.
    """
    lines = [f"written: {path}" for path in done.files]
    if done.active:
        always = "" if done.machine else " while you are logged in; always: loginctl enable-linger"
        return "\n".join([*lines, f"systemd runs it every hour{always}"])
    where = "on this machine" if done.machine else "for this user here"
    lines.append(f"systemd does not run {where}; where it does:")
    lines += [f"  {command}" for command in done.by_hand]
    return "\n".join([*lines, "or put this line into a crontab (`crontab -e`):", f"  {done.crontab}"])
