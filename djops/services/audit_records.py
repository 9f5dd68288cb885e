"""What the servers themselves recorded, what they do not, and switching on what they offer."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from djops.errors import DjopsError, ServerUnavailableError
from djops.services.site import Site, local_lab
from djops.systems import server_logs
from djops.systems.connections import MysqlConnection
from djops.systems.local.ceph import CephServer
from djops.systems.local.mysql import MysqlServer, can_be_had
from djops.systems.local.openbao import OpenBaoServer
from djops.systems.local.server import Lab
from djops.systems.mysql import Mysql
from djops.systems.server_logs import Event

_NOTES = 3
"""The verbosity from which MySQL's error log tells who was refused."""

_SETTINGS = "SELECT @@log_error_verbosity, @@performance_schema"
_ACCOUNTS = (
    "SELECT USER, SUM(CURRENT_CONNECTIONS), SUM(TOTAL_CONNECTIONS) FROM performance_schema.accounts "
    "WHERE USER IS NOT NULL GROUP BY USER"
)
_UPTIME = "SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime'"


@dataclass(frozen=True)
class Source:
    """One place where a server may write down what happens.

    Attributes:
        system: ``mysql``, ``s3`` or ``secrets``.
        what: What it tells.
        recorded: Whether it does.
        note: Since when, from where, or why not.
    """

    system: str
    what: str
    recorded: bool
    note: str = ""


@dataclass(frozen=True)
class Seen:
    """What the servers know of somebody's comings.

    Attributes:
        who: The name.
        system: Where.
        last: The last time; empty where a server only counts.
        log_ins: How often.
        refused: How often not let in, or refused something.
        since: Since when it was counted.
    """

    who: str
    system: str
    last: str
    log_ins: int
    refused: int
    since: str


@dataclass(frozen=True)
class Records:
    """What the servers recorded.

    Attributes:
        sources: What is recorded, and what is not.
        seen: Who came, and how often.
        events: Refusals and deletions, the newest first.
        left_out: How many older ones there are.
    """

    sources: tuple[Source, ...] = ()
    seen: tuple[Seen, ...] = ()
    events: tuple[Event, ...] = ()
    left_out: int = 0


_SHOWN = 200
_SCHEDULER = "event_scheduler"

_NO_AUDIT_LOG = (
    "MySQL's own edition has no audit log; its general log would write down every statement with its data"
)
NEVER_RECORDED = (
    Source("mysql", "who read, changed, deleted or dropped which rows and tables", False, _NO_AUDIT_LOG),
)


def look(
    site: Site, since: dt.datetime | None, megabytes: int, names: Mapping[str, str] | None = None
) -> Records:
    """Read what the servers recorded.

    Args:
        site: The environment.
        since: Nothing before that time.
        megabytes: How much of the end of each log is read.
        names: The object store's own ids of users, and the names behind them.
    """
    events: list[Event] = []
    sources: list[Source] = []
    begins: dict[str, str] = {}
    lab = local_lab(site.project, site.environment) if site.env.target == "local" else None
    for source, found, first in _from_logs(site, lab, megabytes):
        sources.append(source)
        events += [replace(one, who=(names or {}).get(one.who, one.who)) for one in found]
        begins[source.system] = first
    told, counted = _connections(site, events)
    after = since.strftime("%Y-%m-%dT%H:%M:%SZ") if since else ""
    shown = [one for one in events if one.what != "log-in" and one.at >= after]
    shown.sort(key=lambda one: one.at, reverse=True)
    logged = [one for one in events if not (counted and one.system == "mysql")]
    seen = sorted((*counted, *_summed(logged, begins)), key=lambda one: (one.who, one.system))
    left_out = max(0, len(shown) - _SHOWN)
    return Records((*sources, told, *NEVER_RECORDED), tuple(seen), tuple(shown[:_SHOWN]), left_out)


def _from_logs(site: Site, lab: Lab | None, megabytes: int) -> Iterator[tuple[Source, list[Event], str]]:
    """Yield each log's source, events and first time."""
    whats = {
        "mysql": "refused log-ins",
        "s3": "every request: first uses, refusals and deletions",
        "secrets": "every request: log-ins, refusals and deletions",
    }
    if lab is None:
        for system, what in whats.items():
            yield Source(system, what, False, "the log is on the server, where djops does not look"), [], ""
        return
    readers: Mapping[str, tuple[Path, Callable[[list[str]], Iterable[Event]]]] = {
        "mysql": (MysqlServer(lab).log, server_logs.mysql_events),
        "s3": (CephServer(lab).ops_log, server_logs.s3_events),
        "secrets": (OpenBaoServer(lab).audit_log, server_logs.secrets_events),
    }
    for system, (path, read) in readers.items():
        lines, reason = server_logs.read_end(path, megabytes)
        found = list(read(lines))
        first = _first_time(lines)
        on = _verbose(_reader(site)) if system == "mysql" else bool(lines) or path.exists()
        note = f"since {first}" if first and on else "`djops audit setup` switches it on"
        yield Source(system, whats[system], on, f"{note}; {reason}" if reason and on else note), found, first


