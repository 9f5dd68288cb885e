"""Names that an account has only once: two environments of one project must not meet in any."""

from __future__ import annotations

import re

import pytest
from cloud.names import manager_name, people_name, stack_name
from cloud.object_store import BucketArgs

from tests.support.cloud import declared, settings, short

NAMING = ("name", "identifier", "bucket", "family", "finalSnapshotIdentifier")
# Unique inside of something that has a name of its own, or no name of this one.
INSIDE = {("ecs.Service", "name"), ("iam.GroupPolicy", "name"), ("rds.ParameterGroup", "family")}
# Unique in the VPC.
IN_THE_VPC = re.compile(r"ec2\..*")


def names(environment: str) -> set[tuple[str, str, str]]:
    buckets = (BucketArgs(f"demo-{environment}"),)
    made = declared(settings(environment=environment, buckets=buckets))
    return {
        (short(one.type), key, one.inputs[key])
        for one in made.aws()
        for key in NAMING
        if isinstance(one.inputs.get(key), str)
        and (short(one.type), key) not in INSIDE
        and not IN_THE_VPC.fullmatch(short(one.type))
    }


def test_two_environments_of_a_project_meet_in_no_name() -> None:
    production, staging = names("production"), names("staging")
    assert production & staging == set()
    assert {kind for kind, _, _ in production} >= {
        "iam.User", "iam.Policy", "iam.Group", "rds.Instance", "s3.Bucket", "cloudwatch.LogGroup",
        "secretsmanager.Secret", "ecs.Cluster", "ecs.TaskDefinition", "budgets.Budget", "cloudtrail.Trail",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("project", "environment", "name"),
    [
        ("demo_lab", "production", "demo-lab-production"),
        ("lab_", "e__u", "lab-e-u"),
        ("p" * 31, "e" * 31, f"{'p' * 31}-eeee-bd967670"),
    ],
)
def test_a_name_is_one_that_rds_and_s3_take(project: str, environment: str, name: str) -> None:
    made = stack_name(project, environment)
    assert made == name
    assert re.fullmatch(r"[a-z](-?[a-z0-9])*", made), "RDS: no two hyphens in a row, none at the end"
    assert len(f"{made}-123456789012-logs") <= 63


def test_what_is_cut_is_still_told_apart() -> None:
    project = "p" * 31
    for named in (stack_name, manager_name, people_name):
        one, other = named(project, "e" * 30 + "a"), named(project, "e" * 30 + "b")
        assert one != other and max(len(one), len(other)) <= 64
        assert named(project, "e" * 30 + "a") == one, "the same every time"
