"""The project file and the source, read together and checked against each other."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from djops.errors import ConfigError, DjopsError, ManyErrors, PipelineError, UsageError
from djops.model.editing import Append, Edit, add_grant, add_principal, remove_grant
from djops.model.graph import PipelineGraph, TableName
from djops.model.project import Grant
from djops.services import project
from djops.services.project import Loaded
from tests.support.repository import EPHYS, HEAD, SESSION, repository

TODAY = dt.date(2026, 6, 1)
PEOPLE = "people:\n  alice:\n    grants:\n      - {role: viewer, on: ephys}  # hers\n"


def failure(file: Path) -> list[DjopsError]:
    with pytest.raises(DjopsError) as caught:
        project.load(file, TODAY)
    return list(caught.value.flatten())


def test_a_right_project_loads(tmp_path: Path) -> None:
    loaded = project.load(repository(tmp_path, PEOPLE), TODAY)
    assert loaded.graph.order == ("session", "ephys")
    assert loaded.findings == ()
    assert loaded.stage("ephys") == "production"
    assert loaded.places[TableName("ephys", "_recording")].endswith("src/pipe/ephys.py:6")
    assert project.counts(loaded) == {
        "schemas": 2, "tables": 2, "stores": 1, "people": 1, "services": 0, "grants": 1,
    }  # fmt: skip


def test_the_shipped_example_is_right_without_any_remark() -> None:
    shipped = Path(project.__file__).parent.parent / "demo_pipeline" / "djops.yaml"
    assert project.load(shipped, TODAY).findings == ()


def test_file_and_code_are_judged_at_once(tmp_path: Path) -> None:
    yaml = (
        "schemas:\n  ephis: {}\n  old: {module: pipe.sesion}\npeople:\n  root: {grants: [{role: x, on: y}]}\n"
    )
    found = failure(repository(tmp_path, yaml))
    assert [error.code for error in found] == [
        "E_UNKNOWN_MODULE",
        "E_UNKNOWN_SCHEMA",
        "E_RESERVED_NAME",
        "E_UNKNOWN_ROLE",
        "E_UNKNOWN_SCHEMA",
    ]
    assert all(error.where and error.hint for error in found)


def test_a_pipeline_that_does_not_parse(tmp_path: Path) -> None:
    found = failure(repository(tmp_path, modules={"ephys": EPHYS, "session": "def f(:\n"}))
    assert [(error.code, str(error.where).endswith("session.py:1")) for error in found] == [
        ("E_SYNTAX", True)
    ]


def test_a_cycle_names_its_path_and_its_places(tmp_path: Path) -> None:
    below = SESSION.replace("session : int32", "-> Recording").replace(
        "import datajoint as dj", "import datajoint as dj\nfrom .ephys import Recording"
    )
    [error] = failure(repository(tmp_path, modules={"session": below, "ephys": EPHYS}))
    assert isinstance(error, PipelineError)
    assert error.code == "E_CYCLE"
    assert "ephys -> session -> ephys" in error.message or "session -> ephys -> session" in error.message
    assert "ephys.py:6" in str(error.hint) and "session.py:6" in str(error.hint)


def test_a_cycle_that_the_file_closes(tmp_path: Path) -> None:
    [error] = failure(repository(tmp_path, "schemas: {session: {upstream: ephys}}\n"))
    assert error.code == "E_CYCLE"
    assert "session is upstream of ephys" in str(error.hint) or "imports" in str(error.hint)


def test_the_servers_own_schemas_are_refused(tmp_path: Path) -> None:
    [error] = failure(repository(tmp_path, modules={"m": SESSION.replace('"session"', '"mysql"')}))
    assert error.code == "E_RESERVED_NAME"


def test_names_that_the_code_computes_come_from_the_file(tmp_path: Path) -> None:
    modules = {"session": SESSION.replace('"session"', "PREFIX + 's'"), "ephys": EPHYS}
    found = project.load(repository(tmp_path / "a", modules=modules), TODAY).findings
    assert [one.code for one in found] == ["W_UNREAD_SCHEMA", "W_BAD_REFERENCE"]
    yaml = "schemas:\n  lab_s: {module: session}\n  old: {code: false, stage: development}\n"
    loaded = project.load(repository(tmp_path / "b", yaml, modules=modules), TODAY)
    assert loaded.findings == ()
    assert loaded.graph.schemas == {"lab_s", "ephys", "old"}
    assert loaded.graph.parents["ephys"] == {"lab_s"}
    assert loaded.graph.modules["lab_s"] == "pipe.session"


def test_findings_about_stores_and_neighbours(tmp_path: Path) -> None:
    ephys = EPHYS.replace("<blob@main>", "<blob@mian>").replace(
        "schema =", "lab = dj.virtual_schema('shared')\nschema ="
    )
    ephys = ephys.replace("---", "-> lab.User\n    ---")
    twin = SESSION.replace('"session"', '"Session"')
    modules = {"session": SESSION, "ephys": ephys, "twin": twin}
    loaded = project.load(repository(tmp_path, PEOPLE, modules=modules), TODAY)
    told = {one.code: one for one in loaded.findings}
    assert set(told) == {"W_UNKNOWN_STORE", "W_OUTSIDE", "W_CASE"}
    assert "did you mean 'main'?" in str(told["W_UNKNOWN_STORE"].hint)
    assert str(told["W_UNKNOWN_STORE"].where).endswith("ephys.py:12")
    assert "shared" not in loaded.graph.parents


def test_around_a_schema(tmp_path: Path) -> None:
    loaded = project.load(repository(tmp_path), TODAY)
    assert project.around(loaded, None) == {"session", "ephys"}
    assert project.around(loaded, "pipe.session") == {"session", "ephys"}
    with pytest.raises(UsageError, match="session"):
        project.around(loaded, "sesion")


def test_code_and_database_are_compared(tmp_path: Path) -> None:
    loaded = project.load(repository(tmp_path), TODAY)
    [finding] = project.compare(loaded, PipelineGraph(schemas=frozenset({"session", "ephys"})))[1:]
    assert "session.session" in finding.message
    assert str(finding.where).endswith("session.py:5")


# -- edits -------------------------------------------------------------------------------------------


def grant(name: str, role: str, *on: str) -> Edit:
    return Append(("people", name, "grants"), {"role": role, "on": list(on)})


def test_an_edit_is_checked_and_written(tmp_path: Path) -> None:
    file = repository(tmp_path, PEOPLE)

    def decide(loaded: Loaded) -> list[Edit]:
        return add_grant(loaded.project, "alice", Grant(role="viewer", on=("session",)))

    edited = project.edit(file, decide, TODAY)
    assert edited.changed
    assert file.read_text() == edited.before
    project.save(edited, file)
    assert file.read_text() == (HEAD + PEOPLE).replace("on: ephys}", "on: [ephys, session]}")
    assert edited.loaded.project.people["alice"].grants[0].on == ("ephys", "session")
    again = project.edit(file, decide, TODAY)
    assert not again.changed
    project.save(again, file)


def test_an_edit_that_would_be_wrong_changes_nothing(tmp_path: Path) -> None:
    file = repository(tmp_path, PEOPLE)
    with pytest.raises(ManyErrors) as caught:
        project.edit(file, lambda _: [grant("alice", "viewr", "ephis")], TODAY)
    found = caught.value.flatten()
    assert [(error.code, error.where) for error in found] == [
        ("E_UNKNOWN_ROLE", None),
        ("E_UNKNOWN_SCHEMA", None),
    ]
    assert all(isinstance(error, UsageError) for error in found)
    with pytest.raises(UsageError, match="not in development: ephys"):
        project.edit(file, lambda _: [grant("alice", "developer", "ephys")], TODAY)
    with pytest.raises(UsageError, match="a letter first"):
        project.edit(file, lambda one: add_principal(one.project, "people", "a b"), TODAY)
    assert file.read_text() == HEAD + PEOPLE


def test_a_file_that_is_wrong_already_is_not_edited(tmp_path: Path) -> None:
    file = repository(tmp_path, PEOPLE.replace("viewer", "viewr"))
    with pytest.raises(ConfigError) as caught:
        project.edit(file, lambda _: [grant("alice", "viewer", "session")], TODAY)
    assert caught.value.where is not None


def test_somebody_elses_change_meanwhile_is_kept(tmp_path: Path) -> None:
    file = repository(tmp_path, PEOPLE)
    edited = project.edit(
        file, lambda one: remove_grant(one.project, "alice", "viewer", ["ephys"], one.graph.schemas), TODAY
    )
    file.write_text(file.read_text() + "# theirs\n")
    with pytest.raises(ConfigError) as caught:
        project.save(edited, file)
    assert caught.value.code == "E_CHANGED"
    assert "# theirs" in file.read_text()
