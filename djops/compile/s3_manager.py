"""What djops itself may do on an S3 server with an IAM API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from djops.compile.s3 import iam_path

MANAGER = "djops-manager"
"""The IAM user djops works as."""

MANAGER_PATH = "/djops-system/"
"""Its IAM path: outside of every project's, so that it cannot change itself."""

SCRATCH = "djops_smoke_"
"""Scratch schemas of ``djops smoke`` begin so: their objects are djops' own to remove."""


def scratch_project(project: str, token: str) -> str:
    """Name the project that marks what one ``djops smoke`` makes.

    Args:
        project: The real project's name.
        token: What tells this test from others, at most six characters.

    Returns:
        A project name; its principals are under an IAM path of their own, out of the real project's sight.
    """
    return f"{project[:17]}-smoke-{token}"


_USERS = (
    "iam:AttachUserPolicy",
    "iam:CreateAccessKey",
    "iam:CreateUser",
    "iam:DeleteAccessKey",
    "iam:DeleteUser",
    "iam:DeleteUserPolicy",
    "iam:DetachUserPolicy",
    "iam:PutUserPolicy",
    "iam:UpdateAccessKey",
)
# What gives a user rights: with a boundary, allowed for users that have it and for nobody else.
_BOUND = ("iam:AttachUserPolicy", "iam:CreateUser", "iam:PutUserPolicy")
# What `djops verify` looks at: everybody's policies, whoever made them.
_LOOKS = (
    "iam:GetGroupPolicy",
    "iam:GetUser",
    "iam:GetUserPolicy",
    "iam:ListAccessKeys",
    "iam:ListAttachedGroupPolicies",
    "iam:ListAttachedUserPolicies",
    "iam:ListGroupPolicies",
    "iam:ListGroups",
    "iam:ListGroupsForUser",
    "iam:ListRoles",
    "iam:ListUserPolicies",
    # Ceph asks for this on the account as a whole, whatever the path prefix.
    "iam:ListUsers",
)
_MANAGED = (
    "iam:CreatePolicy",
    "iam:CreatePolicyVersion",
    "iam:DeletePolicy",
    "iam:DeletePolicyVersion",
)
# What `verify` looks at, and the one request that a plan makes for all users.
_LOOKS_AT_MANAGED = ("iam:GetAccountAuthorizationDetails", "iam:GetPolicy", "iam:GetPolicyVersion")
_BUCKETS = (
    "s3:DeleteBucketPolicy",
    "s3:GetBucketAcl",
    "s3:GetBucketLocation",
    "s3:GetBucketOwnershipControls",
    "s3:GetBucketPolicy",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetBucketVersioning",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListBucketVersions",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketVersioning",
)
_OBJECTS = ("s3:AbortMultipartUpload", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject")
_REMOVALS = ("s3:DeleteObject", "s3:DeleteObjectVersion")


def manager_policy(
    project: str, account: str, buckets: Iterable[str], boundary: str = ""
) -> Mapping[str, Any]:
    """Render the policy of djops' own IAM user.

    Whoever may write policies of users and make keys for them can give himself every right in the
    account, where the server knows no permission boundaries (Ceph does not). So its key is to be
    guarded like the account's root key; the policy keeps djops from touching others by mistake.
    With a boundary, whoever is made or given rights by that key has it, and cannot lose it again.

    Args:
        project: Users below its IAM path are djops' own.
        account: The account's id, as in ARNs.
        buckets: Buckets of the project's stores.
        boundary: ARN of the permissions boundary that every user has; empty for none.

    Returns:
        An IAM policy document.
    """
    names = sorted(set(buckets))
    scratch = iam_path(scratch_project(project, "*"))
    users = [f"arn:aws:iam::{account}:user{path}*" for path in (iam_path(project), scratch)]
    statements = [
        *_users(users, boundary),
        _allow(_LOOKS, ["*"]),
        # Ceph asks for this one on the group, wherever the user is.
        _allow(("iam:RemoveUserFromGroup",), [f"arn:aws:iam::{account}:group/*"]),
        _allow(_BUCKETS, [f"arn:aws:s3:::{name}" for name in names]),
        _allow(_OBJECTS, [f"arn:aws:s3:::{name}/*" for name in names]),
        _allow(_REMOVALS, [f"arn:aws:s3:::{name}/*/{SCRATCH}*" for name in names]),
    ]
    return {
        "Version": "2012-10-17",
        "Statement": [statement for statement in statements if statement["Resource"]],
    }


def _users(users: list[str], boundary: str) -> list[dict[str, Any]]:
    if not boundary:
        return [_allow(_USERS, users)]
    bound = {"Condition": {"StringEquals": {"iam:PermissionsBoundary": boundary}}}
    # Deletions and keys give nothing, and IAM knows no such condition for keys.
    return [
        _allow((one for one in _USERS if one not in _BOUND), users),
        _allow((*_BOUND, "iam:PutUserPermissionsBoundary"), users) | bound,
        {"Effect": "Deny", "Action": ["iam:DeleteUserPermissionsBoundary"], "Resource": ["*"]},
    ]


def managed_policy(project: str, account: str) -> Mapping[str, Any]:
    """Render what djops' own IAM user needs besides on AWS; Ceph refuses these actions as unknown.

    Args:
        project: Managed policies below its IAM path are djops' own.
        account: The account's id, as in ARNs.

    Returns:
        An IAM policy document.
    """
    own = [f"arn:aws:iam::{account}:policy{iam_path(project)}*"]
    statements = [_allow(_MANAGED, own), _allow(_LOOKS_AT_MANAGED, ["*"])]
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(actions: Iterable[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": sorted(actions), "Resource": resources}
