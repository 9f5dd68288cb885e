"""What the secrets server holds for one project, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SecretsState:
    """What the secrets server holds for one project, or should hold.

    Attributes:
        policies: Text of each of the project's policies, by policy name.
        secrets: Non-secret facts (``custom_metadata``) of each secret that has a readable version, by
            its path below the mount: ``my_lab/people/alice``.
    """

    policies: Mapping[str, str]
    secrets: Mapping[str, Mapping[str, str]]
