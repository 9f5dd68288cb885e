"""What the secrets server holds for one project, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SecretsState:
    """What the secrets server holds for one project, or should hold.

    Attributes:
        policies: Text of each of the project's policies, by policy name.
        secrets: Non-secret facts (``custom_metadata``) of each secret that has a readable version, by
            its path below the mount: ``my_lab/people/alice``.
        settings: Settings of services' log-ins and of the database engine, by API path; ``None`` where djops
            may not see to them.
    """

    policies: Mapping[str, str]
    secrets: Mapping[str, Mapping[str, str]]
    settings: Mapping[str, Mapping[str, Any]] | None = field(default_factory=dict)
