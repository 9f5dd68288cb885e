"""Rules for people who change the stacks; the tests of the stacks say the same in their own way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pulumi_policy import (
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

Props = Mapping[str, Any]
Rule = ResourceValidationPolicy | StackValidationPolicy
RULES: list[Rule] = []

_PINNED = re.compile(r"@sha256:[0-9a-f]{64}$")
_DATA = (
    "aws:rds/instance:Instance",
    "aws:s3/bucket:Bucket",
    "aws:kms/key:Key",
    "aws:ebs/volume:Volume",
)
_GRANTING = re.compile(r"aws:iam/(rolePolicy|userPolicy|groupPolicy|policy):")
_EACH_BUCKET = (
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls",
    "aws:s3/bucketPolicy:BucketPolicy",
)


def rule(name: str, description: str, *kinds: str) -> Callable[[Callable[[Props], Iterator[str]]], None]:
    """Make a rule about resources of some types out of a function that yields what is wrong with one."""

    def register(faults: Callable[[Props], Iterator[str]]) -> None:
        def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
            if args.resource_type in kinds:
                for fault in faults(args.props):
                    report(fault, None)

        RULES.append(ResourceValidationPolicy(name=name, description=description, validate=validate))

    return register


@rule("database-private", "A database has no public address and is encrypted.", "aws:rds/instance:Instance")
def _database(props: Props) -> Iterator[str]:
    if props.get("publiclyAccessible") is not False:
        yield "publiclyAccessible must be false"
    if props.get("storageEncrypted") is not True:
        yield "storageEncrypted must be true"
    if props.get("password"):
        yield "let RDS keep the password: manageMasterUserPassword"


@rule(
    "database-recoverable",
    "A database can be restored, and goes only after a snapshot.",
    "aws:rds/instance:Instance",
)
def _recoverable(props: Props) -> Iterator[str]:
    if props.get("replicateSourceDb"):
        return
    if (props.get("backupRetentionPeriod") or 0) < 7:
        yield "backupRetentionPeriod must be at least 7 days"
    if props.get("deletionProtection") is not True:
        yield "deletionProtection must be true"
    if props.get("skipFinalSnapshot") is not False or not props.get("finalSnapshotIdentifier"):
        yield "a final snapshot must be taken"


@rule("database-tls", "A database refuses connections without TLS.", "aws:rds/parameterGroup:ParameterGroup")
def _tls(props: Props) -> Iterator[str]:
    known = {one["name"]: one["value"] for one in props.get("parameters") or []}
    if known.get("require_secure_transport") != "1":
        yield "require_secure_transport must be 1"


@rule(
    "no-way-in",
    "Connections are accepted from security groups, never from addresses.",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "aws:ec2/securityGroup:SecurityGroup",
    "aws:ec2/securityGroupRule:SecurityGroupRule",
)
def _ingress(props: Props) -> Iterator[str]:
    if props.get("type") == "egress":
        return
    if any(props.get(key) for key in ("cidrIpv4", "cidrIpv6", "cidrBlocks", "ipv6CidrBlocks")):
        yield "let a security group in, not an address range"
    if props.get("ingress"):
        yield "write each rule as a resource of its own, from a security group"


@rule(
    "machine-closed",
    "A machine has no public address, tokens for its metadata, and an encrypted disk.",
    "aws:ec2/instance:Instance",
    "aws:ec2/launchTemplate:LaunchTemplate",
)
def _machine(props: Props) -> Iterator[str]:
    if (props.get("metadataOptions") or {}).get("httpTokens") != "required":
        yield "metadataOptions.httpTokens must be required"
    if props.get("associatePublicIpAddress"):
        yield "associatePublicIpAddress must be false"
    if props.get("keyName"):
        yield "reach it through SSM, not with a key"
    disks = [props.get("rootBlockDevice")] if "rootBlockDevice" in props else []
    disks += [one.get("ebs") for one in props.get("blockDeviceMappings") or []]
    if not disks or any(str((one or {}).get("encrypted")).lower() != "true" for one in disks):
        yield "its disk must be encrypted"


@rule("disk-encrypted", "A disk is encrypted.", "aws:ebs/volume:Volume")
def _disk(props: Props) -> Iterator[str]:
    if props.get("encrypted") is not True:
        yield "encrypted must be true"


@rule("subnet-private", "Nothing gets a public address by being in a subnet.", "aws:ec2/subnet:Subnet")
def _subnet(props: Props) -> Iterator[str]:
    if props.get("mapPublicIpOnLaunch"):
        yield "mapPublicIpOnLaunch must be false"


@rule("bucket-stays", "A bucket with objects is never removed.", "aws:s3/bucket:Bucket")
def _bucket(props: Props) -> Iterator[str]:
    if props.get("forceDestroy"):
        yield "forceDestroy must be false"


@rule("bucket-closed", "All four public-access blocks are on.", _EACH_BUCKET[1])
def _closed(props: Props) -> Iterator[str]:
    for key in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"):
        if props.get(key) is not True:
            yield f"{key} must be true"


@rule("bucket-tls", "A bucket refuses requests without TLS.", _EACH_BUCKET[3])
def _bucket_tls(props: Props) -> Iterator[str]:
    for one in _statements(props):
        plain = one.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
        if (
            one["Effect"] == "Deny"
            and one.get("Principal") in ("*", {"AWS": "*"})
            and one["Action"] == "s3:*"
            and plain
        ):
            return
    yield "deny s3:* where aws:SecureTransport is false"


@rule("key-renewed", "Keys are renewed every year.", "aws:kms/key:Key")
def _key(props: Props) -> Iterator[str]:
    if props.get("enableKeyRotation") is not True:
        yield "enableKeyRotation must be true"


@rule(
    "logs-end",
    "Logs are encrypted with the stack's key and do not grow for ever.",
    "aws:cloudwatch/logGroup:LogGroup",
)
def _logs(props: Props) -> Iterator[str]:
    if not props.get("kmsKeyId"):
        yield "kmsKeyId must be set"
    if not props.get("retentionInDays"):
        yield "retentionInDays must be set"


@rule("worker-pinned", "A task runs an image by its digest.", "aws:ecs/taskDefinition:TaskDefinition")
def _pinned(props: Props) -> Iterator[str]:
    for container in json.loads(props["containerDefinitions"]):
        if not _PINNED.search(container["image"]):
            yield f"{container['image']} is not pinned by @sha256"


@rule("worker-private", "A service's tasks have no public address.", "aws:ecs/service:Service")
def _service(props: Props) -> Iterator[str]:
    if (props.get("networkConfiguration") or {}).get("assignPublicIp"):
        yield "assignPublicIp must be false"


def _no_stars(args: ResourceValidationArgs, report: ReportViolation) -> None:
    if not _GRANTING.match(args.resource_type):
        return
    for one in _statements(args.props):
        actions = one.get("Action", [])
        for action in [actions] if isinstance(actions, str) else actions:
            if one["Effect"] == "Allow" and "*" in action:
                report(f"{action} allows more than is named", None)
        if one["Effect"] == "Allow" and ("NotAction" in one or "NotResource" in one):
            report("say what is allowed, not what is not", None)


def _no_keys(args: ResourceValidationArgs, report: ReportViolation) -> None:
    if args.resource_type in (
        "aws:iam/accessKey:AccessKey",
        "aws:secretsmanager/secretVersion:SecretVersion",
    ):
        report("a secret would lie in the state file: make it outside of the stacks", None)


def _data_is_kept(args: StackValidationArgs, report: ReportViolation) -> None:
    for one in args.resources:
        if one.resource_type in _DATA and not one.props.get("replicateSourceDb") and not one.opts.protect:
            report(f"{one.name} holds data: protect it", one.urn)


def _buckets_are_whole(args: StackValidationArgs, report: ReportViolation) -> None:
    for kind in _EACH_BUCKET:
        # By name: what a bucket is called in AWS is not known before it is made.
        closed = {one.name for one in args.resources if one.resource_type == kind}
        for one in args.resources:
            if one.resource_type == "aws:s3/bucket:Bucket" and one.name not in closed:
                report(f"bucket {one.name} has no {kind.rpartition(':')[2]}", one.urn)


def _tagged(args: StackValidationArgs, report: ReportViolation) -> None:
    for one in args.resources:
        if one.resource_type == "pulumi:providers:aws":
            tags = one.props.get("defaultTags") or "{}"
            known = (json.loads(tags) if isinstance(tags, str) else tags).get("tags") or {}
            if not {"djops:project", "djops:environment"} <= set(known):
                report(f"provider {one.name} must tag with djops:project and djops:environment", one.urn)


def _statements(props: Props) -> list[dict[str, Any]]:
    document = props.get("policy") or "{}"
    found = (json.loads(document) if isinstance(document, str) else document).get("Statement", [])
    return found if isinstance(found, list) else [found]


RULES += [
    ResourceValidationPolicy(
        name="named-rights", description="Policies name the actions that they allow.", validate=_no_stars
    ),
    ResourceValidationPolicy(
        name="no-secrets-in-state", description="No secret is made by a stack.", validate=_no_keys
    ),
    StackValidationPolicy(
        name="data-protected", description="What holds data is protected.", validate=_data_is_kept
    ),
    StackValidationPolicy(
        name="bucket-whole",
        description="Every bucket is encrypted, closed, owned and has a policy.",
        validate=_buckets_are_whole,
    ),
    StackValidationPolicy(
        name="tagged", description="Everything carries its project and environment.", validate=_tagged
    ),
]
