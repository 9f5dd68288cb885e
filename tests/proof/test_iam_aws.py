"""The reader of IAM policies against AWS's documentation: cases as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from djops.errors import UndecidedError, UsageError
from djops.proof.iam_reader import IamReader, dialect_of
from djops.proof.iam_state import AclGrant, CatalogBucket, CatalogGroup, CatalogUser, IamCatalog

CASES = yaml.safe_load((Path(__file__).parents[1] / "data/iam/aws.yaml").read_text())
ACCOUNT = "111122223333"


def document(statements: Any, version: str = "2012-10-17") -> dict[str, Any]:
    return {"Version": version, "Statement": statements}


def policies(holder: dict[str, Any]) -> dict[str, Any]:
    version = holder.get("version", "2012-10-17")
    return {name: document(one, version) for name, one in holder.get("policies", {}).items()}


def user(name: str, told: dict[str, Any]) -> CatalogUser:
    return CatalogUser(
        arn=f"arn:aws:iam::{ACCOUNT}:user/lab/{name}",
        user_id=f"AIDA{name.upper()}",
        policies=policies(told),
        attached=tuple(told.get("attached", ())),
        groups=tuple(told.get("groups", ())),
        boundary=told.get("boundary", ""),
        unread=tuple(told.get("unread", ())),
    )


def catalog(case: dict[str, Any]) -> IamCatalog:
    bucket = CatalogBucket(
        policy=document(case["bucket"]) if "bucket" in case else None,
        acl=tuple(AclGrant(*grant) for grant in case.get("acl", ())),
        blocks=frozenset(case.get("blocks", ())),
        ownership=case.get("ownership", ""),
        unread=tuple(case.get("unread", ())),
    )
    groups = case.get("groups", {})
    return IamCatalog(
        users={name: user(name, told) for name, told in case["users"].items()},
        groups={n: CatalogGroup(policies(g), tuple(g.get("attached", ()))) for n, g in groups.items()},
        managed={arn: document(one) for arn, one in case.get("managed", {}).items()},
        buckets={"lab": bucket},
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_as_aws_documents_it(case: dict[str, Any]) -> None:
    reader = IamReader(catalog(case))
    assert reader.dialect == "aws"
    for ask in case["asks"]:
        arn = ask.get("arn") or f"arn:aws:s3:::{ask['what']}"
        try:
            decision = reader.decide(ask["user"], ask["action"], arn, ask.get("with", {}))
        except UndecidedError:
            assert ask["is"] == "undecided", ask
            continue
        assert ("ok" if decision.allowed else "denied") == ask["is"], (ask, decision)
        assert bool(decision.because) or not decision.allowed
        if "because" in ask:
            assert list(decision.because) == ask["because"]


def test_an_unknown_user_is_named_with_the_nearest() -> None:
    reader = IamReader(catalog({"users": {"alice": {}}}))
    with pytest.raises(UsageError) as caught:
        reader.decide("alicia", "s3:GetObject", "arn:aws:s3:::lab/a")
    assert "alicia" in caught.value.message
    assert "alice" in str(caught.value.hint)


def test_what_is_undecided_says_on_what_it_hangs() -> None:
    statement = {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    told = {"policies": {"p": [statement, {"Effect": "Allow", "Action": "*", "Resource": "*"}]}}
    reader = IamReader(catalog({"users": {"alice": told}}))
    with pytest.raises(UndecidedError) as caught:
        reader.decide("alice", "s3:GetObject", "arn:aws:s3:::lab/a")
    assert "policy p of alice, statement 1" in caught.value.message
    assert "aws:SecureTransport" in caught.value.message
    assert IamReader(reader.catalog, tls=True).decide("alice", "s3:GetObject", "arn:aws:s3:::lab/a").allowed


def test_what_is_open_without_tls_is_not_refused_for_those_who_use_it() -> None:
    plain = {
        "Effect": "Allow",
        "Action": "*",
        "Resource": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    reader = IamReader(catalog({"users": {"alice": {"policies": {"p": [plain]}}}}), tls=True)
    with pytest.raises(UndecidedError):
        reader.decide("alice", "s3:GetObject", "arn:aws:s3:::lab/a")


def test_keys_are_a_question_of_their_own() -> None:
    keys = {"AKIA1": False, "AKIA2": True}
    users = {
        "alice": CatalogUser("arn:aws:iam::1:user/alice", keys=keys),
        "bob": CatalogUser("arn:aws:iam::1:user/bob", keys={"AKIA3": False}),
        "carol": CatalogUser("arn:aws:iam::1:user/carol"),
    }
    reader = IamReader(IamCatalog(users))
    assert reader.usable("alice").allowed
    assert reader.usable("alice").because == ("access key AKIA2 of alice is active",)
    assert reader.usable("bob").because == ("access key AKIA3 of bob is inactive",)
    assert not reader.usable("bob").allowed
    assert reader.usable("carol").because == ("carol has no key",)


def test_the_server_is_told_by_its_account() -> None:
    ceph = {"alice": CatalogUser("arn:aws:iam::RGW00000000000000001:user/alice")}
    assert dialect_of(IamCatalog(ceph)) == "ceph"
    assert dialect_of(IamCatalog()) == "aws"


def test_a_thousand_prefixes_cost_little() -> None:
    resources = [f"arn:aws:s3:::lab/_hash/s{number}/*" for number in range(1000)]
    told = {"policies": {"p": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": resources}]}}
    reader = IamReader(catalog({"users": {"alice": told}}))
    for number in range(1000):
        decision = reader.decide("alice", "s3:GetObject", f"arn:aws:s3:::lab/_hash/s{number}/x")
        assert decision.because[0].endswith(f"/s{number}/*")
    assert not reader.decide("alice", "s3:GetObject", "arn:aws:s3:::lab/_hash/s1000/x").allowed


@pytest.mark.parametrize(
    ("values", "kills"),
    [(["${aws:username}", "xy"], True), (["xy", "${aws:username}"], False), (["xy"], False)],
)
def test_what_ends_a_ceph_gateway_is_warned_of(values: list[str], kills: bool) -> None:
    """Seen on 20.2.4, where the user's next request took the gateway down; never sent to a shared one."""
    condition = {"StringEquals": {"aws:username": values}}
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": condition}
    reader = IamReader(catalog({"users": {"alice": {"policies": {"p": [statement]}}}}), "ceph")
    assert any("gateway ends" in str(warning) for warning in reader.warnings()) is kills


def test_users_are_alike_only_where_nothing_hangs_on_who_they_are() -> None:
    plain = {"policies": {"own": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}}
    personal = [
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::lab/${aws:username}/*"},
        {
            "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*",
            "Condition": {"StringEquals": {"aws:username": "eve"}},
        },
    ]  # fmt: skip
    users = {"ann": plain, "bob": plain, "cyd": {}}
    reader = IamReader(catalog({"users": users}))
    assert reader.alike("ann") == reader.alike("bob") != reader.alike("cyd")
    for statement in personal:
        told = {"policies": {"own": [statement]}}
        reader = IamReader(catalog({"users": {"dan": told, "eve": told}}))
        assert reader.alike("dan") != reader.alike("eve")
    named = [{
        "Effect": "Deny", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/lab/bob"},
        "Action": "s3:GetObject", "Resource": "arn:aws:s3:::lab/*",
    }]  # fmt: skip
    reader = IamReader(catalog({"users": users, "bucket": named}))
    assert reader.alike("ann") != reader.alike("bob")
    assert not reader.decide("bob", "s3:GetObject", "arn:aws:s3:::lab/x").allowed
