"""``djops can`` from the project file alone: tiers, cascades, what a drop takes along."""

from __future__ import annotations

from typing import Any

import pytest

from djops.errors import UsageError
from djops.model.graph import PipelineGraph, TableName
from djops.services.access import Wanted
from djops.services.can import can
from tests.support.projects import TODAY, project

SESSION, NOTE = TableName("session", "session"), TableName("session", "session__note")
RECORDING, CHANNEL = TableName("ephys", "_recording"), TableName("ephys", "_recording__channel")
SPIKES, PROBE = TableName("ephys", "__spikes"), TableName("ephys", "#probe")
RESULT = TableName("analysis", "__result")
PARENTS = {NOTE: SESSION, RECORDING: SESSION, CHANNEL: RECORDING, SPIKES: CHANNEL, RESULT: SPIKES}
GRAPH = PipelineGraph(
    schemas=frozenset({"session", "ephys", "analysis"}),
    tables=frozenset({*PARENTS, *PARENTS.values(), PROBE}),
    references={child: frozenset({parent}) for child, parent in PARENTS.items()},
    modules={name: f"pipe.{name}_mod" for name in ("session", "ephys", "analysis")},
    classes={
        SESSION: "pipe.session_mod.Session",
        RECORDING: "pipe.ephys_mod.Recording",
        CHANNEL: "pipe.ephys_mod.Recording.Channel",
        SPIKES: "pipe.ephys_mod.Spikes",
    },
)


def wanted(**grants: list[dict[str, Any]]) -> Wanted:
    people = {name: lines for name, lines in grants.items() if name != "machine"}
    made = project(people, development=["ephys"])
    services = {"machine": {"grants": grants["machine"]}} if "machine" in grants else {}
    return Wanted.of(made.model_validate({**made.model_dump(), "services": services}), GRAPH, TODAY)


@pytest.mark.parametrize(
    ("role", "what", "on", "allowed"),
    [
        ("worker", "insert", "ephys.Recording", True),
        ("worker", "insert", "ephys.Recording.Channel", True),
        ("worker", "insert", "ephys.#probe", False),
        ("worker", "jobs", "ephys.Spikes", True),
        ("worker", "jobs", "ephys.~~spikes", True),
        ("worker", "jobs", "ephys.#probe", False),
        ("ingest", "insert", "ephys.Recording", False),
        ("ingest", "insert", "ephys", True),
        ("worker", "read", "session.Session", True),
        ("worker", "read", "session_mod.Session", True),
        ("worker", "read", "analysis", False),
    ],
)
def test_a_service_reaches_the_tables_of_its_tiers(role: str, what: str, on: str, allowed: bool) -> None:
    answer = can(wanted(machine=[{"role": role, "on": "ephys"}]), "machine", what, on)
    assert answer.allowed is allowed
    assert bool(answer.because)


def test_a_tier_is_named_as_the_reason() -> None:
    answer = can(wanted(machine=[{"role": "worker", "on": "ephys"}]), "machine", "insert", "ephys.#probe")
    assert answer.because[0] == (
        "as worker machine may insert computed and imported tables, and #probe is lookup"
    )


@pytest.mark.parametrize(
    ("what", "on", "command"),
    [
        ("read", "analysis", "djops grant alice viewer analysis"),
        ("insert", "ephys", "djops grant alice analyst ephys"),
        ("update", "ephys", "djops grant alice developer ephys"),
        ("update", "session", "djops grant alice developer session --force --reason WHY"),
        ("reference", "session", "djops grant alice developer ephys"),
        ("grant", "session", "djops grant alice admin all"),
        ("collect", "session", None),
    ],
)
def test_the_least_grant_is_proposed(what: str, on: str, command: str | None) -> None:
    answer = can(wanted(alice=[]), "alice", what, on)
    assert not answer.allowed
    proposed = [line for line in answer.because if line.startswith("`")]
    assert proposed == ([f"`{command}` would"] if command else [])


def test_services_are_offered_what_services_may_hold() -> None:
    answer = can(wanted(machine=[]), "machine", "collect", "ephys")
    assert answer.because[-1] == "`djops grant machine janitor ephys` would"


def test_a_delete_names_the_schemas_it_also_needs() -> None:
    operator = wanted(otto=[{"role": "operator", "on": "session"}])
    assert can(operator, "otto", "delete", "session.Session").notes == (
        "rows that others depend on cannot go: read and delete are missing on analysis, ephys",
    )
    assert can(operator, "otto", "delete", "session.session__note").notes == ()
    cascading = wanted(otto=[{"role": "operator", "on": "session", "cascade": True}])
    assert can(cascading, "otto", "delete", "session.Session").notes == ()


def test_an_update_of_a_key_reaches_others() -> None:
    developer = wanted(dave=[{"role": "developer", "on": "ephys"}])
    (note,) = can(developer, "dave", "update", "ephys.Recording").notes
    assert "rewrites the rows" in note
    assert "also in analysis, where dave may update nothing" in note
    assert can(developer, "dave", "update", "ephys.#probe").notes == ()


def test_a_drop_says_what_goes_first() -> None:
    developer = wanted(dave=[{"role": "developer", "on": "ephys"}])
    allowed = can(developer, "dave", "drop", "ephys.Recording")
    assert allowed.allowed
    assert "leaves first: analysis.__result, ephys.Spikes, ephys.Recording.Channel" in allowed.notes[0]
    assert "fails at analysis" in allowed.notes[1]
    denied = can(developer, "dave", "drop", "session.Session")
    assert not denied.allowed
    assert (
        "would drop ephys.Spikes, ephys.Recording, ephys.Recording.Channel before it is refused"
        in (denied.notes[0])
    )


@pytest.mark.parametrize(
    ("who", "what", "on", "hint"),
    [
        ("alic", "read", "ephys", "'alice'"),
        ("alice", "raed", "ephys", "'read'"),
        ("alice", "read", "ephis", "'ephys'"),
        ("alice", "read", "ephys.Recordin", "'Recording'"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(who: str, what: str, on: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        can(wanted(alice=[]), who, what, on)
    assert caught.value.code == "E_UNKNOWN"
    assert hint in (caught.value.hint or "")
