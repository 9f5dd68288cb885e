"""Whether a change of a policy opens or only closes, and when it is carried out."""

from __future__ import annotations

import pytest

from djops.compile.s3 import POLICY_NAME, Document, compile_s3
from djops.plan.change import Phase, Risk
from djops.plan.s3_changes import PutPolicy
from tests.support.projects import DEMO, compiled, pipeline, project


def policy_of(role: str, *schemas: str) -> Document:
    wanted = project({"alice": [{"role": role, "on": list(schemas)}]})
    rights, _ = compiled(wanted, pipeline(DEMO))
    return compile_s3(wanted, rights).users["alice"].policies[POLICY_NAME]


WIDE, NARROW = policy_of("analyst", "ephys", "imaging"), policy_of("viewer", "ephys")
ASIDE = policy_of("viewer", "imaging")


@pytest.mark.parametrize(
    ("found", "wanted", "risk", "phase"),
    [
        (WIDE, NARROW, Risk.NARROWS, Phase.NARROW),
        (NARROW, WIDE, Risk.WIDENS, Phase.WIDEN),
        (NARROW, ASIDE, Risk.WIDENS, Phase.WIDEN),
        (None, NARROW, Risk.WIDENS, Phase.WIDEN),
    ],
)
def test_a_policy_that_only_closes_does_not_wait(
    found: Document | None, wanted: Document | None, risk: Risk, phase: Phase
) -> None:
    change = PutPolicy(name="alice", policy=POLICY_NAME, found=found, wanted=wanted, why=())
    assert (change.risk, change.phase) == (risk, phase)


def test_a_deny_that_goes_opens() -> None:
    denied = {
        **NARROW,
        "Statement": [*NARROW["Statement"], {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}],
    }
    opening = PutPolicy(name="alice", policy=POLICY_NAME, found=denied, wanted=NARROW, why=())
    assert (opening.risk, opening.reverse().risk) == (Risk.WIDENS, Risk.NARROWS)
