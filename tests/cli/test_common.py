"""What every command shares: finding the project, questions, exit statuses, what becomes of exceptions."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import click
import pytest

from djops.cli import common
from djops.cli.main import COMMANDS, overview
from djops.errors import ConfigError, DjopsError, ManyErrors
from tests.support.cli import invoke

Body = Callable[[common.Output], None]


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Body], None]]:
    """Lets `djops status` be whatever a test says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DJOPS_DATA_HOME", str(tmp_path / "data"))
    name = "tests.cli.trial_command"

    def put(body: Body) -> None:
        module = type(sys)(name)
        module.__spec__ = ModuleSpec(name, None)

        @click.command()
        @common.changing
        def command(out: common.Output) -> None:
            body(out)

        module.__dict__["command"] = command
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(COMMANDS, "status", (name, "A trial."))

    yield put


def test_a_result_is_text_or_an_object(trial: Callable[[Body], None]) -> None:
    trial(lambda out: out.emit({"answer": 42}, lambda: "forty-two"))
    assert invoke("status").stdout == "forty-two\n"
    run = invoke("status", "--json")
    assert run.answer == {
        "djops": 1,
        "command": "status",
        "status": "ok",
        "data": {"answer": 42},
        "errors": [],
    }
    assert run.status == 0


def test_findings_exit_with_two(trial: Callable[[Body], None]) -> None:
    trial(lambda out: out.emit({"drift": 1}, "drift", findings=True))
    assert invoke("status").status == 2
    run = invoke("status", "--json")
    assert (run.status, run.answer["status"]) == (2, "findings")


def test_an_error_keeps_what_was_emitted(trial: Callable[[Body], None]) -> None:
    def body(out: common.Output) -> None:
        out.emit({"done": ["first"]}, "first is done")
        raise ManyErrors([ConfigError("a", where="djops.yaml:3", hint="do b"), ConfigError("c", code="E_X")])

    trial(body)
    run = invoke("status", "--json")
    assert run.status == 1
    assert run.answer["data"] == {"done": ["first"]}
    assert [error["code"] for error in run.answer["errors"]] == ["E_CONFIG", "E_X"]
    run = invoke("status")
    assert run.stdout == "first is done\n"
    assert run.stderr == "error [E_CONFIG] djops.yaml:3: a\n  -> do b\nerror [E_X] c\n"


def test_names_cannot_steer_the_terminal(trial: Callable[[Body], None]) -> None:
    def body(out: common.Output) -> None:
        raise DjopsError("no user '\x1b[2J\r\u202egnp'", hint="two\nlines")

    trial(body)
    stderr = invoke("status").stderr
    assert "\x1b" not in stderr and "\r" not in stderr and "\u202e" not in stderr
    assert r"\x1b[2J\r\u202egnp" in stderr


@pytest.mark.parametrize("arguments", [("--json",), ()])
def test_nobody_is_asked_without_a_terminal(
    trial: Callable[[Body], None], arguments: tuple[str, ...]
) -> None:
    trial(lambda out: out.confirm("Really?", action="purging"))
    run = invoke("status", *arguments)
    assert run.status == 1
    assert "E_CONFIRM" in run.stdout + run.stderr
    assert "--yes" in run.stdout + run.stderr
    assert "Really?" not in run.stdout + run.stderr
    assert invoke("status", "--yes", *arguments).status == 0


def test_the_project_is_looked_for_upwards(trial: Callable[[Body], None], tmp_path: Path) -> None:
    (tmp_path / "djops.yaml").write_text("")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    trial(lambda out: out.emit({"file": out.project_file, "env": out.environment, "wait": out.lock_wait}))
    os.chdir(below)
    run = invoke("status", "--env", "test", "--lock-wait", "2.5", "--json")
    assert run.answer["data"] == {"file": str(tmp_path / "djops.yaml"), "env": "test", "wait": 2.5}
    run = invoke("status", "-C", below, "--json")
    assert run.answer["errors"][0]["code"] == "E_NO_PROJECT"
    assert run.answer["errors"][0]["where"] == str(below)
    assert invoke("status", "-C", tmp_path, "--json").status == 0


