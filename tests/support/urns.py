"""URNs and aliases as Pulumi's engine works them out."""

from __future__ import annotations

from collections.abc import Collection

from pulumi.runtime.proto import resource_pb2

STACK_TYPE = "pulumi:pulumi:Stack"


def urn_of(stack: str, project: str, parent: str, kind: str, name: str) -> str:
    """Write a URN: the types of all parents but the stack stand before the resource's own."""
    parents = parent.split("::")[2] if parent else STACK_TYPE
    types = kind if parents == STACK_TYPE else f"{parents}${kind}"
    return f"urn:pulumi:{stack}::{project}::{types}::{name}"


def aliases_of(
    stack: str,
    project: str,
    request: resource_pb2.RegisterResourceRequest,
    parent_aliases: Collection[str] = (),
) -> tuple[str, ...]:
    """Return the URNs that a resource may have had before, by aliases of its own or of its parents."""
    found = list(request.aliasURNs)
    for alias in request.aliases:
        if alias.urn:
            found.append(alias.urn)
            continue
        spec = alias.spec
        parent = "" if spec.noParent else (spec.parentUrn or request.parent)
        found.append(
            urn_of(
                spec.stack or stack,
                spec.project or project,
                parent,
                spec.type or request.type,
                spec.name or request.name,
            )
        )
    found += [urn_of(stack, project, parent, request.type, request.name) for parent in parent_aliases]
    return tuple(dict.fromkeys(found))
