"""The audit: who can do what, whether that is proven, what asks for attention, and what has changed."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from djops import __version__
from djops.errors import ConfigError, DjopsError
from djops.model.audit import AuditFinding, AuditPolicy
from djops.model.journal import Entry
from djops.proof.iam_reader import IamReader
from djops.services import audit_reading, audit_records, log, who
from djops.services.access import Servers, Wanted
from djops.services.audit_findings import Facts, Findings, grants_of
from djops.services.audit_reading import Unread
from djops.services.audit_records import Records
from djops.services.journal import Cause, note
from djops.services.log import Deed, Verified
from djops.services.verify import Verdict
from djops.services.who import Holding
from djops.systems import journal as local
from djops.systems.files import write_private
from djops.systems.progress import Progress, Silent


@dataclass(frozen=True)
class LiveRun:
    """When the rights were last tried on the servers themselves.

    Attributes:
        at: When.
        who: Who ran it.
        what: What it came to.
    """

    at: str
    who: str
    what: str


@dataclass(frozen=True)
class GrantLine:
    """One line of the project file, for a reviewer.

    Attributes:
        entry: Its place in the file.
        holder: The person, service or team.
        kind: ``person``, ``service`` or ``team``.
        role: The role.
        on: The schemas as the file names them.
        until: Its last day, if any.
        reason: Why it was given, if told.
        members: Who has it through the team.
        seen: When the holder was last seen, as far as the servers tell.
    """

    entry: str
    holder: str
    kind: str
    role: str
    on: tuple[str, ...]
    until: str
    reason: str
    members: tuple[str, ...]
    seen: str


@dataclass(frozen=True)
class Audit:
    """One report.

    Attributes:
        project: Name of the project.
        environment: The environment.
        made_at: When.
        made_by: The account and machine.
        version: Of djops.
        since: What changes are told from; empty for all.
        since_why: Why from there.
        schemas: The schemas, parents before children.
        holdings: Who can do what.
        grants: The lines of the project file that give it.
        verdict: The comparison of the project file and the servers' catalogs.
        live: When it was last tried on the servers.
        findings: What asks for attention, the worst first.
        verified: Whether the journal is whole.
        deeds: What was changed since, the newest first.
        records: What the servers recorded.
        unread: What the report lacks, as a server was down.
    """

    project: str
    environment: str
    made_at: str
    made_by: str
    version: str
    since: str
    since_why: str
    schemas: tuple[str, ...]
    holdings: tuple[Holding, ...]
    grants: tuple[GrantLine, ...]
    verdict: Verdict
    live: LiveRun | None
    findings: tuple[AuditFinding, ...]
    verified: Verified
    deeds: tuple[Deed, ...]
    records: Records
    unread: tuple[Unread, ...] = ()

    @property
    def down(self) -> frozenset[str]:
        """The systems that could not be read."""
        return frozenset(one.system for one in self.unread)

    @property
    def is_clean(self) -> bool:
        """Whether nothing asks for attention."""
        return all(one.severity == "note" for one in self.findings)


def gather(
    servers: Servers,
    wanted: Wanted,
    policy: AuditPolicy,
    since: dt.datetime | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Look at everything that a report tells, as far as the servers answer; change nothing.

    Args:
        servers: The servers.
        wanted: What the project file wants.
        policy: Limits and severities.
        since: Tell changes from then on; ``None`` for those since the last report.
        progress: Who wants to know.

    Raises:
        DjopsError: A server refuses what djops needs.
    """
    told, site, now = progress or Silent(), servers.site, dt.datetime.now(dt.UTC)
    with told.step("Reading and comparing"):
        read = audit_reading.read(servers, wanted)
        store = read.found.s3 if read.found else None
        keys, partitioned = _keys(servers, store), list(_partitions(servers, wanted))
        # Without the object store the servers' half of a cell cannot be told.
        holdings = who.matrix(wanted, (), None if "s3" in read.down else read.found)
    with told.step("Reading the journal and the servers' own records"):
        entries, verified = audit_reading.journal(servers.journal, site.lab)
        start, why = (since, "as asked") if since else _last_report(entries)
        if "mysql" in read.down:
            why = "are not known: the journal could not be read"
        users = store.catalog.users if store else {}
        names = {user.user_id: name for name, user in users.items() if user.user_id}
        records = audit_records.look(site, start, policy.limits.log_megabytes, names)
    with told.step("Judging secrets"):
        judged, unjudged = audit_reading.secrets(servers, wanted)
    facts = Facts(
        wanted, site, read, holdings, verified, records.seen, keys, partitioned, now, judged, unjudged
    )
    return Audit(
        project=wanted.project.project,
        environment=site.environment,
        made_at=_text(now),
        made_by=f"{local.caller()}@{local.origin()}",
        version=__version__,
        since=_text(start) if start else "",
        since_why=why,
        schemas=tuple(dict.fromkeys(one.schema for one in holdings)),
        holdings=tuple(holdings),
        grants=tuple(lines_of(wanted, records)),
        verdict=read.verdict,
        live=_live(entries),
        findings=Findings(policy).all_of(facts),
        verified=verified,
        deeds=log.deeds(entries, log.Wanted(start))[::-1],
        records=records,
        unread=read.unread,
    )


