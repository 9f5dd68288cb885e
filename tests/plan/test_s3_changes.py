"""Whether a change of a policy opens or only closes, and when it is carried out."""

from __future__ import annotations

import pytest

from djops.compile.s3 import POLICY_NAME, Bucket, Document, compile_s3, tls_only
from djops.plan.change import Phase, Risk
from djops.plan.operations import AwsCall
from djops.plan.s3_changes import ProtectBucket, PutPolicy, same_protection
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


TLS = tls_only("lab-data")
AS_AWS_GIVES_IT = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:*"],
        "Resource": ["arn:aws:s3:::lab-data/*", "arn:aws:s3:::lab-data"],
        "Condition": {"Bool": {"aws:SecureTransport": ["false"]}},
    },
}
ONE_ALLOWED = {
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}]
}


@pytest.mark.parametrize(
    ("found", "wanted", "same", "risk"),
    [
        (AS_AWS_GIVES_IT, TLS, True, None),
        (None, None, True, None),
        (None, TLS, False, Risk.NARROWS),
        (TLS, None, False, Risk.WIDENS),
        (ONE_ALLOWED, TLS, False, Risk.NARROWS),
        (TLS, ONE_ALLOWED, False, Risk.WIDENS),
        (tls_only("other"), TLS, False, Risk.WIDENS),
    ],
    ids=["as AWS tells it", "none", "closes", "a refusal goes", "an opening goes", "opens", "another's"],
)
def test_a_bucket_s_policy(
    found: Document | None, wanted: Document | None, same: bool, risk: Risk | None
) -> None:
    assert same_protection(Bucket(policy=found), Bucket(policy=wanted)) is same
    change = ProtectBucket(name="lab-data", found=Bucket(policy=found), wanted=Bucket(policy=wanted), why=())
    assert [one.action for one in change.operations() if isinstance(one, AwsCall)] == (
        [] if same else ["DeleteBucketPolicy" if wanted is None else "PutBucketPolicy"]
    )
    assert risk is None or change.risk is risk
    assert ("TLS only" in change.after) is (wanted is TLS)
