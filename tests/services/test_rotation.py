"""Renewing credentials on real servers: nothing that runs is cut off, and no crash leaves two truths."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pymysql
import pytest

from djops.compile.mysql_state import AccountId
from djops.errors import DjopsError
from djops.plan.change import Plan
from djops.plan.drift_kinds import DriftKind
from djops.plan.operations import Operation
from djops.plan.rotation import NEXT_FIELD
from djops.services import access, applying, rotation
from djops.systems import datajoint
from djops.systems.connections import Secret
from djops.systems.s3 import S3
from tests.conftest import LabUnderTest
from tests.support.ground import Ground, ground_of
from tests.support.projects import pipeline

GRAPH = pipeline({"rotation_a": ()}, ["rotation_a.#thing"])
PEOPLE = {"ada": [{"role": "viewer", "on": "rotation_a"}], "ben": [{"role": "viewer", "on": "rotation_a"}]}
PATH = "demo_lab/people/ada"
ADA = AccountId("ada")


@pytest.fixture(scope="module")
def made(lab: LabUnderTest) -> Iterator[Ground]:
    with ground_of(lab, GRAPH, ["rotation_a.`#thing` (x INT PRIMARY KEY)"]) as ground:
        ground.people(PEOPLE)
        yield ground


@pytest.fixture
def ground(made: Ground) -> Ground:
    """Bring everybody's credentials in order, with none from before."""
    made.apply()
    finish(made)
    return made


def secrets(ground: Ground) -> Mapping[str, str]:
    stored = ground.servers.secrets.read_secret(PATH)
    assert stored is not None
    return stored.fields


def logs_in(ground: Ground, password: str) -> bool:
    try:
        session(ground, password).close()
    except pymysql.OperationalError:
        return False
    return True


def session(ground: Ground, password: str) -> pymysql.Connection[pymysql.cursors.Cursor]:
    mysql = ground.servers.site.mysql
    ca = {"ca": str(mysql.ca)}
    return pymysql.connect(host=mysql.host, port=mysql.port, ssl=ca, user="ada", password=password)


def key_works(ground: Ground, held: Mapping[str, str]) -> bool:
    access_key, secret = held["stores.main.access_key"], Secret(held["stores.main.secret_key"])
    store = S3(replace(ground.servers.site.s3, access_key=access_key, secret_key=secret))
    try:
        store._clients["s3"].list_objects_v2(Bucket="my-lab-data", Prefix="my_pipeline/_hash/rotation_a/")
    except store._clients["s3"].exceptions.ClientError:
        return False
    return True


def carry_out(ground: Ground, plan: Plan) -> None:
    access.apply(ground.servers, plan)


def begin(ground: Ground, *names: str) -> Plan:
    with ground.servers.changing("rotate", 10, reason="it leaked"):
        plan = rotation.begin(ground.servers, ground.wanted, names)
        carry_out(ground, plan)
    return plan


def finish(ground: Ground, *names: str) -> Plan:
    with ground.servers.changing("rotate --finish", 10):
        plan = rotation.finish(ground.servers, ground.wanted, names)
        carry_out(ground, plan)
    return plan


def test_both_hold_until_the_renewal_is_finished(ground: Ground) -> None:
    before = dict(secrets(ground))
    running = session(ground, before["database.password"])
    site = ground.servers.site.mysql
    with datajoint.connect(replace(site, user="ada", password=Secret(before["database.password"]))) as client:
        _renew(ground, before)
        # Its session is from before, and goes on when the old password is gone.
        table = client.FreeTable("rotation_a.#thing")
        assert len(table) == 0
    with running.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM rotation_a.`#thing`")
        assert cursor.fetchone() == (0,)
    assert not rotation.under_way(ground.servers, ground.wanted)
    assert access.make_plan(ground.servers, ground.wanted).is_empty
    assert finish(ground, "ada").is_empty


def _renew(ground: Ground, before: Mapping[str, str]) -> None:
    plan = begin(ground, "ada")
    assert len(plan.changes) == 2
    after = dict(secrets(ground))
    assert after.keys() == before.keys()
    assert after["database.password"] != before["database.password"]
    assert after["stores.main.access_key"] != before["stores.main.access_key"]
    for held in (before, after):
        assert logs_in(ground, held["database.password"])
        assert key_works(ground, held)
    assert [under.who for under in rotation.under_way(ground.servers, ground.wanted)] == ["ada"]
    # Neither a plan nor another beginning ends what holds for now.
    assert access.make_plan(ground.servers, ground.wanted).is_empty
    assert begin(ground, "ada").is_empty
    assert not ground.look()
    finish(ground, "ada")
    assert logs_in(ground, after["database.password"])
    assert not logs_in(ground, before["database.password"])
    assert key_works(ground, after)
    assert not key_works(ground, before)


def test_everybody_at_once(ground: Ground) -> None:
    assert len(begin(ground).changes) == 4
    assert {under.who for under in rotation.under_way(ground.servers, ground.wanted)} == {"ada", "ben"}
    finish(ground)
    assert access.make_plan(ground.servers, ground.wanted).is_empty


