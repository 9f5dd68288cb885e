"""``djops connect`` as a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import Run, djops

PROJECT = """\
version: 1
project: my_lab
pipeline: {package: my_pipeline}
environments:
  lab:
    target: existing
    mysql: {host: db.example.org, user: djops, password: {env: LAB_KEY}}
    s3: {endpoint: "https://s3.example.org", access_key: {env: LAB_KEY}, secret_key: {env: LAB_KEY}}
    secrets: {address: "https://127.0.0.1:1", role_id: {env: LAB_KEY}, secret_id: {env: LAB_KEY}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "djops.yaml").write_text(PROJECT)
    return tmp_path


def connect(home: Path, *arguments: str) -> Run:
    return djops(
        "connect", *arguments, cwd=home, env={"DJOPS_DATA_HOME": str(home / "data"), "LAB_KEY": "key-4711"}
    )


def test_the_commands_output_and_status_are_passed_on(home: Path) -> None:
    done = connect(home, "s3", "--", "sh", "-c", "echo $AWS_ENDPOINT_URL; echo oops >&2; exit 4")
    assert (done.status, done.stdout, done.stderr) == (4, "https://s3.example.org\n", "oops\n")


def test_what_stands_after_the_dashes_is_the_commands_own(home: Path) -> None:
    done = connect(home, "mysql", "--", "echo", "--json", "-q", "--", "--env")
    assert (done.status, done.stdout) == (0, "--json -q -- --env\n")


@pytest.mark.parametrize("status", [0, 3])
def test_with_json_the_commands_output_stands_aside(home: Path, status: int) -> None:
    done = connect(home, "mysql", "--json", "--", "sh", "-c", f"echo rows; exit {status}")
    assert (done.status, done.stderr) == (status, "rows\n")
    assert done.answer["data"] == {"system": "mysql", "account": "djops", "program": "sh", "status": status}
    assert done.answer["status"] == ("findings" if status else "ok")


ERRORS = {
    "no terminal": (("mysql",), "E_NO_TERMINAL"),
    "no program": (("mysql", "--", "no-such-program-4711"), "E_NO_PROGRAM"),
    "no such system": (("postgres", "--", "ls"), "E_USAGE"),
    "no system": ((), "E_USAGE"),
    "no server": (("secrets", "--", "ls"), "E_SERVER"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(home: Path, case: str) -> None:
    arguments, code = ERRORS[case]
    plain = connect(home, *arguments)
    assert (plain.status, plain.stdout) == (1, "")
    assert f"[{code}]" in plain.stderr
    assert "key-4711" not in plain.stderr
    answer = connect(home, "--json", *arguments)
    assert [error["code"] for error in answer.answer["errors"]] == [code]


def test_the_journal_has_the_programs_name_only(home: Path) -> None:
    connect(home, "s3", "--", "sh", "-c", "exit 0", "argument-4711")
    (journal,) = (home / "data").rglob("journal.jsonl")
    (line,) = journal.read_text().splitlines()
    assert json.loads(json.loads(line)["detail"])["program"] == "sh"
    assert "4711" not in line.replace("key-4711", "")
