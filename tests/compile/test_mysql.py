"""The MySQL compiler: what it renders means exactly what the rights say."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djops.compile.mysql import Inventory, compile_mysql, role_name
from djops.compile.mysql_state import AccountId, Scope
from djops.compile.rights import Rights, compile_rights
from djops.compile.sql import schema_pattern, unescape_pattern
from djops.errors import NameRefusedError
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import LINEAGE_TABLE, Tier
from djops.model.project import Sandboxes
from djops.model.roles import Capability, RoleModel
from djops.systems.resources import load_roles
from tests.support.mysql_meaning import Meaning, may, pattern_matches
from tests.support.projects import DEMO, SCHEMA_NAMES, TODAY, compiled, peoples, pipeline, pipelines, project

WRITES = {"INSERT": Capability.INSERT, "UPDATE": Capability.UPDATE, "DELETE": Capability.DELETE}


def expected(roles: RoleModel, rights: Rights, who: str, table: TableName, privilege: str) -> bool:
    """What the rights say about one privilege on one table, straight from the capabilities' meaning."""
    has = rights.capabilities(who, table.schema)
    if privilege == "SELECT":
        return Capability.READ in has
    if privilege == "REFERENCES":
        return bool(has & {Capability.REFERENCE, Capability.DECLARE})
    if privilege == "CREATE":
        return Capability.DECLARE in has
    if privilege == "ALTER":
        return Capability.ALTER in has
    if privilege == "DROP":
        return Capability.DROP in has
    if table.tier is Tier.JOB:
        return Capability.JOBS in has
    if table.tier is Tier.LINEAGE:
        return Capability.DECLARE in has or (privilege == "DELETE" and Capability.DROP in has)
    because = [right.because for right in rights.by_cell.get((who, table.schema, WRITES[privilege]), ())]
    return any(b.relation != "target" or table.family in roles.roles[b.role].tiers for b in because)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), graph=pipelines())
def test_every_cell_means_what_the_rights_say(data: st.DataObject, graph: PipelineGraph) -> None:
    wanted = data.draw(peoples(graph))
    rights, state = compiled(wanted, graph)
    meaning, roles = Meaning(state), load_roles().with_custom(wanted.roles)
    for who in rights.principals:
        for table in graph.tables:
            seen = meaning.privileges(AccountId(who), table.schema, table.table)
            for privilege in ("SELECT", "REFERENCES", "CREATE", "ALTER", "DROP", *WRITES):
                assert (privilege in seen) == expected(roles, rights, who, table, privilege), (
                    who,
                    table,
                    privilege,
                )


@settings(max_examples=60, deadline=None)
@given(data=st.data(), graph=pipelines())
def test_nothing_but_lineage_rights_of_declarers_touch_lineage(
    data: st.DataObject, graph: PipelineGraph
) -> None:
    wanted = data.draw(peoples(graph))
    _, state = compiled(wanted, graph)
    sandboxes = {schema_pattern(sandbox) for sandbox in wanted.owned.values()}
    for held, names in state.privileges.items():
        whole = not held.scope.table and held.scope.pattern not in sandboxes
        assert not (whole and names & {"INSERT", "UPDATE", "DELETE"}), "no schema-wide writing"
        if held.scope.table == LINEAGE_TABLE:
            level = held.grantee.user.rpartition(":")[2]
            role = load_roles().with_custom(wanted.roles).roles.get(level)
            may_change = {Capability.DECLARE, Capability.DROP}
            assert may_change & (role.target | role.upstream) if role else may_change & set(level.split("+"))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), graph=pipelines())
def test_no_grantee_has_two_patterns_that_match_one_schema(data: st.DataObject, graph: PipelineGraph) -> None:
    """MySQL takes the first matching row, also of different roles, and unites those of one spelling only."""
    wanted = data.draw(peoples(graph))
    _, state = compiled(wanted, graph)
    own = {f"{sandbox[:-1]}{name}" for sandbox in wanted.owned.values() for name in ("x", "_", "b_y", "*")}
    for schema in graph.schemas | own:
        matching = {
            held.scope.pattern
            for held in state.privileges
            if not held.scope.table and pattern_matches(held.scope.pattern, schema)
        }
        assert len(matching) <= 1


@given(SCHEMA_NAMES, SCHEMA_NAMES)
def test_a_pattern_means_its_own_schema_alone(schema: str, other: str) -> None:
    pattern = schema_pattern(schema)
    assert pattern_matches(pattern, schema)
    assert pattern_matches(pattern, other) == (schema == other)
    assert unescape_pattern(pattern) == schema


def test_a_sandbox_has_one_spelling_and_needs_wildcards() -> None:
    assert schema_pattern("dev_alice_*") == r"dev\_alice\_%"
    assert schema_pattern("dev_a" + "b" * 55 + "_*")[-3:] == r"\_%"
    with pytest.raises(NameRefusedError, match="partial_revokes"):
        schema_pattern("dev_alice_*", escape=False)
    with pytest.raises(NameRefusedError, match="65 characters"):
        schema_pattern("dev_a" + "b" * 56 + "_*")


def test_an_admin_passes_on_reading_in_a_sandbox_and_nothing_else() -> None:
    people = {"alice": [{"role": "developer", "on": "ephys"}], "erin": [{"role": "admin", "on": "all"}]}
    wanted = project(people, ["ephys"]).model_copy(update={"sandboxes": Sandboxes()})
    _, state = compiled(wanted, pipeline({"ephys": []}))
    passed = {edge.role.user for edge, admin in state.edges.items() if admin}
    assert {name for name in passed if name.startswith("dev_")} == {"dev_alice_*:viewer"}


