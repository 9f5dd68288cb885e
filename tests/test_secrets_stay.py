"""The search for secrets, which goes on during the whole run, finds what is planted."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from djops.services.journal import Cause, note_at
from djops.services.site import open_site
from djops.systems.files import read_json
from tests.conftest import LabUnderTest
from tests.support.secret_search import SecretSearch, watching

Planted = Callable[[Path, str], None]


def planted() -> tuple[SecretSearch, str]:
    """A search that knows one secret, which the search of the whole run does not know."""
    search, secret = SecretSearch(), secrets.token_urlsafe(24)
    search.know(secret, "planted")
    return search, secret


def in_a_report(place: Path, secret: str) -> None:
    (place / "audit.html").write_text(f"<p>{secret}</p>")
    (place / "audit.html").chmod(0o600)


def readable_by_others(place: Path, secret: str) -> None:
    in_its_place(place, secret)
    (place / ".secrets" / "database.password").chmod(0o640)


def in_git_s_history(place: Path, secret: str) -> None:
    git = ["git", "-C", str(place), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    file = place / "datajoint.json"
    file.write_text(secret)
    subprocess.run([*git, "add", file.name], check=True)
    subprocess.run([*git, "commit", "-qm", "settings"], check=True)
    file.unlink()


def in_its_place(place: Path, secret: str) -> None:
    (place / ".secrets").mkdir()
    file = place / ".secrets" / "database.password"
    file.touch(mode=0o600)
    file.write_text(secret)


@pytest.mark.parametrize("plant", [in_a_report, readable_by_others, in_git_s_history])
def test_a_planted_secret_is_found(plant: Planted, tmp_path: Path) -> None:
    search, secret = planted()
    plant(tmp_path, secret)
    with watching(search, tmp_path):
        pass
    assert [one.origin for one in search.found] == ["planted"], search.found
    assert secret not in str(search.found)


def test_a_secret_in_its_place_is_no_finding(tmp_path: Path) -> None:
    search, secret = planted()
    in_its_place(tmp_path, secret)
    with watching(search, tmp_path):
        pass
    assert not search.found


def test_a_secret_in_a_command_line_is_found(tmp_path: Path) -> None:
    search, secret = planted()
    with watching(search, tmp_path):
        subprocess.run(["true", f"--password={secret}"], check=True)
    assert [one.where for one in search.found] == ["a command line: true"]


def test_a_secret_in_the_command_line_of_a_process_s_child_is_found(tmp_path: Path) -> None:
    search, secret = planted()
    reading, writing = os.pipe()
    child = os.posix_spawn(  # past what is noted of processes that are started as usual
        sys.executable, [sys.executable, "-c", "input()", secret], os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0), (os.POSIX_SPAWN_CLOSE, writing)],
    )  # fmt: skip
    until = time.monotonic() + 120
    try:
        while not any(secret.encode() in line for line in search.commands):
            assert time.monotonic() < until, "its command line is never seen"
            search.look_at_processes()
        search.judge_commands()
    finally:
        os.close(writing)
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert [one.where for one in search.found] == [f"a command line: {sys.executable}"]


def test_a_process_in_the_midst_of_its_start_is_looked_at_again(tmp_path: Path) -> None:
    """While a program is exchanged for another, the system tells an empty command line."""
    search, secret = SecretSearch(processes=str(tmp_path)), secrets.token_urlsafe(24)
    told = tmp_path / "4711" / "cmdline"
    told.parent.mkdir()
    told.touch()
    for _ in range(10):
        search.look_at_processes()
    told.write_text(secret)
    search.look_at_processes()
    assert secret.encode() in search.commands


def test_a_secret_in_the_journal_or_a_log_is_found(lab: LabUnderTest) -> None:
    search, secret = planted()
    note_at(open_site(lab.project_file), Cause("test", f"her password is {secret}"))
    log = lab.directory / "mysql" / "planted.log"
    try:
        log.write_text(secret)
        search.look_at_lab(lab.directory)
    finally:
        log.unlink()
    places = {one.where for one in search.found if one.origin == "planted"}
    assert {"a row of demo_lab's journal", str(log)} <= places


def test_the_run_s_own_search_knows_and_sees(lab: LabUnderTest, secret_search: SecretSearch) -> None:
    manager = read_json(lab.directory / "secrets" / "mysql-manager.json") or {}
    assert manager["password"].encode() in secret_search.known
    assert any(str(lab.directory).encode() in line for line in secret_search.commands)
    assert not secret_search.found
