"""Rights as S3 prefix policies: one IAM user for each principal, with one inline policy where that fits.

Keys and calls as DataJoint 2.3.5 was seen to use them: objects lie at ``{location}/_hash/{schema}/...``
and ``{location}/_schema/{schema}/...``; a new blob asks HEAD and LIST before PUT; a folder asks
GetBucketLocation and, when refused, tries CreateBucket. Deleting rows touches no object, so no right
of a person removes any: only garbage collection does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from djops.compile.packing import AWS, VERSION, limits_of, pack, whole
from djops.compile.packing import Document as Document
from djops.compile.rights import Rights
from djops.errors import NameRefusedError
from djops.model.names import is_sandbox, sandbox_stem
from djops.model.project import Project, Store
from djops.model.roles import Capability

POLICY_NAME = "djops"
"""Name of the one inline policy on each principal whose rights fit into it."""

_PATTERNS = ("*", "?", "[", "]", "\\", "${", ":")


@dataclass(frozen=True)
class IamUser:
    """One IAM user.

    Attributes:
        policies: Inline policies by name.
        keys: Access keys by id; the value tells whether the key is active.
        attached: ARNs of managed policies attached.
        groups: Names of groups joined.
        boundary: ARN of the permissions boundary, the most that the user may ever do; empty for none.
    """

    policies: Mapping[str, Document] = field(default_factory=dict)
    keys: Mapping[str, bool] = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    boundary: str = ""


@dataclass(frozen=True)
class ManagedPolicy:
    """A policy of its own, which users have attached.

    Attributes:
        document: What its version in force says.
        version: Id of that version.
        versions: Ids of its other versions; the server keeps five in all.
    """

    document: Document
    version: str = field(default="", compare=False)
    versions: tuple[str, ...] = field(default=(), compare=False)


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
        managed: Managed policies under the project's path, by ARN.
        account: Id of the account that they belong to; empty when it is not known.
    """

    users: Mapping[str, IamUser] = field(default_factory=dict)
    buckets: Mapping[str, Bucket] = field(default_factory=dict)
    managed: Mapping[str, ManagedPolicy] = field(default_factory=dict)
    account: str = ""

    def opens(self, name: str) -> Document:
        """Return all that a user's own policies and those attached to it say, as one document.

        Args:
            name: The user's name; one that is not there has nothing.
        """
        user = self.users.get(name, IamUser())
        attached = [self.managed[arn].document for arn in user.attached if arn in self.managed]
        return whole([*user.policies.values(), *attached])


def iam_path(project: str) -> str:
    """Return the IAM path that marks users as the project's own."""
    return f"/djops/{project}/"


def managed_arn(project: str, account: str, name: str, number: int) -> str:
    """Return the ARN of one of the managed policies that hold a principal's rights.

    Args:
        project: The project; policies' names are unique in an account, whatever their path.
        account: Id of the account.
        name: The principal.
        number: Which one, from 1.
    """
    return f"arn:aws:iam::{account}:policy{iam_path(project)}djops-{project}-{name}-{number}"


def compile_s3(project: Project, rights: Rights, account: str = "", boundary: str = "") -> S3State:
    """Compile rights to what the S3 server should hold.

    Args:
        project: The project, for its stores and principals.
        rights: The compiled rights.
        account: Id of the account that the users belong to, which tells how large policies may be, and
            whether buckets refuse what comes without TLS.
        boundary: ARN of the permissions boundary of every user; empty where the server, or whoever set it
            up, has none, and boundaries that are there are left alone.

    Returns:
        One user with its policies for each principal, none without stores; and the buckets.
        Access keys are left empty: they are made by the server.

    Raises:
        NameRefusedError: ``E_NAME`` for a schema whose name is a wildcard in a policy.
        PolicyTooLargeError: ``E_POLICY_SIZE`` when somebody's rights do not fit.
    """
    if not project.stores:
        return S3State()
    places = _Places(tuple(project.stores.values()))
    users: dict[str, IamUser] = {}
    managed: dict[str, ManagedPolicy] = {}
    limits = limits_of(account)
    for name, held in rights.by_principal.items():
        may: dict[Capability, set[str]] = {}
        for right in held:
            may.setdefault(right.capability, set()).add(right.schema)
        packed = pack(name, _policy_document(places, may), limits)
        own = {} if packed.inline is None else {POLICY_NAME: packed.inline}
        arns = [managed_arn(project.project, account, name, n + 1) for n in range(len(packed.managed))]
        managed |= {arn: ManagedPolicy(part) for arn, part in zip(arns, packed.managed, strict=True)}
        users[name] = IamUser(own, attached=tuple(arns), boundary=boundary)
    # Clients of a lab on one machine reach Ceph without TLS, so only AWS's buckets insist on it.
    closed = limits_of(account) is AWS
    buckets = {
        store.bucket: Bucket(policy=tls_only(store.bucket) if closed else None)
        for store in project.stores.values()
    }
    return S3State(users, buckets, managed, account)


