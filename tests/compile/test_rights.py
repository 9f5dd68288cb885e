"""Rights, spelled out: what each role reaches in a pipeline whose shape is known."""

from __future__ import annotations

import pytest

from djops.compile.rights import Rights, compile_rights
from djops.model.roles import Capability
from djops.systems.resources import load_roles
from tests.support.projects import DEMO, TODAY, pipeline, project

LADDER = {"viewer": "read", "analyst": "read insert jobs", "operator": "read insert delete jobs"}


def rights(*grants: dict[str, object], development: tuple[str, ...] = ()) -> Rights:
    return compile_rights(project({"alice": grants}, development), pipeline(DEMO), load_roles(), TODAY)


def reached(found: Rights) -> dict[str, set[str]]:
    cells: dict[str, set[str]] = {}
    for right in found.rights:
        cells.setdefault(right.schema, set()).add(str(right.capability))
    return cells


@pytest.mark.parametrize("role", LADDER)
def test_a_role_on_ephys_reads_all_the_way_up_and_nothing_beside(role: str) -> None:
    own = set(LADDER[role].split())
    assert reached(rights({"role": role, "on": "ephys"})) == {
        "ephys": own,
        "session": {"read"},
        "subject": {"read"},
    }


def test_a_role_at_the_end_reads_everything_it_comes_from() -> None:
    assert reached(rights({"role": "viewer", "on": "analysis"})) == {schema: {"read"} for schema in DEMO}


def test_a_cascade_reaches_all_the_way_down_and_nothing_beside() -> None:
    found = reached(rights({"role": "operator", "on": "session", "cascade": True}))
    below = {"read", "delete"}
    own = set(LADDER["operator"].split())
    assert found == {"subject": {"read"}, "session": own, "ephys": below, "imaging": below, "analysis": below}


def test_a_viewer_asks_for_no_cascade() -> None:
    assert reached(rights({"role": "viewer", "on": "session", "cascade": True})) == {
        "session": {"read"},
        "subject": {"read"},
    }


def test_a_developer_may_point_at_what_is_upstream() -> None:
    found = reached(rights({"role": "developer", "on": "imaging"}, development=("imaging",)))
    assert found["session"] == found["subject"] == {"read", "reference"}
    assert found["imaging"] >= {"declare", "alter", "drop", "update"}
    assert "analysis" not in found


def test_an_admin_reaches_everything_but_accounts() -> None:
    found = reached(rights({"role": "admin", "on": "all"}))
    assert set(found) == set(DEMO)
    assert all("grant" in may and "collect" not in may for may in found.values())


def test_every_right_says_why() -> None:
    found = rights({"role": "viewer", "on": "imaging"}, {"role": "analyst", "on": "ephys"})
    texts = {str(right.because) for right in found.by_cell["alice", "session", Capability.READ]}
    assert texts == {
        "people.alice.grants[0]: viewer on imaging, upstream of imaging",
        "people.alice.grants[1]: analyst on ephys, upstream of ephys",
    }
