"""What it takes to run the stacks, as ``stacks/needs.yaml`` has it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from djops.systems.resources import shipped


@dataclass(frozen=True)
class TypeNeeds:
    """What one type of resource needs.

    Attributes:
        actions: Actions of IAM.
        on: The resource that they are asked for on, with names to fill in.
        parts: The parts of a set-up that have the type; empty where all have.
    """

    actions: tuple[str, ...]
    on: str = "*"
    parts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class QuotaNeed:
    """Room that a new set-up takes under one of AWS's quotas.

    Attributes:
        what: What is counted.
        service: Code of the service.
        code: Code of the quota.
        takes: How much; ``None`` for as much as the workers say.
        part: The part of a set-up that takes it.
    """

    what: str
    service: str
    code: str
    takes: int | None
    part: str


@dataclass(frozen=True)
class Needs:
    """All of it.

    Attributes:
        types: By type of resource.
        always: Actions that are needed whatever is made.
        quotas: Room under quotas.
    """

    types: Mapping[str, TypeNeeds]
    always: tuple[str, ...]
    quotas: tuple[QuotaNeed, ...]

    def actions(self, parts: frozenset[str], names: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
        """Return the actions that a set-up needs, by the resource that they are asked for on.

        Args:
            parts: The parts that it has.
            names: What is filled in into names of resources.
        """
        found: dict[str, set[str]] = {"*": set(self.always)}
        for needs in self.types.values():
            if not needs.parts or needs.parts & parts:
                found.setdefault(needs.on.format_map(names), set()).update(needs.actions)
        return {resource: tuple(sorted(actions)) for resource, actions in found.items()}


@functools.cache
def load_needs() -> Needs:
    """Read the shipped file.

    Raises:
        InstallError: ``E_INSTALL`` when the installation is not whole.
    """
    data = yaml.safe_load(shipped("stacks/needs.yaml").read_text(encoding="utf-8"))
    types = {
        name: TypeNeeds(tuple(one["actions"]), one.get("where", "*"), frozenset(one.get("for", ())))
        for name, one in data["actions"].items()
    }
    quotas = tuple(
        QuotaNeed(
            one["what"],
            one["service"],
            one["code"],
            None if one["takes"] == "workers" else int(one["takes"]),
            one["for"],
        )
        for one in data["quotas"]
    )
    return Needs(types, tuple(data["always"]), quotas)
