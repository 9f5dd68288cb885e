"""What must hold of every stack, looked up in what the program asks the engine for."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from cloud.database import PARAMETERS, ExistingDatabase
from cloud.network import ExistingNetwork
from cloud.object_store import BucketArgs
from cloud.settings import Existing, size_named
from cloud.workers import DRAIN_SECONDS, Image

from tests.support.cloud import Declared, declared, settings, short, worker_class

DATA = ("rds.Instance", "rds.SubnetGroup", "s3.Bucket", "kms.Key", "ebs.Volume")


def only(found: dict[str, Any]) -> Any:
    (one,) = found.values()
    return one


# Network


def test_private_subnets_lie_in_two_zones_and_give_no_public_address(whole: Declared) -> None:
    subnets = whole.of("ec2.Subnet")
    private = [one.inputs for name, one in subnets.items() if name.startswith("private")]
    assert len({one["availabilityZone"] for one in private}) == len(private) == 2
    assert not any(one.inputs["mapPublicIpOnLaunch"] for one in subnets.values())


def test_nothing_but_the_nat_gateway_is_in_the_public_subnet(whole: Declared) -> None:
    users = [
        short(one.type)
        for one in whole.aws()
        if "public-1a2b3c-id" in json.dumps(one.inputs)
        and short(one.type) not in ("ec2.RouteTableAssociation", "ec2.Subnet", "ec2.RouteTable")
    ]
    assert users == ["ec2.NatGateway"]


def test_every_way_in_is_from_another_group(whole: Declared) -> None:
    rules = whole.of("vpc.SecurityGroupIngressRule")
    opened = {(name, one.inputs["fromPort"], one.inputs["toPort"]) for name, one in rules.items()}
    assert opened == {
        ("workers-to-database", 3306, 3306),
        ("gate-to-database", 3306, 3306),
        ("secrets-to-database", 3306, 3306),
        ("workers-to-secrets", 8200, 8200),
        ("gate-to-secrets", 8200, 8200),
    }
    for one in rules.values():
        assert one.inputs["referencedSecurityGroupId"]
        assert not {"cidrIpv4", "cidrIpv6", "prefixListId"} & set(one.inputs)
    groups = whole.of("ec2.SecurityGroup").values()
    assert not any(one.inputs.get("ingress") or one.inputs.get("egress") for one in groups)


def test_the_database_lets_nothing_out_and_the_others_https_only(whole: Declared) -> None:
    outside = {
        name: one.inputs["toPort"]
        for name, one in whole.of("vpc.SecurityGroupEgressRule").items()
        if one.inputs.get("cidrIpv4")
    }
    assert outside == {"workers-to-https": 443, "secrets-to-https": 443, "gate-to-https": 443}


def test_the_group_that_aws_makes_by_itself_is_emptied(whole: Declared) -> None:
    unused = only(whole.of("ec2.DefaultSecurityGroup")).inputs
    assert unused["ingress"] == unused["egress"] == []


def test_s3_is_reached_through_a_gateway_endpoint(whole: Declared) -> None:
    endpoint = only(whole.of("ec2.VpcEndpoint")).inputs
    assert endpoint["vpcEndpointType"] == "Gateway" and endpoint["serviceName"].endswith(".s3")
    assert endpoint["routeTableIds"] == ["private-1a2b3c-id"]


def test_machines_have_no_public_address_an_encrypted_disk_and_tokens(whole: Declared) -> None:
    machines = whole.of("ec2.Instance")
    assert set(machines) == {"gate", "secrets"}
    for one in machines.values():
        assert one.inputs["associatePublicIpAddress"] is False
        assert one.inputs["rootBlockDevice"]["encrypted"] is True
        assert one.inputs["metadataOptions"]["httpTokens"] == "required"
        assert "keyName" not in one.inputs
        assert one.ignored == ("ami",)
    template = only(whole.of("ec2.LaunchTemplate")).inputs
    assert template["metadataOptions"]["httpTokens"] == "required"
    assert template["blockDeviceMappings"][0]["ebs"]["encrypted"] == "true"


# Database


def test_the_database_is_encrypted_private_and_backed_up(whole: Declared) -> None:
    it = whole.of("rds.Instance")["database"].inputs
    assert it["publiclyAccessible"] is False
    assert it["storageEncrypted"] is True and it["kmsKeyId"].endswith(":data")
    assert it["deletionProtection"] is True and it["deleteAutomatedBackups"] is False
    assert it["skipFinalSnapshot"] is False and it["finalSnapshotIdentifier"] == "demo-lab-production-final"
    assert it["backupRetentionPeriod"] >= 7
    assert it["maxAllocatedStorage"] > it["allocatedStorage"]
    assert it["engineVersion"].startswith("8.4")


def test_no_password_is_in_the_inputs(whole: Declared) -> None:
    it = whole.of("rds.Instance")["database"].inputs
    assert it["manageMasterUserPassword"] is True
    assert not {"password", "passwordWo"} & set(it)
    assert "aws:secretsmanager/secretVersion:SecretVersion" not in {one.type for one in whole.resources}
    assert not whole.of("iam.AccessKey")


def test_the_parameters_are_what_datajoint_needs(whole: Declared) -> None:
    group = only(whole.of("rds.ParameterGroup")).inputs
    written = {one["name"]: one["value"] for one in group["parameters"]}
    assert written == PARAMETERS
    assert group["family"] == "mysql8.4"
    assert written["require_secure_transport"] == "1"
    assert int(written["max_allowed_packet"]) >= 512 * 1024**2
    assert "STRICT_ALL_TABLES" in written["sql_mode"] and written["character_set_server"] == "utf8mb4"
    assert whole.of("rds.Instance")["database"].inputs["parameterGroupName"] == "datajoint-1a2b3c"


def test_logs_are_exported_into_encrypted_groups_that_end(whole: Declared) -> None:
    it = whole.of("rds.Instance")["database"].inputs
    groups = {one.inputs["name"]: one.inputs for one in whole.of("cloudwatch.LogGroup").values()}
    for kind in it["enabledCloudwatchLogsExports"]:
        assert f"/aws/rds/instance/demo-lab-production/{kind}" in groups
    assert all(one["kmsKeyId"] and 0 < one["retentionInDays"] <= 3653 for one in groups.values())


@pytest.mark.parametrize("audit", [True, False])
def test_audit_is_one_switch_for_database_and_objects(audit: bool, whole: Declared) -> None:
    made = whole if audit else declared(settings(audit=False))
    it = made.of("rds.Instance")["database"].inputs
    assert ("audit" in it["enabledCloudwatchLogsExports"]) is audit
    assert bool(made.of("rds.OptionGroup")) is audit and ("optionGroupName" in it) is audit
    assert bool(made.of("cloudtrail.Trail")) is audit
    if audit:
        trail = only(made.of("cloudtrail.Trail")).inputs
        assert trail["enableLogFileValidation"] is True
        fields = {one["field"]: one for one in trail["advancedEventSelectors"][0]["fieldSelectors"]}
        assert fields["eventCategory"]["equals"] == ["Data"]
        assert fields["resources.ARN"]["startsWiths"] == [
            "arn:aws:s3:::demo-raw/",
            "arn:aws:s3:::demo-locked/",
        ]


# Buckets


def test_every_bucket_is_closed_encrypted_and_refuses_plain_http(whole: Declared) -> None:
    buckets = set(whole.of("s3.Bucket"))
    assert buckets == {"logs", "demo-raw", "demo-locked"}
    for kind in (
        "s3.BucketServerSideEncryptionConfiguration",
        "s3.BucketPublicAccessBlock",
        "s3.BucketOwnershipControls",
        "s3.BucketPolicy",
        "s3.BucketLifecycleConfiguration",
    ):
        assert set(whole.of(kind)) == buckets, kind
    for one in whole.of("s3.BucketPublicAccessBlock").values():
        flags = {key: value for key, value in one.inputs.items() if key != "bucket"}
        assert len(flags) == 4 and all(flags.values())
    for one in whole.of("s3.BucketOwnershipControls").values():
        assert one.inputs["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
    for name, policy in whole.documents("s3.BucketPolicy").items():
        denied = [one for one in policy["Statement"] if one["Effect"] == "Deny"]
        assert denied[0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}, name
        assert (
            denied[0]["Action"] == "s3:*"
            and denied[0]["Principal"] == {"AWS": "*"}
            and len(denied[0]["Resource"]) == 2
        )
    assert not any(one.inputs["forceDestroy"] for one in whole.of("s3.Bucket").values())


def test_data_buckets_keep_old_versions_for_a_while(whole: Declared) -> None:
    assert set(whole.of("s3.BucketVersioning")) == {"demo-raw", "demo-locked"}
    for one in whole.of("s3.BucketVersioning").values():
        assert one.inputs["versioningConfiguration"] == {"status": "Enabled"}
    for name, one in whole.of("s3.BucketLifecycleConfiguration").items():
        rules = {rule["id"]: rule for rule in one.inputs["rules"]}
        assert any("abortIncompleteMultipartUpload" in rule for rule in rules.values())
        expires = [rule["id"] for rule in rules.values() if "expiration" in rule]
        # Only logs go away by themselves.
        assert expires == (["expire"] if name == "logs" else [])
        assert ("tiering" in rules) is (name == "demo-raw")
        if name != "logs":
            assert rules["old-versions"]["noncurrentVersionExpiration"] == {"noncurrentDays": 90}


def test_raw_data_can_be_locked(whole: Declared) -> None:
    locked = {
        name: one.inputs["objectLockEnabled"] for name, one in whole.of("s3.Bucket").items() if name != "logs"
    }
    assert locked == {"demo-raw": False, "demo-locked": True}
    rule = whole.of("s3.BucketObjectLockConfiguration")["demo-locked"].inputs["rule"]
    assert rule["defaultRetention"] == {"mode": "GOVERNANCE", "days": 30}


def test_requests_are_logged_into_the_bucket_for_logs(whole: Declared) -> None:
    logged = {name: one.inputs["targetPrefix"] for name, one in whole.of("s3.BucketLogging").items()}
    assert logged == {"demo-raw": "access/demo-raw/", "demo-locked": "access/demo-locked/"}


# What is kept, what is found again


def test_data_is_protected_and_stays(whole: Declared) -> None:
    for kind in DATA:
        found = whole.of(kind)
        assert found, kind
        for one in found.values():
            if one.name != "replica":
                assert one.protect and one.retain, one.urn
    for kind in ("rds.ParameterGroup", "rds.OptionGroup"):
        assert all(one.retain for one in whole.of(kind).values()), kind
    init = whole.of("secretsmanager.Secret")["secrets-init"]
    assert init.protect and init.retain


def test_everything_is_made_by_the_one_provider_that_tags(whole: Declared) -> None:
    provider = only({one.name: one for one in whole.resources if one.type == "pulumi:providers:aws"})
    tags = json.loads(provider.inputs["defaultTags"])["tags"]
    assert tags == {
        "djops:project": "demo_lab",
        "djops:environment": "production",
        "djops:managed-by": "pulumi",
    }
    strangers = [one.urn for one in whole.aws() if not one.provider.startswith(provider.urn)]
    assert strangers == []


# Workers


def test_workers_run_a_pinned_image_of_a_known_commit(whole: Declared) -> None:
    for one in whole.of("ecs.TaskDefinition").values():
        (container,) = json.loads(one.inputs["containerDefinitions"])
        assert "@sha256:" in container["image"]
        known = {entry["name"]: entry["value"] for entry in container["environment"]}
        assert known["DJOPS_PIPELINE_COMMIT"] == one.inputs["tags"]["commit"] == "c0ffee" * 6 + "abcd"
        assert container["stopTimeout"] == DRAIN_SECONDS
        assert {entry["name"] for entry in container["secrets"]} == {"DJ_USER", "DJ_PASS"}
        assert not any("PASS" in key for key in known)


@pytest.mark.parametrize("reference", ["demo:latest", "demo", "demo@sha256:12", "de mo@sha256:" + "1" * 64])
def test_an_image_that_is_not_pinned_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="not pinned"):
        Image(reference, "c0ffee" * 6 + "abcd")


def test_workers_scale_with_the_queue_and_to_zero(whole: Declared) -> None:
    for name in ("cpu", "gpu"):
        service, target = whole.of("ecs.Service")[name], whole.of("appautoscaling.Target")[name].inputs
        assert service.inputs["desiredCount"] == 0 and service.ignored == ("desiredCount",)
        assert (target["minCapacity"], target["maxCapacity"]) == (0, 4)
        policies, alarms = whole.of("appautoscaling.Policy"), whole.of("cloudwatch.MetricAlarm")
        steps = policies[f"{name}-none"].inputs["stepScalingPolicyConfiguration"]["stepAdjustments"]
        assert [one["scalingAdjustment"] for one in steps] == [0]
        steps = policies[f"{name}-more"].inputs["stepScalingPolicyConfiguration"]["stepAdjustments"]
        counts = [one["scalingAdjustment"] for one in steps]
        assert counts == sorted(counts) and counts[0] == 1 and counts[-1] == 4
        # The steps leave no gap: where one ends, the next begins.
        assert [one.get("metricIntervalUpperBound") for one in steps[:-1]] == [
            one["metricIntervalLowerBound"] for one in steps[1:]
        ]
        assert "metricIntervalUpperBound" not in steps[-1]
        for which in ("more", "none"):
            alarm = alarms[f"{name}-{which}"].inputs
            assert alarm["metricName"] == "JobsWaiting" and alarm["dimensions"] == {"WorkerClass": name}
            assert alarm["namespace"] == "djops/demo_lab/production"
            assert alarm["treatMissingData"] == "ignore"
    assert only(whole.of("scheduler.Schedule")).inputs["scheduleExpression"] == "rate(5 minutes)"


def test_spot_machines_drain(whole: Declared) -> None:
    import base64

    group = only(whole.of("autoscaling.Group")).inputs
    assert (group["minSize"], group["capacityRebalance"]) == (0, True)
    spread = group["mixedInstancesPolicy"]["instancesDistribution"]
    assert spread["onDemandPercentageAboveBaseCapacity"] == 0
    script = base64.b64decode(only(whole.of("ec2.LaunchTemplate")).inputs["userData"]).decode()
    assert "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true" in script and "ECS_AWSVPC_BLOCK_IMDS=true" in script
    provider = only(whole.of("ecs.CapacityProvider")).inputs["autoScalingGroupProvider"]
    assert provider["managedDraining"] == "ENABLED" and provider["managedScaling"]["status"] == "ENABLED"
    spot = {
        one["capacityProvider"]: one["weight"]
        for one in whole.of("ecs.Service")["cpu"].inputs["capacityProviderStrategies"]
    }
    assert spot["FARGATE_SPOT"] > spot["FARGATE"] > 0


def test_workers_without_spot_run_on_ordinary_capacity_only() -> None:
    made = declared(settings(workers=(worker_class(spot=False), worker_class("gpu", gpus=1, spot=False))))
    (where,) = made.of("ecs.Service")["cpu"].inputs["capacityProviderStrategies"]
    assert where["capacityProvider"] == "FARGATE"
    group = only(made.of("autoscaling.Group")).inputs
    assert group["capacityRebalance"] is False
    assert (
        group["mixedInstancesPolicy"]["instancesDistribution"]["onDemandPercentageAboveBaseCapacity"] == 100
    )


# Sizes and existing pieces


@pytest.mark.parametrize(
    ("size", "instance", "standby", "replicas"),
    [
        ("small", "db.t4g.medium", False, 0),
        ("medium", "db.m7g.large", True, 0),
        ("large", "db.r7g.xlarge", True, 1),
    ],
)
def test_sizes(size: str, instance: str, standby: bool, replicas: int) -> None:
    made = declared(settings(size=size_named(size)))
    databases = made.of("rds.Instance")
    assert databases["database"].inputs["instanceClass"] == instance
    assert databases["database"].inputs["multiAz"] is standby
    assert len(databases) == 1 + replicas
    for one in databases.values():
        assert one.inputs["publiclyAccessible"] is False and one.inputs["storageEncrypted"] is True


def test_existing_pieces_are_used_and_not_made() -> None:
    network = ExistingNetwork("vpc-7", ("subnet-a", "subnet-b"))
    database = ExistingDatabase("db.example.org", 3307, "arn:aws:secretsmanager:x:1:secret:admin")
    made = declared(
        settings(
            existing=Existing(network, database, "https://vault.example.org:8200"),
            buckets=(BucketArgs("theirs", existing=True),),
            openbao=None,
        )
    )
    kinds = {short(one.type) for one in made.aws()}
    assert not kinds & {
        "ec2.Vpc",
        "ec2.Subnet",
        "ec2.NatGateway",
        "rds.Instance",
        "s3.Bucket",
        "s3.BucketPolicy",
        "ebs.Volume",
        "rds.ParameterGroup",
        "cloudtrail.Trail",
    }
    assert {one.inputs["vpcId"] for one in made.of("ec2.SecurityGroup").values()} == {"vpc-7"}
    assert made.of("ec2.Instance").keys() == {"gate"}
    assert made.outputs["database"]["host"] == "db.example.org"
    assert made.outputs["secrets"] == {"address": "https://vault.example.org:8200"}
    assert made.outputs["buckets"] == ["theirs"]


def test_the_budget_tells_before_it_is_spent(whole: Declared) -> None:
    it = only(whole.of("budgets.Budget")).inputs
    told = {(one["notificationType"], one["threshold"]) for one in it["notifications"]}
    assert told == {("ACTUAL", 80), ("FORECASTED", 100)}
    assert it["limitAmount"] == "300" and it["notifications"][0]["subscriberEmailAddresses"] == [
        "lab@example.org"
    ]


def test_the_set_up_of_the_secrets_server_checks_what_it_installs(whole: Declared) -> None:
    script = whole.of("ec2.Instance")["secrets"].inputs["userData"]
    assert f"echo '{'ab' * 32}  /root/openbao.rpm' | sha256sum --check" in script
    assert script.index("sha256sum --check") < script.index("dnf install")
    assert "awskms" in script and "set -euo pipefail" in script
    read = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert read.returncode == 0 and not read.stderr
