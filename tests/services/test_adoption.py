"""Accounts made by hand come under management: nobody is cut off, and nobody gets more than was told."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from djops.compile.mysql_state import AccountId
from djops.compile.vault import secret_path
from djops.errors import DjopsError, NotManagedError, UsageError
from djops.plan.operations import AwsCall, Operation
from djops.proof.cells import ADMIN_OPTION, OTHER, MysqlAsk, S3Ask, mysql_questions, s3_questions
from djops.services import access, adoption, applying, evidence
from djops.services import project as projects
from djops.services.access import Servers, Wanted
from djops.services.evidence import Evidence
from djops.services.levels import word_of
from djops.services.project import load
from djops.systems.connections import Secret
from djops.systems.mysql import Mysql
from djops.systems.s3 import S3
from tests.conftest import LabUnderTest
from tests.support.bench import Bench, bench_in
from tests.support.cli import PROGRAM, Run, invoke
from tests.support.sins import BUCKET, OPEN, s3_root

PASSWORD = "made by hand, 4 all"
ELSEWHERE = "10.9.%"
SCHEMAS = ("subject", "session", "ephys", "imaging", "analysis")
PROBE = "my_pipeline/_hash/imaging/probe-of-adoption"
SOMEBODY = f"IDENTIFIED BY '{PASSWORD}' REQUIRE SSL"


def by_hand(name: str, *grants: str, clauses: str = SOMEBODY) -> tuple[str, ...]:
    return f"CREATE USER {name} {clauses}", *(f"GRANT {grant} TO {name}" for grant in grants)


ACCOUNTS: Mapping[str, tuple[str, ...]] = {
    "vera": by_hand("vera", "SELECT ON `imaging`.*"),
    "anna": by_hand(
        f"anna@'{ELSEWHERE}'", "SELECT ON subject.*", "SELECT ON session.*", "SELECT, INSERT ON ephys.*"
    ),
    "otto": by_hand("otto", *(f"SELECT, INSERT, DELETE ON {schema}.*" for schema in SCHEMAS)),
    "dora": by_hand("dora", "ALL ON imaging.*", "SELECT ON elsewhere.*"),
    "paul": by_hand("paul", "ALL ON ephys.*"),
    "greta": by_hand("greta", "ALL ON `%`.*", "GRANT OPTION ON `%`.*", clauses=f"IDENTIFIED BY '{PASSWORD}'"),
    "cleo": by_hand("cleo", "UPDATE (y) ON subject.subject", "SELECT ON subject.*"),
    "nora": (*by_hand("nora", "dj_user", "PROCESS ON *.*"), "SET DEFAULT ROLE dj_user TO nora"),
    "nils": by_hand("nils", "dj_user"),
    "old": by_hand("old", "SELECT ON session.*", clauses=f"{SOMEBODY} PASSWORD EXPIRE"),
    "rob": by_hand(
        "rob",
        *(f"SELECT ON {schema}.*" for schema in ("subject", "session", "ephys")),
        "INSERT ON ephys.`_recording`",
        "INSERT ON ephys.`__spikes`",
    ),
    "tina": (
        *by_hand(f"tina@'{ELSEWHERE}'", "SELECT ON subject.*"),
        *by_hand("tina@'10.8.%'", "SELECT ON subject.*"),
    ),
    "boss": by_hand("boss", "ALL ON *.*"),
    "lab user": by_hand("`lab user`", "SELECT ON subject.*"),
    "Max": by_hand("Max", "SELECT ON subject.*"),
    "max": by_hand("max", "SELECT ON subject.*"),
    "": by_hand(f"''@'{ELSEWHERE}'", "SELECT ON subject.*"),
    "stray": by_hand("stray", "SELECT ON elsewhere.*"),
    "locked": by_hand("locked", "SELECT ON subject.*", clauses=f"IDENTIFIED BY '{PASSWORD}' ACCOUNT LOCK"),
    "hugo": by_hand("hugo", "SELECT ON subject.*"),
    "kim": by_hand("kim", "SELECT, INSERT, UPDATE ON imaging.*", "FILE ON *.*"),
    "mona": by_hand("mona", "SELECT ON analysis.*"),
}
BEFORE = (
    "CREATE DATABASE elsewhere",
    "CREATE ROLE dj_user",
    "GRANT SELECT, INSERT ON `ephys`.* TO dj_user",
)
STORE = {"vera": "/", "lab": "/", "hugo": "/djops/other/", "nobody": "/", "kim": "/lab/", "mona": "/"}
"""IAM users with a key and every right, but for one who has none, and their paths."""

PROPOSED = {
    "anna": "analyst on ephys",
    "cleo": "viewer on subject",
    "dora": "developer on imaging",
    "greta": "admin on all",
    "kim": "analyst on imaging",
    "mona": "viewer on analysis",
    "nora": "analyst on ephys",
    "old": "viewer on session",
    "otto": "operator on subject, session, ephys, imaging, analysis",
    "paul": "operator on ephys",
    "rob": "analyst on ephys",
    "tina": "viewer on subject",
    "vera": "viewer on imaging",
}
LEFT = {
    f"@{ELSEWHERE}": "it has no name",
    "boss": "it has SYSTEM_USER",
    "lab user": "djops.yaml cannot have this name",
    "Max": "its name and 'max' differ only by case",
    "max": "its name and 'Max' differ only by case",
    "stray": "it has nothing on the pipeline's schemas",
    "nils": "its roles are not active at log-in: dj_user",
    "locked": "it cannot log in",
    "hugo": "its user at the object store, at /djops/other/, belongs to another project",
    f"tina@{ELSEWHERE}": "tina@10.8.% is taken over",
    "lab, a user of the object store": "it reaches objects of subject, session, ephys, imaging, analysis and",
    "nobody, a user of the object store": "it has nothing on the pipeline's objects",
}
TAKEN = sorted(PROPOSED.keys() - {"kim", "mona"})
"""Who is taken over at once; the other two each have a test of their own."""


@dataclass
class Place:
    """A repository whose people are on the servers already, and not in djops.yaml."""

    repository: Path
    bench: Bench
    keys: Mapping[str, tuple[str, Secret]] = field(default_factory=dict)

    @property
    def project_file(self) -> Path:
        return self.repository / "djops.yaml"

    def run(self, *arguments: str) -> Run:
        return invoke(*arguments, "--json", "-C", self.repository)

    def wanted(self) -> Wanted:
        loaded = load(self.project_file)
        self.bench.site = replace(self.bench.site, project=loaded.project)
        return Wanted.of(loaded.project, loaded.graph)

    def evidence(self) -> Evidence:
        wanted = self.wanted()
        with Servers(self.bench.site) as servers:
            return evidence.gather(servers, wanted)

    def may_log_in(self, name: str, password: str) -> bool:
        own = replace(self.bench.site.mysql, user=name, password=Secret(password))
        try:
            with Mysql(own) as mysql:
                return mysql.query("SELECT 1") == ((1,),)
        except DjopsError:
            return False

    def may_get(self, key: tuple[str, Secret]) -> bool:
        store = S3(replace(self.bench.site.s3, access_key=key[0], secret_key=key[1]))
        try:
            return bool(store.call(AwsCall("s3", "GetObject", {"Bucket": BUCKET, "Key": PROBE})))
        except DjopsError:
            return False

    def credentials(self, name: str) -> Mapping[str, str]:
        with Servers(self.bench.site) as servers:
            kept = servers.secrets.read_secret(secret_path(self.wanted().project, name))
            assert kept is not None
            return kept.fields

    def new_key(self, name: str) -> tuple[str, Secret]:
        kept = self.credentials(name)
        return kept["stores.main.access_key"], Secret(kept["stores.main.secret_key"])


def _iam(action: str, **parameters: Any) -> AwsCall:
    return AwsCall("iam", action, parameters, missing_is_done=action.startswith("Delete"))


def _make_users(store: S3) -> dict[str, tuple[str, Secret]]:
    keys = {}
    for name, path in STORE.items():
        store.call(_iam("CreateUser", UserName=name, Path=path))
        made = store.call(_iam("CreateAccessKey", UserName=name))["AccessKey"]
        keys[name] = (made["AccessKeyId"], Secret(made["SecretAccessKey"]))
        if name != "nobody":
            policy = {"PolicyName": "everything", "PolicyDocument": json.dumps(OPEN)}
            store.call(_iam("PutUserPolicy", UserName=name, **policy))
    store.call(AwsCall("s3", "PutObject", {"Bucket": BUCKET, "Key": PROBE, "Body": b"of adoption"}))
    return keys


def _remove_users(store: S3) -> None:
    there = {user["UserName"] for user in store.listed("ListUsers", "Users")}
    for name in STORE.keys() & there:
        for key in store.call(_iam("ListAccessKeys", UserName=name))["AccessKeyMetadata"]:
            store.call(_iam("DeleteAccessKey", UserName=name, AccessKeyId=key["AccessKeyId"]))
        store.call(_iam("DeleteUserPolicy", UserName=name, PolicyName="everything"))
        store.call(_iam("DeleteUser", UserName=name))
    store.call(AwsCall("s3", "DeleteObject", {"Bucket": BUCKET, "Key": PROBE}))


@pytest.fixture(scope="module")
def place(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    repository = tmp_path_factory.mktemp("adoption") / lab.repository.name
    with resources.as_file(resources.files("djops") / "demo_pipeline") as shipped:
        shutil.copytree(shipped, repository)
    file = repository / "djops.yaml"
    head, _, rest = file.read_text().partition("people:\n")
    file.write_text(f"{head}people:\n  # nobody yet\n\n{rest[rest.index('# Accounts for machines') :]}")
    with bench_in(lab, load(file).graph) as bench:
        made = Place(repository, bench)
        store = s3_root(bench.site)
        try:
            bench.by_root(*BEFORE, *(line for lines in ACCOUNTS.values() for line in lines))
            made.keys = _make_users(store)
            yield made
        finally:
            bench.bring_to()
            lines = [line for lines in ACCOUNTS.values() for line in lines if line.startswith("CREATE USER ")]
            names = [line.removeprefix("CREATE USER ").partition(" IDENTIFIED")[0] for line in lines]
            drops = [f"DROP USER IF EXISTS {name}" for name in (*names, "dj_user")]
            bench.by_root("DROP DATABASE IF EXISTS elsewhere", *drops)
            _remove_users(store)


# Looking


@dataclass(frozen=True)
class Seen:
    """What a look said, and what the servers' catalogs said at the same time."""

    answer: Mapping[str, Any]
    status: int
    evidence: Evidence

    @cached_property
    def proposals(self) -> Mapping[str, Mapping[str, Any]]:
        return {one["name"]: one for one in self.answer["proposals"]}


