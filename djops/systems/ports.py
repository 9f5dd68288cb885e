"""TCP ports on loopback: finding free ones, and who holds one."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from djops.errors import StartError

HOST = "127.0.0.1"
_LOWEST, _HIGHEST = 15000, 65535
_LISTEN = "0A"  # state TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True)
class Holder:
    """Who listens on a port.

    Attributes:
        pid: Process id, ``None`` when the process belongs to somebody else.
        arguments: Its command line.
    """

    pid: int | None
    arguments: str

    def __str__(self) -> str:
        if self.pid is None:
            return "a process of another user"
        text = self.arguments if len(self.arguments) <= 60 else self.arguments[:57] + "..."
        return f"process {self.pid} ({text})"


def free_ports(count: int, avoid: Collection[int] = ()) -> list[int]:
    """Return ports nobody listens on, outside the range that outgoing connections take theirs from.

    ``DJOPS_PORTS``, as in ``20000-20999``, keeps them between two ports.

    Args:
        count: How many.
        avoid: Ports promised to others.

    Raises:
        StartError: ``E_PORT`` when there are not enough, or ``DJOPS_PORTS`` names no range.
    """
    first, last = _allowed_range()
    first_outgoing, last_outgoing = _outgoing_range()
    candidates = [port for port in range(first, last + 1) if not first_outgoing <= port <= last_outgoing]
    random.SystemRandom().shuffle(candidates)
    found: list[int] = []
    for port in candidates:
        if len(found) == count:
            break
        if port not in avoid and is_free(port):
            found.append(port)
    if len(found) < count:
        raise StartError(
            f"there are not enough free ports on {HOST} between {first} and {last}", code="E_PORT"
        )
    return found


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port of 127.0.0.1.

    Args:
        port: The port.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a server just gone are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def answers(port: int, timeout: float = 0.5, host: str = HOST) -> bool:
    """Tell whether somebody accepts connections on a port.

    Args:
        port: The port.
        timeout: Seconds to wait.
        host: Where; 127.0.0.1 when not given.
    """
    try:
        with socket.create_connection((host, port), timeout=timeout):
            return True
    except OSError:
        return False


def holder(port: int) -> Holder | None:
    """Tell who listens on a port, whatever the address.

    Args:
        port: The port.

    Returns:
        The holder, or ``None`` when nobody listens there.
    """
    inodes = set(_listening_inodes(port))
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _has_socket(process, inodes):
            return Holder(int(process.name), _command(process))
    return Holder(None, "")


def _allowed_range() -> tuple[int, int]:
    wanted = os.environ.get("DJOPS_PORTS")
    if not wanted:
        return _LOWEST, _HIGHEST
    first, _, last = wanted.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) <= _HIGHEST):
        raise StartError(
            f"DJOPS_PORTS is {wanted!r}, which is no range of ports",
            code="E_PORT",
            hint="write it as in DJOPS_PORTS=20000-20999",
        )
    return int(first), int(last)


def _outgoing_range() -> tuple[int, int]:
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except (OSError, ValueError):
        return 32768, 60999
    return int(first), int(last)


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (Path("/proc/net") / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _has_socket(process: Path, inodes: Collection[str]) -> bool:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    try:
        return any(_target(entry) in wanted for entry in (process / "fd").iterdir())
    except OSError:
        return False


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:  # closed meanwhile
        return ""


def _command(process: Path) -> str:
    try:
        parts = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "?"
    return " ".join(part for part in parts if part)
