"""Everything an S3 server shows about access: as AWS shows it, and as somebody sees it who may see little."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.handlers import json_decode_policies
from moto import mock_aws

from djops.errors import AccessDeniedError, ServerUnavailableError
from djops.plan.operations import AwsCall
from djops.proof.iam_reader import IamReader
from djops.proof.iam_state import ALL_USERS, BLOCKS, AclGrant
from djops.services.site import open_site
from djops.systems.connections import S3Connection, Secret
from djops.systems.s3 import S3
from tests.conftest import LabUnderTest

DOCUMENT = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::a%20b"}],
}
OWN = "arn:aws:iam::123456789012:policy/Reads"


@pytest.fixture
def aws() -> Iterator[S3]:
    with mock_aws():
        server = S3(
            S3Connection("https://nowhere.test", "https://nowhere.test", "testing", Secret("testing"))
        )
        region = {"region_name": "us-east-1"}
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        server._clients = {name: boto3.client(name, **region, **keys) for name in ("iam", "s3")}  # type: ignore[call-overload]
        server._clients["iam"].meta.events.unregister("after-call.iam", json_decode_policies)
        yield server


def ask(server: S3, service: Any, action: str, **parameters: Any) -> Any:
    return server.call(AwsCall(service, action, parameters))


def test_all_that_aws_shows(aws: S3) -> None:
    policy = json.dumps(DOCUMENT)
    ask(aws, "iam", "CreatePolicy", PolicyName="Reads", PolicyDocument=policy)
    ask(aws, "iam", "CreateUser", UserName="alice", Path="/lab/")
    ask(aws, "iam", "PutUserPolicy", UserName="alice", PolicyName="own", PolicyDocument=policy)
    ask(aws, "iam", "CreateGroup", GroupName="readers")
    ask(aws, "iam", "PutGroupPolicy", GroupName="readers", PolicyName="shared", PolicyDocument=policy)
    ask(aws, "iam", "AttachGroupPolicy", GroupName="readers", PolicyArn=OWN)
    ask(aws, "iam", "AddUserToGroup", GroupName="readers", UserName="alice")
    ask(aws, "iam", "CreateRole", RoleName="batch", AssumeRolePolicyDocument=policy)
    key = ask(aws, "iam", "CreateAccessKey", UserName="alice")["AccessKey"]["AccessKeyId"]
    ask(aws, "iam", "UpdateAccessKey", UserName="alice", AccessKeyId=key, Status="Inactive")
    ask(aws, "s3", "CreateBucket", Bucket="data", ACL="public-read")
    ask(aws, "s3", "PutBucketPolicy", Bucket="data", Policy=policy)
    blocks = dict.fromkeys(BLOCKS, False) | {"BlockPublicPolicy": True}
    ask(aws, "s3", "PutPublicAccessBlock", Bucket="data", PublicAccessBlockConfiguration=blocks)
    rules = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    ask(aws, "s3", "PutBucketOwnershipControls", Bucket="data", OwnershipControls=rules)
    ask(aws, "s3", "PutBucketVersioning", Bucket="data", VersioningConfiguration={"Status": "Enabled"})
    ask(aws, "s3", "CreateBucket", Bucket="bare")
    found = aws.read_catalog(["data", "bare", "missing"])
    alice, readers, data = found.users["alice"], found.groups["readers"], found.buckets["data"]
    assert (alice.policies, alice.groups, alice.keys) == ({"own": DOCUMENT}, ("readers",), {key: False})
    assert alice.arn == "arn:aws:iam::123456789012:user/lab/alice"
    assert alice.user_id
    assert (readers.policies, readers.attached) == ({"shared": DOCUMENT}, (OWN,))
    assert found.managed[OWN] == DOCUMENT
    assert found.roles == ("batch",)
    assert AclGrant(ALL_USERS, "READ") in data.acl
    assert (data.policy, data.ownership) == (DOCUMENT, "ObjectWriter")
    assert data.blocks == frozenset({"BlockPublicPolicy"})
    assert data.versioned
    assert set(found.buckets) == {"data", "bare"}
    assert not found.buckets["bare"].versioned
    assert not (found.unread or alice.unread or data.unread)
    told = [str(warning) for warning in IamReader(found).warnings()]
    assert any(text.startswith("role batch:") for text in told)


def test_every_page_is_read(monkeypatch: pytest.MonkeyPatch, aws: S3) -> None:
    pages: dict[str | None, Any] = {
        None: {"Users": [{"UserName": "a"}], "IsTruncated": True, "Marker": "second"},
        "second": {"Users": [{"UserName": "b"}], "IsTruncated": False},
    }
    monkeypatch.setattr(aws._clients["iam"], "list_users", lambda Marker=None: pages[Marker])
    assert [user["UserName"] for user in aws.listed("ListUsers", "Users")] == ["a", "b"]


@pytest.fixture(scope="module")
def manager(lab: LabUnderTest) -> S3Connection:
    s3 = open_site(lab.project_file, "local").s3
    assert s3 is not None
    return s3


@pytest.mark.lab
def test_who_may_look_at_little_is_told_so(lab: LabUnderTest, manager: S3Connection) -> None:
    site = open_site(lab.project_file, "local")
    assert site.s3_root is not None
    root = S3(site.s3_root)
    who = {"UserName": "iam-proof-blind"}
    root.call(AwsCall("iam", "CreateUser", {**who, "Path": "/iam-proof/"}))
    made = root.call(AwsCall("iam", "CreateAccessKey", who))["AccessKey"]
    key = replace(manager, access_key=made["AccessKeyId"], secret_key=Secret(made["SecretAccessKey"]))
    statement = {"Effect": "Allow", "Action": ["iam:ListUsers"], "Resource": ["*", "arn:aws:s3:::b/%20/*"]}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    try:
        nothing = S3(key).read_catalog(["my-lab-data"])
        root.call(AwsCall("iam", "PutUserPolicy", {**who, "PolicyName": "p", "PolicyDocument": document}))
        names = S3(key).read_catalog([])
        assert root.user(who["UserName"]).policies == {"p": json.loads(document)}, "as it was put"
    finally:
        root.call(AwsCall("iam", "DeleteAccessKey", {**who, "AccessKeyId": made["AccessKeyId"]}))
        root.call(AwsCall("iam", "DeleteUserPolicy", {**who, "PolicyName": "p"}, missing_is_done=True))
        root.call(AwsCall("iam", "DeleteUser", who))
    assert nothing.unread == ("groups", "roles", "users")
    assert names.users[who["UserName"]].unread == ("policies",)


@pytest.mark.lab
def test_djops_itself_may_look_at_everybody(manager: S3Connection) -> None:
    server, everything = S3(manager), S3(manager).read_catalog(["my-lab-data"])
    assert not everything.unread
    assert not any(user.unread for user in everything.users.values())
    assert everything.buckets
    assert not any(bucket.unread for bucket in everything.buckets.values())
    with pytest.raises(AccessDeniedError):
        server.call(AwsCall("iam", "CreateUser", {"UserName": "x", "Path": "/"}))


def test_a_server_that_is_not_there_is_an_error() -> None:
    nowhere = S3Connection("http://127.0.0.1:9", "http://127.0.0.1:9", "k", Secret("s"))
    with pytest.raises(ServerUnavailableError):
        S3(nowhere).read_catalog(["data"])
