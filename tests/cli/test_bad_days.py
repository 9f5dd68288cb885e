"""Bad days, through the installed program: a clear error, a stable code, no traceback, nothing touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cli import Run, djops, shell

DATA = yaml.safe_load((Path(__file__).parent.parent / "data" / "bad_days.yaml").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = DATA["cases"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A project directory with a pipeline of one schema."""
    project = tmp_path / "project"
    package = project / "src" / "my_pipeline"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    source = "import datajoint as dj\nschema = dj.Schema('ephys')\n\n\n"
    source += "@schema\nclass Recording(dj.Manual):\n    definition = '''\n    recording : int\n    '''\n"
    (package / "ephys.py").write_text(source)
    (project / "djops.yaml").write_text(DATA["good"])
    return project


def own_homes(place: Path) -> dict[str, str]:
    return {"DJOPS_DATA_HOME": str(place.parent / "data"), "DJOPS_CACHE_HOME": str(place.parent / "cache")}


def text_of(case: dict[str, Any]) -> str:
    if "repeat" in case:
        unit, times = case["repeat"]
        return str(unit) * int(times)
    text = case.get("yaml")
    text = DATA["good"] + case.get("append", "") if text is None else text
    old, new = case.get("replace", ("", ""))
    return str(text).replace(old, new) if old else str(text)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def check(run: Run, code: str) -> dict[str, Any]:
    assert run.status == 1
    assert "Traceback" not in run.stdout + run.stderr
    assert run.stderr == ""
    error = run.answer["errors"][0]
    assert error["code"] == code, error
    assert isinstance(error, dict)
    return error


@pytest.mark.parametrize("name", CASES)
def test_a_bad_day(name: str, place: Path) -> None:
    case = CASES[name]
    (place / "djops.yaml").write_text(text_of(case), encoding="utf-8", newline="")
    before = contents(place)
    typed = [os.fsencode(word) for word in case["type"]]
    error = check(djops(*typed, "--json", cwd=place, env=own_homes(place), timeout=120), case["code"])
    assert case.get("where", "") in (error["where"] or "")
    assert str(case.get("say", "")) in f"{error['message']} {error['hint']}"
    assert contents(place) == before


def test_a_file_that_is_no_text(place: Path) -> None:
    (place / "djops.yaml").write_bytes(b"\xff\xfe\x00\x01project")
    check(djops("validate", "--json", cwd=place), "E_UNREADABLE")


def test_a_project_file_that_is_a_directory(place: Path) -> None:
    (place / "djops.yaml").unlink()
    (place / "djops.yaml").mkdir()
    check(djops("validate", "--json", cwd=place), "E_NO_PROJECT")


def test_a_data_directory_that_is_a_file(place: Path) -> None:
    (place.parent / "data").write_text("")
    # The report of the crash, for which there is no other place then.
    homes = own_homes(place) | {"TMPDIR": str(place.parent)}
    error = check(djops("up", "--json", cwd=place, env=homes), "E_FILE")
    assert str(place.parent / "data") in error["where"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_a_directory_that_cannot_be_written(place: Path) -> None:
    (place.parent / "locked").mkdir(mode=0o500)
    error = check(djops("demo", place.parent / "locked" / "lab", "--json", cwd=place), "E_PERMISSION")
    assert "locked" in error["where"]


def test_a_directory_that_even_root_cannot_write(place: Path) -> None:
    error = djops("demo", "/proc/djops-lab", "--json", cwd=place, env=own_homes(place)).answer["errors"][0]
    assert error["code"] in ("E_FILE", "E_PERMISSION")
    assert "/proc/djops-lab" in error["where"]


def test_a_pipeline_that_does_not_parse(place: Path) -> None:
    (place / "src" / "my_pipeline" / "ephys.py").write_text("class Recording(:\n")
    error = check(djops("graph", "--json", cwd=place, env=own_homes(place)), "E_SYNTAX")
    assert error["where"].endswith("ephys.py:1")


def test_a_pipeline_that_goes_in_circles(place: Path) -> None:
    package = place / "src" / "my_pipeline"
    template = (
        "import datajoint as dj\nfrom my_pipeline import {other}\nschema = dj.Schema('{own}')\n\n\n@schema\n"
    )
    template += "class {table}(dj.Manual):\n    definition = '''\n    -> {other}.{theirs}\n    '''\n"
    (package / "one.py").write_text(template.format(own="one", other="two", table="A", theirs="B"))
    (package / "two.py").write_text(template.format(own="two", other="one", table="B", theirs="A"))
    error = check(djops("graph", "--json", cwd=place, env=own_homes(place)), "E_CYCLE")
    assert "one -> two" in error["message"] or "two -> one" in error["message"]


def test_the_working_directory_is_gone(place: Path) -> None:
    script = f'cd {place.parent} && mkdir gone && cd gone && rmdir ../gone && exec "$0" validate --json'
    check(shell(script, cwd=place), "E_NO_PROJECT")


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("arguments", ["--help", "validate --json", "grant --help", "no-such-command"])
def test_nowhere_to_write(place: Path, redirect: str, arguments: str) -> None:
    run = shell(f'exec "$0" {arguments} {redirect}', cwd=place)
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr
    assert "E_BUG" not in run.stderr
    assert "E_DISK" not in run.stderr
