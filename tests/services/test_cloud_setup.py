"""`djops cloud init`: made in steps that can be done again, and never taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from djops.compile.cloud_state import state_policy
from djops.errors import AccessDeniedError
from djops.proof.iam_reader import ANONYMOUS, IamReader
from djops.proof.iam_state import BLOCKS, CatalogBucket, CatalogUser, IamCatalog
from djops.services.cloud_setup import carry_out, prepare
from djops.services.project import load_project
from djops.systems.aws import Aws
from djops.systems.cloud_needs import STATE, load_needs
from djops.systems.paths import lab_directory
from djops.systems.progress import Silent
from tests.support.aws_account import account, client
from tests.support.cli import invoke
from tests.support.cloud import ACCOUNT, REGION
from tests.support.cloud_projects import PRODUCTION, demo_in

BUCKET = f"djops-state-{ACCOUNT}-{REGION}"


@pytest.fixture
def project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = demo_in(tmp_path, PRODUCTION)
    with account(tmp_path):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        yield file


_WRITES = ("Create", "Put", "Enable")
_CALLED = {"HeadBucket": "ListBucket", "ListObjectsV2": "ListBucket"}
_PERMISSION = {"BucketEncryption": "EncryptionConfiguration", "PublicAccessBlock": "BucketPublicAccessBlock"}


def permission(service: str, action: str) -> str:
    """Name the permission that a request needs (AWS service authorization reference)."""
    action = _CALLED.get(action, action)
    for called, named in _PERMISSION.items():
        action = action.replace(called, named) if action.endswith(called) else action
    return f"{service}:{action}"


def test_every_permission_that_it_takes_is_one_that_cloud_check_asks_for(project_file: Path) -> None:
    real, asked = Aws._call, set[str]()

    def call(self: Aws, service: str, action: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.add(permission(service, action))
        return real(self, service, action, parameters)

    with mock.patch.object(Aws, "_call", call):
        carry_out(prepare(project_file), project_file, Silent())
    needs = load_needs()
    named = {action for one in needs.own.values() if STATE in one.parts for action in one.actions}
    assert asked - named == {"sts:GetCallerIdentity"} <= set(needs.always)
    # Pulumi's own, an upload that S3 encrypts, and the tag that comes with a new key.
    own = {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:TagResource"}
    assert named - asked == own


def test_it_goes_on_after_a_failure_at_every_step(project_file: Path) -> None:
    real, before = Aws._call, project_file.read_text()
    room = 0

    def call(self: Aws, service: str, action: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        nonlocal room
        if action.startswith(_WRITES):
            if room == 0:
                raise AccessDeniedError("cut", hint="mend it")
            room -= 1
        return real(self, service, action, parameters)

    left: list[int] = []
    with mock.patch.object(Aws, "_call", call):
        while not left or left[-1]:
            room = 1
            setup = prepare(project_file)
            left.append(sum(not step.there for step in setup.steps))
            if left[-1] > 1:
                with pytest.raises(AccessDeniedError, match="it goes on from here"):
                    carry_out(setup, project_file, Silent())
                assert project_file.read_text() == before, "djops.yaml names what is whole"
            else:
                carry_out(setup, project_file, Silent())
    assert left == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert prepare(project_file).is_done
    assert len(client("kms").list_keys()["Keys"]) == 1, "the key of a broken run is found again"
    changed = "\n".join(line for line in project_file.read_text().splitlines() if line not in before)
    assert "# Frankfurt" in project_file.read_text()
    assert changed.replace("'", "").split() == [
        "state:",
        "backend:",
        f"s3://{BUCKET}",
        "secrets:",
        "awskms://alias/djops-state",
    ]
    _is_as_it_should_be()


def _is_as_it_should_be() -> None:
    s3, kms = client("s3"), client("kms")
    key = kms.describe_key(KeyId="alias/djops-state")["KeyMetadata"]
    assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"]
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    (rule,) = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": key["Arn"],
    }
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())
    assert json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"]) == state_policy(BUCKET)


def test_from_the_command_line_planned_first_and_mended(project_file: Path) -> None:
    folder = project_file.parent
    refused = invoke("cloud", "init", "-C", folder, "--json")
    assert refused.answer["errors"][0]["code"] == "E_CONFIRM"
    assert not client("s3").list_buckets()["Buckets"] and not client("kms").list_keys()["Keys"]
    done = invoke("cloud", "init", "-C", folder, "--yes", "--json")
    assert done.status == 0 and done.answer["data"]["done"] == 9
    state = load_project(project_file).environments["production"].state
    assert (state.backend, state.secrets) == (f"s3://{BUCKET}", "awskms://alias/djops-state")
    client("s3").delete_public_access_block(Bucket=BUCKET)
    again = invoke("cloud", "init", "-C", folder, "--yes")
    assert again.status == 0 and "Done: 1 step." in again.stdout
    assert "Nothing to do." in invoke("cloud", "init", "-C", folder).stdout


def test_what_is_another_s_is_left_alone(project_file: Path) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="papers", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="papers", Key="draft.pdf", Body=b"x")
    run = invoke("cloud", "init", "-C", project_file.parent, "--yes", "--bucket", "papers", "--json")
    assert run.status == 1 and run.answer["errors"][0]["code"] == "E_UNMANAGED"
    assert "Status" not in s3.get_bucket_versioning(Bucket="papers")


def test_a_state_in_use_is_not_left_behind(project_file: Path) -> None:
    stacks = lab_directory("demo_lab", "production") / "pulumi" / "state" / ".pulumi" / "stacks" / "djops"
    stacks.mkdir(parents=True)
    (stacks / "demo_lab.production.json").write_text("{}")
    run = invoke("cloud", "init", "-C", project_file.parent, "--yes", "--json")
    (stacks / "demo_lab.production.json").unlink()
    assert run.answer["errors"][0]["code"] == "E_STATE" and not client("s3").list_buckets()["Buckets"]


def test_another_account_is_refused(project_file: Path) -> None:
    project_file.write_text(project_file.read_text().replace("# Frankfurt", "\n    account: '999999999999'"))
    run = invoke("cloud", "init", "-C", project_file.parent, "--yes", "--json")
    assert run.answer["errors"][0]["code"] == "E_AWS_ACCOUNT"


def test_nobody_loses_a_state_or_reads_it_without_tls() -> None:
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    root = CatalogUser(f"arn:aws:iam::{ACCOUNT}:user/root", policies={"p": everything})
    bucket = CatalogBucket(state_policy(BUCKET), (), frozenset(BLOCKS), "BucketOwnerEnforced", True)
    reader = IamReader(IamCatalog(users={"root": root}, buckets={BUCKET: bucket}), "aws")
    here, there = f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/.pulumi/stacks/djops/x.json"
    may = {
        (action, tls)
        for action, place in (
            ("s3:GetObject", there),
            ("s3:PutObject", there),
            ("s3:DeleteObject", there),
            ("s3:DeleteObjectVersion", there),
            ("s3:DeleteBucket", here),
        )
        for tls in ("true", "false")
        if reader.decide("root", action, place, {"aws:SecureTransport": tls}).allowed
    }
    assert may == {("s3:GetObject", "true"), ("s3:PutObject", "true"), ("s3:DeleteObject", "true")}
    assert not reader.decide(ANONYMOUS, "s3:GetObject", there, {"aws:SecureTransport": "true"}).allowed
