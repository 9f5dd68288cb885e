"""People at an object store, with their own keys, and what becomes of what they try."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from djops.compile.s3 import POLICY_NAME, iam_path
from djops.plan.operations import AwsCall
from djops.plan.s3_changes import BLOCKS, canonical
from djops.systems.connections import S3Connection, Secret
from djops.systems.s3 import S3

BUCKET, LOCATION = "lab-data", "proj"


def client(connection: S3Connection | str, service: Literal["s3", "iam"] = "s3") -> Any:
    """Make a boto3 client for a connection, or for nobody at an endpoint."""
    if isinstance(connection, str):
        nobody = Config(signature_version=UNSIGNED, s3={"addressing_style": "path"})
        return boto3.client(service, endpoint_url=connection, region_name="us-east-1", config=nobody)
    return boto3.client(
        service,
        endpoint_url=connection.endpoint,
        region_name=connection.region,
        aws_access_key_id=connection.access_key,
        aws_secret_access_key=connection.secret_key.reveal(),
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def outcome(action: Callable[[], Any]) -> str:
    """Say ``ok``, or the status that refused."""
    try:
        answer = action()
    except ClientError as error:
        return str(error.response["ResponseMetadata"]["HTTPStatusCode"])
    errors = answer.get("Errors") if isinstance(answer, dict) else None
    return "403" if errors and errors[0]["Code"] == "AccessDenied" else "ok"


def make_person(
    manager: S3Connection, name: str, policy: Mapping[str, Any], project: str = "lab"
) -> S3Connection:
    """Make an IAM user as djops would, and return how that person connects."""
    server, who = S3(manager), {"UserName": name}
    server.call(AwsCall("iam", "CreateUser", {**who, "Path": iam_path(project)}))
    document = {"PolicyName": POLICY_NAME, "PolicyDocument": canonical(policy)}
    server.call(AwsCall("iam", "PutUserPolicy", {**who, **document}))
    key = server.call(AwsCall("iam", "CreateAccessKey", who))["AccessKey"]
    return replace(manager, access_key=key["AccessKeyId"], secret_key=Secret(key["SecretAccessKey"]))


@dataclass
class Person:
    """Somebody who tries things."""

    connection: S3Connection

    def __post_init__(self) -> None:
        self.s3 = client(self.connection)
        self.iam = client(self.connection, "iam")

    def attempt(self, action: str, key: str) -> str:
        """Try one of the actions below on a key relative to the store's location."""
        at = {"Bucket": BUCKET, "Key": f"{LOCATION}/{key}"}
        return outcome(lambda: _ACTIONS[action](self, at, f"{LOCATION}/{key}"))


def _multipart(person: Person, at: dict[str, str], _key: str) -> None:
    upload = person.s3.create_multipart_upload(**at)
    person.s3.upload_part(**at, UploadId=upload["UploadId"], PartNumber=1, Body=b"part")
    person.s3.abort_multipart_upload(**at, UploadId=upload["UploadId"])


def _copy_in(person: Person, at: dict[str, str], _key: str) -> Any:
    source = {"Bucket": BUCKET, "Key": f"{LOCATION}/_hash/imaging/there"}
    return person.s3.copy_object(**at, CopySource=source)


_ACTIONS: Mapping[str, Callable[[Person, dict[str, str], str], Any]] = {
    "get": lambda who, at, _: who.s3.get_object(**at)["Body"].read(),
    "head": lambda who, at, _: who.s3.head_object(**at),
    "put": lambda who, at, _: who.s3.put_object(**at, Body=b"new"),
    "multipart": _multipart,
    "copy_in": _copy_in,
    "list": lambda who, _, key: who.s3.list_objects_v2(Bucket=BUCKET, Prefix=key, Delimiter="/"),
    "list_bucket": lambda who, *_: who.s3.list_objects_v2(Bucket=BUCKET),
    "list_versions": lambda who, _, key: who.s3.list_object_versions(Bucket=BUCKET, Prefix=key),
    "head_bucket": lambda who, *_: who.s3.head_bucket(Bucket=BUCKET),
    "location": lambda who, *_: who.s3.get_bucket_location(Bucket=BUCKET),
    "create_bucket": lambda who, *_: who.s3.create_bucket(Bucket="mine"),
    "list_buckets": lambda who, *_: who.s3.list_buckets(),
    "unblock": lambda who, *_: who.s3.put_public_access_block(
        Bucket=BUCKET, PublicAccessBlockConfiguration=dict.fromkeys(BLOCKS, False)
    ),
    "suspend_versioning": lambda who, *_: who.s3.put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
    ),
    "delete": lambda who, at, _: who.s3.delete_object(**at),
    "bulk_delete": lambda who, _, key: who.s3.delete_objects(
        Bucket=BUCKET, Delete={"Objects": [{"Key": key}]}
    ),
    "list_users": lambda who, *_: who.iam.list_users(),
    "make_key": lambda who, *_: who.iam.create_access_key(),
}
