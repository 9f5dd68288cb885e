"""Asking the servers themselves: as a throw-away twin of each principal, without its password.

A twin is an account with the same roles, default roles and direct privileges, and an IAM user with the
same policies. What it tries is about no rows, or about objects that djops put there for it; everything
is removed afterwards, also by the next run after a kill.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from djops.compile.mysql_state import AccountId, Held
from djops.compile.s3 import iam_path
from djops.compile.sql import quote_account, quote_identifier, quote_string, schema_pattern
from djops.errors import AccessDeniedError, ApplyError, DjopsError
from djops.plan.operations import AwsCall
from djops.proof.attempts import attempt
from djops.proof.cells import ADMIN_OPTION, BUCKET_ARN, Cell, MysqlAsk, Place, Question, S3Ask, object_arn
from djops.proof.iam_state import IamCatalog
from djops.proof.theorems import row_text
from djops.services import trial
from djops.services.access import Servers
from djops.services.evidence import Evidence
from djops.services.trial import Trial
from djops.systems import passwords
from djops.systems.connections import MysqlConnection, S3Connection, Secret
from djops.systems.mysql import Mysql
from djops.systems.probes import MysqlProbe, S3Probe, columns_of
from djops.systems.progress import Progress

WORKERS = 4
"""Twins at work at once: modest, since people work on the same servers."""

_REFUSED = ("AccessDenied", "403", "AllAccessDisabled")
_UNTOUCHABLE = "SYSTEM_USER"
"""Whoever has it cannot be dropped by djops."""


@dataclass(frozen=True)
class Outcome:
    """What a server did.

    Attributes:
        allowed: Whether it let the twin; ``None`` when neither can be told.
        said: What it said, where that matters.
    """

    allowed: bool | None
    said: tuple[str, ...] = ()


@dataclass
class Tried:
    """Everything that was tried.

    Attributes:
        outcomes: What became of it, by principal and question.
        notes: What a twin could not be given.
        removed: Scratch schemas of killed runs that were removed first.
    """

    outcomes: dict[tuple[str, MysqlAsk | S3Ask], Outcome] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Twin:
    """Somebody just like a principal.

    Attributes:
        of: The principal.
        number: Tells its objects from others'.
        mysql: Its connection to the database; ``None`` when the principal has no account.
        s3: Its connection to the object store; ``None`` when the principal has no user.
        lacking: What the principal has and the twin could not be given, by system.
    """

    of: str
    number: int
    mysql: MysqlConnection | None
    s3: S3Connection | None
    lacking: Mapping[str, Sequence[str]]


Asked = Mapping[str, Iterable[tuple[Cell, Question]]]


def try_all(servers: Servers, found: Evidence, asked: Asked, progress: Progress, lock_wait: float) -> Tried:
    """Try everything that can be tried without doing it, as a twin of each principal.

    Args:
        servers: The servers.
        found: What the catalogs say, which twins are made from.
        asked: The questions for each principal.
        progress: Who wants to know.
        lock_wait: Seconds to wait for another djops.

    Returns:
        What became of it. Questions that only doing it would answer have no outcome.

    Raises:
        DjopsError: A server does not answer, or something could not be removed.
    """
    site = servers.site
    with servers.changing("verify", lock_wait):
        pass  # whoever is told to wait is told before anything was made
    tried = Tried(removed=trial.remove_remains(site, progress, lock_wait))
    places = sorted({place for one in found.places.values() for place in (*one.sections, *one.inboxes)})
    with trial.under_way(site, progress, lock_wait, places) as current:
        with access_as(servers, current) as making, progress.step("Making a twin of each principal") as step:
            workshop = _Workshop(making, found, current)
            workshop.furnish(places)
            twins = [workshop.twin(name, number) for number, name in enumerate(asked)]
            columns = columns_of(servers.mysql, found.order)
            step.note(f"{len(twins)} twins")
        bench = _Bench(found, current, columns, workshop.nobody)
        # Closed before anything is removed: nobody may go on trying then.
        with progress.step("Trying every right") as step, closing(_at_once(bench, twins, asked)) as results:
            for done, (twin, outcomes) in enumerate(results, 1):
                tried.outcomes |= {(twin.of, ask): outcome for ask, outcome in outcomes.items()}
                step.note(f"{done} of {len(twins)} principals, {len(tried.outcomes)} attempts")
    tried.notes += [
        f"the twin of {twin.of} lacks: {text}"
        for twin in twins
        for texts in twin.lacking.values()
        for text in texts
    ]
    return tried


@contextmanager
def access_as(servers: Servers, current: Trial) -> Iterator[Servers]:
    """Open the same servers with the trial's project in the place of the real one."""
    with Servers(current.site(servers.site, {})) as own:
        yield own


