"""The state of a stack in a file, in the form of Pulumi's checkpoints (version 3)."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class ResourceState:
    """What is known of one resource.

    Attributes:
        urn: Its name for the engine.
        type: Its type token.
        custom: Whether a provider manages it.
        id: Its name for the provider.
        inputs: What was asked for.
        outputs: What the provider said.
        parent: URN of its parent.
        dependencies: URNs of what must be there before it.
        provider: Reference of its provider.
        protect: Whether it must not be deleted.
        retainOnDelete: Whether deleting only forgets it.
        delete: Whether it was replaced and waits for its deletion.
    """

    urn: str
    type: str
    custom: bool
    id: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    dependencies: list[str] = field(default_factory=list)
    provider: str = ""
    protect: bool = False
    retainOnDelete: bool = False
    delete: bool = False


@dataclass
class State:
    """A stack's resources in an order in which they can be made, and steps that were begun and not ended."""

    resources: list[ResourceState] = field(default_factory=list)
    pending: list[dict[str, Any]] = field(default_factory=list)

    def current(self, urns: tuple[str, ...]) -> ResourceState | None:
        """Return the live resource with the first of these URNs that is known."""
        live = {one.urn: one for one in self.resources if not one.delete}
        return next((live[urn] for urn in urns if urn in live), None)


def read_state(file: Path) -> State:
    """Read a state file; without one there is nothing yet."""
    if not file.exists():
        return State()
    deployment = json.loads(file.read_text(encoding="utf-8"))["checkpoint"]["latest"]
    resources = [_resource(one) for one in deployment.get("resources", [])]
    return State(resources, deployment.get("pending_operations", []))


def write_state(file: Path, stack: str, state: State) -> None:
    """Write a state file so that a crash leaves the old one or the new one."""
    latest = {
        "manifest": {"time": dt.datetime.now(dt.UTC).isoformat(), "magic": "", "version": "double"},
        "resources": [{key: value for key, value in vars(one).items() if value} for one in state.resources],
        "pending_operations": state.pending,
    }
    text = json.dumps({"version": 3, "checkpoint": {"stack": stack, "latest": latest}})
    temporary = file.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _resource(read: Mapping[str, Any]) -> ResourceState:
    return ResourceState(**({"custom": False} | dict(read)))
