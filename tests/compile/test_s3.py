"""The S3 compiler: prefixes that open a schema's objects and no others'."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from djops.compile.s3 import POLICY_NAME, compile_s3, schema_prefixes, tls_only
from djops.errors import NameRefusedError
from djops.model.graph import PipelineGraph
from djops.model.project import Store
from djops.model.roles import Capability
from tests.support.projects import DEMO, STORABLE_NAMES, compiled, peoples, pipeline, pipelines, project


def allows(document: Mapping[str, Any], action: str, resource: str, prefix: str | None = None) -> bool:
    """Evaluate a policy as IAM documents it, for the few forms djops writes."""
    verdict = False
    for statement in document["Statement"]:
        matches = action in statement["Action"] and any(_glob(r, resource) for r in statement["Resource"])
        if matches and "Condition" in statement:
            patterns = statement["Condition"]["StringLike"]["s3:prefix"]
            matches = prefix is not None and any(_glob(pattern, prefix) for pattern in patterns)
        if matches and statement["Effect"] == "Deny":
            return False
        verdict = verdict or matches
    return verdict


def _glob(pattern: str, text: str) -> bool:
    return (
        re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), text, re.DOTALL) is not None
    )


@settings(max_examples=80, deadline=None)
@given(data=st.data(), graph=pipelines(STORABLE_NAMES))
def test_objects_follow_rows(data: st.DataObject, graph: PipelineGraph) -> None:
    assume(not any("\\" in schema for schema in graph.schemas))  # refused: see below
    wanted = data.draw(peoples(graph))
    rights, _ = compiled(wanted, graph)
    state = compile_s3(wanted, rights)
    for who in rights.principals:
        document = state.users[who].policies[POLICY_NAME]
        for schema in graph.schemas:
            has = rights.capabilities(who, schema)
            for section in ("_hash", "_schema"):
                key = f"arn:aws:s3:::lab-data/proj/{section}/{schema}/x"
                assert allows(document, "s3:GetObject", key) == (Capability.READ in has)
                assert allows(document, "s3:PutObject", key) == (Capability.INSERT in has)
                listed = allows(
                    document, "s3:ListBucket", "arn:aws:s3:::lab-data", f"proj/{section}/{schema}/x/"
                )
                assert listed == (Capability.READ in has)
                assert allows(document, "s3:DeleteObject", key) == (Capability.COLLECT in has)
            inbox = f"arn:aws:s3:::lab-data/proj/inbox/{schema}/x"
            for action in ("s3:GetObject", "s3:PutObject"):
                assert allows(document, action, inbox) == (Capability.INBOX in has)
        assert not allows(document, "s3:ListBucket", "arn:aws:s3:::lab-data", "proj/")
        assert not allows(document, "s3:CreateBucket", "arn:aws:s3:::other")


def test_a_schema_does_not_open_another_that_begins_alike() -> None:
    graph = pipeline({"ephys": [], "ephys2": []})
    wanted = project({"alice": [{"role": "analyst", "on": "ephys"}]})
    document = compile_s3(wanted, compiled(wanted, graph)[0]).users["alice"].policies[POLICY_NAME]
    assert allows(document, "s3:GetObject", "arn:aws:s3:::lab-data/proj/_hash/ephys/x")
    assert not allows(document, "s3:GetObject", "arn:aws:s3:::lab-data/proj/_hash/ephys2/x")


@pytest.mark.parametrize(
    "schema", ["all*", "what?", "${aws:username}", "[a-z]", "a\\b", "a:b", "a/b", "..", "a\tb"]
)
def test_wildcards_in_a_name_are_refused(schema: str) -> None:
    with pytest.raises(NameRefusedError) as caught:
        schema_prefixes(Store(bucket="lab-data"), schema)
    assert caught.value.code == "E_NAME"


def test_equal_rights_give_equal_text() -> None:
    graph = pipeline(DEMO)
    one = project({"a": [{"role": "viewer", "on": ["ephys", "imaging"]}]})
    two = project({"a": [{"role": "viewer", "on": "imaging"}, {"role": "viewer", "on": "ephys"}]})
    texts = {
        json.dumps(compile_s3(p, compiled(p, graph)[0]).users["a"].policies[POLICY_NAME]) for p in (one, two)
    }
    assert len(texts) == 1


def test_location_may_be_empty() -> None:
    assert schema_prefixes(Store(bucket="lab-data"), "ephys") == ("_hash/ephys/", "_schema/ephys/")


@pytest.mark.parametrize(
    ("account", "closed"), [("", False), ("RGW12345678901234567", False), ("123456789012", True)]
)
def test_buckets_on_aws_refuse_what_comes_without_tls(account: str, closed: bool) -> None:
    wanted = project({})
    bucket = compile_s3(wanted, compiled(wanted, pipeline(DEMO))[0], account).buckets["lab-data"]
    assert bucket.policy == (tls_only("lab-data") if closed else None)
    assert bucket.versioned and bucket.blocks_public
