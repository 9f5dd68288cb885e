"""A server that was there before, set up by the very commands its page shows."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from djops.compile.vault import policy_name, policy_text
from djops.systems.connections import Secret, SecretsConnection
from djops.systems.local import openbao_program
from djops.systems.ports import free_ports
from djops.systems.vault import Secrets

PAGE = (Path(__file__).parents[2] / "docs" / "secrets-server.md").read_text()
ROOT_TOKEN = "root-of-a-test"


def block(language: str) -> str:
    section = PAGE.partition("\n## An existing server")[2].partition("\n## ")[0]
    (found,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(found)


@pytest.fixture
def existing(tmp_path: Path) -> Iterator[SecretsConnection]:
    """Somebody else's server, in memory, with djops let in."""
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    (bin_directory / "bao").symlink_to(openbao_program.find().path)
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": f"{bin_directory}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "BAO_ADDR": address,
        "BAO_TOKEN": ROOT_TOKEN,
        "BAO_DEV_ROOT_TOKEN_ID": ROOT_TOKEN,
        "BAO_DEV_LISTEN_ADDRESS": address.removeprefix("http://"),
    }
    command = ["bao", "server", "-dev", "-dev-no-store-token"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 90
        while "Development mode should NOT be used" not in (tmp_path / "log").read_text():
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        (tmp_path / "manager.hcl").write_text(block("hcl"))
        (tmp_path / "secrets").mkdir()
        subprocess.run(
            ["bash", "-euc", block("sh")],
            env=environment,
            cwd=tmp_path,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        role_id, secret_id = ((tmp_path / "secrets" / name).read_text() for name in ("role-id", "secret-id"))
        # The administrator's copy goes once djops has it.
        (tmp_path / "secrets" / "secret-id").unlink()
        yield SecretsConnection(address, role_id, Secret(secret_id))
    finally:
        server.kill()
        server.wait(120)


def test_it_serves_djops_as_the_labs_own_does(existing: SecretsConnection) -> None:
    path, name = "my_lab/people/alice", policy_name("my_lab", "alice")
    with Secrets(existing) as session:
        session.write_secret(path, {"database.user": "alice"}, 0)
        session.write_metadata(path, {"of": "alice"})
        session.request("PUT", f"sys/policies/acl/{name}", {"policy": policy_text(path)})
        state = session.state("my_lab")
        token = session.mint_token([name], 60)
        session.revoke_token(token)
    assert state.secrets == {path: {"of": "alice"}}
    assert state.policies == {name: policy_text(path)}
