"""Applying on real servers: by hand and by two at once, it ends where the project file says.

What becomes of it when djops or a server is killed is in ``test_crash.py``.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pymysql
import pytest
from pymysql.constants import ER

from djops.errors import DjopsError
from djops.model.project import Project
from djops.plan.change import Plan, Risk
from djops.plan.operations import AwsCall, Operation, VaultCall
from djops.services import access
from djops.services.site import Site, open_site
from djops.systems.connections import Secret
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest
from tests.support.labs import kill_all
from tests.support.projects import DEMO, pipeline

GRAPH = pipeline(DEMO, ())
PEOPLE: dict[str, list[dict[str, Any]]] = {
    "ada": [{"role": "analyst", "on": "ephys"}],
    "ben": [{"role": "viewer", "on": "imaging"}],
}


@dataclass
class Place:
    """A site whose people tests change as they like."""

    site: Site

    def wanted(self, people: dict[str, list[dict[str, Any]]]) -> access.Wanted:
        data = self.site.project.model_dump()
        data["people"] = {name: {"grants": grants} for name, grants in people.items()}
        self.site = replace(self.site, project=Project.model_validate(data))
        return access.Wanted.of(self.site.project, GRAPH)

    def bring_to(self, people: dict[str, list[dict[str, Any]]]) -> Plan:
        wanted = self.wanted(people)
        with access.Servers(self.site) as servers, servers.changing("test", 10):
            plan = access.make_plan(servers, wanted)
            access.apply(servers, plan)
            assert access.make_plan(servers, wanted).is_empty
            return plan

    def plan(self) -> Plan:
        with access.Servers(self.site) as servers:
            return access.make_plan(servers, access.Wanted.of(self.site.project, GRAPH))

    def login(self, who: str) -> None:
        self.session(who).close()

    def session(self, who: str) -> pymysql.Connection[pymysql.cursors.Cursor]:
        with access.Servers(self.site) as servers:
            stored = servers.secrets.read_secret(f"{self.site.project.project}/people/{who}")
        assert stored is not None
        return pymysql.connect(
            host=self.site.mysql.host,
            port=self.site.mysql.port,
            user=who,
            password=stored.fields["database.password"],
            ssl={"ca": str(self.site.mysql.ca)},
        )


@pytest.fixture
def place(lab: LabUnderTest) -> Iterator[Place]:
    made = Place(open_site(lab.project_file))
    yield made
    made.bring_to({})


def by_root(place: Place, *statements: str) -> None:
    assert place.site.mysql_root is not None
    with Mysql(place.site.mysql_root) as root:
        for statement in statements:
            root.query(statement)


def by_hand(place: Place, *operations: Operation) -> None:
    with access.Servers(place.site) as servers:
        for operation in operations:
            access.execute(servers, operation)


SQL_DRIFT = {
    "a direct grant": "GRANT SELECT ON `session`.* TO ada",
    "a wildcard grant": "GRANT SELECT ON `%`.* TO ada",
    "a grant option": "GRANT SELECT ON `ephys`.* TO 'ephys:viewer' WITH GRANT OPTION",
    "a lost grant": "REVOKE SELECT ON `ephys`.* FROM 'ephys:viewer'",
    "a role": "GRANT 'imaging:viewer' TO ada",
    "a role to pass on": "GRANT 'imaging:viewer' TO ben WITH ADMIN OPTION",
    "no default role": "SET DEFAULT ROLE NONE TO ada",
    "no TLS": "ALTER USER ada REQUIRE NONE",
    "a lock": "ALTER USER ada ACCOUNT LOCK",
    "an open role": "ALTER USER 'ephys:viewer' ACCOUNT UNLOCK",
    "a dropped role": "DROP ROLE 'ephys:viewer'",
    "a dropped account": "DROP USER ada",
    "a dynamic privilege": "GRANT CONNECTION_ADMIN ON *.* TO ada",
    "another password": "ALTER USER ada IDENTIFIED BY 'known-to-somebody'",
    "a second password": "ALTER USER ada IDENTIFIED BY 'known-to-somebody' RETAIN CURRENT PASSWORD",
}


@pytest.mark.parametrize("kind", SQL_DRIFT)
def test_what_somebody_did_in_mysql_is_found_and_mended(place: Place, kind: str) -> None:
    place.bring_to(PEOPLE)
    if "password" in kind:
        time.sleep(1.1)  # the server tells in whole seconds when a password was changed
    by_root(place, SQL_DRIFT[kind])
    assert not place.plan().is_empty
    place.bring_to(PEOPLE)
    place.login("ada")


def _iam(action: str, **parameters: object) -> AwsCall:
    return AwsCall("iam", action, parameters)


OPEN = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
OTHER_DRIFT: dict[str, list[Operation]] = {
    "another policy": [_iam("PutUserPolicy", UserName="ada", PolicyName="more", PolicyDocument=OPEN)],
    "a changed policy": [_iam("PutUserPolicy", UserName="ada", PolicyName="djops", PolicyDocument=OPEN)],
    "a lost policy": [_iam("DeleteUserPolicy", UserName="ada", PolicyName="djops")],
    "another key": [_iam("CreateAccessKey", UserName="ada")],
    "an unversioned bucket": [
        AwsCall(
            "s3",
            "PutBucketVersioning",
            {"Bucket": "my-lab-data", "VersioningConfiguration": {"Status": "Suspended"}},
        )
    ],
    "a lost secret": [VaultCall("DELETE", "djops/metadata/demo_lab/people/ada")],
    "a changed Vault policy": [
        VaultCall(
            "PUT", "sys/policies/acl/djops-demo_lab-ada", {"policy": 'path "*" { capabilities = ["read"] }'}
        )
    ],
    "another Vault policy": [
        VaultCall(
            "PUT", "sys/policies/acl/djops-demo_lab-eve", {"policy": 'path "*" { capabilities = ["read"] }'}
        )
    ],
}


@pytest.mark.parametrize("kind", OTHER_DRIFT)
def test_what_somebody_did_elsewhere_is_found_and_mended(place: Place, kind: str) -> None:
    place.bring_to(PEOPLE)
    by_hand(place, *OTHER_DRIFT[kind])
    assert not place.plan().is_empty
    place.bring_to(PEOPLE)
    place.login("ada")


MANY = {f"many{number}": [{"role": "viewer", "on": "ephys"}] for number in range(4)}


def statements(patch: pytest.MonkeyPatch, verb: str) -> list[str]:
    """Note the statements of a kind from here on."""
    found: list[str] = []
    query = Mysql.query

    def noting(mysql: Mysql, text: str, values: Sequence[Any] = ()) -> tuple[tuple[Any, ...], ...]:
        if text.startswith(verb):
            found.append(text)
        return query(mysql, text, values)

    patch.setattr(Mysql, "query", noting)
    return found


def test_who_comes_and_who_goes_at_once_shares_a_statement(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, dropped = statements(monkeypatch, "CREATE USER"), statements(monkeypatch, "DROP USER")
    place.bring_to(MANY)
    roles, people = made
    assert "ephys:viewer" in roles and "IDENTIFIED" not in roles
    assert people.count("IDENTIFIED") == len(MANY)
    for who in MANY:
        place.login(who)
    place.bring_to({})
    assert len(dropped) == 1 and all(f"'{who}'@'%'" in dropped[0] for who in MANY)


def test_who_cannot_be_dropped_is_named_and_holds_up_no_other(place: Place) -> None:
    place.bring_to(MANY)
    by_root(place, "CREATE DATABASE of_many", "CREATE DEFINER = many2 VIEW of_many.v AS SELECT 1 AS x")
    try:
        with pytest.raises(DjopsError, match=r"account many2: no longer there: .*definer") as caught:
            place.bring_to({})
        assert "under way" not in caught.value.message
        with access.Servers(place.site) as servers:
            assert {name.user for name in servers.mysql.read_state().accounts} & MANY.keys() == {"many2"}
    finally:
        by_root(place, "DROP DATABASE of_many")


def test_what_one_row_hides_stays_hidden_between_two_statements(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two lost her rows first, the other's would have come to light."""
    place.bring_to(PEOPLE)
    by_root(
        place,
        "GRANT SELECT ON `i%`.* TO ada",
        "GRANT DELETE ON `im%`.* TO 'ephys:viewer'",
        "GRANT SELECT ON `x%`.* TO 'ephys:viewer'",
        "GRANT DELETE ON `xy%`.* TO ada",
    )
    assert not may_delete(place, "ada", "imaging", "xyz")
    seen: list[set[str]] = []
    query = Mysql.query

    def looking(mysql: Mysql, text: str, values: Sequence[Any] = ()) -> tuple[tuple[Any, ...], ...]:
        rows = query(mysql, text, values)
        if text.startswith(("REVOKE", "GRANT", "SET DEFAULT ROLE")):
            seen.append(may_delete(place, "ada", "imaging", "xyz"))
        return rows

    monkeypatch.setattr(Mysql, "query", looking)
    place.bring_to(PEOPLE)
    assert len(seen) > 1 and not any(seen)


