"""Finding passwords that others know, from the hashes that only root of a server may see.

No password is tried at the door: that would lock accounts out, and be told apart from an attack by nobody.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Collection, Iterator, Sequence

from djops.compile.mysql_state import AccountId
from djops.systems.connections import MysqlConnection
from djops.systems.mysql import Mysql

DEFAULTS = (
    "password", "temppass", "Data_$haring", "dr0s0phila", "simple", "datajoint", "tutorial",
    "changeme", "guest", "mysql", "root", "secret", "123456", "test",
)  # fmt: skip
"""Passwords that stand in manuals, container images and published scripts of laboratories."""

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HEAD, _SALT = len("$A$005$"), 20
_CACHING, _NATIVE = "caching_sha2_password", "mysql_native_password"
_PERIOD = 2 * 3 * 7  # rounds after which the specification begins again


def weak_passwords(root: MysqlConnection, own: Collection[str]) -> list[tuple[AccountId, str]]:
    """Look for accounts whose password is empty, published, their own name, or another account's.

    Args:
        root: The server, as an account that sees hashes.
        own: Users whose passwords djops made, besides those it marked as its own.

    Returns:
        Accounts, and how their password is known.

    Raises:
        DjopsError: The server does not answer.
    """
    with Mysql(root) as server:
        rows = server.query(
            "SELECT User, Host, plugin, IF(JSON_EXTRACT(User_attributes, '$.metadata.djops') IS NULL, "
            "HEX(authentication_string), NULL), "
            "HEX(JSON_UNQUOTE(JSON_EXTRACT(User_attributes, '$.additional_password'))) "
            "FROM mysql.user WHERE account_locked = 'N'"
        )
    # The second one is an older password that is valid too, as for accounts that were taken over.
    found = [
        (AccountId(user, host), plugin, bytes.fromhex(stored))
        for user, host, plugin, *both in rows
        for stored in both
        if user not in own and stored is not None
    ]
    return list(_weak(found))


def _weak(rows: Sequence[tuple[AccountId, str, bytes]]) -> Iterator[tuple[AccountId, str]]:
    for account, plugin, stored in rows:
        if plugin not in (_CACHING, _NATIVE):
            continue
        if not stored:
            yield account, "there is no password"
        elif account.user and matches(plugin, stored, account.user):
            yield account, "the password is the account's name"
        elif any(matches(plugin, stored, default) for default in DEFAULTS):
            yield account, "the password is a default that stands in manuals and scripts"
        else:
            same = [str(one) for one, _, other in rows if other == stored and one != account]
            if same:
                yield account, f"the password is also that of {', '.join(same)}"


@functools.lru_cache(maxsize=20_000)
def matches(plugin: str, stored: bytes, password: str) -> bool:
    """Tell whether a password fits a stored hash; some milliseconds the first time, on purpose of the hash.

    Args:
        plugin: The authentication plugin.
        stored: What ``mysql.user`` holds.
        password: The password.
    """
    secret = password.encode()
    if plugin == _NATIVE:
        twice = hashlib.sha1(hashlib.sha1(secret, usedforsecurity=False).digest(), usedforsecurity=False)
        return stored == b"*" + twice.hexdigest().upper().encode()
    if len(stored) <= _HEAD + _SALT or stored[:3] != b"$A$":
        return False
    rounds = int(stored[3:6], 16) * 1000
    salt = stored[_HEAD : _HEAD + _SALT]
    return stored[_HEAD + _SALT :] == _sha256_crypt(secret, salt, rounds).encode()


def _sha256_crypt(secret: bytes, salt: bytes, rounds: int) -> str:
    """Hash as Drepper's SHA-crypt specification says, which MySQL uses with a salt of 20 bytes."""
    size = len(secret)
    other = hashlib.sha256(secret + salt + secret).digest()
    mixed = hashlib.sha256(secret + salt + _repeated(other, size))
    bits = size
    while bits:
        mixed.update(other if bits & 1 else secret)
        bits >>= 1
    digest = mixed.digest()
    p = _repeated(hashlib.sha256(secret * size).digest(), size)
    s = _repeated(hashlib.sha256(salt * (16 + digest[0])).digest(), len(salt))
    around = [_around(number, p, s) for number in range(_PERIOD)]
    for before, after in itertools.islice(itertools.cycle(around), rounds):
        digest = hashlib.sha256(before + digest + after).digest()
    return _encoded(digest)


def _around(number: int, p: bytes, s: bytes) -> tuple[bytes, bytes]:
    """Return what is hashed before and after the last digest in a round."""
    between = (s if number % 3 else b"") + (p if number % 7 else b"")
    return (p + between, b"") if number & 1 else (b"", between + p)


def _repeated(block: bytes, size: int) -> bytes:
    return (block * (size // len(block) + 1))[:size]


def _encoded(digest: bytes) -> str:
    """Write a digest in the order and alphabet of ``crypt``."""
    text, a, b, c = "", 0, 10, 20
    for _ in range(10):
        text += _base64(digest[a] << 16 | digest[b] << 8 | digest[c], 4)
        a, b, c = c + 1, a + 1, b + 1
    return text + _base64(digest[31] << 8 | digest[30], 3)


def _base64(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * place & 0x3F] for place in range(count))
