"""A plan of thousands of changes is read at a glance, and --full and JSON have every one."""

from __future__ import annotations

import json

import pytest

from djops.compile.mysql_state import AccountId, MysqlState
from djops.compile.s3 import S3State, compile_s3
from djops.plan.change import Change, Plan, in_order
from djops.plan.mysql import Reasons, diff_mysql
from djops.plan.mysql_changes import EndSessions, GrantRole
from djops.plan.operations import KeepKey
from djops.plan.s3 import diff_s3
from djops.report.changes import plan_data, plan_text, summary
from tests.support.projects import compiled, pipeline, project

PEOPLE, SCHEMAS = 400, 20


@pytest.fixture(scope="module")
def large() -> Plan:
    schemas = [f"part_{number:02}" for number in range(SCHEMAS)]
    people = {
        f"person{number:04}": [{"role": "analyst", "on": [schemas[number % SCHEMAS]]}]
        for number in range(PEOPLE)
    }
    wanted = project(people)
    rights, mysql = compiled(wanted, pipeline({schema: [] for schema in schemas}))
    secrets = {name: f"lab/people/{name}" for name in people}
    edges = {
        (edge.role.user, edge.member.user): (f"people.{edge.member.user}.grants[0]",) for edge in mysql.edges
    }
    changes = diff_mysql("lab", mysql, MysqlState(), Reasons(edges, secrets), lambda _: True, lambda _: True)
    keeps = {name: KeepKey(path, ("main",)) for name, path in secrets.items()}
    changes += diff_s3("lab", compile_s3(wanted, rights), S3State(), keeps, {}, {})
    return Plan(in_order(changes), tuple(f"mysql: other{number}" for number in range(300)))


def test_what_is_alike_shares_a_line(large: Plan) -> None:
    assert len(large.changes) > 1_000
    text = plan_text(large)
    assert len(text.splitlines()) < 40
    assert max(map(len, text.splitlines())) < 220
    assert summary(large.changes) in text
    assert f"{PEOPLE} x account person0000, person0001, person0002 and 397 more: created" in text
    assert (
        f"person0000, person0020, person0040 and 397 more: in {SCHEMAS} roles, {PEOPLE} memberships" in text
    )
    assert "lines stand for them; `djops plan --full` and --json show every one." in text
    assert "mysql: other0, mysql: other1, mysql: other2 and 297 more." in text


def test_every_change_is_in_full_and_in_json(large: Plan) -> None:
    text = plan_text(large, full=True)
    data = json.dumps(plan_data(large))
    for number in range(PEOPLE):
        name = f"person{number:04}"
        assert f"account {name}: created" in text and f"account {name}" in data
        assert f"policy djops of {name}" in text and f"people.{name}.grants[0]" in text
    assert "lines stand for them" not in text and "mysql: other299" in text
    assert len(plan_data(large)["changes"]) == len(large.changes)


def test_a_small_plan_is_told_line_by_line() -> None:
    members = tuple(AccountId(f"person{number}") for number in range(20))
    changes: list[Change] = [
        GrantRole(role=AccountId("ephys:viewer"), members=members[:2], why=("a", "b")),
        EndSessions(members=members, why=("c",)),
    ]
    text = plan_text(Plan(tuple(changes)))
    assert "person0, person1: role ephys:viewer" in text and "a; b" in text
    assert "open sessions of person0, person1, person2 and 17 more: may still use" in text
    assert "person19" in plan_text(Plan(tuple(changes)), full=True)


def test_one_statement_gives_a_role_to_all_its_members(large: Plan) -> None:
    given = [change for change in large.changes if isinstance(change, GrantRole) and not change.inner]
    assert len(given) == SCHEMAS
    assert sorted(member.user for change in given for member in change.members) == sorted(
        f"person{number:04}" for number in range(PEOPLE)
    )
    assert all(len(change.operations()) == 1 for change in given)
    assert all(len(change.why) == len(change.members) for change in given)
