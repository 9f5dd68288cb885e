"""`djops rotate --root` on a lab of its own: roots leave the disk, everything goes on, `up` still works."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pyrage  # type: ignore[import-untyped]
import pytest

from djops.errors import AccessDeniedError
from djops.services import administrators
from djops.services.site import Site, open_site
from djops.systems import passwords
from djops.systems.connections import Secret
from djops.systems.files import read_json
from djops.systems.mysql import Mysql
from djops.systems.s3 import S3
from djops.systems.vault import Secrets
from tests.support.cli import Run, invoke

FILES = ("mysql-root", "mysql-manager", "s3-root", "s3-manager", "secrets-approle")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lab that may be treated badly, with everybody's rights applied."""
    repository = tmp_path_factory.mktemp("roots") / "roots-lab"
    with resources.as_file(resources.files("djops") / "demo_pipeline") as shipped:
        shutil.copytree(shipped, repository)
    file = repository / "djops.yaml"
    file.write_text(file.read_text().replace("project: demo_lab", "project: roots_lab"))
    assert run(repository, "up").status == 0
    assert run(repository, "apply", "--yes").status == 0
    yield repository
    invoke("down", "--purge", "--yes", "-C", repository)


def run(repository: Path, *arguments: str) -> Run:
    return invoke(*arguments, "-C", repository)


def site(repository: Path) -> Site:
    return open_site(repository / "djops.yaml")


def on_disk(repository: Path) -> dict[str, dict[str, Any]]:
    folder = site(repository).lab / "secrets"
    return {name: read_json(folder / f"{name}.json") or {} for name in FILES}


def rotate(repository: Path) -> Run:
    done = run(repository, "rotate", "--root", "--yes", "--reason", "yearly", "--json")
    assert done.status == 0, done.stdout
    return done


def all_get_in(repository: Path) -> None:
    """Every administrator's credential works, by way of what is on the disk now."""
    place = site(repository)
    assert place.mysql_root is not None
    assert place.s3_root is not None
    for mysql in (place.mysql, place.mysql_root):
        with Mysql(mysql) as server:
            assert list(server.query("SELECT 1")) == [(1,)]
    assert S3(place.s3_root).ask("iam", "ListUsers", None) is not None
    assert S3(place.s3).user("alice").keys
    with Secrets(place.secrets) as session:
        session.login()


def nobody_gets_in(repository: Path, before: dict[str, dict[str, Any]]) -> None:
    place = site(repository)
    assert place.mysql_root is not None
    for name, connection in (("mysql-root", place.mysql_root), ("mysql-manager", place.mysql)):
        with (
            pytest.raises(AccessDeniedError),
            Mysql(replace(connection, password=Secret(before[name]["password"]))),
        ):
            pass
    for name in ("s3-root", "s3-manager"):
        key = {"access_key": before[name]["access_key"], "secret_key": Secret(before[name]["secret_key"])}
        with pytest.raises(AccessDeniedError):
            S3(replace(place.s3, **key)).ask("iam", "ListUsers", None)
    approle = replace(place.secrets, secret_id=Secret(before["secrets-approle"]["secret_id"]))
    with pytest.raises(AccessDeniedError), Secrets(approle) as session:
        session.login()


def test_roots_leave_the_disk_and_nobody_is_cut_off(own: Path) -> None:
    before, place = on_disk(own), site(own)
    assert place.mysql_root is not None
    with Mysql(place.mysql) as manager, Mysql(place.mysql_root) as root:
        done = rotate(own)
        assert all(one["done"] for one in done.answer["data"]["renewed"]), done.stdout
        for open_session in (manager, root):
            open_session.query("SELECT 1")
    nobody_gets_in(own, before)
    all_get_in(own)
    after = on_disk(own)
    assert after["mysql-root"] == {"user": "root", "kept_at": "roots_lab/servers/mysql-root"}
    assert set(after["s3-root"]) == {"access_key", "kept_at"}
    assert not {str(one) for name in FILES for one in before[name].values()} & secret_values(after)
    assert run(own, "plan").status == 0
    assert "rotate --root" in run(own, "log").stdout


