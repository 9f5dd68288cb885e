"""Packed policies open exactly what unpacked ones open, as a reader that knows nothing of packing says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djops.compile.packing import (
    AWS,
    CEPH,
    Document,
    PolicyLimits,
    atoms,
    compact,
    limited_to,
    limits_of,
    pack,
    size,
    whole,
    without,
)
from djops.compile.rights import Rights
from djops.compile.s3 import IamUser, compile_s3, inbox_prefix, schema_prefixes
from djops.errors import PolicyTooLargeError
from djops.model.project import Project, Store
from djops.model.roles import Capability
from djops.proof.iam_patterns import Dialect
from djops.proof.iam_reader import IamReader
from djops.proof.iam_state import CatalogBucket, CatalogUser, IamCatalog
from tests.support.projects import compiled, pipeline, project

SCHEMAS = [f"lab_part_{number:03}" for number in range(9)]
STORES = (Store(bucket="lab-data", location="proj"), Store(bucket="lab-more", location=""))
SMALL = PolicyLimits("a small server", inline=500, managed=900, attached=99)
OBJECT_ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")

HELD = st.dictionaries(
    st.sampled_from(SCHEMAS),
    st.sets(
        st.sampled_from([Capability.READ, Capability.INSERT, Capability.COLLECT, Capability.INBOX]),
        min_size=1,
    ),
)


def policy_of(held: dict[str, set[Capability]]) -> Document:
    from djops.compile.s3 import _Places, _policy_document

    may: dict[Capability, set[str]] = {}
    for schema, capabilities in held.items():
        for capability in capabilities:
            may.setdefault(capability, set()).add(schema)
    return _policy_document(_Places(STORES), may)


def reader(documents: dict[str, list[Document]], dialect: Dialect = "aws") -> IamReader:
    """Read users' policies as a server would hold them: inline ones, as many as there are."""
    account = "RGW12345678901234567" if dialect == "ceph" else "123456789012"
    users = {
        name: CatalogUser(
            f"arn:aws:iam::{account}:user/{name}", policies={f"p{n}": one for n, one in enumerate(these)}
        )
        for name, these in documents.items()
    }
    return IamReader(
        IamCatalog(users=users, buckets={store.bucket: CatalogBucket() for store in STORES}), dialect
    )


def cells() -> list[tuple[str, str, dict[str, list[str]]]]:
    """Return every request that a policy of ours may be about, near misses included."""
    asked: list[tuple[str, str, dict[str, list[str]]]] = []
    for store in STORES:
        bucket = f"arn:aws:s3:::{store.bucket}"
        asked += [("s3:CreateBucket", bucket, {}), ("s3:GetBucketLocation", bucket, {})]
        asked += [("s3:ListBucket", bucket, {"s3:prefix": [text]}) for text in ("", "proj/", "_hash/")]
        for schema in SCHEMAS:
            for prefix in (*schema_prefixes(store, schema), inbox_prefix(store, schema)):
                asked += [(action, f"{bucket}/{prefix}x", {}) for action in OBJECT_ACTIONS]
                asked.append(("s3:ListBucket", bucket, {"s3:prefix": [prefix]}))
                asked.append(("s3:GetObject", f"{bucket}/{prefix[:-1]}x/x", {}))
    return asked


CELLS = cells()


def answers(of: IamReader, name: str) -> list[bool]:
    return [of.decide(name, action, resource, context).allowed for action, resource, context in CELLS]


@settings(max_examples=25, deadline=None)
@given(held=HELD, dialect=st.sampled_from(["aws", "ceph"]))
def test_a_packed_set_opens_what_the_unpacked_one_opens(
    held: dict[str, set[Capability]], dialect: Dialect
) -> None:
    document = policy_of(held)
    packed = pack("alice", document, SMALL)
    parts = list(packed.managed) or [packed.inline or {}]
    small = compact(atoms(document, "Allow"), atoms(document, "Deny"))
    asked = reader({"plain": [document], "packed": parts, "small": [small]}, dialect)
    plain = answers(asked, "plain")
    assert answers(asked, "packed") == plain
    assert answers(asked, "small") == plain
    assert any(plain) == bool(held)
    assert all(size(part) <= SMALL.managed for part in packed.managed)


