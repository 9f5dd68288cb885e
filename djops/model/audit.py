"""What an audit goes by: limits, and how bad each kind of finding is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from djops.errors import ConfigError

Severity = Literal["high", "medium", "low", "note"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low", "note")
"""From the worst on; a ``note`` does not ask for anything."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Frozen):
    """When something becomes a finding.

    Attributes:
        password_days: Days after which a password is old.
        key_days: Days after which an access key is old.
        idle_days: Days without log-in after which somebody counts as gone.
        soon_days: Days before its end in which a grant is mentioned.
        log_megabytes: How much of the end of each server's log is read.
    """

    password_days: int = Field(default=365, ge=1)
    key_days: int = Field(default=365, ge=1)
    idle_days: int = Field(default=90, ge=1)
    soon_days: int = Field(default=14, ge=0)
    log_megabytes: int = Field(default=16, ge=1, le=1024)


class Rule(_Frozen):
    """One kind of finding.

    Attributes:
        severity: How bad it is.
        title: What it is called.
        mend: What mends it; ``{who}``, ``{on}`` and ``{role}`` are filled in.
    """

    severity: Severity
    title: str
    mend: str


class AuditPolicy(_Frozen):
    """The whole of ``policies/audit.yaml``.

    Attributes:
        limits: The limits.
        rules: The kinds of findings by their stable code.
        drift: Kinds of drift of other severity than their rule's.
    """

    limits: Limits = Limits()
    rules: Mapping[str, Rule] = Field(default_factory=dict)
    drift: Mapping[Severity, tuple[str, ...]] = Field(default_factory=dict)

    def severity_of_drift(self, kind: str) -> Severity:
        """Return how bad a kind of drift is.

        Args:
            kind: Its name.
        """
        named = (severity for severity, kinds in self.drift.items() if kind in kinds)
        return next(named, self.rules["DRIFT"].severity)


def audit_policy(shipped: Any, own: Any, where: str) -> AuditPolicy:  # noqa: ANN401  both come from files
    """Put the shipped policy and a project's own limits together.

    Args:
        shipped: Content of ``policies/audit.yaml``.
        own: Content of the project's ``audit.yaml``; ``None`` without one.
        where: What to call the latter in errors.

    Raises:
        ConfigError: ``E_AUDIT_POLICY`` when the project's file is not right.
    """
    policy = AuditPolicy.model_validate(shipped)
    if own is None:
        return policy
    try:
        if not isinstance(own, dict) or own.keys() - {"limits"}:
            raise ValueError("it may hold `limits` and nothing else")
        limits = Limits.model_validate({**policy.limits.model_dump(), **(own.get("limits") or {})})
    except (ValidationError, ValueError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        names = ", ".join(Limits.model_fields)
        raise ConfigError(reason, where=where, code="E_AUDIT_POLICY", hint=f"limits are: {names}") from error
    return policy.model_copy(update={"limits": limits})


@dataclass(frozen=True)
class AuditFinding:
    """Something that an auditor should know.

    Attributes:
        severity: How bad it is.
        kind: Stable code of its rule.
        title: What the kind is called.
        who: Whom it is about; empty when about nobody.
        text: What was found.
        mend: The command or statement that mends it.
        because: The rows, statements or entries behind it.
    """

    severity: Severity
    kind: str
    title: str
    who: str
    text: str
    mend: str
    because: tuple[str, ...] = ()