@pytest.fixture(scope="module")
def seen(place: Place) -> Seen:
    text = place.project_file.read_text()
    run = place.run("adopt")
    assert place.project_file.read_text() == text
    return Seen(run.answer["data"], run.status, place.evidence())


def test_a_look_is_a_finding_and_changes_nothing(seen: Seen, place: Place) -> None:
    assert seen.status == 2
    assert place.evidence().mysql.catalog == seen.evidence.mysql.catalog


def test_roles_are_proposed_that_come_closest(seen: Seen) -> None:
    found = {
        name: "; ".join(
            f"{grant['role']} on {grant['on'] if isinstance(grant['on'], str) else ', '.join(grant['on'])}"
            for grant in one["grants"]
        )
        for name, one in seen.proposals.items()
    }
    assert found == PROPOSED


def test_whoever_is_left_out_is_told_why(seen: Seen) -> None:
    left = {one["account"]: one["why"] for one in seen.answer["left"]}
    assert left.keys() == LEFT.keys()
    for account, why in LEFT.items():
        assert why in left[account]


def test_what_lies_elsewhere_is_told(seen: Seen) -> None:
    outside = {name: one["outside"] for name, one in seen.proposals.items() if one["outside"]}
    assert outside.keys() == {"dora", "greta", "kim", "nora", "vera", "mona"}
    assert outside["dora"] == ["SELECT on elsewhere.* (elsewhere)"]
    assert "mysql" in outside["greta"][0]
    assert outside["nora"] == ["PROCESS on *.*", "role dj_user"]
    assert outside["vera"] == ["policy everything at the object store"]


