"""Where Pulumi's state is, on its own engine: on an S3 server, locked, and with no secret in the clear."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pulumi
import pulumi_aws as aws
import pytest
from botocore.config import Config
from moto import mock_aws

from djops.compile.cloud_state import state_policy
from djops.compile.s3 import POLICY_NAME
from djops.errors import LockedError
from djops.plan.operations import AwsCall
from djops.services import cloud
from djops.services.cloud_check import _Check
from djops.services.project import load_project
from djops.services.site import open_site
from djops.systems import pulumi as engine_of
from djops.systems.aws import Aws
from djops.systems.connections import S3Connection
from djops.systems.pulumi import EngineError, PulumiStack, Workplace
from djops.systems.s3 import S3
from tests.conftest import LabUnderTest
from tests.support import kms, pulumi_engine
from tests.support.aws_double import AwsDouble, served
from tests.support.cloud import REGION
from tests.support.cloud_projects import write_project
from tests.support.s3_people import make_person

BUCKET, SECRET = "pulumi-state-of-tests", "swordfish-of-the-lab"
STATE = "lab/.pulumi/stacks/djops/demo_lab.production.json"
LOCKS = "lab/.pulumi/locks/"


def _program() -> None:
    region = pulumi.Config("aws").require("region")
    provider = pulumi.ResourceOptions(provider=aws.Provider("aws", region=region))
    made = aws.secretsmanager.Secret(
        "kept", name="kept", description=pulumi.Output.secret(SECRET), opts=provider
    )
    pulumi.export("where", made.arn)
    pulumi.export("hidden", pulumi.Output.secret(SECRET))


@dataclass
class Place:
    """A bucket for states, and stacks that are kept there.

    Attributes:
        folder: Where machines have their own files.
        store: The bucket's server, as its administrator.
        user: Who the engine is there.
        kms: URL of the key service.
        asked: What was asked of that.
        program: What stacks consist of; tests change it.
    """

    folder: Path
    store: Any
    user: S3Connection
    kms: str
    asked: list[str]
    program: Callable[[], None] = field(default=_program)

    def stack(self, machine: str, **state: str) -> PulumiStack:
        """Return the stack as one machine has it."""
        place = self._workplace(machine, state)
        return PulumiStack(dataclasses.replace(place, variables=self.variables(machine, **state)))

    def _workplace(self, machine: str, state: Mapping[str, str]) -> Workplace:
        home = self.folder / machine
        home.mkdir(exist_ok=True)
        file = write_project(home, state={"backend": f"s3://{BUCKET}/lab", **state})
        return cloud.workplace(load_project(file), "production", home)

    def variables(self, machine: str, **state: str) -> dict[str, str]:
        """Return what a machine has in its environment: in these tests, where S3 and the key service are."""
        place = self._workplace(machine, state)
        return {
            **place.variables,
            "AWS_ACCESS_KEY_ID": self.user.access_key,
            "AWS_SECRET_ACCESS_KEY": self.user.secret_key.reveal(),
            "AWS_ENDPOINT_URL_S3": self.user.admin_endpoint,
            "AWS_ENDPOINT_URL_KMS": self.kms,
            "AWS_CA_BUNDLE": str(self.user.ca),
        }

    def everything(self) -> str:
        """Return every version of every object, put together."""
        found = self.store.list_object_versions(Bucket=BUCKET).get("Versions", [])
        return "\n".join(
            self.store.get_object(Bucket=BUCKET, Key=one["Key"], VersionId=one["VersionId"])["Body"]
            .read()
            .decode(errors="replace")
            for one in found
        )

    def keys(self, prefix: str) -> set[str]:
        found = self.store.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {one["Key"] for one in found}


def _emptied(store: Any) -> None:
    store.delete_bucket_policy(Bucket=BUCKET)
    found = store.list_object_versions(Bucket=BUCKET)
    for one in (*found.get("Versions", []), *found.get("DeleteMarkers", [])):
        store.delete_object(Bucket=BUCKET, Key=one["Key"], VersionId=one["VersionId"])
    store.delete_bucket(Bucket=BUCKET)


@contextlib.contextmanager
def _with_just_enough(root: S3Connection, folder: Path) -> Iterator[S3Connection]:
    """Make a user who may do with the state what `djops cloud check` asks for, and no more."""
    file = write_project(folder, state={"backend": f"s3://{BUCKET}/lab"})
    needed = _Check(load_project(file), "production", Aws(REGION))._state_needs()
    # It asks about the state itself; locks and history lie beside it, and two tests have states of their own.
    may = [
        {
            "Effect": "Allow",
            "Action": sorted(actions),
            "Resource": re.sub(r"/lab/\.pulumi/.*", "/*/.pulumi/*", arn),
        }
        for arn, actions in needed.items()
    ]
    policy, user = {"Version": "2012-10-17", "Statement": may}, {"UserName": "pulumi-of-tests"}
    person = make_person(root, user["UserName"], policy, "pulumi-of-tests")
    try:
        yield person
    finally:
        for action, more in (
            ("DeleteAccessKey", {"AccessKeyId": person.access_key}),
            ("DeleteUserPolicy", {"PolicyName": POLICY_NAME}),
            ("DeleteUser", {}),
        ):
            S3(root).call(AwsCall("iam", action, {**user, **more}))


@pytest.fixture(scope="module")
def place(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    built = pulumi_engine.engine()
    if built is None:
        pytest.skip("nobody built Pulumi's engine (scripts/pulumi_engine.py)")
    root, folder = open_site(lab.project_file).s3_root, tmp_path_factory.mktemp("state")
    assert root is not None
    store: Any = boto3.client(
        "s3",
        endpoint_url=root.admin_endpoint,
        region_name=root.region,
        aws_access_key_id=root.access_key,
        aws_secret_access_key=root.secret_key.reveal(),
        verify=str(root.ca),
        config=Config(s3={"addressing_style": "path"}),
    )
    store.create_bucket(Bucket=BUCKET)
    store.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    store.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(state_policy(BUCKET)))
    asked: list[str] = []
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        keys: Any = boto3.client("kms", region_name=REGION)
        key = keys.create_key(Description="state")["KeyMetadata"]["KeyId"]
        keys.create_alias(AliasName="alias/djops-state", TargetKeyId=key)
        with served(AwsDouble()) as address, kms.served(keys, asked) as url:
            pulumi_engine.use_engine(patch, built, folder / "pulumi", address)
            with _with_just_enough(root, folder) as user:
                made = Place(folder, store, user, url, asked)
                patch.setattr(engine_of, "run_program", lambda: made.program())
                yield made
    _emptied(store)


KMS = {"secrets": "awskms://alias/djops-state"}


def test_state_and_plan_hold_no_secret_in_the_clear(place: Place) -> None:
    stack = place.stack("here", **KMS)
    planned = stack.preview()
    assert [step.name for step in planned.steps if step.is_ours] == ["kept"]
    assert SECRET not in str([(step.before, step.after) for step in planned.steps])
    outputs = stack.up()
    assert outputs["hidden"] == "[secret]" and str(outputs["where"]).startswith("arn:aws:secretsmanager:")
    state = json.loads(place.store.get_object(Bucket=BUCKET, Key=STATE)["Body"].read())
    assert state["checkpoint"]["latest"]["secrets_providers"]["type"] == "cloud"
    assert "ciphertext" in json.dumps(state) and SECRET not in place.everything()
    known = {one.urn.rpartition("::")[2]: one.inputs for one in stack.resources()}
    assert "description" in known["kept"] and SECRET not in str(known)
    assert {"Encrypt", "Decrypt"} <= set(place.asked), "the key never leaves the key service"


def test_another_machine_goes_on_from_there(place: Place) -> None:
    there = place.stack("there", **KMS)
    assert there.outputs().get("hidden") == "[secret]"
    assert not [one for one in there.preview().steps if one.fate != "keep" and one.is_ours]


def test_two_at_once_are_told_of_each_other(place: Place) -> None:
    began, go = threading.Event(), threading.Event()

    def waiting() -> None:
        began.set()
        assert go.wait(120)
        _program()

    left: list[bytes] = []
    place.program, first = waiting, place.stack("here", **KMS)
    work = threading.Thread(target=first.up, daemon=True)
    work.start()
    try:
        assert began.wait(120)
        (lock,) = place.keys(LOCKS)
        left.append(place.store.get_object(Bucket=BUCKET, Key=lock)["Body"].read())
        with pytest.raises(LockedError) as told:
            place.stack("there", **KMS).up()
        assert told.value.code == "E_LOCKED"
    finally:
        go.set()
        work.join(timeout=120)
        place.program = _program
    assert not work.is_alive() and not place.keys(LOCKS), "whoever is done takes the lock away"

    # One who was killed leaves his lock: the hint tells how it goes away.
    place.store.put_object(Bucket=BUCKET, Key=lock, Body=left[0])
    with pytest.raises(LockedError) as killed:
        place.stack("there", **KMS).up()
    command = str(killed.value.hint).partition("away: ")[2]
    subprocess.run(
        ["sh", "-ec", command],
        env={**os.environ, **place.variables("there", **KMS)},
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert not place.keys(LOCKS)
    assert place.stack("there", **KMS).up()["hidden"] == "[secret]"


def _hidden() -> None:
    pulumi.export("hidden", pulumi.Output.secret(SECRET))


def test_a_stack_that_was_only_looked_at_is_anybody_s(place: Place) -> None:
    place.program = _hidden
    for machine in ("here", "there"):
        assert not place.stack(machine, **KMS, backend=f"s3://{BUCKET}/new").preview().refused


def test_a_passphrase_stays_on_its_machine(place: Place) -> None:
    place.program, elsewhere = _hidden, {"secrets": "passphrase", "backend": f"s3://{BUCKET}/other"}
    place.stack("mine", **elsewhere).up()
    with pytest.raises(EngineError, match="passphrase") as told:
        place.stack("yours", **elsewhere).preview()
    assert "another machine's passphrase" in str(told.value.hint)
    assert SECRET not in place.everything()
