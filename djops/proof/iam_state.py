"""What an S3 server's own catalog says about access: every principal that can be read, managed or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from djops.compile.s3 import Document

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
"""In an access control list: everybody, with a key or without."""

AUTHENTICATED_USERS = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
"""In an access control list: everybody who has a key of whatever account."""

BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
"""The four public-access blocks of a bucket."""


@dataclass(frozen=True)
class CatalogUser:
    """One IAM user.

    Attributes:
        arn: Its full name with account and path.
        user_id: The server's own id of it, which Ceph takes for ``aws:username``.
        policies: Inline policies by name; ``None`` for a document that could not be read.
        attached: ARNs of managed policies.
        groups: Names of groups joined.
        keys: Access keys by id; the value tells whether the key is active.
        boundary: ARN of the permissions boundary, if any.
        unread: What of the above could not be read.
    """

    arn: str
    user_id: str = ""
    policies: Mapping[str, Document | None] = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    keys: Mapping[str, bool] = field(default_factory=dict)
    boundary: str = ""
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class CatalogGroup:
    """One IAM group; who belongs to it is told by its users.

    Attributes:
        policies: Inline policies by name; ``None`` for a document that could not be read.
        attached: ARNs of managed policies.
        unread: What of the above could not be read.
    """

    policies: Mapping[str, Document | None] = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class AclGrant:
    """One line of a bucket's access control list.

    Attributes:
        grantee: URI of a group, or the canonical id of an account.
        permission: ``READ``, ``WRITE``, ``READ_ACP``, ``WRITE_ACP`` or ``FULL_CONTROL``.
    """

    grantee: str
    permission: str


@dataclass(frozen=True)
class CatalogBucket:
    """What a bucket itself opens and closes.

    Attributes:
        policy: The bucket policy, if any.
        acl: The bucket's access control list.
        blocks: Which of the four public-access blocks are on.
        ownership: The rule for object ownership; ``BucketOwnerEnforced`` switches access control lists off.
        versioned: Whether old versions are kept.
        unread: What of the above could not be read.
    """

    policy: Document | None = None
    acl: tuple[AclGrant, ...] = ()
    blocks: frozenset[str] = frozenset()
    ownership: str = ""
    versioned: bool = False
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class IamCatalog:
    """Everything about access that one S3 server shows to the identity that asks.

    Out of sight are other accounts, users that Ceph keeps outside of accounts, and what an AWS
    organisation or a whole account forbids.

    Attributes:
        users: All IAM users of the account, by name.
        groups: All groups, by name.
        managed: Documents of the managed policies in use, by ARN; ``None`` where not readable.
        buckets: The buckets asked about, by name; those that do not exist are left out.
        roles: Names of roles, which nobody here looks into.
        unread: What could not be read at all.
    """

    users: Mapping[str, CatalogUser] = field(default_factory=dict)
    groups: Mapping[str, CatalogGroup] = field(default_factory=dict)
    managed: Mapping[str, Document | None] = field(default_factory=dict)
    buckets: Mapping[str, CatalogBucket] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
