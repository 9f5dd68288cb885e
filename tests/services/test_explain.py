"""``djops explain`` and ``djops can --live`` on the demo: the chain, what breaks it, and errors as raised."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from djops.compile.sql import quote_identifier
from djops.errors import DjopsError, UsageError
from djops.plan.operations import AwsCall
from djops.services import access, can, explain, explain_error
from djops.services.access import Servers
from djops.services.project import Loaded, load
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest
from tests.support.cli import invoke
from tests.support.demo import DemoUnderTest, demo_in


@pytest.fixture(scope="module")
def demo(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUnderTest]:
    with demo_in(lab, tmp_path_factory.mktemp("explain")) as made:
        yield made


@pytest.fixture(scope="module")
def loaded(demo: DemoUnderTest) -> Loaded:
    return load(demo.site.project_file)


@pytest.fixture(scope="module")
def servers(demo: DemoUnderTest) -> Iterator[Servers]:
    with Servers(demo.site) as opened:
        yield opened


@contextlib.contextmanager
def by_hand(demo: DemoUnderTest, servers: Servers, statement: str) -> Iterator[None]:
    """Change a right behind djops' back, and have djops take it back."""
    assert demo.site.mysql_root is not None
    with Mysql(demo.site.mysql_root) as root:
        root.query(statement)
    yield
    with servers.changing("test", 10):
        access.apply(servers, access.make_plan(servers, demo.wanted))


def line_of(demo: DemoUnderTest, text: str) -> int:
    lines = demo.site.project_file.read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


class TestChain:
    def test_it_goes_from_the_file_to_the_rows(
        self, demo: DemoUnderTest, loaded: Loaded, servers: Servers
    ) -> None:
        found = explain.live(servers, loaded, demo.wanted, "alice", "insert", "ephys.Recording")
        assert found.allowed
        assert found.missing == ()
        entry, role, *steps = found.steps
        line = line_of(demo, "{role: analyst, on: ephys}")
        assert entry.text == "people.alice.grants[0]: analyst on ephys"
        assert (entry.where or "").endswith(f"djops.yaml:{line}")
        assert role.text == "the role analyst: read, insert, jobs on its schema; read upstream"
        assert [step.text for step in steps] == [
            "the account alice, not locked",
            "alice holds ephys:analyst, active from log-in",
            "INSERT on ephys._recording, of ephys:analyst",
            *(
                f"policy djops: Allow s3:PutObject on arn:aws:s3:::my-lab-data/my_pipeline/{place}/ephys/*"
                for place in ("_hash", "_schema")
            ),
        ]
        assert {step.holds for step in steps} == {True}

    def test_it_follows_nested_roles_upstream(
        self, demo: DemoUnderTest, loaded: Loaded, servers: Servers
    ) -> None:
        found = explain.live(servers, loaded, demo.wanted, "alice", "read", "subject.Subject")
        texts = [step.text for step in found.steps if step.system == "mysql"]
        assert texts[1:] == [
            "alice holds ephys:analyst, active from log-in",
            "ephys:analyst holds ephys:viewer",
            "ephys:viewer holds session:viewer",
            "session:viewer holds subject:viewer",
            "SELECT on subject.*, of subject:viewer",
        ]
        # A table without objects has nothing to do with the store.
        assert all(step.system != "s3" for step in found.steps)

    @pytest.mark.parametrize(
        ("who", "what", "on"),
        [
            ("alice", "jobs", "ephys.Spikes"),
            ("carol", "delete", "session.Session"),
            ("dave", "declare", "imaging"),
            ("dave", "alter", "imaging.Scan"),
            ("erin", "drop", "ephys"),
            ("erin", "grant", "subject"),
        ],
    )
    def test_every_capability_has_one(
        self, demo: DemoUnderTest, loaded: Loaded, servers: Servers, who: str, what: str, on: str
    ) -> None:
        found = explain.live(servers, loaded, demo.wanted, who, what, on)
        assert found.allowed
        assert len([step for step in found.steps if step.system == "mysql"]) > 1
        assert {step.holds for step in found.steps if step.system != "project"} == {True}

    def test_offline_it_asks_nobody(self, demo: DemoUnderTest, loaded: Loaded, servers: Servers) -> None:
        online = explain.live(servers, loaded, demo.wanted, "alice", "insert", "ephys.Recording")
        offline = explain.offline(loaded, "alice", "insert", "ephys.Recording")
        assert offline.allowed
        assert [step.text for step in offline.steps] == [step.text for step in online.steps]
        assert {step.holds for step in offline.steps} == {None}

    def test_a_grant_that_is_missing(self, demo: DemoUnderTest, loaded: Loaded, servers: Servers) -> None:
        found = explain.live(servers, loaded, demo.wanted, "alice", "insert", "imaging.Scan")
        assert not found.allowed
        assert found.missing == ("no grant of alice gives insert on imaging",)
        assert found.command == "djops grant alice analyst imaging"
        assert [(one.schema, one.capabilities) for one in found.opens] == [("imaging", ("read", "jobs"))]
        assert found.beyond == ()


