"""`djops tunnel` with a stand-in for Amazon's plugin on PATH, which forwards to a server of the test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest

from djops.errors import DjopsError, ServerUnavailableError
from djops.services import tunnel
from djops.services.project import load_project
from djops.services.site import CloudDirectory, open_site
from djops.systems import cloudfile, datajoint, ssm
from djops.systems.aws import Aws
from djops.systems.clients import mysql_options
from djops.systems.cloudfile import CloudFile
from djops.systems.connections import Secret
from djops.systems.files import write_json, write_private
from djops.systems.mysql import Mysql
from djops.systems.paths import lab_directory
from djops.systems.ports import free_ports
from djops.systems.vault import Secrets
from tests.conftest import LabUnderTest
from tests.support.aws_account import account, client
from tests.support.cli import invoke
from tests.support.cloud_projects import write_project

TOKEN = "AAEAAX-the-session-s-token"
PLUGIN = """\
    #!{python}
    import json, os, socket, sys, threading
    if sys.argv[1:] == ["--version"]:
        print(os.environ.get("PLUGIN_VERSION", "1.2.707.0"))
        sys.exit()
    if "PLUGIN_FAILS" in os.environ:
        print("SessionId: x : TargetNotConnected: i-0gate is not connected.")
        sys.exit(254)
    parameters = json.loads(sys.argv[5])["Parameters"]
    session = json.loads(os.environ[sys.argv[1]])
    with open(os.environ["PLUGIN_SAW"], "w") as file:
        json.dump({{"argv": sys.argv[1:], "session": session, "pid": os.getpid()}}, file)
    with socket.create_server(("127.0.0.1", int(parameters["localPortNumber"][0]))) as listener:
        print("Port opened for sessionId x.\\nWaiting for connections...", flush=True)
        leads = json.loads(os.environ.get("PLUGIN_LEADS", "{{}}"))
        def copy(one, other):
            try:
                while data := one.recv(65536):
                    other.sendall(data)
                other.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        while True:
            one = listener.accept()[0]
            if not leads:
                with one:
                    one.sendall(parameters["host"][0].encode())
                continue
            other = socket.create_connection(("127.0.0.1", leads[parameters["portNumber"][0]]))
            for pair in ((one, other), (other, one)):
                threading.Thread(target=copy, args=pair, daemon=True).start()
