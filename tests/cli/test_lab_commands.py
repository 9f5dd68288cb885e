"""``up``, ``status`` and ``down`` as a user types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from djops.systems.local import labfile
from djops.systems.paths import lab_directory
from tests.conftest import LabUnderTest
from tests.support.cli import Run, djops, invoke

SERVER_KEYS = {"name", "title", "healthy", "running", "endpoint", "version", "problem", "log"}


@pytest.fixture
def unborn(tmp_path: Path) -> Path:
    """A project whose lab was never brought up."""
    (tmp_path / "src" / "p").mkdir(parents=True)
    (tmp_path / "djops.yaml").write_text(
        "version: 1\nproject: unborn\npipeline: {package: p}\nenvironments:\n  local: {target: local}\n"
    )
    return tmp_path


def only_error(run: Run) -> dict[str, object]:
    (error,) = run.answer["errors"]
    assert isinstance(error, dict)
    return error


def test_status_of_a_lab_that_is_up(lab: LabUnderTest) -> None:
    run = djops("status", "--json", cwd=lab.repository)
    assert (run.status, run.answer["status"]) == (0, "ok")
    servers = run.answer["data"]["servers"]
    assert [server["name"] for server in servers] == ["mysql", "s3", "secrets"]
    for server in servers:
        assert set(server) == SERVER_KEYS
        assert server["healthy"] is True
        assert server["endpoint"]
        assert server["version"]


def test_status_as_text(lab: LabUnderTest) -> None:
    run = invoke("status", "-C", lab.repository)
    assert "unseal key lies beside its data" in run.stderr
    assert run.status == 0
    servers, _, journal = run.stdout.partition("\n\n")
    assert [line.split()[0] for line in servers.splitlines()] == ["server", "MySQL", "Ceph", "OpenBao"]
    assert servers.count(" ok ") == 3
    assert journal.startswith("journal: mysql ")


def test_status_of_a_lab_that_never_was(unborn: Path) -> None:
    run = invoke("status", "-C", unborn, "--json")
    assert (run.status, run.answer["status"]) == (2, "findings")
    assert [server["healthy"] for server in run.answer["data"]["servers"]] == [False] * 3
    text = invoke("status", "-C", unborn)
    assert text.status == 2
    assert "MySQL: never brought up: run `djops up`" in text.stdout
    assert not lab_directory("unborn", "local").exists(), "looking makes nothing"


def test_up_again_says_that_nothing_changed(lab: LabUnderTest) -> None:
    run = invoke("up", "--json", cwd=lab.repository)
    assert run.status == 0
    assert run.answer["data"]["changed"] is False
    assert run.stderr == ""
    assert [server["started"] for server in run.answer["data"]["servers"]] == [False] * 3


def test_progress_goes_to_standard_error(lab: LabUnderTest) -> None:
    run = djops("up", cwd=lab.repository)
    assert run.status == 0
    assert "MySQL: 9" in run.stderr or "MySQL: 8" in run.stderr
    assert run.stdout.startswith("server ")


@pytest.mark.parametrize(
    "options",
    [
        ("--purge",),
        ("--purge", "--yes"),
        ("--purge", "--json"),
        ("--purge", "--project", "demo_lab"),
        ("--purge", "--yes", "--json"),
    ],
)
def test_data_is_not_removed_without_the_projects_name(lab: LabUnderTest, options: tuple[str, ...]) -> None:
    run = invoke("down", *options, cwd=lab.repository)
    assert run.status == 1
    assert "E_CONFIRM" in run.stdout + run.stderr
    assert labfile.read(lab.directory) is not None


def test_the_wrong_name_stops_everything(lab: LabUnderTest) -> None:
    run = invoke("down", "--purge", "--yes", "--project", "other", "--json", cwd=lab.repository)
    assert only_error(run)["code"] == "E_USAGE"
    assert invoke("status", cwd=lab.repository).status == 0


def test_the_right_name_removes_a_lab(unborn: Path) -> None:
    run = invoke("down", "--purge", "--yes", "--project", "unborn", "--json", cwd=unborn)
    assert (run.status, run.answer["data"]["removed"]) == (0, False)


def test_an_unknown_environment_names_the_nearest(lab: LabUnderTest) -> None:
    run = invoke("status", "--env", "locla", "--json", cwd=lab.repository)
    error = only_error(run)
    assert (run.status, error["code"]) == (1, "E_ENVIRONMENT")
    assert "local" in str(error["hint"])


@pytest.mark.parametrize("command", ["up", "down"])
def test_a_cloud_that_is_not_described_is_left_alone(command: str, unborn: Path) -> None:
    path = unborn / "djops.yaml"
    path.write_text(path.read_text().replace("target: local", "target: aws"))
    run = invoke(command, "--json", cwd=unborn)
    assert (run.status, {error["code"] for error in run.answer["errors"]}) == (1, {"E_SERVERS"})