BREAKS = [
    (
        "REVOKE INSERT ON ephys._recording FROM `ephys:analyst`",
        "INSERT on ephys._recording, of ephys:analyst",
    ),
    ("SET DEFAULT ROLE NONE TO alice", "alice holds ephys:analyst, active from log-in"),
    ("REVOKE `ephys:analyst` FROM alice", "alice holds ephys:analyst, active from log-in"),
    ("ALTER USER alice ACCOUNT LOCK", "the account alice, not locked"),
]


class TestBroken:
    @pytest.mark.parametrize(("statement", "link"), BREAKS)
    def test_the_link_that_a_server_lacks_is_named(
        self, demo: DemoUnderTest, loaded: Loaded, servers: Servers, statement: str, link: str
    ) -> None:
        with by_hand(demo, servers, statement):
            found = explain.live(servers, loaded, demo.wanted, "alice", "insert", "ephys.Recording")
        assert not found.allowed
        assert [step.text for step in found.steps if step.holds is False] == [link]
        assert found.missing == (f"MySQL has not: {link}",)
        assert found.command == "djops apply"

    def test_the_reader_of_the_grants_has_the_last_word(
        self, demo: DemoUnderTest, loaded: Loaded, servers: Servers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rows may stand and not count: partial revokes and other rows can be in front of them."""
        catalog = servers.mysql.read_catalog()
        left = {held: names for held, names in catalog.privileges.items() if held.scope.pattern != "imaging"}
        monkeypatch.setattr(servers.mysql, "read_catalog", lambda: replace(catalog, privileges=left))
        found = explain.live(servers, loaded, demo.wanted, "bob", "read", "imaging")
        assert not found.allowed
        assert found.missing[0].startswith("MySQL has not: SELECT on imaging.* in force")

    def test_what_is_allowed_beyond_the_file_is_told(
        self, demo: DemoUnderTest, loaded: Loaded, servers: Servers
    ) -> None:
        with by_hand(demo, servers, "GRANT DELETE ON ephys.* TO bob"):
            found = explain.live(servers, loaded, demo.wanted, "bob", "delete", "ephys.Recording")
        assert not found.allowed
        assert found.beyond == ("DELETE on ephys._recording: bob: DELETE on `ephys`.*",)

    def test_a_policy_that_was_edited(self, demo: DemoUnderTest, loaded: Loaded, servers: Servers) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": []})
        wanted = {"UserName": "alice", "PolicyName": "djops", "PolicyDocument": document}
        servers.s3.call(AwsCall("iam", "PutUserPolicy", wanted))
        found = explain.live(servers, loaded, demo.wanted, "alice", "insert", "ephys.Recording")
        with by_hand(demo, servers, "DO 1"):
            pass
        assert found.missing[0].startswith("the object store has not: policy djops: Allow s3:PutObject")
        assert explain.live(servers, loaded, demo.wanted, "alice", "insert", "ephys.Recording").allowed

    def test_what_another_policy_takes_away_or_gives(
        self, demo: DemoUnderTest, loaded: Loaded, servers: Servers
    ) -> None:
        """The store's own catalog is asked, not only the one policy that djops keeps."""
        below = "arn:aws:s3:::my-lab-data/my_pipeline/_hash"
        statements = [
            {"Effect": "Deny", "Action": "s3:PutObject", "Resource": f"{below}/ephys/*"},
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"{below}/imaging/*"},
        ]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        other = {"UserName": "alice", "PolicyName": "other"}
        servers.s3.call(AwsCall("iam", "PutUserPolicy", {**other, "PolicyDocument": document}))
        taken = explain.live(servers, loaded, demo.wanted, "alice", "insert", "ephys.Recording")
        given = explain.live(servers, loaded, demo.wanted, "alice", "insert", "imaging.Scan")
        servers.s3.call(AwsCall("iam", "DeleteUserPolicy", other))
        assert not taken.allowed
        assert "s3:PutObject on my-lab-data/my_pipeline/_hash/ephys/probe in force: " in taken.missing[0]
        assert not given.allowed
        assert all(
            text.startswith("s3:PutObject on my-lab-data/my_pipeline/_hash/imaging/") for text in given.beyond
        )
        assert given.beyond

    def test_a_table_that_was_never_declared(
        self, demo: DemoUnderTest, loaded: Loaded, servers: Servers
    ) -> None:
        table = "analysis.__multi_modal_analysis"
        with by_hand(demo, servers, f"RENAME TABLE {table} TO analysis.set_aside"):
            found = explain.live(
                servers, loaded, demo.wanted, "carol", "insert", "analysis.MultiModalAnalysis"
            )
        with by_hand(demo, servers, f"RENAME TABLE analysis.set_aside TO {table}"):
            pass
        assert found.missing == ("MySQL has not: the table analysis.__multi_modal_analysis",)
        assert found.command == "djops schemas sync"


