"""What a policy is called in a few words: whatever somebody wrote there by hand."""

from __future__ import annotations

from typing import Any

import pytest

from djops.compile.chain import allowed
from djops.compile.rights import compile_rights
from djops.compile.s3 import POLICY_NAME, compile_s3
from djops.plan.s3_changes import policy_summary
from djops.systems.resources import load_roles
from tests.support.projects import DEMO, TODAY, pipeline, project

OPEN = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}


def ours() -> dict[str, Any]:
    wanted = project({"alice": [{"role": "analyst", "on": "ephys"}]})
    state = compile_s3(wanted, compile_rights(wanted, pipeline(DEMO), load_roles(), TODAY))
    return dict(state.users["alice"].policies[POLICY_NAME])


def test_what_djops_writes_is_told_by_schemas() -> None:
    assert policy_summary(ours()) == "get session, subject; get and put ephys"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (OPEN, "Allow s3:* on *"),
        ({"Effect": "Deny", "Action": ["s3:GetObject"], "Resource": ["*"]}, "Deny s3:GetObject on *"),
        (
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::b"},
            "Allow s3:ListBucket on",
        ),
        (
            {"Effect": "Allow", "NotAction": ["a", "b", "c"], "NotResource": "x"},
            "all but a, b and 1 more on all",
        ),
        ("nonsense", "what is no statement"),
    ],
)
def test_what_somebody_else_wrote_is_told_as_it_is(statement: Any, words: str) -> None:
    document = ours()
    text = policy_summary({**document, "Statement": [*document["Statement"], statement]})
    assert text.startswith("get session, subject; get and put ephys; ")
    assert words in text


def test_a_statement_may_stand_alone() -> None:
    alone = {"Version": "2012-10-17", "Statement": OPEN}
    assert policy_summary(alone) == "Allow s3:* on *"
    assert [one.resource for one in allowed({"p": alone}, ["s3:*"])] == ["*"]
