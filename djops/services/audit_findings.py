"""Findings of an audit, each with how bad it is and what mends it."""

from __future__ import annotations

import datetime as dt
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from djops.compile.rights import is_expired
from djops.compile.sql import quote_account
from djops.model.audit import SEVERITIES, AuditFinding, AuditPolicy, Severity
from djops.model.project import Grant, Project
from djops.model.roles import Capability, RoleModel
from djops.proof.theorems import Violation
from djops.services.access import Wanted
from djops.services.audit_reading import Reading
from djops.services.audit_records import Seen
from djops.services.evidence import Evidence
from djops.services.log import Verified
from djops.services.secrets_audit import SecretFinding
from djops.services.site import Site
from djops.services.verify import Verdict
from djops.services.who import Holding

_ROW = re.compile(r"GRANT (?P<names>.+?) ON (?P<on>.+) TO (?P<whom>.+?)(?P<option> WITH GRANT OPTION)?")
_BY_STATEMENT = ("T_WILDCARD", "T_LEFTOVER", "T_EVERYTHING")
_BY_ADOPTION = ("T_CLOSURE", "T_READ_GET", "T_INSERT_PUT", "T_PASSWORD")
_NOT_BY_THEOREM = frozenset(
    {
        "old-plugin",
        "dynamic-privilege",
        "account-as-role",
        "proxy",
        "namesakes",
        "inactive-role",
        "undefined-order",
        "hidden-row",
        "routine-grant",
        "mandatory-role",
        "all-roles-active",
        "grant-option",
        "admin-option",
        "system-schema",
        "anonymous-rights",
    }
)
"""Kinds of traps that no theorem is about."""

_TITLES = {"mysql": "database", "s3": "object store", "secrets": "secrets server"}
_STALE = "STALE"
"""What is told of the age of passwords and keys is told here, of everybody's."""

_POWERFUL = frozenset({Capability.DECLARE, Capability.ALTER, Capability.DROP, Capability.GRANT})


@dataclass(frozen=True)
class Facts:
    """All that findings are made of.

    Attributes:
        wanted: What the project file wants.
        site: The environment.
        read: What the servers hold, as far as it could be read, compared with that.
        holdings: Who can do what.
        verified: Whether the journal is whole.
        seen: Who came, by the servers' own records.
        keys: When each access key was made, by user and key.
        partitioned: Where something sets or shows a partition pattern.
        now: This moment.
        secrets: What is wrong with secrets.
        unjudged: Why secrets could not be judged; empty when they were.
    """

    wanted: Wanted
    site: Site
    read: Reading
    holdings: Sequence[Holding]
    verified: Verified
    seen: Sequence[Seen]
    keys: Mapping[tuple[str, str], dt.datetime]
    partitioned: Sequence[tuple[str, str]]
    now: dt.datetime
    secrets: Sequence[SecretFinding]
    unjudged: str

    @property
    def project(self) -> Project:
        """The project."""
        return self.wanted.project

    @property
    def roles(self) -> RoleModel:
        """The role model."""
        return self.wanted.roles

    @property
    def verdict(self) -> Verdict:
        """The comparison of servers and project file."""
        return self.read.verdict


