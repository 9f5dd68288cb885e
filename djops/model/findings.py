"""Findings: what somebody should know about a project that is not wrong enough to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["warning", "info"]


@dataclass(frozen=True)
class Finding:
    """Something worth knowing.

    Attributes:
        code: Stable code, ``W_...``.
        message: What was found, in one sentence.
        where: File and line, or the system it is about.
        hint: What to do about it.
        severity: ``warning`` asks for attention, ``info`` does not.
    """

    code: str
    message: str
    where: str | None = None
    hint: str | None = None
    severity: Severity = "warning"