def test_what_happens_to_credentials_is_told(seen: Seen) -> None:
    notes = {name: " | ".join(one["notes"]) for name, one in seen.proposals.items()}
    assert "its password is replaced at once, because it has expired" in notes["old"]
    assert f"may log in from '%' instead of '{ELSEWHERE}'" in notes["anna"]
    assert "must connect with TLS" in notes["greta"]
    assert "its key holds beside the new one" in notes["vera"]
    assert "gets a user and a key" in notes["otto"]


def test_a_machine_is_given_roles_of_machines(place: Place) -> None:
    (one,) = place.run("adopt", "--service", "rob").answer["data"]["proposals"]
    assert (one["section"], one["grants"]) == ("services", [{"role": "worker", "on": "ephys"}])


def test_one_of_two_that_differ_by_case_can_be_named(place: Place) -> None:
    (one,) = place.run("adopt", "Max").answer["data"]["proposals"]
    assert one["grants"] == [{"role": "viewer", "on": "subject"}]


def test_a_name_that_nobody_has(place: Place) -> None:
    run = place.run("adopt", "vern")
    assert (run.status, run.answer["errors"][0]["code"]) == (1, "E_UNKNOWN_ACCOUNT")
    assert "vera" in run.answer["errors"][0]["hint"]


def test_what_excludes_each_other(place: Place) -> None:
    assert place.run("adopt", "--write", "--apply").answer["errors"][0]["code"] == "E_USAGE"


