"""A package's source files: which are read, and which are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from djops.errors import PipelineError
from djops.systems import sources


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")


def test_modules_are_read_and_the_rest_is_not(tmp_path: Path) -> None:
    ours = "__init__ ephys sub/__init__ sub/deep plain/loose"
    others = "tests/test_x .hidden/x .x __pycache__/x not-a-module myenv/x node_modules/x"
    put(tmp_path, *(f"pipe/{name}.py" for name in f"{ours} {others}".split()))
    put(tmp_path, "pipe/data.txt", "pipe/myenv/pyvenv.cfg", "other/x.py")
    found = sources.read_package(tmp_path, "pipe")
    assert sorted(found) == ["pipe", "pipe.ephys", "pipe.plain.loose", "pipe.sub", "pipe.sub.deep"]
    assert found["pipe.sub"].package and not found["pipe.sub.deep"].package
    assert found["pipe.ephys"].text == "# pipe/ephys.py\n"


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "pipe/__init__.py", "pipe/a.py", "secret/b.py")
    (tmp_path / "pipe" / "b.py").symlink_to(tmp_path / "secret" / "b.py")
    (tmp_path / "pipe" / "folder").symlink_to(tmp_path / "secret")
    (tmp_path / "pipe" / "loop").symlink_to(tmp_path / "pipe")
    (tmp_path / "pipe" / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "pipe" / "same.py").symlink_to(tmp_path / "pipe" / "a.py")
    assert sorted(sources.read_package(tmp_path, "pipe")) == ["pipe", "pipe.a", "pipe.same"]


def test_a_package_within_a_package_and_a_single_module(tmp_path: Path) -> None:
    put(tmp_path, "lab/pipe/__init__.py", "lab/pipe/a.py", "single.py")
    assert sorted(sources.read_package(tmp_path, "lab.pipe")) == ["lab.pipe", "lab.pipe.a"]
    assert list(sources.read_package(tmp_path, "single")) == ["single"]


def test_no_package_names_those_there_are(tmp_path: Path) -> None:
    put(tmp_path, "pipe/__init__.py", "docs/x.md", "tests/__init__.py")
    with pytest.raises(PipelineError) as caught:
        sources.read_package(tmp_path, "pip")
    assert caught.value.code == "E_NO_PACKAGE"
    assert caught.value.hint == "there are these packages: pipe"
    with pytest.raises(PipelineError, match=r"pipeline\.path"):
        sources.read_package(tmp_path / "nothing", "pip")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "pipe/__init__.py", "pipe/a.py")
    (tmp_path / "pipe" / "b.py").write_bytes(b"x = 1\n# caf\xe9\n")
    with pytest.raises(PipelineError) as caught:
        sources.read_package(tmp_path, "pipe")
    assert (caught.value.where or "").endswith("b.py:2")
    (tmp_path / "pipe" / "b.py").unlink()
    monkeypatch.setattr(sources, "MAX_FILES", 1)
    with pytest.raises(PipelineError) as caught:
        sources.read_package(tmp_path, "pipe")
    assert caught.value.code == "E_TOO_MUCH"
    monkeypatch.setattr(sources, "MAX_FILE", 3)
    with pytest.raises(PipelineError, match="more than"):
        sources.read_package(tmp_path, "pipe")