def test_the_unforeseen_is_one_line_and_a_private_file(
    trial: Callable[[Body], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(out: common.Output) -> None:
        password = "hunter2"
        try:
            raise ValueError(f"bad value {password}")
        except ValueError as error:
            raise KeyError("some key") from error

    trial(body)
    run = invoke("status", "--json")
    assert run.status == 1
    error = run.answer["errors"][0]
    assert error["code"] == "E_BUG"
    assert "KeyError" in error["message"]
    found = re.search(r"in (/\S+\.txt)", error["hint"])
    assert found
    kept = Path(found[1])
    assert kept.is_relative_to(tmp_path / "data")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    text = kept.read_text()
    assert "in body" in text
    assert "builtins.ValueError (its message is not kept)" in text
    assert "KeyError: 'some key'" in text
    assert "hunter2" not in text.replace('password = "hunter2"', "")


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "E_DISK"), (errno.EACCES, "E_PERMISSION"), (errno.EROFS, "E_PERMISSION")],
)
def test_the_disk_and_permissions_are_no_bugs(trial: Callable[[Body], None], number: int, code: str) -> None:
    def body(out: common.Output) -> None:
        raise OSError(number, os.strerror(number), "/some/file")

    trial(body)
    error = invoke("status", "--json").answer["errors"][0]
    assert (error["code"], error["where"]) == (code, "/some/file")


def test_ctrl_c_and_sigterm_are_told_apart(trial: Callable[[Body], None]) -> None:
    cleaned: list[int] = []

    def body(out: common.Output) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            cleaned.append(number)

    trial(body)
    for number in (signal.SIGINT, signal.SIGTERM):
        run = invoke("status", "--json")
        assert run.status == 128 + number
        assert run.answer["errors"][0]["code"] == "E_INTERRUPTED"
    assert cleaned == [signal.SIGINT, signal.SIGTERM]


def test_a_status_of_another_program_is_passed_on(trial: Callable[[Body], None]) -> None:
    trial(lambda out: click.get_current_context().exit(7))
    assert invoke("status").status == 7


def test_a_reader_who_leaves_early_hears_nothing() -> None:
    script = """
import sys, click
from djops.cli import common

@click.command("status")
@common.options
def command(out):
    '''Answer at length.'''
    for _ in range(3):
        out.emit({"x": "x" * 1_000_000}, lambda: "x" * 1_000_000)

command.help += " y" * 1_000_000
common.load = lambda name: command
sys.exit(common.run(sys.argv[1:]))
"""
    # Python may call a last write done that nobody read to its end, so 0 is right for a single one.
    for arguments, statuses in (([], {141}), (["--json"], {0, 141}), (["--help"], {0, 141})):
        command = [sys.executable, "-c", script, "status", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout and process.stderr
            process.stdout.read(1)
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode in statuses


def test_an_interrupted_import_ends_with_the_status_of_any_interruption(tmp_path: Path) -> None:
    """Modules run code that they make, and an interpreter that runs a module remembers who failed in it."""
    (tmp_path / "interrupted.py").write_text(
        "import sys\nfrom djops.cli import common\n"
        "common.group.invoke = lambda context: exec('raise KeyboardInterrupt')\n"
        "sys.exit(common.run(['validate']))\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    paths = os.pathsep.join(map(str, (tmp_path, Path(__file__).parents[2])))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "E_INTERRUPTED" in done.stderr) == (130, True), done.stderr


def test_the_overview_names_every_command_once() -> None:
    text = overview()
    for name, (_, line) in COMMANDS.items():
        assert re.findall(rf"^  {name} +(.*)$", text, re.M) == [line]
    assert invoke("--help").stdout == text


@pytest.mark.parametrize(("typed", "meant"), [("grnt", "grant"), ("stauts", "status"), ("user", "users")])
def test_a_misspelt_command_is_recognised(typed: str, meant: str) -> None:
    run = invoke(typed)
    assert run.status == 1
    assert f"`{meant}`" in run.stderr


def test_the_overview_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['djops', '--help']; from djops.cli.main import main; main(); "
    code += "print(*sorted(sys.modules), sep='\\n')"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {"click", "pydantic", "boto3", "yaml", "datajoint", "hvac", "pymysql", "typing", "dataclasses"}
    plain = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert not heavy & (set(shown.split()) - set(plain.split()))
