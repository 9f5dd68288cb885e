"""Servers that are already there, prepared by their administrators with the very blocks of the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from djops.plan.operations import AwsCall
from djops.services.site import Site, open_site
from djops.systems import passwords
from djops.systems.files import write_private
from djops.systems.local.ceph_config import ACCOUNT_ID
from djops.systems.s3 import S3
from tests.conftest import LabUnderTest
from tests.support.admin import as_root, block, replaced
from tests.support.bad_servers import expired, greet, listening, shake_hands, speak_http
from tests.support.cli import Run, invoke
from tests.support.demo import run_client
from tests.support.repository import EPHYS, SESSION, repository

PAGE = "existing-servers.md"
HEAD = """\
version: 1
project: my_lab
pipeline: {package: pipe, path: src}
stores:
  main: {bucket: my-lab-data-2, location: pipe}
"""
PEOPLE = """\
people:
  ann:
    grants:
      - {role: viewer, on: mylab_ephys}
"""
MODULES = {
    "session": SESSION.replace('"session"', '"mylab_session"'),
    "ephys": EPHYS.replace('"ephys"', '"mylab_ephys"'),
}
BUCKET, MANAGER = "my-lab-data-2", "djops-my-lab"


@dataclass(frozen=True)
class Place:
    """A project whose environment names the servers of a lab that is not its own."""

    project_file: Path
    lab: LabUnderTest
    owner: Site

    @property
    def directory(self) -> Path:
        return self.project_file.parent

    def run(self, *arguments: str | Path) -> Run:
        return invoke(*arguments, "--json", "-C", self.directory)

    def done(self, *arguments: str | Path) -> dict[str, Any]:
        run = self.run(*arguments)
        assert run.status == 0, run.stdout
        data = run.answer["data"]
        assert isinstance(data, dict)
        return data

    def errors(self, *arguments: str | Path) -> list[dict[str, str]]:
        run = self.run(*arguments)
        assert run.status == 1, run.stdout
        assert "E_BUG" not in run.stdout
        found = run.answer["errors"]
        assert isinstance(found, list)
        return found

    def administer(self, system: str, script: str) -> str:
        return as_root(self.lab.repository, system, script, self.directory)

    def sql(self, *statements: str) -> None:
        (self.directory / "by-root.sql").write_text(";\n".join(statements))
        self.administer("mysql", "mysql < by-root.sql")

    def with_environment(self, change: dict[str, dict[str, Any]]) -> Place:
        """Return the same project with other settings of its servers."""
        head, _, rest = self.project_file.read_text().partition("environments:\n")
        settings, _, people = rest.partition("people:\n")
        parsed = yaml.safe_load(settings)
        for part, changed in change.items():
            parsed["lab"][part].update(changed)
        other = self.directory / "other"
        if not other.exists():
            repository(other, modules=MODULES)
        text = f"{head}{yaml.safe_dump({'environments': parsed})}people:\n{people}"
        (other / "djops.yaml").write_text(text)
        return Place(other / "djops.yaml", self.lab, self.owner)


def environment(site: Site, directory: Path) -> dict[str, Any]:
    """Write credentials into files, and say where the servers are."""
    mysql, secrets = site.mysql, site.secrets
    for name, value in {"role-id": secrets.role_id, "secret-id": secrets.secret_id.reveal()}.items():
        write_private(directory / "secrets" / name, value)
    return {
        "target": "existing",
        "mysql": {
            "host": mysql.host,
            "port": mysql.port,
            "user": "djops_manager",
            "password": {"file": str(directory / "secrets" / "mysql-password")},
            "ca": str(mysql.ca),
        },
        "s3": {
            "endpoint": site.s3.admin_endpoint,
            "access_key": {"env": "MY_LAB_S3_KEY"},
            "secret_key": {"env": "MY_LAB_S3_SECRET"},
            "ca": str(site.s3.ca),
        },
        "secrets": {
            "address": secrets.address,
            "role_id": {"file": str(directory / "secrets" / "role-id")},
            "secret_id": {"file": str(directory / "secrets" / "secret-id")},
            "ca": str(secrets.ca),
        },
    }


@pytest.fixture(scope="module")
def place(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    owner, directory = open_site(lab.project_file), tmp_path_factory.mktemp("existing")
    (directory / "secrets").mkdir(mode=0o700)
    settings = yaml.safe_dump({"environments": {"lab": environment(owner, directory)}})
    made = Place(repository(directory, settings + PEOPLE, HEAD, MODULES), lab, owner)
    with pytest.MonkeyPatch.context() as patch:
        key, secret = prepare_store(made)
        patch.setenv("MY_LAB_S3_KEY", key)
        patch.setenv("MY_LAB_S3_SECRET", secret)
        prepare_database(made)
        yield made
        made.project_file.write_text(made.project_file.read_text().partition("people:")[0])
        made.done("apply", "--yes")
    made.sql(
        *(f"DROP DATABASE IF EXISTS mylab_{name}" for name in reversed(MODULES)), "DROP USER djops_manager"
    )
    root = root_store(owner)
    root.call(AwsCall("iam", "DeleteAccessKey", {"UserName": MANAGER, "AccessKeyId": key}))
    root.call(AwsCall("iam", "DeleteUserPolicy", {"UserName": MANAGER, "PolicyName": "djops"}))
    root.call(AwsCall("iam", "DeleteUser", {"UserName": MANAGER}))
    empty(root)
    root.call(AwsCall("s3", "DeleteBucket", {"Bucket": BUCKET}))


def root_store(owner: Site) -> S3:
    assert owner.s3_root is not None
    return S3(owner.s3_root)


def versions(root: S3) -> list[dict[str, str]]:
    answer = root.call(AwsCall("s3", "ListObjectVersions", {"Bucket": BUCKET}))
    listed = [*answer.get("Versions", ()), *answer.get("DeleteMarkers", ())]
    return [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in listed]


def empty(root: S3) -> None:
    there = versions(root)
    if there:
        root.call(AwsCall("s3", "DeleteObjects", {"Bucket": BUCKET, "Delete": {"Objects": there}}))


def prepare_database(place: Place) -> None:
    password = passwords.generate()
    write_private(place.directory / "secrets" / "mysql-password", password)
    statements = replaced(block(PAGE, "sql"), {"a-long-random-password": password})
    file = place.directory / "djops-manager.sql"
    write_private(file, statements)
    place.administer("mysql", "mysql < djops-manager.sql")
    file.write_text(statements.partition(";")[2])  # the first statement holds the password


def prepare_store(place: Place) -> list[str]:
    own = {"my-lab-data": BUCKET}
    policy = replaced(block(PAGE, "json"), {"123456789012": ACCOUNT_ID, **own})
    (place.directory / "djops-manager.json").write_text(policy)
    return (
        place.administer("s3", replaced(block(PAGE, "sh", "The object store"), own)).splitlines()[-1].split()
    )


def test_up_finds_everything_there_and_changes_nothing(place: Place) -> None:
    up = place.done("up")
    assert up["changed"] is False
    assert [server["name"] for server in up["servers"]] == ["mysql", "s3", "secrets"]
    assert not any(server["started"] for server in up["servers"])


def test_the_whole_way_of_a_project(place: Place) -> None:
    assert place.run("validate").status == 0
    status = place.done("status")
    assert [server["healthy"] for server in status["servers"]] == [True] * 3
    assert place.run("plan").status == 2
    assert place.done("apply", "--yes")["applied"] > 0
    assert place.run("plan").status == 0
    assert {schema["name"] for schema in place.done("schemas", "declare")["schemas"]} == {
        "mylab_session",
        "mylab_ephys",
    }
    assert place.done("schemas", "sync", "--yes")["job_tables"]
    assert all(schema["there"] for schema in place.done("schemas", "list")["schemas"])
    assert place.done("grant", "ann", "analyst", "mylab_ephys", "--yes")["applied"] > 0
    assert place.done("can", "ann", "insert", "mylab_ephys")["allowed"] is True
    place.done("users", "add", "ben", "--yes")
    place.done("users", "remove", "ben", "--yes")
    place.done("revoke", "ann", "analyst", "mylab_ephys", "--yes")
    assert place.run("plan").status == 0


def test_people_work_with_what_they_are_given(place: Place) -> None:
    place.done("apply", "--yes")
    place.done("schemas", "declare")
    place.done("schemas", "sync", "--yes")
    place.done("grant", "ann", "analyst", "mylab_ephys", "--yes")
    mine = place.directory / "ann"
    place.done("credentials", "ann", "--to", mine)
    code = (
        "import datajoint as dj, numpy as np; from pipe import session, ephys\n"
        "ephys.Recording.insert1({'session': 1, 'trace': np.arange(9)}, allow_direct_insert=True)\n"
        "print(int((ephys.Recording & 'session = 1').fetch1('trace').sum()))\n"
        "try:\n    session.Session.insert1({'session': 2})\n"
        "except dj.errors.AccessError:\n    print('refused')\n"
    )
    place.sql("INSERT IGNORE INTO mylab_session.session VALUES (1)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CA_BUNDLE", str(place.owner.s3.ca))
        said = run_client(mine, place.directory / "src", ["-c", code])
    assert said.split() == ["36", "refused"]
    keys = [one["Key"] for one in versions(root_store(place.owner))]
    assert any(key.startswith("pipe/_hash/mylab_ephys/") for key in keys)


def test_every_role_can_be_tried(place: Place) -> None:
    assert place.done("smoke")["agrees"] is True


def test_down_refuses_and_says_why(place: Place) -> None:
    for options in ((), ("--purge",), ("--purge", "--yes", "--project", "my_lab")):
        (error,) = place.errors("down", *options)
        assert error["code"] == "E_TARGET"
        assert "lab" in error["message"] and "existing" in error["message"]
    assert place.done("status")["servers"]


def test_the_page_has_the_whole_of_the_grants_and_of_the_policy() -> None:
    from djops.compile import mysql_manager
    from djops.compile.packing import AWS, size
    from djops.compile.s3_manager import SCRATCH, managed_policy, manager_policy

    shown = [" ".join(text.split()) for text in block(PAGE, "sql").split(";")]
    account = "'djops_manager'@'%'"
    wanted = [mysql_manager.grant_server(account), *mysql_manager.grant_tables(account).values()]
    wanted += mysql_manager.grant_schemas(account, ["mylab_session", "mylab_ephys", SCRATCH])
    wanted += [mysql_manager.grant_events(account)[0], *mysql_manager.grant_journal(account)]
    assert sorted(filter(None, shown[1:])) == sorted(wanted)
    own = manager_policy("my_lab", "123456789012", ["my-lab-data"])
    first, second = (json.loads(block(PAGE, language)) for language in ("json", "jsonc"))
    assert (first, second) == (own, managed_policy("my_lab", "123456789012"))
    assert size(first) + size(second) <= AWS.inline


ACCOUNT = "'djops_manager'@'%'"
WITHHELD = {
    "a schema": (
        "REVOKE ALTER ON `mylab\\_ephys`.* FROM {account}",
        r"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES ON `mylab\_ephys`.*",
    ),
    "passing on": (
        "REVOKE GRANT OPTION ON `mylab\\_ephys`.* FROM {account}",
        r"REFERENCES ON `mylab\_ephys`.* TO {account} WITH GRANT OPTION",
    ),
    "a privilege on the server": (
        "REVOKE ROLE_ADMIN, PROCESS ON *.* FROM {account}",
        "GRANT PROCESS, ROLE_ADMIN ON *.* TO {account};",
    ),
    "a grant table": (
        "REVOKE SELECT ON mysql.role_edges FROM {account}",
        "GRANT SELECT ON mysql.role_edges TO {account};",
    ),
    "a column": (
        "REVOKE SELECT (User_attributes) ON mysql.user FROM {account}",
        "`User_attributes`, `Select_priv`",
    ),
}


@pytest.mark.parametrize("kind", WITHHELD)
def test_what_the_database_administrator_forgot_is_named(place: Place, kind: str) -> None:
    withheld, wanted = (text.format(account=ACCOUNT) for text in WITHHELD[kind])
    place.sql(withheld)
    try:
        (error,) = place.errors("up")
        assert error["code"] == "E_DENIED"
        assert wanted in error["hint"]
        assert error["hint"].count("GRANT ") - error["hint"].count("WITH GRANT ") == 1
        # The very words of the hint mend it.
        place.sql(*(line.strip(" ;") for line in error["hint"].splitlines()[1:]))
        place.done("up")
    finally:
        prepare_again(place)


def prepare_again(place: Place) -> None:
    statements = (place.directory / "djops-manager.sql").read_text()
    (place.directory / "again.sql").write_text(statements)
    place.administer("mysql", "mysql < again.sql")


def test_everything_that_is_missing_is_named_at_once(place: Place) -> None:
    place.sql(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {ACCOUNT}")
    try:
        (error,) = place.errors("plan")
        shown = " ".join(error["hint"].split())
        page = [" ".join(text.split()) for text in block(PAGE, "sql").split(";")][1:]
        # The schema `djops`, for the journal and events, may be left out.
        asked = [text for text in page if "smoke" not in text and "`djops`" not in text]
        assert [text for text in asked if text not in shown] == []
        (error,) = place.errors("smoke")
        assert r"ON `djops\_smoke\_%`.*" in error["hint"]
    finally:
        prepare_again(place)


OTHER_WAYS = {
    "everything": [f"GRANT ALL ON *.* TO {ACCOUNT} WITH GRANT OPTION"],
    "a role": [
        "CREATE ROLE djops_power",
        "GRANT ALL ON *.* TO djops_power WITH GRANT OPTION",
        f"GRANT djops_power TO {ACCOUNT}",
        f"SET DEFAULT ROLE djops_power TO {ACCOUNT}",
    ],
    "a wildcard": [
        f"GRANT CREATE USER, PROCESS, SHOW DATABASES, ROLE_ADMIN, CONNECTION_ADMIN ON *.* TO {ACCOUNT}",
        f"GRANT SELECT ON mysql.* TO {ACCOUNT}",
        f"GRANT ALL ON `mylab%`.* TO {ACCOUNT} WITH GRANT OPTION",
    ],
}


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_rights_that_come_from_elsewhere_will_do(place: Place, way: str) -> None:
    statements = OTHER_WAYS[way]
    place.sql(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {ACCOUNT}", *statements)
    try:
        place.done("up")
    finally:
        place.sql("DROP ROLE IF EXISTS djops_power", f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {ACCOUNT}")
        prepare_again(place)


IAM_RIGHTS = {
    "iam:ListUsers": "all users",
    "iam:CreateUser": "the user cy",
    "iam:PutUserPolicy": "the user cy",
    "iam:CreateAccessKey": "the user cy",
    "s3:GetBucketVersioning": "arn:aws:s3:::my-lab-data-2",
}


@pytest.mark.parametrize("right", IAM_RIGHTS)
def test_what_the_store_s_administrator_forgot_is_named(place: Place, right: str) -> None:
    policy = json.loads((place.directory / "djops-manager.json").read_text())
    for statement in policy["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action != right] or ["s3:Get*"]
    root, who = root_store(place.owner), {"UserName": MANAGER, "PolicyName": "djops"}
    root.call(AwsCall("iam", "PutUserPolicy", {**who, "PolicyDocument": json.dumps(policy)}))
    try:
        (error,) = place.errors("users", "add", "cy", "--yes")
        assert error["code"] in ("E_DENIED", "E_APPLY")
        assert f"{right} on {IAM_RIGHTS[right]}" in f"{error['message']} {error['hint']}"
    finally:
        whole = (place.directory / "djops-manager.json").read_text()
        root.call(AwsCall("iam", "PutUserPolicy", {**who, "PolicyDocument": whole}))
        if place.run("users", "remove", "cy", "--yes").status == 1:
            place.done("apply", "--yes")


def test_a_bucket_that_is_not_there_is_named(place: Place) -> None:
    other = place.with_environment({})
    other.project_file.write_text(other.project_file.read_text().replace("data-2", "data-3"))
    for command in ("plan", "up"):
        (error,) = other.errors(command)
        assert (error["code"], "my-lab-data-3" in error["message"]) == ("E_NO_BUCKET", True), error


SECRET_CASES: list[tuple[str, dict[str, dict[str, Any]], str, str]] = [
    ("host", {"mysql": {"host": "nowhere.invalid"}}, "E_SERVER", "nowhere.invalid"),
    ("port", {"mysql": {"port": 1}}, "E_SERVER", "refused"),
    ("authority", {"mysql": {"ca": None}}, "E_TLS", "ca:"),
    ("S3 host", {"s3": {"endpoint": "https://nowhere.invalid"}}, "E_SERVER", "nowhere.invalid"),
    ("S3 port", {"s3": {"endpoint": "https://127.0.0.1:1"}}, "E_SERVER", "127.0.0.1:1"),
    ("S3 authority", {"s3": {"ca": None}}, "E_TLS", "ca:"),
    ("S3 key", {"s3": {"secret_key": {"env": "HOME"}}}, "E_DENIED", "refused djops' access key"),
    ("S3 in the clear", {"s3": {"endpoint": "http://s3.example.org"}}, "E_TLS", "https"),
    ("secrets host", {"secrets": {"address": "https://nowhere.invalid"}}, "E_SERVER", "cannot be reached"),
    ("secrets port", {"secrets": {"address": "https://127.0.0.1:1"}}, "E_SERVER", "cannot be reached"),
    ("secrets authority", {"secrets": {"ca": None}}, "E_TLS", "ca:"),
    ("AppRole", {"secrets": {"secret_id": {"env": "HOME"}}}, "E_DENIED", "role id"),
    ("no password", {"mysql": {"password": {"env": "HOME"}}}, "E_DENIED", "refused the log-in"),
]


@pytest.mark.parametrize("case", SECRET_CASES, ids=lambda case: str(case[0]))
def test_a_wrong_setting_is_told(place: Place, case: tuple[str, dict[str, dict[str, Any]], str, str]) -> None:
    _, change, code, words = case
    check(place.with_environment(change), code, words)


def check(place: Place, code: str, words: str) -> None:
    """See that djops tells what is wrong, ``status`` beside the servers that are well."""
    errors = place.errors("up")
    assert [error["code"] for error in errors] == [code], errors
    assert words in f"{errors[0]['message']} {errors[0]['hint']} {errors[0]['where']}"
    status = place.run("status")
    assert "E_BUG" not in status.stdout
    if status.status == 2:
        (problem,) = [one["problem"] for one in status.answer["data"]["servers"] if not one["healthy"]]
        assert words in problem
    else:
        assert status.answer["errors"][0]["code"] == code


def test_servers_that_answer_as_others_do(place: Place, tmp_path: Path) -> None:
    context = expired(tmp_path / "old")
    ca = str(tmp_path / "old" / "ca.pem")
    with (
        listening(greet) as plain,
        listening(lambda client: greet(client, context)) as old_mysql,
        listening(lambda client: shake_hands(client, context)) as old,
        listening(speak_http) as page,
    ):
        tls, web = f"https://127.0.0.1:{old}", f"http://127.0.0.1:{page}"
        cases: list[tuple[dict[str, dict[str, Any]], str, str]] = [
            ({"mysql": {"port": plain}}, "E_TLS", "does not offer TLS"),
            ({"mysql": {"port": old_mysql, "ca": ca}}, "E_TLS", "has expired"),
            ({"mysql": {"port": page}}, "E_SERVER", "does not answer"),
            ({"s3": {"endpoint": tls, "ca": ca}}, "E_TLS", "has expired"),
            ({"s3": {"endpoint": web}}, "E_SERVER", "no S3 server"),
            ({"s3": {"endpoint": web.replace("http", "https")}}, "E_TLS", "in TLS"),
            ({"secrets": {"address": tls, "ca": ca}}, "E_TLS", "has expired"),
            ({"secrets": {"address": web}}, "E_SERVER", "neither OpenBao nor Vault"),
            ({"secrets": {"address": web.replace("http", "https")}}, "E_TLS", "in TLS"),
        ]
        for change, code, words in cases:
            check(place.with_environment(change), code, words)
