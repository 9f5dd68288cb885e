"""What must be true at every moment of a plan, also between a crash and the next apply.

Nobody holds more than the larger of the old and the new rights, question by question; whoever a plan is
not about holds exactly what he held; no account is open without password or TLS, nor one that was leased
to a service that is gone; and what the secrets server hands out works, or djops knows that it does not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pymysql
from pymysql.constants import CR

from crash.cases import Case
from crash.machines import Machine, Machines, start
from crash.stage import Seen, Stage
from djops.compile.mysql_state import AccountId
from djops.errors import DjopsError, UndecidedError
from djops.plan.leases import engines
from djops.plan.mysql_changes import CHANGED_FACT, STATE_FACT
from djops.plan.operations import AwsCall
from djops.plan.s3_changes import KEY_FACT, STORES_FACT
from djops.proof.attempts import attempt
from djops.proof.cells import (
    ADMIN_OPTION,
    BUCKET_ARN,
    Cell,
    MysqlAsk,
    Question,
    S3Ask,
    bucket_questions,
    mysql_questions,
    s3_questions,
)
from djops.services.access import Wanted
from djops.services.evidence import Evidence, ask_database
from djops.services.verify import STATIC, Choice, compare
from djops.systems.connections import MysqlConnection, Secret
from djops.systems.probes import MysqlProbe
from djops.systems.vault import StoredSecret

COLUMNS = ("x", "y")
THIRD = 3
AT_THE_END = "after the next apply"
Asks = Mapping[MysqlAsk | S3Ask, str]
_REFUSED = ("AccessDenied", "403", "AllAccessDisabled")
_SETTLED = 10.0
"""Seconds that a store may refuse what its policies allow, right after its start."""
_UNTRIED = (ADMIN_OPTION, "REFERENCES")
"""What takes a schema of the asker's own, or an account to pass a role to."""


def asks_of(found: Evidence) -> Asks:
    """Return everything that is asked about everybody, with the capability of its cell."""
    stores = list(found.wanted.project.stores.values())
    questions: list[Question] = []
    for schema in found.graph.order:
        questions += mysql_questions(schema, found.tables[schema], ())
        questions += s3_questions(found.places[schema], ())
    questions += bucket_questions(stores, "arn:aws:iam::*:user/*", ())
    return {one.ask: str(one.capability) for one in questions}


def holds(found: Evidence, who: str, ask: MysqlAsk | S3Ask) -> bool:
    """Tell what a principal would be let do by the catalogs, log-in and key apart."""
    if isinstance(ask, S3Ask):
        if found.s3 is None or who not in found.s3.catalog.users:
            return False
        try:
            return found.s3.decide(who, ask.action, ask.resource, ask.context).allowed
        except UndecidedError:
            return True
    account = found.accounts[who]
    if account not in found.mysql.catalog.accounts:
        return False
    if ask.privilege == ADMIN_OPTION:
        return ask_database(found, account, ask).allowed
    return ask.privilege in found.mysql.privileges(account, ask.schema, ask.table, ask.column)


class Rights:
    """What everybody holds at one moment, asked once."""

    def __init__(self, found: Evidence) -> None:
        self.found = found
        self._known: dict[tuple[str, MysqlAsk | S3Ask], bool] = {}

    def __call__(self, who: str, ask: MysqlAsk | S3Ask) -> bool:
        """Tell whether somebody holds what is asked."""
        key = (who, ask)
        if key not in self._known:
            self._known[key] = holds(self.found, who, ask)
        return self._known[key]

    @cached_property
    def asks(self) -> Asks:
        """Everything that is asked."""
        return asks_of(self.found)

    @cached_property
    def verified(self) -> Sequence[str]:
        """What `djops verify --static` finds."""
        return tuple(_verified(self.found))


@dataclass(frozen=True)
class Moment:
    """Everything at one moment, with what everybody holds."""

    seen: Seen
    rights: Rights


