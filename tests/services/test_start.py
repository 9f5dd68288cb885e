"""The first project file of a pipeline that exists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from djops.errors import ConfigError, DjopsError, PipelineError, UsageError
from djops.services import project, start
from tests.support.repository import EPHYS, SESSION, repository


def bare(folder: Path, modules: dict[str, str] | None = None) -> Path:
    repository(folder, modules=modules).unlink()
    return folder


def test_what_is_written_is_right(tmp_path: Path) -> None:
    made = start.init(bare(tmp_path / "My Lab!"))
    assert made.project.project == "my_lab"
    loaded = project.load(made.file)
    assert loaded.findings == ()
    assert list(made.project.schemas) == ["session", "ephys"]
    assert made.project.stores["main"].bucket == "my-lab-data"
    assert made.file.read_text() == made.text
    assert made.file.stat().st_mode & 0o022 == 0


def test_names_come_from_pyproject_and_stores_from_the_clients_settings(tmp_path: Path) -> None:
    bare(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "Vision-Lab.2"\n')
    stores = {
        "default": "main",
        "main": {
            "protocol": "s3",
            "bucket": "vision",
            "location": "/a/b/",
            "access_key": "AKIA",
            "secret_key": "x",
        },
        "disk": {"protocol": "file", "location": "/data"},
        "odd": "text",
    }
    (tmp_path / "datajoint.json").write_text(json.dumps({"stores": stores}))
    made = start.init(tmp_path)
    assert made.project.project == "vision_lab_2"
    assert list(made.project.stores) == ["main"]
    assert made.project.stores["main"].location == "a/b"
    assert "AKIA" not in made.text
    assert {one.code for one in made.findings} == {"W_SECRET", "W_STORE_LEFT_OUT"}


@pytest.mark.parametrize("settings", ["{", "[]", '{"stores": 3}', "\xff"])
def test_settings_that_cannot_be_read_do_no_harm(tmp_path: Path, settings: str) -> None:
    bare(tmp_path)
    (tmp_path / "datajoint.json").write_text(settings, encoding="latin-1")
    (tmp_path / "pyproject.toml").write_text("[project")
    assert list(start.init(tmp_path, name="lab").project.stores) == ["main"]


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    file = repository(tmp_path)
    before = file.read_text()
    with pytest.raises(ConfigError) as caught:
        start.init(tmp_path)
    assert caught.value.code == "E_EXISTS"
    assert file.read_text() == before
    start.init(tmp_path, force=True)
    assert file.read_text() != before


def test_names_that_cannot_be_read_are_left_to_fill_in(tmp_path: Path) -> None:
    modules = {"session": SESSION, "ephys": EPHYS.replace('"ephys"', "PREFIX + 'ephys'")}
    made = start.init(bare(tmp_path, modules))
    assert "# write into djops.yaml: `schemas: {NAME: {module: pipe.ephys}}`" in made.text
    assert list(made.project.schemas) == ["session"]


def test_the_package_may_lie_at_the_top(tmp_path: Path) -> None:
    bare(tmp_path)
    (tmp_path / "src" / "pipe").rename(tmp_path / "pipe")
    made = start.init(tmp_path)
    assert (made.project.pipeline.path, made.project.pipeline.package) == (".", "pipe")
    assert project.load(made.file).graph.schemas == {"session", "ephys"}


def test_which_package_is_meant_must_be_clear(tmp_path: Path) -> None:
    bare(tmp_path)
    (tmp_path / "src" / "other").mkdir()
    (tmp_path / "src" / "other" / "__init__.py").write_text(SESSION)
    with pytest.raises(UsageError, match="other, pipe"):
        start.init(tmp_path)
    assert start.init(tmp_path, package="other").project.pipeline.package == "other"


def test_no_package_is_told(tmp_path: Path) -> None:
    (tmp_path / "pipe").mkdir()
    (tmp_path / "pipe" / "__init__.py").write_text("x = 1\n")
    with pytest.raises(PipelineError) as caught:
        start.init(tmp_path)
    assert caught.value.code == "E_NO_PACKAGE"
    with pytest.raises(PipelineError, match="did you mean 'pipe'"):
        start.init(tmp_path, package="pip")
    assert not (tmp_path / "djops.yaml").exists()


def test_a_name_that_is_not_allowed_is_refused(tmp_path: Path) -> None:
    bare(tmp_path)
    for wrong in ({"name": "No Way"}, {"bucket": "No_Way"}, {"name": "a: b\nc: d"}):
        with pytest.raises(DjopsError):
            start.init(tmp_path, **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "djops.yaml").exists()


def test_odd_schema_names_are_written_as_they_are(tmp_path: Path) -> None:
    names = ["on", "true", "12", "a: b", 'say "x"', "#x", "é", "{x}"]
    modules = {f"m{i}": SESSION.replace('"session"', repr(name)) for i, name in enumerate(names)}
    made = start.init(bare(tmp_path, modules))
    assert set(made.project.schemas) == set(names)
    assert project.load(made.file).graph.schemas == set(names)
