"""An answer of a reader: yes or no, with the rows or statements that decide it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """Whether something is allowed, and by what.

    Attributes:
        allowed: The answer.
        because: What decides it, in the server's own words: grant rows with the path of roles to them, or
            policy statements; for a refusal what denies it, empty when nothing allows it.
        certain: Whether the catalog settles it. Where it does not, ``allowed`` means that it may be so.
    """

    allowed: bool
    because: tuple[str, ...] = ()
    certain: bool = True