class Memory:
    """Keeps what was worked out: after a crash the servers are often as they were after another."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Rights] = {}

    def moment(self, seen: Seen) -> Moment:
        """Return a moment; where both catalogs say the same of access as before, its rights are known."""
        rights = self._known.setdefault(_access(seen), Rights(seen.evidence))
        return Moment(seen, rights)


def _access(seen: Seen) -> Hashable:
    """Return all that the catalogs say of access; ids of users and keys and the time of passwords are not."""
    mysql, reader = seen.mysql, seen.evidence.s3
    leased = {
        name.user: f"lease {number} of {lease.service}"
        for number, (name, lease) in enumerate(sorted(mysql.leases.items(), key=lambda item: item[1]))
    }
    users = {name: replace(user, arn="", user_id="", keys={}) for name, user in seen.users.items()}
    accounts = {name: replace(one, password_changed="", meaning="") for name, one in mysql.accounts.items()}
    rest = {name: part for name, part in vars(mysql).items() if name not in ("accounts", "events")}
    buckets = reader.catalog.buckets if reader is not None else {}
    project = seen.evidence.wanted.project.model_dump_json()
    return project, *(_renamed(text, leased) for text in map(_plain, (rest, accounts, users, buckets)))


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for name, other in names.items():
        text = text.replace(name, other)
    return text


def _plain(part: object) -> str:
    """Write something so that what is the same reads the same."""
    if isinstance(part, Mapping):
        return repr(sorted((repr(key), _plain(value)) for key, value in part.items()))
    return repr(sorted(map(repr, part)) if isinstance(part, frozenset) else part)


@dataclass
class Found:
    """What a comparison came to.

    Attributes:
        cells: Cells compared.
        questions: Questions that the catalogs answered.
        probes: Questions that the servers themselves answered.
        violations: What must not be.
    """

    cells: int = 0
    questions: int = 0
    probes: int = 0
    violations: list[str] = field(default_factory=list)

    def wrong(self, text: str) -> None:
        """Note what must not be."""
        if text not in self.violations:
            self.violations.append(text)

    def add(self, other: Found) -> None:
        """Add another comparison's."""
        self.cells += other.cells
        self.questions += other.questions
        self.probes += other.probes
        for text in other.violations:
            self.wrong(text)


