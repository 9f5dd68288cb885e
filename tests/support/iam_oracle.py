"""A real server as the judge of the policy reader: random policies, every request, every answer."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from djops.errors import ApplyError, UndecidedError
from djops.plan.operations import AwsCall
from djops.proof.iam_reader import ANONYMOUS, IamReader
from djops.proof.iam_state import BLOCKS
from djops.services.site import open_site
from djops.systems.connections import S3Connection, Secret
from djops.systems.s3 import S3
from tests.support.iam_requests import Ask, Caller, asks
from tests.support.iam_worlds import AGENT, KEYS, Names, World

_ARN = "arn:aws:s3:::"
_PREFIX = "arn:aws:iam::aws:policy/"


@dataclass
class Tally:
    """What came of comparing.

    Attributes:
        cells: Requests compared.
        allowed: How many were allowed.
        undecided: How many hung on what a bucket policy hides even from the account's root.
        wrong: What the reader got wrong.
        refused: Policies that the server did not take.
    """

    cells: int = 0
    allowed: int = 0
    undecided: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: int = 0


def root_of(project_file: Path) -> S3Connection:
    """Return a lab's object store as one who may do everything."""
    site = open_site(project_file)
    assert site.s3_root is not None
    return site.s3_root


class Oracle:
    """Users, groups and buckets on a real server, to be given policies again and again.

    Args:
        root: The connection as one who may do everything.
        label: Begins all names.
        users: How many users.
    """

    def __init__(self, root: S3Connection, label: str, users: int = 8) -> None:
        self.server, self.root = S3(root), root
        self.client = _client(root.endpoint, root.access_key, root.secret_key)
        self.path = f"/{label}/"
        self.buckets = (f"{label}-b1", f"{label}-b2")
        self.groups = (f"{label}-g1", f"{label}-g2")
        self.callers = {ANONYMOUS: Caller(root.endpoint)}
        found = {f"{label}-u{number}": self._make_user(f"{label}-u{number}") for number in range(users)}
        for group in self.groups:
            self._iam("CreateGroup", GroupName=group)
        account = str(next(iter(found.values()))["Arn"]).split(":")[4]
        ids = {name: user["UserId"] for name, user in found.items()}
        self.names = Names(account, self.path, ids, self.groups, self.buckets)
        self.members: dict[str, tuple[str, ...]] = {}
        self.attached: dict[str, str] = {}
        self.versions = {bucket: self._make_bucket(bucket) for bucket in self.buckets}
        self.uploads = {bucket: self._upload(bucket, "a/1") for bucket in self.buckets}
        self.spares: dict[tuple[str, str], str] = {}

    def _iam(self, action: str, **parameters: str) -> Mapping[str, Any]:
        return self.server.call(
            AwsCall("iam", action, parameters, missing_is_done=action.startswith(("De", "Re")))
        )

    def _make_user(self, name: str) -> Mapping[str, Any]:
        user: Mapping[str, Any] = self._iam("CreateUser", UserName=name, Path=self.path)["User"]
        key = self._iam("CreateAccessKey", UserName=name)["AccessKey"]
        self.callers[name] = Caller(self.root.endpoint, key["AccessKeyId"], Secret(key["SecretAccessKey"]))
        return user

    def _make_bucket(self, bucket: str) -> dict[str, str]:
        self.client.create_bucket(Bucket=bucket)
        status = {"Status": "Enabled"}
        self.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=status)
        return {key: self.client.put_object(Bucket=bucket, Key=key, Body=b"x")["VersionId"] for key in KEYS}

    def _upload(self, bucket: str, key: str) -> str:
        return str(self.client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"])

    def close(self) -> None:
        """Remove everything again."""
        for bucket in self.buckets:
            self._empty(bucket)
        for user in self.names.users:
            self._set_user(user, World())
            for policy in ("one", "two"):
                self._iam("DeleteUserPolicy", UserName=user, PolicyName=policy)
            for key in self.server.user(user).keys:
                self._iam("DeleteAccessKey", UserName=user, AccessKeyId=key)
            self._iam("DeleteUser", UserName=user)
        for group in self.groups:
            self._attach("Group", group, "")
            self._iam("DeleteGroupPolicy", GroupName=group, PolicyName="one")
            self._iam("DeleteGroup", GroupName=group)

    def _empty(self, bucket: str) -> None:
        self.client.delete_bucket_policy(Bucket=bucket)
        for upload in self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
            self.client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        before: list[object] = []
        while True:
            found = self.client.list_object_versions(Bucket=bucket)
            items = [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]
            if not items:
                break
            assert items != before, f"objects of {bucket} stay although they were deleted"
            before = items
            keys = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in items]
            self.client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
        self.client.delete_bucket(Bucket=bucket)

    def install(self, world: World) -> int:
        """Give everybody the policies of a world.

        Returns:
            How many of them the server did not take.
        """
        refused = sum(self._set_user(user, world) for user in self.names.users)
        for group in self.groups:
            refused += self._put("Group", group, "one", world.groups.get(group))
            self._attach("Group", group, world.attached.get(group, ""))
        for bucket in self.buckets:
            refused += self._set_bucket(bucket, world)
        return refused

    def _set_user(self, user: str, world: World) -> int:
        refused = self._put("User", user, "one", world.users.get(user))
        refused += self._put("User", user, "two", world.second.get(user))
        self._attach("User", user, world.attached.get(user, ""))
        now, wanted = self.members.get(user, ()), world.members.get(user, ())
        for group in {*now} ^ {*wanted}:
            action = "AddUserToGroup" if group in wanted else "RemoveUserFromGroup"
            self._iam(action, UserName=user, GroupName=group)
        self.members[user] = wanted
        return refused

    def _put(self, kind: str, name: str, policy: str, document: Any) -> int:
        names = {f"{kind}Name": name, "PolicyName": policy}
        self._iam(f"Delete{kind}Policy", **names)
        if document is None:
            return 0
        try:
            self._iam(f"Put{kind}Policy", **names, PolicyDocument=json.dumps(document))
        except ApplyError as error:
            assert "MalformedPolicyDocument" in str(error), (document, error)
            return 1
        return 0

    def _attach(self, kind: str, name: str, policy: str) -> None:
        if self.attached.get(name, "") == policy:
            return
        who = {f"{kind}Name": name}
        if self.attached.get(name):
            self._iam(f"Detach{kind}Policy", **who, PolicyArn=_PREFIX + self.attached[name])
        if policy:
            self._iam(f"Attach{kind}Policy", **who, PolicyArn=_PREFIX + policy)
        self.attached[name] = policy

    def _set_bucket(self, bucket: str, world: World) -> int:
        where, blocks = {"Bucket": bucket}, world.blocks.get(bucket, ())
        refused = 0
        # First of all: it may refuse the rest.
        self.client.delete_bucket_policy(**where)
        for user in self.names.users:
            if (bucket, user) not in self.spares:
                self.spares[bucket, user] = self._upload(bucket, "b/x/1")
        self.client.delete_public_access_block(**where)
        self.client.put_bucket_acl(**where, ACL=world.acls.get(bucket, "private"))
        if blocks:
            configuration = {block: block in blocks for block in BLOCKS}
            self.client.put_public_access_block(**where, PublicAccessBlockConfiguration=configuration)
        if world.buckets.get(bucket) is not None:
            try:
                self.client.put_bucket_policy(**where, Policy=json.dumps(world.buckets[bucket]))
            except ClientError as error:
                assert error.response["Error"]["Code"] in ("InvalidArgument", "MalformedPolicy"), error
                refused = 1
        return refused

    def compare(self, tally: Tally) -> None:
        """Send every request as everybody, and compare the answers with the reader's."""
        reader = IamReader(self.server.read_catalog(self.buckets), "ceph")
        with ThreadPoolExecutor(2) as pool:
            for user, answers in zip(self.callers, pool.map(self._answers, self.callers), strict=True):
                for bucket, ask, answer in answers:
                    expected = expect(reader, user, bucket, ask)
                    tally.cells += 1
                    tally.allowed += answer == "ok"
                    tally.undecided += expected == "undecided"
                    if expected not in (answer, "undecided"):
                        told = f"{user} in {bucket}: {ask}: server {answer}, reader {expected}"
                        tally.wrong.append(told)

    def _answers(self, user: str) -> list[tuple[str, Ask, str]]:
        caller, answers = self.callers[user], []
        for bucket in self.buckets:
            spare = self.spares.get((bucket, user), "")
            for ask in asks(self.versions[bucket], self.uploads[bucket], spare):
                answer = caller.send(ask, bucket)
                answers.append((bucket, ask, answer))
                if ask.action == "s3:AbortMultipartUpload" and answer == "ok":
                    del self.spares[bucket, user]
        return answers


def circumstances() -> dict[str, Any]:
    """Return what is known about every request that is sent here."""
    return {
        "aws:SourceIp": "127.0.0.1",
        "aws:SecureTransport": "false",
        "aws:CurrentTime": str(int(time.time())),
        "aws:UserAgent": AGENT,
        "aws:Referer": (),
        "s3:ExistingObjectTag/color": (),
    }


def expect(reader: IamReader, user: str, bucket: str, ask: Ask) -> str:
    """Work out the answer to a request from what the reader says."""
    on_bucket = ask.missing or not ask.key
    resource = f"{_ARN}{bucket}" if on_bucket else f"{_ARN}{bucket}/{ask.key}"
    try:
        allowed = reader.decide(user, ask.action, resource, {**circumstances(), **ask.context}).allowed
    except UndecidedError as error:
        assert user == ANONYMOUS, error
        if "of its objects" not in str(error):
            return "undecided"
        # No object here was published.
        allowed = False
    return ("404" if ask.missing else "ok") if allowed else "403"


def _client(endpoint: str, key: str, secret: Secret) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret.reveal(),
        config=Config(s3={"addressing_style": "path"}),
    )
