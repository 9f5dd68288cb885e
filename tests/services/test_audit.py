"""The audit of real servers: what is found, what stands in the report, and what a review comes to."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import hashlib
import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from djops.services import access, project
from djops.services.site import local_lab
from djops.systems.local.ceph import CephServer
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest
from tests.support.cli import PROGRAM, Run, invoke
from tests.support.demo import DemoUnderTest, demo_in
from tests.support.outages import site_without

SCRIPT = "<script>alert(1)</script>"
SINS = (
    "CREATE USER guest IDENTIFIED BY 'temppass' REQUIRE SSL",
    "GRANT SELECT ON `%`.* TO guest",
    f"CREATE USER `{SCRIPT}` IDENTIFIED BY 'a Long one, 4 tests'",
    f"GRANT SELECT, UPDATE ON *.* TO `{SCRIPT}` WITH GRANT OPTION",
    "GRANT INSERT ON imaging.* TO alice",
)
UNDO = ("DROP USER guest", f"DROP USER `{SCRIPT}`", "REVOKE INSERT ON imaging.* FROM alice")
LINES = """\
  alice:
    email: alice@example.org
    grants:
      - {{role: viewer, on: analysis, until: {over}, reason: "{script}"}}
      - {{role: viewer, on: imaging, until: {soon}}}