def secret_values(files: dict[str, dict[str, Any]]) -> set[str]:
    fields = ("password", "secret_key", "secret_id")
    return {str(files[name][field]) for name in files for field in fields if field in files[name]}


def test_the_lab_comes_up_again_with_its_roots_in_the_secrets_server(own: Path) -> None:
    rotate(own)
    assert run(own, "down", "--yes").status == 0
    up = run(own, "up")
    assert up.status == 0, up.stderr
    all_get_in(own)
    assert run(own, "plan").status == 0


@pytest.mark.parametrize("after", ["_retain", "merge_secret", "write_json"])
def test_a_rotation_that_was_killed_is_finished_by_the_next(
    own: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    class Crash(BaseException):
        pass

    place: Any = Secrets if after == "merge_secret" else administrators
    real = getattr(place, after)

    def die(*arguments: Any, **options: Any) -> Any:
        real(*arguments, **options)
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(place, after, die)
        project = site(own).project
        administrators.rotate(project, "local")
    rotate(own)
    all_get_in(own)


def lose_the_secrets_server(repository: Path) -> None:
    place = site(repository)
    assert run(repository, "down", "--yes").status == 0
    shutil.rmtree(place.lab / "openbao")
    (place.lab / "secrets" / "secrets-approle.json").unlink()


def test_a_fresh_secrets_server_is_filled_from_an_export(own: Path, tmp_path: Path) -> None:
    rotate(own)
    identity = pyrage.x25519.Identity.generate()
    key = tmp_path / "key.txt"
    key.write_text(f"# made today\n{identity}\n")
    saved = tmp_path / "secrets.age"
    to = ("--to", str(saved), "--age", str(identity.to_public()))
    done = run(own, "secrets", "export", *to, "--yes", "--json")
    assert done.status == 0, done.stdout
    assert done.answer["data"]["exported"]["secrets"] == 7  # five people, two roots
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    held = site(own)
    assert held.mysql_root is not None
    assert "beside" in run(own, "secrets", "export", "--to", str(held.lab / "x"), *to[2:], "--yes").stderr
    password = held.mysql_root.password.reveal()
    assert password.encode() not in saved.read_bytes()
    lose_the_secrets_server(own)
    up = run(own, "up")
    assert up.status == 0, up.stderr
    assert run(own, "plan").status == 2
    audited = run(own, "secrets", "audit", "--json")
    assert audited.status == 2
    assert {one["kind"] for one in audited.answer["data"]["findings"]} == {"MISSING", "SEAL"}
    refused = invoke("connect", "mysql", "-C", own, "--", "true")
    assert "E_DATA_LOST" in refused.stderr
    back = run(own, "secrets", "import", str(saved), "--identity", str(key), "--yes", "--json")
    assert back.status == 0, back.stdout
    assert len(back.answer["data"]["imported"]["written"]) == 7
    assert password not in back.stdout
    assert run(own, "plan").status == 0
    all_get_in(own)
    assert run(own, "secrets", "audit").status == 0
    synced = run(own, "secrets", "sync", "--yes")
    assert (synced.status, synced.stdout) == (0, "Nothing about secrets differs.\n")
    again = run(own, "secrets", "import", str(saved), "--identity", str(key), "--yes", "--json")
    assert len(again.answer["data"]["imported"]["same"]) == 7


def test_only_the_local_lab_s_administrators_are_djops_to_renew(own: Path, tmp_path: Path) -> None:
    text = (own / "djops.yaml").read_text()
    (tmp_path / "djops.yaml").write_text(text.replace("target: local", "target: existing"))
    assert run(tmp_path, "rotate", "--root", "--yes").status == 1
    assert "exclude each other" in run(own, "rotate", "alice", "--root", "--yes").stderr
    assert len(passwords.generate()) == 32
