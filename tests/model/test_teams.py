"""Teams, groups of schemas and roles of a project's own: what they give, and what is refused."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from djops.compile.mysql_state import AccountId
from djops.compile.rights import compile_rights
from djops.errors import DjopsError
from djops.model.checking import check
from djops.model.loading import load
from djops.model.roles import Capability
from djops.systems.resources import load_roles
from tests.support.mysql_meaning import may
from tests.support.projects import DEMO, TODAY, compiled, pipeline

HEAD = """
version: 1
project: lab
pipeline: {package: pipeline}
environments: {local: {target: local}}
people: {alice: {}, bob: {}}
services: {robot: {}}
"""
GRAPH = pipeline(DEMO)


def errors_of(text: str) -> list[DjopsError]:
    project, places = load(HEAD + text, "djops.yaml")
    return check(project, GRAPH.schemas, load_roles(), places, TODAY)


def rights_of(text: str) -> Any:
    project, _ = load(HEAD + text, "djops.yaml")
    assert check(project, GRAPH.schemas, load_roles(), None, TODAY) == []
    return compile_rights(project, GRAPH, load_roles().with_custom(project.roles), TODAY)


def test_a_team_gives_its_members_its_grants_and_nobody_else() -> None:
    rights = rights_of("teams: {imaging: {members: [alice], grants: [{role: viewer, on: imaging}]}}")
    assert rights.capabilities("alice", "imaging") == {Capability.READ}
    assert rights.capabilities("bob", "imaging") == frozenset()
    assert rights.by_principal["alice"][0].because.entry == "teams.imaging.grants[0]"


def test_a_team_may_be_a_list_of_members() -> None:
    assert rights_of("teams: {imaging: [alice, bob]}").rights == ()


def test_a_group_stands_for_its_schemas() -> None:
    rights = rights_of(
        "groups: {modalities: [ephys, 'imag*']}\n"
        "teams: {all_of_us: {members: alice, grants: [{role: analyst, on: modalities}]}}"
    )
    inserted = {right.schema for right in rights.rights if right.capability is Capability.INSERT}
    assert inserted == {"ephys", "imaging"}


def test_a_role_of_the_projects_own_writes_only_its_tiers() -> None:
    project, _ = load(
        HEAD.replace("alice: {}", "alice: {grants: [{role: curator, on: session}]}")
        + "roles: {curator: {target: [read, insert, update], upstream: [read], tiers: [manual]}}",
        "djops.yaml",
    )
    _, state = compiled(project, GRAPH, load_roles().with_custom(project.roles))
    alice = AccountId("alice")
    assert may(state, alice, "UPDATE", "session", "manual")
    assert may(state, alice, "INSERT", "session", "manual__part")
    assert not may(state, alice, "INSERT", "session", "_imported")
    assert may(state, alice, "SELECT", "subject", "manual")


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("teams: {alice: [bob]}", "E_DUPLICATE", 8),
        ("teams: {imaging: [alise]}", "E_UNKNOWN_PRINCIPAL", 8),
        ("teams: {imaging: [alice, alice]}", "E_DUPLICATE", 8),
        ("teams: {imaging: [robot]}", "E_UNKNOWN_PRINCIPAL", 8),
        ("teams: {imaging: {members: [alice], grants: [{role: vewer, on: ephys}]}}", "E_UNKNOWN_ROLE", 8),
        ("groups: {ephys: [imaging]}", "E_DUPLICATE", 8),
        ("groups: {raw: [ephis]}", "E_UNKNOWN_SCHEMA", 8),
        ("roles: {viewer: {target: [read]}}", "E_DUPLICATE", 8),
    ],
)
def test_what_is_refused(text: str, code: str, line: int) -> None:
    (error,) = errors_of(text)
    assert error.code == code
    assert error.where == f"djops.yaml:{line}"


@pytest.mark.parametrize(
    ("holder", "grant", "code"),
    [
        ("people: {eve: {grants: [GRANT]}}", "{role: worker, on: ephys}", "E_HOLDER"),
        ("people: {eve: {grants: [GRANT]}}", "{role: agent, on: ephys, until: 2030-01-16}", "E_HOLDER"),
        ("services: {bot: {grants: [GRANT]}}", "{role: agent, on: ephys}", "E_UNTIL"),
        ("services: {bot: {grants: [GRANT]}}", "{role: agent, on: ephys, until: 2030-02-15}", "E_UNTIL"),
    ],
)
def test_roles_have_their_holders_and_their_time(holder: str, grant: str, code: str) -> None:
    section = holder.partition(":")[0]
    head = "\n".join(line for line in HEAD.splitlines() if not line.startswith(section))
    project, places = load(f"{head}\n{holder.replace('GRANT', grant)}", "djops.yaml")
    assert [error.code for error in check(project, GRAPH.schemas, load_roles(), places, TODAY)] == [code]


def test_an_agent_is_given_for_thirty_days() -> None:
    last = TODAY + dt.timedelta(days=30)
    text = HEAD.replace("robot: {}", f"robot: {{grants: [{{role: agent, on: ephys, until: {last}}}]}}")
    project, places = load(text, "djops.yaml")
    assert check(project, GRAPH.schemas, load_roles(), places, TODAY) == []
    _, state = compiled(project, GRAPH)
    assert state.accounts[AccountId("robot")].connections == 4
