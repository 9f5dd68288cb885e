"""Somebody leaves real servers: every way in is closed and tried, whichever of them is down meanwhile."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pymysql
import pytest

from djops.compile.mysql_state import AccountId
from djops.errors import DjopsError, UsageError
from djops.services import access, credentials, leaving, machines, people, project
from djops.services.access import Servers, Wanted
from djops.services.leaving import Left
from djops.services.site import open_site
from djops.systems.mysql import Mysql
from djops.systems.s3 import S3
from djops.systems.vault import Secrets
from tests.conftest import LabUnderTest
from tests.support.cli import invoke
from tests.support.demo import DemoUnderTest, demo_in
from tests.support.leases import drops
from tests.support.outages import site_without
from tests.support.repository import repository

NAMES = ("pat", "quin", "rhea", "sam", "tess", "ugo", "vera")
LIST = "name;role;on\n" + "".join(f"{name};analyst;ephys\n" for name in NAMES)
TEAM = "\nteams:\n  # both\n  rats: {members: [pat, bob], grants: [{role: viewer, on: analysis}]}\n"


@pytest.fixture(scope="module")
def up(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUnderTest]:
    place = tmp_path_factory.mktemp("links")
    with demo_in(lab, tmp_path_factory.mktemp("here")) as found:
        (place / "people.csv").write_text(LIST)
        arguments = ("--csv", place / "people.csv", "--to", place / "links", "--pages", place / "pages")
        done = invoke("onboard", *arguments, "--yes", "--json", cwd=found.site.project_file.parent)
        assert done.status == 0, done.stdout
        yield found


@contextlib.contextmanager
def servers_of(up: DemoUnderTest) -> Iterator[Servers]:
    with access.opened(project.load(up.site.project_file), None) as (servers, _):
        yield servers


@contextlib.contextmanager
def root_of(up: DemoUnderTest) -> Iterator[Mysql]:
    assert up.site.mysql_root is not None
    with Mysql(up.site.mysql_root) as root:
        yield root


def kept(up: DemoUnderTest, who: str) -> Mapping[str, str]:
    return credentials.read(open_site(up.site.project_file), who)


def leave(up: DemoUnderTest, servers: Servers, who: str, heir: str | None = None) -> Left:
    loaded = project.load(up.site.project_file)
    found = leaving.survey(servers, loaded, who, heir, "the end of a contract")
    with leaving.alone(servers, 10, "the end of a contract"):
        return leaving.leave(servers, loaded, found)


def outcomes(certificate: Mapping[str, Any], when: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in certificate["attempts"]:
        if one["when"] == when:
            found.setdefault(one["system"], set()).add(one["outcome"])
    return found


OBJECTS = (
    "CREATE DEFINER=pat@`%` VIEW ephys.pats AS SELECT 1 AS one",
    "CREATE DEFINER=pat@`%` PROCEDURE ephys.pats() SELECT 'DEFINER=`x`@`y`' AS text",
    "CREATE DEFINER=pat@`%` FUNCTION ephys.one() RETURNS INT DETERMINISTIC RETURN 1",
    "CREATE DEFINER=pat@`%` EVENT ephys.pats ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1",
    "CREATE DEFINER=pat@`%` TRIGGER ephys.pats BEFORE INSERT ON ephys.`#probe` FOR EACH ROW SET @a = 1",
)
DROPS = (
    "DROP VIEW IF EXISTS ephys.pats",
    "DROP PROCEDURE IF EXISTS ephys.pats",
    "DROP FUNCTION IF EXISTS ephys.one",
    "DROP EVENT IF EXISTS ephys.pats",
    "DROP TRIGGER IF EXISTS ephys.pats",
)


@pytest.fixture
def entangled(up: DemoUnderTest) -> Iterator[None]:
    """Pat is in a team, defines objects, and has reserved a job."""
    text = up.site.project_file.read_text()
    up.site.project_file.write_text(text + TEAM)
    with root_of(up) as root:
        for statement in OBJECTS:
            root.query(statement)
        root.query(
            "INSERT INTO ephys.`~~spikes` (subject_id, session_date, channel, status, priority, user) "
            "SELECT subject_id, session_date, channel, 'reserved', 5, 'pat@10.0.0.7' "
            "FROM ephys.__spikes LIMIT 1"
        )
        yield
        for statement in DROPS:
            root.query(statement)
        root.query("DELETE FROM ephys.`~~spikes`")


@pytest.mark.usefixtures("entangled")
def test_the_whole_way(up: DemoUnderTest, tmp_path: Path) -> None:
    fields, place = kept(up, "pat"), up.site.project_file.parent
    her = pymysql.connect(
        host=up.site.mysql.host, port=up.site.mysql.port, user="pat",
        password=fields["database.password"], ssl={"ca": str(up.site.mysql.ca)},
    )  # fmt: skip
    done = invoke(
        "offboard", "pat", "--hand-over-to", "carol", "--reason", "new job", "--to", tmp_path, "--yes",
        "--json", cwd=place,
    )  # fmt: skip
    assert done.status == 0, done.stdout
    with pytest.raises(pymysql.MySQLError):
        her.query("SELECT 1")
    certificate = json.loads((tmp_path / "pat-left.json").read_text())
    assert certificate == done.answer["data"]["certificate"]
    assert certificate["digest"] == leaving.digest(certificate)
    assert outcomes(certificate, "before") == {"mysql": {"open"}, "s3": {"open"}, "secrets": {"open"}}
    assert outcomes(certificate, "after") == {"mysql": {"refused"}, "s3": {"refused"}, "secrets": {"refused"}}
    assert len(certificate["attempts"]) == 8
    assert certificate["had"]["mysql"]["sessions"] == 1
    assert certificate["had"]["mysql"]["reserved jobs"] == ["1 in ephys.~~spikes"]
    assert not any(certificate["left"]["mysql"].values())
    assert certificate["left"]["s3"] == {"user": False, "keys": []}
    assert not any(certificate["left"]["secrets"].values())
    assert certificate["project_file_said"]["teams"] == ["rats"]
    assert certificate["project_file_said"]["grants"] == [{"role": "analyst", "on": "ephys"}]
    after = project.load(up.site.project_file).project
    assert "pat" not in after.people
    assert after.teams["rats"].members == ("bob",)
    page = (tmp_path / "pat-left.html").read_text()
    for text in (page, json.dumps(certificate), done.stdout, done.stderr):
        assert fields["database.password"] not in text
        assert fields["stores.main.secret_key"] not in text
    with root_of(up) as root, servers_of(up) as servers:
        rows = root.query("SELECT status, user FROM ephys.`~~spikes`")
        assert rows == (("pending", ""),)
        heirs = root.query(
            "SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_NAME = 'pats' UNION ALL "
            "SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'ephys' UNION ALL "
            "SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_NAME = 'pats' UNION ALL "
            "SELECT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_NAME = 'pats'"
        )
        assert heirs == (("carol@%",),) * 5
        assert root.query("SELECT one FROM ephys.pats") == ((1,),)
        text = root.query("SHOW CREATE PROCEDURE ephys.pats")[0][2]
        assert "DEFINER=`carol`@`%`" in text
        assert "SELECT 'DEFINER=`x`@`y`' AS text" in text
        told = [entry for entry in servers.journal.read() if certificate["digest"] in entry.detail]
        assert len(told) == 1
        assert not leaving.unfinished(up.site.lab)
    assert invoke("plan", "--json", cwd=place).status == 0


SERVICE = "services: {batcher: {grants: [{role: operator, on: ephys}], credentials: dynamic}}"


def test_a_service_leaves_with_its_log_in_and_what_was_leased_to_it(
    up: DemoUnderTest, tmp_path: Path
) -> None:
    place, path = up.site.project_file.parent, "djops-database/creds/djops-demo_lab-batcher"
    text = up.site.project_file.read_text()
    assert "services: {}" in text
    up.site.project_file.write_text(text.replace("services: {}", SERVICE))
    assert invoke("apply", "--yes", "--json", cwd=place).status == 0
    with servers_of(up) as servers, root_of(up) as root:
        login = machines.another_login(servers, "batcher")
        assert login is not None
        its = Secrets(login)
        lease = (its.request("GET", path) or {})["data"]
        link = pymysql.connect(
            host=up.site.mysql.host, port=up.site.mysql.port, user=lease["username"],
            password=lease["password"], ssl={"ca": str(up.site.mysql.ca)},
        )  # fmt: skip
        try:
            done = invoke("offboard", "batcher", "--to", tmp_path, "--yes", "--json", cwd=place)
            assert done.status == 0, done.stdout
            certificate = done.answer["data"]["certificate"]
            every = {"mysql", "s3", "secrets"}
            assert outcomes(certificate, "before") == {system: {"open"} for system in every}
            assert outcomes(certificate, "after") == {system: {"refused"} for system in every}
            ways = [one["way"].split(" of ")[0] for one in certificate["attempts"] if one["when"] == "after"]
            assert ways == [
                "access key " + certificate["had"]["s3"]["keys"][0],
                "a token with her policy",
                "a log-in with its role id and a secret id",
                "log-in",
            ]
            # The one that was made to be tried is there beside the one that works.
            assert lease["username"] in certificate["had"]["mysql"]["leases"]
            assert certificate["had"]["secrets"]["log-ins"] == [
                "auth/approle/role/djops-demo_lab-batcher",
                "djops-database/roles/djops-demo_lab-batcher",
            ]
            assert not any(certificate["left"]["mysql"].values())
            assert not any(certificate["left"]["secrets"].values())
            with pytest.raises(pymysql.MySQLError):
                link.query("SELECT 1")
            with pytest.raises(DjopsError):
                its.request("GET", path)
            assert root.query("SELECT User FROM mysql.user WHERE User LIKE 'v-%' OR User = 'batcher'") == ()
            assert "batcher" not in project.load(up.site.project_file).project.services
            assert invoke("plan", "--json", cwd=place).status == 0
        finally:
            for statement in drops("demo_lab"):
                root.query(statement)


def without(servers: Servers, system: str) -> None:
    """Point one connection to a port on which nobody listens."""
    servers.site = site_without(servers.site, system)
    if system == "mysql":
        servers.mysql = Mysql(servers.site.mysql)
    elif system == "s3":
        servers.s3 = S3(servers.site.s3)
    else:
        servers.secrets = Secrets(servers.site.secrets)


@pytest.mark.parametrize(("who", "down"), [("quin", "mysql"), ("rhea", "s3"), ("sam", "secrets")])
def test_while_a_system_is_down_the_others_are_closed_and_the_rest_follows(
    up: DemoUnderTest, who: str, down: str
) -> None:
    with servers_of(up) as servers:
        without(servers, down)
        first = leave(up, servers, who)
    assert set(first.pending) == {down}
    assert first.pending[down].code == "E_SERVER"
    assert first.certificate is None
    shown = invoke("offboard", "--json", cwd=up.site.project_file.parent)
    assert shown.status == 2
    assert [(one["who"], one["pending"]) for one in shown.answer["data"]["unfinished"]] == [(who, [down])]
    with servers_of(up) as servers:
        assert who not in project.load(up.site.project_file).project.people
        users = servers.s3.read_state("demo_lab", []).users
        assert (who in users) is (down == "s3")
        assert (AccountId(who) in servers.mysql.read_state().accounts) is (down == "mysql")
        second = leave(up, servers, who)
    assert not second.pending
    assert second.certificate is not None
    # The kept credentials lasted until they had been tried everywhere.
    assert outcomes(second.certificate, "after") == {
        "mysql": {"refused"}, "s3": {"refused"}, "secrets": {"refused"}
    }  # fmt: skip
    assert invoke("offboard", cwd=up.site.project_file.parent).status == 0


class CutError(Exception):
    pass


def test_cut_off_anywhere_it_goes_on(up: DemoUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    left, sends = 0, access.execute
    for number in range(1, 40):
        budget = iter(range(number))

        def send(servers: Servers, operation: Any, budget: Iterator[int] = budget) -> None:
            if next(budget, None) is None:
                raise CutError
            sends(servers, operation)

        monkeypatch.setattr(access, "execute", send)
        with servers_of(up) as servers:
            try:
                done = leave(up, servers, "tess")
            except CutError:
                left += 1
                continue
        assert done.certificate is not None
        assert outcomes(done.certificate, "after")["mysql"] == {"refused"}
        break
    assert left > 1


def test_what_runs_with_her_rights_waits_for_an_heir(up: DemoUnderTest) -> None:
    with root_of(up) as root, servers_of(up) as servers:
        root.query("CREATE DEFINER=ugo@`%` VIEW ephys.ugos AS SELECT 1 AS one")
        try:
            first = leave(up, servers, "ugo")
            assert first.pending["mysql"].code == "E_DEFINER"
            assert "view ephys.ugos" in first.pending["mysql"].message
            assert servers.mysql.read_state().accounts[AccountId("ugo")].locked
            second = leave(up, servers, "ugo", "carol")
            assert second.certificate is not None
            assert root.query("SELECT * FROM ephys.ugos") == ((1,),)
        finally:
            root.query("DROP VIEW ephys.ugos")


PEOPLE = """people:
  # of the old guard
  ann: {grants: [{role: analyst, on: [session, ephys]}]}
  ben: {grants: [{role: viewer, on: session}]}
  cyd: {grants: [{role: analyst, on: session}]}
