"""Changes to the project file as data: who shall get, keep or lose what.

How a change is written into the file without disturbing the rest is :mod:`djops.systems.projectedit`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from djops.errors import UsageError
from djops.model.nearest import advice
from djops.model.project import ALL, Grant, Principal, Project, resolve_on
from djops.model.yamltree import Path

Section = Literal["people", "services"]


@dataclass(frozen=True)
class SetValue:
    """Give a key a value, whether the key exists or not.

    Attributes:
        path: The key; everything above it exists.
        value: Plain data.
    """

    path: Path
    value: Any


@dataclass(frozen=True)
class Append:
    """Add to a list; a single value in its place becomes a list first.

    Attributes:
        path: The list.
        value: Plain data.
    """

    path: Path
    value: Any


@dataclass(frozen=True)
class Remove:
    """Remove a key or a list item; what is left may be empty.

    Attributes:
        path: The key or item.
    """

    path: Path


Edit = SetValue | Append | Remove


def section_of(project: Project, name: str) -> Section:
    """Tell whether a principal is a person or a service.

    Raises:
        UsageError: ``E_UNKNOWN_PRINCIPAL`` with the nearest name.
    """
    if name in project.people:
        return "people"
    if name in project.services:
        return "services"
    hint = f"{advice(name, project.principals, what='people and services')} New people: `djops users add`"
    raise UsageError(f"there is no {name!r} in the project", hint=hint, code="E_UNKNOWN_PRINCIPAL")


def add_principal(project: Project, section: Section, name: str, email: str | None = None) -> list[Edit]:
    """Add a person or a service without rights.

    Args:
        project: The project.
        section: Where to.
        name: The account name.
        email: How to reach the person.

    Returns:
        The edits.

    Raises:
        UsageError: ``E_EXISTS`` when the name is taken.
    """
    if name in project.principals:
        raise UsageError(
            f"{name!r} is in the project already",
            hint=f"`djops users show {name}` shows what it may do",
            code="E_EXISTS",
        )
    return [SetValue((section, name), {**({"email": email} if email else {}), "grants": []})]


def grant_data(grant: Grant) -> dict[str, Any]:
    """Return a grant as the file holds it: one schema as a text, and only what is not the default."""
    data: dict[str, Any] = {"role": grant.role, "on": grant.on[0] if len(grant.on) == 1 else list(grant.on)}
    data |= {key: getattr(grant, key) for key in ("until", "reason") if getattr(grant, key) is not None}
    return data | {key: True for key in ("cascade", "force") if getattr(grant, key)}


def add_grant(project: Project, name: str, grant: Grant) -> list[Edit]:
    """Give a principal a role on schemas, merged with what it already has of the same role.

    What is asked holds afterwards: a grant of the same role on the same schemas takes the new end, also
    none; its reason, ``cascade`` and ``force`` stay unless given anew.

    Args:
        project: The project.
        name: The account name.
        grant: What to give.

    Returns:
        The edits; none when it is so already.

    Raises:
        UsageError: ``E_UNKNOWN_PRINCIPAL``.
    """
    section = section_of(project, name)
    grants = project.principals[name].grants
    base: Path = (section, name, "grants")
    wanted = grant.model_copy(update={"on": tuple(dict.fromkeys(grant.on))})
    for index, old in enumerate(grants):
        if old.role == wanted.role and set(old.on) == set(wanted.on):
            return list(_updates((*base, index), old, _joined(old, wanted)))
    touched = [
        (i, old) for i, old in enumerate(grants) if old.role == wanted.role and set(old.on) & set(wanted.on)
    ]
    for _, old in touched:
        wanted = wanted.model_copy(
            update={"cascade": wanted.cascade or old.cascade, "force": wanted.force or old.force}
        )
    home = next((i for i, old in enumerate(grants) if old.role == wanted.role and _alike(old, wanted)), None)
    edits: list[Edit] = []
    if home is None:
        missing = not grants
        edits.append(SetValue(base, [grant_data(wanted)]) if missing else Append(base, grant_data(wanted)))
    else:
        edits += [Append((*base, home, "on"), one) for one in wanted.on if one not in grants[home].on]
    elsewhere = [(index, old) for index, old in touched if index != home]
    return edits + list(_removals(base, elsewhere, set(wanted.on)))


def _joined(old: Grant, new: Grant) -> Grant:
    update = {"reason": new.reason or old.reason, "cascade": old.cascade or new.cascade}
    return new.model_copy(update={**update, "force": old.force or new.force})


def _alike(one: Grant, other: Grant) -> bool:
    keys = ("until", "reason", "cascade", "force")
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def _updates(path: Path, old: Grant, new: Grant) -> Iterator[Edit]:
    for key in ("until", "reason", "cascade", "force"):
        if getattr(new, key) != getattr(old, key):
            value = getattr(new, key)
            yield SetValue((*path, key), value) if value else Remove((*path, key))


def _removals(base: Path, grants: Sequence[tuple[int, Grant]], names: set[str]) -> Iterator[Edit]:
    """Take names out of grants, and whole grants of which nothing is left; the last first."""
    for index, grant in sorted(grants, key=lambda pair: pair[0], reverse=True):
        if set(grant.on) <= names:
            yield Remove((*base, index))
            continue
        for position in range(len(grant.on) - 1, -1, -1):
            if grant.on[position] in names:
                yield Remove((*base, index, "on", position))


def remove_grant(
    project: Project, name: str, role: str, on: Sequence[str], schemas: frozenset[str]
) -> list[Edit]:
    """Take a role on schemas from a principal.

    Args:
        project: The project.
        name: The account name.
        role: The role.
        on: Schemas, globs, or ``all`` for everything the principal has of this role.
        schemas: All schemas of the pipeline.

    Returns:
        The edits.

    Raises:
        UsageError: ``E_UNKNOWN_PRINCIPAL``; ``E_NOT_GRANTED`` when the principal does not have it, or has
            it only as part of a glob or of ``all``.
    """
    section = section_of(project, name)
    principal = project.principals[name]
    held = [(i, grant) for i, grant in enumerate(principal.grants) if grant.role == role]
    names: set[str] = set()
    for pattern in on:
        meant = {one for _, grant in held for one in grant.on if _means(pattern, one)}
        if not meant:
            raise _not_granted(name, principal, role, pattern, schemas)
        names |= meant
    touched = [(index, grant) for index, grant in held if set(grant.on) & names]
    return list(_removals((section, name, "grants"), touched, names))


def _means(pattern: str, name: str) -> bool:
    return pattern in (name, ALL) or (name != ALL and fnmatch.fnmatchcase(name, pattern))


def _not_granted(
    name: str, principal: Principal, role: str, pattern: str, schemas: frozenset[str]
) -> UsageError:
    for grant in principal.grants:
        if grant.role == role and pattern in resolve_on(grant.on, schemas):
            wide = ", ".join(grant.on)
            return UsageError(
                f"{name} has {role} on {pattern} as part of {wide!r}, and a part cannot be taken out",
                hint=f"`djops revoke {name} {role} '{grant.on[0]}'`, then grant what shall stay",
                code="E_NOT_GRANTED",
            )
    has = "; ".join(f"{grant.role} on {', '.join(grant.on)}" for grant in principal.grants) or "nothing"
    return UsageError(
        f"{name} does not have {role} on {pattern}", hint=f"{name} has: {has}", code="E_NOT_GRANTED"
    )
