"""The life of an environment in the cloud as djops leads it: plan, up, changes, refusals, drift, down.

On Pulumi's own engine where somebody built it, else on the stand-in, against AWS's interfaces in memory; see
docs/cloud.md.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from djops.cli.common import describe
from djops.errors import DjopsError
from djops.model.project import Project
from djops.plan.cloud import (
    CloudPlan,
    DataLossError,
    Fate,
    Prices,
    StackStep,
    cloud_plan,
    monthly_usd,
    require_no_loss,
)
from djops.report.cloud import down_text, drift_text, endpoints_text, plan_text
from djops.services import cloud
from djops.services.cloud import Cloud, CloudUp
from djops.services.project import load_project
from djops.systems import cloudfile
from djops.systems.progress import Progress, Step
from tests.support.aws_double import AwsDouble, served
from tests.support.cloud_page import shows
from tests.support.cloud_projects import write_project
from tests.support.pulumi_engine import engine, use_engine
from tests.support.stand_in import StandIn

REGION = "eu-central-1"


def told(plan: CloudPlan) -> str:
    """Return a plan as `djops up` shows it."""
    return plan_text(plan, source=cloud.price_table().source)


class Listening(Progress):
    """Progress that keeps the names of the steps, and which of them failed."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.failed: list[str] = []

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        self.names.append(name)
        try:
            yield self
        except Exception:
            self.failed.append(name)
            raise

    def note(self, text: str) -> None:
        pass


