"""Who may do what: by djops.yaml, and on servers on which others have been at work."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser

import pytest

from djops.errors import UsageError
from djops.plan.operations import AwsCall
from djops.report import who as report
from djops.services import who
from djops.services.evidence import Evidence
from djops.services.who import Holding
from tests.conftest import LabUnderTest
from tests.support.bench import Bench, Grants, bench_in
from tests.support.cli import invoke
from tests.support.projects import pipeline
from tests.support.sins import OPEN, s3_root

GRAPH = pipeline({"session": [], "ephys": ["session"]})
PEOPLE: Grants = {
    "anna": [{"role": "analyst", "on": "ephys"}],
    "tom": [],
    "dave": [{"role": "developer", "on": "ephys", "force": True, "reason": "mends it"}],
}
SERVICES = {"robot": [{"role": "worker", "on": "ephys"}]}
TEAM = {"members": ["tom"], "grants": [{"role": "viewer", "on": "session"}]}


@pytest.fixture(scope="module")
def bench(lab: LabUnderTest) -> Iterator[Bench]:
    with bench_in(lab, GRAPH) as bench:
        bench.bring_to(PEOPLE, SERVICES, teams={"readers": TEAM})
        yield bench


@pytest.fixture(scope="module")
def found(bench: Bench) -> Iterator[Evidence]:
    """The lab, with a guest in the database, a shared key in the store, and a right given to Tom by hand."""
    store, shared = s3_root(bench.site), {"UserName": "lab"}
    bench.by_root(
        "CREATE USER guest IDENTIFIED BY 'a Long one, 4 tests' REQUIRE SSL",
        "GRANT SELECT ON `%`.* TO guest",
        "GRANT INSERT ON ephys.manual TO tom",
    )
    try:
        store.call(AwsCall("iam", "CreateUser", shared))
        store.call(
            AwsCall(
                "iam", "PutUserPolicy", {**shared, "PolicyName": "all", "PolicyDocument": json.dumps(OPEN)}
            )
        )
        yield bench.evidence()
    finally:
        store.call(AwsCall("iam", "DeleteUserPolicy", {**shared, "PolicyName": "all"}))
        store.call(AwsCall("iam", "DeleteUser", shared))
        bench.by_root("REVOKE INSERT ON ephys.manual FROM tom", "DROP USER guest")


def by_name(holdings: Sequence[Holding]) -> dict[str, Holding]:
    return {one.who: one for one in holdings}


def test_who_can_read_by_the_project_file_and_on_the_servers(bench: Bench, found: Evidence) -> None:
    holdings = by_name(who.who_can(bench.wanted, "read", "session", found))
    assert list(holdings) == [
        "anna",
        "tom",
        "dave",
        "robot",
        "guest",
        "lab",
        "djops",
        "djops-manager",
        "root@localhost",
    ]
    anna = holdings["anna"]
    assert (anna.model, anna.database, anna.store) == ({"read": "yes"}, {"read": "yes"}, {"read": "yes"})
    assert anna.agrees
    assert anna.origins == ("people.anna.grants[0]: analyst on ephys, upstream of ephys",)
    assert holdings["tom"].origins == ("teams.readers.grants[0]: viewer on session",)
    assert holdings["robot"].kind == "service"
    guest = holdings["guest"]
    assert (guest.kind, guest.model, guest.database, guest.store) == (
        "unmanaged",
        {"read": "no"},
        {"read": "yes"},
        {"read": "no"},
    )
    assert guest.agrees is False
    assert guest.origins == ("guest: SELECT on `%`.*",)
    assert holdings["lab"].store == {"read": "yes"}
    assert holdings["lab"].origins == ("policy all of lab, statement 1: Allow s3:* on *",)
    assert holdings["root@localhost"].kind == "administrator"
    assert holdings["root@localhost"].agrees is None


def test_who_can_insert_into_a_table(bench: Bench, found: Evidence) -> None:
    manual = by_name(who.who_can(bench.wanted, "insert", "ephys.manual", found))
    assert {name: (one.model["insert"], (one.database or {})["insert"]) for name, one in manual.items()} == {
        "anna": ("yes", "yes"),
        "dave": ("yes", "yes"),
        "tom": ("no", "yes"),
        # A worker fills imported and computed tables; objects have no tiers.
        "robot": ("partly", "no"),
        "lab": ("no", "no"),
        "djops": ("no", "yes"),
        "djops-manager": ("no", "no"),
        "root@localhost": ("no", "yes"),
    }
    assert manual["tom"].origins == ("tom: INSERT on `ephys`.`manual`",)
    assert manual["tom"].agrees is False
    computed = by_name(who.who_can(bench.wanted, "insert", "ephys.__computed", found))
    assert computed["robot"].database == {"insert": "yes"}
    assert "tom" not in computed


def test_what_comes_with_something_else_has_its_reason(bench: Bench, found: Evidence) -> None:
    """Whoever declares tables in a schema may also refer to them."""
    dave = by_name(who.who_can(bench.wanted, "reference", "ephys", found))["dave"]
    assert dave.agrees
    assert dave.store == {}
    assert dave.origins == ("people.dave.grants[0]: developer on ephys",)


def test_nobody(bench: Bench, found: Evidence) -> None:
    holdings = who.who_can(bench.wanted, "collect", "session", found)
    assert [one.who for one in holdings] == ["lab"]
    assert report.who_text(who.who_can(bench.wanted, "collect", "session", None)) == "nobody"


def test_without_the_servers(bench: Bench) -> None:
    holdings = who.who_can(bench.wanted, "read", "ephys", None)
    assert [(one.who, one.database, one.agrees) for one in holdings] == [
        ("anna", None, None),
        ("dave", None, None),
        ("robot", None, None),
    ]


@pytest.mark.parametrize(("what", "on", "near"), [("raed", "ephys", "'read'"), ("read", "ephis", "'ephys'")])
def test_an_unknown_name_is_told_with_the_nearest(bench: Bench, what: str, on: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        who.who_can(bench.wanted, what, on, None)
    assert near in (caught.value.hint or "")


def test_the_matrix_has_a_level_for_everybody(bench: Bench, found: Evidence) -> None:
    holdings = who.matrix(bench.wanted, (), found)
    levels = {(one.who, one.schema): one.level for one in holdings if one.kind in ("person", "service")}
    assert levels == {
        ("anna", "session"): "read",
        ("anna", "ephys"): "analyst",
        ("tom", "session"): "viewer",
        ("tom", "ephys"): "insert",
        ("dave", "session"): "read+reference",
        ("dave", "ephys"): "developer",
        ("robot", "session"): "read",
        ("robot", "ephys"): "worker",
    }
    wrong = {(one.who, one.schema) for one in holdings if one.agrees is False}
    assert wrong == {
        ("tom", "ephys"),
        *((name, schema) for name in ("guest", "lab") for schema in ("session", "ephys")),
    }
    text = report.matrix_text(holdings)
    assert text.splitlines()[0].split() == ["session", "ephys"]
    assert "insert!" in text
    assert "tom: INSERT on `ephys`.`manual`" in text


def test_the_matrix_of_one_schema(bench: Bench) -> None:
    assert {one.schema for one in who.matrix(bench.wanted, ("session",), None)} == {"session"}


HOSTILE = Holding(
    "=cmd|'/c calc'!A1", "unmanaged", "<script>alert(1)</script>", "a&b", {}, {"read": "partly"}, {},
    ('SELECT on `x"><img src=http://evil/>`.*',), False,
)  # fmt: skip


def test_csv_starts_no_formula(bench: Bench, found: Evidence) -> None:
    text = report.as_csv([*who.matrix(bench.wanted, (), found), HOSTILE])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[-1]["who"] == "'=cmd|'/c calc'!A1"
    assert rows[-1]["database"] == "read:partly"
    anna = next(row for row in rows if (row["who"], row["schema"]) == ("anna", "ephys"))
    assert anna["djops.yaml"] == "read insert jobs"
    assert anna["store"] == "read insert"
    assert anna["origin"] == "people.anna.grants[0]: analyst on ephys"


class _Page(HTMLParser):
    """Collects elements and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action")]


