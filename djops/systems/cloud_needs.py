"""What it takes to run the stacks, as ``stacks/needs.yaml`` has it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from djops.systems.resources import shipped

STATE = "state"
"""The part of a set-up that `djops cloud init` makes."""


@dataclass(frozen=True)
class TypeNeeds:
    """What one type of resource, or one errand of djops' own, needs.

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
        own: What djops itself asks for, beside Pulumi, by what it is for.
    """

    types: Mapping[str, TypeNeeds]
    always: tuple[str, ...]
    quotas: tuple[QuotaNeed, ...]
    own: Mapping[str, TypeNeeds]

    def actions(self, parts: frozenset[str], names: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
        """Return the actions that a set-up needs, by the resource that they are asked for on.

        Args:
            parts: The parts that it has.
            names: What is filled in into names of resources.
        """
        found: dict[str, set[str]] = {"*": set(self.always)}
        for needs in (*self.types.values(), *self.own.values()):
            if not needs.parts or needs.parts & parts:
                found.setdefault(needs.on.format_map(names), set()).update(needs.actions)
        return {resource: tuple(sorted(actions)) for resource, actions in found.items()}

    def state(self, names: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
        """Return the actions that the place of Pulumi's state needs, likewise.

        Args:
            names: As for :meth:`actions`.
        """
        own = (needs for needs in self.own.values() if STATE in needs.parts)
        return {needs.on.format_map(names): tuple(sorted(needs.actions)) for needs in own}


@functools.cache
def load_needs() -> Needs:
    """Read the shipped file.

    Raises:
        InstallError: ``E_INSTALL`` when the installation is not whole.
    """
    data = yaml.safe_load(shipped("stacks/needs.yaml").read_text(encoding="utf-8"))
    types, own = (
        {
            name: TypeNeeds(tuple(one["actions"]), one.get("where", "*"), frozenset(one.get("for", ())))
            for name, one in data[section].items()
        }
        for section in ("actions", "djops")
    )
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
    return Needs(types, tuple(data["always"]), quotas, own)
