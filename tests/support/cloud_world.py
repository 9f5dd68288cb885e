"""One account of AWS in memory, with one stack in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
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
from tests.support.pulumi_engine import engine, use_engine
from tests.support.real_engine import RealEngine

RAW = BucketArgs("demo-raw")
WANTED = settings(buckets=(RAW,), workers=(worker_class(),), audit=False, meter_command=())


class World:
    """One account of AWS, one stack in it; on Pulumi's own engine where somebody built it."""

    def __init__(self, double: AwsDouble, address: str, folder: Path, real: bool) -> None:
        self.double, self.wanted, self.address = double, WANTED, address
        self.folder, self.real = folder, real
        self.engine = self.stack(lambda: provision(self.wanted), "ours")
        self.file = self.engine.file

    def stack(self, program: Callable[[], None], folder: str, **config: str) -> Engine | RealEngine:
        """Make the engine of a stack of its own.

        Args:
            program: What declares its resources.
            folder: Name of the folder of its state.
            config: Its configuration.
        """
        if self.real:
            return RealEngine(program, self.folder / folder, config)
        return Engine(program, self.address, self.folder / f"{folder}.json", config)

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
                built = engine()
                if built is not None:
                    use_engine(patch, built, folder / "pulumi", address)
                yield World(double, address, folder, built is not None)