def test_a_name_that_is_too_long_with_its_escapes_is_refused() -> None:
    assert schema_pattern("x" * 64) == "x" * 64
    with pytest.raises(NameRefusedError) as caught:
        schema_pattern("x" * 63 + "_")
    assert caught.value.code == "E_NAME"
    assert "65" in caught.value.message


@pytest.mark.parametrize("pattern", ["lab_ephys", "lab%", "%"])
def test_live_wildcards_mean_no_single_schema(pattern: str) -> None:
    assert unescape_pattern(pattern) is None
    assert unescape_pattern(pattern, escape=False) == pattern


@given(SCHEMA_NAMES, st.sampled_from(["viewer", "developer", "read+delete", "x" * 16]))
def test_role_names_fit_and_tell_schemas_apart(schema: str, level: str) -> None:
    name = role_name(schema, level)
    assert len(name) <= 32
    assert name.endswith(f":{level}")
    assert role_name(schema[:-1] + "\u0133", level) != name or schema.endswith("\u0133")


def test_wildcards_stay_bare_when_the_server_has_partial_revokes() -> None:
    graph = pipeline({"lab_ephys": []})
    roles = load_roles()
    wanted = project({"alice": [{"role": "viewer", "on": "lab_ephys"}]})
    rights = compile_rights(wanted, graph, roles, TODAY)
    state = compile_mysql(wanted, "%", rights, graph, roles, Inventory(graph.tables, escape=False))
    assert {held.scope for held in state.privileges} == {Scope("lab_ephys")}


def test_job_metadata_columns_may_be_updated_by_whoever_inserts() -> None:
    graph = pipeline(DEMO)
    roles = load_roles()
    wanted = project({"alice": [{"role": "analyst", "on": "ephys"}]})
    table = TableName("ephys", "__computed")
    columns = {table: ("_job_duration", "_job_start_time", "_job_version")}
    rights = compile_rights(wanted, graph, roles, TODAY)
    state = compile_mysql(wanted, "%", rights, graph, roles, Inventory(graph.tables, columns))
    alice = AccountId("alice")
    assert all(may(state, alice, "UPDATE", "ephys", table.table, column) for column in columns[table])
    assert not may(state, alice, "UPDATE", "ephys", table.table, "value")


def test_an_admin_may_pass_on_every_role_but_her_own() -> None:
    _, state = compiled(
        project({"erin": [{"role": "admin", "on": "all"}]}, development=["imaging"]), pipeline(DEMO)
    )
    passed_on = {edge.role.user for edge, admin in state.edges.items() if admin}
    assert {"imaging:developer", "ephys:viewer", "ephys:operator"} <= passed_on
    assert "ephys:developer" not in passed_on
    assert not any(name.endswith(":admin") for name in passed_on)


def test_the_tables_that_a_role_writes_do_not_keep_it_from_passing_on_reading() -> None:
    curator = {"target": ["read", "insert", "grant"], "upstream": ["read"], "tiers": ["manual"]}
    own = project({"alice": [{"role": "curator", "on": "ephys"}]}, roles={"curator": curator})
    _, state = compiled(own, pipeline(DEMO))
    passed_on = {edge.role.user for edge, admin in state.edges.items() if admin}
    assert "ephys:viewer" in passed_on
    assert "ephys:analyst" not in passed_on


def test_an_expired_grant_gives_nothing_and_the_last_day_still_counts() -> None:
    graph = pipeline(DEMO)
    for until, holds in (("2030-01-14", False), ("2030-01-15", True)):
        wanted = project({"alice": [{"role": "viewer", "on": "ephys", "until": until}]})
        rights = compile_rights(wanted, graph, load_roles(), TODAY)
        assert (Capability.READ in rights.capabilities("alice", "ephys")) is holds


SINGLE: dict[str, dict[str, str]] = {
    "read": {},
    "insert": {"data": "INSERT"},
    "update": {"data": "UPDATE"},
    "delete": {"data": "DELETE"},
    "jobs": {"job": "INSERT UPDATE DELETE"},
    "declare": {"schema": "CREATE REFERENCES", "lineage": "INSERT UPDATE DELETE CREATE"},
    "reference": {"schema": "REFERENCES"},
    "alter": {"schema": "ALTER INDEX"},
    "drop": {"schema": "DROP", "lineage": "DELETE"},
    "grant": {},
    "inbox": {},
    "collect": {},
}
"""What each capability adds to reading, by what it is granted on."""


@pytest.mark.parametrize("capability", sorted(Capability))
def test_what_each_capability_takes_in_mysql(capability: Capability) -> None:
    role = {"target": {"read", capability}, "upstream": {"read"}}
    wanted = project({"alice": [{"role": "own", "on": "ephys"}]}, roles={"own": role})
    _, state = compiled(wanted, pipeline(DEMO))
    own = AccountId("alice")
    given: dict[str, set[str]] = {}
    for table in pipeline(DEMO).tables_of("ephys"):
        kind = {Tier.JOB: "job", Tier.LINEAGE: "lineage"}.get(table.tier, "data")
        seen = set(Meaning(state).privileges(own, "ephys", table.table))
        assert given.setdefault(kind, seen) == seen, "tables of one kind are treated alike"
    schema = {"SELECT", *SINGLE[capability].get("schema", "").split()}
    for kind, seen in given.items():
        assert seen == schema | set(SINGLE[capability].get(kind, "").split()), kind
    for above in ("session", "subject"):
        assert Meaning(state).privileges(own, above, "manual") == {"SELECT"}
    assert Meaning(state).privileges(own, "imaging", "manual") == frozenset()
