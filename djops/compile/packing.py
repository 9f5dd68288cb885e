"""Policies packed under a server's limits, with exactly the meaning they had.

A policy is taken apart into atoms, each one action on one resource under one condition, and put together
again with every resource named once. Nothing is abbreviated by wildcards: ``*`` also stands for slashes, so
that ``_*/ephys/*`` would open ``_hash/imaging/ephys/x`` as well. What does not fit into the policies inside a
user goes into managed policies attached to it, each with the same denials, so that none is ever missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from djops.errors import PolicyTooLargeError

Document = Mapping[str, Any]

VERSION = "2012-10-17"


@dataclass(frozen=True)
class PolicyLimits:
    """How large a user's policies may be, in characters without whitespace.

    Attributes:
        server: Whose limits they are, for people.
        inline: All policies inside a user together.
        managed: One managed policy; 0 where the server has none of one's own.
        attached: Managed policies of one user.
    """

    server: str
    inline: int
    managed: int = 0
    attached: int = 0


CEPH = PolicyLimits("Ceph", inline=340_000)
"""Ceph 20.2.4 takes requests of up to 1 MiB, in which a mark of punctuation takes three characters; it has
no managed policies of one's own (measured)."""

AWS = PolicyLimits("AWS", inline=2_048, managed=6_144, attached=10)
"""As AWS documents its quotas; the last one can be raised to 20 on request."""


def limits_of(account: str) -> PolicyLimits:
    """Tell the limits of a server by the id of the account whose users it has.

    Args:
        account: The account's id as ARNs have it; Ceph's begin with ``RGW``. Empty when not known.
    """
    return AWS if account and not account.startswith("RGW") else CEPH


class Atom(NamedTuple):
    """One action on one resource under one condition.

    Attributes:
        action: The action.
        resource: The resource.
        prefix: The one pattern of ``s3:prefix`` that a listing must match; empty for other actions.
        rest: Whatever else the statement says, as JSON; empty for policies of djops' own making.
    """

    action: str
    resource: str
    prefix: str = ""
    rest: str = ""


def atoms(document: Document | None, effect: str) -> frozenset[Atom]:
    """Take the statements of one effect apart.

    Args:
        document: A policy; ``None`` for none. What it says with ``NotAction``, ``NotResource`` or
            ``NotPrincipal`` is no atom.
        effect: ``Allow`` or ``Deny``.
    """
    found: set[Atom] = set()
    for statement in listed((document or {}).get("Statement")):
        if isinstance(statement, Mapping) and statement.get("Effect") == effect:
            found.update(_atoms_of(statement))
    return frozenset(found)


def allows(document: Document | None) -> bool:
    """Tell whether a policy has anything to allow.

    Args:
        document: A policy; ``None`` for none.
    """
    statements = listed((document or {}).get("Statement"))
    return any(isinstance(one, Mapping) and one.get("Effect") == "Allow" for one in statements)


def _atoms_of(statement: Mapping[str, Any]) -> Iterable[Atom]:
    rest = {k: v for k, v in statement.items() if k not in ("Effect", "Action", "Resource", "Sid")}
    prefixes: Sequence[str] = [""]
    condition = rest.get("Condition")
    if rest.keys() == {"Condition"} and isinstance(condition, Mapping) and condition.keys() == {"StringLike"}:
        like = condition["StringLike"]
        # An empty pattern is one as well, and not the same as no condition.
        if isinstance(like, Mapping) and like.keys() == {"s3:prefix"} and all(listed(like["s3:prefix"])):
            prefixes, rest = listed(like["s3:prefix"]), {}
    told = json.dumps(rest, sort_keys=True) if rest else ""
    for action in listed(statement.get("Action")):
        for resource in listed(statement.get("Resource")):
            yield from (Atom(str(action), str(resource), str(prefix), told) for prefix in prefixes)