class Findings:
    """Makes findings by a policy.

    Args:
        policy: Limits and severities.
    """

    def __init__(self, policy: AuditPolicy) -> None:
        self._policy, self._limits = policy, policy.limits

    def all_of(self, facts: Facts) -> tuple[AuditFinding, ...]:
        """Return everything, the worst first, each once.

        Args:
            facts: What there is.
        """
        found = facts.read.found
        parts = (
            self._unread(facts),
            self._theorems(facts),
            self._disagreements(facts),
            self._drift(facts),
            *(() if found is None else self._of_catalogs(facts, found)),
            self._grants(facts),
            self._idle(facts),
            self._wide(facts),
            self._workers(facts),
            self._partitions(facts),
            self._journal(facts),
            self._secrets(facts),
        )
        made = dict.fromkeys(finding for part in parts for finding in part)
        return tuple(sorted(made, key=lambda one: (SEVERITIES.index(one.severity), one.kind, one.who)))

    def _of_catalogs(self, facts: Facts, found: Evidence) -> Iterator[Iterator[AuditFinding]]:
        for make in (self._traps, self._policies, self._old, self._unmanaged, self._hosts):
            yield make(facts, found)

    def _unread(self, facts: Facts) -> Iterator[AuditFinding]:
        for one in facts.read.unread:
            yield self._make("UNREAD", _TITLES[one.system], f"{one.why}; this report lacks {one.what}")

    def _make(
        self,
        kind: str,
        who: str,
        text: str,
        because: Iterable[str] = (),
        *,
        mend: str = "",
        severity: Severity | None = None,
        title: str = "",
        **names: str,
    ) -> AuditFinding:
        rule = self._policy.rules[kind]
        told = mend or rule.mend.format_map({"who": shlex.quote(who), "on": "", "role": "", **names})
        return AuditFinding(
            severity or rule.severity, kind, title or rule.title, who, text, told, tuple(because)
        )

    def _theorems(self, facts: Facts) -> Iterator[AuditFinding]:
        managed = facts.project.principals
        for one in facts.verdict.violations:
            who = one.who or ""
            mend = _mend(one) if who not in managed else ""
            yield self._make(one.theorem, who, one.text, one.because, mend=mend)
        for unknown in facts.verdict.unknown:
            yield self._make("T_UNKNOWN", "", f"{facts.verdict.theorems[unknown.theorem]}: {unknown.reason}")

    def _disagreements(self, facts: Facts) -> Iterator[AuditFinding]:
        count = Counter(one.cell.principal for one in facts.verdict.disagreements)
        for who, number in sorted(count.items()):
            mine = [one for one in facts.verdict.disagreements if one.cell.principal == who]
            because = dict.fromkeys(text for one in mine for text in one.because)
            more = any(not one.model for one in mine)
            text = f"{who}: the servers {'give more' if more else 'give less'} than djops.yaml in "
            text += f"{number} {'cell' if number == 1 else 'cells'}"
            severity: Severity = "high" if more else "medium"
            yield self._make("VERIFY", who, text, because, severity=severity)

    def _drift(self, facts: Facts) -> Iterator[AuditFinding]:
        for one in facts.read.drift:
            text = f"{one.object}: {'; '.join(one.found)}"
            yield self._make(
                "DRIFT",
                one.object,
                text,
                (f"on {one.system}",),
                mend=one.mended_by,
                severity=self._policy.severity_of_drift(one.kind),
                title=f"drift: {one.kind}",
            )

    def _traps(self, _facts: Facts, found: Evidence) -> Iterator[AuditFinding]:
        catalog = found.mysql.catalog
        for trap in found.mysql.traps():
            account = trap.account
            ours = account is not None and (
                account in found.keepers or getattr(catalog.accounts.get(account), "project", None)
            )
            # What is wrong with accounts of ours is drift, and told as such.
            if trap.kind in _NOT_BY_THEOREM and not ours:
                who = str(account) if account else ""
                yield self._make("TRAP", who, f"{who or 'the server'}: {trap.text}", (trap.kind,))

    def _policies(self, _facts: Facts, found: Evidence) -> Iterator[AuditFinding]:
        for one in found.s3.warnings() if found.s3 else ():
            yield self._make("IAM_OPEN" if one.fails_open else "IAM", "", str(one))

    def _grants(self, facts: Facts) -> Iterator[AuditFinding]:
        today = facts.now.date()
        for entry, who, grant in grants_of(facts.project):
            if grant.until is None:
                continue
            on = " ".join(grant.on)
            what = f"{entry}: {grant.role} on {', '.join(grant.on)}"
            if is_expired(grant, today):
                yield self._make("EXPIRED", who, f"{what} ended on {grant.until}", role=grant.role, on=on)
            elif (grant.until - today).days <= self._limits.soon_days:
                yield self._make("SOON", who, f"{what} ends on {grant.until}", role=grant.role, on=on)

    def _idle(self, facts: Facts) -> Iterator[AuditFinding]:
        limit = facts.now - dt.timedelta(days=self._limits.idle_days)
        # Silence says something only of a server that has been recording for long enough.
        listening = {one.system for one in facts.seen if one.since and _moment(one.since) < limit}
        for who in facts.project.people if listening else ():
            mine = [one for one in facts.seen if one.who == who and one.log_ins]
            last = max((one.last for one in mine), default="")
            counted = any(one.system == "mysql" and one.system in listening for one in mine)
            if counted or (last and (last == "now" or _moment(last) >= limit)):
                continue
            told = f"was last seen on {last[:10]}" if last else "was never seen"
            yield self._make("IDLE", who, f"{who} {told}, by what {', '.join(sorted(listening))} recorded")

    def _old(self, facts: Facts, found: Evidence) -> Iterator[AuditFinding]:
        accounts = found.mysql.catalog.accounts
        for who, account in found.accounts.items():
            changed = accounts[account].password_changed if account in accounts else ""
            age = (facts.now - _moment(changed)).days if changed else 0
            if age > self._limits.password_days:
                yield self._make("OLD_PASSWORD", who, f"{who}'s database password is {age} days old")
        for (user, key), made in sorted(facts.keys.items()):
            age = (facts.now - made).days
            if age > self._limits.key_days and user not in found.iam_keepers:
                yield self._make("OLD_KEY", user, f"{user}'s access key {key} is {age} days old")

    def _unmanaged(self, facts: Facts, found: Evidence) -> Iterator[AuditFinding]:
        names = dict.fromkeys(one.who for one in facts.holdings if one.kind == "unmanaged")
        others = set(others_of(found))
        for who in dict.fromkeys((*names, *sorted(others))):
            if who != "anybody":
                reach = [h.schema for h in facts.holdings if h.who == who and not h.is_empty]
                text = f"{who} has an account that djops did not make"
                yield self._make("UNMANAGED", who, f"{text}, and reaches {', '.join(reach) or 'no schema'}")

    def _wide(self, facts: Facts) -> Iterator[AuditFinding]:
        environment = facts.project.environments[facts.site.environment]
        if environment.target != "local" and environment.host_pattern == "%":
            text = "the accounts of djops.yaml may log in from any host: host_pattern is %"
            yield self._make("WIDE_HOST", "", text)

    def _hosts(self, _facts: Facts, found: Evidence) -> Iterator[AuditFinding]:
        ours = set(found.accounts.values())
        for account in found.mysql.accounts():
            if account.host == "%" and account not in ours and account not in found.keepers:
                new = quote_account(account.user, "10.0.0.0/8")
                mend = f"RENAME USER {quote_account(*account)} TO {new}, with your own network"
                text = f"{account} may log in from any host"
                yield self._make("WIDE_HOST", str(account), text, mend=mend, severity="low")

    def _workers(self, facts: Facts) -> Iterator[AuditFinding]:
        for name in facts.project.services:
            for entry, grant in facts.project.grants_of(name):
                capabilities = set(facts.roles.role(grant.role).target)
                if not is_expired(grant, facts.now.date()) and capabilities & _POWERFUL:
                    on = " ".join(grant.on)
                    text = f"{entry}: the service {name} is {grant.role} on {', '.join(grant.on)}"
                    mend = f"djops grant {name} operator {on}; djops revoke {name} {grant.role} {on}"
                    yield self._make("WORKER", name, text, mend=mend)

    def _partitions(self, facts: Facts) -> Iterator[AuditFinding]:
        for where, text in facts.partitioned:
            yield self._make("PARTITION", "", text, (where,), on=where)

    def _journal(self, facts: Facts) -> Iterator[AuditFinding]:
        for fault in facts.verified.checked.faults:
            yield self._make("CHAIN", "", fault.text, (fault.kind,))
        if facts.verified.waiting:
            yield self._make("WAITING", "", f"{facts.verified.waiting} rows wait on this machine")

    def _secrets(self, facts: Facts) -> Iterator[AuditFinding]:
        for one in facts.secrets:
            if one.kind != _STALE:
                yield self._make(
                    "SECRETS",
                    one.who,
                    f"{one.who}: {one.text}",
                    mend=one.mend,
                    severity=one.severity,
                    title=f"secrets: {one.kind.lower()}",
                )
        if facts.unjudged:
            yield self._make("SECRETS", "", f"could not be judged: {facts.unjudged}", severity="note")