@dataclass(frozen=True)
class Watch:
    """Compares moments of one case.

    Attributes:
        stage: The servers.
        case: The case.
        old: What there was before the plan.
        new: What there is after it.
        memory: What was worked out before.
        machines: The services that were there before, each with what it was given.
        turn: Tells which third of the requests to the object store is tried.
    """

    stage: Stage
    case: Case
    old: Moment
    new: Moment
    memory: Memory
    machines: Machines = field(default_factory=dict)
    turn: int = 0

    def between(self, now: Moment, label: str, *, renewing: bool = False) -> Found:
        """Check what must be true at every moment.

        Args:
            now: The moment.
            label: What to call it.
            renewing: Whether credentials are being renewed: whoever runs something goes on with the old ones.
        """
        found = Found()
        self._cells(now, found)
        for text in (*self._accounts(now), *self._strangers(now), *self._policies(now), *self._leases(now)):
            found.wrong(text)
        if renewing or not self.case.renews:
            self._given(now, found)
        for name in self.case.principals:
            self._credentials(now, name, found)
        for name in self.case.concerned:
            self._live(now, name, found)
            if renewing:
                self._go_on(now, name, found)
        found.violations = [f"{label}: {text}" for text in found.violations]
        return found

    def at_the_end(self, now: Moment, wanted: Wanted) -> Found:
        """Check that everything is as the project file says, besides what must be true always.

        Args:
            now: The moment.
            wanted: What the project file wants.
        """
        found = self.between(now, AT_THE_END)
        last = Found()
        for text in (*now.rights.verified, *self._settled(now, wanted), *self._ended(wanted)):
            last.wrong(text)
        for name in wanted.project.services:
            self._started_again(now, wanted, name, last)
        last.violations = [f"{AT_THE_END}: {text}" for text in last.violations]
        found.add(last)
        return found

    def _ended(self, wanted: Wanted) -> Iterator[str]:
        """Yield what services that are gone still have."""
        for name in self.machines.keys() - wanted.project.services.keys():
            if self.machines[name].may_log_in():
                yield f"{name}, which is gone, may log in to the secrets server"
            for path in self.machines[name].still_opens():
                yield f"{name}, which is gone, may read {path}"

    def _started_again(self, now: Moment, wanted: Wanted, name: str, found: Found) -> None:
        """Let a service log in, fetch its credentials and use them."""
        if name in self.machines and not self.machines[name].may_log_in():
            found.wrong(f"{name} may not log in to the secrets server any more with what it has")
        try:
            machine = start(self.stage.observer(wanted), wanted.project, name)
        except DjopsError as error:
            return found.wrong(f"{name} gets nothing from the secrets server: {error}")
        with machine.session:
            found.probes += 1
            for path in set(machine.opens) - set(machine.still_opens()):
                found.wrong(f"{name} may not read {path}")
            if not machine.user:
                return None
            if not self._logs_in(machine.user, machine.password):
                return found.wrong(f"what the secrets server gives {name} does not work")
            self._live_rows(now, name, self._as_machine(machine), found)
        return None

    def _settled(self, now: Moment, wanted: Wanted) -> Iterator[str]:
        """Yield rights that are not the new ones, and credentials that do not fit."""
        for who in self.case.principals:
            for ask in self.new.rights.asks if now.rights is not self.new.rights else ():
                if now.rights(who, ask) != self.new.rights(who, ask):
                    yield f"{who} may {'' if now.rights(who, ask) else 'not '}{ask}"
            user, kept = now.seen.users.get(who), now.seen.kept.get(who)
            fields = kept.fields if kept is not None else {}
            mine = {value for name, value in fields.items() if name.endswith(".access_key")}
            if user is not None and set(user.keys) != mine:
                yield f"{who} has {len(user.keys)} keys, and {len(mine)} are kept"
            if now.seen.is_kept(who) and not self._password_works(kept, who):
                yield f"the password kept for {who} does not work"

    @contextlib.contextmanager
    def sessions(self) -> Iterator[Callable[[], Found]]:
        """Open sessions of those who lose something, in the schemas where they do.

        Yields:
            What tells at the end whether any of them still uses what was taken away.
        """
        with contextlib.ExitStack() as stack:
            held: list[tuple[str, MysqlAsk, MysqlProbe]] = []
            for name in self.case.concerned:
                lost, login = self._lost(name), self._login(name, self.old)
                if not lost or login is None:
                    continue
                probes: dict[str, MysqlProbe] = {}
                for ask in lost:
                    if ask.schema not in probes:
                        probe = MysqlProbe(login)
                        probe.query(f"USE {ask.schema}")
                        probe.attempt("SELECT 1")
                        probes[ask.schema] = stack.enter_context(contextlib.closing(probe))
                    held.append((name, ask, probes[ask.schema]))
            yield lambda: self._still_used(held)

    def _lost(self, name: str) -> list[MysqlAsk]:
        asks = (ask for ask in self.old.rights.asks if isinstance(ask, MysqlAsk) and ask.table)
        return [
            ask
            for ask in asks
            if attempt(ask, COLUMNS, ask.schema)
            and self.old.rights(name, ask)
            and not self.new.rights(name, ask)
        ]

    def _login(self, name: str, at: Moment) -> MysqlConnection | None:
        """Return how somebody logs in to the database, with what was given or is kept at a moment."""
        machine = self.machines.get(name)
        if machine is not None and machine.user:
            return self._as_machine(machine) if self._logs_in(machine.user, machine.password) else None
        kept = at.seen.kept.get(name)
        if kept is None or not self._password_works(kept, name):
            return None
        return replace(self.stage.site.mysql, user=name, password=Secret(kept.fields["database.password"]))

    def _as_machine(self, machine: Machine) -> MysqlConnection:
        return replace(self.stage.site.mysql, user=machine.user, password=Secret(machine.password))

    def _still_used(self, held: Iterable[tuple[str, MysqlAsk, MysqlProbe]]) -> Found:
        found, ended = Found(), set[MysqlProbe]()
        for name, ask, probe in held:
            tried = attempt(ask, COLUMNS, ask.schema)
            if tried is None or probe in ended:
                continue
            found.probes += 1
            try:
                number, _ = probe.attempt(tried.sql)
            except DjopsError:
                number = CR.CR_SERVER_GONE_ERROR
            if number == 0:
                found.wrong(f"{AT_THE_END}: an open session of {name} still uses {ask}")
            elif number in (CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST):
                ended.add(probe)  # it would log in anew
        return found

    def _cells(self, now: Moment, found: Found) -> None:
        asks = {**self.old.rights.asks, **self.new.rights.asks, **now.rights.asks}
        cells: set[Cell] = set()
        for who in self.case.principals:
            for ask, capability in asks.items():
                old, new, held = self.old.rights(who, ask), self.new.rights(who, ask), now.rights(who, ask)
                system, schema = ("mysql", ask.schema) if isinstance(ask, MysqlAsk) else ("s3", ask.resource)
                cells.add(Cell(who, schema, capability, system))  # type: ignore[arg-type]
                found.questions += 1
                if held and not (old or new):
                    found.wrong(f"{who} may {ask}, which neither the old nor the new rights allow")
                if who not in self.case.concerned and held != old and old == new:
                    found.wrong(f"{who}, whom the plan is not about, may {'' if held else 'not '}{ask}")
        found.cells += len(cells)

    def _leases(self, now: Moment) -> Iterator[str]:
        """Yield accounts that were leased and are more than their service, or outlive it."""
        mysql = now.seen.mysql
        leased = {name: mysql.leases.get(name) for name, one in mysql.accounts.items() if one.kind == "lease"}
        for name, lease in leased.items():
            if lease is None:
                yield f"{name} is marked as a lease, and nobody has leased it"
                continue
            service = AccountId(lease.service, name.host)
            if service not in mysql.accounts and not mysql.accounts[name].locked:
                yield f"a lease of {service} is open, which is gone"
            roles = {edge.role for edge in mysql.edges if edge.member == name}
            if roles - {service} or any(held.grantee == name for held in mysql.privileges):
                yield f"a lease of {service} holds more than {service}"
            for ask in self.new.rights.asks:
                known = any(side.rights(lease.service, ask) for side in (self.old, self.new))
                if isinstance(ask, MysqlAsk) and not known and _leased_holds(now, name.user, ask):
                    yield f"a lease of {service} may {ask}, which neither the old nor the new rights allow"

    def _given(self, now: Moment, found: Found) -> None:
        """Check that what services were given works for as long as they are to have it, and no longer."""
        after = now.seen.evidence.wanted.project.services
        for name, machine in self.machines.items():
            was = self.case.before.services[name].get("credentials", "kept")
            way = after[name].credentials.type if name in after else ""
            if was != way or not machine.user:
                continue
            found.probes += 1
            if not self._logs_in(machine.user, machine.password):
                found.wrong(f"what {name} was given does not work any more")

    def _accounts(self, now: Moment) -> Iterator[str]:
        """Yield accounts that are open though they are half written."""
        project = now.seen.evidence.wanted.project.project
        for name, account in now.seen.mysql.accounts.items():
            if account.project != project:
                continue
            before = self.old.seen.mysql.accounts.get(name)
            if account.kind == "role":
                if not account.locked:
                    yield f"role {name} is not locked"
                continue
            if account.locked:
                continue
            if not account.require_tls and (before is None or before.require_tls):
                yield f"{name} may log in without TLS"
            if name.user not in now.seen.passwords:
                yield f"{name} has no password"
            if account.kind is None:
                yield f"{name} is marked as the project's and nothing else"

    def _strangers(self, now: Moment) -> Iterator[str]:
        """Yield what changed about accounts that are not the project's."""
        wanted = now.seen.evidence.wanted.project
        keeper, project = self.stage.site.mysql.user, wanted.project
        rows: list[dict[str, set[object]]] = []
        for seen in (self.old.seen, now.seen):
            mine = {n for n, a in seen.mysql.accounts.items() if a.project != project and n.user != keeper}
            mine -= engines(wanted, seen.mysql)
            rows.append(
                {
                    "accounts": {(name, seen.mysql.accounts[name]) for name in mine},
                    "rights": {(h, p) for h, p in seen.mysql.privileges.items() if h.grantee in mine},
                    "roles": {edge for edge in seen.mysql.edges if edge.member in mine},
                }
            )
        for what, before in rows[0].items():
            if before != rows[1][what]:
                yield f"{what} of strangers changed: {sorted(map(str, before ^ rows[1][what]))}"

    def _policies(self, now: Moment) -> Iterator[str]:
        for name, text in now.seen.secrets.policies.items():
            known = [side.seen.secrets.policies.get(name) for side in (self.old, self.new)]
            if text not in known:
                yield f"policy {name} of the secrets server is neither the old nor the new one"
        for what in ("settings", "procedures"):
            sides = [getattr(side.seen, what) for side in (self.old, self.new)]
            for name, value in getattr(now.seen, what).items():
                if value not in [side.get(name) for side in sides]:
                    yield f"{what}: {name} is neither the old nor the new one"

    def _credentials(self, now: Moment, name: str, found: Found) -> None:
        """Check that what is kept works, or that djops knows that it does not."""
        project = now.seen.evidence.wanted.project
        path = self.case.path(project.project, name)
        facts, kept = now.seen.secrets.secrets.get(path, {}), now.seen.kept.get(name)
        account = now.seen.mysql.accounts.get(AccountId(name))
        if account is not None and not account.engine:
            noted = facts.get(STATE_FACT) == "set" and facts.get(CHANGED_FACT) == account.password_changed
            fresh = AccountId(name) not in self.old.seen.mysql.accounts
            works = self._password_works(kept, name)
            found.probes += 1
            if noted and not works:
                found.wrong(f"the password kept for {name} counts as in force, but does not work")
            if fresh and not works:
                found.wrong(f"{name} was made with a password that nobody knows")
            if works and account.require_tls and self._password_works(kept, name, tls=False):
                found.wrong(f"{name} may log in without TLS")
        user = now.seen.users.get(name)
        if user is not None:
            filed = facts.get(STORES_FACT, "") == ",".join(sorted(project.stores))
            if user.keys.get(facts.get(KEY_FACT, ""), False) and filed:
                found.probes += 1
                if not self._key_works(kept, project.stores):
                    found.wrong(f"the key kept for {name} counts as valid, but does not work")

    def _go_on(self, now: Moment, name: str, found: Found) -> None:
        kept = self.old.seen.kept.get(name)
        if self.old.seen.is_kept(name) and not self._password_works(kept, name):
            found.wrong(f"the password that {name} had before the renewal does not work any more")
        if now.seen.evidence.s3 is not None and not self._key_works(kept, ["main"]):
            found.wrong(f"the key that {name} had before the renewal does not work any more")

    def _password_works(self, kept: StoredSecret | None, name: str, *, tls: bool = True) -> bool:
        password = kept.fields.get("database.password") if kept else None
        return password is not None and self._logs_in(name, password, tls=tls)

    def _logs_in(self, user: str, password: str, *, tls: bool = True) -> bool:
        there = self.stage.site.mysql
        options: Any = {"ssl": {"ca": str(there.ca)}} if tls else {"ssl_disabled": True}
        try:
            pymysql.connect(host=there.host, port=there.port, user=user, password=password, **options).close()
        except (pymysql.MySQLError, RuntimeError):
            return False
        return True

    def _key_works(self, kept: StoredSecret | None, stores: Sequence[str] | Mapping[str, object]) -> bool:
        for store in stores:
            key = kept.fields.get(f"stores.{store}.access_key") if kept else None
            secret = kept.fields.get(f"stores.{store}.secret_key") if kept else None
            if key is None or secret is None:
                return False
            probe = self.stage.as_person(key, secret)
            bucket = self.stage.site.project.stores["main"].bucket
            try:
                probe.call(AwsCall("s3", "GetBucketLocation", {"Bucket": bucket}))
            except DjopsError as error:
                if "access key" in error.message:
                    return False
        return True

    def _live(self, now: Moment, name: str, found: Found) -> None:
        """Let the servers themselves answer, as the person, with the credentials that are kept."""
        login, kept = self._login(name, now), now.seen.kept.get(name)
        if login is not None:
            self._live_rows(now, name, login, found)
        if kept is not None and now.seen.users.get(name) is not None and self._key_works(kept, ["main"]):
            self._live_objects(now, name, kept, found)

    def _live_rows(self, now: Moment, name: str, there: MysqlConnection, found: Found) -> None:
        with contextlib.closing(MysqlProbe(there)) as probe:
            for ask in now.rights.asks:
                if (
                    not isinstance(ask, MysqlAsk)
                    or ask.privilege in (ADMIN_OPTION, "REFERENCES")
                    or ask.column
                ):
                    continue
                tried = attempt(ask, COLUMNS, ask.schema)
                if tried is None:
                    continue
                number, said = probe.attempt(tried.sql)
                found.probes += 1
                allowed = number == 0 or number in tried.let_in
                # An account that was leased since is its service.
                leased = AccountId(there.user) in now.seen.mysql.accounts and there.user != name
                held = _leased_holds(now, there.user, ask) if leased else now.rights(name, ask)
                if not allowed and number not in tried.refusals:
                    found.wrong(f"{name}, {ask}: error {number}: {said}")
                elif allowed != held:
                    found.wrong(f"{name}, {ask}: the catalog says {held}, MySQL {allowed}")

    def _live_objects(self, now: Moment, name: str, kept: StoredSecret, found: Found) -> None:
        key, secret = kept.fields["stores.main.access_key"], kept.fields["stores.main.secret_key"]
        probe = self.stage.as_person(key, secret)
        asks = [ask for ask in now.rights.asks if isinstance(ask, S3Ask) and _request(ask) is not None]
        for ask in asks[self.turn % THIRD :: THIRD]:
            call = _request(ask)
            if call is None:
                continue
            code, held = probe.attempt(call), now.rights(name, ask)
            found.probes += 1
            until = time.monotonic() + _SETTLED
            # Ceph once refused for a moment, right after its start, what its policies allow.
            while held and code in _REFUSED and time.monotonic() < until:
                time.sleep(0.5)
                code = probe.attempt(call)
            # Whoever may list learns that there is no such object; whoever may not is refused.
            if (code not in _REFUSED) != held:
                found.wrong(f"{name}, {ask}: the catalog says {held}, the store {code or 'done'}")


