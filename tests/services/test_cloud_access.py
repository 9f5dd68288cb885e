"""Rights on an environment in the cloud: AWS in memory, and a local MySQL and OpenBao in place of theirs.

The database's administrator is made as RDS documents its own: no root, and without what he cannot give.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import hvac
import pytest
import yaml
from moto import mock_aws

from djops.compile.machines import PROCEDURES, SWEEP, engine_account
from djops.compile.mysql_manager import END_SESSION, END_SESSIONS, SERVER_PRIVILEGES, grant_server
from djops.compile.sql import quote_account
from djops.errors import ServerUnavailableError
from djops.services import cloud, cloud_access, tunnel
from djops.services.site import Site, open_site
from djops.systems import passwords
from djops.systems.connections import Secret
from djops.systems.files import write_private
from djops.systems.links import LinkServer
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest
from tests.support.aws_double import AwsDouble, served
from tests.support.cli import Run, invoke
from tests.support.iam_boundaries import kept
from tests.support.pulumi_engine import engine, use_engine
from tests.support.repository import EPHYS, SESSION, repository
from tests.support.stand_in import StandIn

REGION, PROJECT, MASTER = "eu-central-1", "cloud_lab", "rds_like_master"
MODULES = {
    "session": SESSION.replace('"session"', '"cloudlab_session"'),
    "ephys": EPHYS.replace('"ephys"', '"cloudlab_ephys"'),
}
# AWS' documentation of RDS for MySQL 8.4: what its administrator's role holds.
MASTERS = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, "
    "SHOW DATABASES, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION SLAVE, "
    "REPLICATION CLIENT, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, CREATE USER, "
    "EVENT, TRIGGER, CREATE ROLE, DROP ROLE, "
    "APPLICATION_PASSWORD_ADMIN, ROLE_ADMIN, SET_ANY_DEFINER, XA_RECOVER_ADMIN"
)


def as_rds_gives(account: str, privileges: Iterable[str] = SERVER_PRIVILEGES) -> str:
    """RDS refuses to give this; MySQL lets whoever has GRANT OPTION for the server give any dynamic one."""
    return grant_server(account, [one if one != END_SESSIONS else "REFUSED_HERE" for one in privileges])


@dataclass(frozen=True)
class Place:
    """A project whose environment is in a cloud that consists of a lab's servers and of AWS in memory."""

    file: Path
    owner: Site

    def run(self, *arguments: str) -> Run:
        return invoke(*arguments, "--env", "production", "--json", "-C", self.file.parent)

    def data(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        run = self.run(*arguments)
        assert run.status == status, run.stdout[-6000:]
        found = run.answer["data"]
        assert isinstance(found, dict)
        return found

    def root(self) -> Mysql:
        assert self.owner.mysql_root is not None
        return Mysql(self.owner.mysql_root)


def environment(owner: Site, folder: Path, arn: str) -> dict[str, Any]:
    secrets, folder = owner.secrets, folder / "secrets"
    folder.mkdir(mode=0o700)
    for name, value in {"role-id": secrets.role_id, "secret-id": secrets.secret_id.reveal()}.items():
        write_private(folder / name, value)
    database = {
        "host": owner.mysql.host,
        "port": owner.mysql.port,
        "admin_secret": arn,
        "ca": str(owner.mysql.ca),
    }
    return {
        "target": "aws",
        "region": REGION,
        "existing": {"database": database},
        "secrets": {
            "address": secrets.address,
            "role_id": {"file": str(folder / "role-id")},
            "secret_id": {"file": str(folder / "secret-id")},
            "ca": str(secrets.ca),
        },
    }


@pytest.fixture(scope="module")
def place(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    owner, folder = open_site(lab.project_file), tmp_path_factory.mktemp("cloud-access")
    password = passwords.generate()
    with pytest.MonkeyPatch.context() as patch, mock_aws(), kept():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setattr(cloud_access, "grant_server", as_rds_gives)
        with served(AwsDouble()) as address:
            real = engine()
            if real is None:
                patch.setattr(cloud, "open_stack", lambda where: StandIn(where, address))
            else:
                use_engine(patch, real, folder / "pulumi", address)
            secret = json.dumps({"username": MASTER, "password": password})
            manager: Any = boto3.client("secretsmanager", region_name=REGION)
            arn = manager.create_secret(Name="rds", SecretString=secret)["ARN"]
            settings = {"environments": {"production": environment(owner, folder, arn)}}
            head = (
                f"version: 1\nproject: {PROJECT}\npipeline: {{package: pipe, path: src}}\n"
                "stores:\n  main: {bucket: cloud-lab-raw, location: pipe}\n"
            )
            people = "people:\n  ann: {}\n"
            made = Place(repository(folder, yaml.safe_dump(settings) + people, head, MODULES), owner)
            with made.root() as root:
                root.query(f"CREATE USER {MASTER}@'%' IDENTIFIED BY '{password}' REQUIRE SSL")
                root.query(f"GRANT {MASTERS} ON *.* TO {MASTER}@'%' WITH GRANT OPTION")
                root.query(f"CREATE PROCEDURE {END_SESSION}(IN session BIGINT) KILL session")
            yield made
            made.file.write_text(made.file.read_text().partition("people:")[0])
            made.run("apply", "--yes")
            with made.root() as root:
                root.query(f"DROP PROCEDURE {END_SESSION}")
                root.query(f"DROP USER IF EXISTS {quote_account(*engine_account(PROJECT))}")
                root.query(f"DROP EVENT IF EXISTS djops.{SWEEP}")
                for name in (*PROCEDURES, SWEEP):
                    root.query(f"DROP PROCEDURE IF EXISTS djops.{name}")
                root.query("DROP TABLE IF EXISTS djops.leases")
                root.query(f"DROP USER IF EXISTS {MASTER}@'%', 'djops-{PROJECT}'@'%'")
                for name in reversed(MODULES):
                    root.query(f"DROP DATABASE IF EXISTS cloudlab_{name}")


def test_everything_runs_on_an_environment_in_the_cloud(place: Place) -> None:
    up = place.data("up", "--yes")
    assert up["changed"] and up["outputs"]["buckets"] == ["cloud-lab-raw"] and up["access"] is not None
    again = place.data("up", "--yes")
    assert not again["changed"] and not again["access"]["changes"], "the second changes nothing"
    with place.root() as root:
        grants = " ".join(str(row[0]) for row in root.query(f"SHOW GRANTS FOR 'djops-{PROJECT}'@'%'"))
    assert "CONNECTION_ADMIN" not in grants and "SUPER" not in grants and "rds_kill" in grants

    status = place.data("status")
    assert [server["healthy"] for server in status["servers"]] == [True] * 3
    assert place.data("schemas", "declare")["schemas"]
    assert place.data("grant", "ann", "analyst", "cloudlab_ephys", "--yes")["applied"] > 0
    assert place.data("can", "ann", "insert", "cloudlab_ephys")["allowed"] is True
    users = boto3.client("iam").list_users(PathPrefix=f"/djops/{PROJECT}/")["Users"]
    assert len(users) == 1
    iam, ann = boto3.client("iam"), users[0]["UserName"]
    bound = iam.get_user(UserName=ann)["User"]["PermissionsBoundary"]["PermissionsBoundaryArn"]
    assert bound == up["outputs"]["peopleBoundary"]
    iam.delete_user_permissions_boundary(UserName=ann)
    drifted = place.data("drift", status=2)["drift"]
    assert ("changed boundary", ann) in {(one["kind"], one["object"]) for one in drifted}
    assert place.data("apply", "--yes")["applied"] == 1
    assert "PermissionsBoundary" in iam.get_user(UserName=ann)["User"]
    # Another djops works on the same server; whom this environment names as administrator is told apart.
    found = place.data("verify", "--static", status=2)
    assert {one["who"] for one in found["violations"]} == {"djops"}
    assert MASTER in found["administrators"]
    assert place.run("audit").answer["errors"] == []
    assert place.run("drift").answer["data"]["cloud"] == []
    # Ending a session takes the procedure here.
    assert place.data("revoke", "ann", "analyst", "cloudlab_ephys", "--yes")["applied"] > 0


def test_up_without_a_way_to_the_servers_says_why(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ServerUnavailableError("no way leads there: it lacks", code="E_TUNNEL", hint="install what lacks")
    monkeypatch.setattr(tunnel, "reach", lambda *_: {"mysql": error})
    told = invoke("up", "--yes", "--env", "production", "-C", place.file.parent)
    assert told.status == 2 and "no way leads there: it lacks" in told.stdout + told.stderr
    assert "install what lacks; then run this again" in told.stdout + told.stderr


SESSIONS = "SELECT 1 FROM information_schema.processlist WHERE user = %s"


def test_services_and_people_log_in_by_themselves(place: Place, tmp_path: Path) -> None:
    """What the secrets server has besides kept secrets: leases, and log-ins of services and people."""
    text = place.file.read_text()
    worker = "{grants: [{role: viewer, on: cloudlab_ephys}], credentials: {type: dynamic}}"
    place.file.write_text(text.rstrip() + f"\nservices:\n  worker: {worker}\n")
    (refused,) = place.run("apply", "--yes").answer["errors"]
    assert refused["code"] == "E_DENIED" and refused["hint"].startswith(
        "`djops up --env production` makes it"
    )
    assert place.data("up", "--yes")["access"]["changes"]
    assert not place.data("up", "--yes")["access"]["changes"]
    folder = tmp_path / "worker" / "secrets"
    handed = place.data("secrets", "approle", "worker", "--to", str(folder))
    server, at = place.owner.secrets, place.owner.mysql
    client = hvac.Client(server.address, verify=str(server.ca))
    client.auth.approle.login(*((folder / name).read_text() for name in ("role-id", "secret-id")))
    (lease,) = [path for path in handed["reads"] if "creds" in path]
    given = client.read(lease)
    with Mysql(
        replace(at, user=given["data"]["username"], password=Secret(given["data"]["password"]))
    ) as own:
        assert own.query("SELECT CURRENT_ROLE()")[0][0] != "NONE"
        client.auth.token.revoke_self()
        # Nobody has CONNECTION_ADMIN here: the procedure ends what the lease left open.
        with place.root() as root:
            deadline = time.monotonic() + 60
            while root.query(SESSIONS, (given["data"]["username"],)):
                assert time.monotonic() < deadline, "the session goes on"
                time.sleep(0.1)

    typed = tmp_path / "typed"
    typed.write_text("correct horse 7 staple\n")
    assert place.run("secrets", "login", "ann", str(typed)).status == 0
    link = LinkServer(server.address, server.ca)
    held = link.log_in("userpass", "userpass", f"djops-{PROJECT}-ann", Secret(typed.read_text().strip()))
    assert link.read(held, f"djops/data/{PROJECT}/people/ann")["database.user"] == "ann"
    place.file.write_text(text)
    assert place.data("apply", "--yes")["applied"] > 0


def test_what_is_named_on_the_command_line_is_given_up(place: Place) -> None:
    place.file.write_text(place.file.read_text().replace("bucket: cloud-lab-raw", "bucket: cloud-lab-other"))
    (error,) = place.run("up", "--yes").answer["errors"]
    assert error["code"] == "E_DATA_LOSS" and "--allow-data-loss s3.bucket::cloud-lab-raw" in error["hint"]
    done = place.data("up", "--allow-data-loss", "s3.bucket::cloud-lab-raw", "--yes")
    lost = {one["resource"]: one["loses"] for one in done["plan"]["changes"] if one["loses"]}
    assert lost["s3.bucket::cloud-lab-raw"] == "objects" and done["outputs"]["buckets"] == ["cloud-lab-other"]
    there = {one["Name"] for one in boto3.client("s3", region_name=REGION).list_buckets()["Buckets"]}
    assert {"cloud-lab-raw", "cloud-lab-other"} <= there


def test_down_keeps_what_is_not_pulumis(place: Place) -> None:
    down = place.data("down", "--yes")
    assert down["removed"] and {one["resource"] for one in down["remaining"]} >= {
        "s3.bucket::cloud-lab-other"
    }
    with place.root() as root:
        assert root.query("SELECT 1 FROM mysql.user WHERE User = %s", (f"djops-{PROJECT}",))
