"""A secrets server of the cloud on its first day: the configuration of its own script, without AWS' seal.

OpenBao is real, and starts with what `stacks/cloud/openbao.sh` writes; a key in a file is its seal, not KMS.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from djops.compile.vault_manager import AUDIT, ENGINES, METHODS
from djops.errors import AccessDeniedError, DjopsError
from djops.services import cloud_access
from djops.services.cloud_access import _SetUp, _TokenSecrets
from djops.services.site import CloudDirectory
from djops.systems.cloud_admin import Administrator
from djops.systems.cloudfile import CloudFile
from djops.systems.connections import Secret, SecretsConnection
from djops.systems.files import read_json
from djops.systems.local import openbao_program
from djops.systems.local.openbao import OpenBaoServer
from djops.systems.local.server import Lab
from djops.systems.ports import free_ports
from djops.systems.progress import Silent
from djops.systems.vault import Secrets
from tests.support.secrets_lab import bare_lab

SCRIPT = (Path(__file__).parents[2] / "stacks" / "cloud" / "openbao.sh").read_text()
REGION, CA = "eu-central-1", "/djops/demo_lab/production/secrets-ca"


def configuration(lab: Lab, ports: tuple[int, int]) -> str:
    """What the script writes, on this machine, with another seal."""
    (found,) = re.findall(r"<<HCL\n(.*?)\nHCL\n", SCRIPT, re.DOTALL)
    folder = lab.directory / "openbao"
    (folder / "raft").mkdir(parents=True)
    (folder / "seal.key").write_bytes(secrets.token_bytes(32))
    seal = f'seal "static" {{\n  current_key_id = "one"\n  current_key = "file://{folder}/seal.key"\n}}\n'
    text, seals = re.subn(r'seal "awskms" \{.*?\n\}\n', seal, found, flags=re.DOTALL)
    assert seals == 1
    here = {
        "$$tls/server.pem": str(lab.certificate),
        "$$tls/server.key": str(lab.key),
        "/var/lib/openbao": str(folder),
        "0.0.0.0:8200": f"127.0.0.1:{ports[0]}",
        "$$name:8200": f"127.0.0.1:{ports[0]}",
        "127.0.0.1:8201": f"127.0.0.1:{ports[1]}",
    }
    for there, value in here.items():
        assert there in text, there
        text = text.replace(there, value)
    assert "$" not in text
    return text


@dataclass
class Cloud:
    """The server, and what its machine left in AWS."""

    lab: Lab
    address: str
    folder: Path
    arn: str

    @property
    def place(self) -> CloudDirectory:
        known = CloudFile(REGION, "db", 3306, "", self.address, self.arn, CA, (), "", "")
        return CloudDirectory(self.folder, known)

    @property
    def kept(self) -> dict[str, Any]:
        return dict(Administrator(REGION, None).secret(self.arn))

    def set_up(self) -> None:
        """What `djops up` does about it; there is nothing else in this cloud."""
        place, aws = self.place, Administrator(REGION, None)
        opened: Any = SimpleNamespace(env=SimpleNamespace(secrets=None), environment="production")
        with Silent().step("") as step:
            cloud_access._secrets_server(_SetUp(opened, place.known, place, aws, Path()), step)

    def djops(self) -> Secrets:
        ids = read_json(self.place.approle) or {}
        secret = Secret(ids["secret_id"])
        return Secrets(SecretsConnection(self.address, ids["role_id"], secret, self.place.secrets_ca))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with pytest.MonkeyPatch.context() as patch, bare_lab() as lab, mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        port, cluster = free_ports(2)
        file = lab.directory / "openbao.hcl"
        file.write_text(configuration(lab, (port, cluster)))
        program = str(openbao_program.find().path)
        log = lab.directory / "log"
        with log.open("wb") as told:
            server = subprocess.Popen([program, "server", f"-config={file}"], stdout=told, stderr=told)
        try:
            first = initialised(program, f"https://127.0.0.1:{port}", lab, server, log)
            manager: Any = boto3.client("secretsmanager", region_name=REGION)
            arn = manager.create_secret(Name="secrets-init", SecretString=first)["ARN"]
            parameters: Any = boto3.client("ssm", region_name=REGION)
            parameters.put_parameter(Name=CA, Type="String", Value=lab.ca.read_text())
            folder = tmp_path_factory.mktemp("cloud-secrets")
            yield Cloud(lab, f"https://127.0.0.1:{port}", folder, arn)
        finally:
            server.kill()
            server.wait(30)


def initialised(program: str, address: str, lab: Lab, server: subprocess.Popen[bytes], log: Path) -> str:
    """The script's own command for a first start, once the server answers."""
    (command,) = re.findall(r"bao (operator init -recovery.*?) >", SCRIPT)
    variables = {"BAO_ADDR": address, "BAO_CACERT": str(lab.ca), "HOME": str(lab.directory)}
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(
            [program, *command.split()],
            env=variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0:
            return done.stdout
        assert server.poll() is None and time.monotonic() < deadline, done.stderr + log.read_text()[-3000:]
        time.sleep(0.2)


def mounts(root: Secrets) -> dict[str, set[tuple[str, str]]]:
    """What is mounted where; what OpenBao has by itself is left out."""
    own = {"sys/", "identity/", "cubbyhole/", "token/"}
    return {
        kind: {
            (path, one["type"] + str((one.get("options") or {}).get("version") or ""))
            for path, one in ((root.request("GET", f"sys/{kind}") or {})["data"]).items()
            if path not in own
        }
        for kind in ("mounts", "auth")
    }


def root_of(cloud: Cloud) -> Secret:
    return cloud_access._recovered(cloud.address, cloud.lab.ca, cloud.kept)


def test_the_first_log_in_leaves_no_root_behind(cloud: Cloud) -> None:
    first = cloud.kept
    assert first["root_token"] and len(first["recovery_keys_b64"]) == 1
    cloud.set_up()
    assert "root_token" not in cloud.kept and cloud.kept["recovery_keys_b64"] == first["recovery_keys_b64"]
    assert not cloud_access._holds(cloud.address, cloud.lab.ca, Secret(first["root_token"]))
    with cloud.djops() as session:
        session.merge_secret("demo_lab/people/ann", {"database.user": "ann"})
        stored = session.read_secret("demo_lab/people/ann")
        assert stored is not None and stored.fields == {"database.user": "ann"}
        with pytest.raises(DjopsError):
            session.request("GET", "sys/mounts")
    assert cloud.place.approle.stat().st_mode & 0o777 == 0o600
    audit = cloud.lab.directory / "openbao" / "audit.log"
    assert audit.stat().st_mode & 0o777 == 0o600 and first["root_token"] not in audit.read_text()


def test_both_ends_hold_the_same(cloud: Cloud, tmp_path: Path) -> None:
    """The lab's requests at its first start, and what a server of the cloud is told."""
    if not cloud.place.approle.exists():
        cloud.set_up()
    with bare_lab() as lab:
        server = OpenBaoServer(lab)
        server.initialise()
        asked = {
            one["path"]: one["data"]
            for row in server._configuration()["initialize"][0]["djops"]["request"]
            for one in row.values()
        }
        options = server._configuration()["audit"][0]["options"]
    with _TokenSecrets(cloud.address, cloud.lab.ca, root_of(cloud)) as root:
        found = mounts(root)
        policy = root.request("GET", "sys/policies/acl/manager") or {}
        root.request("POST", "auth/token/revoke-self", {})
    assert found == {
        "mounts": {("djops/", "kv2"), ("djops-database/", "database")},
        "auth": {("approle/", "approle"), ("userpass/", "userpass")},
    }
    assert {path for path in asked if path.startswith(("sys/mounts/", "sys/auth/"))} == {
        *(f"sys/mounts/{path}" for path in ENGINES),
        *(f"sys/auth/{path}" for path in METHODS),
    }
    assert policy["data"]["policy"] == asked["sys/policies/acl/manager"]["policy"]
    assert {key: options[key] for key in AUDIT} == dict(AUDIT)
    (block,) = re.findall(r'audit "file" "main" \{\n  options \{(.*?)\}', SCRIPT, re.DOTALL)
    assert AUDIT.items() <= dict(re.findall(r'(\w+)\s*=\s*"(.*?)"', block)).items()


def test_another_machine_and_a_mount_that_went_are_served_by_the_recovery_keys(cloud: Cloud) -> None:
    cloud.set_up()
    first, kept = read_json(cloud.place.approle), cloud.kept
    cloud.set_up()
    assert (read_json(cloud.place.approle), cloud.kept) == (first, kept), "a second run asks for nothing"
    cloud.place.approle.unlink()
    cloud.set_up()
    second = read_json(cloud.place.approle)
    assert second is not None and first is not None and second["role_id"] == first["role_id"]
    assert second["secret_id"] != first["secret_id"]
    with pytest.raises(AccessDeniedError):
        cloud_access._recovered(cloud.address, cloud.lab.ca, kept)
    with _TokenSecrets(cloud.address, cloud.lab.ca, root_of(cloud)) as root:
        root.request("DELETE", "sys/auth/userpass")
        root.request("DELETE", "sys/mounts/djops-database")
        root.request("POST", "auth/token/revoke-self", {})
    cloud.set_up()
    assert read_json(cloud.place.approle) == second
    with _TokenSecrets(cloud.address, cloud.lab.ca, root_of(cloud)) as root:
        assert ("userpass/", "userpass") in mounts(root)["auth"]
        tokens = (root.request("LIST", "auth/token/accessors") or {})["data"]["keys"]
        roots = [one for one in tokens if holds_root(root, one)]
        assert len(roots) == 1, "its own: none is left of the runs before"
        root.request("POST", "auth/token/revoke-self", {})


def holds_root(session: Secrets, accessor: str) -> bool:
    found = session.request("POST", "auth/token/lookup-accessor", {"accessor": accessor}) or {}
    return "root" in found["data"]["policies"]


@pytest.mark.parametrize("lost", ["recovery_keys_b64", "recovery_secret_id"])
def test_neither_the_keys_nor_the_log_in_alone_make_a_root(lost: str, cloud: Cloud) -> None:
    cloud.set_up()
    kept = {name: value for name, value in cloud.kept.items() if name != lost}
    with pytest.raises(AccessDeniedError) as told:
        cloud_access._recovered(cloud.address, cloud.lab.ca, kept)
    assert told.value.code == "E_DENIED"


def test_the_log_in_beside_the_keys_may_do_nothing_else(cloud: Cloud) -> None:
    cloud.set_up()
    kept = cloud.kept
    at = SecretsConnection(
        cloud.address, kept["recovery_role_id"], Secret(kept["recovery_secret_id"]), cloud.lab.ca
    )
    with Secrets(at) as session:
        for path in ("sys/mounts", "djops/data/demo_lab/people/ann", "auth/approle/role/djops/role-id"):
            with pytest.raises(AccessDeniedError):
                session.request("GET", path)
    with cloud.djops() as own, pytest.raises(AccessDeniedError):
        own.request("POST", "auth/approle/role/recovery/secret-id", {})
