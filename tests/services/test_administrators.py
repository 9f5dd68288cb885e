"""`djops up` and `djops rotate --root` on a lab of its own: roots leave the disk, and everything goes on."""

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
from djops.plan.operations import AwsCall
from djops.services import administrators
from djops.services import lab as labs
from djops.services.site import Site, open_site
from djops.systems import passwords
from djops.systems.connections import Secret
from djops.systems.files import read_json, write_json
from djops.systems.local import ceph_access
from djops.systems.local.server import Lab
from djops.systems.mysql import Mysql
from djops.systems.progress import Progress
from djops.systems.s3 import S3
from djops.systems.vault import Secrets
from tests.support.cli import Run, invoke

FILES = ("mysql-root", "mysql-manager", "s3-root", "s3-manager", "secrets-approle")


FIRST: dict[str, dict[str, Any]] = {}
"""What the lab's first start wrote to the disk, before `up` renewed it."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lab that may be treated badly, with everybody's rights applied."""
    repository = tmp_path_factory.mktemp("roots") / "roots-lab"
    with resources.as_file(resources.files("djops") / "demo_pipeline") as shipped:
        shutil.copytree(shipped, repository)
    file = repository / "djops.yaml"
    file.write_text(file.read_text().replace("project: demo_lab", "project: roots_lab"))
    renew = administrators.put_away

    def noted(lab: Lab, progress: Progress | None = None) -> tuple[administrators.Renewed, ...]:
        FIRST.update(on_disk(repository))
        return renew(lab, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(administrators, "put_away", noted)
        up = run(repository, "up")
    assert up.status == 0, up.stderr
    assert "unseal key lies beside its data" in up.stderr
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


def nobody_gets_in(repository: Path, before: dict[str, dict[str, Any]], *names: str) -> None:
    place = site(repository)
    assert place.mysql_root is not None
    for name, connection in (("mysql-root", place.mysql_root), ("mysql-manager", place.mysql)):
        if name not in names:
            continue
        with (
            pytest.raises(AccessDeniedError),
            Mysql(replace(connection, password=Secret(before[name]["password"]))),
        ):
            pass
    for name in {"s3-root", "s3-manager"} & set(names):
        key = {"access_key": before[name]["access_key"], "secret_key": Secret(before[name]["secret_key"])}
        with pytest.raises(AccessDeniedError):
            S3(replace(place.s3, **key)).ask("iam", "ListUsers", None)
    if "secrets-approle" not in names:
        return
    approle = replace(place.secrets, secret_id=Secret(before["secrets-approle"]["secret_id"]))
    with pytest.raises(AccessDeniedError), Secrets(approle) as session:
        session.login()


def kept_well(repository: Path) -> None:
    """Both roots are in the secrets server alone, and there is one of each."""
    files, place = on_disk(repository), site(repository)
    assert files["mysql-root"] == {"user": "root", "kept_at": "roots_lab/servers/mysql-root"}
    assert set(files["s3-root"]) == {"access_key", "kept_at"}
    all_get_in(repository)
    assert place.mysql_root is not None and place.s3_root is not None
    with Mysql(place.mysql_root) as root:
        second = "User_attributes->>'$.additional_password'"
        assert list(root.query(f"SELECT {second} FROM mysql.user WHERE User = 'root'")) == [(None,)]
    keys = S3(place.s3_root).call(AwsCall("iam", "ListAccessKeys", {}))["AccessKeyMetadata"]
    assert [key["AccessKeyId"] for key in keys] == [files["s3-root"]["access_key"]]


def test_what_a_first_start_leaves_on_the_disk_opens_nothing(own: Path) -> None:
    assert {"password"} <= set(FIRST["mysql-root"]) and {"secret_key"} <= set(FIRST["s3-root"])
    kept_well(own)
    nobody_gets_in(own, FIRST, "mysql-root", "s3-root")
    before = on_disk(own)
    again = run(own, "up", "--json").answer["data"]
    assert (again["changed"], again["renewed"], on_disk(own)) == (False, [], before)


def test_roots_leave_the_disk_and_nobody_is_cut_off(own: Path) -> None:
    before, place = with_roots(own), site(own)
    assert place.mysql_root is not None
    with Mysql(place.mysql) as manager, Mysql(place.mysql_root) as root:
        done = rotate(own)
        assert all(one["done"] for one in done.answer["data"]["renewed"]), done.stdout
        for open_session in (manager, root):
            open_session.query("SELECT 1")
    nobody_gets_in(own, before, *FILES)
    kept_well(own)
    assert not secret_values(before) & secret_values(on_disk(own))
    assert run(own, "plan").status == 0
    assert "rotate --root" in run(own, "log").stdout


def with_roots(repository: Path) -> dict[str, dict[str, Any]]:
    """Return what administrators log in with, wherever it is kept."""
    place, files = site(repository), on_disk(repository)
    assert place.mysql_root is not None and place.s3_root is not None
    files["mysql-root"]["password"] = place.mysql_root.password.reveal()
    files["s3-root"]["secret_key"] = place.s3_root.secret_key.reveal()
    return files


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


def lay_on_the_disk(repository: Path) -> None:
    """Bring back what a first start leads to: both roots in files, and nothing in the secrets server."""
    place, files = site(repository), with_roots(repository)
    with Secrets(place.secrets) as session:
        for name in ("mysql-root", "s3-root"):
            kept = files[name].pop("kept_at")
            write_json(place.lab / "secrets" / f"{name}.json", files[name])
            session.delete_secret_completely(kept)


@pytest.mark.parametrize(
    ("where", "after"),
    [
        (administrators, "_retain"),
        (Secrets, "merge_secret"),
        (administrators, "write_json"),
        (administrators, "_discard"),
        (ceph_access, "renew_root"),
    ],
)
def test_an_up_that_was_killed_while_it_renewed_is_finished_by_the_next(
    own: Path, monkeypatch: pytest.MonkeyPatch, where: Any, after: str
) -> None:
    class Crash(BaseException):
        pass

    lay_on_the_disk(own)
    real = getattr(where, after)

    def die(*arguments: Any, **options: Any) -> Any:
        real(*arguments, **options)
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(where, after, die)
        labs.up(site(own).project, "local")
    all_get_in(own)
    assert run(own, "up").status == 0
    kept_well(own)


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