def may_delete(place: Place, who: str, *schemas: str) -> set[str]:
    """Ask the server where a new session of somebody may delete: that a table is not there is told later."""
    found = set()
    with place.session(who) as session, session.cursor() as cursor:
        for schema in schemas:
            with pytest.raises(pymysql.MySQLError) as caught:
                cursor.execute(f"DELETE FROM {schema}.missing WHERE FALSE")
            if caught.value.args[0] != ER.TABLEACCESS_DENIED_ERROR:
                found.add(schema)
    return found


def test_unmanaged_accounts_are_reported_and_left_alone(place: Place) -> None:
    by_root(place, "CREATE USER guest IDENTIFIED BY 'guest'", "GRANT SELECT ON `ephys`.* TO guest")
    try:
        place.bring_to(PEOPLE)
        plan = place.plan()
        assert plan.is_empty
        assert "mysql: guest" in plan.unmanaged
    finally:
        by_root(place, "DROP USER guest")


def test_a_name_that_is_somebody_elses_is_refused_before_anything_changes(place: Place) -> None:
    by_root(place, "CREATE USER ada IDENTIFIED BY 'own'")
    try:
        with pytest.raises(DjopsError) as caught:
            place.bring_to(PEOPLE)
        assert caught.value.code == "E_UNMANAGED"
        with access.Servers(place.site) as servers:
            assert servers.secrets.read_secret("demo_lab/people/ben") is None
    finally:
        by_root(place, "DROP USER ada")