teams:
  one: ann
  two: [ben, ann, cyd]
  three: {members: [ann]}
  four: {members: ann}
"""


def test_what_would_be_nobodys_goes_to_the_heir(tmp_path: Path) -> None:
    loaded = project.load(repository(tmp_path, PEOPLE))
    orphans = leaving.orphaned(Wanted.of(loaded.project, loaded.graph), "ann")
    assert orphans == {"ephys": ("insert",)}
    handed = leaving.removed(loaded, "ann", "ben", orphans)
    after = handed.loaded.project
    last = after.people["ben"].grants[-1]
    assert (last.role, last.on, last.reason) == ("analyst", ("ephys",), "handed over by ann")
    assert {name: team.members for name, team in after.teams.items()} == {
        "one": (), "two": ("ben", "cyd"), "three": (), "four": ()
    }  # fmt: skip
    assert "ann" not in after.people
    plain = people.removing(loaded.project_file, "ann").loaded.project
    assert (plain.teams, set(plain.people)) == (after.teams, {"ben", "cyd"})
    assert leaving.removed(loaded, "ann", None, orphans).loaded.project.people["ben"].grants == (
        loaded.project.people["ben"].grants
    )


@pytest.mark.parametrize(("who", "heir"), [("nobody", None), ("alice", "alice"), ("alice", "nobody")])
def test_what_is_refused_before_anything_happens(up: DemoUnderTest, who: str, heir: str | None) -> None:
    before = up.site.project_file.read_text()
    with servers_of(up) as servers, pytest.raises(UsageError):
        leave(up, servers, who, heir)
    asked = invoke("offboard", "alice", "--json", cwd=up.site.project_file.parent)
    assert asked.answer["errors"][0]["code"] == "E_CONFIRM"
    assert up.site.project_file.read_text() == before
    assert not leaving.unfinished(up.site.lab)


def test_a_file_that_says_she_is_still_in_is_not_believed(up: DemoUnderTest, tmp_path: Path) -> None:
    (tmp_path / "leaving").mkdir()
    (tmp_path / "leaving" / "zoe.json").write_text("{")
    with pytest.raises(DjopsError) as caught:
        leaving.unfinished(tmp_path)
    assert caught.value.code == "E_STATE"