def _verified(found: Evidence) -> Iterator[str]:
    principals = found.wanted.project.principals
    accounts = {name: account for name, account in found.accounts.items() if name in principals}
    verdict = compare(replace(found, accounts=accounts), Choice(), STATIC)
    for one in verdict.disagreements:
        yield f"verify: {one.cell} {one.asks[:2]}: djops.yaml {one.model}, the server {one.reader}"
    for violation in verdict.violations:
        yield f"verify: {violation.theorem}: {violation.text}"


def _leased_holds(now: Moment, user: str, ask: MysqlAsk) -> bool:
    """Tell whether an account that is no principal's holds what is asked, log-in apart."""
    account, mysql = AccountId(user), now.seen.evidence.mysql
    if account not in mysql.catalog.accounts or ask.privilege == ADMIN_OPTION:
        return False
    return ask.privilege in mysql.privileges(account, ask.schema, ask.table, ask.column)


def _request(ask: S3Ask) -> AwsCall | None:
    bucket, _, key = ask.resource.removeprefix(BUCKET_ARN).partition("/")
    match ask.action:
        case "s3:ListBucket" if ask.prefix and ask.prefix.endswith("/table/"):
            return AwsCall("s3", "ListObjectsV2", {"Bucket": bucket, "Prefix": ask.prefix, "MaxKeys": 0})
        case "s3:PutObject" if key.endswith("/probe") and "-djops-" not in key:
            # There is no such upload: whoever may put is told so, and nothing is left behind.
            there = {"Bucket": bucket, "Key": key, "UploadId": "0", "PartNumber": 1, "Body": b"x"}
            return AwsCall("s3", "UploadPart", there)
        case "s3:GetObject" if key.endswith("/probe") and "-djops-" not in key:
            return AwsCall("s3", "HeadObject", {"Bucket": bucket, "Key": key})
    return None
