"""The demo on real servers: that it is whole, stays whole, and that its people can do what they should."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from djops.errors import ConfigError
from djops.model.roles import Capability
from djops.plan.operations import AwsCall
from djops.services import access, credentials, demo, schemas, verify
from djops.services.access import Servers
from tests.conftest import LabUnderTest
from tests.support.cli import djops, invoke, shell
from tests.support.demo import (
    SCHEMAS,
    DemoUnderTest,
    Material,
    administrator,
    bare,
    demo_in,
    run_client,
    try_everything,
)

PEOPLE = ("alice", "bob", "carol", "dave", "erin")

Seen = Mapping[str, Mapping[str, Mapping[str, str]]]


@pytest.fixture(scope="module")
def up(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUnderTest]:
    with demo_in(lab, tmp_path_factory.mktemp("here")) as found:
        yield found


@pytest.fixture(scope="module")
def handed_out(up: DemoUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    base = tmp_path_factory.mktemp("people")
    for person in PEOPLE:
        credentials.write(up.site, person, base / person)
    return {person: base / person for person in PEOPLE}


@pytest.fixture(scope="module")
def seen(up: DemoUnderTest, handed_out: Mapping[str, Path]) -> Seen:
    found = {}
    with administrator(up.site) as client:
        for schema in SCHEMAS:
            client.connection.query(f"CREATE TABLE IF NOT EXISTS `{schema}`.spare (spare INT PRIMARY KEY)")
        for number, person in enumerate(PEOPLE):
            material = Material(person, number)
            material.prepare(client)
            found[person] = try_everything(handed_out[person], up.source, material)
    return found


def test_everything_is_there(up: DemoUnderTest) -> None:
    assert [info.name for info in up.result.schemas] == ["subject", "session", "ephys", "imaging", "analysis"]
    assert all(info.there and not info.missing_job_tables for info in up.result.schemas)
    assert {person.name for person in up.result.people} == set(PEOPLE)
    with administrator(up.site) as client:
        for table in ("ephys.__spikes", "imaging.__fluorescence__roi", "analysis.__multi_modal_analysis"):
            schema, name = table.split(".")
            assert len(client.FreeTable(f"`{schema}`.`{name}`")), table


def test_all_three_deciders_agree_on_it(up: DemoUnderTest) -> None:
    with Servers(up.site) as servers:
        verdict = verify.verify(servers, up.wanted)
    assert verdict.disagreements == ()
    assert verdict.violations == ()
    assert verdict.principals == tuple(sorted(PEOPLE))
    assert all(count.probes and count.questions > count.probes for count in verdict.counts.values())


def test_a_second_time_changes_nothing(up: DemoUnderTest) -> None:
    again = demo.run(up.site.project_file.parent)
    assert not again.copied
    assert again.changes == 0
    assert not any(server.started for server in again.servers)


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_client_does_what_the_role_model_says(
    up: DemoUnderTest, seen: Seen, person: str, schema: str
) -> None:
    may = up.rights.capabilities(person, schema)
    expected = {name: "works" if Capability(name) in may else "denied" for name in seen[person][schema]}
    assert seen[person][schema] == expected


@pytest.mark.parametrize("person", PEOPLE)
def test_nobody_creates_schemas_elsewhere(seen: Seen, person: str) -> None:
    assert seen[person]["*"] == {"create schema": "denied"}


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_store_opens_where_the_database_does(
    up: DemoUnderTest, handed_out: Mapping[str, Path], person: str, schema: str
) -> None:
    may = up.rights.capabilities(person, schema)
    key = f"my_pipeline/_hash/{schema}/of-nobody-{person}"
    with Servers(up.site) as servers:
        servers.s3.call(AwsCall("s3", "PutObject", {"Bucket": "my-lab-data", "Key": key, "Body": b"x"}))
    theirs = _s3(up, handed_out[person])
    name = {"Bucket": "my-lab-data", "Key": key}
    assert _allowed(theirs.get_object, **name) is (Capability.READ in may)
    assert _allowed(theirs.put_object, **name, Body=b"y") is (Capability.INSERT in may)
    assert not _allowed(theirs.delete_object, **name)
    assert not _allowed(theirs.list_objects_v2, Bucket="my-lab-data")


def _s3(up: DemoUnderTest, directory: Path):  # type: ignore[no-untyped-def]
    secrets = directory / ".secrets"
    key, secret = ((secrets / f"stores.main.{part}_key").read_text() for part in ("access", "secret"))
    return boto3.client(
        "s3",
        endpoint_url=up.site.s3.endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def _allowed(call, **parameters: object) -> bool:  # type: ignore[no-untyped-def]
    try:
        call(**parameters)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied"
        return False
    return True


def test_a_table_declared_later_is_mended_by_sync(up: DemoUnderTest) -> None:
    with administrator(up.site) as client, Servers(up.site) as servers:
        client.connection.query("DROP TABLE ephys.`~~spikes`")
        missing = [table for info in schemas.survey(servers, up.wanted) for table in info.missing_job_tables]
        assert [str(table) for table in missing] == ["ephys.__spikes"]
        with servers.changing("test", 10):
            synced = schemas.sync(servers, up.wanted, tuple(missing))
        assert synced.job_tables == tuple(missing)
        assert not synced.without
        assert access.make_plan(servers, up.wanted).is_empty


def test_what_a_developer_declares_works_after_a_sync(
    up: DemoUnderTest, handed_out: Mapping[str, Path]
) -> None:
    def as_dave() -> str:
        return run_client(handed_out["dave"], up.source, ["-c", MASK]).strip()

    repository = up.site.project_file.parent
    try:
        assert as_dave() == "AccessError"
        found = invoke("schemas", "list", "--json", cwd=repository).answer["data"]["schemas"]
        missing = {info["name"]: info["missing_job_tables"] for info in found if info["missing_job_tables"]}
        assert missing == {"imaging": [{"schema": "imaging", "table": "__mask"}]}
        asked = invoke("schemas", "sync", "--json", cwd=repository)
        assert (asked.status, asked.answer["errors"][0]["code"]) == (1, "E_CONFIRM")
        assert asked.answer["data"]["missing_job_tables"] == missing["imaging"]
        done = invoke("schemas", "sync", "--json", "--yes", cwd=repository)
        assert (done.status, done.answer["data"]["job_tables"]) == (0, missing["imaging"])
        assert as_dave() == "4"
    finally:
        with administrator(up.site) as client:
            client.connection.query("DROP TABLE IF EXISTS imaging.__mask, imaging.`~~mask`")
            client.connection.query("DELETE FROM imaging.`~lineage` WHERE table_name LIKE '%%mask'")
        assert invoke("schemas", "sync", "--yes", cwd=repository).status == 0


def test_the_command_tells_where_what_and_who(up: DemoUnderTest) -> None:
    repository = up.site.project_file.parent
    # The real program: what is to be typed next begins with its own name.
    told = djops("demo", repository.name, "--json", cwd=repository.parent).answer
    assert (told["command"], told["status"], told["errors"]) == ("demo", "ok", [])
    data = told["data"]
    assert [server["name"] for server in data["servers"]] == ["mysql", "s3", "secrets"]
    assert {person["name"] for person in data["people"]} == set(PEOPLE)
    assert data["changes"] == 0
    for command in data["next"]:
        answer = " --yes" if " grant " in command else ""
        assert shell(command + answer, cwd=repository.parent).status == 0, command
    assert invoke("revoke", "alice", "viewer", "imaging", "--yes", cwd=repository).status == 0


MASK = '''
import datajoint as dj
from my_pipeline import imaging

@imaging.schema
class Mask(dj.Computed):
    definition = """
    -> imaging.Scan
    ---
    pixels : int32
    """

    def make(self, key):
        self.insert1({**key, "pixels": 7})

try:
    Mask.populate("subject_id != 'nobody'")
    Mask.populate(reserve_jobs=True)
    print(len(Mask & "session_date < '2027-01-01'"))
except dj.errors.AccessError as error:
    print(type(error).__name__)
'''


@pytest.mark.parametrize("name", ["notes.txt", "djops.yaml", "src/my_pipeline/ephys.py"])
def test_a_directory_with_other_content_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError) as caught:
        demo.copy(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("mine")
    with pytest.raises(ConfigError) as caught:
        demo.copy(tmp_path / "lab")
    assert caught.value.code == "E_DEMO_DIRECTORY"


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("demo-lab", "demo_lab"),
        ("Übung 3", "bung_3"),
        ("2027", "demo_2027"),
        ("-", "demo"),
        ("x" * 90, "x" * 31),
    ],
)
def test_the_project_is_named_after_its_directory(tmp_path: Path, directory: str, name: str) -> None:
    demo.copy(tmp_path / directory)
    assert f"\nproject: {name}\n" in (tmp_path / directory / "djops.yaml").read_text()


def test_a_killed_copy_goes_on(tmp_path: Path) -> None:
    demo.copy(tmp_path / "demo-lab")
    (tmp_path / "demo-lab" / "djops.yaml").unlink()
    (tmp_path / "demo-lab" / "src" / "my_pipeline" / "ephys.py").unlink()
    (tmp_path / "demo-lab" / ".README.md.0123abcd").write_text("half")
    assert demo.copy(tmp_path / "demo-lab")
    assert (tmp_path / "demo-lab" / "src" / "my_pipeline" / "ephys.py").exists()
    assert not demo.copy(tmp_path / "demo-lab")


def test_a_killed_demo_goes_on(up: DemoUnderTest) -> None:
    bare(up.site, up.wanted)
    command = [sys.executable, "-m", "djops.cli.main", "demo", "-q", str(up.site.project_file.parent)]
    for seconds in (1.6, 2.4, 3.2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait(120)
    demo.run(up.site.project_file.parent)
    test_everything_is_there(up)
    with Servers(up.site) as servers:
        assert access.make_plan(servers, up.wanted).is_empty
