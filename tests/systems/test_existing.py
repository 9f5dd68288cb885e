"""Credentials of servers that are already there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from djops.errors import DjopsError, Where
from djops.model.project import Environment
from djops.systems.existing import Existing, connections

LINES = {("environments", "lab", "mysql", "password"): 12, ("environments", "lab"): 5}


def where(*path: str) -> Where:
    while path and path not in LINES:
        path = path[:-1]
    return Where("djops.yaml", LINES.get(path))


def settings(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "target": "existing",
        "mysql": {"host": "db.example.org", "user": "djops", "password": {"file": "mysql.secret"}},
        "s3": {
            "endpoint": "https://s3.example.org",
            "access_key": {"env": "LAB_ACCESS_KEY"},
            "secret_key": {"env": "LAB_SECRET_KEY"},
        },
        "secrets": {
            "address": "https://bao.example.org:8200",
            "role_id": {"env": "LAB_ROLE_ID"},
            "secret_id": {"env": "LAB_SECRET_ID"},
        },
    }
    for key, value in changes.items():
        part, _, name = key.partition("__")
        whole[part] = {**whole[part], name: value} if name else value
    return whole


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ACCESS_KEY", "SECRET_KEY", "ROLE_ID", "SECRET_ID"):
        monkeypatch.setenv(f"LAB_{name}", f"value of {name}")
    (tmp_path / "mysql.secret").write_text("pass word\n")
    (tmp_path / "mysql.secret").chmod(0o600)
    return tmp_path


def load(directory: Path, **changes: Any) -> Existing:
    return connections("lab", Environment.model_validate(settings(**changes)), directory, where)


def test_everything_is_found(directory: Path) -> None:
    (directory / "ca.pem").write_text("")
    found = load(directory, mysql__ca="ca.pem", s3__iam_endpoint="https://iam.example.org")
    assert (found.mysql.host, found.mysql.port, found.mysql.user) == ("db.example.org", 3306, "djops")
    assert found.mysql.password.reveal() == "pass word"
    assert found.mysql.ca == directory / "ca.pem"
    assert found.s3.endpoint == found.s3.admin_endpoint == "https://s3.example.org"
    assert found.s3.iam_endpoint == "https://iam.example.org"
    assert (found.s3.access_key, found.s3.secret_key.reveal()) == (
        "value of ACCESS_KEY",
        "value of SECRET_KEY",
    )
    assert (found.secrets.role_id, found.secrets.secret_id.reveal()) == (
        "value of ROLE_ID",
        "value of SECRET_ID",
    )
    assert "pass word" not in repr(found)
    assert "value of SECRET" not in repr(found)


def test_the_iam_api_is_at_the_endpoint_unless_told_otherwise(directory: Path) -> None:
    assert (load(directory).s3.admin_endpoint, load(directory).s3.iam_endpoint) == (
        "https://s3.example.org",
        None,
    )


def test_objects_may_travel_in_the_clear_but_no_keys(directory: Path) -> None:
    plain = "http://s3.example.org"
    assert (
        load(directory, s3__endpoint=plain, s3__iam_endpoint="https://iam.example.org").s3.endpoint == plain
    )
    for change in ({"s3__endpoint": plain}, {"s3__iam_endpoint": plain}):
        with pytest.raises(DjopsError, match="over http") as error:
            load(directory, **change)
        assert error.value.code == "E_TLS"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644, 0o777])
def test_a_file_others_can_touch_is_refused(directory: Path, mode: int) -> None:
    (directory / "mysql.secret").chmod(mode)
    with pytest.raises(DjopsError) as error:
        load(directory)
    assert (error.value.code, error.value.where) == ("E_MODE", "djops.yaml:12")
    assert "mysql.password" in error.value.message
    assert f"chmod 600 {directory / 'mysql.secret'}" in str(error.value.hint)
    assert "pass word" not in str(error.value)


BAD_FILES = {
    "missing": (None, "there is no file"),
    "empty": (b"", "is empty"),
    "only a line's end": (b"\n", "is empty"),
    "two lines": (b"first\nsecond\n", "more than one line"),
    "not text": (b"\xff\xfe", "not text"),
    "long": (b"x" * 5000, "too long"),
    "null": (b"a\0b", "more than one line"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_without_one_secret_is_refused(directory: Path, case: str) -> None:
    content, reason = BAD_FILES[case]
    file = directory / "mysql.secret"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(DjopsError, match=reason) as error:
        load(directory)
    assert (error.value.code, error.value.where) == ("E_SECRET", "djops.yaml:12")


BAD_SETTINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no server": ({"s3": None}, "E_CONFIG", "does not say where s3 is"),
    "neither": ({"mysql__password": {}}, "E_CONFIG", "mysql.password needs one place"),
    "both": ({"mysql__password": {"file": "a", "env": "B"}}, "E_CONFIG", "not two"),
    "unset variable": ({"secrets__secret_id": {"env": "LAB_NONE"}}, "E_SECRET", "LAB_NONE is not set"),
    "no authority": ({"s3__ca": "none.pem"}, "E_CONFIG", "s3.ca: there is no file"),
    "secrets in the clear": ({"secrets__address": "http://bao.example.org:8200"}, "E_TLS", "over http"),
    "no URL": ({"s3__endpoint": "s3.example.org"}, "E_CONFIG", "is no URL"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_cannot_work_are_refused(directory: Path, case: str) -> None:
    changes, code, reason = BAD_SETTINGS[case]
    with pytest.raises(DjopsError, match=reason) as error:
        load(directory, **changes)
    assert error.value.code == code
    assert str(error.value.where).startswith("djops.yaml:")


def test_loopback_may_do_without_tls(directory: Path) -> None:
    assert (
        load(directory, secrets__address="http://127.0.0.1:8200").secrets.address == "http://127.0.0.1:8200"
    )


def test_all_that_is_wrong_is_told_at_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "mysql.secret").chmod(0o644)
    monkeypatch.setenv("LAB_ROLE_ID", "")
    monkeypatch.delenv("LAB_SECRET_KEY")
    with pytest.raises(DjopsError) as error:
        load(directory)
    assert [single.code for single in error.value.flatten()] == ["E_MODE", "E_SECRET", "E_SECRET"]
