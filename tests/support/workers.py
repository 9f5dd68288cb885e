"""The suite in several processes at once: how many, in which order the files are taken, and how they end.

Each process has labs and a data home of its own; what they share is the machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import time
from pathlib import Path

from tests.support.labs import Home, homes, is_alive, kill_all

GIGABYTES = 2
"""What a process and its labs' servers may take of the memory."""

LONGEST = (
    "services/test_demo.py",
    "services/test_existing.py",
    "test_tour.py",
    "services/test_adoption.py",
    "services/test_arriving.py",
    "test_operations_doc.py",
    "services/test_lab.py",
    "services/test_smoke.py",
    "services/test_apply.py",
    "services/test_badly_made.py",
    "services/test_verify.py",
    "proof/test_iam_reader.py",
    "services/test_crash.py",
    "services/test_audit.py",
    "services/test_cloud.py",
    "services/test_cloud_access.py",
    "stacks/test_engine.py",
    "systems/test_pulumi_state.py",
    "services/test_loop.py",
    "test_bench.py",
    "systems/test_ceph.py",
    "systems/test_mysql_server.py",
)
"""Files that take half a minute or more: whoever starts with one at the end is waited for."""


def count() -> int:
    """Return how many processes this machine can feed; 0 for one, which then is this one."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):  # what caches hold is given back
        available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        pages = int(available[1]) * 1024 if available else pages
    fed = min(len(os.sched_getaffinity(0)), pages // (GIGABYTES << 30))
    return fed if fed > 1 else 0


def rank(file: str) -> int:
    """Return when a file is taken: the long ones, then what needs servers, at last what fills the gaps."""
    for place, name in enumerate(LONGEST):
        if file == f"tests/{name}":
            return place
    return len(LONGEST) + (not re.match(r"tests/(services|systems|cli|stacks|proof)/", file))


def ports_of(number: int, of: int) -> str:
    """Return the ports that one of several processes takes its own from, for ``DJOPS_PORTS``.

    Two processes that look for free ports at the same time may find the same ones.

    Args:
        number: Which process, from 0.
        of: How many there are.
    """
    first, beyond = 15000, 32768
    with contextlib.suppress(OSError, ValueError):
        beyond = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    share = (beyond - first) // of
    return f"{first + number * share}-{first + (number + 1) * share - 1}"


def end(run: int, seconds: float = 120) -> None:
    """Let other processes that are still at work take their labs down, and see that nothing remains.

    Args:
        run: The process that shares the work out.
        seconds: How long they may take.
    """

    def others() -> list[Home]:
        return [home for home in homes() if home.run == run != home.owner]

    until = time.monotonic() + seconds
    told = 0.0
    while any(is_alive(home.owner) for home in others()) and time.monotonic() < until:
        # Once is not enough: a command that runs within a test takes it for its own.
        if time.monotonic() >= told:
            told = time.monotonic() + 5
            for owner in {home.owner for home in others()}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(owner, signal.SIGTERM)
        time.sleep(0.1)
    for home in others():
        kill_all(home.base)
        shutil.rmtree(home.base, ignore_errors=True)
