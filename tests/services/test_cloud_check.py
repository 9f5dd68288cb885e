"""`djops cloud check` against an account in memory: what is missing is found, and told with its fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from djops.services import tunnel
from djops.services.cloud_check import CheckRow, CloudCheck, State, check, parts_of
from djops.services.project import load_project
from djops.systems import ssm
from djops.systems.cloud_needs import load_needs
from tests.support.aws_account import account, client, work_as
from tests.support.cli import invoke
from tests.support.cloud import ACCOUNT, REGION
from tests.support.cloud_projects import write_project

MANAGER = "djops-manager-demo_lab-production"
NAMES = {
    "project": "demo_lab",
    "environment": "production",
    "account": ACCOUNT,
    "region": REGION,
    "manager": MANAGER,
    "bucket": "demo-raw",
    "me": "ann",
    "state": f"djops-state-{ACCOUNT}-{REGION}",
}
OURS = [
    {"Key": "djops:project", "Value": "demo_lab"},
    {"Key": "djops:environment", "Value": "production"},
]


@pytest.fixture(autouse=True)
def _account(tmp_path: Path) -> Iterator[None]:
    with account(tmp_path):
        yield


def enough(project_file: Path, without: str = "") -> dict[str, Any]:
    """Just what `stacks/needs.yaml` asks for, on the resources that it names."""
    project = load_project(project_file)
    needed = load_needs().actions(parts_of(project, project.environments["production"]), NAMES)
    statements = [
        {"Effect": "Allow", "Action": [one for one in actions if one != without], "Resource": resource}
        for resource, actions in needed.items()
        if set(actions) - {without}
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def looked(folder: Path, patch: pytest.MonkeyPatch, without: str = "", **production: Any) -> CloudCheck:
    file = write_project(folder, **production)
    work_as(patch, "ann", enough(file, without))
    return check(load_project(file))


def row(found: CloudCheck, what: str) -> CheckRow:
    (one,) = [one for one in found.rows if one.what == what]
    return one


def test_who_has_just_the_rights_that_are_named_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = looked(tmp_path, monkeypatch)
    wrong = [one for one in found.rows if one.state is State.WRONG]
    assert found.passed and not wrong
    assert row(found, "permissions: rds").state is row(found, "permissions: s3").state is State.OK
    assert row(found, "account").found == ACCOUNT and f"account: '{ACCOUNT}'" in row(found, "account").fix
    assert row(found, "quota: VPCs").found == "5 in all, 1 in use, a new set-up takes 1"
    assert row(found, "quota: databases").state is State.UNKNOWN, "moto knows those of VPCs only"
    free = {one.what for one in found.rows if one.found == "the name is free"}
    assert free == {
        "bucket demo-raw",
        f"bucket demo-lab-production-{ACCOUNT}-logs",
        "database demo-lab-production",
        f"IAM user {MANAGER}",
    }


@pytest.mark.parametrize(
    "action",
    [
        "rds:CreateDBInstance",
        "iam:PassRole",
        "iam:CreateAccessKey",
        "secretsmanager:PutSecretValue",
        "ssm:StartSession",
    ],
)
def test_one_missing_permission_is_named(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = looked(tmp_path, monkeypatch, without=action)
    wrong = row(found, f"permissions: {action.partition(':')[0]}")
    assert not found.passed and wrong.state is State.WRONG
    assert f"{action} on " in wrong.found and wrong.fix.endswith(":user/ann")


def test_without_credentials_nothing_more_is_asked(tmp_path: Path) -> None:
    write_project(tmp_path)
    run = invoke("cloud", "check", "-C", tmp_path, "--json")
    rows = run.answer["data"]["rows"]
    assert run.status == 2 and rows[-1]["what"] == "credentials" and rows[-1]["state"] == "wrong"
    assert "aws sso login" in rows[-1]["fix"]


@pytest.mark.parametrize(
    ("production", "what", "fix"),
    [
        ({"account": "999999999999"}, "account", "log in to the other account"),
        ({"region": "eu-central-9"}, "region", "did you mean 'eu-central-"),
        ({"buckets": {"demo-raw": {"existing": True}}}, "bucket demo-raw", "`existing: true` away"),
        ({"state": {"backend": "s3://no-such-bucket"}}, "state bucket no-such-bucket", "djops cloud init"),
        ({"state": {"secrets": "awskms://alias/none"}}, "state key alias/none", "djops cloud init"),
    ],
    ids=["account", "region", "existing bucket", "state bucket", "state key"],
)
def test_what_is_wrong_comes_with_its_fix(
    production: dict[str, Any], what: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = row(looked(tmp_path, monkeypatch, **production), what)
    assert wrong.state is State.WRONG and fix in wrong.fix


def test_whoever_may_not_write_the_state_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(tmp_path, monkeypatch, state={"backend": "s3://lab-state/pulumi"})
    place = "arn:aws:s3:::lab-state/pulumi/.pulumi/stacks/djops/demo_lab.production.json"
    refused = row(found, "permissions: s3").found
    assert f"s3:PutObject on {place}" in refused and "s3:ListBucket on arn:aws:s3:::lab-state" in refused


def test_what_init_needs_is_judged_where_the_state_is_in_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = looked(tmp_path, monkeypatch)
    later = row(found, "permissions: djops cloud init")
    assert later.state is State.UNKNOWN and found.passed, "a state in a file needs none of it"
    assert f"s3:PutBucketPolicy on arn:aws:s3:::{NAMES['state']}" in later.found
    assert "kms:CreateKey on *" not in later.found, "the stack makes keys too"
    write_project(tmp_path, state={"backend": "s3://lab-state", "secrets": "awskms://alias/djops-state"})
    found = check(load_project(tmp_path / "djops.yaml"))
    assert not [one for one in found.rows if "init" in one.what]
    assert "s3:PutBucketPolicy on arn:aws:s3:::lab-state" in row(found, "permissions: s3").found
    assert "kms:CreateAlias on " in row(found, "permissions: kms").found


def test_the_secret_of_a_database_that_was_there_must_be_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:labs-own"
    database = {"host": "db.example.org", "admin_secret": arn}
    found = looked(tmp_path, monkeypatch, existing={"database": database})
    refused = row(found, "permissions: secretsmanager").found
    assert f"secretsmanager:GetSecretValue on {arn}" in refused and "rds!db" not in refused


def test_all_that_djops_itself_asks_aws_for_is_named() -> None:
    """What the modules ask once servers are there; those of `djops cloud init` are recorded elsewhere."""
    systems = Path(ssm.__file__).parent
    source = "".join((systems / name).read_text() for name in ("cloud_admin.py", "ssm.py"))
    source += Path(tunnel.__file__).read_text()
    asked = set(re.findall(r'_explained\("(\w+:\w+)"\)', source))
    asked |= {":".join(one) for one in re.findall(r'"(ssm|ec2|rds)", "([A-Z]\w+)"', source)}
    assert len(asked) >= 9
    assert asked <= {action for one in load_needs().own.values() for action in one.actions}


def test_names_that_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    client("s3").create_bucket(Bucket="demo-raw", **where)
    client("iam").create_user(UserName=MANAGER)
    found = looked(tmp_path, monkeypatch)
    assert "existing: true" in row(found, "bucket demo-raw").fix
    assert row(found, f"IAM user {MANAGER}").state is State.WRONG
    client("s3").put_bucket_tagging(Bucket="demo-raw", Tagging={"TagSet": OURS})
    client("iam").tag_user(UserName=MANAGER, Tags=OURS)
    again = check(load_project(tmp_path / "djops.yaml"))
    assert row(again, "bucket demo-raw").found == "made by this environment before"
    assert row(again, f"IAM user {MANAGER}").state is State.OK


def test_a_quota_that_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        client("ec2").create_vpc(CidrBlock=f"10.{number}.0.0/16")
    found = looked(tmp_path, monkeypatch)
    full = row(found, "quota: VPCs")
    assert (
        full.state is State.WRONG
        and "--quota-code L-F678F1CE" in full.fix
        and "--desired-value 6" in full.fix
    )
    client("iam").create_user(UserName=MANAGER, Tags=OURS)
    again = check(load_project(tmp_path / "djops.yaml"))
    assert row(again, "quota: VPCs").found.endswith("this set-up is there already")
    there = {"vpc_id": "vpc-01", "subnet_ids": ["subnet-01", "subnet-02"]}
    write_project(tmp_path, existing={"network": there})
    assert not [one for one in check(load_project(tmp_path / "djops.yaml")).rows if "VPCs" in one.what]


@pytest.mark.parametrize(
    ("version", "state"), [("v3.272.0", State.OK), ("v3.99.9", State.WRONG), ("what?", State.WRONG)]
)
def test_pulumi_s_version(
    version: str, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "pulumi"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    assert row(looked(tmp_path, monkeypatch), "Pulumi").state is state


def test_the_answer_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked(tmp_path, monkeypatch)
    run = invoke("cloud", "check", "-C", tmp_path)
    assert run.status == 0, run.stdout
    assert "production in eu-central-1: nothing stands in the way." in run.stdout
    assert "are not judged" in run.stdout


def test_another_environment_in_the_same_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_project(tmp_path)
    text = file.read_text()
    staging = "  staging: {target: aws, region: eu-central-1, secrets: {address: 'https://vault.invalid', "
    staging += "role_id: {env: A}, secret_id: {env: B}}}\n"
    file.write_text(text.replace("environments:\n", f"environments:\n{staging}"))
    work_as(monkeypatch, "ann", enough(file))
    assert row(check(load_project(file), "production"), "environment staging").state is State.OK
    client("iam").create_user(UserName="djops-manager-demo_lab-staging")
    found = row(check(load_project(file), "production"), "environment staging")
    assert found.state is State.WRONG and "an account of its own" in found.fix
    file.write_text(file.read_text().replace("staging: {", "staging: {account: '999999999999', "))
    rows = check(load_project(file), "production").rows
    assert not [one for one in rows if one.what == "environment staging"]
