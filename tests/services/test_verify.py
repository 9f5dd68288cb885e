"""All deciders say the same on a lab that djops made; on one that was made badly each sin is named."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from djops.errors import UsageError
from djops.plan.operations import AwsCall
from djops.proof.cells import Cell
from djops.proof.theorems import THEOREMS
from djops.report.verify import verdict_text
from djops.services import access, probing, verify
from djops.services.site import Site
from djops.services.verify import Choice, Verdict
from tests.conftest import LabUnderTest
from tests.support.bench import Bench, bench_in
from tests.support.cli import invoke
from tests.support.projects import pipeline
from tests.support.sins import BUCKET, SINS, committed, s3_root

HOSTILE = "lab_%`'\"ü"
GRAPH = pipeline({"session": [], "ephys": ["session"], "imaging": ["session"], HOSTILE: ["ephys"]})
PEOPLE: dict[str, list[dict[str, Any]]] = {
    "vera": [{"role": "viewer", "on": "imaging"}],
    "anna": [{"role": "analyst", "on": "ephys"}],
    "otto": [{"role": "operator", "on": ["session", HOSTILE]}],
    "olga": [{"role": "operator", "on": "ephys", "cascade": True}],
    "dave": [{"role": "developer", "on": "imaging"}],
    "erin": [{"role": "admin", "on": "all"}],
    "nemo": [],
}
SERVICES: dict[str, list[dict[str, Any]]] = {
    "robot": [{"role": "worker", "on": "ephys"}],
    "rig": [{"role": "ingest", "on": ["session", "imaging"]}],
    "sweeper": [{"role": "janitor", "on": "ephys"}],
    "web": [{"role": "navigator", "on": ["session", HOSTILE]}],
    "ai": [{"role": "agent", "on": "imaging", "until": "2099-12-31"}],
    "cura": [{"role": "curator", "on": "session"}],
}
CURATOR = {
    "summary": "mends sessions",
    "target": ["read", "insert", "update"],
    "upstream": ["read"],
    "tiers": ["manual", "lookup"],
    "extras": ["skip_duplicates"],
}


@pytest.fixture(scope="module")
def bench(lab: LabUnderTest) -> Iterator[Bench]:
    with bench_in(lab, GRAPH) as bench:
        bench.bring_to(people=PEOPLE, services=SERVICES, roles={"curator": CURATOR})
        yield bench


@dataclass(frozen=True)
class Holdings:
    """What there is that a run could leave behind or change."""

    accounts: frozenset[str]
    schemas: frozenset[str]
    users: frozenset[str]
    keys: frozenset[str]
    records: frozenset[str]
    rows: tuple[tuple[Any, ...], ...]


def holdings(site: Site) -> Holdings:
    store = s3_root(site)
    with access.Servers(site) as servers:
        versions = store.call(AwsCall("s3", "ListObjectVersions", {"Bucket": BUCKET}))
        listed = [*versions.get("Versions", ()), *versions.get("DeleteMarkers", ())]
        return Holdings(
            frozenset(str(name) for name in servers.mysql.read_state().accounts),
            frozenset(name for (name,) in servers.mysql.query("SHOW DATABASES")),
            frozenset(user["UserName"] for user in store.listed("ListUsers", "Users")),
            frozenset(one["Key"] for one in listed),
            frozenset(path.name for path in (site.lab / "smoke").glob("*")),
            servers.mysql.query("SELECT x, y FROM session.manual"),
        )


@dataclass(frozen=True)
class Run:
    """A verification of everything by all three deciders, and what was there before and after it."""

    verdict: Verdict
    tried: probing.Tried
    before: Holdings
    after: Holdings


@pytest.fixture(scope="module")
def clean(bench: Bench) -> Run:
    kept: list[probing.Tried] = []
    try_all = probing.try_all

    def keeping(*arguments: Any) -> probing.Tried:
        kept.append(try_all(*arguments))
        return kept[0]

    bench.by_root("INSERT INTO session.manual (x, y) VALUES (1, 2)")
    before = holdings(bench.site)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "try_all", keeping)
        verdict = bench.verify(verify.BOTH)
    after = holdings(bench.site)
    bench.by_root("DELETE FROM session.manual")
    return Run(verdict, kept[0], before, after)


def test_all_three_deciders_agree(clean: Run) -> None:
    assert clean.verdict.disagreements == ()
    assert clean.verdict.violations == ()
    assert clean.verdict.unknown == ()
    assert clean.verdict.notes == ()


def test_every_cell_was_asked(clean: Run) -> None:
    principals, schemas = len(PEOPLE) + len(SERVICES), len(GRAPH.schemas)
    counts = clean.verdict.counts
    # Ten capabilities and what none gives, in each schema, and the whole of each server.
    assert counts["mysql"].cells == principals * (schemas * 11 + 1)
    assert counts["s3"].cells == principals * (schemas * 5 + 1)
    assert counts["mysql"].questions > 100 * principals * schemas
    assert counts["mysql"].probes > 40 * principals * schemas
    assert counts["s3"].probes > 15 * principals * schemas


def test_the_probes_saw_both_answers(clean: Run) -> None:
    """Otherwise a probe that always says the same would go unnoticed."""
    seen: dict[str, set[bool | None]] = {}
    for (_, ask), outcome in clean.tried.outcomes.items():
        seen.setdefault(ask[0], set()).add(outcome.allowed)
    both = {
        "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES",
        "WITH ADMIN OPTION", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket",
        "s3:GetBucketLocation",
    }  # fmt: skip
    never = {
        "CREATE VIEW", "TRIGGER", "LOCK TABLES", "CREATE TEMPORARY TABLES", "EVENT", "ALTER ROUTINE",
        "EXECUTE",
    }  # fmt: skip
    assert seen == {**{name: {True, False} for name in both}, **{name: {False} for name in never}}


def test_nothing_is_left_and_nothing_was_touched(clean: Run) -> None:
    assert clean.after == clean.before
    names = {*clean.after.accounts, *clean.after.schemas, *clean.after.users, *clean.after.keys}
    assert not any("smoke" in name for name in names)
    assert clean.after.rows == ((1, 2),)


@pytest.fixture(scope="module")
def sinful(bench: Bench, clean: Run) -> Verdict:
    with committed(bench.site):
        return bench.verify()


@pytest.mark.parametrize("words", SINS)
def test_a_sin_is_named_with_its_row(sinful: Verdict, words: str) -> None:
    sin = SINS[words]
    found = [one for one in sinful.violations if (one.theorem, one.who) == (sin.theorem, sin.who)]
    assert any(sin.row in row for one in found for row in one.because), found


def test_every_theorem_is_violated_by_something() -> None:
    assert {sin.theorem for sin in SINS.values()} == {theorem.code for theorem in THEOREMS}


def test_a_right_besides_the_roles_is_a_disagreement_too(sinful: Verdict) -> None:
    found = {one.cell: one for one in sinful.disagreements}
    one = found[Cell("vera", HOSTILE, "read", "mysql")]
    assert (one.model, one.reader) == (False, True)
    assert any(text.startswith("vera: SELECT on ") for text in one.because)
    assert f"SELECT on {HOSTILE}.~lineage" in one.asks


@dataclass(frozen=True)
class Drift:
    """Something that somebody did, and the cell in which both the reader and the probe notice it.

    Attributes:
        do: Statements of root.
        undo: What takes them back.
        cell: The cell.
        model: What the project file says.
        because: What must be named.
    """

    do: str
    undo: str
    cell: Cell
    model: bool
    because: str


DRIFT = {
    "a grant that is lost": Drift(
        "REVOKE DELETE ON ephys.manual FROM 'ephys:operator'",
        "GRANT DELETE ON ephys.manual TO 'ephys:operator'",
        Cell("olga", "ephys", "delete", "mysql"),
        True,
        "people.olga.grants[0]: operator on ephys gives it",
    ),
    "a job table opened": Drift(
        "GRANT DELETE ON imaging.`~~computed` TO vera",
        "REVOKE DELETE ON imaging.`~~computed` FROM vera",
        Cell("vera", "imaging", "jobs", "mysql"),
        False,
        "vera: DELETE on `imaging`.`~~computed`",
    ),
    "lineage opened": Drift(
        "GRANT DELETE ON session.`~lineage` TO anna",
        "REVOKE DELETE ON session.`~lineage` FROM anna",
        Cell("anna", "session", "declare", "mysql"),
        False,
        "anna: DELETE on `session`.`~lineage`",
    ),
    "a column opened": Drift(
        "GRANT UPDATE (y) ON ephys.manual TO anna",
        "REVOKE UPDATE (y) ON ephys.manual FROM anna",
        Cell("anna", "ephys", "update", "mysql"),
        False,
        "anna: UPDATE (`y`) on `ephys`.`manual`",
    ),
    "a role to pass on": Drift(
        "GRANT 'session:viewer' TO vera WITH ADMIN OPTION",
        "REVOKE 'session:viewer' FROM vera",
        Cell("vera", "session", "grant", "mysql"),
        False,
        "GRANT 'session:viewer'@'%' TO 'vera'@'%' WITH ADMIN OPTION",
    ),
}
WRITES = Cell("vera", "imaging", "insert", "s3")
REMOVES = Cell("vera", "imaging", "collect", "s3")


@pytest.fixture(scope="module")
def drifted(bench: Bench, clean: Run) -> Verdict:
    """Everything above at once, and a policy that lets vera write and remove."""
    store, who = s3_root(bench.site), {"UserName": "vera", "PolicyName": "more"}
    prefix = f"arn:aws:s3:::{BUCKET}/{bench.site.project.stores['main'].location}/_hash/imaging/*"
    opens = {"Effect": "Allow", "Action": ["s3:PutObject", "s3:DeleteObject"], "Resource": prefix}
    document = json.dumps({"Version": "2012-10-17", "Statement": [opens]})
    try:
        bench.by_root(*(one.do for one in DRIFT.values()))
        store.call(AwsCall("iam", "PutUserPolicy", {**who, "PolicyDocument": document}))
        return bench.verify(verify.BOTH, "anna", "olga", "vera")
    finally:
        store.call(AwsCall("iam", "DeleteUserPolicy", who))
        bench.by_root(*(one.undo for one in DRIFT.values()))


@pytest.mark.parametrize("kind", DRIFT)
def test_reader_and_probe_notice_what_somebody_did(drifted: Verdict, kind: str) -> None:
    drift = DRIFT[kind]
    found = [one for one in drifted.disagreements if one.cell == drift.cell]
    assert {(one.model, one.reader) for one in found} == {(drift.model, not drift.model)}
    assert drift.model not in {one.probe for one in found}
    assert any(one.probe is (not drift.model) for one in found)
    assert any(drift.because in one.because for one in found)


def test_a_changed_policy_is_noticed_by_reader_and_probe(drifted: Verdict) -> None:
    found = {one.cell: one for one in drifted.disagreements if one.probe is not None}
    for cell in (WRITES, REMOVES):
        one = found[cell]
        assert (one.model, one.reader, one.probe) == (False, True, True)
        assert any("policy more of vera, statement 1" in text for text in one.because)
    assert {one.theorem for one in drifted.violations if one.who == "vera"} >= {"T_REMOVE", "T_INSERT_PUT"}


def test_nothing_else_is_accused(drifted: Verdict) -> None:
    cells = {one.cell for one in drifted.disagreements if one.cell.capability != "other"}
    assert cells == {*(one.cell for one in DRIFT.values()), WRITES, REMOVES}


def test_a_twin_that_lacks_something_says_so_and_accuses_nobody(bench: Bench) -> None:
    """On a server that djops does not run, it cannot pass on what it does not have."""
    foreign = Bench(replace(bench.site, mysql_root=None), GRAPH)
    bench.by_root("GRANT SELECT ON `mysql`.* TO anna")
    try:
        verdict = foreign.verify(verify.BOTH, "anna", "ephys")
    finally:
        bench.by_root("REVOKE SELECT ON `mysql`.* FROM anna")
    assert any(note.startswith("the twin of anna lacks: GRANT SELECT ON `mysql`.*") for note in verdict.notes)
    assert verdict.disagreements == ()
    assert [one.theorem for one in verdict.unknown] == ["T_PASSWORD"]
    assert [one.theorem for one in foreign.verify(verify.STATIC, "anna").violations] == []


# What is made is removed


def test_a_failure_in_the_middle_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = holdings(bench.site)

    def fails(*arguments: object) -> None:
        raise OSError("in the middle")

    monkeypatch.setattr(probing._Bench, "_object", fails)
    with pytest.raises(OSError, match="in the middle"):
        bench.verify(verify.LIVE, "anna", "vera", "ephys")
    assert holdings(bench.site) == before


def _started(lab: LabUnderTest) -> subprocess.Popen[bytes]:
    """Start the real program, on the repository's own people, who have no accounts here."""
    command = [sys.executable, "-m", "djops.cli.main", "verify", "--live", "-q", "-C", str(lab.repository)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(bench: Bench, lab: LabUnderTest, number: signal.Signals) -> None:
    before = holdings(bench.site)
    process = _started(lab)
    _wait_for_account(bench.site, process)
    process.send_signal(number)
    assert process.wait(timeout=180) == 128 + number
    assert holdings(bench.site) == before


def test_what_a_killed_run_left_is_removed_by_the_next(bench: Bench, lab: LabUnderTest) -> None:
    before = holdings(bench.site)
    process = _started(lab)
    _wait_for_account(bench.site, process)
    process.kill()
    assert process.wait(120) == -signal.SIGKILL
    assert holdings(bench.site) != before
    verdict = bench.verify(verify.LIVE, "anna", "ephys")
    assert verdict.removed
    assert holdings(bench.site) == before


def _wait_for_account(site: Site, process: subprocess.Popen[bytes]) -> None:
    """Wait until it has made something."""
    with access.Servers(site) as servers:
        for _ in range(3600):
            if any(name.user.startswith("smoke_") for name in servers.mysql.read_state().accounts):
                return
            assert process.poll() is None, "it ended"
            time.sleep(0.05)
    raise AssertionError("it never began")


# What is asked


def test_names_may_be_people_or_schemas(bench: Bench) -> None:
    choice = Choice.of(bench.wanted, ("vera", "ephys", "robot"), (), ("session",))
    assert choice == Choice(("vera", "robot"), ("session", "ephys"))


def test_a_name_of_both_is_refused(bench: Bench) -> None:
    people = {**bench.wanted.project.people, "ephys": bench.wanted.project.people["vera"]}
    wanted = replace(bench.wanted, project=bench.wanted.project.model_copy(update={"people": people}))
    with pytest.raises(UsageError) as caught:
        Choice.of(wanted, ("ephys",), (), ())
    assert caught.value.code == "E_AMBIGUOUS"
    assert Choice.of(wanted, (), ("ephys",), ()) == Choice(("ephys",), ())


def test_an_unknown_name_is_told_with_the_nearest(bench: Bench) -> None:
    with pytest.raises(UsageError) as caught:
        Choice.of(bench.wanted, ("verra",), (), ())
    assert "'vera'" in (caught.value.hint or "")


# As typed


def test_what_differs_is_told_as_text(lab: LabUnderTest, bench: Bench) -> None:
    """The repository's own people have no accounts here."""
    done = invoke("verify", "--static", "alice", "ephys", "-q", "-C", lab.repository)
    assert done.status == 2
    assert done.stdout.splitlines()[:2] == ["       ephys", "alice  rij!   !"]
    assert "alice, read on ephys, Database: djops.yaml says yes, the catalog no" in done.stdout
    assert "there is no account alice" in done.stdout
    assert (
        done.stdout.splitlines()[-1].endswith("violations") or "disagreements" in done.stdout.splitlines()[-1]
    )


def test_what_differs_is_told_as_json(lab: LabUnderTest, bench: Bench) -> None:
    done = invoke("verify", "--static", "--who", "alice", "--on", "ephys", "--json", "-C", lab.repository)
    assert (done.status, done.answer["status"]) == (2, "findings")
    data = done.answer["data"]
    assert data["agrees"] is False
    assert {"principal": "alice", "schema": "ephys", "capability": "read", "system": "mysql"} in [
        one["cell"] for one in data["disagreements"]
    ]
    assert set(data["theorems"]) == {theorem.code for theorem in THEOREMS}


@pytest.mark.parametrize("arguments", [("--static", "--live"), ("nobody-of-that-name",)])
def test_what_cannot_be_meant(lab: LabUnderTest, arguments: tuple[str, ...]) -> None:
    done = invoke("verify", *arguments, "-C", lab.repository)
    assert done.status == 1
    assert "error [E_U" in done.stderr


def test_the_text_of_an_agreement(clean: Run) -> None:
    lines = verdict_text(clean.verdict).splitlines()
    assert lines[0].split() == ["session", "ephys", "imaging", HOSTILE]
    assert next(line for line in lines if line.startswith("robot")).split() == [
        "robot",
        "r",
        "rijn",
        "-",
        "-",
    ]
    assert lines[-2:] == [f"{len(THEOREMS)} of {len(THEOREMS)} theorems hold", "all deciders agree"]


def test_the_text_of_sins_names_each_theorem(sinful: Verdict) -> None:
    text = verdict_text(sinful)
    assert all(f"\n{theorem.code}: " in text for theorem in THEOREMS)
    assert text.splitlines()[-1] == (
        f"{len(sinful.disagreements)} disagreements and {len(sinful.violations)} violations"
    )
