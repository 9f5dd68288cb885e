"""What the audit goes by: the shipped policy is whole, and a project's own limits are checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from djops.errors import ConfigError
from djops.model.audit import AuditPolicy, audit_policy
from djops.plan.drift_kinds import DriftKind
from djops.proof.theorems import THEOREMS

ROOT = Path(__file__).parents[2]
SHIPPED = yaml.safe_load((ROOT / "policies" / "audit.yaml").read_text())


@pytest.fixture(scope="module")
def policy() -> AuditPolicy:
    return audit_policy(SHIPPED, None, "audit.yaml")


def test_every_kind_that_is_made_has_a_rule(policy: AuditPolicy) -> None:
    source = (ROOT / "djops" / "services" / "audit_findings.py").read_text()
    made = set(re.findall(r'_make\(\s*"([A-Z_]+)"', source)) | {"IAM", "IAM_OPEN"}
    assert made | {one.code for one in THEOREMS} <= policy.rules.keys()
    assert policy.rules.keys() - made - {one.code for one in THEOREMS} <= {"SECRETS"}


def test_drift_is_named_as_it_is(policy: AuditPolicy) -> None:
    named = [kind for kinds in policy.drift.values() for kind in kinds]
    assert len(named) == len(set(named))
    assert set(named) <= {str(kind) for kind in DriftKind}
    assert policy.severity_of_drift("public access not blocked") == "high"
    assert policy.severity_of_drift("other difference") == "medium"


def test_a_project_has_limits_of_its_own(policy: AuditPolicy) -> None:
    own = audit_policy(SHIPPED, {"limits": {"key_days": 30}}, "audit.yaml")
    assert (own.limits.key_days, own.limits.idle_days) == (30, policy.limits.idle_days)


@pytest.mark.parametrize(
    "own",
    [
        {"limits": {"key_days": 0}},
        {"limits": {"kee_days": 3}},
        {"limits": [1]},
        {"rules": {}},
        [],
        "x",
    ],
)
def test_wrong_limits_are_refused(own: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        audit_policy(SHIPPED, own, "here/audit.yaml")
    assert (caught.value.code, caught.value.where) == ("E_AUDIT_POLICY", "here/audit.yaml")
    assert "key_days" in (caught.value.hint or "")
