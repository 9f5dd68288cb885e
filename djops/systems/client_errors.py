"""What errors of the DataJoint client mean: several of its texts name another cause than the real one.

Texts and causes were measured with 2.3.5 on MySQL and Ceph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from djops.errors import AccessDeniedError, ClientError, DjopsError, ServerUnavailableError, Where


@dataclass(frozen=True)
class _Meaning:
    """What an error of the client really says.

    Attributes:
        text: A part of the client's message.
        denied: Whether a server refused a right.
        says: What it means, for people.
        hint: What to do.
    """

    text: str
    denied: bool
    says: str
    hint: str


_ADMIN_HINT = "ask for the right with `djops grant`, or check it with `djops can`"

_INVISIBLE = "the schema does not exist, or the account has no right on it; the client cannot tell them apart"

_MEANINGS = (
    _Meaning("command denied", True, "the database refused the right", _ADMIN_HINT),
    _Meaning("Cannot declare table", True, "the account may not create tables there", _ADMIN_HINT),
    _Meaning(
        "does not exist and could not be created",
        True,
        _INVISIBLE,
        _ADMIN_HINT,
    ),
    _Meaning(
        "has not yet been declared",
        True,
        _INVISIBLE,
        _ADMIN_HINT,
    ),
    _Meaning(
        "Delete blocked by",
        True,
        "rows that the account cannot see or delete depend on these",
        "somebody with delete on every schema downstream must do it (`cascade: true` in the grant)",
    ),
    _Meaning(
        "is not defined",
        True,
        "the table does not exist, or the account may not read it, which look the same to the client",
        _ADMIN_HINT,
    ),
    _Meaning(
        "lineage missing on one side",
        True,
        "the account reads only one of the two schemas' lineage",
        "reading must be granted on the schema as a whole; run `djops plan`",
    ),
    _Meaning(
        "Storage '' is requested",
        False,
        "the client does not find the default store when a column names none",
        "write the store's name, as in <blob@main>",
    ),
    _Meaning(
        "requested but not configured in stores",
        False,
        "a column names a store that djops.yaml does not have",
        "add it under `stores:`",
    ),
    _Meaning(
        "Unsupported attribute type",
        False,
        "a column has a type the client does not know; there are no unsigned integers, for one",
        "use one of the client's core types, for example int32",
    ),
    _Meaning("specified bucket does not exist", False, "the store has no bucket", "run `djops up` again"),
)

_UNREACHABLE = ("EndpointConnectionError", "LostConnectionError", "ConnectTimeoutError", "InterfaceError")


def is_denial(error: BaseException) -> bool:
    """Tell whether an error of the client means that a server refused a right.

    Args:
        error: What the client raised; it is often misleading, see :func:`explained`.

    Returns:
        Whether the database or the object store refused; other failures are no denial.
    """
    names = _kinds(error)
    if "AccessError" in names or isinstance(error, PermissionError):
        return True
    meaning = _meaning_of(str(error))
    return "DataJointError" in names and meaning is not None and meaning.denied


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what the client raises into errors of djops that say what it means.

    Args:
        doing: What was being done, as in ``creating the job table of x``.

    Raises:
        ServerUnavailableError: A server could not be reached.
        AccessDeniedError: A server refused.
        ClientError: Anything else.
    """
    try:
        yield
    except (DjopsError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise _explain(doing, _kinds(error), error.args, str(error)) from error


def _kinds(error: BaseException) -> tuple[str, ...]:
    return tuple(kind.__qualname__ for kind in type(error).__mro__)


def _meaning_of(text: str) -> _Meaning | None:
    return next((meaning for meaning in _MEANINGS if meaning.text in text), None)


def _explain(doing: str, kinds: Sequence[str], args: Sequence[object], text: str) -> DjopsError:
    number = args[0] if args and isinstance(args[0], int) else None
    plain = " ".join((str(args[1]) if number is not None and len(args) > 1 else text).split())
    if number == 1045:
        return AccessDeniedError(
            f"{doing}: the database refuses the account or its password, or a connection without TLS",
            hint="write the credentials again with `djops credentials`",
        )
    if "certificate verify failed" in plain:
        return ServerUnavailableError(
            f"{doing}: the server's certificate does not verify against the authority djops knows ({plain})",
            code="E_TLS",
            hint="name the right authority as `ca:` in djops.yaml, or check that this is the right server",
        )
    if number in (2003, 2006, 2013) or any(kind in _UNREACHABLE for kind in kinds):
        return ServerUnavailableError(f"{doing}: {plain}", hint="djops status tells which server is down")
    meaning = _meaning_of(plain)
    if "PermissionError" in kinds:
        return AccessDeniedError(
            f"{doing}: the object store refused ({plain})", code="E_CLIENT_STORE", hint=_ADMIN_HINT
        )
    if meaning is None:
        return ClientError(f"{doing}: {plain or kinds[0]}")
    kind = AccessDeniedError if meaning.denied else ClientError
    return kind(f"{doing}: {meaning.says} ({plain})", code="E_CLIENT", hint=meaning.hint)


def explain_remote(answer: Mapping[str, Any]) -> DjopsError:
    """Explain an error that the pipeline's process reported.

    Args:
        answer: ``doing``, ``kinds``, ``args``, ``text``, ``file`` and ``line``, as the process told them.

    Returns:
        The error, with the place in the pipeline's source.
    """
    kinds = [kind.rpartition(".")[2] for kind in answer["kinds"]]
    error = _explain(answer["doing"], kinds, answer["args"], answer["text"])
    if answer["file"]:
        error.where = str(Where(answer["file"], answer["line"]))
    return error
