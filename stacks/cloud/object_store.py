"""The object store: versioned, encrypted buckets that only TLS reaches and that nobody can publish."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from cloud import names, policies

_SYSTEM = "/djops-system/"
"""The IAM path of what the access layer itself may not touch."""


@dataclass(frozen=True)
class BucketArgs:
    """One bucket.

    Attributes:
        name: Its name, the one that ``djops.yaml`` gives to the store.
        existing: It is there; only the access layer's rights are made for it.
        noncurrent_days: How long overwritten and deleted objects can be had back.
        tiering: Let S3 move what is seldom read to cheaper storage.
        lock_days: Nobody deletes an object version younger than this (Object Lock, governance mode); 0 for
            none. For raw data; it can be switched on only when the bucket is made.
    """

    name: str
    existing: bool = False
    noncurrent_days: int = 90
    tiering: bool = False
    lock_days: int = 0


@dataclass(frozen=True)
class ObjectStoreArgs:
    """The buckets of one project and stage.

    Attributes:
        account: AWS account id.
        region: AWS region.
        project: The project's name, part of the IAM paths.
        environment: The stage, part of the names that an account has only once.
        buckets: The buckets.
        key_arn: KMS key for objects.
        log_bucket: Name of the bucket for access logs.
        log_days: How long access logs are kept.
        audit: Record every request for an object in CloudTrail too.
    """

    account: str
    region: str
    project: str
    environment: str
    buckets: Sequence[BucketArgs]
    key_arn: pulumi.Input[str]
    log_bucket: str
    log_days: int = 365
    audit: bool = False


class ObjectStore(pulumi.ComponentResource):
    """The buckets, the bucket of their access logs, and the identity that the access layer works as.

    Outputs: ``names``, ``manager`` (an IAM user without a key: whoever sets up the access layer makes one),
    ``boundary`` (ARN of the policy that bounds every user of the access layer's making).
    """

    def __init__(self, name: str, args: ObjectStoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("djops:cloud:ObjectStore", name, None, opts)
        self.mine, self.args = pulumi.ResourceOptions(parent=self), args
        self.kept = pulumi.ResourceOptions(parent=self, protect=True, retain_on_delete=True)
        made = [bucket for bucket in args.buckets if not bucket.existing]
        self.names = [bucket.name for bucket in args.buckets]
        logs = self._log_bucket([bucket.name for bucket in made]) if made else None
        for bucket in made:
            self._bucket(bucket, logs)
        if logs is not None and args.audit:
            self._trail(logs)
        self.boundary = self._boundary()
        self.manager = self._manager()
        self.register_outputs(
            {"names": self.names, "manager": self.manager.name, "boundary": self.boundary.arn}
        )

    def _bucket(self, args: BucketArgs, logs: aws.s3.Bucket | None) -> None:
        name = args.name
        bucket = aws.s3.Bucket(
            name, bucket=name, force_destroy=False, object_lock_enabled=args.lock_days > 0, opts=self.kept
        )
        self._close(name, bucket, [policies.tls_only(name)], self.args.key_arn)
        aws.s3.BucketVersioning(
            name,
            bucket=bucket.id,
            versioning_configuration={"status": "Enabled"},
            opts=self.kept,
        )
        self._lifecycle(name, bucket, args)
        if logs is not None:
            aws.s3.BucketLogging(
                name,
                bucket=bucket.id,
                target_bucket=logs.id,
                target_prefix=f"access/{name}/",
                # S3 looks whether it may write there.
                opts=pulumi.ResourceOptions(parent=self, depends_on=[self.log_policy]),
            )
        if args.lock_days:
            aws.s3.BucketObjectLockConfiguration(
                name,
                bucket=bucket.id,
                rule={"default_retention": {"mode": "GOVERNANCE", "days": args.lock_days}},
                opts=self.kept,
            )

    def _close(
        self,
        name: str,
        bucket: aws.s3.Bucket,
        statements: Sequence[policies.Document],
        key: pulumi.Input[str] | None,
    ) -> aws.s3.BucketPolicy:
        """Encrypt a bucket, block the public, switch access control lists off, attach its policy."""
        aws.s3.BucketServerSideEncryptionConfiguration(
            name,
            bucket=bucket.id,
            rules=[
                {
                    "apply_server_side_encryption_by_default": (
                        {"sse_algorithm": "aws:kms", "kms_master_key_id": key}
                        if key
                        else {"sse_algorithm": "AES256"}
                    ),
                    # One key call for many objects, instead of one for each.
                    "bucket_key_enabled": key is not None,
                }
            ],
            opts=self.kept,
        )
        block = aws.s3.BucketPublicAccessBlock(
            name,
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self.kept,
        )
        aws.s3.BucketOwnershipControls(
            name, bucket=bucket.id, rule={"object_ownership": "BucketOwnerEnforced"}, opts=self.kept
        )
        return aws.s3.BucketPolicy(
            name,
            bucket=bucket.id,
            policy=json.dumps(policies.document(*statements)),
            opts=pulumi.ResourceOptions.merge(self.kept, pulumi.ResourceOptions(depends_on=[block])),
        )

    def _lifecycle(self, name: str, bucket: aws.s3.Bucket, args: BucketArgs) -> None:
        rules: list[Any] = [
            {
                "id": "abort-uploads",
                "status": "Enabled",
                "filter": {"prefix": ""},
                "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
            },
            {
                "id": "old-versions",
                "status": "Enabled",
                "filter": {"prefix": ""},
                "noncurrent_version_expiration": {"noncurrent_days": args.noncurrent_days},
            },
        ]
        if args.tiering:
            move = {"days": 0, "storage_class": "INTELLIGENT_TIERING"}
            rules.append(
                {"id": "tiering", "status": "Enabled", "filter": {"prefix": ""}, "transitions": [move]}
            )
        aws.s3.BucketLifecycleConfiguration(name, bucket=bucket.id, rules=rules, opts=self.mine)

    def _log_bucket(self, sources: Sequence[str]) -> aws.s3.Bucket:
        name, account = self.args.log_bucket, self.args.account
        bucket = aws.s3.Bucket("logs", bucket=name, force_destroy=False, opts=self.kept)
        statements = [policies.tls_only(name), policies.log_delivery(name, sources, account)]
        if self.args.audit:
            statements += policies.trail_delivery(name, self._trail_arn(), account)
        # S3 delivers access logs only to buckets that it encrypts with a key of its own.
        self.log_policy = self._close("logs", bucket, statements, None)
        aws.s3.BucketLifecycleConfiguration(
            "logs",
            bucket=bucket.id,
            rules=[
                {
                    "id": "expire",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "expiration": {"days": self.args.log_days},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
                }
            ],
            opts=self.mine,
        )
        return bucket

    def _trail_arn(self) -> str:
        args = self.args
        return f"arn:aws:cloudtrail:{args.region}:{args.account}:trail/{args.log_bucket}"

    def _trail(self, logs: aws.s3.Bucket) -> None:
        objects = [f"arn:aws:s3:::{bucket}/" for bucket in self.names]
        aws.cloudtrail.Trail(
            "objects",
            name=self.args.log_bucket,
            s3_bucket_name=logs.id,
            enable_log_file_validation=True,
            include_global_service_events=False,
            advanced_event_selectors=[
                {
                    "name": "requests for objects",
                    "field_selectors": [
                        {"field": "eventCategory", "equals": ["Data"]},
                        {"field": "resources.type", "equals": ["AWS::S3::Object"]},
                        {"field": "resources.ARN", "starts_withs": objects},
                    ],
                }
            ],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.log_policy]),
        )

    def _boundary(self) -> aws.iam.Policy:
        """Make the boundary of the people's users, outside of the path whose policies the manager writes."""
        return aws.iam.Policy(
            "people-boundary",
            name=names.people_name(self.args.project, self.args.environment),
            path=_SYSTEM,
            policy=json.dumps(policies.people_boundary(self.names)),
            opts=self.mine,
        )

    def _manager(self) -> aws.iam.User:
        """Make the access layer's user; what it may do is its boundary, the most it may ever do."""
        path, name, args = _SYSTEM, names.manager_name(self.args.project, self.args.environment), self.args
        may = self.boundary.arn.apply(
            lambda arn: json.dumps(policies.access_manager(args.project, args.account, self.names, arn))
        )
        policy = aws.iam.Policy("access-manager", name=name, path=path, policy=may, opts=self.mine)
        user = aws.iam.User(
            "access-manager", name=name, path=path, permissions_boundary=policy.arn, opts=self.mine
        )
        aws.iam.UserPolicyAttachment("access-manager", user=user.name, policy_arn=policy.arn, opts=self.mine)
        return user
