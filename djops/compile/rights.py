"""Rights: the one form between the project file and what each system holds.

A right says that a principal has a capability on a schema, and because of what. Everything that is
granted anywhere, and every answer to "may she?", comes from here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from djops.model.graph import PipelineGraph
from djops.model.names import is_sandbox
from djops.model.project import Grant, Project
from djops.model.roles import SANDBOX_ROLE, Capability, RoleModel

Relation = Literal["target", "upstream", "downstream"]


class Because(NamedTuple):
    """Why a right exists.

    Attributes:
        entry: The place in the project file, for example ``people.alice.grants[0]``.
        role: The role given there.
        target: The schema it is given for.
        relation: How the right's schema lies relative to ``target``.
    """

    entry: str
    role: str
    target: str
    relation: Relation

    def __str__(self) -> str:
        base = f"{self.entry}: {self.role} on {self.target}"
        return base if self.relation == "target" else f"{base}, {self.relation} of {self.target}"


class Right(NamedTuple):
    """A principal's capability on a schema.

    Attributes:
        principal: Account name.
        schema: Schema name as the database has it.
        capability: What may be done.
        because: Why.
    """

    principal: str
    schema: str
    capability: Capability
    because: Because


@dataclass(frozen=True)
class Rights:
    """All rights of a project.

    Attributes:
        principals: Every principal, also those without any right.
        rights: The rights, in a stable order.
    """

    principals: tuple[str, ...]
    rights: tuple[Right, ...]

    @cached_property
    def by_cell(self) -> Mapping[tuple[str, str, Capability], tuple[Right, ...]]:
        """The rights behind each (principal, schema, capability)."""
        found: dict[tuple[str, str, Capability], list[Right]] = {}
        for right in self.rights:
            found.setdefault((right.principal, right.schema, right.capability), []).append(right)
        return {cell: tuple(rights) for cell, rights in found.items()}

    @cached_property
    def by_principal(self) -> Mapping[str, tuple[Right, ...]]:
        """The rights of each principal; principals without any have an empty tuple."""
        found: dict[str, list[Right]] = {name: [] for name in self.principals}
        for right in self.rights:
            found[right.principal].append(right)
        return {name: tuple(rights) for name, rights in found.items()}

    @cached_property
    def downstream(self) -> Mapping[tuple[str, str], tuple[Right, ...]]:
        """The rights on schemas downstream of a grant's own, by principal and schema."""
        found: dict[tuple[str, str], list[Right]] = {}
        for right in self.rights:
            if right.because.relation == "downstream":
                found.setdefault((right.principal, right.schema), []).append(right)
        return {key: tuple(rights) for key, rights in found.items()}

    def capabilities(self, principal: str, schema: str) -> frozenset[Capability]:
        """Return what ``principal`` may do on ``schema``."""
        return frozenset(c for c in Capability if (principal, schema, c) in self.by_cell)


def is_expired(grant: Grant, today: dt.date) -> bool:
    """Tell whether a grant's last day is over."""
    return grant.until is not None and grant.until < today


def compile_rights(project: Project, graph: PipelineGraph, roles: RoleModel, today: dt.date) -> Rights:
    """Compile the project's people and services to rights.

    Args:
        project: The checked project.
        graph: The pipeline, from which the closures come.
        roles: The role model.
        today: Grants whose last day is before it give nothing.

    Returns:
        The rights of all principals.
    """
    reach = _Reach(graph, roles)
    found: list[Right] = []
    principals = tuple(sorted(project.principals))
    owned = project.owned
    schemas = graph.schemas | frozenset(owned.values())
    for name in principals:
        for entry, grant in project.grants_of(name):
            if is_expired(grant, today):
                continue
            if project.sandboxes is not None and grant.role in project.sandboxes.roles and name in owned:
                found += _own(name, owned[name], entry, roles)
            for schema in _targets(project, grant, roles, schemas):
                for relation, cells in reach.of(grant.role, schema, cascade=grant.cascade):
                    because = Because(entry, grant.role, schema, relation)
                    found += [Right(name, other, capability, because) for other, capability in cells]
    return Rights(principals, tuple(found))


def _own(name: str, sandbox: str, entry: str, roles: RoleModel) -> Iterable[Right]:
    """Yield what the owner of a sandbox has there."""
    because = Because(entry, SANDBOX_ROLE, sandbox, "target")
    return [Right(name, sandbox, capability, because) for capability in sorted(roles.sandbox.target)]


def _targets(project: Project, grant: Grant, roles: RoleModel, schemas: frozenset[str]) -> Iterable[str]:
    """Return what a grant is given on: of sandboxes those it names, and all where it is project-wide."""
    named = project.meant(grant.on, schemas)
    if not roles.role(grant.role).project_wide:
        return named
    return (*named, *sorted(name for name in schemas if is_sandbox(name) and name not in named))


Cells = tuple[tuple[str, Capability], ...]


class _Reach:
    """What a role on a schema reaches; worked out once for all who hold it."""

    def __init__(self, graph: PipelineGraph, roles: RoleModel) -> None:
        self.graph = graph
        self.roles = roles
        self.known: dict[tuple[str, str, bool], tuple[tuple[Relation, Cells], ...]] = {}

    def of(self, role: str, schema: str, *, cascade: bool) -> tuple[tuple[Relation, Cells], ...]:
        key = (role, schema, cascade)
        if key not in self.known:
            definition = self.roles.role(role)
            if is_sandbox(schema):
                self.known[key] = (("target", _cells((schema,), self.roles.in_sandbox(role))),)
                return self.known[key]
            below = definition.downstream | (definition.cascade if cascade else frozenset())
            self.known[key] = (
                ("target", _cells((schema,), definition.target)),
                ("upstream", _cells(self.graph.upstream(schema), definition.upstream)),
                ("downstream", _cells(self.graph.downstream(schema), below)),
            )
        return self.known[key]


def _cells(schemas: Iterable[str], capabilities: Collection[Capability]) -> Cells:
    ordered = sorted(capabilities)
    return tuple((schema, capability) for schema in sorted(schemas) for capability in ordered)
