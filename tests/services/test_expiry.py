"""Expiry on real servers: it takes away what ended and nothing else, whoever is down meanwhile."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from djops.compile.mysql_state import AccountId, Edge, Event
from djops.compile.s3 import POLICY_NAME
from djops.compile.sql import quote_account
from djops.errors import AccessDeniedError
from djops.plan.change import Risk
from djops.plan.mysql_changes import CancelEvent, ScheduleEvent
from djops.plan.operations import AwsCall
from djops.plan.s3_changes import canonical
from djops.services import access, expiry
from djops.systems.connections import MysqlConnection, S3Connection
from djops.systems.mysql import Mysql
from djops.systems.ports import free_ports
from djops.systems.s3 import S3
from tests.conftest import LabUnderTest
from tests.support.cli import invoke
from tests.support.ground import Ground, ground_of
from tests.support.projects import pipeline

GRAPH = pipeline({"expiry_subject": [], "expiry_ephys": ["expiry_subject"]}, ())
TABLES = ("expiry_subject.subject (k INT PRIMARY KEY)", "expiry_ephys.recording (k INT PRIMARY KEY)")
OVER = {"role": "operator", "on": "expiry_ephys", "until": "2030-01-31"}
STAYS = {"role": "viewer", "on": "expiry_subject"}
PEOPLE = {"ada": [STAYS, OVER], "ben": [{"role": "analyst", "on": "expiry_ephys"}]}
AFTER = dt.date(2030, 2, 1)
ADA, BEN = AccountId("ada"), AccountId("ben")
OPERATOR, VIEWER = AccountId("expiry_ephys:operator"), AccountId("expiry_subject:viewer")


@pytest.fixture(scope="module")
def whole_ground(lab: LabUnderTest) -> Iterator[Ground]:
    with ground_of(lab, GRAPH, TABLES) as made:
        yield made


@pytest.fixture
def ground(whole_ground: Ground) -> Ground:
    """People as of the day before; then their grant is over."""
    whole_ground.people(PEOPLE)
    whole_ground.apply()
    whole_ground.people(PEOPLE, AFTER)
    return whole_ground


def expire(ground: Ground, *, dry_run: bool = False) -> expiry.Expired:
    return expiry.expire(ground.servers, ground.wanted, dry_run=dry_run, lock_wait=10)


def document(ground: Ground, who: str) -> str:
    return canonical(ground.servers.s3.user(who).policies.get(POLICY_NAME))


def test_what_ended_goes_and_everything_else_stays(ground: Ground) -> None:
    bens = document(ground, "ben")
    expired = expire(ground)
    assert not expired.pending
    assert len(expired.done) == len(expired.plan.changes)
    assert {change.risk for change in expired.done} <= {Risk.NARROWS, Risk.KEEPS}
    assert "people.ada.grants[1]: operator on expiry_ephys ended on 2030-01-31" in expired.over["ada"]
    state = ground.servers.mysql.read_state()
    assert Edge(VIEWER, ADA) in state.defaults
    assert not any(edge.member == ADA and edge.role != VIEWER for edge in state.edges)
    assert OPERATOR not in state.accounts
    assert "expiry_ephys" not in document(ground, "ada")
    assert "expiry_subject" in document(ground, "ada")
    assert document(ground, "ben") == bens
    assert expire(ground).plan.is_empty
    assert not ground.look()
    rows = [entry for entry in ground.servers.journal.read() if entry.command == "expire"]
    assert {entry.event for entry in rows} == {"begin", "intent", "done", "end"}


def test_what_somebody_did_by_hand_is_left_for_apply(ground: Ground) -> None:
    ground.by_hand(
        [
            "GRANT DELETE ON expiry_ephys.recording TO ben",
            "REVOKE 'expiry_ephys:analyst' FROM ben",
            f"GRANT '{OPERATOR.user}' TO ben",
            f"REVOKE '{VIEWER.user}' FROM ada",
        ]
    )
    expire(ground)
    state = ground.servers.mysql.read_state()
    assert not any(edge.member == ADA for edge in state.edges), "nothing is given"
    assert any(held.grantee == BEN for held in state.privileges), "nothing else is mended"
    assert {one.kind for one in ground.look()} == {"table grant", "missing role"}
    ground.apply()


def test_a_policy_that_was_narrowed_by_hand_is_not_widened(ground: Ground) -> None:
    statements = ground.servers.s3.user("ada").policies[POLICY_NAME]["Statement"]
    kept = [one for one in statements if one["Action"] != ["s3:ListBucket"]]
    policy = canonical({"Version": "2012-10-17", "Statement": kept})
    parameters = {"UserName": "ada", "PolicyName": POLICY_NAME, "PolicyDocument": policy}
    ground.by_hand([AwsCall("iam", "PutUserPolicy", parameters)])
    expire(ground)
    assert "expiry_ephys" not in document(ground, "ada")
    assert "expiry_subject" in document(ground, "ada")
    assert "ListBucket" not in document(ground, "ada")
    ground.apply()
    assert "ListBucket" in document(ground, "ada")


def test_looking_changes_nothing(ground: Ground) -> None:
    before = ground.servers.mysql.read_state()
    expired = expire(ground, dry_run=True)
    assert not expired.plan.is_empty
    assert not expired.done
    assert ground.servers.mysql.read_state() == before


def test_without_a_grant_that_is_over_no_server_is_asked(ground: Ground) -> None:
    ground.people({"ada": [STAYS]}, AFTER)
    servers, ground.servers.mysql = ground.servers.mysql, Mysql(gone(ground.servers.site.mysql))
    try:
        assert expire(ground) == expiry.Expired({}, expire(ground).plan)
    finally:
        ground.servers.mysql = servers


def test_where_the_scheduler_is_on_the_server_ends_a_grant_by_itself(ground: Ground) -> None:
    ground.people(PEOPLE)
    events = planned(ground)
    assert [event.at for event in events.values()] == ["2030-02-01 00:00:00"]
    assert events == ground.servers.mysql.read_state().events
    (event,) = events.values()
    soon = ground.root.query("SELECT DATE_FORMAT(UTC_TIMESTAMP() + INTERVAL 1 SECOND, '%Y-%m-%d %H:%i:%s')")
    change = ScheduleEvent(name="demo_lab:soon", event=event._replace(at=soon[0][0]), why=())
    ground.by_hand(change.operations())
    edge = Edge(OPERATOR, ADA)
    until = time.monotonic() + 90
    while edge in ground.servers.mysql.read_state().edges:
        assert time.monotonic() < until, "the event was not carried out"
        time.sleep(0.2)
    assert {(one.kind, one.object) for one in ground.look()} == {("missing role", "ada")}
    ground.apply()


def planned(ground: Ground) -> Mapping[str, Event]:
    events = access.stand(ground.servers, ground.wanted).compiled.mysql.events
    assert events is not None
    return events


@pytest.mark.parametrize("name", ["it's; -- x", "a\\b", "''", "'\\'\\\\", 'plain "%"'])
def test_an_event_is_known_again_whatever_the_names_of_its_roles(whole_ground: Ground, name: str) -> None:
    body = f"REVOKE IF EXISTS {quote_account(name, '%')} FROM 'ada'@'%' IGNORE UNKNOWN USER"
    event = Event("2031-01-01 00:00:00", body)
    whole_ground.by_hand(ScheduleEvent(name="demo_lab:odd", event=event, why=()).operations())
    found = (whole_ground.servers.mysql.read_state().events or {})["demo_lab:odd"]
    whole_ground.by_hand(CancelEvent(name="demo_lab:odd", event=event, why=()).operations())
    assert event.is_shown_as(found), found
    assert not event.is_shown_as(found._replace(active=False))


def test_a_longer_grant_has_one_later_event(ground: Ground) -> None:
    ground.people({**PEOPLE, "ada": [STAYS, {**OVER, "until": "2030-03-31"}]})
    ground.apply()
    events = ground.servers.mysql.read_state().events
    assert events is not None
    assert [event.at for event in events.values()] == ["2030-04-01 00:00:00"]
    ground.people({**PEOPLE, "ada": [STAYS, {**OVER, "until": None}]})
    ground.apply()
    assert not ground.servers.mysql.read_state().events


CHANGES = ["DO SELECT 1", "ON SCHEDULE AT '2031-01-01'", "DISABLE", "RENAME TO djops.x"]


def test_changed_events_are_drift(ground: Ground) -> None:
    """Each of several events is changed in another way, by djops' own account and by somebody else."""
    ends = [f"2030-0{month}-28" for month in range(2, 2 + len(CHANGES))]
    ground.people({f"ann{n}": [{**OVER, "until": end}] for n, end in enumerate(ends)})
    ground.apply()
    names = sorted(planned(ground))
    for server in (ground.servers.mysql, ground.root):
        for name, change in zip(names, CHANGES, strict=True):
            server.query(f"ALTER EVENT djops.`{name}` {change}")
        found = ground.look()
        assert {one.kind for one in found} == {"expiry event"}
        assert {one.object for one in found} >= {*names}
        ground.mend(found)
        server.query("DROP EVENT IF EXISTS djops.x")
        assert not ground.look()


