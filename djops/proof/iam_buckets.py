"""What buckets open by themselves: access control lists, and the blocks against publishing."""

from __future__ import annotations

from collections.abc import Iterable

from djops.proof.iam_conditions import Condition, Environment
from djops.proof.iam_environment import Who
from djops.proof.iam_state import ALL_USERS, AUTHENTICATED_USERS, CatalogBucket
from djops.proof.iam_statements import Reading, Request, Statement
from djops.proof.iam_values import network

PUBLIC_ACLS = ("public-read", "public-read-write", "authenticated-read")
"""Canned access control lists that open to more than an account."""

_OPENED = {
    "aws": {
        "READ": ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"),
        "WRITE": ("s3:PutObject",),
        "READ_ACP": ("s3:GetBucketAcl",),
        "WRITE_ACP": ("s3:PutBucketAcl",),
    },
    "ceph": {
        "READ": ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"),
        "WRITE": ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"),
        "READ_ACP": (
            "s3:GetBucketAcl",
            "s3:GetBucketLocation",
            "s3:GetBucketPolicy",
            "s3:GetBucketVersioning",
        ),
        "WRITE_ACP": ("s3:PutBucketAcl", "s3:PutBucketPolicy", "s3:PutBucketVersioning"),
    },
}
_OBJECT_ACL = ("s3:getobject", "s3:getobjectversion", "s3:getobjectacl", "s3:putobjectacl")
_WRITES_ACL = ("s3:putobject", "s3:putobjectacl", "s3:putbucketacl")
_GRANT_KEYS = ("read", "read-acp", "write", "write-acp", "full-control")
# What AWS documents as narrow enough for a policy that names everybody not to be public.
_FIXING_KEYS = (
    "aws:sourcearn", "aws:sourcevpc", "aws:sourcevpce", "aws:sourceowner", "aws:sourceaccount",
    "aws:principalorgid", "aws:principalorgpaths", "aws:principalarn", "aws:principalaccount", "aws:userid",
    "s3:x-amz-server-side-encryption-aws-kms-key-id", "s3:dataaccesspointarn", "s3:dataaccesspointaccount",
)  # fmt: skip
_WIDEST = {4: 8, 6: 32}
# The request that Ceph asks itself about when it wants to know whether a policy is public.
_CEPH_STRANGER = {
    "aws:SourceIp": ("1.1.1.1",),
    "aws:UserId": ("anonymous",),
    "s3:x-amz-server-side-encryption-aws-kms-key-id": ("secret",),
}


def acl_in_force(bucket: CatalogBucket) -> bool:
    """Whether what access control lists open to groups counts at all."""
    return "IgnorePublicAcls" not in bucket.blocks and bucket.ownership != "BucketOwnerEnforced"


def acl_readings(name: str, bucket: CatalogBucket, who: Who, request: Request) -> Iterable[Reading]:
    """Yield what a bucket's access control list gives to whoever asks.

    Ceph does not ask it at all about a user of the account that owns the bucket, so that the owner's own
    users are refused what everybody else may do.
    """
    dialect = request.dialect
    if (dialect == "ceph" and who.name) or not acl_in_force(bucket):
        return
    for grant in bucket.acl:
        opened = _OPENED[dialect]
        permissions = opened if grant.permission == "FULL_CONTROL" else (grant.permission,)
        actions = [action.lower() for one in permissions for action in opened.get(one, ())]
        mine = grant.grantee == ALL_USERS or (bool(who.name) and grant.grantee == AUTHENTICATED_USERS)
        if mine and request.action.lower() in actions:
            group = grant.grantee.rpartition("/")[2]
            yield Reading(
                "Allow", True, f"access control list of bucket {name}: {grant.permission} to {group}"
            )
    if not who.name and request.action.lower() in _OBJECT_ACL:
        yield Reading("Allow", None, f"bucket {name}: access control lists of its objects are not read")


def block_readings(
    name: str, bucket: CatalogBucket, who: Who, request: Request, policy: Iterable[Statement]
) -> Iterable[Reading]:
    """Yield what a bucket's public-access blocks refuse."""
    if "RestrictPublicBuckets" in bucket.blocks and not who.name:
        public = [statement.name for statement in policy if is_public(statement)]
        if public:
            yield Reading("Deny", True, f"bucket {name}: RestrictPublicBuckets, for {public[0]} is public")
    # Without a context the request asks for no access control list.
    writes_acl = bool(request.context) and request.action.lower() in _WRITES_ACL
    if "BlockPublicAcls" in bucket.blocks and writes_acl and _publishes(request.environment):
        yield Reading("Deny", True, f"bucket {name}: BlockPublicAcls")


def _publishes(environment: Environment) -> bool:
    canned = environment.of("s3:x-amz-acl") or ()
    headers = [environment.of(f"s3:x-amz-grant-{key}") or () for key in _GRANT_KEYS]
    groups = (ALL_USERS, AUTHENTICATED_USERS)
    return bool(set(canned) & set(PUBLIC_ACLS)) or any(
        group in value for header in headers for value in header for group in groups
    )


def is_public(statement: Statement) -> bool:
    """Whether a statement makes a bucket policy public, as the server means it."""
    everybody = any(
        kind == "*" or (kind == "AWS" and text == "*") for kind, text in statement.principals or ()
    )
    if statement.effect != "Allow" or not everybody:
        return False
    if statement.dialect == "ceph":
        stranger = Environment(_CEPH_STRANGER, (), "ceph")
        return all(condition.holds(stranger) for condition in statement.conditions)
    return not any(map(_fixes, statement.conditions))


def _fixes(condition: Condition) -> bool:
    """Whether a condition names fixed values of a key that AWS takes for narrow."""
    positive = "Not" not in condition.operator and not condition.operator.endswith("IfExists")
    key, values = condition.key.lower(), condition.values
    if not positive or any("*" in value or "?" in value or "${" in value for value in values):
        return False
    if key == "aws:sourceip":
        places = [network(value) for value in values]
        return all(place is not None and place.prefixlen >= _WIDEST[place.version] for place in places)
    return key in _FIXING_KEYS
