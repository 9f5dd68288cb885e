"""What a change of somebody's rights does to the list of grants."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

import pytest

from djops.errors import UsageError
from djops.model.editing import add_grant, add_principal, remove_grant, section_of
from djops.model.leaving import removal
from djops.model.project import Grant, Project
from djops.systems.projectedit import _apply as apply

SCHEMAS = frozenset({"ephys", "imaging", "dev_a", "dev_b"})
DAY = dt.date(2027, 1, 31)


def project(*grants: dict[str, Any]) -> Project:
    return Project.model_validate(
        {
            "version": 1,
            "project": "p",
            "pipeline": {"package": "q"},
            "environments": {"local": {"target": "local"}},
            "people": {"alice": {"grants": list(grants)}},
            "services": {"worker": {}},
        }
    )


def after(before: list[dict[str, Any]], edits: list[Any]) -> list[dict[str, Any]]:
    data: dict[str, Any] = {"people": {"alice": {"grants": copy.deepcopy(before)}}}
    for edit in edits:
        apply(data, edit)
    found: list[dict[str, Any]] = data["people"]["alice"]["grants"]
    return found


def g(role: str, *on: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "on": on[0] if len(on) == 1 else list(on), **more}


@pytest.mark.parametrize(
    ("before", "asked", "result"),
    [
        ([], g("viewer", "ephys"), [g("viewer", "ephys")]),
        ([], g("viewer", "b", "a", "b", until=DAY), [g("viewer", "b", "a", until=DAY)]),
        ([g("viewer", "ephys")], g("viewer", "ephys"), [g("viewer", "ephys")]),
        ([g("viewer", "ephys")], g("viewer", "imaging"), [g("viewer", "ephys", "imaging")]),
        ([g("viewer", "a", "b")], g("viewer", "b", "c"), [g("viewer", "a", "b", "c")]),
        ([g("viewer", "ephys")], g("analyst", "ephys"), [g("viewer", "ephys"), g("analyst", "ephys")]),
        # The end is what was asked for last; the reason stays unless given anew.
        ([g("viewer", "a", until=DAY, reason="r")], g("viewer", "a"), [g("viewer", "a", reason="r")]),
        ([g("viewer", "a")], g("viewer", "a", until=DAY), [g("viewer", "a", until=DAY)]),
        ([g("viewer", "a", reason="r")], g("viewer", "a", reason="s"), [g("viewer", "a", reason="s")]),
        ([g("operator", "a", cascade=True)], g("operator", "a"), [g("operator", "a", cascade=True)]),
        # A name moves to a grant of its own when its end differs.
        (
            [g("viewer", "a", "b", until=DAY)],
            g("viewer", "a"),
            [{"role": "viewer", "on": ["b"], "until": DAY}, g("viewer", "a")],
        ),
        (
            [g("viewer", "a", until=DAY), g("viewer", "b")],
            g("viewer", "a", "b", until=dt.date(2028, 1, 1)),
            [g("viewer", "a", "b", until=dt.date(2028, 1, 1))],
        ),
        (
            [g("operator", "a", cascade=True)],
            g("operator", "a", "b"),
            [g("operator", "a", "b", cascade=True)],
        ),
    ],
)
def test_grants_merge(
    before: list[dict[str, Any]], asked: dict[str, Any], result: list[dict[str, Any]]
) -> None:
    edits = add_grant(project(*before), "alice", Grant.model_validate(asked))
    found = after(before, edits)
    assert found == result
    assert edits == [] or before != result
    assert add_grant(project(*found), "alice", Grant.model_validate(asked)) == []


@pytest.mark.parametrize(
    ("before", "role", "on", "result"),
    [
        ([g("viewer", "ephys")], "viewer", ["ephys"], []),
        ([g("viewer", "ephys", "imaging")], "viewer", ["ephys"], [{"role": "viewer", "on": ["imaging"]}]),
        ([g("viewer", "a"), g("analyst", "a"), g("viewer", "b")], "viewer", ["all"], [g("analyst", "a")]),
        ([g("viewer", "all"), g("viewer", "b")], "viewer", ["all"], []),
        ([g("viewer", "dev_a", "dev_b", "x")], "viewer", ["dev_*"], [{"role": "viewer", "on": ["x"]}]),
        ([g("viewer", "dev_*"), g("viewer", "all")], "viewer", ["dev_*"], [g("viewer", "all")]),
        (
            [g("viewer", "a", until=DAY), g("viewer", "b", "a")],
            "viewer",
            ["a"],
            [{"role": "viewer", "on": ["b"]}],
        ),
    ],
)
def test_roles_are_taken_back(
    before: list[dict[str, Any]], role: str, on: list[str], result: list[dict[str, Any]]
) -> None:
    assert after(before, remove_grant(project(*before), "alice", role, on, SCHEMAS)) == result


@pytest.mark.parametrize(
    ("before", "on", "fragment"),
    [
        ([g("viewer", "all")], ["ephys"], "part of 'all'"),
        ([g("viewer", "dev_*")], ["dev_a"], "part of 'dev_*'"),
        ([g("analyst", "ephys")], ["ephys"], "alice has: analyst on ephys"),
        ([], ["ephys"], "alice has: nothing"),
        ([g("viewer", "ephys")], ["ephys", "imaging"], "on imaging"),
        ([], ["all"], "alice has: nothing"),
    ],
)
def test_what_was_not_given_cannot_be_taken(
    before: list[dict[str, Any]], on: list[str], fragment: str
) -> None:
    with pytest.raises(UsageError) as caught:
        remove_grant(project(*before), "alice", "viewer", on, SCHEMAS)
    assert caught.value.code == "E_NOT_GRANTED"
    assert fragment in str(caught.value)


def test_unknown_people_are_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="alice"):
        section_of(project(), "alise")
    assert section_of(project(), "worker") == "services"
    with pytest.raises(UsageError) as caught:
        add_principal(project(), "people", "worker")
    assert caught.value.code == "E_EXISTS"
    with pytest.raises(UsageError):
        removal(project(), "nobody", {})
