"""Processes are known by pid file and start time, whatever they are called."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from djops.errors import DjopsError
from djops.systems import process
from djops.systems.paths import Account, private_directory, server_account
from tests.support.labs import data_home, is_alive, kill_all

STUBBORN = "trap '' TERM; echo up; while :; do sleep 1; done"


@pytest.fixture
def account() -> Account:
    return server_account()


@pytest.fixture
def place(account: Account) -> Iterator[Path]:
    with data_home() as base:
        directory = private_directory(base / "server", account)
        yield directory
        kill_all(directory)


def spawn(place: Path, account: Account, *argv: str) -> int:
    pid_file, log = place / "pid", place / "log"
    return process.spawn(argv, directory=place, pid_file=pid_file, log=log, account=account)


def test_a_server_outlives_whoever_started_it(place: Path, account: Account) -> None:
    starter = (
        "import sys; from pathlib import Path; from djops.systems import process, paths\n"
        "p = Path(sys.argv[1])\n"
        "print(process.spawn(['sleep', '60'], directory=p, pid_file=p / 'pid', log=p / 'log',"
        " account=paths.server_account()))"
    )
    done = subprocess.run([sys.executable, "-c", starter, place], capture_output=True, text=True, check=True)
    pid = int(done.stdout)
    assert process.running_pid(place / "pid", account) == pid
    assert os.getsid(pid) == pid, "Ctrl-C in the terminal must not reach it"
    assert process.terminate(place / "pid", account)
    assert process.running_pid(place / "pid", account) is None


def test_it_runs_as_the_servers_account_with_a_clean_environment(place: Path, account: Account) -> None:
    os.environ["A_SECRET_OF_THE_USER"] = "x"
    try:
        spawn(place, account, "sh", "-c", "id -u; id -G; umask; pwd; env; sleep 60")
        lines = wait_for(place / "log", "PATH=")
    finally:
        del os.environ["A_SECRET_OF_THE_USER"]
    assert lines[0] == str(account.uid)
    assert os.geteuid() != 0 or lines[1] == str(account.gid), "no groups of root's"
    assert (lines[2], lines[3]) == ("0077", str(place))
    assert not any("A_SECRET" in line for line in lines)
    assert (place / "log").stat().st_mode & 0o777 == 0o600
    process.terminate(place / "pid", account)


def test_starting_twice_starts_once(place: Path, account: Account) -> None:
    assert spawn(place, account, "sleep", "60") == spawn(place, account, "sleep", "60")
    process.terminate(place / "pid", account)


def test_a_killed_server_is_seen_as_gone_at_once(place: Path, account: Account) -> None:
    pid = spawn(place, account, "sleep", "60")
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 120
    while is_alive(pid):
        assert time.monotonic() < until
        time.sleep(0.001)
    assert process.running_pid(place / "pid", account) is None, "a zombie is not running"
    assert not process.terminate(place / "pid", account)


def test_a_pid_used_again_is_somebody_elses(place: Path, account: Account) -> None:
    """Only the start time differs: this must never be signalled."""
    pid = spawn(place, account, "sleep", "60")
    boot, line = (place / "pid").read_text().splitlines()
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    fields[19] = str(int(fields[19]) - 1)
    (place / "pid").write_text(f"{boot}\n{head}) {' '.join(fields)}\n")
    assert process.running_pid(place / "pid", account) is None
    assert not process.terminate(place / "pid", account)
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)


def test_a_pid_file_of_another_boot_means_nothing(place: Path, account: Account) -> None:
    pid = spawn(place, account, "sleep", "60")
    _, line = (place / "pid").read_text().splitlines()
    (place / "pid").write_text(f"00000000-0000-0000-0000-000000000000\n{line}\n")
    assert process.running_pid(place / "pid", account) is None
    os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could be led to kill another account's process")
def test_a_server_cannot_have_root_kill_something_else(place: Path, account: Account) -> None:
    """The servers' account owns the pid file and could write anything into it."""
    stat = Path("/proc/self/stat").read_text()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    (place / "pid").write_text(boot + stat)
    assert process.running_pid(place / "pid", account) is None


@pytest.mark.parametrize("content", ["", "17", "x\ny\n", "\0" * 40])
def test_a_damaged_pid_file_means_not_running(content: str, place: Path, account: Account) -> None:
    (place / "pid").write_text(content)
    assert process.running_pid(place / "pid", account) is None


def test_who_does_not_go_is_killed(place: Path, account: Account) -> None:
    pid = spawn(place, account, "sh", "-c", STUBBORN)
    wait_for(place / "log", "up")
    began = time.monotonic()
    assert process.terminate(place / "pid", account, grace=0.3)
    assert 0.3 <= time.monotonic() - began < 60
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_run_ends_what_a_killed_djops_left_running(place: Path, account: Account) -> None:
    pid = spawn(place, account, "sleep", "60")
    done = process.run(["echo", "hello"], directory=place, pid_file=place / "pid", account=account)
    assert (done.returncode, done.stdout) == (0, "hello\n")
    assert not (place / "pid").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_run_does_not_wait_for_ever(place: Path, account: Account) -> None:
    with pytest.raises(DjopsError, match="sleep did not end within 0 s") as caught:
        process.run(["sleep", "60"], directory=place, pid_file=place / "pid", account=account, timeout=0.2)
    assert caught.value.code == "E_START"


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert process.tail(log) == []
    log.write_bytes(b"".join(b"line %d\n\n" % number for number in range(1000)) + b"\xff broken\n")
    assert process.tail(log, 2) == ["line 999", "\ufffd broken"]


def wait_for(log: Path, text: str) -> list[str]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if log.exists() and text in log.read_text():
            return log.read_text().splitlines()
        time.sleep(0.01)
    raise AssertionError(f"{text!r} never came: {log.read_text() if log.exists() else 'no log'}")
