"""Files: whole or not at all, and private."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from djops.errors import DiskFullError, DjopsError
from djops.systems.files import disk_errors, read_json, require_space, write_json, write_private


def test_a_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "secret", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_wide_open_file_becomes_private_when_written_again(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o666)
    write_private(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "file").symlink_to(victim)
    write_private(tmp_path / "file", "new")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "file").is_symlink()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError) as caught:
        write_private(path, "new")
    assert caught.value.code == "E_DISK"
    assert caught.value.where == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_apart(number: int, tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), disk_errors(tmp_path):
        raise OSError(number, "full")


def test_other_failures_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_more_room_than_there_is_is_refused(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(DiskFullError, match="are needed and"):
        require_space(tmp_path / "not" / "yet", 1 << 60)


def test_json_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": [1, None]})
    assert read_json(tmp_path / "a.json") == {"ü": [1, None]}
    assert read_json(tmp_path / "b.json") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_garbage_is_an_error_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DjopsError) as caught:
        read_json(tmp_path / "a.json")
    assert (caught.value.code, caught.value.where) == ("E_STATE", str(tmp_path / "a.json"))
