"""Carrying out a plan: every operation on a server passes through :func:`execute`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from djops.compile.sql import quote_account, quote_string
from djops.compile.vault import DATABASE
from djops.errors import ApplyError, ConflictError
from djops.plan.change import Change, Plan
from djops.plan.mysql_changes import CHANGED_FACT, PASSWORD_FIELD, STATE_FACT, merged
from djops.plan.operations import (
    AwsCall,
    ConnectEngine,
    EndSession,
    ForgetFields,
    KeepKey,
    KeepNextPassword,
    MarkSecret,
    NotePassword,
    Operation,
    SecretRef,
    Sql,
    StorePassword,
    VaultCall,
)
from djops.plan.rotation import NEXT_FIELD, ROTATING
from djops.plan.s3_changes import KEY_FACT, STORES_FACT
from djops.plan.schedule import schedule
from djops.services.crew import Crew, Outcome, PhaseRun
from djops.services.journal import Record
from djops.services.servers import Servers
from djops.systems import passwords
from djops.systems.journal import digest
from djops.systems.progress import Progress, Silent, Step
from djops.systems.s3 import S3

USER_FIELD = "database.user"


@dataclass(frozen=True)
class Applied:
    """The outcome of an apply.

    Attributes:
        plan: What was to be done.
        done: What was done, in order.
    """

    plan: Plan
    done: tuple[Change, ...]


def apply(
    servers: Servers, plan: Plan, progress: Progress | None = None, *, command: str | None = None
) -> Applied:
    """Carry out a plan, narrowing before widening, and record it in the journal.

    Args:
        servers: The servers; the caller holds :meth:`Servers.changing`.
        plan: What to do; the very objects that were shown.
        progress: Who wants to know.
        command: What the journal shall call it; what the lock was taken for unless given.

    Returns:
        What was done.

    Raises:
        ApplyError: ``E_APPLY`` naming what was done and what was not; the next apply goes on from there.
    """
    if not plan.changes:
        return Applied(plan, ())
    cause = servers.cause if command is None else replace(servers.cause, command=command)
    record = Record(servers.journal, plan, cause, digest(servers.site.project_file))
    with (progress or Silent()).step("Bringing the servers to what djops.yaml says") as step:
        run = _Run(servers, plan, step, record)
        record.begin()
        try:
            run.carry_out()
        except KeyboardInterrupt as stop:
            record.end(run.outcome, interrupted=True)
            stop.add_note(f"{len(run.outcome.done)} of {len(plan.changes)} changes were carried out")
            raise
        record.end(run.outcome)
        if run.outcome.failed:
            raise StoppedError(plan, run.outcome, cause.command)
        step.note(f"{len(run.outcome.done)} changes")
    return Applied(plan, tuple(plan.changes[number] for number in run.outcome.done))


class _Run:
    """One plan on its way: phase after phase, so that everything that narrows comes before what widens."""

    def __init__(self, servers: Servers, plan: Plan, step: Step, record: Record) -> None:
        self.outcome = Outcome()
        self._servers, self._plan, self._step, self._record = servers, plan, step, record

    def carry_out(self) -> None:
        crew, first = Crew(), 0
        for _, together in groupby(self._plan.changes, key=lambda change: change.phase):
            changes = tuple(together)
            if self.outcome.failed:
                self.outcome.untouched += range(first, first + len(changes))
            else:
                self._phase(crew, changes, first)
            first += len(changes)

    def _phase(self, crew: Crew, changes: Sequence[Change], first: int) -> None:
        phase = PhaseRun(
            crew,
            schedule(changes),
            len(changes),
            # Looked up at each call: this is where every operation passes through.
            send=lambda operation: execute(self._servers, operation),
            finished=lambda number: self._finished(first + number),
            pause=self._record.pause,
        )
        try:
            phase.run()
        finally:
            self.outcome.add(phase.outcome, first)

    def _finished(self, number: int) -> None:
        self._record.finished(number)
        self._step.note(f"{number + 1} of {len(self._plan.changes)}: {self._plan.changes[number].describe()}")


class StoppedError(ApplyError):
    """A change was refused, or a server went away; what was done and what was not is known.

    Args:
        plan: What was to be done.
        outcome: What became of it; at least one change failed.
        command: What goes on from here.
    """

    def __init__(self, plan: Plan, outcome: Outcome, command: str) -> None:
        number, cause = next(iter(outcome.failed.items()))
        change = plan.changes[number]
        others = len(outcome.failed) - 1 + len(outcome.begun)
        super().__init__(
            f"{len(outcome.done)} of {len(plan.changes)} changes were carried out; then "
            f"{change.system}, {change.describe()}: {cause.message}"
            + (f" ({others} more were under way and are not finished)" if others else ""),
            where=cause.where,
            hint=f"{cause.hint}; "
            * bool(cause.hint)
            + "nothing was opened too wide, and every change can be done again; once the cause is mended, "
            f"`djops {command}` goes on from here",
            code=cause.code if cause.code in ("E_SERVER", "E_LOCK_LOST") else None,
        )
        self.plan = plan
        self.outcome = outcome


def execute(servers: Servers, operation: Operation) -> None:
    """Send one operation of a change to the server it is for.

    Args:
        servers: The servers.
        operation: The operation.

    Raises:
        LockedError: ``E_LOCK_LOST`` when the lock that the caller took is not held any more.
        DjopsError: The server refuses, or does not answer.
    """
    servers.require_lock()
    match operation:
        case Sql():
            servers.mysql.run(operation, lambda reference: _reveal(servers, reference))
        case EndSession():
            servers.mysql.end_sessions(operation.user)
        case AwsCall():
            root = servers.site.s3_root if operation.as_administrator else None
            answer = (S3(root) if root else servers.s3).call(operation)
            if operation.keep_key is not None:
                _keep_key(servers, operation.keep_key, answer["AccessKey"])
        case VaultCall():
            servers.secrets.run(operation)
        case ConnectEngine():
            _connect_engine(servers, operation)
        case ForgetFields():
            _forget_fields(servers, operation)
        case StorePassword():
            if operation.field == NEXT_FIELD:
                _store_next_password(servers, operation)
            else:
                _store_password(servers, operation)
        case KeepNextPassword():
            _keep_next_password(servers, operation)
        case MarkSecret():
            _note(servers, operation.path, operation.facts)
        case NotePassword():
            since = servers.mysql.password_changed(operation.account)
            _note(servers, operation.path, {STATE_FACT: "set", CHANGED_FACT: since})


def _reveal(servers: Servers, reference: SecretRef) -> str:
    just_kept = servers.recall(reference.path, reference.field)
    if just_kept is not None:
        return just_kept
    stored = servers.secrets.read_secret(reference.path)
    if stored is None or reference.field not in stored.fields:
        raise ApplyError(
            f"the secrets server no longer has {reference.field} at {reference.path}",
            hint="somebody removed it meanwhile; run the command again",
        )
    return stored.fields[reference.field]


def _store_password(servers: Servers, operation: StorePassword) -> None:
    fresh = {USER_FIELD: operation.user, PASSWORD_FIELD: passwords.generate()}
    with contextlib.suppress(ConflictError):
        servers.secrets.write_secret(operation.path, fresh, cas=0)
        servers.remember(operation.path, PASSWORD_FIELD, fresh[PASSWORD_FIELD])
        return
    # Marked before it is written: a kept password counts only once the server is known to take it.
    _note(servers, operation.path, {STATE_FACT: "pending"})
    stored = servers.secrets.read_secret(operation.path)
    if stored is None or PASSWORD_FIELD not in stored.fields:
        servers.secrets.merge_secret(operation.path, fresh)


def _connect_engine(servers: Servers, operation: ConnectEngine) -> None:
    password = passwords.generate()
    account = quote_account(*operation.account)
    # What was noted of the one before goes with it: MySQL tells in whole seconds when a password was changed.
    changed = f"IDENTIFIED BY {quote_string(password)} REQUIRE SSL {merged({'engine': None})}"
    servers.mysql.query(f"ALTER USER {account} {changed}")
    body = {**operation.settings, "password": password}
    servers.secrets.request("POST", f"{DATABASE}/config/{operation.name}", body)
    # From here on nobody but the secrets server knows it; when that was, is noted to see later changes.
    servers.secrets.request("POST", f"{DATABASE}/rotate-root/{operation.name}")
    noted = merged({"engine": servers.mysql.password_changed(operation.account)})
    servers.mysql.query(f"ALTER USER {account} {noted}")


def _forget_fields(servers: Servers, operation: ForgetFields) -> None:
    if servers.secrets.read_metadata(operation.path) is not None:
        servers.secrets.merge_secret(operation.path, dict.fromkeys(operation.fields))
        _note(servers, operation.path, dict.fromkeys(operation.facts, ""))


def _store_next_password(servers: Servers, operation: StorePassword) -> None:
    _note(servers, operation.path, {STATE_FACT: ROTATING})
    stored = servers.secrets.read_secret(operation.path)
    if stored is None or NEXT_FIELD not in stored.fields:
        servers.secrets.merge_secret(operation.path, {NEXT_FIELD: passwords.generate()})


def _keep_next_password(servers: Servers, operation: KeepNextPassword) -> None:
    stored = servers.secrets.read_secret(operation.path)
    if stored is not None and NEXT_FIELD in stored.fields:
        # One version of the secret: nobody ever reads both, or none.
        changed = {PASSWORD_FIELD: stored.fields[NEXT_FIELD], NEXT_FIELD: None}
        servers.secrets.merge_secret(operation.path, changed)


def _keep_key(servers: Servers, keep: KeepKey, key: Mapping[str, str]) -> None:
    fields: dict[str, str | None] = {}
    for store in keep.stores:
        fields[f"stores.{store}.access_key"] = key["AccessKeyId"]
        fields[f"stores.{store}.secret_key"] = key["SecretAccessKey"]
    known = servers.secrets.read_metadata(keep.path)
    filed = known.facts.get(STORES_FACT, "").split(",") if known else []
    for store in {*filed} - {*keep.stores, ""}:
        # A store that the project gave up: the key that is kept for it is about to be deleted.
        fields |= {f"stores.{store}.access_key": None, f"stores.{store}.secret_key": None}
    if known and known.facts.get(KEY_FACT):
        # Cut short between the next two, the secret would be one key's and the note beside it another's.
        _note(servers, keep.path, {KEY_FACT: ""})
    servers.secrets.merge_secret(keep.path, fields)
    _note(servers, keep.path, {KEY_FACT: key["AccessKeyId"], STORES_FACT: ",".join(keep.stores)})


def _note(servers: Servers, path: str, facts: Mapping[str, str]) -> None:
    known = servers.secrets.read_metadata(path)
    noted = {**(known.facts if known else {}), **facts}
    # The server takes no empty text: nothing stands for that.
    servers.secrets.write_metadata(path, {name: fact for name, fact in noted.items() if fact})
