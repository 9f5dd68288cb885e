"""What `stacks/needs.yaml` asks for is what the programs declare, and actions that there are."""

from __future__ import annotations

import dataclasses
from typing import Any

import botocore.session
import pytest
from cloud.database import ExistingDatabase
from cloud.network import ExistingNetwork
from cloud.settings import Existing

from djops.systems.cloud_needs import load_needs
from tests.support.cloud import Declared, declared, settings, worker_class

EVERYTHING = frozenset(
    {"network", "database", "secrets", "buckets", "lock", "audit", "budget", "workers", "gpus"}
)
WITHOUT: dict[str, dict[str, Any]] = {
    "network": {"existing": Existing(network=ExistingNetwork("vpc-1", ("subnet-1", "subnet-2")))},
    "database": {"existing": Existing(database=ExistingDatabase("db.invalid", 3306, "arn:x"))},
    "secrets": {"existing": Existing(secrets_address="https://vault.invalid"), "openbao": None},
    "buckets": {"buckets": ()},
    "lock": {"buckets": settings().buckets[:1]},
    "audit": {"audit": False},
    "budget": {"budget_usd": 0},
    "workers": {"image": None, "workers": (), "meter_command": ()},
    "gpus": {"workers": (worker_class(),)},
}
# Actions of IAM that are not the name of a request.
OWN = {
    "iam:PassRole",
    "budgets:ModifyBudget",
    "budgets:ViewBudget",
    "s3:GetAccelerateConfiguration",
    "s3:GetBucketCORS",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:GetReplicationConfiguration",
    "s3:ListBucket",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
}


def types(made: Declared) -> set[str]:
    return {one.type for one in made.aws()}


def needed(parts: frozenset[str]) -> set[str]:
    return {name for name, one in load_needs().types.items() if not one.parts or one.parts & parts}


def test_every_type_that_is_declared_is_asked_for_and_no_other(whole: Declared) -> None:
    assert types(whole) == needed(EVERYTHING)


@pytest.mark.parametrize(
    "gone", [("network", "database", "secrets"), ("buckets", "workers"), ("lock", "audit", "budget", "gpus")]
)
def test_a_part_that_is_not_made_needs_nothing(gone: tuple[str, ...]) -> None:
    changes = {key: value for part in gone for key, value in WITHOUT[part].items() if key != "existing"}
    there = {
        name: value
        for part in gone
        for name, value in vars(WITHOUT[part].get("existing", Existing())).items()
        if value
    }
    made = types(declared(settings(**changes, existing=Existing(**there))))
    assert made <= needed(EVERYTHING - set(gone))
    alone = {name for name, one in load_needs().types.items() if one.parts and one.parts <= set(gone)}
    assert alone and not alone & made


def test_actions_are_those_that_aws_knows() -> None:
    needs = load_needs()
    everything = (*needs.types.values(), *needs.own.values())
    named = {action for one in everything for action in one.actions} | set(needs.always)
    session = botocore.session.get_session()
    services = {"servicequotas": "service-quotas"}
    known = {
        name: session.get_service_model(services.get(name, name)).operation_names
        for name in {action.partition(":")[0] for action in named}
    }
    unknown = [one for one in named - OWN if one.partition(":")[2] not in known[one.partition(":")[0]]]
    assert not unknown
    assert named >= OWN


def test_resources_are_named_by_what_is_known() -> None:
    names = dict.fromkeys(("project", "environment", "account", "region", "manager", "bucket", "me"), "x")
    named = load_needs().actions(EVERYTHING, names)
    assert all("{" not in place for place in named)
    assert {"arn:aws:s3:::x", "arn:aws:iam::x:user/djops-system/x"} < set(named)
    assert not [one for one in named["*"] if one.startswith("s3:")]
    assert dataclasses.asdict(load_needs())["quotas"]
