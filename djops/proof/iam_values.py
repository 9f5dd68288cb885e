"""Values in conditions: numbers, dates, truths and networks, as written in policies and requests."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ISO = re.compile(
    r"(\d{4})-(\d\d)(?:-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:?\d\d)?)?)?"
)


def number(text: str) -> float | None:
    """Read a number; ``None`` when it is none."""
    try:
        return float(text) if text.strip() == text and "_" not in text else None
    except ValueError:
        return None


def moment(text: str) -> float | None:
    """Read a date in seconds since 1970: a count of them, or ISO 8601; ``None`` when it is neither."""
    count = number(text)
    if count is not None:
        return count
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    fraction = float(f"0.{found.group(7) or 0}")
    zone = found.group(8) or "Z"
    try:
        start = dt.datetime(year, month, day or 1, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
    offset = 0 if zone == "Z" else int(f"{zone[0]}1") * (int(zone[1:3]) * 3600 + int(zone[-2:]) * 60)
    return start.timestamp() + fraction - offset


def c_moment(text: str) -> float | None:
    """Read a date as Ceph does, which knows no zones but ``Z`` and no years before 1970."""
    return None if re.search(r"T.*([+-]|\d$)", text) or (text < "1970" and "-" in text[1:]) else moment(text)


def truth(text: str) -> bool | None:
    """Read ``true`` or ``false`` in any case; ``None`` for anything else."""
    return {"true": True, "false": False}.get(text.lower())


def c_truth(text: str) -> bool:
    """Read a truth as Ceph does, to whom everything but nothing, ``false`` and zero is true."""
    count = number(text)
    return bool(count) if count is not None else text.lower() not in ("", "false")


def network(text: str) -> Network | None:
    """Read an address or a network; ``None`` when it is neither."""
    length = text.partition("/")[2]
    try:
        return ipaddress.ip_network(text, strict=False) if length.isdecimal() or "/" not in text else None
    except ValueError:
        return None


def inside(address: Network, place: Network) -> bool:
    """Whether an address, or a whole network, lies in a network of the same family."""
    if isinstance(address, ipaddress.IPv4Network):
        return isinstance(place, ipaddress.IPv4Network) and address.subnet_of(place)
    return isinstance(place, ipaddress.IPv6Network) and address.subnet_of(place)
