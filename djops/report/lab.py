"""The lab's servers as tables."""

from __future__ import annotations

from collections.abc import Sequence

from djops.report.table import colour, table
from djops.services.lab import ServerHealth, ServerUp

BESIDE = "the secrets server's unseal key lies beside its data"


def up_table(servers: Sequence[ServerUp]) -> str:
    """Show servers that are up.

    Args:
        servers: The servers.
    """
    rows = [
        (
            one.title,
            one.endpoint,
            one.version,
            "started" if one.started else "ran already",
            f"{one.seconds:.1f} s",
        )
        for one in servers
    ]
    return table(("server", "endpoint", "version", "", "took"), rows, right=(4,))


def health_table(servers: Sequence[ServerHealth], *, coloured: bool = False) -> str:
    """Show how servers are, and below what is wrong.

    Args:
        servers: The servers.
        coloured: Whether the terminal takes colours.
    """
    rows = [(one.title, _word(one), one.endpoint, one.version) for one in servers]
    lines = table(("server", "health", "endpoint", "version"), rows).split("\n")
    for line, one in enumerate(servers, start=1):
        if not one.healthy:
            lines[line] = lines[line].replace("down", colour("down", "red", on=coloured), 1)
    problems = [f"{one.title}: {one.problem}" for one in servers if one.problem]
    return "\n".join([*lines, *([""] if problems else []), *problems])


def _word(server: ServerHealth) -> str:
    return "ok" if server.healthy else "down"