def tls_only(bucket: str) -> Document:
    """Return the policy of a bucket on AWS: whatever comes without TLS is refused, and nothing is allowed.

    What ``stacks/cloud/policies.py`` writes; a test compares them.

    Args:
        bucket: Its name.
    """
    without_tls = {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    return {"Version": VERSION, "Statement": [refusal("TlsOnly", bucket, "s3:*") | without_tls]}


def refusal(name: str, bucket: str, actions: str | Sequence[str]) -> dict[str, Any]:
    """Return a statement of a bucket's policy that refuses actions on it and its objects, whoever asks.

    Args:
        name: The statement's name.
        bucket: The bucket.
        actions: What is refused.
    """
    return {
        "Sid": name,
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": actions,
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }


def schema_prefixes(store: Store, schema: str) -> tuple[str, str]:
    """Return the two key prefixes, each with its closing slash, below which a schema's objects lie.

    A sandbox's do not end with a slash: its schemas go on from there.

    Raises:
        NameRefusedError: ``E_NAME`` when the name, or a part of the store's location, would be read as
            something else than itself in a policy or a key.
    """
    if is_sandbox(schema):
        first, second = schema_prefixes(store, sandbox_stem(schema))
        return first[:-1], second[:-1]
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


def inbox_prefix(store: Store, schema: str) -> str:
    """Return the key prefix, with its closing slash, below which raw files for a schema are put.

    It lies outside of the two sections that the client keeps for itself.
    """
    if is_sandbox(schema):
        return inbox_prefix(store, sandbox_stem(schema))[:-1]
    return "/".join(part for part in (store.location, "inbox", schema) if part) + "/"


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


class _Place(NamedTuple):
    """A place as policies write it; their texts are shared by all who may reach it.

    Attributes:
        bucket: ARN of the bucket.
        objects: ARN of all objects there.
        below: What their keys look like.
    """

    bucket: str
    objects: str
    below: str

    @classmethod
    def of(cls, bucket: str, prefix: str) -> _Place:
        arn = f"arn:aws:s3:::{bucket}"
        return cls(arn, f"{arn}/{prefix}*", f"{prefix}*")


class _Places:
    """Where each schema's objects lie, worked out once for all who may reach them."""

    def __init__(self, stores: tuple[Store, ...]) -> None:
        self.stores = stores
        self.known: dict[str, tuple[_Place, ...]] = {}
        self.inboxes: dict[str, tuple[_Place, ...]] = {}

    def of(self, schema: str) -> tuple[_Place, ...]:
        """Return every place that the client uses."""
        if schema not in self.known:
            self.known[schema] = tuple(
                _Place.of(store.bucket, one)
                for store in self.stores
                for one in schema_prefixes(store, schema)
            )
        return self.known[schema]

    def inbox(self, schema: str) -> tuple[_Place, ...]:
        """Return every place that raw files are put."""
        if schema not in self.inboxes:
            self.of(schema)
            self.inboxes[schema] = tuple(
                _Place.of(store.bucket, inbox_prefix(store, schema)) for store in self.stores
            )
        return self.inboxes[schema]


_GET = "s3:GetObject"
_PUT = ("s3:AbortMultipartUpload", _GET, "s3:PutObject")
_COLLECT = ("s3:DeleteObject", _GET)


def _policy_document(places: _Places, may: Mapping[Capability, set[str]]) -> Document:
    """Write the policy of one principal, with lists sorted, so that equal rights give equal documents.

    What may be written may always be read, because the client asks before it puts.
    """
    read, insert = may.get(Capability.READ, set()), may.get(Capability.INSERT, set())
    collect, inbox = may.get(Capability.COLLECT, set()), may.get(Capability.INBOX, set())
    listed = [place for schema in read | insert | collect for place in places.of(schema)]
    delivered = [place for schema in inbox for place in places.inbox(schema)]
    written = [place for schema in insert for place in places.of(schema)]
    statements = [
        _allow([_GET], _keys([place for schema in read - insert for place in places.of(schema)])),
        _allow([*_PUT], _keys(written + delivered)),
        _allow([*_COLLECT], _keys([place for schema in collect for place in places.of(schema)])),
        *_list(listed + delivered),
        _allow(["s3:GetBucketLocation"], [place.bucket for place in listed + delivered]),
        {"Effect": "Deny", "Action": ["s3:CreateBucket"], "Resource": ["*"]},
    ]
    return {
        "Version": VERSION,
        "Statement": [statement for statement in statements if statement["Resource"]],
    }


def _keys(places: list[_Place]) -> list[str]:
    return [place.objects for place in places]


def _allow(actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": sorted(set(resources))}


def _list(places: list[_Place]) -> list[dict[str, Any]]:
    prefixes: dict[str, set[str]] = {}
    for place in places:
        prefixes.setdefault(place.bucket, set()).add(place.below)
    return [
        {
            **_allow(["s3:ListBucket"], [bucket]),
            "Condition": {"StringLike": {"s3:prefix": sorted(names)}},
        }
        for bucket, names in sorted(prefixes.items())
    ]