@settings(max_examples=25, deadline=None)
@given(held=HELD, other=HELD)
def test_what_is_taken_out_and_nothing_else(
    held: dict[str, set[Capability]], other: dict[str, set[Capability]]
) -> None:
    document, less = policy_of(held), policy_of(other)
    may, stays = atoms(document, "Allow"), atoms(less, "Allow")
    asked = reader(
        {
            "plain": [document],
            "other": [less],
            "both": [limited_to(document, stays)],
            "rest": [without(document, stays)],
        }
    )
    plain, fewer = answers(asked, "plain"), answers(asked, "other")
    assert answers(asked, "both") == [a and b for a, b in zip(plain, fewer, strict=True)]
    assert atoms(without(document, stays), "Allow") == may - stays
    assert limited_to(document, may) is document


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "NotAction": ["iam:*"], "Resource": ["*"]},
        {"Effect": "Allow", "Action": "s3:GetObject", "NotResource": ["arn:aws:s3:::other/*"]},
        {"Effect": "Allow", "Action": ["s3:*"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": "arn:aws:s3:::lab-data",
            "Condition": {"StringLike": {"s3:prefix": ""}},
        },
    ],
)
def test_what_somebody_added_by_hand_goes(statement: dict[str, Any]) -> None:
    ours = policy_of({"lab_part_001": {Capability.READ}})
    edited = {**ours, "Statement": [*ours["Statement"], statement]}
    assert limited_to(edited, atoms(ours, "Allow"))["Statement"] == ours["Statement"]


def test_an_empty_pattern_is_not_no_condition() -> None:
    listing = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::lab-data"}
    limited = {**listing, "Condition": {"StringLike": {"s3:prefix": ["", "a/"]}}}
    document = {"Statement": [limited, {**listing, "Action": "s3:GetBucketLocation"}]}
    told = compact(atoms(document, "Allow"), ())
    assert [one for one in told["Statement"] if "Condition" not in one] == [
        {"Effect": "Allow", "Action": ["s3:GetBucketLocation"], "Resource": ["arn:aws:s3:::lab-data"]}
    ]


def many(count: int) -> tuple[Project, Rights]:
    names = [f"lab_ephys_{number:03}" for number in range(count)]
    wanted = project(
        {"alice": [{"role": "viewer", "on": names}], "bob": [{"role": "viewer", "on": names[:2]}]}
    )
    return wanted, compiled(wanted, pipeline({name: [] for name in names}))[0]


def test_where_rights_are_kept_depends_on_what_fits() -> None:
    wanted, rights = many(60)
    local = compile_s3(wanted, rights)
    assert local.users["alice"].policies.keys() == {"djops"} and not local.managed
    cloud = compile_s3(wanted, rights, "123456789012")
    assert cloud.users["bob"] == local.users["bob"]
    assert cloud.users["alice"] == IamUser(attached=tuple(cloud.managed))
    assert [arn.rpartition("/")[2] for arn in cloud.managed] == ["djops-lab-alice-1", "djops-lab-alice-2"]
    assert all(size(policy.document) <= AWS.managed for policy in cloud.managed.values())
    assert atoms(cloud.opens("alice"), "Allow") == atoms(local.opens("alice"), "Allow")
    assert all(atoms(one.document, "Deny") for one in cloud.managed.values())


def test_what_cannot_fit_is_refused_with_the_arithmetic() -> None:
    wanted, rights = many(500)
    with pytest.raises(PolicyTooLargeError) as caught:
        compile_s3(wanted, rights, "123456789012")
    assert caught.value.code == "E_POLICY_SIZE" and caught.value.where == "alice"
    assert "15 managed policies; with AWS, 10 managed policies of 6,144 hold 61,440" in caught.value.message
    assert "quota" in (caught.value.hint or "")


def capacity(room: int, store: Store, name_length: int) -> int:
    """Count the schemas that fit read-only into one policy."""
    from djops.compile.s3 import _Places, _policy_document

    count = 0
    while True:
        names = {f"{number:s>{name_length}}" for number in map(str, range(count + 1))}
        document = _policy_document(_Places((store,)), {Capability.READ: names})
        if size(compact(atoms(document, "Allow"), atoms(document, "Deny"))) > room:
            return count
        count += 1


def test_how_many_schemas_one_policy_takes() -> None:
    store = Store(bucket="lab-data", location="proj")
    assert capacity(AWS.inline, store, 12) == 10
    assert capacity(AWS.managed, store, 12) == 36
    wanted, rights = many(300)
    assert len(compile_s3(wanted, rights, "123456789012").managed) <= AWS.attached


@pytest.mark.parametrize(
    ("account", "limits"), [("123456789012", AWS), ("RGW00000000000000001", CEPH), ("", CEPH)]
)
def test_the_account_tells_the_limits(account: str, limits: PolicyLimits) -> None:
    assert limits_of(account) is limits


def test_all_of_several_policies() -> None:
    one, two = policy_of({"lab_part_001": {Capability.READ}}), policy_of({"lab_part_002": {Capability.READ}})
    both = atoms(whole([one, two]), "Allow")
    assert both == atoms(one, "Allow") | atoms(two, "Allow")
