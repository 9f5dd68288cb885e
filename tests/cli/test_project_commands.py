"""``djops init``, ``validate``, ``graph`` and ``config schema`` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from djops.model.loading import project_json_schema
from tests.support.cli import invoke
from tests.support.repository import EPHYS, SESSION, repository

BARE = EPHYS.replace("<blob@main>", "<blob@>")


def test_validate(tmp_path: Path) -> None:
    repository(tmp_path)
    run = invoke("validate", "-C", tmp_path)
    assert run.status == 0
    assert run.stdout.endswith(
        "djops.yaml is right: 2 schemas, 2 tables, 1 store, 0 people, 0 services, 0 grants\n"
    )
    assert invoke("validate", "-C", tmp_path, "--json").answer["data"]["counts"]["tables"] == 2


def test_validate_with_warnings(tmp_path: Path) -> None:
    repository(tmp_path, modules={"session": SESSION, "ephys": BARE})
    run = invoke("validate", "-C", tmp_path, "--json")
    assert run.status == 2
    assert run.answer["status"] == "findings"
    assert [one["code"] for one in run.answer["data"]["findings"]] == ["W_BARE_CODEC"]
    strict = invoke("validate", "-C", tmp_path, "--strict", "--json")
    assert strict.status == 1
    assert [one["code"] for one in strict.answer["errors"]] == ["W_BARE_CODEC"]


def test_validate_tells_every_error(tmp_path: Path) -> None:
    repository(tmp_path, "peple: {}\nservices: {w: {grants: [{rol: x}]}}\n")
    run = invoke("validate", "-C", tmp_path)
    assert run.status == 1
    assert run.stderr.count("error [E_") == 4
    assert "djops.yaml:7: unknown key 'peple'" in run.stderr
    assert "-> did you mean 'people'?" in run.stderr
    assert "Traceback" not in run.stderr


def test_graph(tmp_path: Path) -> None:
    repository(tmp_path)
    lines = invoke("graph", "-C", tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["schema", "session", "ephys"]
    assert "_recording" in invoke("graph", "-C", tmp_path, "--tables").stdout
    assert invoke("graph", "-C", tmp_path, "--mermaid").stdout.startswith("flowchart TD\n")
    data = invoke("graph", "ephys", "-C", tmp_path, "--json", "--mermaid").answer["data"]
    assert data["order"] == ["session", "ephys"]
    assert data["mermaid"].startswith("flowchart")
    assert data["findings"] == []
    assert invoke("graph", "ephis", "-C", tmp_path).status == 1


def test_graph_shows_what_cannot_be_read(tmp_path: Path) -> None:
    repository(tmp_path, modules={"session": SESSION, "ephys": BARE})
    run = invoke("graph", "-C", tmp_path)
    assert run.status == 2
    assert "W_BARE_CODEC" in run.stderr
    assert "W_BARE_CODEC" not in run.stdout


def test_config_schema() -> None:
    assert json.loads(invoke("config", "schema").stdout) == project_json_schema()
    assert invoke("config", "schema", "--json").answer["data"]["schema"] == project_json_schema()
    assert invoke("config", "shema").status == 1


def test_init_then_validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path).unlink()
    monkeypatch.chdir(tmp_path)
    run = invoke("init")
    assert run.status == 0
    assert run.stdout.startswith("wrote djops.yaml: project ")
    assert invoke("validate").status == 0
    again = invoke("init", "--json")
    assert again.status == 1
    assert again.answer["errors"][0]["code"] == "E_EXISTS"
    assert (
        invoke("init", ".", "--force", "--name", "other_lab", "--json").answer["data"]["project"]
        == "other_lab"
    )