def grants_of(project: Project) -> Iterator[tuple[str, str, Grant]]:
    """Yield every line of the project file that gives something: its place, holder and content.

    Args:
        project: The project.
    """
    for section, name, index, grant in project.entries():
        yield f"{section}.{name}.grants[{index}]", name, grant


def others_of(found: Evidence) -> Iterator[str]:
    """Yield the accounts and users that djops did not make and nobody needs to run the servers.

    Args:
        found: What the servers hold.
    """
    ours = set(found.accounts.values())
    for account in found.mysql.accounts():
        if account not in ours and account not in found.keepers and account.user:
            yield str(account)
    if found.s3 is not None:
        known = {*found.wanted.project.principals, *found.iam_keepers}
        yield from (name for name in found.s3.users() if name not in known)


def revoking(row: str) -> str:
    """Return the statement that takes a grant back, empty for what is no grant.

    Args:
        row: A grant as a statement.
    """
    found = _ROW.fullmatch(row)
    if found is None:
        return ""
    names = found["names"] + (", GRANT OPTION" if found["option"] else "")
    return f"REVOKE {names} ON {found['on']} FROM {found['whom']}"


def _mend(one: Violation) -> str:
    """Return what mends a violation by somebody whom djops does not manage; empty for the rule's own."""
    who, first = one.who or "", one.because[0] if one.because else ""
    if one.theorem in _BY_STATEMENT:
        return "; ".join(dict.fromkeys(filter(None, map(revoking, one.because))))
    if one.theorem == "T_TLS":
        is_account = first.startswith("ALTER USER")
        return first.replace("REQUIRE NONE", "REQUIRE SSL") if is_account else "an https:// address"
    if one.theorem == "T_ANONYMOUS":
        return first.replace("CREATE USER", "DROP USER")
    return f"djops adopt {shlex.quote(who)}" if one.theorem in _BY_ADOPTION else ""


def _moment(text: str) -> dt.datetime:
    if text == "now":
        return dt.datetime.max.replace(tzinfo=dt.UTC)
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        return dt.datetime.max.replace(tzinfo=dt.UTC)
    return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at
