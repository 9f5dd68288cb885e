"""Rights as S3 prefix policies: one IAM user for each principal, with one inline policy.

Keys and calls as DataJoint 2.3.5 was seen to use them: objects lie at ``{location}/_hash/{schema}/...``
and ``{location}/_schema/{schema}/...``; a new blob asks HEAD and LIST before PUT; a folder asks
GetBucketLocation and, when refused, tries CreateBucket. Deleting rows touches no object, so no right
of a person removes any: only garbage collection does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from djops.compile.rights import Rights
from djops.errors import NameRefusedError
from djops.model.project import Project, Store
from djops.model.roles import Capability

POLICY_NAME = "djops"
"""Name of the one inline policy on each principal."""

_PATTERNS = ("*", "?", "[", "]", "\\", "${", ":")

Document = Mapping[str, Any]


@dataclass(frozen=True)
class IamUser:
    """One IAM user.

    Attributes:
        policies: Inline policies by name.
        keys: Access keys by id; the value tells whether the key is active.
        attached: ARNs of managed policies attached.
        groups: Names of groups joined.
    """

    policies: Mapping[str, Document] = field(default_factory=dict)
    keys: Mapping[str, bool] = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bucket:
    """What protects a bucket as a whole.

    Attributes:
        versioned: Whether an overwritten or deleted object can be had back.
        blocks_public: Whether all four public-access blocks are on; without them a writer can publish
            an object by an ACL header.
        policy: The bucket policy, if any.
    """

    versioned: bool = True
    blocks_public: bool = True
    policy: Document | None = None


@dataclass(frozen=True)
class S3State:
    """Principals and buckets of one project on one S3 server.

    Attributes:
        users: IAM users under the project's path, by name.
        buckets: The project's buckets, by name.
    """

    users: Mapping[str, IamUser] = field(default_factory=dict)
    buckets: Mapping[str, Bucket] = field(default_factory=dict)


def iam_path(project: str) -> str:
    """Return the IAM path that marks users as the project's own."""
    return f"/djops/{project}/"


def compile_s3(project: Project, rights: Rights) -> S3State:
    """Compile rights to what the S3 server should hold.

    Args:
        project: The project, for its stores and principals.
        rights: The compiled rights.

    Returns:
        One user with one policy for each principal, none without stores; and the buckets.
        Access keys are left empty: they are made by the server.

    Raises:
        NameRefusedError: ``E_NAME`` for a schema whose name is a wildcard in a policy.
    """
    if not project.stores:
        return S3State()
    places = _Places(tuple(project.stores.values()))
    users: dict[str, IamUser] = {}
    for name, held in rights.by_principal.items():
        may: dict[Capability, set[str]] = {Capability.READ: set(), Capability.INSERT: set()}
        for right in held:
            if right.capability in may:
                may[right.capability].add(right.schema)
        document = _policy_document(places, may[Capability.READ], may[Capability.INSERT])
        users[name] = IamUser({POLICY_NAME: document})
    return S3State(users, {store.bucket: Bucket() for store in project.stores.values()})


def schema_prefixes(store: Store, schema: str) -> tuple[str, str]:
    """Return the two key prefixes, each with its closing slash, below which a schema's objects lie.

    Raises:
        NameRefusedError: ``E_NAME`` when the name, or a part of the store's location, would be read as
            something else than itself in a policy or a key.
    """
    reason = "it would lie inside another schema's place" if "/" in schema else None
    for part in (schema, *store.location.split("/"), store.hash_prefix, store.schema_prefix):
        reason = reason or _unusable(part)
    if reason is not None:
        raise NameRefusedError(
            f"schema {schema!r} cannot have objects in bucket {store.bucket!r}: {reason}",
            hint="rename the schema, or keep its data out of the stores",
        )
    parts = (store.location, store.hash_prefix, schema), (store.location, store.schema_prefix, schema)
    first, second = ("/".join(part for part in path if part) + "/" for path in parts)
    return first, second


def _unusable(part: str) -> str | None:
    """Say why a part of a key cannot be written in a policy so that every server takes it literally.

    AWS escapes wildcards as ``${*}``, which Ceph takes for an empty variable; Ceph escapes them with a
    backslash, which AWS takes for a character. Ceph also reads ``[...]`` as a set of characters, so that
    a schema called ``[a-z]`` would open others, and refuses a colon in a resource (20.2.4, measured).
    """
    marks = [mark for mark in _PATTERNS if mark in part]
    if marks:
        return f"{' '.join(marks)} has a meaning of its own in an S3 policy"
    if part in (".", "..") or any(unicodedata.category(mark) in ("Cc", "Cs") for mark in part):
        return f"{part!r} is not kept as it is in a key"
    return None


class _Places:
    """Where each schema's objects lie, worked out once for all who may reach them."""

    def __init__(self, stores: tuple[Store, ...]) -> None:
        self.stores = stores
        self.known: dict[str, tuple[tuple[str, str], ...]] = {}

    def of(self, schema: str) -> tuple[tuple[str, str], ...]:
        """Return bucket and key prefix of every place."""
        if schema not in self.known:
            found = [(store.bucket, p) for store in self.stores for p in schema_prefixes(store, schema)]
            self.known[schema] = tuple(found)
        return self.known[schema]


def _policy_document(places: _Places, readable: set[str], writable: set[str]) -> Document:
    """Write the policy of one principal, with lists sorted, so that equal rights give equal documents.

    What may be written may always be read, because the client asks before it puts.
    """
    objects: dict[bool, list[str]] = {False: [], True: []}
    listed: dict[str, list[str]] = {}
    for schema in readable | writable:
        for bucket, prefix in places.of(schema):
            objects[schema in writable].append(f"arn:aws:s3:::{bucket}/{prefix}*")
            listed.setdefault(bucket, []).append(f"{prefix}*")
    statements = [
        _allow(["s3:GetObject"], objects[False]),
        _allow(["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"], objects[True]),
        *(_list(bucket, prefixes) for bucket, prefixes in sorted(listed.items())),
        _allow(["s3:GetBucketLocation"], [f"arn:aws:s3:::{bucket}" for bucket in listed]),
        {"Effect": "Deny", "Action": ["s3:CreateBucket"], "Resource": ["*"]},
    ]
    return {
        "Version": "2012-10-17",
        "Statement": [statement for statement in statements if statement["Resource"]],
    }


def _allow(actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": sorted(resources)}


def _list(bucket: str, prefixes: list[str]) -> dict[str, Any]:
    condition = {"StringLike": {"s3:prefix": sorted(prefixes)}}
    return {**_allow(["s3:ListBucket"], [f"arn:aws:s3:::{bucket}"]), "Condition": condition}
