"""An update that fails in the middle, its resumption, the way down, and what stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from tests.support.cloud import REGION
from tests.support.cloud_world import World, world_in
from tests.support.engine import DeploymentError, Engine


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[World]:
    """An account with nothing in it."""
    yield from world_in(tmp_path)


def test_what_failed_in_the_middle_goes_on_where_it_stopped(empty: World) -> None:
    empty.double.fail["Instance::database"] = "InsufficientDBInstanceCapacity: try later"
    with pytest.raises(DeploymentError, match=r"creating .*Instance::database: InsufficientDB"):
        empty.up()
    kept = {one.urn for one in empty.engine.state().resources}
    assert kept and not any("Instance::database" in urn for urn in kept)
    assert not empty.engine.state().pending
    empty.double.fail.clear()
    begun = len(empty.double.calls)
    done = empty.up()
    again = {urn for step in done.steps if step.operation == "create" for urn in [step.urn]}
    assert not again & kept and done.count() == {"create": len(again)}
    assert len(empty.double.calls) - begun == len([urn for urn in again if "$aws:" in urn])
    vpcs = empty.client("ec2").describe_vpcs()["Vpcs"]
    assert len([one for one in vpcs if not one["IsDefault"]]) == 1
    assert empty.up().count() == {}

    # Down: nothing while data is protected; then all but data, and what data needs.
    with pytest.raises(DeploymentError, match="protected"):
        empty.engine.destroy()
    assert len(empty.machines()) == 2
    down = empty.engine.destroy(exclude_protected=True)
    left = {urn.split("::")[2].rpartition("$")[2] for urn in down.kept}
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
    assert empty.machines() == set() and empty.database()["DBInstanceStatus"] == "available"

    # Up again finds its data.
    before = empty.database()["DbiResourceId"]
    back = empty.up()
    assert "database" not in back.names("create") and empty.database()["DbiResourceId"] == before

    # And where somebody takes the protection off, AWS keeps what Pulumi forgets.
    empty.engine.unprotect()
    gone = empty.engine.destroy()
    assert {"database", "demo-raw", "data", "unseal", "secrets-data", "secrets-init"} <= set(
        gone.names("retain")
    )
    assert "datajoint" in gone.names("retain")
    assert gone.kept == () and empty.database()["DbiResourceId"] == before
    assert empty.client("s3").head_bucket(Bucket="demo-raw")


def test_a_resource_that_moves_with_an_alias_stays_where_it_is(empty: World, tmp_path: Path) -> None:
    names: dict[str, Any] = {"name": "raw", "aliases": []}

    def program() -> None:
        aliases = [pulumi.Alias(name=one) for one in names["aliases"]]
        aws.s3.Bucket(
            names["name"], bucket="kept", opts=pulumi.ResourceOptions(protect=True, aliases=aliases)
        )

    engine = Engine(program, empty.engine.provider_address, tmp_path / "moved.json", {"aws:region": REGION})
    engine.up()
    names["name"] = "data"
    with pytest.raises(DeploymentError, match="::raw cannot be deleted because it is protected"):
        engine.preview()
    names["aliases"] = ["raw"]
    assert engine.up().count() == {}
    assert [one.urn.rpartition("::")[2] for one in engine.state().resources if "s3" in one.type] == ["data"]