def test_as_text(place: Place) -> None:
    text = invoke("adopt", "vera", "boss", "-C", place.repository).stdout
    assert text.startswith("vera: viewer on imaging\n  loses  ")
    assert "Left alone\n  boss  it has SYSTEM_USER" in text
    assert text.endswith("1 account can be taken over; nothing was changed.\n")


QUESTIONS: Mapping[tuple[str, ...], tuple[int, str]] = {
    ("who", "can", "read", "ephys"): (0, "anna@10.9.%: SELECT on `ephys`.*"),
    ("who", "--matrix"): (0, "everything of lab, statement 1"),
    ("can", "anna", "read", "ephys"): (1, "there is no person or service 'anna'"),
    ("explain", "anna", "read", "ephys"): (1, "there is no person or service 'anna'"),
    ("expire",): (0, ""),
    ("drift",): (2, f"database administrator: DROP USER ''@'{ELSEWHERE}'"),
    ("verify", "--static"): (2, "it does not stand in djops.yaml"),
    ("plan",): (0, "mysql: boss"),
}
"""What is asked of a server that nobody takes care of yet: exit status, and what must be said."""


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_other_commands_have_answers_before(place: Place, question: tuple[str, ...]) -> None:
    run = invoke(*question, "--json", "-C", place.repository)
    status, told = QUESTIONS[question]
    assert (run.status, "E_BUG" in run.stdout) == (status, False), run.stdout
    assert json.dumps(told)[1:-1] in run.stdout


# Writing


def test_the_proposal_is_written_between_the_comments(place: Place, seen: Seen) -> None:
    before = place.project_file.read_text()
    run = place.run("adopt", "--write", "-y", *TAKEN)
    assert run.status == 0, run.stdout
    after = place.project_file.read_text()
    comments = [line for line in before.splitlines() if "#" in line]
    assert [line for line in after.splitlines() if "#" in line] == comments
    assert load(place.project_file).project.people.keys() == set(TAKEN)
    assert place.evidence().mysql.catalog == seen.evidence.mysql.catalog
    assert place.run("plan").answer["errors"][0]["code"] == "E_UNMANAGED"


# Taking over


def killed(place: Place, after: float) -> bool:
    """Start the real program and kill it; tells whether it was still at work."""
    command = [str(PROGRAM), "adopt", "--apply", "-y", "-q", "-C", str(place.repository), *TAKEN]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    # It shows the plan right before it begins.
    for line in process.stdout:
        if b"narrow access" in line:
            break
    time.sleep(after)
    process.kill()
    process.stdout.close()
    return process.wait(120) == -signal.SIGKILL


@pytest.fixture(scope="module")
def taken(place: Place, seen: Seen) -> Evidence:
    """Everybody but two is taken over by a program that is killed a few times."""
    assert place.run("adopt", "--write", "-y", *TAKEN).status == 0
    times = [killed(place, after) for after in (0.02, 0.2, 0.5)]
    assert any(times)
    for name in ("vera", "otto", "paul", "nora"):
        assert place.may_log_in(name, PASSWORD), name
    run = place.run("adopt", "--apply", "-y", *TAKEN)
    assert run.status == 0, run.stdout
    return place.evidence()


def test_whoever_is_killed_in_the_middle_goes_on(place: Place, taken: Evidence) -> None:
    run = place.run("plan")
    assert run.status == 0, run.stdout
    ours = taken.mysql.catalog.managed(taken.wanted.project.project)
    assert {AccountId(name) for name in TAKEN} <= ours