def test_without_the_scheduler_or_the_right_to_it_there_are_no_events(ground: Ground) -> None:
    ground.people({**PEOPLE, "ben": [{**OVER, "until": "2030-05-01"}]})
    for take, give in (
        ("SET GLOBAL event_scheduler = OFF", "SET GLOBAL event_scheduler = ON"),
        ("REVOKE EVENT ON djops.* FROM 'djops'@'%'", "GRANT EVENT ON djops.* TO 'djops'@'%'"),
    ):
        ground.by_hand([take])
        try:
            changes = access.make_plan(ground.servers, ground.wanted).changes
            assert not any(isinstance(change, ScheduleEvent) for change in changes)
        finally:
            ground.by_hand([give])
    ground.people(PEOPLE)
    ground.apply()


def test_an_event_s_definer_is_djops_own_account_and_can_be_nobody_else(ground: Ground) -> None:
    (name,) = ground.servers.mysql.read_state().events or {}
    rows = ground.root.query("SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_NAME = %s", (name,))
    assert rows == (("djops@%",),)
    for refused in (
        "CREATE DEFINER = root@localhost EVENT djops.y ON SCHEDULE AT '2031-01-01' DO SELECT 1",
        "CREATE EVENT expiry_subject.y ON SCHEDULE AT '2031-01-01' DO SELECT 1",
        "GRANT EVENT ON djops.* TO ada",
        "CREATE TABLE djops.y (k INT)",
    ):
        with pytest.raises(AccessDeniedError):
            ground.servers.mysql.query(refused)


