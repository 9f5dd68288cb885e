"""What servers wrote down about log-ins, refusals and deletions, read from the ends of their own logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

What = Literal["log-in", "refused", "deleted"]

_DENIED = re.compile(
    r"^(?P<at>\d{4}-\d\d-\d\dT[\d:.]+Z) \d+ \[Note\] \[MY-\d+\] \[Server\] "
    r"Access denied for user '(?P<who>.*)'@'(?P<host>[^']*)' (?P<why>.*)$"
)


@dataclass(frozen=True)
class Event:
    """One thing that a server wrote down.

    Attributes:
        at: When, as ``2030-01-31T12:00:00Z``.
        system: ``mysql``, ``s3`` or ``secrets``.
        what: What it was.
        who: The name that was used, which is anybody's guess where it was refused.
        detail: From where, what on, and why not.
    """

    at: str
    system: str
    what: What
    who: str
    detail: str


def read_end(path: Path, megabytes: int) -> tuple[list[str], str]:
    """Read the last lines of a log.

    Args:
        path: The log.
        megabytes: How much of it, at most.

    Returns:
        The lines, and why there are none or not all; the reason is empty when all were read.
    """
    limit = megabytes << 20
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            lines = file.read(limit).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return [], "there is no log yet"
    except OSError as error:
        return [], f"the log cannot be read: {error.strerror}"
    return (lines[1:], f"only the last {megabytes} MB were read") if size > limit else (lines, "")


def mysql_events(lines: list[str]) -> Iterator[Event]:
    """Yield the refused log-ins of MySQL's error log.

    Args:
        lines: Its lines.
    """
    for line in lines:
        found = _DENIED.match(line)
        if found:
            detail = f"from {found['host']} {found['why']}"
            yield Event(_second(found["at"]), "mysql", "refused", found["who"], detail)


def secrets_events(lines: list[str]) -> Iterator[Event]:
    """Yield log-ins, refusals and deletions of an OpenBao or Vault audit log.

    Args:
        lines: Its lines, one JSON object each.
    """
    for entry in _objects(lines):
        request, auth = entry.get("request") or {}, entry.get("auth") or {}
        if entry.get("type") != "response" or not isinstance(request, dict) or not isinstance(auth, dict):
            continue
        path, error = str(request.get("path", "")), str(entry.get("error") or "")
        login = re.fullmatch(r"auth/[^/]+/login(?:/(.*))?", path)
        who = str(auth.get("display_name") or (login[1] if login and login[1] else "") or "(unknown)")
        detail = f"{path} from {request.get('remote_address', '')}"
        at = _second(str(entry.get("time", "")))
        if error:
            reason = " ".join(error.replace("1 error occurred:", "").strip(" \n\t*").split())
            yield Event(at, "secrets", "refused", who, f"{detail}: {reason}")
        elif login:
            yield Event(at, "secrets", "log-in", _person(auth, who), detail)
        elif request.get("operation") == "delete":
            yield Event(at, "secrets", "deleted", _person(auth, who), detail)


def _person(auth: dict[str, Any], who: str) -> str:
    """Return the account behind a token: ``userpass-alice`` is how the server shows alice."""
    metadata = auth.get("metadata") or {}
    named = metadata.get("username") or metadata.get("role_name") if isinstance(metadata, dict) else None
    return str(named) if named else who


def s3_events(lines: list[str]) -> Iterator[Event]:
    """Yield refusals, deletions, and the first use of each key a day, of a Ceph gateway's ops log.

    Args:
        lines: Its lines, one JSON object each.
    """
    seen: set[tuple[str, str]] = set()
    for entry in _objects(lines):
        who, at = str(entry.get("user", "")) or "(no key)", _second(str(entry.get("time", "")))
        operation, status = str(entry.get("operation", "")), str(entry.get("http_status", ""))
        place = "/".join(part for part in (entry.get("bucket"), entry.get("object")) if part and part != "-")
        detail = f"{operation} {place} from {entry.get('remote_addr', '')}".replace("  ", " ")
        if status in ("401", "403"):
            yield Event(at, "s3", "refused", who, f"{detail}: {entry.get('error_code') or status}")
        elif status.startswith("2"):
            if (who, at[:10]) not in seen:
                seen.add((who, at[:10]))
                yield Event(at, "s3", "log-in", who, f"first use that day, from {entry.get('remote_addr')}")
            if "delete" in operation and "multi" not in operation:
                yield Event(at, "s3", "deleted", who, detail)


def _objects(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def _second(at: str) -> str:
    return f"{at[:19]}Z" if len(at) > 19 else at
