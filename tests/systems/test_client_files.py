"""What lies around a client: what it finds and ignores, modes, and what git remembers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from djops.systems import client_files


def git(place: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=place, check=True, capture_output=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / ".secrets").mkdir(mode=0o700)
    (tmp_path / "datajoint.json").write_text("{}")
    return tmp_path


def test_settings_are_found_from_below_and_not_over_a_repository_s_top(place: Path) -> None:
    below = place / "a" / "b"
    below.mkdir(parents=True)
    found = client_files.find(below)
    assert (found.settings, found.secrets) == (place / "datajoint.json", place / ".secrets")
    (below / ".git").mkdir()
    found = client_files.find(below)
    assert (found.settings, found.above) == (None, place / "datajoint.json")


@pytest.mark.parametrize(("mode", "wrong"), [(0o600, False), (0o644, True), (0o640, True), (0o400, False)])
def test_modes(place: Path, mode: int, wrong: bool) -> None:
    file = place / ".secrets" / "database.password"
    file.write_text("x")
    file.chmod(mode)
    assert (client_files.too_open(file) is not None) is wrong


def test_a_secret_is_found_in_history_after_it_is_gone(place: Path) -> None:
    git(place, "init", "-q")
    (place / "notes.py").write_text("password = 'hunter2-of-ours'\n")
    git(place, "add", ".")
    git(place, "commit", "-qm", "one")
    (place / "notes.py").write_text("password = ask()\n")
    git(place, "commit", "-qam", "two")
    git(place, "checkout", "-qb", "other", "HEAD~1")
    git(place, "checkout", "-q", "-")
    assert (
        len(client_files.in_history(place, ["hunter2-of-ours", ""])) == 2
    )  # where it came, and where it went
    assert client_files.in_history(place, ["somebody else's"]) == ()
    assert client_files.in_history(place, []) == ()


def test_what_git_keeps_or_would(place: Path) -> None:
    git(place, "init", "-q")
    secret = place / ".secrets" / "database.password"
    secret.write_text("x")
    assert client_files.is_tracked(place, secret)
    (place / ".gitignore").write_text(".secrets/\n")
    assert not client_files.is_tracked(place, secret)
    git(place, "add", "-f", str(secret))
    assert client_files.is_tracked(place, secret)


def test_codecs_without_a_store(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        'x = """\n---\ntrace : <blob@>\nother : <blob@main>\n"""\n# <npy@>\ny = "<npy@ >"\n'
    )
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "b.py").write_text("<blob@>")
    found = [(path.name, line, codec) for path, line, codec in client_files.nameless_stores(tmp_path)]
    assert found == [("a.py", 3, "blob"), ("a.py", 7, "npy")]