def _first_time(lines: Sequence[str]) -> str:
    for line in lines[:50]:
        at = line[:19] if line[:2] == "20" else line.partition('"time":"')[2][:19]
        if at:
            return f"{at}Z"
    return ""


def _verbose(connection: MysqlConnection) -> bool:
    try:
        with Mysql(connection) as server:
            return int(server.query(_SETTINGS)[0][0]) >= _NOTES
    except ServerUnavailableError:
        return False


def _reader(site: Site) -> MysqlConnection:
    """Return root, where djops runs the database and root's password can be had; else djops' own account."""
    root = site.mysql_root
    return site.mysql if root is None or not can_be_had(root.password) else root


def _connections(site: Site, events: Sequence[Event]) -> tuple[Source, list[Seen]]:
    """Ask the database who connected since it was started; what was refused is counted there as well."""
    what = "who connected, how often; not when"
    try:
        with Mysql(_reader(site)) as server:
            if not server.query(_SETTINGS)[0][1]:
                return Source("mysql", what, False, "`djops audit setup` switches it on"), []
            rows, uptime = server.query(_ACCOUNTS), int(server.query(_UPTIME)[0][0])
    except DjopsError as error:
        return Source("mysql", what, False, error.message), []
    began = (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=uptime)).strftime("%Y-%m-%dT%H:%M:%SZ")
    refused = Counter(one.who for one in events if one.system == "mysql" and one.at >= began)
    seen = [
        Seen(str(who), "mysql", "now" if now else "", max(0, int(total) - refused[who]), refused[who], began)
        for who, now, total in rows
        if who != _SCHEDULER
    ]
    return Source("mysql", what, True, f"since the server was started, {began}"), seen


@dataclass
class _Tally:
    last: str = ""
    log_ins: int = 0
    refused: int = 0


def _summed(events: Iterable[Event], begins: Mapping[str, str]) -> Iterator[Seen]:
    tallies: dict[tuple[str, str], _Tally] = {}
    for one in events:
        tally = tallies.setdefault((one.who, one.system), _Tally())
        if one.what == "log-in":
            tally.log_ins += 1
            tally.last = max(tally.last, one.at)
        elif one.what == "refused":
            tally.refused += 1
    for (who, system), tally in sorted(tallies.items()):
        yield Seen(who, system, tally.last, tally.log_ins, tally.refused, begins.get(system, ""))


@dataclass(frozen=True)
class Switch:
    """One facility of a server.

    Attributes:
        system: The server.
        what: What it will record.
        state: ``on already``, ``on``, ``at the next start``, or who has to do what.
        changes: Whether it is switched on now.
    """

    system: str
    what: str
    state: str
    changes: bool = False


_REMEDIES = (
    ("mysql", "SET PERSIST log_error_verbosity = 3, by an administrator; on RDS in the parameter group"),
    ("mysql", "performance_schema = ON, and GRANT SELECT ON performance_schema.accounts to djops' account"),
    ("s3", "S3 server access logging (AWS) or rgw_enable_ops_log (Ceph), by who runs the store"),
    ("secrets", "an audit device: `bao audit enable file file_path=...`, by who runs the secrets server"),
)


def setup(site: Site, *, dry_run: bool) -> tuple[Switch, ...]:
    """Switch on what the servers offer.

    Args:
        site: The environment.
        dry_run: Only tell what would be.

    Returns:
        What is on, what was switched on, and what somebody else has to do.

    Raises:
        DjopsError: A server does not answer.
    """
    lab = local_lab(site.project, site.environment) if site.env.target == "local" else None
    root = site.mysql_root
    if lab is None or root is None:
        return tuple(Switch(system, remedy, "not for djops to do") for system, remedy in _REMEDIES)
    ceph = CephServer(lab)
    with Mysql(root) as server:
        verbosity, counting = server.query(_SETTINGS)[0]
        wanted = [
            (int(verbosity) < _NOTES, "refused log-ins", "SET PERSIST log_error_verbosity = 3", "on"),
            (not counting, "who connected", "SET PERSIST_ONLY performance_schema = ON", "at the next start"),
        ]
        switches = []
        for lacks, what, statement, state in wanted:
            if lacks and not dry_run:
                server.query(statement)
            switches.append(Switch("mysql", what, state if lacks else "on already", lacks))
    lacks = not ceph.records_requests
    if lacks and not dry_run:
        ceph.record_requests()
    state = "at the next start" if lacks or not ceph.ops_log.exists() else "on already"
    switches.append(Switch("s3", "every request: first uses, refusals and deletions", state, lacks))
    switches.append(Switch("secrets", "every request: log-ins, refusals and deletions", "on already"))
    return tuple(switches)
