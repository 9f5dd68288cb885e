"""Rights: the one form between the project file and what each system holds.

A right says that a principal has a capability on a schema, and because of what. Everything that is
granted anywhere, and every answer to "may she?", comes from here.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from djops.model.graph import PipelineGraph
from djops.model.project import Grant, Project
from djops.model.roles import Capability, Role, RoleModel

Relation = Literal["target", "upstream", "downstream"]


@dataclass(frozen=True, order=True)
class Because:
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


@dataclass(frozen=True, order=True)
class Right:
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


def schemas_named(grant: Grant, schemas: frozenset[str]) -> tuple[str, ...]:
    """Expand a grant's ``on`` to schema names.

    Args:
        grant: The grant.
        schemas: All schemas of the pipeline.

    Returns:
        The schemas meant, in alphabetical order; names that match nothing are left out.
    """
    if "all" in grant.on and "all" not in schemas:
        return tuple(sorted(schemas))
    return tuple(
        sorted(name for name in schemas if any(name == p or fnmatch.fnmatchcase(name, p) for p in grant.on))
    )


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
    found: set[Right] = set()
    for section, principals in (("people", project.people), ("services", project.services)):
        for name, principal in principals.items():
            for index, grant in enumerate(principal.grants):
                if is_expired(grant, today):
                    continue
                role = roles.roles[grant.role]
                for schema in schemas_named(grant, graph.schemas):
                    entry = f"{section}.{name}.grants[{index}]"
                    found.update(_rights_of(name, entry, grant, role, schema, graph))
    return Rights(tuple(sorted(project.principals)), tuple(sorted(found)))


def _rights_of(
    principal: str, entry: str, grant: Grant, role: Role, schema: str, graph: PipelineGraph
) -> Iterator[Right]:
    downstream = role.downstream | (role.cascade if grant.cascade else frozenset())
    reach: tuple[tuple[Relation, frozenset[str], frozenset[Capability]], ...] = (
        ("target", frozenset({schema}), role.target),
        ("upstream", graph.upstream(schema), role.upstream),
        ("downstream", graph.downstream(schema), downstream),
    )
    for relation, names, capabilities in reach:
        because = Because(entry, grant.role, schema, relation)
        for name in names:
            for capability in capabilities:
                yield Right(principal, name, capability, because)
