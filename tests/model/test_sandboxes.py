"""Sandboxes: who has one, who gets in by the model, and which names would make a pattern say too much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from djops.compile.rights import compile_rights
from djops.model.checking import check, reserved_schema
from djops.model.project import Project
from djops.model.roles import Capability, Role
from djops.systems.resources import load_roles
from tests.support.projects import TODAY, pipeline, project

DEVELOPER = [{"role": "developer", "on": "imaging"}]
GRAPH = pipeline({"session": [], "imaging": ["session"]})


def with_sandboxes(
    people: Mapping[str, Sequence[Mapping[str, Any]]], prefix: str = "dev_", **rest: Any
) -> Project:
    data = project(people, ["imaging"]).model_dump(exclude_unset=True)
    data |= {"sandboxes": {"prefix": prefix, **rest}}
    return Project.model_validate(data)


def held(wanted: Project, who: str, sandbox: str) -> frozenset[Capability]:
    roles = load_roles().with_custom(wanted.roles)
    return compile_rights(wanted, GRAPH, roles, TODAY).capabilities(who, sandbox)


def test_the_owner_has_everything_admins_nearly_and_others_nothing() -> None:
    wanted = with_sandboxes(
        {
            "alice": DEVELOPER,
            "dora": DEVELOPER,
            "bob": [{"role": "viewer", "on": "all"}, {"role": "operator", "on": ["*_*", "dev_*"]}],
            "gail": [{"role": "viewer", "on": "dev_alice_*"}],
            "anna": [{"role": "analyst", "on": "dev_alice_*"}],
            "erin": [{"role": "admin", "on": "all"}],
        }
    )
    assert wanted.owned == {"alice": "dev_alice_*", "dora": "dev_dora_*"}
    owner = load_roles().sandbox.target
    assert held(wanted, "alice", "dev_alice_*") == owner
    assert held(wanted, "alice", "dev_dora_*") == frozenset()
    assert held(wanted, "bob", "dev_alice_*") == frozenset()
    assert held(wanted, "gail", "dev_alice_*") == {Capability.READ}
    assert held(wanted, "gail", "dev_dora_*") == frozenset()
    # Such a grant is refused; if it came through all the same, it would not write.
    assert held(wanted, "anna", "dev_alice_*") == {Capability.READ}
    assert held(wanted, "erin", "dev_alice_*") == owner - {Capability.COLLECT} | {Capability.GRANT}


def test_a_sandbox_ends_with_the_grant_that_brings_it() -> None:
    wanted = with_sandboxes({"alice": [{**DEVELOPER[0], "until": "2030-01-14"}]})
    assert held(wanted, "alice", "dev_alice_*") == frozenset()
    lasting = with_sandboxes({"alice": [{**DEVELOPER[0], "until": "2030-01-15"}]})
    assert held(lasting, "alice", "dev_alice_*")


def test_services_have_none() -> None:
    data = with_sandboxes({}, roles=["viewer"]).model_dump()
    data |= {"services": {"web": {"grants": [{"role": "viewer", "on": "session"}]}}}
    assert Project.model_validate(data).owned == {}


REFUSED: dict[str, tuple[Project, str]] = {
    "a name that begins like another": (
        with_sandboxes({"alice": DEVELOPER, "alice_b": DEVELOPER}),
        "the sandbox of 'alice' would open 'alice_b'",
    ),
    "one that does so but for case": (
        with_sandboxes({"Al": DEVELOPER, "al_b": DEVELOPER}),
        "the sandbox of 'Al' would open 'al_b'",
    ),
    "a schema of the pipeline in a sandbox": (
        with_sandboxes({"alice": DEVELOPER}, prefix="lab_"),
        "the schema 'lab_alice_old' lies in the sandbox",
    ),
    "a prefix of djops": (
        with_sandboxes({"smoke": DEVELOPER}, prefix="djops_"),
        "among the schemas of djops",
    ),
    "a name too long": (with_sandboxes({"a_" * 16: DEVELOPER}, prefix="sandbox_____"), "too long"),
    "a role there is none of": (with_sandboxes({}, roles=["developper"]), "there is no role 'developper'"),
    "a role of services": (with_sandboxes({}, roles=["worker"]), "worker is a role of services"),
    "writing in somebody's sandbox": (
        with_sandboxes({"alice": DEVELOPER, "bob": [{"role": "analyst", "on": "dev_alice_*"}]}),
        "analyst is not given on a sandbox",
    ),
    "a sandbox that nobody has": (
        with_sandboxes({"bob": [{"role": "viewer", "on": "dev_bob_*"}]}),
        "no schema matches 'dev_bob_*'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_open_or_hide_something_is_refused(case: str) -> None:
    wanted, message = REFUSED[case]
    schemas = {"session", "imaging", "lab_alice_old"}
    (error,) = check(wanted, schemas, load_roles(), today=TODAY)
    assert message in error.message
    assert error.hint


def test_neighbours_are_no_conflict() -> None:
    wanted = with_sandboxes(
        {"alice": DEVELOPER, "alice_b": [{"role": "viewer", "on": "imaging"}], "ali": DEVELOPER}
    )
    assert check(wanted, {"session", "imaging", "dev_ephys", "dev_alice"}, load_roles(), today=TODAY) == []


def test_no_schema_may_be_called_like_a_sandbox() -> None:
    assert reserved_schema("dev_alice_*")


@pytest.mark.parametrize("place", ["upstream", "downstream", "cascade"])
def test_roles_are_passed_on_for_their_own_schema_only(place: str) -> None:
    with pytest.raises(ValueError, match="grant is for `target` only"):
        Role.model_validate({"target": ["read"], place: ["read", "grant"]})


@pytest.mark.parametrize("role", [{"target": ["grant"], "upstream": ["read"]}, {"target": ["read", "grant"]}])
def test_who_reads_less_than_a_viewer_could_pass_on_nothing(role: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="grant passes nothing on without read"):
        Role.model_validate(role)