"""
SERVICES = "services:\n  nightly:\n    grants:\n      - {role: admin, on: all}\n"


@pytest.fixture(scope="module")
def up(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUnderTest]:
    with demo_in(lab, tmp_path_factory.mktemp("here")) as found:
        yield found


def audit(up: DemoUnderTest, *arguments: str | Path) -> Run:
    return invoke("audit", *arguments, cwd=up.site.project_file.parent)


@contextlib.contextmanager
def edited(up: DemoUnderTest, *changes: tuple[str, str]) -> Iterator[None]:
    before = text = up.site.project_file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    up.site.project_file.write_text(text)
    try:
        yield
    finally:
        up.site.project_file.write_text(before)


@pytest.fixture(scope="module")
def sinful(up: DemoUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Path]]:
    """A report on a lab in which everybody did what is easiest."""
    assert up.site.mysql_root is not None
    today, to = dt.datetime.now(dt.UTC).date(), tmp_path_factory.mktemp("report") / "new" / "report"
    lines = LINES.format(over=today - dt.timedelta(30), soon=today + dt.timedelta(3), script=SCRIPT)
    client = up.site.project_file.parent / "datajoint.json"
    there = client.read_text() if client.exists() else None
    with Mysql(up.site.mysql_root) as root:
        for statement in SINS:
            root.query(statement)
        client.write_text(json.dumps({"stores": {"main": {"partition_pattern": "{subject_id}"}}}))
        changes = (
            ("  alice:\n    email: alice@example.org\n    grants:\n", lines),
            ("services: {}\n", SERVICES),
        )
        try:
            with edited(up, *changes):
                forms = ("--format", "html,json,csv,markdown")
                run = audit(up, "--to", to, *forms, "--exit-code", "--reason", "quarterly", "--json")
        finally:
            for statement in UNDO:
                root.query(statement)
            client.unlink() if there is None else client.write_text(there)
    yield run, to


def findings(run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["kind"], one["who"]): one for one in run.answer["data"]["findings"]}


def test_a_new_lab_is_clean(up: DemoUnderTest) -> None:
    run = audit(up, "--exit-code", "--json")
    data = run.answer["data"]
    assert [one for one in data["findings"] if one["severity"] != "note"] == []
    assert (run.status, run.answer["status"], data["clean"], data["files"]) == (0, "ok", True, [])
    assert data["proof"]["agrees"] and data["proof"]["compared"]["mysql"]["cells"] > 100
    assert data["journal"]["faults"] == [] and data["journal"]["log"]
    held = {(one["who"], one["schema"]): one["level"] for one in data["access"]}
    assert (held["alice", "ephys"], held["erin", "subject"]) == ("analyst", "admin")


@pytest.mark.parametrize(
    ("system", "compared"), [("mysql", set()), ("s3", {"mysql"}), ("secrets", {"mysql", "s3"})]
)
def test_a_server_that_is_down_is_named_and_the_rest_is_told(
    up: DemoUnderTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, compared: set[str]
) -> None:
    site = site_without(up.site, system)
    monkeypatch.setattr(access, "open_site", lambda *_: site)
    run = invoke(
        "audit", "--to", tmp_path, "--format", "html,markdown", "--json", "-C", site.project_file.parent
    )
    data = run.answer["data"]
    assert (run.status, run.answer["status"], data["complete"]) == (2, "findings", False), run.stdout
    assert [one["system"] for one in data["unread"]] == [system]
    found = findings(run)
    assert {kind for kind, _ in found} <= {"UNREAD", "SECRETS", "T_UNKNOWN", "WAITING"}
    assert sum(kind == "UNREAD" for kind, _ in found) == 1
    assert set(data["proof"]["compared"]) == compared
    assert (data["proof"]["agrees"] is None) is (system == "mysql")
    assert data["proof"]["disagreements"] == [] and data["journal"]["faults"] == []
    held = {(one["who"], one["schema"]): one["level"] for one in data["access"]}
    assert held["alice", "ephys"] == "analyst"
    for name in ("audit.html", "audit.md"):
        assert "Incomplete: the " in (tmp_path / name).read_text()


def test_every_sin_is_found_with_what_mends_it(sinful: tuple[Run, Path]) -> None:
    run, _ = sinful
    found = findings(run)
    assert (run.status, run.answer["status"]) == (2, "findings")
    mends = {key: one["mend"] for key, one in found.items()}
    assert mends["T_WILDCARD", "guest"] == "REVOKE SELECT ON `%`.* FROM 'guest'@'%'"
    assert mends["T_PASSWORD", "guest"] == "djops adopt guest"
    everything = f"REVOKE SELECT, UPDATE, GRANT OPTION ON *.* FROM '{SCRIPT}'@'%'"
    assert mends["T_EVERYTHING", SCRIPT] == everything
    assert mends["UNMANAGED", SCRIPT] == f"djops adopt '{SCRIPT}'"
    assert mends["DRIFT", "alice"] == "djops apply"
    assert mends["EXPIRED", "alice"] == "djops revoke alice viewer analysis"
    assert mends["SOON", "alice"].startswith("djops grant alice viewer imaging --until")
    assert mends["WORKER", "nightly"].endswith("djops revoke nightly admin all")
    assert found["WIDE_HOST", "guest"]["severity"] == "low"
    assert ("PARTITION", "") in found
    assert ("VERIFY", "nightly") in found  # it was never applied
    assert found["T_EVERYTHING", SCRIPT]["severity"] == "high"


def test_the_files_hold_it_too_and_nobody_elses_script(sinful: tuple[Run, Path]) -> None:
    run, to = sinful
    names = {"audit.html", "audit.json", "audit.md", "findings.csv", "access.csv", "review.csv"}
    assert {path.name for path in to.iterdir()} == names
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in to.iterdir())
    page = (to / "audit.html").read_text()
    assert SCRIPT not in page and "&lt;script&gt;alert(1)" in page
    assert page.count("<script") == 1
    rows = list(csv.DictReader((to / "findings.csv").open()))
    assert len(rows) == len(json.loads((to / "audit.json").read_text())["findings"])
    assert len(rows) == len(run.answer["data"]["findings"])


def test_the_next_report_tells_what_changed_and_its_sheet_is_carried_out(
    up: DemoUnderTest, sinful: tuple[Run, Path], tmp_path: Path
) -> None:
    here, sheet = up.site.project_file.parent, tmp_path / "review.csv"
    invoke("grant", "bob", "viewer", "ephys", "--reason", "helps out", "-y", cwd=here)
    log = audit(up, "--to", tmp_path, "--format", "csv", "--json").answer["data"]["journal"]["log"]
    told = [(one["command"], one["reason"], one["ended"]) for one in log if one["command"] != "audit"]
    assert told == [("grant", "helps out", "end")]

    rows = list(csv.DictReader(sheet.open()))
    for row in rows:
        mine = (row["holder"], row["on"]) == ("bob", "ephys")
        row["decision"] = "Revoke" if mine else "keep" if row["holder"] != "erin" else ""
    with sheet.open("w") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    refused = audit(up, "--review", sheet)
    assert (refused.status, "E_CONFIRM" in refused.stderr) == (1, True)
    assert "bob" in refused.stdout  # the plan was shown
    done = audit(up, "--review", sheet, "-y", "--json", "--reason", "yearly")
    assert done.status == 0, done.stdout
    assert done.answer["data"]["review"]["revoked"] == ["people.bob.grants[1]"]
    assert len(project.load(up.site.project_file).project.people["bob"].grants) == 1
    assert invoke("plan", cwd=here).status == 0

    deeds = invoke("log", "--json", cwd=here).answer["data"]["log"]
    assert deeds[-1]["command"] == "audit" and "revoked people.bob.grants[1]" in deeds[-1]["what"]
    assert deeds[-1]["reason"] == "review: 4 kept, 1 revoked, 1 undecided (yearly)"
    digest = hashlib.sha256((sinful[1] / "audit.html").read_bytes()).hexdigest()
    assert [one["reason"] for one in deeds if digest in one["what"]] == ["quarterly"]
    (error,) = audit(up, "--review", sheet, "-y", "--json").answer["errors"]
    assert (error["code"], error["message"].split(" is ")[0]) == ("E_REVIEW", "people.bob.grants[1]")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("entry,holder,role,on,decision\npeople.bob.grants[0],bob,viewer,imaging,perhaps\n", ":2"),
        ("entry,holder,role,on\n", ""),
        ("entry,holder,role,on,decision\npeople.bob.grants[0],eve,viewer,imaging,keep\n", ":2"),
    ],
    ids=["a word that is none", "no decisions", "another holder"],
)
def test_a_sheet_that_cannot_be_meant(up: DemoUnderTest, tmp_path: Path, text: str, where: str) -> None:
    sheet = tmp_path / "review.csv"
    sheet.write_text(text)
    before = up.site.project_file.read_text()
    (error,) = audit(up, "--review", sheet, "-y", "--json").answer["errors"]
    assert (error["code"], error["where"]) == ("E_REVIEW", f"{sheet}{where}")
    assert up.site.project_file.read_text() == before


def test_a_reviewer_is_stepped_through(up: DemoUnderTest) -> None:
    master, slave = pty.openpty()
    here = up.site.project_file.parent
    with subprocess.Popen(
        [PROGRAM, "audit", "--review", "--reason", "at the desk"], cwd=here,
        stdin=slave, stdout=subprocess.PIPE, stderr=slave,
    ) as process:  # fmt: skip
        os.close(slave)
        os.write(master, b"k\ns\nx\nk\nq\n")
        told, _ = process.communicate(timeout=180)
    os.close(master)
    assert (process.returncode, told.decode()) == (0, "Review: 2 kept, 0 revoked, 3 undecided.\n")


def test_nobody_is_asked_without_a_terminal(up: DemoUnderTest) -> None:
    run = audit(up, "--review")
    assert (run.status, "E_CONFIRM" in run.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments", [("--format", "pdf"), ("--format", "html,csv"), ("setup", "--to", "x"), ("--since", "noon")]
)
def test_wrong_usage(up: DemoUnderTest, arguments: tuple[str, ...]) -> None:
    run = audit(up, *arguments, "--json")
    assert (run.status, run.answer["errors"][0]["code"]) == (1, "E_USAGE")


def test_set_up_records_who_was_refused(up: DemoUnderTest) -> None:
    lab = local_lab(up.site.project, up.site.environment)
    assert lab is not None and up.site.mysql_root is not None
    with Mysql(up.site.mysql_root) as root:
        try:
            done = audit(up, "setup", "-y", "--json")
            assert (done.status, done.answer["data"]["switched"]) == (0, 3)
            connection = up.site.mysql
            with pytest.raises(pymysql.MySQLError, match="1045"):
                pymysql.connect(
                    host=connection.host, port=connection.port, user=SCRIPT, password="no",
                    ssl={"ca": str(connection.ca)},
                )  # fmt: skip
            records = audit(up, "--json").answer["data"]["records"]
            after = {one["what"]: one for one in records["sources"]}
            assert after["refused log-ins"]["recorded"] is True
            assert any((one["system"], one["who"]) == ("mysql", SCRIPT) for one in records["events"])
            assert any(one["who"] == "djops" and one["system"] == "secrets" for one in records["seen"])
            assert not after["who read, changed, deleted or dropped which rows and tables"]["recorded"]
            assert audit(up, "setup", "--json").answer["data"]["switches"][0]["state"] == "on already"
        finally:
            root.query("SET GLOBAL log_error_verbosity = DEFAULT")
            root.query("RESET PERSIST")
            (lab.state("ceph") / "ops-log.on").unlink(missing_ok=True)
    assert not CephServer(lab).records_requests
