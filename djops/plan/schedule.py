"""Which operations of a plan may be under way at the same time, as data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
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
    joined,
)

BATCH = 50
"""Accounts in one statement.

Making 50 takes 0.1 s, in which nobody else logs in, and no fewer seconds for each than 500 at once; dropping
500 takes 0.1 s by 50, and 1.3 s one by one when there are 500 others (MySQL 9.7). It is some 15 kB of text.
"""

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
        changes: Numbers of the changes it belongs to, more than one for a statement about several accounts.
        operation: The operation.
        after: Numbers of the pieces before it.
        singly: Where there are several changes, what the operation says for each of them.
    """

    changes: tuple[int, ...]
    operation: Operation
    after: frozenset[int]
    singly: tuple[Operation, ...] = ()

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
    noted in a row; so do operations of different changes on the same object, and all statements. Changes
    in a row that do the same to one account each share their statements: all their passwords are kept
    before the statement, and noted after it.

    Args:
        changes: The changes, in the order of the plan.

    Returns:
        The operations; each depends on earlier ones only.
    """
    pieces: list[Piece] = []
    last: dict[str, int] = {}
    using: defaultdict[str, list[int]] = defaultdict(list)
    for steps in _batches(changes):
        before: list[int] = []
        for step in steps:
            row: list[int] = []
            for numbers, operation, singly in step:
                what = touched(operation)
                after = {number for number in before if not {*numbers}.isdisjoint(pieces[number].changes)}
                after.update(last[key] for key in what.alone | what.shared if key in last)
                after.update(user for key in what.alone for user in using.pop(key, ()))
                here = len(pieces)
                pieces.append(Piece(numbers, operation, frozenset(after), singly))
                row.append(here)
                last.update(dict.fromkeys(what.alone, here))
                for key in what.shared:
                    using[key].append(here)
            before = row
    return tuple(pieces)


class _Step(NamedTuple):
    """One operation on its way into a piece, with the numbers of its changes and what it says for each."""

    changes: tuple[int, ...]
    operation: Operation
    singly: tuple[Operation, ...] = ()


def _batches(changes: Sequence[Change]) -> Iterator[Sequence[Sequence[_Step]]]:
    """Yield what changes do, for those together that share their statements.

    Returns:
        For each, rows of operations that need no order among themselves.
    """
    lists = [change.operations() for change in changes]
    first = 0
    while first < len(lists):
        whole = any(isinstance(one, Sql) and one.whole for one in lists[first])
        end, most = first + 1, len(lists) if whole else min(len(lists), first + BATCH)
        while end < most and _alike(lists[first], lists[end]):
            end += 1
        yield _together(lists, range(first, end)) if end > first + 1 else _alone(lists[first], first)
        first = end


def _alike(one: Sequence[Operation], other: Sequence[Operation]) -> bool:
    """Tell whether two changes do the same to one account each, so that one statement can do it to both."""
    return (
        len(one) == len(other)
        and any(isinstance(operation, Sql) for operation in one)
        and all(map(_match, one, other))
    )


def _match(one: Operation, other: Operation) -> bool:
    if isinstance(one, Sql) and isinstance(other, Sql):
        return one.frame is not None and one.frame == other.frame and not (one.instead or other.instead)
    kept = isinstance(one, StorePassword | KeepNextPassword | MarkSecret | NotePassword | ForgetFields)
    return kept and type(one) is type(other)


def _together(lists: Sequence[Sequence[Operation]], numbers: range) -> Sequence[Sequence[_Step]]:
    rows: list[list[_Step]] = []
    for operations in zip(*(lists[number] for number in numbers), strict=True):
        statements = [one for one in operations if isinstance(one, Sql)]
        if statements:
            one = joined(statements)
            rows.append([_Step(tuple(numbers), one, () if one.whole else operations)])
        else:
            rows.append([_Step((number,), one) for number, one in zip(numbers, operations, strict=True)])
    return rows


def _alone(operations: Sequence[Operation], number: int) -> Sequence[Sequence[_Step]]:
    """Divide one change's operations where their order counts: passwords of several accounts need none."""
    kinds = groupby(enumerate(operations), key=_kind)
    return [[_Step((number,), operation) for _, operation in row] for _, row in kinds]


def _kind(numbered: tuple[int, Operation]) -> object:
    number, operation = numbered
    return type(operation) if isinstance(operation, StorePassword | NotePassword) else number
