"""The MySQL differences: they lead to what is wanted, narrowing first, and can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djops.compile.mysql_state import Account, AccountId, Edge, Held, Kind, MysqlState, Routine, Scope
from djops.errors import NotManagedError
from djops.model.graph import PipelineGraph
from djops.plan.change import Change, in_order
from djops.plan.mysql import Reasons, diff_mysql
from djops.plan.mysql_changes import (
    DropAccount,
    EndSessions,
    RevokeAll,
    RevokePrivileges,
    SetDefaultRoles,
    SetPassword,
)
from djops.plan.operations import Sql
from djops.plan.schedule import schedule
from tests.support.mysql_meaning import Meaning, Server
from tests.support.projects import DEMO, compiled, peoples, pipeline, pipelines, project

NAMES = ("alice", "bob", "carol", "dan")
REASONS = Reasons(secret_of={name: f"lab/people/{name}" for name in NAMES})


def _may_revoke(scope: Scope) -> bool:
    return scope.pattern not in ("*", "ephy_")


def differences(wanted: MysqlState, found: MysqlState) -> tuple[Change, ...]:
    return in_order(diff_mysql("lab", wanted, found, REASONS, lambda _: True, _may_revoke))


def cells(state: MysqlState, graph: PipelineGraph) -> set[tuple[str, str, str, str]]:
    meaning = Meaning(state)
    return {
        (who, privilege, table.schema, table.table)
        for who in NAMES
        if AccountId(who) in state.accounts
        for table in graph.tables
        for privilege in meaning.privileges(AccountId(who), table.schema, table.table)
    }


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(data=st.data(), graph=pipelines())
def test_changes_lead_from_any_project_to_any_other_without_ever_widening_more(
    data: st.DataObject, graph: PipelineGraph
) -> None:
    before = compiled(data.draw(peoples(graph)), graph)[1]
    after = compiled(data.draw(peoples(graph)), graph)[1]
    changes = differences(after, before)
    server = Server(before)
    most = cells(before, graph) | cells(after, graph)
    for change in changes:
        server.run_one(change)
        assert cells(server.state(), graph) <= most, change.describe()
    assert differences(after, server.state()) == ()
    assert cells(server.state(), graph) == cells(after, graph)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(data=st.data(), graph=pipelines())
def test_stopping_anywhere_and_planning_again_ends_in_the_same_place(
    data: st.DataObject, graph: PipelineGraph
) -> None:
    before = compiled(data.draw(peoples(graph)), graph)[1]
    after = compiled(data.draw(peoples(graph)), graph)[1]
    changes = differences(after, before)
    server = Server(before)
    server.run(changes[: data.draw(st.integers(0, len(changes)))])
    server.run(differences(after, server.state()))
    assert differences(after, server.state()) == ()


def test_a_lease_goes_before_its_service() -> None:
    kinds: dict[str, Kind] = {"batcher": "service", "v-batcher-x": "lease", "zoe": "person"}
    found = MysqlState({AccountId(name): Account(kind, "lab") for name, kind in kinds.items()})
    dropped = [one.name.user for one in differences(MysqlState(), found) if isinstance(one, DropAccount)]
    assert dropped == ["v-batcher-x", "batcher", "zoe"]


@settings(max_examples=25, deadline=None)
@given(data=st.data(), graph=pipelines())
def test_changes_taken_back_in_reverse_order_restore_what_was(
    data: st.DataObject, graph: PipelineGraph
) -> None:
    after = compiled(data.draw(peoples(graph)), graph)[1]
    changes = differences(after, MysqlState())
    server = Server(MysqlState())
    server.run(changes)
    server.run(change.reverse() for change in reversed(changes) if not isinstance(change, SetDefaultRoles))
    assert server.state() == MysqlState()


def demo(grants: Sequence[dict[str, str]] = ({"role": "analyst", "on": "ephys"},)) -> MysqlState:
    return compiled(project({"alice": grants}), pipeline(DEMO))[1]


ALICE = AccountId("alice")
STRANGER = AccountId("stranger")
DRIFTS: dict[str, Callable[[Server], object]] = {
    "a direct grant": lambda s: s.privileges.update({Held(ALICE, Scope("session")): {"SELECT"}}),
    "a column grant": lambda s: s.privileges.update(
        {Held(ALICE, Scope("session", "manual", "x")): {"UPDATE"}}
    ),
    "a global grant": lambda s: s.privileges.update({Held(ALICE, Scope("*")): {"FILE"}}),
    "a grant option": lambda s: s.privileges[Held(AccountId("ephys:viewer"), Scope("ephys"))].add(
        "GRANT OPTION"
    ),
    "a missing grant": lambda s: s.privileges.pop(Held(AccountId("ephys:viewer"), Scope("ephys"))),
    "an unescaped twin": lambda s: s.privileges.update(
        {Held(AccountId("ephys:viewer"), Scope("ephy_")): {"SELECT"}}
    ),
    "a foreign role": lambda s: (
        s.accounts.update({STRANGER: Account(None, None)}),
        s.edges.update({Edge(STRANGER, ALICE): False}),
    ),
    "a role given to a stranger": lambda s: (
        s.accounts.update({STRANGER: Account(None, None)}),
        s.edges.update({Edge(AccountId("ephys:viewer"), STRANGER): False}),
    ),
    "a role that may be passed on": lambda s: s.edges.update({Edge(AccountId("ephys:analyst"), ALICE): True}),
    "no default role": lambda s: s.defaults.clear(),
    "no TLS": lambda s: s.accounts.update({ALICE: Account("person", "lab", require_tls=False)}),
    "an unlocked role": lambda s: s.accounts.update(
        {AccountId("ephys:viewer"): Account("role", "lab", locked=False)}
    ),
    "a locked person": lambda s: s.accounts.update({ALICE: Account("person", "lab", locked=True)}),
    "a leftover account": lambda s: s.accounts.update({AccountId("bob"): Account("person", "lab")}),
    "another authentication": lambda s: s.accounts.update(
        {ALICE: Account("person", "lab", plugin="sha256_password")}
    ),
}


@pytest.mark.parametrize("kind", DRIFTS)
def test_what_somebody_changed_by_hand_is_found_and_mended(kind: str) -> None:
    wanted = demo()
    server = Server(wanted)
    DRIFTS[kind](server)
    changes = differences(wanted, server.state())
    assert changes, kind
    if kind != "another authentication":
        server.run(changes)
        assert differences(wanted, server.state()) == ()


BEYOND: dict[str, Callable[[Server], object]] = {
    "the server": lambda s: s.privileges.update({Held(ALICE, Scope("*")): {"SELECT"}}),
    "a pattern": lambda s: s.privileges.update({Held(ALICE, Scope("ephy_")): {"SELECT"}}),
    "what djops does not have": lambda s: s.privileges.update({Held(ALICE, Scope("ephys")): {"TRIGGER"}}),
    "a stored routine": lambda s: s.routines.update(
        {Routine(ALICE, "ephys", "p", "PROCEDURE"): frozenset({"EXECUTE"})}
    ),
}


@pytest.mark.parametrize("kind", BEYOND)
def test_what_cannot_be_revoked_singly_goes_all_at_once_and_nothing_else_does(kind: str) -> None:
    server = Server(demo())
    BEYOND[kind](server)
    changes = differences(demo(), server.state())
    assert {type(change) for change in changes} == {RevokeAll, EndSessions}
    server.run(changes)
    assert server.state() == demo()


def test_who_loses_rows_that_hide_each_other_loses_them_in_one_statement() -> None:
    """Which row hides the other hangs on the session, so that no order of two statements is safe."""
    server, role = Server(demo()), AccountId("ephys:viewer")
    server.privileges[Held(role, Scope("ephys"))].add("DELETE")
    server.privileges[Held(ALICE, Scope("ephy_"))] = {"SELECT"}  # djops cannot revoke this one singly
    server.privileges[Held(AccountId("session:viewer"), Scope("session"))].add("INSERT")
    changes = differences(demo(), server.state())
    taken = [change for change in changes if isinstance(change, RevokePrivileges | RevokeAll)]
    assert [(change.grantee, getattr(change, "scope", None)) for change in taken] == [
        (AccountId("session:viewer"), Scope("session")),
        (ALICE, None),
        (role, None),
    ]
    assert sum("REVOKE" in str(piece.operation) for piece in schedule(taken)) == 2


def test_what_hides_nothing_of_anybody_together_goes_singly() -> None:
    server, nobodys = Server(demo()), AccountId("bob")
    server.accounts[nobodys] = Account("person", "lab")
    server.privileges[Held(nobodys, Scope("ephy_"))] = {"SELECT"}
    server.privileges[Held(AccountId("ephys:viewer"), Scope("ephys"))].add("DELETE")
    changes = differences(demo(), server.state())
    assert [type(one) for one in changes if isinstance(one, RevokePrivileges | RevokeAll)] == [
        RevokePrivileges
    ]


def test_somebody_elses_account_is_never_taken_over() -> None:
    found = MysqlState(accounts={ALICE: Account(None, None)})
    with pytest.raises(NotManagedError) as caught:
        differences(demo(), found)
    assert "alice" in caught.value.message


def test_sessions_of_everybody_who_loses_something_are_ended() -> None:
    changes = differences(demo([]), demo())
    ended = [change for change in changes if isinstance(change, EndSessions)]
    assert [change.members for change in ended] == [(ALICE,)]
    assert not any(isinstance(change, EndSessions) for change in differences(demo(), demo([])))


def test_a_password_nobody_keeps_is_replaced() -> None:
    changes = diff_mysql("lab", demo(), demo(), REASONS, lambda _: False, _may_revoke)
    assert [type(change) for change in changes] == [SetPassword]


def test_no_secret_stands_in_a_plan() -> None:
    for change in differences(demo(), MysqlState()):
        for operation in change.operations():
            if isinstance(operation, Sql) and "IDENTIFIED" in str(operation):
                assert "'<secret lab/people/alice#database.password>'" in str(operation)
