"""The policy pack takes the stacks as they are, and each rule refuses what it is about."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cloud.settings import size_named
from pulumi_policy import (
    PolicyCustomTimeouts,
    PolicyResource,
    PolicyResourceOptions,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
)

from tests.support.cloud import Declared, Registered, declared, settings, short

PACK = Path(__file__).resolve().parents[2] / "policies" / "pack"
sys.path.insert(0, str(PACK))

from cloud_rules import RULES  # noqa: E402


def _broken(resources: list[Registered]) -> dict[str, set[str]]:
    """Return the rules that find fault, each with the names of what it blames."""
    found: dict[str, set[str]] = {}

    def reporter(rule: str, name: str = "") -> Callable[[str, str | None], None]:
        def report(message: str, urn: str | None) -> None:
            assert message
            found.setdefault(rule, set()).add(urn.rpartition("::")[2] if urn else name)

        return report

    for rule in RULES:
        if isinstance(rule, ResourceValidationPolicy):
            for one in resources:
                options = _options(one)
                args = ResourceValidationArgs(one.type, dict(one.inputs), one.urn, one.name, options, None)
                rule.validate(args, reporter(rule.name, one.name))
        else:
            whole = [
                PolicyResource(
                    one.type, dict(one.inputs), one.urn, one.name, _options(one), None, None, [], {}
                )
                for one in resources
            ]
            rule.validate(StackValidationArgs(whole), reporter(rule.name))
    return found


def _options(one: Registered) -> PolicyResourceOptions:
    return PolicyResourceOptions(one.protect, list(one.ignored), None, [], PolicyCustomTimeouts(0, 0, 0), [])


@pytest.mark.parametrize("size", ["small", "large"])
def test_the_stacks_break_no_rule(size: str, whole: Declared) -> None:
    made = whole if size == "small" else declared(settings(size=size_named(size)))
    assert _broken(list(made.resources)) == {}


def _set(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda inputs: inputs.update(values)


def _in_policy(change: Callable[[list[Any]], None]) -> Callable[[dict[str, Any]], None]:
    def broken(inputs: dict[str, Any]) -> None:
        document = json.loads(inputs["policy"])
        change(document["Statement"])
        inputs["policy"] = json.dumps(document)

    return broken


def _open_bucket(statements: list[Any]) -> None:
    statements[:] = [one for one in statements if one["Effect"] == "Allow"]


def _plain_image(inputs: dict[str, Any]) -> None:
    inputs["containerDefinitions"] = inputs["containerDefinitions"].replace("@sha256:", ":")


# Rule, resource, what is done to it.
SINS: list[tuple[str, str, str, Callable[[dict[str, Any]], None]]] = [
    ("database-private", "rds.Instance", "database", _set(publiclyAccessible=True)),
    ("database-private", "rds.Instance", "database", _set(storageEncrypted=False)),
    ("database-private", "rds.Instance", "database", _set(password="hunter2")),
    ("database-recoverable", "rds.Instance", "database", _set(backupRetentionPeriod=0)),
    ("database-recoverable", "rds.Instance", "database", _set(deletionProtection=False)),
    ("database-recoverable", "rds.Instance", "database", _set(skipFinalSnapshot=True)),
    ("database-tls", "rds.ParameterGroup", "datajoint", _set(parameters=[])),
    ("no-way-in", "vpc.SecurityGroupIngressRule", "gate-to-database", _set(cidrIpv4="0.0.0.0/0")),
    ("no-way-in", "ec2.SecurityGroup", "database", _set(ingress=[{"cidrBlocks": ["::/0"]}])),
    ("machine-closed", "ec2.Instance", "gate", _set(associatePublicIpAddress=True)),
    ("machine-closed", "ec2.Instance", "gate", _set(metadataOptions={"httpTokens": "optional"})),
    ("machine-closed", "ec2.Instance", "gate", _set(keyName="ann")),
    ("machine-closed", "ec2.Instance", "secrets", _set(rootBlockDevice={"encrypted": False})),
    ("machine-closed", "ec2.LaunchTemplate", "gpu-gpu", _set(blockDeviceMappings=[])),
    ("disk-encrypted", "ebs.Volume", "secrets-data", _set(encrypted=False)),
    ("subnet-private", "ec2.Subnet", "public", _set(mapPublicIpOnLaunch=True)),
    ("bucket-stays", "s3.Bucket", "demo-raw", _set(forceDestroy=True)),
    ("bucket-closed", "s3.BucketPublicAccessBlock", "demo-raw", _set(blockPublicPolicy=False)),
    ("bucket-tls", "s3.BucketPolicy", "logs", _in_policy(_open_bucket)),
    ("key-renewed", "kms.Key", "data", _set(enableKeyRotation=False)),
    ("logs-end", "cloudwatch.LogGroup", "workers", _set(retentionInDays=0)),
    ("logs-end", "cloudwatch.LogGroup", "workers", _set(kmsKeyId=None)),
    ("worker-pinned", "ecs.TaskDefinition", "cpu", _plain_image),
    ("worker-private", "ecs.Service", "cpu", _set(networkConfiguration={"assignPublicIp": True})),
    (
        "named-rights",
        "iam.RolePolicy",
        "worker-cpu",
        _in_policy(lambda all_: all_[0].update(Action=["s3:*"])),
    ),
    (
        "named-rights",
        "iam.Policy",
        "access-manager",
        _in_policy(lambda all_: all_[0].update(NotAction="x")),
    ),
    ("no-secrets-in-state", "iam.User", "access-manager", _set()),
    ("data-protected", "rds.Instance", "database", _set()),
    ("bucket-whole", "s3.BucketOwnershipControls", "demo-raw", _set()),
    ("tagged", "pulumi:providers:aws", "aws", _set(defaultTags="{}")),
]


@pytest.mark.parametrize(("rule", "kind", "name", "sin"), SINS)
def test_each_rule_refuses_its_sin(
    rule: str, kind: str, name: str, sin: Callable[[dict[str, Any]], None], whole: Declared
) -> None:
    resources = list(whole.resources)
    ((at, one),) = [(i, r) for i, r in enumerate(resources) if short(r.type) == kind and r.name == name]
    inputs = copy.deepcopy(dict(one.inputs))
    sin(inputs)
    kind_of = "aws:iam/accessKey:AccessKey" if rule == "no-secrets-in-state" else one.type
    protect = one.protect and rule != "data-protected"
    called = "another" if rule == "bucket-whole" else name
    resources[at] = dataclasses.replace(one, inputs=inputs, protect=protect, type=kind_of, name=called)
    blamed = "demo-raw" if rule == "bucket-whole" else name
    assert blamed in _broken(resources).get(rule, set())


def test_every_rule_has_its_sin() -> None:
    assert {rule.name for rule in RULES} == {sin[0] for sin in SINS}