def _at_once(
    bench: _Bench, twins: Sequence[Twin], asked: Asked
) -> Generator[tuple[Twin, Mapping[MysqlAsk | S3Ask, Outcome]], None, None]:
    """Let some twins try at once; whoever stops waiting stops them all."""
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield from zip(twins, pool.map(lambda twin: bench.ask(twin, asked[twin.of]), twins), strict=True)
    finally:
        bench.stopped.set()
        pool.shutdown(cancel_futures=True)


# Twins


class _Workshop:
    """Makes twins.

    Args:
        servers: The servers, with the trial's project.
        found: Whom they are to be like.
        current: What everything made is recorded as.
    """

    def __init__(self, servers: Servers, found: Evidence, current: Trial) -> None:
        self.servers = servers
        self.found = found
        self.current = current
        self.nobody = AccountId(current.principal("nobody"))

    def furnish(self, places: Iterable[Place]) -> None:
        """Make what twins try things with: a schema, an account to pass roles to, objects to get."""
        self._sql(f"CREATE DATABASE {quote_identifier(self.current.schema)}")
        self._account(self.nobody, passwords.generate(), "ACCOUNT LOCK")
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(self._put, places))

    def _put(self, place: Place) -> None:
        there = {"Bucket": place.bucket, "Key": f"{place.prefix}{self.current.schema}/probe"}
        self.servers.s3.call(AwsCall("s3", "PutObject", {**there, "Body": b"djops"}))

    def twin(self, principal: str, number: int) -> Twin:
        """Make somebody just like a principal.

        Args:
            principal: The principal.
            number: Tells the twin from others.
        """
        lacking: dict[str, list[str]] = {"mysql": [], "s3": []}
        name = self.current.principal(str(number))
        mysql = self._in_database(self.found.accounts[principal], name, lacking["mysql"])
        reader = self.found.s3
        s3 = None if reader is None else self._in_store(reader.catalog, principal, name, lacking["s3"])
        return Twin(principal, number, mysql, s3, lacking)

    def _in_database(self, account: AccountId, name: str, lacking: list[str]) -> MysqlConnection | None:
        catalog = self.found.mysql.catalog
        if account not in catalog.accounts:
            return None
        password, twin = passwords.generate(), AccountId(name)
        self._account(twin, password, "REQUIRE SSL")
        scratch = quote_identifier(schema_pattern(self.current.schema, escape=not catalog.partial_revokes))
        self._sql(f"GRANT CREATE ON {scratch}.* TO {quote_account(*twin)}")
        for edge, admin in sorted(catalog.edges.items()):
            if edge.member == account:
                option = " WITH ADMIN OPTION" if admin else ""
                self._give(f"GRANT {quote_account(*edge.role)} TO {quote_account(*twin)}{option}", lacking)
        for held, names in sorted(catalog.privileges.items()):
            if held.grantee == account:
                if _UNTOUCHABLE in names:
                    lacking.append(f"{_UNTOUCHABLE} on *.*, which would keep djops from removing the twin")
                kept = names - {_UNTOUCHABLE}
                if kept:
                    self._give(row_text(Held(twin, held.scope), kept), lacking)
        active = [edge.role for edge in sorted(catalog.defaults) if edge.member == account]
        if active:
            roles = ", ".join(quote_account(*role) for role in active)
            self._give(f"SET DEFAULT ROLE {roles} TO {quote_account(*twin)}", lacking)
        for schema, privileges in catalog.restrictions.get(account, {}).items():
            what = f"REVOKE {', '.join(sorted(privileges))} ON {quote_identifier(schema)}.*"
            self._give(f"{what} FROM {quote_account(*twin)}", lacking)
        return replace(self.servers.site.mysql, user=name, password=Secret(password))

    def _account(self, account: AccountId, password: str, clauses: str) -> None:
        mark = json.dumps({"djops": {"project": self.current.project, "kind": "service"}}, sort_keys=True)
        text = f"CREATE USER {quote_account(*account)} IDENTIFIED BY {quote_string(password)}"
        self._sql(f"{text} {clauses} ATTRIBUTE {quote_string(mark)}")

    def _give(self, statement: str, lacking: list[str]) -> None:
        """Give a twin something, as root where djops' own account may not."""
        try:
            self._sql(statement)
        except (AccessDeniedError, ApplyError):
            try:
                self._as_root(statement)
            except DjopsError as error:
                lacking.append(f"{statement.partition(' TO ')[0]} ({error.message})")

    def _as_root(self, statement: str) -> None:
        if self.servers.site.mysql_root is None:
            raise AccessDeniedError("djops' account may not pass it on")
        with Mysql(self.servers.site.mysql_root) as root:
            root.query(statement)

    def _sql(self, statement: str) -> None:
        # Without values, so that a % in a name stays what it is.
        self.servers.mysql.query(statement)

    def _in_store(
        self, catalog: IamCatalog, principal: str, name: str, lacking: list[str]
    ) -> S3Connection | None:
        user = catalog.users.get(principal)
        if user is None:
            return None
        who = {"UserName": name}
        self._iam("CreateUser", {**who, "Path": iam_path(self.current.project)})
        documents: dict[str, Any] = dict(user.policies)
        attached = list(user.attached)
        for group in user.groups:
            known = catalog.groups.get(group)
            documents |= (
                {f"{group}.{policy}": text for policy, text in known.policies.items()} if known else {}
            )
            attached += known.attached if known else ()
            lacking += () if known else (f"the policies of group {group}",)
        for policy, document in documents.items():
            if document is None:
                lacking.append(f"policy {policy}, which cannot be read")
                continue
            text = json.dumps(document)
            self._iam("PutUserPolicy", {**who, "PolicyName": policy[:128], "PolicyDocument": text})
        for arn in dict.fromkeys(attached):
            try:
                self._iam("AttachUserPolicy", {**who, "PolicyArn": arn})
            except (AccessDeniedError, ApplyError) as error:
                lacking.append(f"policy {arn} ({error.message})")
        key = self._iam("CreateAccessKey", who)["AccessKey"]
        own = self.servers.site.s3
        return replace(own, access_key=key["AccessKeyId"], secret_key=Secret(key["SecretAccessKey"]))

    def _iam(self, action: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.servers.s3.call(AwsCall("iam", action, parameters))


# Trying


class _Bench:
    """Lets twins try things.

    Args:
        found: What the catalogs say.
        current: What everything made is recorded as.
        columns: Columns that can be written, by schema and table.
        nobody: An account to which roles are passed on.
    """

    def __init__(
        self,
        found: Evidence,
        current: Trial,
        columns: Mapping[tuple[str, str], tuple[str, ...]],
        nobody: AccountId,
    ) -> None:
        self.found = found
        self.current = current
        self.columns = columns
        self.nobody = nobody
        self.stopped = threading.Event()
        places = [place for one in found.places.values() for place in (*one.sections, *one.inboxes)]
        self._objects = {object_arn(place, "probe"): place for place in places}
        # The catalog's word is enough for every other way to spell a prefix.
        self._near = {spelling for p in places for spelling in (p.prefix, p.prefix[:-2])}
        self._listings = {(f"{BUCKET_ARN}{p.bucket}", f"{p.prefix}table/"): p for p in places}

    def ask(
        self, twin: Twin, questions: Iterable[tuple[Cell, Question]]
    ) -> Mapping[MysqlAsk | S3Ask, Outcome]:
        """Let a twin try whatever of the questions can be tried.

        Args:
            twin: The twin.
            questions: The questions.
        """
        outcomes: dict[MysqlAsk | S3Ask, Outcome] = {}
        database = MysqlProbe(twin.mysql) if twin.mysql is not None else None
        store = S3Probe(twin.s3) if twin.s3 is not None else None
        try:
            for _, question in questions:
                if self.stopped.is_set():
                    break
                ask = question.ask
                if isinstance(ask, MysqlAsk):
                    outcome = self._rows(database, ask, twin) if database else None
                else:
                    outcome = self._object(store, ask, twin) if store else None
                if outcome is not None:
                    outcomes[ask] = outcome
        finally:
            if database is not None:
                database.close()
        return outcomes

    def _rows(self, server: MysqlProbe, ask: MysqlAsk, twin: Twin) -> Outcome | None:
        if ask.privilege == ADMIN_OPTION:
            return self._passes_on(server, ask)
        if not ask.schema:
            return None
        known = self.columns.get((ask.schema, ask.table), ())
        tried = attempt(ask, known, self.current.schema)
        if tried is None:
            return None
        number, said = server.attempt(tried.sql)
        if number == 0 or number in tried.let_in:
            return Outcome(True)
        if number in tried.refusals:
            # What the twin could not be given it cannot show.
            return None if twin.lacking["mysql"] else Outcome(False, (said,))
        return Outcome(None, (f"error {number}: {said}",))

    def _passes_on(self, server: MysqlProbe, ask: MysqlAsk) -> Outcome:
        said = ""
        for role in self.found.readers_of(ask.schema):
            number, said = server.attempt(f"GRANT {quote_account(*role)} TO {quote_account(*self.nobody)}")
            if number == 0:
                return Outcome(True)
        return Outcome(False, (said,) if said else ())

    def _object(self, server: S3Probe, ask: S3Ask, twin: Twin) -> Outcome | None:
        requests = self._requests(ask, twin)
        if not requests:
            return None
        codes = [server.attempt(request) for request in requests]
        if all(code == "" for code in codes):
            return Outcome(True)
        if all(code in _REFUSED for code in codes):
            return None if twin.lacking["s3"] else Outcome(False, (f"{requests[0].action}: {codes[0]}",))
        shown = (f"{one.action}: {code or 'done'}" for one, code in zip(requests, codes, strict=True))
        return Outcome(None, tuple(shown))

    def _requests(self, ask: S3Ask, twin: Twin) -> list[AwsCall]:
        """Return the requests that answer a question, none where only doing it would tell."""
        scratch = self.current.schema
        bucket = ask.resource.removeprefix(BUCKET_ARN)
        if ask.action == "s3:GetBucketLocation":
            return [AwsCall("s3", "GetBucketLocation", {"Bucket": bucket})]
        if ask.action == "s3:ListBucket":
            place = self._listings.get((ask.resource, ask.prefix or ""))
            prefix = ask.prefix if place is None else f"{place.prefix}{scratch}/"
            named = {} if prefix is None else {"Prefix": prefix}
            if place is None and prefix in self._near:
                return []
            # No names are wanted; what may not be listed is refused all the same.
            return [AwsCall("s3", "ListObjectsV2", {"Bucket": bucket, "MaxKeys": 0, **named})]
        place = self._objects.get(ask.resource)
        if place is None:
            return []

        def at(name: str) -> dict[str, Any]:
            return {"Bucket": place.bucket, "Key": f"{place.prefix}{scratch}/{name}"}

        match ask.action:
            case "s3:GetObject":
                return [AwsCall("s3", "HeadObject", at("probe")), AwsCall("s3", "GetObject", at("probe"))]
            case "s3:PutObject":
                return [AwsCall("s3", "PutObject", {**at(f"put-{twin.number}"), "Body": b"djops"})]
            case "s3:DeleteObject":
                return [AwsCall("s3", "DeleteObject", at(f"gone-{twin.number}"))]
        return []
