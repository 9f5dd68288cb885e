"""The bench's consortium: what is sent grows with the people, and roles active in a session stay few."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import consortium, growth, peers
from bench.access import pairs
from djops.plan.change import Change, Plan
from djops.plan.mysql_changes import CreateAccount, GrantRole, SetDefaultRoles
from djops.services import access

SCHEMAS = 10


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Plan]:
    found = {
        people: consortium.written(tmp_path_factory.mktemp(str(people)), people, SCHEMAS)
        for people in (40, 80)
    }
    return {people: consortium.plan_from_empty(one.wanted()) for people, one in found.items()}


def test_twice_the_people_at_most_twice_the_statements(plans: dict[int, Plan]) -> None:
    few, many = (len(consortium.statements(mysql(plan), {})) for plan in plans.values())
    assert few < many <= 2 * few


def test_what_is_measured_is_what_an_apply_sends(plans: dict[int, Plan]) -> None:
    """Accounts that are alike share a statement, and each change is told once as done, with its last one."""
    changes = mysql(plans[80])
    sent = [*consortium.pieces(changes)]
    assert sum("IDENTIFIED" in str(one) for one, _ in sent) == 2
    assert sorted(number for _, numbers in sent for number in numbers) == [*range(len(changes))]


def test_a_role_is_given_to_all_its_members_at_once(plans: dict[int, Plan]) -> None:
    roles = [
        sum(isinstance(one, GrantRole) and not one.inner for one in plan.changes) for plan in plans.values()
    ]
    assert roles[0] <= roles[1] <= SCHEMAS * 5, "what there is to give does not grow with the people"


def test_few_roles_are_active_in_a_session(plans: dict[int, Plan]) -> None:
    defaults = [one for one in plans[80].changes if isinstance(one, SetDefaultRoles)]
    assert sum(len(one.members) for one in defaults) == 80
    assert max(len(one.wanted) for one in defaults) <= 3


def test_those_with_the_same_roles_get_them_active_at_once(plans: dict[int, Plan]) -> None:
    few, many = (
        {one.wanted: one.members for one in plan.changes if isinstance(one, SetDefaultRoles)}
        for plan in plans.values()
    )
    assert few.keys() <= many.keys() and len(many) < 80


def test_the_floor_gives_the_same_people_the_same_schemas(tmp_path: Path) -> None:
    wanted = consortium.written(tmp_path, 20, SCHEMAS).wanted()
    compiled = access.compile_all(wanted, "local", wanted.graph, consortium.tables(wanted))
    cells = {(person, schema) for person, schema, _ in pairs(wanted, compiled)}
    rights = {(right.principal, right.schema) for right in compiled.rights.rights}
    assert cells <= rights and len(cells) > 2 * 20
    assert {person for person, _ in cells} == set(wanted.project.principals)


def test_growth_is_told_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "SIZES", ((10, SCHEMAS), (20, SCHEMAS)))
    monkeypatch.setattr(growth, "ROUNDS", 1)
    lines = list(growth.measure(tmp_path))
    assert [str(line).split(":")[0] for line in lines] == ["10 x 10", "20 x 10"]
    assert "for 20 accounts" in str(lines[1])
    assert ["twice the people: work x" in str(line) for line in lines] == [False, True]


def test_what_ansible_was_not_given_is_said_to_be_extrapolated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds to start, two for each person, and one for each again."""

    def took(_: object, __: object, cells: Sequence[tuple[str, str, frozenset[str]]]) -> tuple[float, float]:
        people = len({person for person, _, _ in cells})
        return 10.0 + 2 * people, 10.0 + people

    monkeypatch.setattr(peers, "_ansible", took)
    cells = [(f"p{n}", schema, frozenset({"SELECT"})) for n in range(50) for schema in ("a", "b")]
    found = consortium.Consortium(tmp_path, 50, 2)
    measured, rest = peers._ansible_lines(found, None, cells)  # type: ignore[arg-type]
    assert "20 of the people" in measured and "50.00" in measured and "30.00" in measured
    assert "all 50, extrapolated" in rest and "110.00" in rest and "60.00" in rest


def mysql(plan: Plan) -> list[Change]:
    found = [change for change in plan.changes if change.system == "mysql"]
    assert any(isinstance(change, CreateAccount) for change in found)
    return found
