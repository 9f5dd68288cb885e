"""Passwords that every system djops writes them to accepts."""

from __future__ import annotations

import secrets
import string

_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "-_.+=")
"""One of each satisfies MySQL's ``validate_password``; none needs quoting in SQL, files, URLs or shells."""

_ALPHABET = "".join(_CLASSES)
SHORTEST = 24


def generate(length: int = 32) -> str:
    """Make a random password.

    Args:
        length: Number of characters, at least 24; 32 carry about 194 bits.

    Returns:
        A password that begins with a letter and has lower case, upper case, digits and punctuation.

    Raises:
        ValueError: ``length`` is too short.
    """
    if length < SHORTEST:
        raise ValueError(f"a password has at least {SHORTEST} characters")
    while True:
        candidate = "".join(secrets.choice(_ALPHABET) for _ in range(length))
        # Drawn again as a whole, so that every position stays uniform over what is left.
        if candidate[0].isalpha() and all(any(char in kind for char in candidate) for kind in _CLASSES):
            return candidate
