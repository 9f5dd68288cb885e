"""Every IAM policy document of the stacks, as pure functions: what each identity may do, in one place.

A document names what it needs and nothing else. The tests ask an independent reader of IAM policies about
each action on each resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Document = dict[str, Any]


def document(*statements: Document | None) -> Document:
    """Return a policy of the statements that are about something."""
    about = [one for one in statements if one is not None and one.get("Resource") != []]
    return {"Version": "2012-10-17", "Statement": about}


def allow(actions: Iterable[str], resources: Sequence[str], **conditions: Any) -> Document:  # noqa: ANN401
    """Return a statement that allows; conditions are operators with their keys and values."""
    statement: Document = {"Effect": "Allow", "Action": sorted(actions), "Resource": list(resources)}
    return statement | ({"Condition": conditions} if conditions else {})


def trust(service: str, account: str) -> Document:
    """Let an AWS service take a role, and only for this account's sake (no confused deputy)."""
    # EC2 takes its role without naming an account: the instance profile already binds it.
    only = {} if service.startswith("ec2") else {"StringEquals": {"aws:SourceAccount": account}}
    statement: Document = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return document(statement | ({"Condition": only} if only else {}))


def tls_only(bucket: str) -> Document:
    """Refuse every request that comes without TLS."""
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def log_delivery(bucket: str, sources: Sequence[str], account: str) -> Document:
    """Let S3 deliver the access logs of the named buckets, and nobody else's."""
    return {
        "Sid": "AccessLogs",
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": [f"arn:aws:s3:::{bucket}/access/*"],
        "Condition": {
            "ArnEquals": {"aws:SourceArn": [f"arn:aws:s3:::{name}" for name in sorted(sources)]},
            "StringEquals": {"aws:SourceAccount": account},
        },
    }


def trail_delivery(bucket: str, trail: str, account: str) -> list[Document]:
    """Let one CloudTrail trail write into the log bucket."""
    principal = {"Service": "cloudtrail.amazonaws.com"}
    only = {"aws:SourceArn": trail}
    return [
        {
            "Sid": "TrailLooks",
            "Effect": "Allow",
            "Principal": principal,
            "Action": "s3:GetBucketAcl",
            "Resource": [f"arn:aws:s3:::{bucket}"],
            "Condition": {"StringEquals": only},
        },
        {
            "Sid": "TrailWrites",
            "Effect": "Allow",
            "Principal": principal,
            "Action": "s3:PutObject",
            "Resource": [f"arn:aws:s3:::{bucket}/AWSLogs/{account}/*"],
            "Condition": {"StringEquals": only | {"s3:x-amz-acl": "bucket-owner-full-control"}},
        },
    ]


def data_key(account: str, region: str) -> Document:
    """Key policy: IAM decides for administrators; S3 and logs may use the key on behalf of this account.

    The middle statement is how AWS words its own ``aws/s3`` key: who may reach an object through S3 needs
    no further right on the key, so the prefix policies stay the only authority over objects.
    """
    use = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
    logs = f"arn:aws:logs:{region}:{account}:log-group:*"
    return document(
        allow(["kms:*"], ["*"]) | {"Principal": {"AWS": f"arn:aws:iam::{account}:root"}},
        allow(
            use,
            ["*"],
            StringEquals={"kms:CallerAccount": account, "kms:ViaService": f"s3.{region}.amazonaws.com"},
        )
        | {"Principal": {"AWS": "*"}},
        allow(use, ["*"], ArnLike={"kms:EncryptionContext:aws:logs:arn": logs})
        | {"Principal": {"Service": f"logs.{region}.amazonaws.com"}},
    )


def unseal_key(account: str) -> Document:
    """Key policy of the secrets server's seal: IAM decides, so only the server's role can use it."""
    return document(allow(["kms:*"], ["*"]) | {"Principal": {"AWS": f"arn:aws:iam::{account}:root"}})


def secrets_server(key: str, init_secret: str, ca_parameter: str) -> Document:
    """The instance of the secrets server: unseal itself, hand over its first keys once, publish its CA."""
    return document(
        allow(["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt"], [key]),
        allow(["secretsmanager:PutSecretValue"], [init_secret]),
        allow(["ssm:PutParameter"], [ca_parameter]),
    )


def image_pull(repository: str | None) -> list[Document | None]:
    """Pull one image; ECR gives its token only for everything."""
    pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    if repository is None:
        return []
    return [allow(["ecr:GetAuthorizationToken"], ["*"]), allow(pull, [repository])]


def task_start(repository: str | None, log_group: str, secret: str) -> Document:
    """What ECS itself does before a worker runs: pull its image, open its log, read its one secret."""
    return document(
        *image_pull(repository),
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], [f"{log_group}:*"]),
        allow(["secretsmanager:GetSecretValue"], [secret]),
    )


def worker(read: Mapping[str, Sequence[str]], write: Mapping[str, Sequence[str]]) -> Document:
    """A populate worker: objects below its own prefixes, as the DataJoint client asks for them.

    What may be written may be read, because the client asks before it puts; nothing may be removed.

    Args:
        read: Key prefixes with their closing slash, by bucket.
        write: Likewise; need not be named in ``read`` again.
    """
    both = {name: sorted({*read.get(name, ()), *write.get(name, ())}) for name in sorted({*read, *write})}
    listed = [
        allow(
            ["s3:ListBucket"], [f"arn:aws:s3:::{name}"], StringLike={"s3:prefix": [f"{p}*" for p in prefixes]}
        )
        for name, prefixes in both.items()
        if prefixes
    ]
    return document(
        allow(["s3:GetObject"], _keys(both)),
        allow(["s3:AbortMultipartUpload", "s3:PutObject"], _keys(write)),
        *listed,
        allow(["s3:GetBucketLocation"], [f"arn:aws:s3:::{name}" for name in both]),
    )


def meter(namespace: str) -> Document:
    """The queue meter: put numbers into one namespace of CloudWatch, which knows no resources."""
    return document(
        allow(["cloudwatch:PutMetricData"], ["*"], StringEquals={"cloudwatch:namespace": namespace})
    )


def meter_schedule(task_family: str, cluster: str, roles: Sequence[str]) -> Document:
    """The scheduler: start the meter's task on its cluster, with the meter's roles and no others."""
    return document(
        allow(["ecs:RunTask"], [f"{task_family}:*"], ArnEquals={"ecs:cluster": cluster}),
        allow(["iam:PassRole"], roles, StringEquals={"iam:PassedToService": "ecs-tasks.amazonaws.com"}),
    )


def operators(services: Sequence[str], cluster: str, log_groups: Sequence[str]) -> Document:
    """People who run the pipeline: scale its workers, read their logs."""
    tasks = f"{cluster.replace(':cluster/', ':task/')}/*"
    return document(
        allow(["ecs:DescribeServices", "ecs:UpdateService"], services),
        allow(["ecs:ListTasks"], ["*"], ArnEquals={"ecs:cluster": cluster}),
        allow(["ecs:DescribeTasks", "ecs:StopTask"], [tasks]),
        allow(["logs:FilterLogEvents", "logs:GetLogEvents"], [f"{group}:*" for group in log_groups]),
    )


def administrators(gate: str, region: str, account: str, secrets: Sequence[str]) -> Document:
    """People who administer the servers: a tunnel through the gate, the first secrets, nothing else."""
    forward = f"arn:aws:ssm:{region}::document/AWS-StartPortForwardingSessionToRemoteHost"
    own = f"arn:aws:ssm:{region}:{account}:session/${{aws:username}}-*"
    return document(
        allow(["ssm:StartSession"], [gate, forward]),
        allow(["ssm:ResumeSession", "ssm:TerminateSession"], [own]),
        allow(["secretsmanager:GetSecretValue"], secrets),
    )


def deny(actions: Iterable[str], resources: Sequence[str]) -> Document:
    """Return a statement that refuses, whatever others allow."""
    return {"Effect": "Deny", "Action": sorted(actions), "Resource": list(resources)}


_USERS = (
    "iam:CreateAccessKey",
    "iam:DeleteAccessKey",
    "iam:DeleteUser",
    "iam:DeleteUserPolicy",
    "iam:DetachUserPolicy",
    "iam:UpdateAccessKey",
)
_GIVES = (
    "iam:AttachUserPolicy",
    "iam:CreateUser",
    "iam:PutUserPermissionsBoundary",
    "iam:PutUserPolicy",
)
_PERSONS_OBJECTS = ("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject")
_PERSONS_BUCKETS = ("s3:GetBucketLocation", "s3:ListBucket")
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
    "iam:ListUsers",
)
_MANAGED = ("iam:CreatePolicy", "iam:CreatePolicyVersion", "iam:DeletePolicy", "iam:DeletePolicyVersion")
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


def people_boundary(buckets: Sequence[str]) -> Document:
    """The most that any user of the access layer's making may ever do: objects of the project's buckets.

    Whatever else is refused outright, so that the policy of a bucket, which the access layer may write,
    gives no more either: no old version is removed, no bucket's setting changed, and nothing of IAM.
    """
    names = sorted(set(buckets))
    most = {"NotAction": sorted((*_PERSONS_OBJECTS, *_PERSONS_BUCKETS))}
    return document(
        allow(_PERSONS_OBJECTS, [f"arn:aws:s3:::{name}/*" for name in names]),
        allow(_PERSONS_BUCKETS, [f"arn:aws:s3:::{name}" for name in names]),
        {"Effect": "Deny", **most, "Resource": ["*"]},
    )


def access_manager(project: str, account: str, buckets: Sequence[str], boundary: str) -> Document:
    """The identity that the access layer works as: users below the project's path, the project's buckets.

    It gives rights to users within the boundary alone, and takes the boundary from nobody. The same as
    ``djops.compile.s3_manager`` asks for on every server, and on AWS besides; a test compares them. It may
    touch neither itself nor this policy: both are below a path of their own.
    """
    scratch = f"{project[:17]}-smoke-*"
    users = [f"arn:aws:iam::{account}:user/djops/{name}/*" for name in (project, scratch)]
    names = sorted(set(buckets))
    return document(
        allow(_USERS, users),
        allow(_GIVES, users, StringEquals={"iam:PermissionsBoundary": boundary}),
        deny(["iam:DeleteUserPermissionsBoundary"], ["*"]),
        allow(_LOOKS, ["*"]),
        allow(["iam:RemoveUserFromGroup"], [f"arn:aws:iam::{account}:group/*"]),
        allow(_BUCKETS, [f"arn:aws:s3:::{name}" for name in names]),
        allow(
            ["s3:AbortMultipartUpload", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"],
            [f"arn:aws:s3:::{name}/*" for name in names],
        ),
        allow(
            ["s3:DeleteObject", "s3:DeleteObjectVersion"],
            [f"arn:aws:s3:::{name}/*/djops_smoke_*" for name in names],
        ),
        allow(_MANAGED, [f"arn:aws:iam::{account}:policy/djops/{project}/*"]),
        allow(_LOOKS_AT_MANAGED, ["*"]),
    )


def _keys(places: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"arn:aws:s3:::{name}/{prefix}*" for name in sorted(places) for prefix in sorted(places[name])]
