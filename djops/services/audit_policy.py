"""What an audit goes by: the shipped policy, and the project's own limits."""

from __future__ import annotations

from pathlib import Path

import yaml

from djops.errors import ConfigError
from djops.model.audit import AuditPolicy, audit_policy
from djops.systems.resources import shipped

POLICY_FILE = "audit.yaml"
"""Beside djops.yaml: the project's own limits."""


def policy_of(project_file: Path) -> AuditPolicy:
    """Read what the audit goes by.

    Args:
        project_file: The ``djops.yaml``; an ``audit.yaml`` beside it has limits of the project's own.

    Raises:
        ConfigError: ``E_AUDIT_POLICY`` when that file is not right.
    """
    ours = yaml.safe_load((shipped("policies") / POLICY_FILE).read_text(encoding="utf-8"))
    path = project_file.parent / POLICY_FILE
    try:
        own = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"it cannot be read: {error}", where=str(path), code="E_AUDIT_POLICY") from error
    return audit_policy(ours, own, str(path))