def _text(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _last_report(entries: Sequence[Entry]) -> tuple[dt.datetime | None, str]:
    for entry in reversed(entries):
        if entry.command == "audit" and entry.event == "note" and "findings" in local.facts_of(entry):
            with suppress(ValueError):
                return dt.datetime.fromisoformat(entry.at), "since the last report"
    return None, "from the beginning: this is the first report"


def _live(entries: Sequence[Entry]) -> LiveRun | None:
    for entry in reversed(entries):
        if entry.command == "verify" and entry.event == "note":
            return LiveRun(f"{entry.at[:19]}Z", f"{entry.who}@{entry.host}", entry.change)
    return None


def _keys(servers: Servers, store: IamReader | None) -> Mapping[tuple[str, str], dt.datetime]:
    """Ask when each access key was made; a store that does not tell is asked in vain."""
    if store is None:
        return {}

    def ask(name: str) -> list[tuple[tuple[str, str], dt.datetime]]:
        try:
            keys = servers.s3.listed("ListAccessKeys", "AccessKeyMetadata", optional=True, UserName=name)
        except DjopsError:
            return []
        return [((name, key["AccessKeyId"]), key["CreateDate"]) for key in keys if key.get("CreateDate")]

    with ThreadPoolExecutor(8) as pool:
        return dict(pair for pairs in pool.map(ask, store.users()) for pair in pairs)


def _partitions(servers: Servers, wanted: Wanted) -> Iterator[tuple[str, str]]:
    """Find stores whose objects lie by partition first and schema second, out of reach of prefixes."""
    path = servers.site.project_file.parent / "datajoint.json"
    with suppress(OSError, ValueError):
        stores = json.loads(path.read_text(encoding="utf-8")).get("stores", {})
        for name, store in stores.items() if isinstance(stores, dict) else ():
            pattern = store.get("partition_pattern") if isinstance(store, dict) else None
            if pattern:
                text = f"the store {name} has the partition_pattern {pattern!r}: no prefix is one schema's"
                yield str(path), text
    for name, store in wanted.project.stores.items():
        prefix = "/".join(part for part in (store.location, store.schema_prefix) if part) + "/"
        parameters = {"Bucket": store.bucket, "Prefix": prefix, "Delimiter": "/"}
        with suppress(DjopsError):
            answer = servers.s3.ask("s3", "ListObjectsV2", {}, **parameters)
            for one in answer.get("CommonPrefixes", ()):
                if "=" in one["Prefix"].removeprefix(prefix):
                    text = f"the store {name} has objects below {one['Prefix']}, which is no schema's prefix"
                    yield f"s3://{store.bucket}/{one['Prefix']}", text


def lines_of(wanted: Wanted, records: Records) -> Iterator[GrantLine]:
    """Yield every line of the project file that gives something, as a reviewer needs it.

    Args:
        wanted: The project.
        records: What the servers recorded, for when somebody was last seen.
    """
    kinds = {"people": "person", "services": "service", "teams": "team"}
    for entry, holder, grant in grants_of(wanted.project):
        kind = kinds[entry.partition(".")[0]]
        last = max((one.last for one in records.seen if one.who == holder), default="")
        yield GrantLine(
            entry=entry,
            holder=holder,
            kind=kind,
            role=grant.role,
            on=grant.on,
            until=str(grant.until or ""),
            reason=grant.reason or "",
            members=wanted.project.teams[holder].members if kind == "team" else (),
            seen=last,
        )


def keep(
    servers: Servers, audit: Audit, files: Mapping[Path, str], reason: str = "", *, told: bool = True
) -> None:
    """Write a report, and note it in the journal: the next one tells what changed since.

    Args:
        servers: The servers.
        audit: The report.
        files: Its texts, by file; only the caller can read them.
        reason: Why, for the journal.
        told: Whether to note it.

    Raises:
        ConfigError: ``E_OUTPUT`` when a file cannot be written.
    """
    digests = {}
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_private(path, text)
        except OSError as error:
            raise ConfigError(
                f"the report cannot be written: {error.strerror}", where=str(path), code="E_OUTPUT"
            ) from error
        digests[path.name] = hashlib.sha256(text.encode()).hexdigest()
    if told:
        facts = {f"sha256 of {name}": digest for name, digest in digests.items()}
        note(servers.journal, Cause("audit", reason), findings=str(len(audit.findings)), **facts)
