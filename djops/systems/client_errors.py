"""What errors of the DataJoint client mean: several of its texts name another cause than the real one.

The texts and their meanings are in ``policies/errors.yaml``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from djops.errors import AccessDeniedError, ClientError, DjopsError, ServerUnavailableError, Where
from djops.systems.resources import load_error_texts

_ADMIN_HINT = "ask for the right with `djops grant`, or check it with `djops can`"

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
    reading = load_error_texts().read(str(error))
    return "DataJointError" in names and reading is not None and reading.entry.denied


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
    if "PermissionError" in kinds:
        return AccessDeniedError(
            f"{doing}: the object store refused ({plain})", code="E_CLIENT_STORE", hint=_ADMIN_HINT
        )
    reading = load_error_texts().read(plain)
    if reading is None:
        return ClientError(f"{doing}: {plain or kinds[0]}")
    kind = AccessDeniedError if reading.entry.denied else ClientError
    meaning, hint = reading.fill(reading.entry.means), reading.fill(reading.entry.do)
    return kind(f"{doing}: {meaning} ({plain})", code="E_CLIENT", hint=hint)


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