def test_a_server_that_goes_away_is_named_and_the_next_apply_goes_on(place: Place, lab: LabUnderTest) -> None:
    from djops.services import lab as labs

    wanted = place.wanted(PEOPLE)
    with access.Servers(place.site) as servers, servers.changing("test", 10):
        plan = access.make_plan(servers, wanted)
        kill_all(lab.directory / "mysql")
        with pytest.raises(DjopsError) as caught:
            access.apply(servers, plan)
    # Whichever is noticed first: the lock is on that server too.
    assert caught.value.code in ("E_SERVER", "E_LOCK_LOST")
    assert "goes on from here" in (caught.value.hint or "")
    labs.up(place.site.project, "local")
    place.bring_to(PEOPLE)
    place.login("ada")


def test_a_wrong_administrator_password_is_told_without_showing_it(place: Place) -> None:
    wrong = replace(place.site, mysql=replace(place.site.mysql, password=Secret("not-the-one")))
    with pytest.raises(DjopsError) as caught, access.Servers(wrong) as servers:
        access.make_plan(servers, access.Wanted.of(wrong.project, GRAPH))
    assert caught.value.code == "E_DENIED"
    assert "not-the-one" not in str(caught.value)


def test_a_second_djops_is_told_who_holds_the_lock(place: Place) -> None:
    with (
        access.Servers(place.site) as one,
        one.changing("a long apply", 0),
        access.Servers(place.site) as two,
        pytest.raises(DjopsError) as caught,
        two.changing("another", 0),
    ):
        pass
    assert caught.value.code == "E_LOCKED"
    assert str(os.getpid()) in str(caught.value)
    assert "a long apply" in str(caught.value)


def test_what_narrows_comes_first(place: Place) -> None:
    place.bring_to(PEOPLE)
    place.wanted({"ada": [{"role": "viewer", "on": "imaging"}], "ben": [{"role": "analyst", "on": "ephys"}]})
    risks = [change.risk for change in place.plan().changes]
    assert Risk.NARROWS in risks
    assert Risk.WIDENS in risks
    first_widening = risks.index(Risk.WIDENS)
    assert Risk.NARROWS not in risks[first_widening:]


def test_killing_djops_itself_again_and_again(place: Place, lab: LabUnderTest) -> None:
    """The real program, killed -9 at random moments of an apply; the last run is left in peace."""
    before = lab.project_file.read_text()
    command = [sys.executable, "-m", "djops.cli.main", "-q", "apply", "-y", "-C", str(lab.repository)]
    command.remove("-q")
    chance = random.Random(7)
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.4, 1.4))
        process.kill()
        process.wait(120)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert '"applied": 0' in again.stdout
    assert lab.project_file.read_text() == before
    place.login("alice")


def test_a_project_that_gives_up_its_stores_leaves_no_user_behind(place: Place) -> None:
    place.bring_to(PEOPLE)
    with_stores = place.site.project
    place.site = replace(place.site, project=with_stores.model_copy(update={"stores": {}}))
    place.bring_to(PEOPLE)
    with access.Servers(place.site) as servers:
        assert servers.s3.read_state("demo_lab", []).users == {}
    place.site = replace(place.site, project=with_stores)