class Account:
    """One account of AWS in memory, and a project with an environment in it."""

    def __init__(self, double: AwsDouble, folder: Path) -> None:
        self.double, self.folder, self.file = double, folder, write_project(folder)
        self.first: CloudPlan | None = None

    def write(self, **production: Any) -> Cloud:
        write_project(self.folder, **production)
        return cloud.open_cloud(self.project, "production")

    @property
    def project(self) -> Project:
        return load_project(self.file)

    def up(self, allowed: Collection[str] = (), refresh: bool = False, **production: Any) -> CloudUp:
        opened = self.write(**production)
        with cloud.prepared(opened, allowed, refresh=refresh) as ready:
            return cloud.up(ready)

    def plan(self, **production: Any) -> CloudPlan:
        with cloud.prepared(self.write(**production)) as ready:
            return ready.plan

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account with an environment that is up; whoever changes it brings it back."""
    folder = tmp_path_factory.mktemp("cloud")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("DJOPS_DATA_HOME", str(folder / "data"))
        double = AwsDouble()
        with mock_aws(), served(double) as address:
            real = engine()
            if real is None:
                patch.setattr(cloud, "open_stack", lambda place: StandIn(place, address))
            else:
                use_engine(patch, real, folder / "pulumi", address)
            made = Account(double, folder)
            before = made.plan()
            made.first = before
            assert not made.client("s3").list_buckets()["Buckets"] and double.calls == []
            done = made.up()
            assert done.plan.as_data() == before.as_data() and before.count()["create"] == len(before.rows)
            yield made


def test_up_tells_where_everything_is_and_a_second_does_nothing(account: Account) -> None:
    opened = account.write()
    known = cloudfile.read(opened.directory)
    (database,) = account.client("rds").describe_db_instances()["DBInstances"]
    assert known is not None and known.mysql_host == database["Endpoint"]["Address"]
    assert known.buckets == ("demo-raw",) and known.access_manager == "djops-manager-demo_lab-production"
    assert database["DBInstanceIdentifier"] == "demo-lab-production"
    asked = len(account.double.calls)
    again = account.up()
    assert again.plan.is_empty and len(account.double.calls) == asked
    assert again.outputs["database"]["host"] == known.mysql_host
    assert account.first is not None
    shows("up", f"{told(account.first)}\n\n{endpoints_text(again.outputs, 'production')}")


def test_rows_cost_what_the_estimate_of_the_whole_says(account: Account) -> None:
    from cloud.cost import Parts, estimate, price_table
    from cloud.sizes import SIZES

    parts = Parts(network=True, database=True, secrets=True, buckets=1, worker_classes=0, gpus=False)
    lines = [line for line in estimate(SIZES["small"], price_table(), parts=parts) if line.steady]
    # The secret of RDS' own administrator is AWS' doing, and no resource of the stack.
    aws_own = sum((line.usd for line in lines if line.what == "secrets"), Decimal(0)) - Decimal("0.40")
    whole = sum((line.usd for line in lines), Decimal(0))
    assert abs(account.plan().usd + aws_own - whole) <= Decimal("0.05"), [str(line) for line in lines]


def test_a_larger_size_is_a_change_with_its_price(account: Account) -> None:
    plan = account.plan(size="medium")
    (row,) = [row for row in plan.rows if row.step.fate is not Fate.KEEP]
    assert row.step.label == "rds.instance::database" and row.step.fate is Fate.CHANGE
    assert {"instanceClass", "multiAz"} <= set(row.step.changed)
    table = cloud.price_table()
    hours, gb = Decimal(730), Decimal(1)
    before = hours * table.usd["rds.db.t4g.medium"] + 50 * gb * table.usd["rds.gp3"]
    after = 2 * (hours * table.usd["rds.db.m7g.large"] + 200 * gb * table.usd["rds.gp3"])
    assert abs(row.usd - (after - before)) <= Decimal("0.02") and plan.difference == row.usd
    shows("change", told(plan))
    account.plan()


def is_protected(account: Account) -> bool:
    found = [one for one in account.write().stack.resources() if one.type.startswith("aws:s3/bucket:")]
    return len(found) == 2 and all(one.protected for one in found)


def test_what_would_be_given_up_is_refused_by_name(account: Account) -> None:
    asked, label = len(account.double.calls), "s3.bucket::demo-raw"
    with pytest.raises(
        DataLossError, match=f"{label} would be .*no longer asks.*it holds objects"
    ) as refused:
        account.up(bucket="demo-other")
    assert refused.value.code == "E_DATA_LOSS" and f"--allow-data-loss {label}" in str(refused.value.hint)
    shows("loss", describe(refused.value))
    with pytest.raises(DjopsError, match="neither replaces nor deletes") as unknown:
        account.up(allowed=["s3.bucket::demo-row"], bucket="demo-other")
    assert unknown.value.code == "E_UNKNOWN_RESOURCE" and f"did you mean '{label}'" in str(unknown.value)
    assert len(account.double.calls) == asked and is_protected(account)


def test_what_stays_in_aws_is_not_replaced_even_when_named(account: Account) -> None:
    asked, label = len(account.double.calls), "s3.bucket::demo-raw"
    with pytest.raises(DataLossError, match=f"{label} .*replaced by an empty one.*holds objects") as refused:
        account.up(allowed=[label], buckets={"demo-raw": {"lock_days": 30}})
    assert "--allow-data-loss" not in str(refused.value.hint) and "another bucket" in str(refused.value.hint)
    shows("replacement", describe(refused.value))
    assert len(account.double.calls) == asked and is_protected(account), "the protection is back"


def test_drift_is_shown_without_being_taken_for_granted(account: Account) -> None:
    opened = account.write()
    assert cloud.drift(opened) == ()
    rds = account.client("rds")
    rds.modify_db_instance(DBInstanceIdentifier="demo-lab-production", DeletionProtection=False)
    account.client("s3").delete_public_access_block(Bucket="demo-raw")
    found = {step.label: step for step in cloud.drift(opened)}
    assert found["rds.instance::database"].changed == ("deletionProtection",)
    assert found["s3.bucketPublicAccessBlock::demo-raw"].fate is Fate.DELETE
    assert {step.label for step in cloud.drift(opened)} == set(found), "looking must change nothing"
    shows("drift", drift_text(sorted(found.values(), key=lambda step: step.label), "production"))
    mended = account.up(refresh=True)
    assert mended.plan.count()["change"] == mended.plan.count()["create"] == 1
    (database,) = rds.describe_db_instances()["DBInstances"]
    assert database["DeletionProtection"] and cloud.drift(opened) == ()


def test_a_failure_in_the_middle_is_gone_on_from_and_down_keeps_data(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After the others, on the same account: the way down, a failing way up, and up again.
    opened, heard = account.write(), Listening()
    going, staying = cloud.down_plan(opened)
    shows("down", down_text([step.label for step in going], staying))
    done = cloud.down(opened, progress=heard)
    assert sorted(done.removed) == sorted(step.label for step in going) and done.removed
    assert {one.label for one in done.remaining} == {one.label for one in staying}
    data = {one.label: one.usd for one in done.remaining if one.protected}
    assert {"rds.instance::database", "s3.bucket::demo-raw", "kms.key::data"} <= set(data)
    database = next(one for one in opened.stack.resources() if one.type == "aws:rds/instance:Instance")
    assert data["rds.instance::database"] == monthly_usd(database.type, database.inputs, opened.prices)
    assert done.usd == sum(data.values()) and "Removing ec2 instance gate" in heard.names
    assert account.client("rds").describe_db_instances()["DBInstances"]

    account.double.fail["Instance::gate"] = "InsufficientInstanceCapacity: try later"
    with pytest.raises(DjopsError, match="InsufficientInstanceCapacity") as failed:
        account.up()
    assert failed.value.code == "E_PULUMI"
    account.double.fail.clear()
    back = account.up()
    assert 0 < back.plan.count()["create"] < len(going), "what was made before the failure is not made again"
    assert account.up().plan.is_empty
    _carried_out_under_its_name(account)


def _carried_out_under_its_name(account: Account) -> None:
    """Go on after the others: what is named is given up, and everything else stays protected."""
    done = account.up(allowed=["s3.bucket::demo-raw"], bucket="demo-other")
    lost = {row.step.label: row.loses for row in done.plan.rows if row.step.fate is Fate.FORGET and row.loses}
    assert lost["s3.bucket::demo-raw"] == "objects" and {one.partition("::")[2] for one in lost} == {
        "demo-raw"
    }
    assert re.search(r"x +s3 bucket +demo-raw +given up, and left in AWS with objects", told(done.plan))
    shows("given-up", told(done.plan))
    there = {one["Name"] for one in account.client("s3").list_buckets()["Buckets"]}
    assert {"demo-raw", "demo-other"} < there, "AWS keeps it"
    known = {one.urn.rpartition("::")[2] for one in account.write(bucket="demo-other").stack.resources()}
    assert "demo-other" in known and "demo-raw" not in known and is_protected(account)


def test_settings_reach_the_stack_and_secrets_do_not(account: Account) -> None:
    place = cloud.workplace(account.project, "production", account.write().directory)
    assert place.stack == "demo_lab.production" and place.backend.startswith("file:///")
    assert yaml.safe_load(place.config["djops:buckets"]) == [{"name": "demo-raw"}]
    file = Path(place.variables["PULUMI_CONFIG_PASSPHRASE_FILE"])
    assert file.stat().st_mode & 0o777 == 0o600 and len(file.read_text()) > 16
    assert file.read_text() not in repr(place)
    account.write(profile="lab", state={"backend": "s3://lab-state/djops", "secrets": "awskms://alias/djops"})
    place = cloud.workplace(account.project, "production", account.write().directory)
    account.write(profile="lab", state={"backend": "s3://lab-state/djops", "secrets": "awskms://alias/djops"})
    place = cloud.workplace(account.project, "production", place.directory.parent)
    assert place.backend == f"s3://lab-state/djops?region={REGION}&awssdk=v2&profile=lab"
    assert place.secrets_provider == f"awskms://alias/djops?region={REGION}&awssdk=v2"
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in place.variables and place.variables["AWS_PROFILE"] == "lab"


@pytest.mark.parametrize("protected", [True, False], ids=["protected", "left open by a run that was killed"])
def test_the_plan_knows_what_is_only_given_up(protected: bool) -> None:
    prices = Prices({"kms.key": Decimal(1)}, 730)
    urn = "urn:pulumi:p.e::djops::djops:cloud:Keys$aws:kms/key:Key::data"
    gone = StackStep(Fate.FORGET, urn, "aws:kms/key:Key", before={"x": 1}, protected=protected)
    plan = cloud_plan([gone], prices)
    (row,) = plan.rows
    assert row.usd == 0 and row.loses, "it still costs the same, and Pulumi no longer looks after it"
    assert plan.given_up == 1 and "and what is given up $1.00" in plan_text(plan, source="-")
    with pytest.raises(DataLossError, match=r"kms\.key::data would be given up"):
        require_no_loss(plan, (), (), command="djops up")