def _words(shape: Evidence, found: Evidence, account: AccountId, schema: str) -> dict[str, set[object]]:
    """Say what somebody has on a schema: what is asked of each table and column, under its words."""
    name = account.user
    asked = [*mysql_questions(schema, shape.tables[schema], ())]
    asked += [one for one in s3_questions(shape.places[schema], ()) if one.capability != OTHER]
    has: dict[str, set[object]] = {}
    for one in asked:
        match one.ask:
            case MysqlAsk(privilege=privilege):
                yes = privilege != ADMIN_OPTION
                yes = yes and evidence.ask_database(found, account, one.ask).allowed
            case S3Ask():
                known = found.s3 is not None and name in found.s3.catalog.users
                yes = known and evidence.ask_store(found, name, one.ask).allowed
        if yes:
            has.setdefault(word_of(one), set()).add(one.ask)
    return has


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_lost_and_gained_is_what_was_told(seen: Seen, taken: Evidence, name: str) -> None:
    told = seen.proposals[name]
    (old,) = [one for one in seen.evidence.mysql.catalog.accounts if str(one) == told["account"]]
    for schema in SCHEMAS:
        before = _words(seen.evidence, seen.evidence, old, schema)
        after = _words(seen.evidence, taken, AccountId(name), schema)
        lost = sorted(word for word, asks in before.items() if asks - after.get(word, set()))
        gained = sorted(word for word, asks in after.items() if asks - before.get(word, set()))
        assert lost == told["loses"].get(schema, []), schema
        assert gained == told["gains"].get(schema, []), schema


def test_old_and_new_credentials_hold(place: Place, taken: Evidence) -> None:
    for name in TAKEN:
        assert place.may_log_in(name, place.credentials(name)["database.password"]), name
        # From elsewhere, before; one had expired; and of one it is another account that comes from here.
        if name != "old":
            assert place.may_log_in(name, PASSWORD), name
    assert not place.may_log_in("old", PASSWORD)
    assert place.may_get(place.keys["vera"])
    assert place.may_get(place.new_key("vera"))


def test_nothing_remains_of_what_they_held_themselves(taken: Evidence) -> None:
    names = {AccountId(name) for name in TAKEN}
    assert not [held for held in taken.mysql.catalog.privileges if held.grantee in names]
    assert {edge.role.user for edge in taken.mysql.catalog.edges if edge.member in names}.isdisjoint(
        {"dj_user"}
    )


def test_the_deciders_agree_on_them(place: Place, taken: Evidence) -> None:
    data = place.run("verify", "--static", *TAKEN).answer["data"]
    assert data["disagreements"] == []
    there = [one["text"] for one in data["violations"] if one["who"] in TAKEN]
    assert there == ["'tina'@'10.9.%' has rights on subject, and it does not stand in djops.yaml"]


def test_whom_djops_manages_already_is_left_alone(place: Place, taken: Evidence) -> None:
    run = place.run("adopt", "vera")
    assert (run.status, run.answer["data"]["proposals"]) == (0, [])
    assert run.answer["data"]["left"] == [{"account": "vera", "why": adoption._HOLDS}]
    assert place.run("adopt", "--apply", "-y", "vera").answer["data"].get("applied", 0) == 0


AFTER: Mapping[tuple[str, ...], tuple[int, str]] = {
    ("who", "can", "insert", "ephys"): (0, "people.anna.grants[0]: analyst on ephys"),
    ("can", "anna", "insert", "ephys"): (0, "people.anna.grants[0]: analyst on ephys"),
    ("can", "anna", "delete", "ephys"): (2, "operator"),
    ("explain", "anna", "insert", "ephys.Recording"): (0, "INSERT on ephys._recording"),
    ("explain", "vera", "insert", "imaging.Scan"): (2, "djops grant vera"),
    ("expire",): (0, ""),
    ("drift",): (2, "shadowing account"),
    ("adopt",): (2, "kim"),
}
"""The same once most are taken over; two are not."""


@pytest.mark.parametrize("question", AFTER, ids=" ".join)
def test_other_commands_have_answers_after(place: Place, taken: Evidence, question: tuple[str, ...]) -> None:
    run = invoke(*question, "--json", "-C", place.repository)
    status, told = AFTER[question]
    assert (run.status, "E_BUG" in run.stdout) == (status, False), run.stdout
    assert json.dumps(told)[1:-1] in run.stdout


# A crash at each step


class CrashError(Exception):
    """As if the machine went down."""


