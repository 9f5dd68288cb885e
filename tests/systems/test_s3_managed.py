"""Managed policies on an IAM API that has them: read, changed and removed through the real client."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.handlers import json_decode_policies
from moto import mock_aws

from djops.compile.s3 import POLICY_NAME, S3State, compile_s3
from djops.plan.change import Change, in_order
from djops.plan.operations import AwsCall, KeepKey
from djops.plan.s3 import diff_s3
from djops.plan.s3_changes import CreateKey
from djops.systems.connections import S3Connection, Secret
from djops.systems.s3 import S3
from tests.support.iam_boundaries import kept
from tests.support.projects import compiled, pipeline, project

NAMES = [f"lab_ephys_{number:03}" for number in range(60)]


@pytest.fixture
def server() -> Iterator[S3]:
    with mock_aws(), kept():
        s3 = S3(S3Connection("https://nowhere.test", "https://nowhere.test", "testing", Secret("testing")))
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        s3._clients = {name: boto3.client(name, region_name="us-east-1", **keys) for name in ("iam", "s3")}  # type: ignore[call-overload]
        s3._clients["iam"].meta.events.unregister("after-call.iam", json_decode_policies)
        s3.call(AwsCall("s3", "CreateBucket", {"Bucket": "lab-data"}))
        yield s3


OBJECTS = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}'
)


def keeps(*people: str) -> dict[str, KeepKey]:
    return {name: KeepKey(f"lab/people/{name}", ("main",)) for name in people}


def _of_iam(change: Change) -> list[AwsCall]:
    return [one for one in change.operations() if isinstance(one, AwsCall) and one.service == "iam"]


def made(server: S3, wanted: S3State, people: set[str]) -> set[str]:
    """Bring the server there, and return the actions that it took; keys are left out."""

    def operations() -> list[AwsCall]:
        changes = diff_s3("lab", wanted, server.read_state("lab", ["lab-data"]), keeps(*people), {}, {})
        ordered = [one for one in in_order(changes) if not isinstance(one, CreateKey)]
        return [one for change in ordered for one in _of_iam(change)]

    sent = operations()
    for one in sent:
        server.call(one)
    assert operations() == []
    return {one.action for one in sent}


def wanted_of(state: S3State, boundary: str = "", /, **people: list[str]) -> S3State:
    wanted = project({name: [{"role": "viewer", "on": on}] for name, on in people.items()})
    rights, _ = compiled(wanted, pipeline({name: [] for name in NAMES}))
    return compile_s3(wanted, rights, state.account, boundary)


def apply(server: S3, **people: list[str]) -> tuple[list[str], S3State]:
    """Bring the server to what people shall have, and see that a second look finds nothing to do."""
    state = server.read_state("lab", ["lab-data"])
    wanted = wanted_of(state, **people)

    def changes_from(found: S3State) -> list[object]:
        return [
            change
            for change in in_order(diff_s3("lab", wanted, found, keeps(*people), {}, {}))
            if not isinstance(change, CreateKey)
        ]

    changes = changes_from(state)
    for change in changes:
        for operation in change.operations():  # type: ignore[attr-defined]
            server.call(operation)
    after = server.read_state("lab", ["lab-data"])
    assert changes_from(after) == []
    return [type(change).__name__ for change in changes], after


def test_rights_move_into_managed_policies_and_back(server: S3) -> None:
    done, state = apply(server, alice=NAMES[:5], bob=NAMES[:60])
    assert done.count("PutManagedPolicy") == done.count("Attach") == 2
    assert state.users["alice"].policies.keys() == {POLICY_NAME} and not state.users["alice"].attached
    assert not state.users["bob"].policies and len(state.users["bob"].attached) == 2
    for count in (59, 58, 57, 56, 55):
        done, state = apply(server, alice=NAMES[:5], bob=NAMES[60 - count :])
        assert set(done) == {"PutManagedPolicy"}
        assert all(len(policy.versions) <= 4 for policy in state.managed.values())
    done, state = apply(server, alice=NAMES[:60], bob=NAMES[:5])
    assert len(state.users["alice"].attached) == 2 and not state.users["bob"].attached
    assert all("lab-alice" in arn for arn in state.managed)
    done, state = apply(server, bob=NAMES[:5])
    assert "DropManagedPolicy" in done and not state.managed and state.users.keys() == {"bob"}


def test_everybody_is_made_within_the_boundary_and_brought_back_into_it(server: S3) -> None:
    """What is sent, and in which order; moto does not judge it."""
    made_of = [AwsCall("iam", "CreatePolicy", {"PolicyName": n, "PolicyDocument": OBJECTS}) for n in "ab"]
    arns = [server.call(one)["Policy"]["Arn"] for one in made_of]
    wanted = wanted_of(server.read_state("lab", []), arns[0], alice=NAMES[:5], bob=NAMES[:5])
    assert made(server, wanted, {"alice", "bob"}) == {"CreateUser", "PutUserPolicy"}
    users = server.read_state("lab", []).users
    assert {user.boundary for user in users.values()} == {arns[0]}
    catalog = server.read_catalog([])
    assert catalog.users["alice"].boundary == arns[0] and catalog.managed[arns[0]] is not None

    server.call(AwsCall("iam", "DeleteUserPermissionsBoundary", {"UserName": "alice"}))
    server.call(
        AwsCall("iam", "PutUserPermissionsBoundary", {"UserName": "bob", "PermissionsBoundary": arns[1]})
    )
    found = server.read_state("lab", [])
    less = wanted_of(found, arns[0], alice=NAMES[:4], bob=NAMES[:5])
    changes = in_order(diff_s3("lab", less, found, keeps("alice", "bob"), {}, {}))
    told = [(change.object, change.before, str(change.risk)) for change in changes[:2]]
    assert told == [("boundary of alice", "", "narrows"), ("boundary of bob", arns[1], "widens")]
    assert [type(change).__name__ for change in changes[2:]].count("PutPolicy") == 1
    assert made(server, less, {"alice", "bob"}) == {"PutUserPermissionsBoundary", "PutUserPolicy"}
    # Without a boundary of djops' own, those of others are left alone.
    assert made(server, wanted_of(found, alice=NAMES[:4], bob=NAMES[:5]), {"alice", "bob"}) == set()


def test_the_whole_account_takes_one_request_besides_the_keys(server: S3) -> None:
    apply(server, alice=NAMES[:5], bob=NAMES[:60])
    sent: list[str] = []
    send = server._send

    def note(operation: AwsCall) -> object:
        sent.append(operation.action)
        return send(operation)

    with mock.patch.object(server, "_send", note):
        server.read_state("lab", [])
    assert sorted(sent) == ["GetAccountAuthorizationDetails", "ListAccessKeys", "ListAccessKeys", "ListUsers"]


@pytest.mark.parametrize(
    ("code", "blocked"), [("NotImplemented", True), ("NoSuchPublicAccessBlockConfiguration", False)]
)
def test_a_server_without_public_access_blocks_is_not_asked_for_them(
    code: str, blocked: bool, server: S3
) -> None:
    error = ClientError({"Error": {"Code": code}}, "GetPublicAccessBlock")
    with mock.patch.object(server._clients["s3"], "get_public_access_block", side_effect=error):
        found = server.bucket("lab-data")
    assert found is not None and found.blocks_public is blocked