def gone(connection: MysqlConnection) -> MysqlConnection:
    """A server that does not answer: nobody listens on its port."""
    return replace(connection, port=free_ports(1)[0])


def gone_s3(connection: S3Connection) -> S3Connection:
    return replace(connection, admin_endpoint=f"https://127.0.0.1:{free_ports(1)[0]}")


def without_mysql(ground: Ground) -> Callable[[], None]:
    real, ground.servers.mysql = ground.servers.mysql, Mysql(gone(ground.servers.site.mysql))
    return lambda: setattr(ground.servers, "mysql", real)


def without_s3(ground: Ground) -> Callable[[], None]:
    real, ground.servers.s3 = ground.servers.s3, S3(gone_s3(ground.servers.site.s3))
    return lambda: setattr(ground.servers, "s3", real)


@pytest.mark.parametrize(("down", "does"), [(without_mysql, "s3"), (without_s3, "mysql")])
def test_while_one_server_is_down_the_other_is_done_and_the_rest_is_pending(
    ground: Ground, down: Callable[[Ground], Callable[[], None]], does: str
) -> None:
    back = down(ground)
    try:
        expired = expire(ground)
    finally:
        back()
    assert {change.system for change in expired.done} == {does}
    assert [error.code for error in expired.pending] == ["E_SERVER"]
    left = ground.look()
    assert {(one.kind, one.system) for one in left} == {("expired", "s3" if does == "mysql" else "mysql")}
    assert not expire(ground).pending
    assert not ground.look()


def test_from_the_grant_to_its_end(lab: LabUnderTest, ground: Ground) -> None:
    """`djops grant --until`, the event it leaves, the day after, and what `expire` and `apply` do then."""
    ground.people({})
    ground.apply()
    before = lab.project_file.read_text()
    person = "  ada: {email: ada@example.org}\n"
    lab.project_file.write_text(before.replace("people:\n", f"people:\n{person}", 1))
    last = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2)
    try:
        given = invoke("grant", "ada", "viewer", "ephys", "--until", str(last), "--yes", cwd=lab.repository)
        assert given.status == 0, given.stderr
        role = AccountId("ephys:viewer")
        assert Edge(role, ADA) in ground.servers.mysql.read_state().edges
        (event,) = (ground.servers.mysql.read_state().events or {}).values()
        assert event.at == f"{last + dt.timedelta(days=1)} 00:00:00"
        assert "ephys:viewer" in event.body
        lab.project_file.write_text(lab.project_file.read_text().replace(str(last), "2026-01-31"))
        pending = invoke("expire", "--dry-run", "--json", cwd=lab.repository)
        assert pending.status == 2, pending.stderr
        assert invoke("expire", "--quiet", cwd=lab.repository).status == 0
        assert Edge(role, ADA) not in ground.servers.mysql.read_state().edges
        assert invoke("apply", "--yes", cwd=lab.repository).status == 0
        assert not ground.servers.mysql.read_state().events
    finally:
        lab.project_file.write_text(before)
        invoke("apply", "--yes", cwd=lab.repository)


def test_as_a_command(lab: LabUnderTest, ground: Ground) -> None:
    ground.people({})
    ground.apply()
    before = lab.project_file.read_text()
    over = "\n  ada: {grants: [{role: viewer, on: ephys, until: 2026-01-31}]}\n"
    lab.project_file.write_text(before.replace("people:\n", f"people:{over}", 1))
    try:
        quiet = invoke("expire", "--json", cwd=lab.repository)
        assert quiet.status == 0, quiet.stderr
        assert quiet.answer["data"]["done"] == 0
        assert list(quiet.answer["data"]["over"]) == ["ada"]
        wrong = invoke("expire", "--dry-run", "--install-timer", cwd=lab.repository)
        assert wrong.status == 1
    finally:
        lab.project_file.write_text(before)
