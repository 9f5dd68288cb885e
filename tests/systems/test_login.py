"""Log-ins to a real secrets server, set up by the very script that djops prints."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from djops.compile.login import login_script
from djops.errors import AccessDeniedError, ServerUnavailableError
from djops.model.project import Login
from djops.systems.connections import Secret
from djops.systems.links import LinkServer
from djops.systems.local import openbao_program
from djops.systems.ports import free_ports
from tests.support.cli import djops

PROJECT, ALICE, BOB = "lg", "djops/data/lg/people/alice", "djops/data/lg/people/bob"
CALLBACK = "http://localhost:8250/oidc/callback"


@dataclass(frozen=True)
class DevServer:
    """A secrets server in memory, as its administrator sees it."""

    address: str
    program: Path
    folder: Path

    def bao(self, script: str) -> str:
        """Run lines of shell as the administrator."""
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        if not (programs / "bao").exists():
            (programs / "bao").symlink_to(self.program)
        env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "BAO_ADDR": self.address}
        env |= {"BAO_TOKEN": "root", "HOME": str(self.folder)}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=env, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def api(self, method: str, path: str, token: str = "", **body: object) -> Any:
        """Send one request to the API."""
        session = requests.Session()
        session.trust_env = False
        headers = {"X-Vault-Token": token} if token else {}
        query = {"params": body} if method == "GET" else {"json": body}
        answer = session.request(method, f"{self.address}/v1/{path}", headers=headers, **query)  # type: ignore[arg-type]
        assert answer.ok, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    program, folder = Path(openbao_program.find().path), tmp_path_factory.mktemp("bao")
    (port,) = free_ports(1)
    command = [str(program), "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]
    process = subprocess.Popen(
        [*command, f"-dev-listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    try:
        made = DevServer(f"http://127.0.0.1:{port}", program, folder)
        until = time.monotonic() + 90
        while True:
            with contextlib.suppress(requests.RequestException, AssertionError):
                made.api("GET", "sys/health")
                break
            assert time.monotonic() < until
            time.sleep(0.05)
        made.bao("bao secrets enable -path=djops -version=2 kv")
        for name in ("alice", "bob"):
            made.api("POST", f"djops/data/{PROJECT}/people/{name}", "root", data={"database.user": name})
        yield made
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def userpass(server: DevServer) -> str:
    """The method, set up by what djops prints, which is returned."""
    script = login_script(PROJECT, Login(method="userpass"))
    server.bao(script)
    return script


def test_userpass(server: DevServer, userpass: str) -> None:
    (line,) = [line for line in userpass.splitlines() if line.startswith("# read")]
    server.bao(f"echo open-sesame | ({line.removeprefix('# ').replace('NAME', 'alice')})")
    links = LinkServer(server.address)
    with pytest.raises(AccessDeniedError) as caught:
        links.log_in("userpass", "userpass", "alice", Secret("wrong"))
    assert caught.value.code == "E_LOGIN"
    token = links.log_in("userpass", "userpass", "alice", Secret("open-sesame"))
    assert links.read(token, ALICE) == {"database.user": "alice"}
    with pytest.raises(AccessDeniedError):
        links.read(token, BOB)
    with pytest.raises(AccessDeniedError):
        links.log_in("userpass", "userpass", "../x", Secret("open-sesame"))


@pytest.mark.usefixtures("userpass")
def test_the_command_takes_a_password(server: DevServer, tmp_path: Path) -> None:
    server.bao(f"bao write auth/userpass/users/bob password=let-bob-in token_policies=login-{PROJECT}")
    database = {"host": "127.0.0.1", "port": free_ports(1)[0]}
    told = {
        "who": "bob", "project": PROJECT, "address": server.address, "authority": None, "path": BOB,
        "until": "2030-01-01T00:00:00+00:00", "settings": {"database": database}, "rights": {}, "table": None,
        "secrets": ["database.user"], "login": {"method": "userpass", "path": "userpass"},
    }  # fmt: skip
    (tmp_path / "djops-welcome.json").write_text(json.dumps(told))
    password = tmp_path / "typed"
    for text, status in (("wrong", 1), ("let-bob-in", 2)):  # there is no database behind it
        password.write_text(f"{text}\n")
        done = djops("welcome", "--login", password, "--json", cwd=tmp_path)
        assert (done.status, (tmp_path / ".secrets").exists()) == (status, status == 2), done.stdout
        assert text not in done.stdout + done.stderr
    assert done.answer["data"]["database"]["works"] is False
    assert (tmp_path / ".secrets" / "database.user").read_text() == "bob"


def provider(server: DevServer) -> Login:
    """Make the server itself an OIDC provider that knows alice."""
    server.bao(
        "bao auth enable -path=staff userpass\n"
        "bao write auth/staff/users/alice password=of-staff\n"
        "ACCESSOR=$(bao read -field=accessor sys/auth/staff)\n"
        "ENTITY=$(bao write -field=id identity/entity name=alice)\n"
        "bao write identity/entity-alias name=alice canonical_id=$ENTITY mount_accessor=$ACCESSOR\n"
        "bao write identity/oidc/scope/profile "
        "template='{\"preferred_username\": {{identity.entity.name}}}'\n"
        f"bao write identity/oidc/client/djops redirect_uris={CALLBACK} assignments=allow_all\n"
        "bao write identity/oidc/provider/default scopes_supported=profile allowed_client_ids='*'\n"
        "bao read -field=client_secret identity/oidc/client/djops > client-secret\n"
    )
    return Login.model_validate(
        {
            "method": "oidc",
            "discovery_url": f"{server.address}/v1/identity/oidc/provider/default",
            "client_id": server.bao("bao read -field=client_id identity/oidc/client/djops"),
            "client_secret": {"file": "client-secret"},
        }
    )


def test_oidc(server: DevServer) -> None:
    server.bao(login_script(PROJECT, provider(server)))
    asked = server.api(
        "POST", "auth/oidc/oidc/auth_url", role=PROJECT, redirect_uri=CALLBACK, client_nonce="n"
    )
    wanted = {name: one for name, (one,) in parse_qs(urlsplit(asked["data"]["auth_url"]).query).items()}
    staff = server.api("POST", "auth/staff/login/alice", password="of-staff")["auth"]["client_token"]
    given = server.api("GET", "identity/oidc/provider/default/authorize", staff, **wanted)
    back = {"state": given["state"], "code": given["code"], "client_nonce": "n"}
    token = Secret(server.api("GET", "auth/oidc/oidc/callback", **back)["auth"]["client_token"])
    links = LinkServer(server.address)
    assert links.read(token, ALICE) == {"database.user": "alice"}
    with pytest.raises(AccessDeniedError):
        links.read(token, BOB)


def test_this_program_has_no_ldap(server: DevServer) -> None:
    script = login_script(
        PROJECT,
        Login(method="ldap", url="ldaps://ldap.example.org", user_dn="ou=p,dc=x", group_dn="ou=g,dc=x"),
    )
    with pytest.raises(AssertionError, match="plugin not found in the catalog: ldap"):
        server.bao(script)


def test_what_answers_is_no_secrets_server() -> None:
    gone = LinkServer(f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(ServerUnavailableError):
        gone.log_in("userpass", "userpass", "alice", Secret("x"))
