"""The stacks as they live: made, changed, broken, mended and taken down, against AWS's interfaces in memory.

The program, the SDK's runtime and both protocols are real; the engine and the provider are stand-ins
(`docs/cloud.md` tells what that leaves open).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

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
from tests.support.engine import DeploymentError
from tests.support.projects import project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A stack that is up; whoever changes it brings it back."""
    for world in world_in(tmp_path_factory.mktemp("made")):
        before = world.preview()
        assert not world.file.exists() and world.double.calls == []
        assert not world.client("s3").list_buckets()["Buckets"]
        after = world.up()
        assert before.count() == after.count() == {"create": len(after.steps)}
        assert {step.urn for step in before.steps} == {step.urn for step in after.steps}
        yield world


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


def test_state_and_outputs_hold_no_secret(made: World) -> None:
    text = made.file.read_text(encoding="utf-8").lower()
    assert '"password"' not in text and "secretstring" not in text
    state = json.loads(text)
    assert state["version"] == 3 and not state["checkpoint"]["latest"]["pending_operations"]
    outputs = made.up().outputs
    assert outputs["database"]["adminSecret"].startswith("arn:aws:secretsmanager:")
    assert outputs["buckets"] == ["demo-raw"]


def test_up_again_does_nothing(made: World) -> None:
    asked = len(made.double.calls)
    result = made.up()
    assert result.count() == {} and len(made.double.calls) == asked


def test_a_larger_size_changes_the_database_and_replaces_nothing(made: World) -> None:
    before, medium = made.database()["DbiResourceId"], size_named("medium")
    planned, done = made.preview(size=medium), made.up(size=medium)
    assert set(planned.steps) == set(done.steps)
    assert done.names("update") == ["database"] and done.count() == {"update": 1}
    (step,) = [one for one in done.steps if one.operation == "update"]
    assert {"instanceClass", "multiAz", "allocatedStorage", "maxAllocatedStorage"} <= set(step.changed)
    after = made.database()
    assert (
        after["DBInstanceClass"] == "db.m7g.large" and after["MultiAZ"] and after["DbiResourceId"] == before
    )
    made.up()
    assert made.database()["DBInstanceClass"] == "db.t4g.medium"


def test_a_new_image_replaces_the_task_and_updates_the_service(made: World) -> None:
    image = Image("demo@sha256:" + "34" * 32, "beef" * 10)
    done = made.up(image=image)
    assert done.names("replace") == ["cpu"] and "cpu" in done.names("update")
    (service,) = made.client("ecs").describe_services(cluster="djops-demo_lab-production", services=["cpu"])[
        "services"
    ]
    task = made.client("ecs").describe_task_definition(taskDefinition=service["taskDefinition"])
    assert task["taskDefinition"]["containerDefinitions"][0]["image"] == image.reference
    made.up()


def test_a_new_openbao_replaces_its_machine_and_keeps_its_disk(made: World) -> None:
    assert WANTED.openbao is not None
    (disk,) = [one for one in made.client("ec2").describe_volumes()["Volumes"] if one["Size"] == 10]
    before = made.machines()
    newer = dataclasses.replace(WANTED.openbao, sha256="cd" * 32)
    done = made.up(openbao=newer)
    assert done.names("replace") == ["secrets", "secrets-data"]
    order = [(step.operation, step.name) for step in done.steps if step.operation in ("replace", "delete")]
    # The new machine comes first; the disk is let go before it is taken; the old machine goes last.
    assert order == [
        ("replace", "secrets"),
        ("delete", "secrets-data"),
        ("replace", "secrets-data"),
        ("delete", "secrets"),
    ]
    after = made.machines()
    assert len(after) == 2 and len(after & before) == 1
    (now,) = made.client("ec2").describe_volumes(VolumeIds=[disk["VolumeId"]])["Volumes"]
    assert now["Attachments"][0]["InstanceId"] in after - before
    made.up()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"buckets": (dataclasses.replace(RAW, lock_days=30),)},
            "unable to replace .*::demo-raw: it is protected",
        ),
        ({"buckets": (BucketArgs("demo-other"),)}, "::demo-raw cannot be deleted because it is protected"),
        ({"project": "other_lab"}, "unable to replace .*: it is protected"),
    ],
    ids=["lock an existing bucket", "leave a bucket out", "rename the project"],
)
def test_what_would_cost_data_is_refused(change: dict[str, Any], told: str, made: World) -> None:
    before, asked = made.file.read_bytes(), len(made.double.calls)
    with pytest.raises(DeploymentError, match=told):
        made.up(preview_first=True, **change)
    assert made.file.read_bytes() == before and len(made.double.calls) == asked


def test_refresh_finds_drift_and_up_mends_it(made: World) -> None:
    assert made.engine.refresh().count() == {}
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
    assert changed["database"] == ("deletionProtection",)
    assert changed["demo-raw"] == ("versioningConfiguration",)
    assert changed["access-manager"] == ("policy",)
    assert found.names("delete") == ["demo-raw"]
    mended = made.up()
    assert sorted(mended.names("update")) == ["access-manager", "database", "demo-raw"]
    assert mended.names("create") == ["demo-raw"]
    assert s3.get_bucket_versioning(Bucket="demo-raw")["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket="demo-raw")["PublicAccessBlockConfiguration"].values())
    assert made.database()["DeletionProtection"]
    assert made.engine.refresh().count() == {}


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
