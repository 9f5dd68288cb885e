"""What is wrong with secrets: missing, stale, shared, weak, unused, or readable by more than their owner.

Secrets are read to be judged and compared as keyed digests in memory; none is in what is returned.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import secrets as random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from djops.compile.mysql_state import AccountId
from djops.compile.vault import MOUNT, policy_name, secret_path
from djops.compile.vault_manager import MANAGER
from djops.errors import AccessDeniedError, DjopsError
from djops.model.audit import SEVERITIES, Limits, Severity
from djops.plan.mysql_changes import PASSWORD_FIELD
from djops.plan.rotation import UNTIL_FACT, is_overdue, rotated_key
from djops.plan.s3_changes import KEY_FACT
from djops.proof.vault_policies import UnreadableError, opened_by, read_policy
from djops.services import access, credentials
from djops.services.access import Servers, Standing, Wanted
from djops.services.audit_policy import policy_of
from djops.systems.vault import SECTIONS

"""From the worst on; a ``note`` asks for nothing."""

_SHORTEST, _FEWEST = 16, 8
_THREADS = 8


@dataclass(frozen=True)
class SecretFinding:
    """One thing that is wrong with somebody's secrets.

    Attributes:
        severity: How bad it is.
        kind: Stable code.
        who: Whose secrets.
        text: What was found.
        mend: The command that mends it.
    """

    severity: Severity
    kind: str
    who: str
    text: str
    mend: str


@dataclass(frozen=True)
class SecretsAudit:
    """Everything that was found.

    Attributes:
        findings: The worst first.
        looked_at: How many secrets were judged.
        not_told: What the servers do not tell, so that nobody takes silence for an answer.
    """

    findings: tuple[SecretFinding, ...]
    looked_at: int
    not_told: tuple[str, ...]

    @property
    def asks_attention(self) -> bool:
        """Whether anything has to be done."""
        return any(one.severity != "note" for one in self.findings)


@dataclass
class _Sight:
    """What findings are made from."""

    servers: Servers
    wanted: Wanted
    standing: Standing
    limits: Limits
    now: dt.datetime
    fields: Mapping[str, Mapping[str, str]] = field(repr=False)
    not_told: dict[str, None] = field(default_factory=dict)

    def path(self, who: str) -> str:
        return secret_path(self.wanted.project, who)

    def facts(self, who: str) -> Mapping[str, str]:
        return self.standing.found.secrets.secrets.get(self.path(who), {})

    def account(self, who: str) -> AccountId:
        return AccountId(who, self.wanted.project.environments[self.servers.site.environment].host_pattern)


def audit(
    servers: Servers, wanted: Wanted, *, max_age: int | None = None, now: dt.datetime | None = None
) -> SecretsAudit:
    """Look for everything that is wrong with a project's secrets; change nothing.

    Args:
        servers: The servers.
        wanted: Who should have secrets.
        max_age: Days after which a password or a key is stale; the audit's own limits unless given.
        now: The moment; this one unless given.

    Returns:
        What was found.

    Raises:
        ConfigError: ``E_AUDIT_POLICY`` when the project's ``audit.yaml`` is not right.
        DjopsError: A server cannot be read.
    """
    limits = policy_of(servers.site.project_file).limits
    if max_age is not None:
        limits = limits.model_copy(update={"password_days": max_age, "key_days": max_age})
    standing = access.stand(servers, wanted)
    paths = sorted(standing.found.secrets.secrets)
    with ThreadPoolExecutor(_THREADS) as pool:
        stored = dict(zip(paths, pool.map(servers.secrets.read_secret, paths), strict=True))
    fields = {path: one.fields for path, one in stored.items() if one is not None}
    sight = _Sight(servers, wanted, standing, limits, now or dt.datetime.now(dt.UTC), fields)
    found = [finding for look in _LOOKS for finding in look(sight)]
    found.sort(key=lambda one: (SEVERITIES.index(one.severity), one.kind, one.who))
    return SecretsAudit(tuple(dict.fromkeys(found)), len(fields), tuple(sight.not_told))


def _missing(sight: _Sight) -> Iterator[SecretFinding]:
    for who in sight.wanted.project.principals:
        held = sight.fields.get(sight.path(who), {})
        names = credentials.secret_names(sight.wanted.project, who)
        lacking = [name for name in names if not held.get(name)]
        if lacking:
            found = sight.standing.found
            there = sight.account(who) in found.mysql.accounts and (
                who in found.s3.users or not sight.wanted.project.stores
            )
            mend = "djops secrets sync" if there else "djops apply"
            yield SecretFinding("high", "MISSING", who, f"lacks {', '.join(lacking)}", mend)
    known = {sight.path(who) for who in sight.wanted.project.principals}
    for path in sorted(sight.fields.keys() - known):
        text = "secrets of somebody who stands not in djops.yaml are kept"
        yield SecretFinding("medium", "LEFTOVER", path, text, "djops secrets sync")


def _stale(sight: _Sight) -> Iterator[SecretFinding]:
    limits = sight.limits
    for who in sight.wanted.project.principals:
        account = sight.standing.found.mysql.accounts.get(sight.account(who))
        changed = _moment(account.password_changed if account else None)
        if changed and (sight.now - changed).days > limits.password_days:
            text = f"its password is from {changed:%Y-%m-%d}, over {limits.password_days} days ago"
            yield SecretFinding("medium", "STALE", who, text, f"djops rotate {who}")
        for key, made in _keys(sight, who).items():
            if (sight.now - made).days > limits.key_days:
                text = f"its access key {key} is from {made:%Y-%m-%d}, over {limits.key_days} days ago"
                yield SecretFinding("medium", "STALE", who, text, f"djops rotate {who}")


def _under_way(sight: _Sight) -> Iterator[SecretFinding]:
    for who in sight.wanted.project.principals:
        account, facts = sight.standing.found.mysql.accounts.get(sight.account(who)), sight.facts(who)
        if not (account and account.rotating) and not rotated_key(facts):
            continue
        late = is_overdue(facts, sight.wanted.today)
        until = facts.get(UNTIL_FACT) or "`--finish`"
        text = f"what it had before its rotation holds as well, until {until}"
        yield SecretFinding(
            "medium" if late else "note", "ROTATION", who, text, f"djops rotate {who} --finish"
        )


def _shared(sight: _Sight) -> Iterator[SecretFinding]:
    salt = random.token_bytes(32)
    holders: defaultdict[bytes, set[tuple[str, str]]] = defaultdict(set)
    for path, fields in sight.fields.items():
        for name, value in fields.items():
            if _is_secret(name):
                digest = hmac.new(salt, value.encode(), hashlib.sha256).digest()
                holders[digest].add((path, _what(name)))
    for alike in holders.values():
        for path, what in sorted(alike) if len(alike) > 1 else ():
            others = ", ".join(f"{there} ({kind})" for there, kind in sorted(alike) if there != path)
            text = f"its {what} is also at {others}" if others else f"its {what} serves as something else too"
            yield SecretFinding("high", "SHARED", _owner(path), text, f"djops rotate {_owner(path)}")


def _names(value: str, who: str) -> bool:
    """Tell whether somebody's name stands in a secret; a few letters are in a random text now and then."""
    alone = r"(?<![a-z0-9]){}(?![a-z0-9])" if len(who) < _FEWEST else "{}"
    return re.search(alone.format(re.escape(who.lower())), value.lower()) is not None


