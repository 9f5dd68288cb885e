"""Carrying out a plan: every operation on a server passes through :func:`execute`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from djops.errors import ApplyError, DjopsError
from djops.plan.change import Change, Plan
from djops.plan.mysql_changes import CHANGED_FACT, PASSWORD_FIELD, STATE_FACT
from djops.plan.operations import (
    AwsCall,
    EndSession,
    KeepKey,
    MarkSecret,
    NotePassword,
    Operation,
    SecretRef,
    Sql,
    StorePassword,
    VaultCall,
)
from djops.plan.s3_changes import KEY_FACT, STORES_FACT
from djops.services.servers import Servers
from djops.systems import journal, passwords
from djops.systems.progress import Progress, Silent
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
    servers: Servers, plan: Plan, progress: Progress | None = None, *, command: str = "apply"
) -> Applied:
    """Carry out a plan, change by change, narrowing before widening.

    Args:
        servers: The servers; the caller holds :meth:`Servers.changing`.
        plan: What to do; the very objects that were shown.
        progress: Who wants to know.
        command: What the journal shall call it, and what goes on from where it stopped.

    Returns:
        What was done.

    Raises:
        ApplyError: ``E_APPLY`` naming what was done and what was not; the next apply goes on from there.
    """
    done: list[Change] = []
    if plan.changes:
        file = journal.digest(servers.site.project_file)
        journal.record(servers.site.lab, command, changes=str(len(plan.changes)), file=file)
    with (progress or Silent()).step("Bringing the servers to what djops.yaml says") as step:
        for change in plan.changes:
            step.note(f"{len(done) + 1} of {len(plan.changes)}: {change.describe()}")
            try:
                for operation in change.operations():
                    execute(servers, operation)
            except DjopsError as error:
                raise ApplyError(
                    f"{len(done)} of {len(plan.changes)} changes were carried out; then "
                    f"{change.system}, {change.describe()}: {error.message}",
                    where=error.where,
                    hint=f"{error.hint}; "
                    * bool(error.hint)
                    + "no change is half done and nothing was opened too wide; once the cause is mended, "
                    f"`djops {command}` goes on from here",
                    code=error.code if error.code == "E_SERVER" else None,
                ) from error
            done.append(change)
        step.note(f"{len(done)} changes")
    return Applied(plan, tuple(done))


def execute(servers: Servers, operation: Operation) -> None:
    """Send one operation of a change to the server it is for.

    Args:
        servers: The servers.
        operation: The operation.

    Raises:
        DjopsError: The server refuses, or does not answer.
    """
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
        case StorePassword():
            _store_password(servers, operation)
        case MarkSecret():
            _note(servers, operation.path, operation.facts)
        case NotePassword():
            since = servers.mysql.password_changed(operation.account)
            _note(servers, operation.path, {STATE_FACT: "set", CHANGED_FACT: since})


def _reveal(servers: Servers, reference: SecretRef) -> str:
    stored = servers.secrets.read_secret(reference.path)
    if stored is None or reference.field not in stored.fields:
        raise ApplyError(
            f"the secrets server no longer has {reference.field} at {reference.path}",
            hint="somebody removed it meanwhile; run the command again",
        )
    return stored.fields[reference.field]


def _store_password(servers: Servers, operation: StorePassword) -> None:
    # Marked before it is written: a kept password counts only once the server is known to take it.
    _note(servers, operation.path, {STATE_FACT: "pending"})
    stored = servers.secrets.read_secret(operation.path)
    if stored is None or PASSWORD_FIELD not in stored.fields:
        fresh = {USER_FIELD: operation.user, PASSWORD_FIELD: passwords.generate()}
        servers.secrets.merge_secret(operation.path, fresh)


def _keep_key(servers: Servers, keep: KeepKey, key: Mapping[str, str]) -> None:
    fields: dict[str, str | None] = {}
    for store in keep.stores:
        fields[f"stores.{store}.access_key"] = key["AccessKeyId"]
        fields[f"stores.{store}.secret_key"] = key["SecretAccessKey"]
    servers.secrets.merge_secret(keep.path, fields)
    _note(servers, keep.path, {KEY_FACT: key["AccessKeyId"], STORES_FACT: ",".join(keep.stores)})


def _note(servers: Servers, path: str, facts: Mapping[str, str]) -> None:
    known = servers.secrets.read_metadata(path)
    servers.secrets.write_metadata(path, {**(known.facts if known else {}), **facts})