def test_html_is_escaped_and_needs_no_network(bench: Bench, found: Evidence) -> None:
    page = report.as_html("<title>", [*who.matrix(bench.wanted, (), found), HOSTILE])
    parser = _Page()
    parser.feed(page)
    assert parser.links == []
    assert parser.tags.isdisjoint({"script", "img", "link", "iframe"})
    assert "&lt;script&gt;alert(1)" in page
    assert "people.anna.grants[0]: analyst on ephys" in page


# As typed


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("can", "read"),
        ("could", "read", "ephys"),
        ("can", "read", "ephys", "--matrix"),
        ("can", "read", "ephys", "--on", "ephys"),
    ],
)
def test_a_question_that_cannot_be_meant(lab: LabUnderTest, arguments: tuple[str, ...]) -> None:
    done = invoke("who", *arguments, "-C", lab.repository, "--model")
    assert done.status == 1
    assert "E_USAGE" in done.stderr


def test_as_typed(lab: LabUnderTest) -> None:
    done = invoke("who", "can", "read", "ephys", "-C", lab.repository, "--model")
    assert done.status == 0
    assert done.stdout.splitlines()[1].split()[:3] == ["alice", "person", "yes"]
    done = invoke("who", "--matrix", "-C", lab.repository, "--model", "--format", "json")
    assert {one["who"] for one in done.answer["data"]["holdings"]} == {
        "alice",
        "bob",
        "carol",
        "dave",
        "erin",
    }
    done = invoke("who", "--matrix", "--on", "ephys", "-C", lab.repository, "--model", "--format", "html")
    assert done.stdout.startswith("<!doctype html>")


def test_as_typed_on_the_servers(lab: LabUnderTest, bench: Bench) -> None:
    done = invoke("who", "can", "read", "session", "-C", lab.repository, "-q")
    assert done.status == 0, done.stderr
    assert "root@localhost" in done.stdout
    # The repository's own people have not been applied here: djops.yaml gives what no server has.
    alice = next(line for line in done.stdout.splitlines() if line.startswith("alice"))
    assert alice.split()[:6] == ["alice", "person", "yes", "no", "no", "!"]