def test_what_is_overdue_is_drift_and_the_next_apply_ends_it(ground: Ground) -> None:
    before = dict(secrets(ground))
    with ground.servers.changing("rotate", 10):
        carry_out(ground, rotation.begin(ground.servers, ground.wanted, ["ada"], "2030-01-08"))
    (under,) = rotation.under_way(ground.servers, ground.wanted)
    assert under.until == "2030-01-08"
    assert not ground.look()
    early, ground.wanted = ground.wanted, replace(ground.wanted, today=dt.date(2030, 1, 8))
    try:
        found = {one.kind: one for one in ground.look()}
        assert set(found) == {DriftKind.SECOND_PASSWORD, DriftKind.EXTRA_KEY}
        assert len(ground.apply().changes) == 2
        assert not ground.look()
    finally:
        ground.wanted = early
    assert not logs_in(ground, before["database.password"])
    assert not key_works(ground, before)
    assert logs_in(ground, secrets(ground)["database.password"])
    assert key_works(ground, secrets(ground))


def test_an_earlier_grace_does_not_end_a_later_rotation(ground: Ground) -> None:
    with ground.servers.changing("rotate", 10):
        carry_out(ground, rotation.begin(ground.servers, ground.wanted, ["ada"], "2020-01-01"))
    finish(ground, "ada")
    begin(ground, "ada")
    assert access.make_plan(ground.servers, ground.wanted).is_empty


class Crash(BaseException):
    """The end of djops at a point of a test's choice."""


@contextlib.contextmanager
def crashing(monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> Iterator[None]:
    real, count = applying.execute, iter(range(1000))

    def execute(servers: access.Servers, operation: Operation) -> None:
        here = next(count)
        if here == at and not after:
            raise Crash
        real(servers, operation)
        if here == at:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(applying, "execute", execute)
        with contextlib.suppress(Crash):
            yield


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(7))
def test_a_crash_anywhere_leaves_what_is_handed_out_in_force(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    before = dict(secrets(ground))
    with crashing(monkeypatch, at, after=after):
        begin(ground, "ada")
    now = dict(secrets(ground))
    assert logs_in(ground, now["database.password"])
    assert logs_in(ground, before["database.password"])
    assert key_works(ground, now)
    assert key_works(ground, before)
    ground.apply()
    assert access.make_plan(ground.servers, ground.wanted).is_empty
    now = dict(secrets(ground))
    assert logs_in(ground, now["database.password"])
    assert key_works(ground, now)
    assert key_works(ground, before)
    begin(ground, "ada")
    finish(ground, "ada")
    now = dict(secrets(ground))
    assert NEXT_FIELD not in now
    assert logs_in(ground, now["database.password"])
    assert not logs_in(ground, before["database.password"])
    assert key_works(ground, now)
    assert list(ground.servers.s3.user("ada").keys) == [now["stores.main.access_key"]]
    assert access.make_plan(ground.servers, ground.wanted).is_empty


@pytest.mark.parametrize("at", range(3))
def test_a_crash_while_finishing_is_done_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    before = dict(secrets(ground))
    begin(ground, "ada")
    with crashing(monkeypatch, at, after=True):
        finish(ground, "ada")
    finish(ground, "ada")
    assert not logs_in(ground, before["database.password"])
    assert not key_works(ground, before)
    assert access.make_plan(ground.servers, ground.wanted).is_empty


def test_a_key_that_was_made_and_not_kept_is_deleted_by_the_next_plan(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        patch.setattr(applying, "_keep_key", lose)
        begin(ground, "ada")
    assert len(ground.servers.s3.user("ada").keys) == 2
    ground.apply()
    assert list(ground.servers.s3.user("ada").keys) == [secrets(ground)["stores.main.access_key"]]


def test_a_crash_between_keeping_a_key_and_noting_it_leaves_one_truth(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = applying._note

    def note(servers: access.Servers, path: str, facts: Mapping[str, str]) -> None:
        if facts.get("s3_access_key"):
            raise Crash
        real(servers, path, facts)

    before = dict(secrets(ground))
    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        patch.setattr(applying, "_note", note)
        begin(ground, "ada")
    assert key_works(ground, secrets(ground))
    ground.apply()
    assert key_works(ground, secrets(ground))
    assert key_works(ground, before)


def test_an_older_password_that_somebody_set_is_still_found(ground: Ground) -> None:
    begin(ground, "ada")
    finish(ground, "ada")
    time.sleep(1.1)  # the server tells in whole seconds when a password was changed
    ground.root.query("ALTER USER ada IDENTIFIED BY 'known-to-somebody' RETAIN CURRENT PASSWORD")
    ground.apply()
    assert not logs_in(ground, "known-to-somebody")
    assert logs_in(ground, secrets(ground)["database.password"])


def test_nobody_is_renewed_whose_credentials_are_not_in_order(ground: Ground) -> None:
    ground.root.query("DROP USER ada")
    with pytest.raises(DjopsError) as caught:
        begin(ground, "ada")
    assert caught.value.code == "E_ROTATION"
    assert len(begin(ground, "ben").changes) == 2
    finish(ground, "ben")
    with pytest.raises(DjopsError) as caught:
        begin(ground, "bob")
    assert caught.value.code == "E_UNKNOWN_PRINCIPAL"
