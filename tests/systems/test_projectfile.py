"""The project file on disk: found, read, replaced whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from djops.errors import ConfigError
from djops.systems import projectfile


def test_the_nearest_file_above_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "djops.yaml").write_text("outer")
    assert projectfile.find(deep) == tmp_path / "djops.yaml"
    (tmp_path / "a" / "djops.yaml").write_text("inner")
    assert projectfile.find(deep) == tmp_path / "a" / "djops.yaml"


def test_no_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="djops init") as caught:
        projectfile.find(tmp_path)
    assert caught.value.code == "E_NO_PROJECT"


def unreadable(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        projectfile.read(path)
    assert caught.value.hint
    return caught.value


def test_what_cannot_be_read_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "djops.yaml"
    assert unreadable(file).code == "E_NO_PROJECT"
    file.write_bytes(b"a: 1\nb: \xff\n")
    assert unreadable(file).where == f"{file}:2"
    monkeypatch.setattr(projectfile, "MAX_SIZE", 3)
    assert "more than" in unreadable(file).message
    file.unlink()
    file.mkdir()
    assert unreadable(file).code == "E_UNREADABLE"
    file.rmdir()
    os.mkfifo(file)
    assert "plain file" in unreadable(file).message
    file.unlink()
    file.symlink_to(file)
    assert unreadable(file).code == "E_UNREADABLE"


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert "Permission denied" in unreadable(tmp_path / "djops.yaml").message


def test_a_file_below_the_working_directory_is_shown_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert projectfile.shown(tmp_path / "x" / "djops.yaml") == "x/djops.yaml"
    assert projectfile.shown(Path("/etc/djops.yaml")) == "/etc/djops.yaml"


def test_mode_and_link_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "djops.yaml"
    real.write_text("old\r\n", newline="")
    real.chmod(0o640)
    link.symlink_to("real.yaml")
    text = projectfile.read(link)
    assert text == "old\r\n"
    projectfile.write(link, "new\r\n", expected=text)
    assert link.is_symlink()
    assert real.read_bytes() == b"new\r\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(one.name for one in tmp_path.iterdir()) == ["djops.yaml", "real.yaml"]


def test_somebody_elses_change_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "djops.yaml"
    file.write_text("one")
    with pytest.raises(ConfigError) as caught:
        projectfile.write(file, "mine", expected="zero")
    assert caught.value.code == "E_CHANGED"
    assert file.read_text() == "one"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "djops.yaml"
    file.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Exception, match="no room"):
        projectfile.write(file, "new")
    assert file.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["djops.yaml"]


def test_a_folder_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        projectfile.write(tmp_path / "no" / "djops.yaml", "x")
