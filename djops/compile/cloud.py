"""The settings of an ``aws`` environment as Pulumi's configuration of the stacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from djops.model.project import Environment, Project

PROGRAM = "djops"
"""The name of the Pulumi project, as ``Pulumi.yaml`` has it: part of every resource's name for the engine."""


def stack_name(project: str, environment: str) -> str:
    """Name the stack of an environment; no other project's environment has the same.

    Args:
        project: Name of the project.
        environment: Name of the environment.
    """
    return f"{project}.{environment}"


def stack_config(project: Project, name: str) -> Mapping[str, str]:
    """Write the configuration that ``stacks/cloud/settings.py`` reads.

    Args:
        project: The project.
        name: Name of an environment with the target ``aws``.

    Returns:
        Values by key with its namespace, JSON where they are no text; none is secret. What is as usual is
        left out.
    """
    env = project.environments[name]
    settings: dict[str, Any] = {
        "project": project.project,
        "environment": name,
        "size": env.size,
        "buckets": _buckets(project, env),
        "openbao": _written(env.openbao),
        "image": _written(env.image),
        "workers": [{"name": one, **(_written(workers) or {})} for one, workers in env.workers.items()],
        "workerEnvironment": dict(env.worker_environment),
        "meterCommand": list(env.meter_command),
        "audit": env.audit,
        "cidr": env.cidr,
        "existing": _existing(env),
    }
    if env.budget is not None:
        settings |= {"budgetUsd": env.budget.usd, "budgetEmails": list(env.budget.emails)}
    given = {
        f"{PROGRAM}:{key}": value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in settings.items()
        if value
    }
    return {"aws:region": env.region or "", **given}


def _buckets(project: Project, env: Environment) -> list[dict[str, Any]]:
    names = dict.fromkeys(store.bucket for store in project.stores.values())
    return [{"name": name, **(_written(env.buckets.get(name)) or {})} for name in names]


def _existing(env: Environment) -> dict[str, Any]:
    found = _written(env.existing) or {}
    if "database" in found:
        # How djops verifies it is none of the stacks' business.
        found["database"].pop("ca", None)
    return found | ({"secretsAddress": env.secrets.address} if env.secrets is not None else {})


def _written(model: BaseModel | None) -> dict[str, Any] | None:
    """Write what was given of a part of the file, with the keys that the stacks have."""
    if model is None:
        return None
    return _camel(model.model_dump(mode="json", exclude_defaults=True))


def _camel(value: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``noncurrent_days`` into ``noncurrentDays``, except where keys are names: buckets have no `_`."""
    return {_key(key): _camel(one) if isinstance(one, dict) else one for key, one in value.items()}


def _key(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(part.capitalize() for part in rest)