class TestCounts:
    def test_a_delete_is_counted_and_nothing_goes(self, demo: DemoUnderTest, servers: Servers) -> None:
        before = _rows(servers, demo)
        answer = can.live(servers, demo.wanted, "carol", "delete", "session.Session")
        touched = {one.name: one for one in answer.touched or ()}
        by_sql = {name: servers.mysql.query(f"SELECT COUNT(*) FROM {name}")[0][0] for name in _BELOW}
        assert {str(one.table): one.rows for one in touched.values()} == by_sql
        assert answer.succeeds
        named = touched["session.Session"].named["experimenter"]
        assert set(named) == {"alice", "carol"}
        assert sum(named.values()) == touched["session.Session"].rows
        assert _rows(servers, demo) == before

    def test_a_restriction_counts_less(self, demo: DemoUnderTest, servers: Servers) -> None:
        every = can.live(servers, demo.wanted, "carol", "delete", "session.Session").touched or ()
        some = can.live(
            servers, demo.wanted, "carol", "delete", "session.Session", {"subject_id": "mouse01"}
        ).touched
        assert [one.table for one in some or ()] == [one.table for one in every]
        assert all(0 < one.rows < other.rows for one, other in zip(some or (), every, strict=True))
        none = can.live(
            servers, demo.wanted, "carol", "delete", "session.Session", {"subject_id": "' OR '1'='1"}
        )
        assert {one.rows for one in none.touched or ()} == {0}

    def test_who_cannot_go_all_the_way_is_stopped(self, demo: DemoUnderTest, servers: Servers) -> None:
        project = demo.wanted.project.model_copy(deep=True)
        data = project.model_dump()
        data["people"]["otto"] = {"grants": [{"role": "operator", "on": "session"}]}
        wanted = replace(demo.wanted, project=type(project).model_validate(data))
        answer = can.live(servers, wanted, "otto", "delete", "session.Session")
        assert answer.allowed
        assert not answer.succeeds
        blocking = {one.table.schema for one in answer.touched or () if one.blocks}
        assert blocking == {"ephys", "imaging", "analysis"}

    @pytest.mark.parametrize(
        ("what", "on", "where", "code"),
        [
            ("delete", "session.Session", {"subject": "mouse01"}, "E_UNKNOWN"),
            ("drop", "session.Session", {"subject_id": "mouse01"}, "E_USAGE"),
            ("read", "session.Session", {}, "E_USAGE"),
            ("delete", "session", {}, "E_USAGE"),
        ],
    )
    def test_what_cannot_be_counted_is_refused(
        self, demo: DemoUnderTest, servers: Servers, what: str, on: str, where: dict[str, str], code: str
    ) -> None:
        with pytest.raises(UsageError) as caught:
            can.live(servers, demo.wanted, "carol", what, on, where)
        assert caught.value.code == code

    def test_a_renamed_key_is_counted_where_the_server_rewrites_it(
        self, demo: DemoUnderTest, servers: Servers
    ) -> None:
        answer = can.live(servers, demo.wanted, "erin", "update", "analysis.Window", {"window": "narrow"})
        assert answer.succeeds
        told = {str(one.table): one.rows for one in answer.touched or ()}
        assert demo.site.mysql_root is not None
        with Mysql(demo.site.mysql_root) as root:
            root.query("START TRANSACTION")
            root.query("UPDATE analysis.`#window` SET `window` = 'renamed' WHERE `window` = 'narrow'")
            seen = {
                str(one.table): root.query(
                    f"SELECT COUNT(*) FROM analysis.`{one.table.table}` WHERE `window` = 'renamed'"
                )[0][0]
                for one in answer.touched or ()
            }
            root.query("ROLLBACK")
        assert len(told) == 2
        assert seen == told


