"""What is wrong with a server's TLS, out of what its client library raises."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from djops.errors import ServerUnavailableError

_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAMES = (62, 64)
"""OpenSSL's numbers of what keeps a certificate from verifying (``X509_V_ERR_*``)."""
_BROKEN_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""A server that went away in the middle, as it may without TLS."""


def tls_error(
    error: BaseException, server: str, where: str, ca: Path | None
) -> ServerUnavailableError | None:
    """Explain an error that has to do with TLS.

    Args:
        error: What a client library raised, however deep it holds the cause.
        server: The server's name for people, for example ``MySQL``.
        where: The server's address.
        ca: The authority that the server's certificate was to come from.

    Returns:
        The error with the code ``E_TLS``; ``None`` when it has nothing to do with TLS.
    """
    cause = next((one for one in _causes(error) if isinstance(one, ssl.SSLError)), None)
    if isinstance(cause, _BROKEN_OFF):
        return None
    if cause is None:
        return None
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return _unavailable(
            f"{server} does not answer in TLS ({cause.reason or cause})",
            where,
            "check the port, and that TLS is switched on there",
        )
    says = cause.verify_message or str(cause)
    return _unavailable(
        f"{server}'s certificate does not verify: {says}", where, _what_to_do(cause.verify_code, ca)
    )


def _what_to_do(code: int, ca: Path | None) -> str:
    if code == _EXPIRED:
        return "have the server's administrator renew it"
    if code == _NOT_YET_VALID:
        return "compare the clocks of both machines"
    if code in _OTHER_NAMES:
        return "name the server in djops.yaml as its certificate does, or add the name to the certificate"
    known = f"it was to come from {ca}" if ca else "the system's authorities do not know it"
    return f"{known}: name the file of the authority that signed it as `ca:`"


def _unavailable(message: str, where: str, hint: str) -> ServerUnavailableError:
    return ServerUnavailableError(message, where=where, hint=hint, code="E_TLS")


def _causes(error: object, depth: int = 6) -> Iterator[BaseException]:
    """Yield an error and all that it holds: libraries hide the cause in their own ways."""
    if not isinstance(error, BaseException) or depth == 0:
        return
    yield error
    kept = getattr(error, "kwargs", None)
    inner = [error.__cause__, error.__context__, getattr(error, "reason", None)]
    inner += [getattr(error, "original_exception", None), *error.args]
    inner += kept.values() if isinstance(kept, dict) else ()
    for one in inner:
        yield from _causes(one, depth - 1)