"""


class Sessions:
    """The part of AWS that opens and ends sessions, which moto lacks."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.ended: list[str] = []
        self.asked: Mapping[str, Any] = {}

    def call(self, aws: Aws, service: str, action: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if action == "StartSession":
            self.open.append("s-1")
            self.asked = parameters
            return {"SessionId": "s-1", "TokenValue": TOKEN, "StreamUrl": "wss://nowhere.invalid"}
        if action == "TerminateSession":
            self.ended.append(parameters["SessionId"])
            return {}
        return _BEFORE(aws, service, action, parameters)


_BEFORE = Aws._call


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    write_project(tmp_path)
    program = tmp_path / "bin" / "session-manager-plugin"
    program.parent.mkdir()
    program.write_text(textwrap.dedent(PLUGIN).format(python=sys.executable))
    program.chmod(0o755)
    known = Sessions()
    with account(tmp_path):
        monkeypatch.setenv("PLUGIN_SAW", str(tmp_path / "saw.json"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        with mock.patch.object(Aws, "_call", lambda *args: known.call(*args)):
            yield known


@pytest.fixture
def written_down(sessions: Sessions) -> Iterator[None]:
    outputs = {
        "database": {"host": "db.rds.invalid", "port": 3306, "adminSecret": "arn:x"},
        "secrets": {"address": "https://vault.invalid:8200"},
        "gate": "i-0gate",
    }
    directory = lab_directory("demo_lab", "production")
    directory.mkdir(parents=True, exist_ok=True)
    cloudfile.write(directory, cloudfile.from_outputs(outputs, "eu-central-1"))
    yield
    (directory / cloudfile.FILE).unlink()


@pytest.mark.usefixtures("written_down")
@pytest.mark.parametrize(
    ("server", "host", "port"), [("mysql", "db.rds.invalid", 3306), ("secrets", "vault.invalid", 8200)]
)
def test_a_port_leads_to_the_server_and_all_ends_with_it(
    server: tunnel.Server, host: str, port: int, sessions: Sessions, tmp_path: Path
) -> None:
    (local,) = free_ports(1)
    with tunnel.opened(tmp_path / "djops.yaml", None, server, local) as way:
        assert (way.gate, way.host, way.port, way.local_port) == ("i-0gate", host, port, local)
        with socket.create_connection((way.local_host, local), timeout=30) as one:
            assert one.recv(100).decode() == host
        saw = json.loads((tmp_path / "saw.json").read_text())
        assert not sessions.ended
    assert sessions.asked["Target"] == "i-0gate" and sessions.asked["DocumentName"] == ssm.DOCUMENT
    assert saw["session"]["TokenValue"] == TOKEN and TOKEN not in " ".join(saw["argv"])
    assert saw["argv"][1:3] == ["eu-central-1", "StartSession"]
    assert sessions.ended == ["s-1"]
    with pytest.raises(ProcessLookupError):
        os.kill(saw["pid"], 0)


@pytest.mark.usefixtures("written_down")
@pytest.mark.parametrize(
    ("variables", "code"),
    [({"PLUGIN_FAILS": "1"}, "E_TUNNEL"), ({"PLUGIN_VERSION": "1.2.300.0"}, "E_NO_PLUGIN")],
    ids=["it ends at once", "too old to keep the token private"],
)
def test_a_plugin_that_does_not_do(
    variables: dict[str, str], code: str, sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run = invoke("tunnel", "-C", tmp_path, "--json")
    (error,) = run.answer["errors"]
    assert run.status == 1 and error["code"] == code and TOKEN not in run.stdout + run.stderr
    assert sessions.ended == sessions.open
    assert code != "E_TUNNEL" or "TargetNotConnected" in error["message"]


def test_without_the_plugin_nothing_is_asked(sessions: Sessions, tmp_path: Path) -> None:
    (tmp_path / "bin" / "session-manager-plugin").unlink()
    error = invoke("tunnel", "-C", tmp_path, "--json").answer["errors"][0]
    assert error["code"] == "E_NO_PLUGIN" and "Install the Session Manager plugin" in error["hint"]
    assert not sessions.open


@pytest.mark.usefixtures("written_down")
def test_a_port_that_is_taken(sessions: Sessions, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run = invoke("tunnel", "-C", tmp_path, "--json", "--port", str(listener.getsockname()[1]))
    assert run.answer["errors"][0]["code"] == "E_PORT" and not sessions.open


def test_another_machine_finds_gate_and_database_by_their_tags(sessions: Sessions, tmp_path: Path) -> None:
    file = tmp_path / "djops.yaml"
    with pytest.raises(DjopsError) as refused, tunnel.opened(file):
        pass
    assert refused.value.code == "E_NOT_UP"
    tags = {"Name": "djops-gate", "djops:project": "demo_lab", "djops:environment": "production"}
    specification = {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
    (gate,) = client("ec2").run_instances(
        ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=[specification]
    )["Instances"]
    client("rds").create_db_instance(
        DBInstanceIdentifier="demo-lab-production",
        DBInstanceClass="db.t4g.medium",
        Engine="mysql",
        MasterUsername="m",
        MasterUserPassword="longer-than-eight",
        AllocatedStorage=20,
    )
    with tunnel.opened(file, port=free_ports(1)[0]) as way:
        assert way.gate == gate["InstanceId"] and way.host.startswith("demo-lab-production.")


@pytest.mark.usefixtures("written_down")
def test_ctrl_c_is_how_it_ends(sessions: Sessions, tmp_path: Path) -> None:
    """In a process of its own, whose AWS is the stand-in of this module."""
    script = f"""
        import sys
        from unittest import mock
        from tests.services.test_tunnel import Sessions
        from djops.systems.aws import Aws
        from djops.cli.common import run
        known = Sessions()
        with mock.patch.object(Aws, "_call", lambda *args: known.call(*args)):
            status = run(["tunnel", "-C", {str(tmp_path)!r}, "--port", "{free_ports(1)[0]}"])
        print("status", status, "ended", known.ended)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert child.stdout is not None
        assert "leads to db.rds.invalid:3306 through i-0gate" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=120)[0] == "status 0 ended ['s-1']\n"
    finally:
        child.kill()
        child.wait(120)


@pytest.fixture
def private(
    lab: LabUnderTest, sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CloudFile]:
    """An environment whose servers are reached through the gate alone: a lab's, which know their names."""
    owner, file = open_site(lab.project_file), tmp_path / "djops.yaml"
    mysql, vault = free_ports(2)
    leads = {mysql: owner.mysql.port, vault: urlsplit(owner.secrets.address).port}
    monkeypatch.setenv("PLUGIN_LEADS", json.dumps(leads))
    directory = lab_directory(load_project(file).project, "production")
    directory.mkdir(parents=True, exist_ok=True)
    known = CloudFile(
        "eu-central-1",
        "localhost",
        mysql,
        "arn:x",
        f"https://localhost:{vault}",
        "arn:y",
        "",
        (),
        "m",
        "i-0gate",
    )
    place = CloudDirectory(directory, known)
    assert owner.mysql.ca is not None
    for ca in (place.mysql_ca, place.secrets_ca):
        write_private(ca, owner.mysql.ca.read_text())
    write_json(place.mysql_manager, {"user": owner.mysql.user, "password": owner.mysql.password.reveal()})
    write_json(place.s3_manager, {"access_key": "testing", "secret_key": "testing"})
    secrets = owner.secrets
    write_json(place.approle, {"role_id": secrets.role_id, "secret_id": secrets.secret_id.reveal()})
    cloudfile.write(directory, known)
    monkeypatch.setattr(tunnel, "_ANSWERED", set())
    yield known
    tunnel.let_go()
    shutil.rmtree(directory)


@pytest.mark.usefixtures("private")
def test_commands_open_the_ways_that_they_need_and_close_them(sessions: Sessions, tmp_path: Path) -> None:
    site = open_site(tmp_path / "djops.yaml", "production")
    assert site.mysql.host == "localhost" and site.mysql.through is not None
    with Mysql(site.mysql) as server:
        ((cipher,),) = server.query("SELECT VARIABLE_VALUE FROM performance_schema.session_status "
                                    "WHERE VARIABLE_NAME = 'Ssl_cipher'")  # fmt: skip
        assert cipher
    with Secrets(site.secrets) as session:
        session.login()
    again = open_site(tmp_path / "djops.yaml", "production")
    assert again.mysql.through == site.mysql.through and len(sessions.open) == 2, "a run opens each way once"
    tunnel.let_go()
    assert sessions.ended == sessions.open
    found = invoke("status", "--env", "production", "-C", tmp_path, "--json").answer["data"]["servers"]
    assert {one["name"]: one["healthy"] for one in found if one["name"] != "s3"} == {
        "mysql": True, "secrets": True,
    }  # fmt: skip
    assert len(sessions.open) == 4 and sessions.ended == sessions.open, "a command closes its ways itself"


@pytest.mark.usefixtures("private")
def test_programs_and_the_client_take_the_same_way(tmp_path: Path) -> None:
    """They know no server behind a way: its authority is verified, and the way leads to it alone."""
    site = open_site(tmp_path / "djops.yaml", "production")
    assert site.mysql.through is not None
    with datajoint.connect(site.mysql) as client:
        assert client.connection.query("SELECT CURRENT_USER()").fetchone()[0].startswith(site.mysql.user)
    nameless = replace(site.mysql, password=Secret(""))
    options = mysql_options(nameless)
    assert f'port = "{site.mysql.through[1]}"' in options and "VERIFY_CA" in options
    assert "VERIFY_IDENTITY" in mysql_options(replace(nameless, through=None))
    assert "check_hostname" not in datajoint.tls_settings(replace(site.mysql, through=None))


def test_the_certificate_must_be_the_database_s_own(private: CloudFile, tmp_path: Path) -> None:
    directory = lab_directory("demo_lab", "production")
    cloudfile.write(directory, replace(private, mysql_host="db.abc.eu-central-1.rds.amazonaws.invalid"))
    site = open_site(tmp_path / "djops.yaml", "production")
    with pytest.raises(DjopsError, match=r"(?i)certificate") as told, Mysql(site.mysql) as server:
        server.query("SELECT 1")
    assert told.value.code != "E_TUNNEL"


@pytest.mark.usefixtures("private")
def test_a_way_that_djops_tunnel_holds_open_is_taken(sessions: Sessions, tmp_path: Path) -> None:
    with tunnel.opened(tmp_path / "djops.yaml", None, "mysql", free_ports(1)[0]) as way:
        site = open_site(tmp_path / "djops.yaml", "production")
        assert site.mysql.through == (way.local_host, way.local_port)
        assert len(sessions.open) == 2, "one for the secrets server besides"


@pytest.mark.usefixtures("private")
def test_without_a_way_the_server_that_is_needed_says_what_to_do(sessions: Sessions, tmp_path: Path) -> None:
    (tmp_path / "bin" / "session-manager-plugin").unlink()
    site = open_site(tmp_path / "djops.yaml", "production")
    with pytest.raises(ServerUnavailableError) as told, Mysql(site.mysql) as server:
        server.query("SELECT 1")
    assert told.value.code == "E_TUNNEL" and "Session Manager plugin" in str(told.value.hint)
    with pytest.raises(ServerUnavailableError, match="private network"), Secrets(site.secrets) as session:
        session.login()
    found = invoke("status", "--env", "production", "-C", tmp_path, "--json").answer["data"]["servers"]
    assert {one["name"] for one in found if not one["healthy"]} >= {"mysql", "secrets"} and not sessions.open