_BELOW = (
    "session.session", "session.session__note", "ephys._recording", "ephys._recording__channel",
    "ephys.__spikes", "imaging._scan", "imaging.__fluorescence", "imaging.__fluorescence__roi",
    "analysis.__multi_modal_analysis",
)  # fmt: skip


def _rows(servers: Servers, demo: DemoUnderTest) -> dict[str, int]:
    _, inventory = servers.mysql.read_pipeline(demo.wanted.graph.schemas)
    return {
        str(table): servers.mysql.query(
            f"SELECT COUNT(*) FROM {quote_identifier(table.schema)}.{quote_identifier(table.table)}"
        )[0][0]
        for table in inventory.tables
    }


ERRORS: list[tuple[str, str | None, dict[str, Any]]] = [
    (
        "INSERT command denied to user 'alice'@'localhost' for table '_scan'",
        None,
        {"who": "alice", "what": "insert", "schema": "imaging", "table": "imaging._scan"},
    ),
    ("PermissionError: Forbidden", "bob", {"who": "bob", "what": None, "schema": None}),
    (
        "Schema `imaging` does not exist and could not be created. Check permissions.",
        "alice",
        {"what": "read", "schema": "imaging", "misleading": True},
    ),
    (
        "Delete blocked by table `analysis`.`__multi_modal_analysis` in an unloaded schema.",
        "alice",
        {"what": "delete", "table": "analysis.__multi_modal_analysis", "misleading": True},
    ),
    (
        "An error occurred (AccessDenied) when calling the PutObject operation: "
        "my-lab-data/my_pipeline/_schema/imaging/_scan/subject_id=mouse01/frames_x.npy",
        "bob",
        {"what": "insert", "schema": "imaging", "table": "imaging._scan"},
    ),
    ("UPDATE command denied to user 'alice'@'h' for table '~~scan'", None, {"what": "jobs"}),
    ("CREATE command denied to user 'alice'@'h' for table 'new'", None, {"what": "declare", "schema": None}),
]


class TestErrors:
    @pytest.mark.parametrize(("text", "who", "wanted"), ERRORS, ids=[text[:30] for text, *_ in ERRORS])
    def test_names_are_found_in_the_project(
        self, loaded: Loaded, text: str, who: str | None, wanted: dict[str, Any]
    ) -> None:
        found = explain_error.read(loaded, text, who, lambda *asked: explain.offline(loaded, *asked))
        assert found is not None
        assert {name: getattr(found, name) for name in wanted} == wanted
        complete = bool(found.who and found.what and found.schema)
        assert (found.explanation is not None) is complete
        if found.explanation is not None:
            assert not found.explanation.allowed

    def test_what_is_left_open_is_said(self, loaded: Loaded) -> None:
        lineage = explain_error.read(loaded, "DELETE command denied to user 'ali'@'h' for table '~lineage'")
        assert lineage is not None
        assert lineage.notes[0] == "'ali' is no person or service of djops.yaml: did you mean 'alice'?"
        assert "does not say which schema: analysis, ephys, imaging, session, subject" in lineage.notes[1]
        other = explain_error.read(loaded, "Unknown database 'ephis'")
        assert other is not None
        assert other.notes == ("the project has no schema 'ephis': did you mean 'ephys'?",)

    def test_whose_error_must_be_somebody(self, loaded: Loaded) -> None:
        with pytest.raises(DjopsError) as caught:
            explain_error.read(loaded, "PermissionError: None", "alicia")
        assert caught.value.code == "E_UNKNOWN"

    def test_advice_can_be_typed(self, loaded: Loaded) -> None:
        text = "DELETE command denied to user 'alice'@'h' for table '__multi_modal_analysis'"
        found = explain_error.read(loaded, text)
        assert found is not None
        assert "`djops can alice delete analysis.MultiModalAnalysis`" in found.do