def listed(value: object) -> list[Any]:
    """Return a value that a policy may give alone or in a list, as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def size(document: Document) -> int:
    """Return how many characters of a document AWS counts: all but whitespace."""
    text = json.dumps(document, separators=(",", ":"))
    return len("".join(text.split()))


def whole(documents: Iterable[Document]) -> Document:
    """Unite policies that hold together, as one document of any size."""
    together = [statement for one in documents for statement in listed(one.get("Statement"))]
    return {"Version": VERSION, "Statement": together}


def compact(allowed: Iterable[Atom], denied: Iterable[Atom]) -> Document:
    """Put atoms together so that every resource and every prefix is named once.

    Args:
        allowed: What is allowed.
        denied: What is denied.

    Returns:
        A policy of the same meaning; equal atoms give equal text.
    """
    statements = [*_statements("Allow", allowed), *_statements("Deny", denied)]
    return {"Version": VERSION, "Statement": statements}


def _statements(effect: str, these: Iterable[Atom]) -> Iterable[dict[str, Any]]:
    actions: dict[tuple[str, str, str], set[str]] = {}
    for atom in these:
        limit = atom.resource if atom.prefix else ""
        actions.setdefault((limit, atom.rest, atom.prefix or atom.resource), set()).add(atom.action)
    named: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (limit, rest, name), of in sorted(actions.items()):
        named.setdefault((limit, rest, tuple(sorted(of))), []).append(name)
    for (limit, rest, of_all), names in sorted(named.items(), key=lambda item: (item[0][0], item[0])):
        statement: dict[str, Any] = {"Effect": effect, "Action": list(of_all)}
        if limit:
            yield {**statement, "Resource": [limit], "Condition": {"StringLike": {"s3:prefix": names}}}
        else:
            yield {**statement, "Resource": names, **(json.loads(rest) if rest else {})}


def without(document: Document, gone: frozenset[Atom]) -> Document:
    """Take permissions out of a policy, and leave everything else as it is.

    Args:
        document: A policy.
        gone: What goes.
    """
    statements = listed(document.get("Statement"))
    untouched = [one for one in statements if not gone & atoms({"Statement": [one]}, "Allow")]
    if len(untouched) == len(statements):
        return document
    touched = [one for one in statements if one not in untouched]
    stays = compact(atoms({"Statement": touched}, "Allow") - gone, ())
    return {**document, "Statement": [*stays["Statement"], *untouched]}


def limited_to(document: Document, allowed: frozenset[Atom]) -> Document:
    """Take everything out of a policy that is not among some permissions; denials stay.

    Args:
        document: A policy, perhaps edited by hand.
        allowed: What may stay.

    Returns:
        The policy itself when nothing goes. What is allowed in words that are no atoms always goes.
    """
    stays: list[Any] = []
    split: set[Atom] = set()
    statements = listed(document.get("Statement"))
    for one in statements:
        found = atoms({"Statement": [one]}, "Allow")
        if (isinstance(one, Mapping) and one.get("Effect") == "Deny") or (found and found <= allowed):
            stays.append(one)
        else:
            split |= found & allowed
    if len(stays) == len(statements):
        return document
    return {**document, "Statement": [*compact(split, ())["Statement"], *stays]}


@dataclass(frozen=True)
class Packed:
    """A user's rights as the policies that hold them: one inside the user, or managed ones.

    Attributes:
        inline: The policy inside the user, if there is one.
        managed: Managed policies to attach, in order.
    """

    inline: Document | None = None
    managed: tuple[Document, ...] = ()


def pack(name: str, document: Document, limits: PolicyLimits) -> Packed:
    """Pack one user's policy.

    Args:
        name: The user's.
        document: The policy as it is compiled; it has atoms only.
        limits: The server's limits.

    Returns:
        The first of these that fits: the document as it is, the same with every resource named once,
        managed policies.

    Raises:
        PolicyTooLargeError: ``E_POLICY_SIZE`` with the arithmetic, when nothing fits.
    """
    if size(document) <= limits.inline:
        return Packed(inline=document)
    allowed, denied = atoms(document, "Allow"), atoms(document, "Deny")
    small = compact(allowed, denied)
    if size(small) <= limits.inline:
        return Packed(inline=small)
    parts = tuple(_split(allowed, denied, limits.managed)) if limits.managed else ()
    if 0 < len(parts) <= limits.attached:
        return Packed(managed=parts)
    raise _too_large(name, small, len(parts), limits)


def _split(allowed: frozenset[Atom], denied: frozenset[Atom], room: int) -> Iterable[Document]:
    """Fill policies one after the other, each with all denials; what is on one place stays together."""
    places: dict[tuple[str, str], set[Atom]] = {}
    for atom in allowed:
        places.setdefault((atom.prefix or atom.resource, atom.rest), set()).add(atom)
    part: set[Atom] = set()
    taken = base = size(compact((), denied))
    for _, these in sorted(places.items()):
        more = max(size(compact(these, denied)) - base, 0)
        # Statements are shared within a part, so a part is measured whole before it is closed.
        if part and taken + more > room:
            taken = size(compact(part, denied))
            if taken + more > room:
                yield compact(part, denied)
                part, taken = set(), base
        part |= these
        taken += more
    if part:
        yield compact(part, denied)


def _too_large(name: str, small: Document, parts: int, limits: PolicyLimits) -> PolicyTooLargeError:
    places = {atom.prefix or atom.resource for atom in atoms(small, "Allow")}
    need = size(small)
    each = need / max(len(places), 1)
    counted = f"{name}'s rights take {need:,} characters, {each:.0f} for each of {len(places):,} places"
    if limits.managed:
        room = limits.attached * limits.managed
        have = f"{limits.attached} managed policies of {limits.managed:,} hold {room:,}"
        counted += f", which is {parts} managed policies"
    else:
        have = f"one policy holds {limits.inline:,}"
    return PolicyTooLargeError(
        f"{counted}; with {limits.server}, {have}",
        where=name,
        hint="give fewer schemas to one name, for example to one service for each part of the pipeline; "
        "shorten `location` or the bucket's name in a new store"
        + ("; or have AWS raise the quota of managed policies per user" if limits.managed else ""),
    )
