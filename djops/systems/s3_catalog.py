"""Everything an S3 server shows about access, read at once and with whatever rights djops has."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from djops.compile.s3 import Document
from djops.errors import AccessDeniedError
from djops.proof.iam_state import (
    BLOCKS,
    AclGrant,
    CatalogBucket,
    CatalogGroup,
    CatalogUser,
    IamCatalog,
)

if TYPE_CHECKING:
    from djops.systems.s3 import S3

T = TypeVar("T")

_WORKERS = 8


def read(server: S3, buckets: Iterable[str]) -> IamCatalog:
    """Read the catalog.

    Args:
        server: The server, as the identity that reads.
        buckets: The buckets to look at.

    Returns:
        What the server shows, with what it refuses to show by name.

    Raises:
        DjopsError: When the server fails otherwise than by refusing.
    """
    unread: list[str] = []

    def listed(action: str, member: str) -> list[Any]:
        return _or_unread(unread, member.lower(), [], lambda: server.listed(action, member, optional=True))

    with ThreadPoolExecutor(_WORKERS) as pool:
        kinds = (("ListUsers", "Users"), ("ListGroups", "Groups"), ("ListRoles", "Roles"))
        found_users, found_groups, roles = pool.map(lambda kind: listed(*kind), kinds)
        known = found_groups or "groups" in unread
        grouped = bool(known) or "Groups" not in server.ask("iam", "ListGroups", {})
        users = list(pool.map(lambda found: _user(server, found, grouped=grouped), found_users))
        groups = list(pool.map(lambda found: _group(server, found["GroupName"]), found_groups))
        names = list(dict.fromkeys(buckets))
        looked = list(pool.map(lambda name: _bucket(server, name), names))
        arns = sorted(_managed_arns(users, groups))
        managed = list(pool.map(lambda arn: _managed(server, arn), arns))
    return IamCatalog(
        users={found["UserName"]: user for found, user in zip(found_users, users, strict=True)},
        groups={found["GroupName"]: group for found, group in zip(found_groups, groups, strict=True)},
        managed=dict(zip(arns, managed, strict=True)),
        buckets={name: one for name, one in zip(names, looked, strict=True) if one is not None},
        roles=tuple(role["RoleName"] for role in roles),
        unread=tuple(sorted(unread)),
    )


def as_document(text: str) -> Any:  # noqa: ANN401
    """Return a policy as data: AWS answers identity policies URL-encoded, Ceph 20.2.4 as they are."""
    plain = text if text.lstrip().startswith("{") else unquote(text)
    return json.loads(plain, object_pairs_hook=_with_shared_texts)


def _with_shared_texts(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Keep each text once: the same places stand in the policies of many."""
    return {
        key: [sys.intern(one) if isinstance(one, str) else one for one in value]
        if isinstance(value, list)
        else value
        for key, value in pairs
    }


def _or_unread(unread: list[str], name: str, default: T, ask: Callable[[], T]) -> T:
    """Ask, and note the name of what djops is refused."""
    try:
        return ask()
    except AccessDeniedError:
        unread.append(name)
        return default


def _user(server: S3, listed: Mapping[str, Any], *, grouped: bool) -> CatalogUser:
    name, arn, user_id = listed["UserName"], listed["Arn"], listed["UserId"]
    try:
        found = server.user(name, grouped=grouped)
        # The list leaves boundaries out.
        whole = server.ask("iam", "GetUser", {"User": {}}, UserName=name)["User"]
    except AccessDeniedError:
        return CatalogUser(arn, user_id, unread=("policies",))
    boundary = whole.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
    return CatalogUser(arn, user_id, found.policies, found.attached, found.groups, found.keys, boundary)


def _managed_arns(users: Iterable[CatalogUser], groups: Iterable[CatalogGroup]) -> set[str]:
    holders = [*(user.attached for user in users), *(group.attached for group in groups)]
    return {user.boundary for user in users if user.boundary}.union(*holders)


def _group(server: S3, name: str) -> CatalogGroup:
    who = {"GroupName": name}
    policies: dict[str, Document | None] = {}
    try:
        for policy in server.listed("ListGroupPolicies", "PolicyNames", optional=True, **who):
            answer = server.ask("iam", "GetGroupPolicy", None, **who, PolicyName=policy)
            if answer is not None:
                policies[str(policy)] = as_document(answer["PolicyDocument"])
        attached = server.listed("ListAttachedGroupPolicies", "AttachedPolicies", optional=True, **who)
    except AccessDeniedError:
        return CatalogGroup(unread=("policies",))
    return CatalogGroup(policies, tuple(policy["PolicyArn"] for policy in attached))


def _managed(server: S3, arn: str) -> Document | None:
    try:
        policy = server.ask("iam", "GetPolicy", None, PolicyArn=arn)
        if policy is None:
            return None
        version = policy["Policy"]["DefaultVersionId"]
        found = server.ask("iam", "GetPolicyVersion", None, PolicyArn=arn, VersionId=version)
    except AccessDeniedError:
        return None
    return None if found is None else as_document(found["PolicyVersion"]["Document"])


def _bucket(server: S3, name: str) -> CatalogBucket | None:
    unread: list[str] = []

    def ask(action: str, what: str) -> Any:  # noqa: ANN401
        return _or_unread(unread, what, {}, lambda: server.ask("s3", action, None, Bucket=name))

    versioning = ask("GetBucketVersioning", "versioning")
    if versioning is None:
        return None
    policy = ask("GetBucketPolicy", "policy") or {}
    grants = (ask("GetBucketAcl", "access control list") or {}).get("Grants", ())
    blocked = ask("GetPublicAccessBlock", "public-access blocks") or {}
    blocks = blocked.get("PublicAccessBlockConfiguration", {})
    controls = ask("GetBucketOwnershipControls", "rule for ownership") or {}
    rules = controls.get("OwnershipControls", {}).get("Rules", ())
    return CatalogBucket(
        policy=as_document(policy["Policy"]) if policy else None,
        acl=tuple(_grant(grant) for grant in grants),
        blocks=frozenset(block for block in BLOCKS if blocks.get(block)),
        ownership=next((rule["ObjectOwnership"] for rule in rules), ""),
        versioned=versioning.get("Status") == "Enabled",
        unread=tuple(unread),
    )


def _grant(grant: Mapping[str, Any]) -> AclGrant:
    grantee = grant["Grantee"]
    return AclGrant(grantee.get("URI") or grantee.get("ID", ""), grant["Permission"])