def test_a_crash_at_any_step_cuts_nobody_off(
    place: Place, taken: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, left = applying.execute, [0]

    def fails(servers: Servers, operation: Operation) -> None:
        if not left[0]:
            raise CrashError
        left[0] -= 1
        execute(servers, operation)

    monkeypatch.setattr(applying, "execute", fails)
    start = place.evidence()
    looks, crashes = [], 0
    while True:
        crashes += 1
        left[0] = crashes
        with Servers(place.bench.site) as servers, servers.changing("test", 10):
            survey = adoption.survey(servers, place.wanted(), ["kim"])
            edited = adoption.writing(place.project_file, survey.proposals)
            projects.save(edited, place.project_file)
            wanted = place.wanted()
            plan = (
                adoption.plan(servers, wanted, survey.proposals)
                if survey.proposals
                else adoption.unfinished(servers, wanted)
            )
            try:
                access.apply(servers, plan)
                break
            except CrashError:
                looks.append(place.evidence())
                assert place.may_log_in("kim", PASSWORD), crashes
                assert place.keys["kim"][0] in servers.s3.user("kim").keys
    assert crashes > 3
    end = place.evidence()
    for schema in SCHEMAS:
        before, after, *between = (_held(start, found, schema) for found in (start, end, *looks))
        assert all(held <= before | after for held in between)
    assert place.run("plan").status == 0
    assert place.may_log_in("kim", PASSWORD)
    assert place.may_get(place.keys["kim"])


def _held(shape: Evidence, found: Evidence, schema: str) -> set[object]:
    return set().union(*_words(shape, found, AccountId("kim"), schema).values())


# Servers that djops does not run


def test_an_administrator_moves_users_of_the_store(place: Place, taken: Evidence) -> None:
    foreign = replace(place.bench.site, s3_root=None)
    with Servers(foreign) as servers:
        survey = adoption.survey(servers, place.wanted(), ["mona"])
        edited = adoption.writing(place.project_file, survey.proposals)
        projects.save(edited, place.project_file)
        wanted = place.wanted()
        with pytest.raises(NotManagedError, match="users that djops did not make: mona") as error:
            adoption.plan(servers, wanted, survey.proposals)
        command = "aws iam update-user --user-name mona --new-path /djops/demo_lab/"
        assert command in str(error.value.hint)
        assert any(command in note for note in survey.proposals[0].notes)
        s3_root(place.bench.site).call(_iam("UpdateUser", UserName="mona", NewPath="/djops/demo_lab/"))
        with pytest.raises(NotManagedError, match="mona exists and was not made by djops"):
            access.make_plan(servers, wanted)
        survey = adoption.survey(servers, wanted, ["mona"])
        with servers.changing("test", 10):
            access.apply(servers, adoption.plan(servers, wanted, survey.proposals))
        assert access.make_plan(servers, wanted).is_empty
    assert place.keys["mona"][0] != place.new_key("mona")[0]
    assert place.may_get(place.keys["mona"])
    assert place.may_get(place.new_key("mona"))


def test_a_store_that_allows_no_third_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "AWS_KEYS", 1)
    monkeypatch.setattr(evidence, "dialect_of", lambda _site: "aws")
    with pytest.raises(NotManagedError, match="has 1 access keys already") as error:
        adoption._refuse_third_key(Servers(place.bench.site), {"mona": 1, "vera": 0})
    assert error.value.code == "E_KEYS"


# The end of old credentials


def test_old_credentials_end(place: Place, taken: Evidence) -> None:
    run = place.run("adopt", "--finish", "-y")
    assert run.status == 0, run.stdout
    for name in TAKEN:
        assert not place.may_log_in(name, PASSWORD), name
        assert place.may_log_in(name, place.credentials(name)["database.password"]), name
    for name in ("vera", "kim", "mona"):
        if name in place.wanted().project.people:
            assert not place.may_get(place.keys[name])
            assert place.may_get(place.new_key(name))
    assert place.run("plan").status == 0
    again = place.run("adopt", "--finish", "-y")
    assert (again.status, again.answer["data"]) == (0, {"applied": 0})


def test_old_credentials_do_not_end_before_there_are_new_ones(place: Place, taken: Evidence) -> None:
    with Servers(place.bench.site) as servers:
        wanted = place.wanted()
        servers.secrets.write_metadata(secret_path(wanted.project, "vera"), {"database_state": "pending"})
        with pytest.raises(UsageError, match="of vera are not in force yet"):
            adoption.finishing(servers, wanted, ["vera"])
        with pytest.raises(UsageError, match="there is no 'vern'"):
            adoption.finishing(servers, wanted, ["vern"])
