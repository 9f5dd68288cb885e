"""The reader of IAM policies against moto, in the few things that moto was seen to judge as AWS does.

Those are requests for objects under identity policies with Allow and Deny, NotAction, groups and
stars. It ignores conditions, ``?``, NotResource and what bucket policies allow, so it judges none of these.
"""

from __future__ import annotations

import json
import random
from typing import Any

import boto3
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count

from djops.proof.iam_reader import IamReader
from djops.proof.iam_state import CatalogBucket, CatalogGroup, CatalogUser, IamCatalog

WORLDS = 5
USERS, GROUPS, KEYS = ("u0", "u1", "u2"), ("g0", "g1"), ("a/1", "b/1", "b/x/1")
ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:*", "s3:Get*", "s3:*Object", "*")
RESOURCES = (
    "arn:aws:s3:::data/*",
    "arn:aws:s3:::data/a/*",
    "arn:aws:s3:::data/b/*",
    "*",
)


def document(chance: random.Random) -> dict[str, Any]:
    listed = []
    for _ in range(chance.randint(1, 3)):
        effect = "Allow" if chance.random() < 0.7 else "Deny"
        which = "NotAction" if chance.random() < 0.15 else "Action"
        actions, resources = chance.sample(ACTIONS, 2), chance.sample(RESOURCES, 2)
        listed.append({"Effect": effect, which: actions, "Resource": resources})
    return {"Version": "2012-10-17", "Statement": listed}


@mock_aws
def test_the_reader_and_moto_agree() -> None:
    region = {"region_name": "us-east-1"}
    iam, root = boto3.client("iam", **region), boto3.client("s3", **region)  # type: ignore[call-overload]
    root.create_bucket(Bucket="data")
    keys = {}
    for user in USERS:
        iam.create_user(UserName=user)
        keys[user] = iam.create_access_key(UserName=user)["AccessKey"]
    for group in GROUPS:
        iam.create_group(GroupName=group)
    iam.add_user_to_group(UserName="u1", GroupName="g0")
    iam.add_user_to_group(UserName="u2", GroupName="g0")
    iam.add_user_to_group(UserName="u2", GroupName="g1")
    clients = {
        user: boto3.client(
            "s3", aws_access_key_id=k["AccessKeyId"], aws_secret_access_key=k["SecretAccessKey"], **region
        )  # type: ignore[call-overload]
        for user, k in keys.items()
    }
    chance, cells, allowed = random.Random(7), 0, 0
    for _ in range(WORLDS):
        users = {user: document(chance) for user in USERS}
        groups = {group: document(chance) for group in GROUPS}
        for user, policy in users.items():
            iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps(policy))
        for group, policy in groups.items():
            iam.put_group_policy(GroupName=group, PolicyName="p", PolicyDocument=json.dumps(policy))
        for key in KEYS:
            root.put_object(Bucket="data", Key=key, Body=b"x")
        reader = IamReader(catalog(users, groups), "aws")
        for user in USERS:
            for key in KEYS:
                for action, answer in attempt(clients[user], key).items():
                    decision = reader.decide(user, f"s3:{action}", f"arn:aws:s3:::data/{key}")
                    assert decision.allowed is answer, (user, action, key, users, groups)
                    cells, allowed = cells + 1, allowed + answer
    assert cells == WORLDS * 27
    assert 0.1 < allowed / cells < 0.8


def catalog(users: dict[str, Any], groups: dict[str, Any]) -> IamCatalog:
    members = {"u0": (), "u1": ("g0",), "u2": ("g0", "g1")}
    return IamCatalog(
        users={
            user: CatalogUser(
                f"arn:aws:iam::123456789012:user/{user}", policies={"p": policy}, groups=members[user]
            )
            for user, policy in users.items()
        },
        groups={group: CatalogGroup({"p": policy}) for group, policy in groups.items()},
        buckets={"data": CatalogBucket()},
    )


@set_initial_no_auth_action_count(0)
def attempt(client: Any, key: str) -> dict[str, bool]:
    at = {"Bucket": "data", "Key": key}
    return {
        "GetObject": let(lambda: client.get_object(**at)),
        "PutObject": let(lambda: client.put_object(**at, Body=b"y")),
        "DeleteObject": let(lambda: client.delete_object(Bucket="data", Key=key)),
    }


def let(send: Any) -> bool:
    try:
        send()
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "NoSuchKey"), error
        return error.response["Error"]["Code"] == "NoSuchKey"
    return True
