"""The stacks as they live: made, changed, broken, mended and taken down, against AWS's interfaces in memory.

The program, the SDK's runtime and both protocols are real, and so is the engine where somebody built it;
else a stand-in takes its place. The provider is a stand-in (`docs/cloud.md` tells what that leaves open). One
life, in the order of this file: each test finds the stack as the one before it left it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest
from cloud import policies
from cloud.object_store import BucketArgs
from cloud.settings import size_named
from cloud.workers import Image

from djops.compile.rights import Rights
from djops.compile.s3 import compile_s3
from djops.plan.s3_changes import same_protection
from djops.systems.cloud_needs import load_needs
from djops.systems.connections import S3Connection, Secret
from djops.systems.s3 import S3
from tests.support.cloud import ACCOUNT, REGION
from tests.support.cloud_world import RAW, WANTED, World, world_in
from tests.support.engine import DeploymentError, Result
from tests.support.projects import project


@dataclass(frozen=True)
class Beginning:
    """How the stack came to be.

    Attributes:
        world: The account.
        planned: What the preview said.
        kept: What the first update made before it failed.
        made: What the second made.
    """

    world: World
    planned: Result
    kept: frozenset[str]
    made: Result


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beginning]:
    """A stack that is up, at the second attempt."""
    for world in world_in(tmp_path_factory.mktemp("made")):
        planned = world.preview()
        assert not world.engine.state().resources and world.double.calls == []
        assert not world.client("s3").list_buckets()["Buckets"]
        world.double.fail["Instance::database"] = "InsufficientDBInstanceCapacity: try later"
        with pytest.raises(DeploymentError, match=r"Instance::database: .*InsufficientDBInst"):
            world.up()
        world.double.fail.clear()
        state = world.engine.state()
        assert not state.pending
        kept = frozenset(one.urn for one in state.resources)
        yield Beginning(world, planned, kept, world.up())


@pytest.fixture(scope="module")
def made(begun: Beginning) -> World:
    """The account with the stack that is up; whoever changes it brings it back."""
    return begun.world


def test_what_failed_in_the_middle_goes_on_where_it_stopped(begun: Beginning) -> None:
    planned = {step.urn for step in begun.planned.steps}
    assert begun.planned.count() == {"create": len(planned)}
    again = {step.urn for step in begun.made.steps if step.operation == "create"}
    assert begun.kept and not any("Instance::database" in urn for urn in begun.kept)
    assert not again & begun.kept and again | begun.kept == planned
    assert begun.made.count() == {"create": len(again)}
    vpcs = begun.world.client("ec2").describe_vpcs()["Vpcs"]
    assert len([one for one in vpcs if not one["IsDefault"]]) == 1


def test_up_makes_what_was_asked_for(made: World) -> None:
    database = made.database()
    assert (
        database["StorageEncrypted"] and database["DeletionProtection"] and not database["PubliclyAccessible"]
    )
    tags = {one["Key"]: one["Value"] for one in database["TagList"]}
    assert tags["djops:project"] == "demo_lab" and tags["djops:environment"] == "production"
    s3 = made.client("s3")
    assert {one["Name"] for one in s3.list_buckets()["Buckets"]} == {
        "demo-raw",
        "demo-lab-production-123456789012-logs",
    }
    assert s3.get_bucket_versioning(Bucket="demo-raw")["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket="demo-raw")["PublicAccessBlockConfiguration"].values())
    assert len(made.machines()) == 2


def test_the_access_layer_finds_its_buckets_as_it_wants_them(made: World) -> None:
    wanted = compile_s3(project({}, bucket="demo-raw"), Rights((), ()), ACCOUNT).buckets["demo-raw"]
    where = f"https://s3.{REGION}.amazonaws.com"
    found = S3(S3Connection(where, where, "testing", Secret("testing"), REGION)).bucket("demo-raw")
    assert found is not None and same_protection(found, wanted)


def test_up_again_does_nothing_and_state_and_outputs_hold_no_secret(made: World) -> None:
    asked = len(made.double.calls)
    result = made.up()
    assert result.count() == {} and len(made.double.calls) == asked
    outputs = result.outputs
    assert outputs["database"]["adminSecret"].startswith("arn:aws:secretsmanager:")
    assert outputs["buckets"] == ["demo-raw"]
    text = made.file.read_text(encoding="utf-8").lower()
    assert '"password":' not in text and "secretstring" not in text
    assert json.loads(text)["version"] == 3 and not made.engine.state().pending


def test_a_larger_size_a_new_image_and_a_new_openbao_in_one_update(made: World) -> None:
    assert WANTED.openbao is not None
    image = Image("demo@sha256:" + "34" * 32, "beef" * 10)
    newer = dataclasses.replace(WANTED.openbao, sha256="cd" * 32)
    before, machines = made.database()["DbiResourceId"], made.machines()
    (disk,) = [one for one in made.client("ec2").describe_volumes()["Volumes"] if one["Size"] == 10]
    done = made.up(size=size_named("medium"), image=image, openbao=newer)

    # The database is changed in place.
    assert sorted(done.names("update")) == ["cpu", "database", "task-start"]
    (step,) = [one for one in done.steps if (one.operation, one.name) == ("update", "database")]
    assert {"instanceClass", "multiAz", "allocatedStorage", "maxAllocatedStorage"} <= set(step.changed)
    after = made.database()
    assert after["DBInstanceClass"] == "db.m7g.large" and after["MultiAZ"]
    assert after["DbiResourceId"] == before

    # A task definition is never changed, only replaced; the service takes the new one.
    ecs = made.client("ecs")
    (service,) = ecs.describe_services(cluster="djops-demo_lab-production", services=["cpu"])["services"]
    task = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    assert task["containerDefinitions"][0]["image"] == image.reference

    # The new machine comes first; the disk is let go before it is taken; the old machine goes last.
    order = [
        (one.operation, one.name)
        for one in done.steps
        if one.operation in ("replace", "delete") and one.name != "cpu"
    ]
    assert order == [
        ("replace", "secrets"),
        ("delete", "secrets-data"),
        ("replace", "secrets-data"),
        ("delete", "secrets"),
    ]
    assert sorted(done.names("replace")) == ["cpu", "secrets", "secrets-data"]
    now = made.machines()
    assert len(now) == 2 and len(now & machines) == 1
    (same,) = made.client("ec2").describe_volumes(VolumeIds=[disk["VolumeId"]])["Volumes"]
    assert same["Attachments"][0]["InstanceId"] in now - machines


def test_a_preview_says_what_the_update_then_does(made: World) -> None:
    planned, done = made.preview(), made.up()
    assert set(planned.steps) == set(done.steps) and done.count()["update"] == 3
    assert made.database()["DBInstanceClass"] == "db.t4g.medium"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"buckets": (dataclasses.replace(RAW, lock_days=30),)}, "unable to replace .*::demo-raw.* protect"),
        ({"buckets": (BucketArgs("demo-other"),)}, "::demo-raw.* cannot be deleted.* protect"),
        ({"project": "other_lab"}, "unable to replace .* protect"),
    ],
    ids=["lock an existing bucket", "leave a bucket out", "rename the project"],
)
def test_what_would_cost_data_is_refused(change: dict[str, Any], told: str, made: World) -> None:
    before, asked = made.engine.state().resources, len(made.double.calls)
    with pytest.raises(DeploymentError, match=told):
        made.up(preview_first=True, **change)
    assert made.engine.state().resources == before and len(made.double.calls) == asked


def test_refresh_finds_drift_and_up_mends_it(made: World) -> None:
    s3, rds = made.client("s3"), made.client("rds")
    s3.put_bucket_versioning(Bucket="demo-raw", VersioningConfiguration={"Status": "Suspended"})
    s3.delete_public_access_block(Bucket="demo-raw")
    rds.modify_db_instance(
        DBInstanceIdentifier="demo-lab-production", DeletionProtection=False, ApplyImmediately=True
    )
    made.client("iam").create_policy_version(
        PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/djops-system/djops-manager-demo_lab-production",
        PolicyDocument=json.dumps(policies.document(policies.allow(["*"], ["*"]))),
        SetAsDefault=True,
    )
    assert made.preview().count() == {}, "without a refresh nobody looks"
    found = made.engine.refresh()
    changed = {step.name: step.changed for step in found.steps if step.operation == "update"}
    assert changed == {
        "database": ("deletionProtection",),
        "demo-raw": ("versioningConfiguration",),
        "access-manager": ("policy",),
    }
    assert found.names("delete") == ["demo-raw"]
    mended = made.up()
    assert sorted(mended.names("update")) == ["access-manager", "database", "demo-raw"]
    assert mended.names("create") == ["demo-raw"]
    assert s3.get_bucket_versioning(Bucket="demo-raw")["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket="demo-raw")["PublicAccessBlockConfiguration"].values())
    assert made.database()["DeletionProtection"]
    assert made.engine.refresh().count() == {}


def _kinds(urns: tuple[str, ...]) -> set[str]:
    return {urn.split("::")[2].rpartition("$")[2] for urn in urns}


def test_down_keeps_data_and_what_it_needs_and_up_finds_it_again(made: World) -> None:
    machines = made.machines()
    with pytest.raises(DeploymentError, match="protected"):
        made.engine.destroy()
    assert made.machines() == machines, "nothing goes while data is in the way"
    before = made.database()["DbiResourceId"]
    left = _kinds(made.engine.destroy(exclude_protected=True).kept)
    assert {
        "aws:rds/instance:Instance",
        "aws:s3/bucket:Bucket",
        "aws:kms/key:Key",
        "aws:ebs/volume:Volume",
    } <= left
    assert {
        "aws:rds/subnetGroup:SubnetGroup",
        "aws:ec2/vpc:Vpc",
        "aws:rds/parameterGroup:ParameterGroup",
    } <= left
    assert not left & {
        "aws:ec2/instance:Instance",
        "aws:ec2/natGateway:NatGateway",
        "aws:ecs/cluster:Cluster",
    }
    assert made.machines() == set() and made.database()["DBInstanceStatus"] == "available"
    back = made.up()
    assert "database" not in back.names("create") and made.database()["DbiResourceId"] == before


def test_where_somebody_takes_the_protection_off_aws_keeps_what_pulumi_forgets(made: World) -> None:
    before = made.database()["DbiResourceId"]
    made.engine.unprotect()
    gone = made.engine.destroy()
    assert {"database", "demo-raw", "data", "unseal", "secrets-data", "secrets-init", "datajoint"} <= set(
        gone.names("retain")
    )
    assert gone.kept == () and made.database()["DbiResourceId"] == before
    assert made.client("s3").head_bucket(Bucket="demo-raw")


def test_a_resource_that_moves_with_an_alias_stays_where_it_is(made: World) -> None:
    names: dict[str, Any] = {"name": "raw", "aliases": []}

    def program() -> None:
        aliases = [pulumi.Alias(name=one) for one in names["aliases"]]
        aws.s3.Bucket(
            names["name"], bucket="kept", opts=pulumi.ResourceOptions(protect=True, aliases=aliases)
        )

    engine = made.stack(program, "moved", **{"aws:region": REGION})
    engine.up()
    names["name"] = "data"
    with pytest.raises(DeploymentError, match=r"::raw.* cannot be deleted.* protect"):
        engine.preview()
    names["aliases"] = ["raw"]
    assert engine.up().count() == {}
    assert [one.urn.rpartition("::")[2] for one in engine.state().resources if "s3" in one.type] == ["data"]


# Where the action of IAM is called otherwise than the request.
CALLED = {
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:DeletePublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:PutObjectLockConfiguration": "s3:PutBucketObjectLockConfiguration",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "budgets:CreateBudget": "budgets:ModifyBudget",
    "budgets:DeleteBudget": "budgets:ModifyBudget",
    "budgets:DescribeBudget": "budgets:ViewBudget",
}
# The double makes stand-ins for AWS's own managed policies, which moto lacks.
NOT_OURS = {"iam:ListPolicies"}


def test_aws_is_asked_for_nothing_that_the_list_of_needs_does_not_name(made: World) -> None:
    needs = load_needs()
    named = {action for one in needs.types.values() for action in one.actions} | set(needs.always)
    asked = {f"{service}:{action}" for service, action in made.double.asked}
    assert len(asked) > 80
    assert {CALLED.get(one, one) for one in asked} - named <= NOT_OURS
