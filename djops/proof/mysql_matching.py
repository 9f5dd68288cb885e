"""How MySQL matches names of schemas and hosts, and in which order it tries them.

All of it measured on MySQL 9.7 by comparing sessions' rights, not taken from the manual, which says little.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass

_PLAIN = 128
"""Rank of a text without wildcards; one with wildcards ranks by where the first of them stands."""


@dataclass(frozen=True)
class Client:
    """Where a session comes from, as the server sees it.

    Attributes:
        host: The host name its address resolves to, or the address.
        ip: The address.
    """

    host: str
    ip: str

    @staticmethod
    @functools.lru_cache(maxsize=256)
    def of(host: str) -> Client:
        """Return a client that an account is for, and no narrower account of the same name.

        Args:
            host: The account's host pattern; its wildcards stand for text that no pattern spells out.
        """
        if host in ("localhost", "127.0.0.1"):
            return Client("localhost", "127.0.0.1")
        # Many characters for %, so that no row with a few _ in that place matches them.
        text = host.replace("%", "\ue000" * 64).replace("_", "\ue001")
        return Client(text, text)


@functools.lru_cache(maxsize=4096)
def _expression(pattern: bytes, fold: bool) -> re.Pattern[bytes]:
    meanings = {b"_": b".", b"%": b".*"}
    parts = re.findall(rb"\\.|.", pattern, re.DOTALL)
    text = b"".join(meanings.get(part, re.escape(part[-1:])) for part in parts)
    return re.compile(text, re.DOTALL | (re.IGNORECASE if fold else 0))


def opens(pattern: str, schema: str) -> bool:
    r"""Tell whether a grant pattern matches a schema's name.

    Case matters, and ``_`` stands for one byte: ``lab_`` does not match ``labü``, ``lab__`` does.

    Args:
        pattern: The pattern as ``mysql.db`` has it; ``_`` and ``%`` are wildcards unless ``\`` precedes them.
        schema: The schema's name.
    """
    return _expression(pattern.encode(), False).fullmatch(schema.encode()) is not None


def rank(text: str) -> int:
    r"""Return how narrow MySQL takes a pattern to be.

    The place of the first live wildcard decides, whatever comes after it: ``lab_ephys`` ranks with
    ``lab%`` and below ``lab\_%``.

    Args:
        text: A pattern for schemas, hosts or users.

    Returns:
        0 for the empty text, 1 for ``%``, 128 for text without wildcards, and else something between.
    """
    found = re.match(r"(?:\\.|[^\\%_]|\\$)*", text, re.DOTALL)
    end = found.end() if found else 0
    if end == len(text):
        return _PLAIN if text else 0
    # Positions count bytes.
    return 1 if text == "%" else min(len(text[:end].encode()) + 2, _PLAIN - 1)


def host_admits(pattern: str, client: Client) -> bool:
    """Tell whether a client may use an account or a row with this host.

    Args:
        pattern: The host: a name, an address, either with wildcards, or a network.
        client: Where the session comes from.
    """
    network = _network(pattern)
    if network is not None:
        try:
            return ipaddress.ip_address(client.ip) in network
        except ValueError:
            return pattern == client.ip
    names = (client.host, client.ip)
    return not pattern or any(_expression(pattern.encode(), True).fullmatch(name.encode()) for name in names)


def host_order(pattern: str) -> tuple[int, int]:
    """Return a key that sorts hosts as log-in tries them, first to last.

    Addresses, then networks by prefix, then networks by mask, then names, then patterns by their first
    wildcard, then ``%``.

    Args:
        pattern: The host of an account.
    """
    network = _network(pattern)
    if network is not None:
        return (2 if "." in pattern.partition("/")[2] else 1), -network.prefixlen
    try:
        ipaddress.ip_address(pattern)
    except ValueError:
        return 3, -rank(pattern)
    return 0, 0


@functools.lru_cache(maxsize=1024)
def _network(pattern: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if "/" not in pattern:
        return None
    try:
        return ipaddress.ip_network(pattern)
    except ValueError:
        return None