class TestCommands:
    def test_explain(self, demo: DemoUnderTest) -> None:
        here = demo.site.project_file.parent
        run = invoke("explain", "alice", "insert", "ephys.Recording", "-C", here)
        assert run.status == 0
        assert run.stdout.startswith("yes\n")
        assert "  has  INSERT on ephys._recording, of ephys:analyst" in run.stdout
        run = invoke("explain", "alice", "insert", "imaging.Scan", "-C", here, "--offline", "--json")
        assert run.status == 2
        assert run.answer["data"]["command"] == "djops grant alice analyst imaging"
        assert run.answer["data"]["opens"] == [{"schema": "imaging", "capabilities": ["read", "jobs"]}]
        text = invoke("explain", "alice", "insert", "imaging.Scan", "-C", here, "--offline").stdout
        assert (
            "`djops grant alice analyst imaging` would, and would open beside it: read, jobs on imaging"
            in text
        )

    def test_explain_an_error(self, demo: DemoUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
        import io

        here = demo.site.project_file.parent
        text = "INSERT command denied to user 'alice'@'localhost' for table '_scan'"
        run = invoke("explain", "--error", text, "-C", here)
        assert run.status == 0
        assert "alice lacks INSERT on imaging.Scan" in run.stdout
        assert "no grant of alice gives insert on imaging" in run.stdout
        monkeypatch.setattr("sys.stdin", io.StringIO(f"Traceback:\n{text}\n"))
        run = invoke("explain", "--error", "-", "-C", here, "--json", "--offline")
        assert run.answer["data"]["error"]["explanation"]["allowed"] is False
        run = invoke("explain", "--error", "something else", "-C", here)
        assert run.status == 2
        assert "not known" in run.stdout

    def test_an_error_is_explained_without_servers(self, demo: DemoUnderTest, tmp_path: Path) -> None:
        import shutil

        elsewhere = tmp_path / "elsewhere"
        shutil.copytree(demo.site.project_file.parent, elsewhere)
        file = elsewhere / "djops.yaml"
        file.write_text(file.read_text().replace("project: demo_lab", "project: never_up"))
        text = "INSERT command denied to user 'alice'@'localhost' for table '_scan'"
        run = invoke("explain", "--error", text, "-C", elsewhere)
        assert run.status == 0
        assert "the servers were not asked" in run.stderr
        assert "no grant of alice gives insert on imaging" in run.stdout
        assert invoke("explain", "alice", "insert", "imaging", "-C", elsewhere).status == 1

    @pytest.mark.parametrize(
        "arguments",
        [[], ["alice"], ["alice", "insert"], ["alice", "insert", "ephys", "--error", "x"]],
    )
    def test_half_a_question_is_refused(self, demo: DemoUnderTest, arguments: list[str]) -> None:
        run = invoke("explain", *arguments, "-C", demo.site.project_file.parent)
        assert run.status == 1
        assert "E_USAGE" in run.stderr

    def test_can_counts(self, demo: DemoUnderTest) -> None:
        here = demo.site.project_file.parent
        run = invoke("can", "carol", "delete", "session.Session", "--where", "subject_id=mouse01", "-C", here)
        assert run.status == 0
        assert "alice 1 (experimenter)" in run.stdout
        assert "rows: session " in run.stdout
        run = invoke("can", "carol", "delete", "session.Session", "--live", "-C", here, "--json")
        schemas = {one["table"]["schema"] for one in run.answer["data"]["touched"]}
        assert schemas == {"session", "ephys", "imaging", "analysis"}
        assert invoke("can", "carol", "delete", "session.Session", "--where", "x", "-C", here).status == 1