def _weak(sight: _Sight) -> Iterator[SecretFinding]:
    for path, fields in sight.fields.items():
        who = _owner(path)
        for name, value in fields.items():
            if not _is_secret(name):
                continue
            if len(value) < _SHORTEST or len(set(value)) < _FEWEST or _names(value, who):
                text = f"its {_what(name)} is short, of few characters, or holds its name"
                yield SecretFinding("high", "WEAK", who, text, f"djops rotate {who}")


def _unused(sight: _Sight) -> Iterator[SecretFinding]:
    for who in sight.wanted.project.principals:
        key = sight.facts(who).get(KEY_FACT, "")
        told = sight.servers.s3.ask("iam", "GetAccessKeyLastUsed", None, AccessKeyId=key) if key else None
        if key and told is None:
            sight.not_told["the object store does not tell when a key was last used"] = None
        elif key and told is not None and "LastUsedDate" not in told.get("AccessKeyLastUsed", {}):
            text = f"its access key {key} was never used"
            yield SecretFinding("low", "UNUSED", who, text, f"djops offboard {who}")
    yield from _never_connected(sight)


def _never_connected(sight: _Sight) -> Iterator[SecretFinding]:
    mysql = sight.servers.mysql
    seen: set[str] = set()
    try:
        on = int(mysql.query("SELECT @@performance_schema")[0][0])
        rows = mysql.query("SELECT DISTINCT user FROM performance_schema.accounts") if on else ()
        seen = {str(user) for (user,) in rows}
        since = int(mysql.query("SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1]) // 86400
    except DjopsError:
        on = since = 0
    if not on:
        sight.not_told["the database does not tell when somebody last logged in"] = None
        return
    for who in sight.wanted.project.principals:
        if who not in seen:
            text = f"has not logged in to the database since it was started {since} days ago"
            severity: Severity = "low" if since >= sight.limits.idle_days else "note"
            yield SecretFinding(severity, "UNUSED", who, text, f"djops offboard {who}")


def _readable(sight: _Sight) -> Iterator[SecretFinding]:
    """Yield policies that open somebody's secret and are not that person's own."""
    project = sight.wanted.project
    rules = {}
    for name, text in _policies(sight).items():
        try:
            rules[name] = read_policy(text)
        except UnreadableError:
            told = f"policy {name!r} cannot be judged: it is in no language that djops reads"
            yield SecretFinding("medium", "READABLE", name, told, f"bao policy read {name}")
    sight.not_told["whether somebody else's token or log-in holds a person's own policy"] = None
    for path in sorted(sight.fields):
        who = _owner(path)
        own = {policy_name(project.project, who), MANAGER}
        for name, paths in rules.items():
            held = opened_by(paths, f"{MOUNT}/data/{path}")
            if held and name not in own:
                text = f"policy {name!r} opens its secret too: {', '.join(sorted(held))}"
                mend = "djops secrets sync" if name.startswith("djops-") else f"bao policy write {name} -"
                yield SecretFinding("high", "READABLE", who, text, mend)
            elif name == policy_name(project.project, who) and held - {"read"}:
                text = f"its own policy gives more than reading: {', '.join(sorted(held))}"
                yield SecretFinding("medium", "READABLE", who, text, "djops secrets sync")


def _policies(sight: _Sight) -> Mapping[str, str]:
    try:
        return sight.servers.secrets.read_policies()
    except AccessDeniedError:
        sight.not_told["what policies outside of djops-* open"] = None
        return sight.servers.secrets.read_policies("djops-")


def _seal(sight: _Sight) -> Iterator[SecretFinding]:
    if sight.servers.site.env.target == "local":
        text = "the key that unseals it lies beside its data, so the seal protects nothing on this disk"
        yield SecretFinding("note", "SEAL", "secrets server", text, "djops secrets export, to elsewhere")


_LOOKS: Sequence[Callable[[_Sight], Iterator[SecretFinding]]] = (
    _missing,
    _stale,
    _under_way,
    _shared,
    _weak,
    _unused,
    _readable,
    _seal,
)


def _keys(sight: _Sight, who: str) -> dict[str, dt.datetime]:
    if not sight.wanted.project.stores:
        return {}
    s3 = sight.servers.s3
    listed = s3.listed("ListAccessKeys", "AccessKeyMetadata", optional=True, UserName=who)
    return {key["AccessKeyId"]: key["CreateDate"] for key in listed if "CreateDate" in key}


def _moment(text: str | None) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found.replace(tzinfo=dt.UTC) if found and found.tzinfo is None else found


def _is_secret(name: str) -> bool:
    return name.startswith(PASSWORD_FIELD) or name.endswith(".secret_key")


def _what(name: str) -> str:
    # One key serves all stores of its owner: that is not sharing.
    return "password" if name.startswith(PASSWORD_FIELD) else "access key"


def _owner(path: str) -> str:
    _, section, name = path.split("/", 2)
    return name if section in SECTIONS else path
