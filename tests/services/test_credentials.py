"""The files for a person's client: complete, private, never over somebody else's, and really read."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from djops.errors import ConfigError, DjopsError, NotManagedError, UsageError
from djops.model.graph import PipelineGraph
from djops.model.project import Principal
from djops.services import access, credentials
from djops.services.access import Servers, Wanted
from djops.services.site import Site, open_site
from tests.conftest import LabUnderTest
from tests.support.demo import run_client

NAMES = ("database.user", "database.password", "stores.main.access_key", "stores.main.secret_key")


def _apply(site: Site) -> None:
    with Servers(site) as servers, servers.changing("test", 10):
        access.apply(servers, access.make_plan(servers, Wanted.of(site.project, PipelineGraph())))


def _with_people(site: Site, *names: str) -> Site:
    people = {name: Principal() for name in names}
    return replace(site, project=site.project.model_copy(update={"people": people, "services": {}}))


@pytest.fixture(scope="module")
def site(lab: LabUnderTest) -> Iterator[Site]:
    found = _with_people(open_site(lab.project_file), "alice", "bob")
    _apply(found)
    yield found
    _apply(_with_people(found))


def test_the_client_reads_every_file(site: Site, tmp_path: Path) -> None:
    credentials.write(site, "alice", tmp_path / "alice")
    code = """if True:
        import json, sys, warnings
        warnings.filterwarnings("error", message="(?i).*config")
        import datajoint as dj
        user = dj.conn().query("SELECT CURRENT_USER()").fetchone()[0]
        cipher = dj.conn().query("SHOW STATUS LIKE 'Ssl_cipher'").fetchone()[1]
        stores = [dj.config.get_store_spec(), dj.config.get_store_spec("main")]
        json.dump([user, bool(cipher), *stores], sys.stdout)
    """
    user, encrypted, default, main = json.loads(run_client(tmp_path / "alice", tmp_path, ["-c", code]))
    secrets = credentials.read(site, "alice")
    assert user.startswith("alice@")
    assert encrypted
    assert default == main
    assert main["access_key"] == secrets["stores.main.access_key"]
    assert main["secret_key"] == secrets["stores.main.secret_key"]
    assert main["secure"] is False
    assert f"http://{main['endpoint']}" == site.s3.endpoint


def test_the_client_finds_them_from_below(site: Site, tmp_path: Path) -> None:
    credentials.write(site, "bob", tmp_path / "bob")
    (tmp_path / "bob" / "notebooks" / "2027").mkdir(parents=True)
    code = "import datajoint as dj; print(dj.conn().query('SELECT CURRENT_USER()').fetchone()[0])"
    told = run_client(tmp_path / "bob" / "notebooks" / "2027", tmp_path, ["-c", code])
    assert told.startswith("bob@")


def test_only_the_owner_can_read_them(site: Site, tmp_path: Path) -> None:
    written = credentials.write(site, "alice", tmp_path / "alice")
    assert {path.name for path in written.files} == {"datajoint.json", *NAMES}
    assert _mode(tmp_path / "alice") == _mode(tmp_path / "alice" / ".secrets") == 0o700
    assert {_mode(path) for path in written.files} == {0o600}
    assert {path.name for path in (tmp_path / "alice" / ".secrets").iterdir()} == set(NAMES)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nothing_secret_is_in_the_shared_settings(site: Site, tmp_path: Path) -> None:
    credentials.write(site, "alice", tmp_path)
    shared = (tmp_path / "datajoint.json").read_text()
    assert not [name for name in NAMES if (tmp_path / ".secrets" / name).read_text() in shared]


def test_a_second_time_changes_nothing_but_loose_permissions(site: Site, tmp_path: Path) -> None:
    first = credentials.write(site, "alice", tmp_path)
    loose = tmp_path / ".secrets" / "database.password"
    loose.chmod(0o644)
    again = credentials.write(site, "alice", tmp_path)
    assert set(first.changed) == set(first.files)
    assert again.changed == ()
    assert _mode(loose) == 0o600


@pytest.mark.parametrize("content", ['{"database": {"host": "elsewhere"}}', "not JSON", ""])
def test_other_settings_are_not_replaced_without_force(site: Site, tmp_path: Path, content: str) -> None:
    (tmp_path / "datajoint.json").write_text(content)
    with pytest.raises(NotManagedError) as caught:
        credentials.write(site, "alice", tmp_path)
    assert caught.value.code == "E_EXISTS"
    assert (tmp_path / "datajoint.json").read_text() == content
    assert not (tmp_path / ".secrets").exists()
    credentials.write(site, "alice", tmp_path, force=True)
    assert json.loads((tmp_path / "datajoint.json").read_text())["database"]["host"] == site.mysql.host


def test_the_same_settings_in_another_layout_are_no_obstacle(site: Site, tmp_path: Path) -> None:
    (tmp_path / "datajoint.json").write_text(json.dumps(credentials.shared_settings(site)))
    credentials.write(site, "alice", tmp_path)


def test_somebody_elses_secrets_are_not_replaced_without_force(site: Site, tmp_path: Path) -> None:
    credentials.write(site, "bob", tmp_path)
    with pytest.raises(NotManagedError):
        credentials.write(site, "alice", tmp_path)
    assert (tmp_path / ".secrets" / "database.user").read_text() == "bob"
    credentials.write(site, "alice", tmp_path, force=True)
    assert (tmp_path / ".secrets" / "database.user").read_text() == "alice"


def test_secrets_are_not_written_through_a_link(site: Site, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice" / ".secrets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        credentials.write(site, "alice", tmp_path / "alice")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("above", "here", "expected"),
    [
        (None, None, ".secrets/\n"),
        ("*.pyc\n", None, ".secrets/\n"),
        (".secrets\n", None, None),
        ("/x\n**/.secrets/\n", "*.log\n", "*.log\n"),
        (None, "*.log", "*.log\n.secrets/\n"),
        (None, "*.log\n.secrets/\n", "*.log\n.secrets/\n"),
    ],
)
def test_a_repository_is_told_to_ignore_them(
    site: Site, tmp_path: Path, above: str | None, here: str | None, expected: str | None
) -> None:
    directory = tmp_path / "people" / "alice"
    directory.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    for folder, text in ((tmp_path, above), (directory, here)):
        if text is not None:
            (folder / ".gitignore").write_text(text)
    for _ in range(2):
        credentials.write(site, "alice", directory)
    ignored = directory / ".gitignore"
    assert (ignored.read_text() if ignored.exists() else None) == expected


def test_outside_of_a_repository_there_is_nothing_to_ignore(site: Site, tmp_path: Path) -> None:
    credentials.write(site, "alice", tmp_path)
    assert not (tmp_path / ".gitignore").exists()


def test_an_unknown_name_is_refused_with_the_nearest(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        credentials.write(site, "alcie", tmp_path / "x")
    assert "'alice'" in (caught.value.hint or "")
    assert not (tmp_path / "x").exists()


def test_somebody_without_credentials_yet(site: Site, tmp_path: Path) -> None:
    newcomer = _with_people(site, "alice", "nina")
    with pytest.raises(DjopsError) as caught:
        credentials.write(newcomer, "nina", tmp_path / "x")
    assert caught.value.code == "E_NO_CREDENTIALS"
    assert not (tmp_path / "x").exists()


def test_a_file_in_the_place_of_the_directory(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(ConfigError):
        credentials.write(site, "alice", tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"
