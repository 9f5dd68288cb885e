"""An AWS account in memory for the tests of what djops asks AWS itself.

moto knows neither the simulation of policies nor quotas but those of VPCs. Here the independent reader of
IAM policies simulates, on the policies that moto keeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import botocore.session
import pytest
from moto import mock_aws

from djops.proof.iam_reader import IamReader
from djops.proof.iam_state import CatalogBucket, CatalogUser, IamCatalog
from djops.systems.aws import Aws
from tests.support.cloud import ACCOUNT, REGION

NO_AWS = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@contextmanager
def account(home: Path) -> Iterator[None]:
    """An empty account, no credentials, and nobody's own configuration."""
    with pytest.MonkeyPatch.context() as patch:
        for name in NO_AWS:
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", str(home / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("PATH", str(home / "bin"))
        # What services look like takes half a second each to read: once for all.
        patch.setattr(boto3, "Session", _session)
        with mock_aws(config={"core": {"mock_credentials": False}}), mock.patch.object(Aws, "_call", _call):
            yield


_LOADER = botocore.session.get_session().get_component("data_loader")
_SESSION = boto3.Session


def _session(**options: Any) -> boto3.Session:
    known = botocore.session.Session(profile=options.pop("profile_name", None))
    known.register_component("data_loader", _LOADER)
    return _SESSION(botocore_session=known, **options)


def client(service: str) -> Any:
    """A client that may do everything, for setting things up."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return _session().client(service, region_name=REGION, **keys)  # type: ignore[call-overload]


def work_as(patch: pytest.MonkeyPatch, name: str, policy: Mapping[str, Any]) -> None:
    """Make a user with a policy and take its credentials."""
    iam = client("iam")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    patch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    patch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])


_REAL = Aws._call


def _call(self: Aws, service: str, action: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    if action == "SimulatePrincipalPolicy":
        return {"EvaluationResults": list(_simulated(**parameters))}
    return _REAL(self, service, action, parameters)


def _simulated(
    PolicySourceArn: str, ActionNames: list[str], ResourceArns: list[str]
) -> Iterator[dict[str, Any]]:
    name = PolicySourceArn.rpartition("/")[2]
    document = client("iam").get_user_policy(UserName=name, PolicyName="p")["PolicyDocument"]
    user = CatalogUser(f"arn:aws:iam::{ACCOUNT}:user/{name}", policies={"p": document})
    (resource,) = ResourceArns
    bucket = resource.removeprefix("arn:aws:s3:::").partition("/")[0]
    reader = IamReader(IamCatalog(users={name: user}, buckets={bucket: CatalogBucket()}), "aws")
    for action in ActionNames:
        allowed = reader.decide(name, action, resource, {}).allowed
        yield {"EvalActionName": action, "EvalDecision": "allowed" if allowed else "implicitDeny"}
