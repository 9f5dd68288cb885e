"""The journal on real servers: before anything is sent it is recorded, and nobody can change it unnoticed."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from djops.errors import AccessDeniedError, DjopsError, ServerUnavailableError
from djops.model.journal import Head, check, seal
from djops.plan.operations import AwsCall, Operation
from djops.services import access, applying
from djops.services.journal import Cause, Journal, note
from djops.services.log import OPEN, Wanted, deeds
from djops.services.site import Site, open_site
from djops.systems import journal as local
from djops.systems.journal import CHAIN, FILE
from djops.systems.journal_table import TableChain
from djops.systems.mysql import Mysql
from djops.systems.vault import Secrets
from tests.conftest import LabUnderTest
from tests.support.cli import djops, invoke
from tests.support.ground import Ground, ground_of
from tests.support.projects import pipeline

GRAPH = pipeline({"journal_a": ()}, ["journal_a.#thing"])
TABLE = "`djops`.`journal`"
PEOPLE = {"ada": [{"role": "viewer", "on": "journal_a"}]}


@pytest.fixture(scope="module")
def ground(lab: LabUnderTest) -> Iterator[Ground]:
    with ground_of(lab, GRAPH, ["journal_a.`#thing` (x INT PRIMARY KEY)"]) as made:
        yield made


@contextlib.contextmanager
def connected(site: Site) -> Iterator[Journal]:
    with contextlib.closing(Mysql(site.mysql)) as mysql, Secrets(site.secrets) as secrets:
        yield Journal(site, mysql, secrets)


@pytest.fixture
def own(ground: Ground, tmp_path: Path) -> Iterator[Journal]:
    """A journal of a project of its own, in the same table."""
    site = ground.servers.site
    project = site.project.model_copy(update={"project": "tampered"})
    with connected(replace(site, project=project, lab=tmp_path)) as journal:
        yield journal
    ground.root.query(f"DELETE FROM {TABLE} WHERE project = 'tampered'")
    ground.servers.secrets.delete_secret_completely("tampered/journal/mysql")


def everything(ground: Ground) -> Any:
    return list(ground.servers.journal.read())


def plan_for(ground: Ground, people: dict[str, list[dict[str, Any]]]) -> Any:
    ground.people(people)
    return access.make_plan(ground.servers, ground.wanted)


def test_djops_itself_may_only_read_and_add(ground: Ground) -> None:
    ground.people(PEOPLE)
    ground.apply()
    for statement in (
        f"UPDATE {TABLE} SET who = 'x'",
        f"DELETE FROM {TABLE}",
        f"TRUNCATE {TABLE}",
        f"DROP TABLE {TABLE}",
        f"ALTER TABLE {TABLE} ADD x INT",
        f"CREATE TRIGGER djops.t BEFORE INSERT ON {TABLE} FOR EACH ROW SET @x = 1",
        "CREATE TABLE djops.other (x INT)",
    ):
        with pytest.raises(AccessDeniedError):
            ground.servers.mysql.query(statement)
    rows = ground.root.query(
        "SELECT User, Table_priv FROM mysql.tables_priv WHERE Db = 'djops' AND Table_name = 'journal'"
    )
    assert rows == (("djops", "Select,Insert"),)


def test_every_change_is_recorded_before_the_first_is_sent(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = applying.execute
    before = len(everything(ground))

    def look(servers: access.Servers, operation: Operation) -> None:
        if not seen:
            with connected(servers.site) as other:
                seen.append(len(list(other.read())) - before)
        real(servers, operation)

    monkeypatch.setattr(applying, "execute", look)
    plan = plan_for(ground, {**PEOPLE, "ben": PEOPLE["ada"]})
    with ground.servers.changing("djops apply", 10, reason="for the paper"):
        access.apply(ground.servers, plan)
    assert set(seen) == {1 + len(plan.changes)}
    deed = deeds(everything(ground), Wanted())[-1]
    assert (deed.entry.command, deed.entry.reason, deed.ended) == ("apply", "for the paper", "end")
    assert [step.outcome for step in deed.steps] == ["done"] * len(plan.changes)
    assert json.loads(deed.entry.detail)["changes"] == len(plan.changes)
    assert deed.entry.plan


def test_no_secret_is_in_it(ground: Ground) -> None:
    ground.people(PEOPLE)
    ground.apply()
    stored = ground.servers.secrets.read_secret("demo_lab/people/ada")
    assert stored is not None
    text = "\n".join(entry.to_line() for entry in everything(ground))
    secret = [stored.fields[name] for name in stored.fields if name.endswith(("password", "secret_key"))]
    assert len(secret) == 2
    assert not [value for value in secret if value in text]


def test_a_failure_tells_exactly_what_was_done_and_what_not(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.people({})
    ground.apply()
    real = applying.execute

    def refuse(servers: access.Servers, operation: Operation) -> None:
        if isinstance(operation, AwsCall) and operation.action == "PutUserPolicy":
            raise ServerUnavailableError("gone", where="s3")
        real(servers, operation)

    monkeypatch.setattr(applying, "execute", refuse)
    plan = plan_for(ground, PEOPLE)
    with ground.servers.changing("apply", 10), pytest.raises(applying.StoppedError) as caught:
        access.apply(ground.servers, plan)
    outcome = caught.value.outcome
    parts = (outcome.done, [*outcome.failed], outcome.begun, outcome.untouched)
    assert sorted(number for part in parts for number in part) == list(range(len(plan.changes)))
    assert [plan.changes[number].system for number in outcome.failed] == ["s3"]
    assert outcome.untouched
    assert caught.value.code == "E_SERVER"
    deed = deeds(everything(ground), Wanted())[-1]
    assert deed.ended == "failed"
    told = {number: step.outcome for number, step in enumerate(deed.steps)}
    assert {number for number, one in told.items() if one == "done"} == set(outcome.done)
    assert {number for number, one in told.items() if one == "not sent"} == set(outcome.untouched)
    assert [step.why for step in deed.steps if step.outcome == "failed"] == ["gone"]
    monkeypatch.undo()
    ground.apply()


def test_what_was_under_way_at_a_crash_is_told_as_unknown(
    ground: Ground, lab: LabUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(servers: access.Servers, operation: Operation) -> None:
        raise Crash

    monkeypatch.setattr(applying, "execute", crash)
    plan = plan_for(ground, {**PEOPLE, "cyd": PEOPLE["ada"]})
    with ground.servers.changing("apply", 10), pytest.raises(Crash):
        access.apply(ground.servers, plan)
    deed = deeds(everything(ground), Wanted(on="cyd"))[-1]
    assert deed.ended == ""
    assert {step.outcome for step in deed.steps} == {OPEN}
    found = invoke("status", "--json", cwd=lab.repository).answer["data"]["journal"]
    assert found["unfinished"]["ended"] is None and found["unfinished"]["command"] == "apply"
    assert found["rows"] == found["last"]["seq"] == everything(ground)[-1].seq
    told = invoke("status", cwd=lab.repository).stdout
    assert f"not finished: {deed.entry.at[:10]}" in told and f"{len(plan.changes)} {OPEN}" in told
    monkeypatch.undo()
    ground.apply()
    told = invoke("status", cwd=lab.repository).stdout
    assert "journal: mysql" in told and "not finished" not in told


# Tampering by whoever administers the database


def filled(journal: Journal) -> None:
    for number in range(3):
        note(journal, Cause("test"), number=str(number))
    journal.append([local.draft("test", "note", change=f"more {number}") for number in range(3)])
    journal.anchor()


def anew(journal: Journal, root: Mysql) -> None:
    """Change row 5 and compute the chain anew behind it, as somebody who knows how would."""
    rows = list(journal.read())
    rows[4] = replace(rows[4], who="somebody else")
    for row in seal(rows[4:], Head(4, rows[3].hash), "tampered", "local"):
        values = (row.who, row.previous, row.hash, row.seq)
        root.query(
            f"UPDATE {TABLE} SET who=%s, previous=%s, hash=%s WHERE project='tampered' AND seq=%s", values
        )


TAMPERING: dict[str, tuple[str | Callable[[Journal, Mysql], None], list[tuple[int, str]]]] = {
    "changed": ("UPDATE {} SET reason = 'x' WHERE project = 'tampered' AND seq = 3", [(3, "changed")]),
    "removed": ("DELETE FROM {} WHERE project = 'tampered' AND seq = 2", [(2, "missing")]),
    "cut off": ("DELETE FROM {} WHERE project = 'tampered' AND seq > 4", [(5, "cut off")]),
    "emptied": ("DELETE FROM {} WHERE project = 'tampered'", [(1, "cut off")]),
    "computed anew": (anew, [(4, "rewritten")]),
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_an_administrator_of_the_database_cannot_change_it_unnoticed(
    ground: Ground, own: Journal, kind: str
) -> None:
    filled(own)
    assert not own.verify().faults
    assert own.verify().anchored == 6
    tamper, wanted = TAMPERING[kind]
    if isinstance(tamper, str):
        ground.root.query(tamper.format(TABLE))
    else:
        tamper(own, ground.root)
    assert [(fault.seq, fault.kind) for fault in own.verify().faults] == wanted


def test_anchors_stay_few(own: Journal) -> None:
    for number in range(60):
        own.append([local.draft("test", "note", change=str(number))])
        if number % 2:
            own.anchor()
    anchors = own.anchors()
    assert 2 <= len(anchors) <= 48
    assert max(anchors) == 60


# Many at once, and what waits


def test_two_that_add_at_once_make_one_chain(ground: Ground, own: Journal) -> None:
    site = ground.servers.site
    errors: list[BaseException] = []

    def add(who: str) -> None:
        try:
            with contextlib.closing(Mysql(site.mysql)) as mysql:
                chain = TableChain(mysql, "tampered", "local")
                for number in range(15):
                    chain.append([local.draft(who, "note", change=str(number))])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=add, args=(who,)) for who in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not errors
    found = check(own.read())
    assert (found.rows, found.faults) == (45, ())


def test_what_waits_is_added_once_whatever_crashes(own: Journal, tmp_path: Path) -> None:
    for number in range(5):
        local.record(tmp_path, "up", number=str(number))
    (tmp_path / FILE).open("a").write('{"at": "cut off')
    kept = (tmp_path / FILE).read_bytes()
    own.catch_up()
    assert local.waiting(tmp_path) == 0
    # As after a crash between adding them and emptying the file.
    (tmp_path / FILE).write_bytes(kept)
    own.append([local.draft("apply", "note")])
    rows = list(own.read())
    assert [json.loads(row.detail).get("number") for row in rows] == ["0", "1", "2", "3", "4", None]
    assert not own.verify().faults


def test_lines_of_the_first_format_are_kept(own: Journal, tmp_path: Path) -> None:
    line = '{"at": "2030-01-01T10:00:00+02:00", "who": "ada", "action": "connect", "system": "mysql"}\n'
    (tmp_path / FILE).write_text(line * 2)
    own.catch_up()
    (tmp_path / FILE).write_text(line * 2)
    own.catch_up()
    rows = list(own.read())
    assert [(row.at, row.who, row.command) for row in rows] == [
        ("2030-01-01T08:00:00.000000Z", "ada", "connect")
    ] * 2


def test_without_the_database_it_waits(ground: Ground, tmp_path: Path) -> None:
    site = ground.servers.site
    gone = replace(site, lab=tmp_path, mysql=replace(site.mysql, port=1))
    with connected(gone) as journal:
        note(journal, Cause("connect", "to look"), system="mysql")
    assert local.waiting(tmp_path) == 1


def test_without_a_table_the_chain_is_a_file_until_there_is_one(ground: Ground, tmp_path: Path) -> None:
    project = ground.servers.site.project.model_copy(update={"project": "tampered"})
    site = replace(ground.servers.site, project=project, lab=tmp_path)
    ground.root.query(f"RENAME TABLE {TABLE} TO djops.kept")
    try:
        with connected(site) as journal:
            assert not journal.in_database
            for number in range(3):
                note(journal, Cause("test"), number=str(number))
            assert not journal.verify().faults
            assert journal.verify().anchored == 3
            lines = (tmp_path / CHAIN).read_text().splitlines(keepends=True)
            (tmp_path / CHAIN).write_text("".join(lines[:2]))
            assert [fault.kind for fault in journal.verify().faults] == ["cut off"]
            (tmp_path / CHAIN).write_text("".join(lines))
    finally:
        ground.root.query(f"RENAME TABLE djops.kept TO {TABLE}")
    with connected(site) as journal:
        note(journal, Cause("test"), number="3")
        rows = list(journal.read())
        assert [json.loads(row.detail)["number"] for row in rows] == ["0", "1", "2", "3"]
        assert not journal.verify().faults
    assert not (tmp_path / CHAIN).exists()
    assert list(tmp_path.glob("*moved*"))
    ground.root.query(f"DELETE FROM {TABLE} WHERE project = 'tampered'")
    for name in ("mysql", f"local-{local.origin()}"):
        ground.servers.secrets.delete_secret_completely(f"tampered/journal/{name}")


def test_where_it_may_be_read_and_not_added_to_it_is_a_file(ground: Ground, tmp_path: Path) -> None:
    site = replace(ground.servers.site, lab=tmp_path)
    ground.root.query(f"REVOKE INSERT ON {TABLE} FROM djops@'%'")
    try:
        with connected(site) as journal:
            journal.append([local.draft("test", "note")])
            assert not journal.in_database
        assert (tmp_path / CHAIN).exists()
    finally:
        ground.root.query(f"GRANT INSERT ON {TABLE} TO djops@'%'")


# The command


def test_the_command_shows_verifies_and_exports(ground: Ground, lab: LabUnderTest, tmp_path: Path) -> None:
    ground.people({**PEOPLE, "dot": PEOPLE["ada"]})
    ground.apply()
    shown = invoke("log", "--on", "dot", "--since", "1h", "--json", cwd=lab.repository)
    assert shown.status == 0, shown.stdout
    (*_, last) = shown.answer["data"]["log"]
    assert (last["command"], last["ended"]) == ("test", "end")
    assert all("dot" in change["change"] for change in last["changes"])
    assert "account dot: created" in invoke("log", "--on", "dot", cwd=lab.repository).stdout
    assert (
        invoke("log", "--who", "nobody-of-that-name", cwd=lab.repository).stdout == "Nothing is recorded.\n"
    )
    whole = invoke("log", "--verify", "--json", cwd=lab.repository)
    assert whole.status == 0, whole.stdout
    export = tmp_path / "journal.jsonl"
    assert invoke("log", "--export", export, cwd=lab.repository).status == 0
    assert export.stat().st_mode & 0o777 == 0o600
    assert invoke("log", "--verify", "--from", export, cwd=tmp_path).status == 0
    streamed = djops("log", "--export", "-", cwd=lab.repository).stdout
    assert streamed == export.read_text()
    export.write_text(export.read_text().replace("account dot", "account bot", 1))
    broken = invoke("log", "--verify", "--from", export, cwd=tmp_path)
    assert broken.status == 2
    assert "was changed: its content does not give its hash" in broken.stdout


@pytest.mark.parametrize("arguments", [["--since", "yesterday"], ["--export", "-", "--who", "ada"]])
def test_what_cannot_be_meant_is_refused(lab: LabUnderTest, arguments: list[str]) -> None:
    done = invoke("log", *arguments, "--json", cwd=lab.repository)
    assert [error["code"] for error in done.answer["errors"]] == ["E_USAGE"]


def test_a_file_that_is_no_export_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello\n")
    for name, code in (("file", "E_JOURNAL"), ("none", "E_CONFIG")):
        done = invoke("log", "--verify", "--from", tmp_path / name, "--json", cwd=tmp_path)
        assert [error["code"] for error in done.answer["errors"]] == [code]


def test_open_site_finds_the_journal(lab: LabUnderTest) -> None:
    with connected(open_site(lab.project_file)) as journal:
        assert journal.in_database


def test_a_damaged_file_is_an_error_and_no_loss(tmp_path: Path) -> None:
    chain = local.FileChain(tmp_path, "lab", "local")
    chain.append([local.draft("test", "note")])
    (tmp_path / CHAIN).write_text("garbage\n" + (tmp_path / CHAIN).read_text())
    with pytest.raises(DjopsError) as caught:
        chain.append([local.draft("test", "note")])
    assert caught.value.code == "E_JOURNAL"


def test_a_row_of_the_file_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    chain = local.FileChain(tmp_path, "lab", "local")
    chain.append([local.draft("test", "note"), local.draft("test", "note")])
    text = (tmp_path / CHAIN).read_text()
    (tmp_path / CHAIN).write_text(text[:-20])
    chain.append([local.draft("test", "note")])
    found = check(chain.read())
    assert (found.rows, found.faults) == (2, ())
