"""Which operations of a plan may be under way at the same time, as data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from djops.compile.vault import MOUNT
from djops.plan.change import Change
from djops.plan.operations import (
    AwsCall,
    ConnectEngine,
    EndSession,
    ForgetFields,
    KeepNextPassword,
    MarkSecret,
    NotePassword,
    Operation,
    SecretRef,
    Sql,
    StorePassword,
    VaultCall,
)

DATABASE = "mysql"
"""The object that every statement touches: one connection, one statement after the other."""


class Touched(NamedTuple):
    """What an operation touches.

    Attributes:
        alone: Objects that nothing else may deal with meanwhile.
        shared: Objects that others may use as well, but not change.
    """

    alone: frozenset[str]
    shared: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Piece:
    """One operation and what has to be done before it.

    Attributes:
        change: Number of the change it belongs to.
        operation: The operation.
        after: Numbers of the pieces before it.
    """

    change: int
    operation: Operation
    after: frozenset[int]

    @property
    def on_database(self) -> bool:
        """Whether it belongs on the database's one connection."""
        return isinstance(self.operation, Sql | EndSession)


def touched(operation: Operation) -> Touched:
    """Tell what an operation touches.

    Args:
        operation: The operation.
    """
    match operation:
        case Sql():
            secrets = {f"secret:{part.path}" for part in operation.parts if isinstance(part, SecretRef)}
            return Touched(frozenset({DATABASE}), frozenset(secrets))
        case EndSession():
            return Touched(frozenset({DATABASE}))
        case VaultCall():
            return Touched(frozenset({_secret_of(operation.path)}))
        case AwsCall():
            return _touched_by_call(operation)
        case ConnectEngine():
            return Touched(frozenset({DATABASE, f"vault:{operation.name}"}))
        case StorePassword() | KeepNextPassword() | MarkSecret() | NotePassword() | ForgetFields():
            return Touched(frozenset({f"secret:{operation.path}"}))


def _secret_of(path: str) -> str:
    for section in ("metadata", "data"):
        if path.startswith(f"{MOUNT}/{section}/"):
            return f"secret:{path.removeprefix(f'{MOUNT}/{section}/')}"
    return f"vault:{path}"


def _touched_by_call(call: AwsCall) -> Touched:
    """A user's own things are one object; policies and groups are used by many at once."""
    names = {key: str(call.parameters[key]) for key in _OBJECTS if key in call.parameters}
    # An inline policy has a name within its user; a managed one is known by the end of its ARN.
    if "PolicyArn" in names:
        names["PolicyArn"] = names["PolicyArn"].rsplit("/", 1)[-1]
    elif "PolicyName" in names and len(names) == 1:
        names = {"PolicyArn": names["PolicyName"]}
    names.pop("PolicyName", None)
    owner = next((key for key in _OBJECTS if key in names), None)
    alone = {f"{call.service}:{owner}:{names[owner]}"} if owner else {f"{call.service}:{call.action}"}
    shared = {f"{call.service}:{key}:{name}" for key, name in names.items() if key != owner}
    kept = {f"secret:{call.keep_key.path}"} if call.keep_key is not None else set[str]()
    return Touched(frozenset(alone | kept), frozenset(shared))


_OBJECTS = ("Bucket", "UserName", "RoleName", "GroupName", "PolicyArn", "PolicyName")
"""Parameters that name objects; the first one there is what the call changes."""


def schedule(changes: Sequence[Change]) -> tuple[Piece, ...]:
    """Split changes of one phase into operations, each with what must be done before it.

    The operations of a change keep their order, but for passwords of several accounts that are kept or
    noted in a row; so do operations of different changes on the same object, and all statements.

    Args:
        changes: The changes, in the order of the plan.

    Returns:
        The operations; each depends on earlier ones only.
    """
    pieces: list[Piece] = []
    last: dict[str, int] = {}
    using: defaultdict[str, list[int]] = defaultdict(list)
    for number, change in enumerate(changes):
        before: list[int] = []
        row: list[int] = []
        for operation in change.operations():
            if row and not _side_by_side(pieces[row[-1]].operation, operation):
                before, row = row, []
            what = touched(operation)
            after = {*before, *(last[key] for key in what.alone | what.shared if key in last)}
            after.update(user for key in what.alone for user in using.pop(key, ()))
            here = len(pieces)
            pieces.append(Piece(number, operation, frozenset(after)))
            row.append(here)
            last.update(dict.fromkeys(what.alone, here))
            for key in what.shared:
                using[key].append(here)
    return tuple(pieces)


def _side_by_side(one: Operation, other: Operation) -> bool:
    """Tell whether two operations that follow each other in a change do not need that order."""
    return type(one) is type(other) and isinstance(one, StorePassword | NotePassword)
