"""One account of AWS in memory, with one stack in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cloud.object_store import BucketArgs
from cloud.program import provision
from moto import mock_aws

from tests.support.aws_double import AwsDouble, served
from tests.support.cloud import REGION, settings, worker_class
from tests.support.engine import Engine, Result

RAW = BucketArgs("demo-raw")
WANTED = settings(buckets=(RAW,), workers=(worker_class(),), audit=False, meter_command=())


class World:
    """One account of AWS, one stack in it."""

    def __init__(self, double: AwsDouble, address: str, folder: Path) -> None:
        self.double, self.wanted, self.file = double, WANTED, folder / "production.json"
        self.engine = Engine(lambda: provision(self.wanted), address, self.file)

    def up(self, preview_first: bool = False, **other: Any) -> Result:
        self.wanted = dataclasses.replace(WANTED, **other)
        return self.engine.up(preview_first)

    def preview(self, **other: Any) -> Result:
        self.wanted = dataclasses.replace(WANTED, **other)
        return self.engine.preview()

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]

    def database(self) -> dict[str, Any]:
        (found,) = self.client("rds").describe_db_instances()["DBInstances"]
        return dict(found)

    def machines(self) -> set[str]:
        found = self.client("ec2").describe_instances()["Reservations"]
        return {
            machine["InstanceId"]
            for one in found
            for machine in one["Instances"]
            if machine["State"]["Name"] == "running"
        }


def world_in(folder: Path) -> Iterator[World]:
    """An account with nothing in it, and keys that could open no real one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        with mock_aws():
            double = AwsDouble()
            with served(double) as address:
                yield World(double, address, folder)
