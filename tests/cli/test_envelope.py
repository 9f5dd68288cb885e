"""Every ``--json`` answer is one object whose keys and types do not change."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from djops.cli.common import load
from djops.cli.main import COMMANDS
from djops.errors import ConfigError, ManyErrors, Where
from djops.report.envelope import envelope, plain, to_json
from djops.systems.connections import Secret
from tests.support.cli import djops, invoke

ERROR_TYPES: Mapping[str, tuple[type, ...]] = {
    "code": (str,), "message": (str,), "where": (str, type(None)), "hint": (str, type(None)),
}  # fmt: skip

# What makes each command fail in an empty directory; the file `taken` is the only thing in it.
FAILING = {
    "up": ["up"],
    "status": ["status"],
    "down": ["down"],
    "demo": ["demo", "taken"],
    "init": ["init"],
    "validate": ["validate"],
    "config schema": ["config", "schema", "--no-such-option"],
    "graph": ["graph"],
    "schemas sync": ["schemas", "sync"],
    "plan": ["plan"],
    "apply": ["apply"],
    "grant": ["grant", "alice", "analyst", "ephys"],
    "revoke": ["revoke", "alice", "analyst", "ephys"],
    "users add": ["users", "add", "alice"],
    "users list": ["users", "list"],
    "users show": ["users", "show", "alice"],
    "users remove": ["users", "remove", "alice"],
    "onboard": ["onboard", "zoe", "viewer", "ephys", "--to", "there"],
    "offboard": ["offboard", "zoe"],
    "adopt": ["adopt"],
    "welcome": ["welcome"],
    "log": ["log"],
    "whoami": ["whoami", "--no-such-option"],
    "doctor": ["doctor", "--no-such-option"],
    "can": ["can", "alice", "insert", "ephys.Recording"],
    "explain": ["explain", "alice", "read", "ephys"],
    "drift": ["drift"],
    "expire": ["expire"],
    "who": ["who", "can", "read", "ephys"],
    "verify": ["verify"],
    "audit": ["audit"],
    "connect": ["connect", "mysql"],
    "rotate": ["rotate", "alice"],
    "secrets audit": ["secrets", "audit"],
    "secrets sync": ["secrets", "sync"],
    "secrets login": ["secrets", "login", "alice", "taken"],
    "secrets export": ["secrets", "export", "--to", "there", "--age", "age1"],
    "secrets import": ["secrets", "import", "taken"],
    "credentials": ["credentials", "alice", "--to", "there"],
    "smoke": ["smoke"],
    "cloud check": ["cloud", "check"],
    "cost": ["cost"],
    "tunnel": ["tunnel"],
}


def check_envelope(answer: dict[str, Any]) -> None:
    """Fail unless an object is an envelope, exactly."""
    assert list(answer) == ["djops", "command", "status", "data", "errors"]
    assert answer["djops"] == 1
    assert isinstance(answer["command"], str)
    assert answer["status"] in ("ok", "findings", "error")
    assert isinstance(answer["data"], dict)
    assert isinstance(answer["errors"], list)
    for error in answer["errors"]:
        assert list(error) == list(ERROR_TYPES)
        for key, types in ERROR_TYPES.items():
            assert isinstance(error[key], types), (key, error[key])
        assert error["code"].startswith("E_")
        assert error["message"]
    assert (answer["status"] == "error") == bool(answer["errors"])


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to stand in, with data and caches of its own."""
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "taken").write_text("a file where a directory is wanted\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DJOPS_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("DJOPS_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.mark.parametrize("name", FAILING)
def test_every_command_fails_in_one_object(name: str, empty: Path) -> None:
    run = invoke(*FAILING[name], "--json")
    check_envelope(run.answer)
    assert run.status == 1
    assert run.stderr == ""
    assert run.answer["status"] == "error"
    assert run.answer["command"] in (name, name.split()[0])
    assert run.answer["errors"][0]["code"] not in ("E_BUG", "E_NOT_YET")


@pytest.mark.parametrize("name", FAILING)
def test_every_command_fails_in_text_with_its_code(name: str, empty: Path) -> None:
    run = invoke(*FAILING[name])
    assert run.status == 1
    assert "Traceback" not in run.stderr
    assert "error [E_" in run.stderr


def leaves(name: str, command: click.Command) -> list[str]:
    if isinstance(command, click.Group):
        return [leaf for sub, below in command.commands.items() for leaf in leaves(f"{name} {sub}", below)]
    return [name]


def test_no_command_is_forgotten_here() -> None:
    known = {leaf for name in COMMANDS for leaf in leaves(name, load(name))}
    assert {name.split()[0] for name in FAILING} == set(COMMANDS)
    assert set(FAILING) <= known


@pytest.mark.parametrize("arguments", [["no-such"], ["status", "--no-such"], ["users"], ["grant"], []])
def test_wrong_usage_is_one_object_too(arguments: list[str], empty: Path) -> None:
    run = invoke(*arguments, "--json")
    check_envelope(run.answer)
    assert run.status == 1
    assert run.answer["errors"][0]["code"] == "E_USAGE"


def test_the_real_program_answers_the_same(empty: Path) -> None:
    run = djops("status", "--json", cwd=empty)
    check_envelope(run.answer)
    assert (run.status, run.answer["errors"][0]["code"]) == (1, "E_NO_PROJECT")


@dataclass(frozen=True)
class Row:
    name: str
    at: dt.date
    path: Path
    tags: frozenset[str]


def test_results_become_plain() -> None:
    row = Row("alice", dt.date(2027, 1, 31), Path("a/b"), frozenset({"y", "x"}))
    answer = envelope("users list", {"rows": (row,)}, findings=True)
    check_envelope(json.loads(to_json(answer)))
    assert answer["status"] == "findings"
    assert answer["data"] == {
        "rows": [{"name": "alice", "at": "2027-01-31", "path": "a/b", "tags": ["x", "y"]}]
    }


def test_compound_errors_are_listed_singly() -> None:
    first = ConfigError("unknown role 'analist'", where=Where("djops.yaml", 12), hint="did you mean analyst?")
    answer = envelope("validate", {}, [ManyErrors([first, ConfigError("b")])])
    assert answer["errors"] == [
        {"code": "E_CONFIG", "message": "unknown role 'analist'", "where": "djops.yaml:12",
         "hint": "did you mean analyst?"},
        {"code": "E_CONFIG", "message": "b", "where": None, "hint": None},
    ]  # fmt: skip
    assert answer["status"] == "error"


def test_a_secret_never_becomes_part_of_an_answer() -> None:
    with pytest.raises(TypeError, match="Secret"):
        plain({"password": [Secret("hunter2")]})


def test_answers_survive_any_name() -> None:
    text = to_json(envelope("users show", {"name": "\udcff\x1b[2J\u202eevil"}))
    assert text.isascii()
    assert "\x1b" not in text
