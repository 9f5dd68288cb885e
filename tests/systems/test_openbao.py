"""The lab's secrets server, for real: its first start, restarts, crashes, and what it leaves in sight."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from djops.errors import DjopsError, InstallError
from djops.systems import process
from djops.systems.local import openbao_program
from djops.systems.local.openbao import OpenBaoServer, connection
from djops.systems.local.openbao_program import Program
from djops.systems.ports import free_ports
from djops.systems.vault import Secrets
from tests.support.secrets_lab import bare_lab, stopped_in_the_end, up

PATH, FIELDS = "test/people/crash", {"database.password": "kept-over-crashes-9321"}


def pid_of(server: OpenBaoServer) -> int:
    pid = process.running_pid(server.lab.state("openbao") / "openbao.pid", server.lab.account)
    assert pid is not None
    return pid


def kill(server: OpenBaoServer) -> None:
    os.kill(pid_of(server), signal.SIGKILL)
    until = time.monotonic() + 120
    while server.running():
        assert time.monotonic() < until, "a killed server is still there"
        time.sleep(0.01)


def write(server: OpenBaoServer) -> None:
    with Secrets(connection(server.lab)) as session:
        session.merge_secret(PATH, FIELDS)


def read(server: OpenBaoServer) -> object:
    with Secrets(connection(server.lab)) as session:
        stored = session.read_secret(PATH)
    return stored and dict(stored.fields)


def test_bringing_it_up_again_changes_nothing(openbao: OpenBaoServer) -> None:
    before, pid = tree(openbao), pid_of(openbao)
    up(openbao)
    assert (tree(openbao), pid_of(openbao)) == (before, pid)


def tree(server: OpenBaoServer) -> dict[str, bytes]:
    directory = server.lab.directory
    still = [
        path for path in directory.rglob("*") if path.is_file() and path.suffix in (".json", ".key", ".pem")
    ]
    assert len(still) >= 6
    return {str(path): path.read_bytes() for path in still}


def test_after_a_restart_it_unseals_itself(openbao: OpenBaoServer) -> None:
    write(openbao)
    openbao.stop()
    assert not openbao.ready()
    up(OpenBaoServer(openbao.lab))
    assert read(openbao) == FIELDS


def test_after_kill_9_it_has_what_it_acknowledged(openbao: OpenBaoServer) -> None:
    write(openbao)
    kill(openbao)
    up(openbao)
    assert read(openbao) == FIELDS


def test_it_opens_on_other_ports(openbao: OpenBaoServer) -> None:
    write(openbao)
    openbao.stop()
    ports = dict(zip(openbao.port_names, free_ports(2, avoid=openbao.lab.ports.values()), strict=True))
    with stopped_in_the_end(replace(openbao.lab, ports=ports)) as moved:
        up(moved)
        assert moved.endpoint() != openbao.endpoint()
        assert read(moved) == FIELDS
    up(openbao)


FIRST_START_MOMENTS = {
    "raft begins": "entering follower state",
    "barrier made": "security barrier initialized",
    "unsealed": "vault is unsealed",
    "requests begin": "beginning post-unseal configuration",
}


@pytest.mark.parametrize("moment", FIRST_START_MOMENTS)
def test_killed_in_its_first_start_it_is_made_anew(moment: str, killed_and_up_again: dict[str, str]) -> None:
    assert killed_and_up_again[moment] == "usable"


@pytest.fixture(scope="module")
def killed_and_up_again() -> dict[str, str]:
    """Kill a server at each moment and bring it up again; all at once, for they mostly wait."""

    def one(line: str) -> str:
        with bare_lab() as lab, stopped_in_the_end(lab) as server:
            server.initialise()
            server.start()
            deadline = time.monotonic() + 90
            while line not in read_log(server):
                assert time.monotonic() < deadline, f"the log never said {line!r}"
                time.sleep(0.001)
            kill(server)
            again = OpenBaoServer(lab)
            up(again)
            write(again)
            return "usable" if read(again) == FIELDS else "not usable"

    with ThreadPoolExecutor() as pool:
        return dict(zip(FIRST_START_MOMENTS, pool.map(one, FIRST_START_MOMENTS.values()), strict=True))


def read_log(server: OpenBaoServer) -> str:
    return server.log.read_text() if server.log.exists() else ""


def test_djops_killed_before_it_logged_in_goes_on_with_the_same_server() -> None:
    with bare_lab() as lab, stopped_in_the_end(lab) as server:
        server.initialise()
        server.start()
        pid = pid_of(server)
        with pytest.raises(DjopsError) as error:
            connection(lab)
        assert error.value.code == "E_NOT_UP", "nobody may use a server that may still be thrown away"
        up(OpenBaoServer(lab))
        assert pid_of(server) == pid
        write(server)
        assert read(server) == FIELDS


@pytest.mark.parametrize(
    "lost", ["secrets/secrets-approle.json", "openbao/seal.key", "openbao/raft/vault.db"]
)
def test_a_usable_server_that_lost_a_part_is_not_made_anew(openbao: OpenBaoServer, lost: str) -> None:
    write(openbao)
    kill(openbao)
    part = openbao.lab.directory / lost
    away = part.rename(openbao.lab.directory / "away")
    try:
        with pytest.raises(DjopsError) as error:
            openbao.initialise()
        assert (error.value.code, error.value.where) == ("E_DATA_LOST", str(part))
    finally:
        away.rename(part)
    up(openbao)
    assert read(openbao) == FIELDS


def test_files_are_private_and_the_first_starts_are_gone(openbao: OpenBaoServer) -> None:
    state = openbao.lab.state("openbao")
    everything = [state, openbao.lab.secrets, *state.rglob("*"), *openbao.lab.secrets.rglob("*")]
    loose = {str(path): oct(path.stat().st_mode) for path in everything if path.stat().st_mode & 0o077}
    assert loose == {}
    names = {path.name for path in everything}
    assert {"seal.key", "audit.log", "secrets-approle.json", "usable"} <= names
    assert not {"first-start", "secret-id", "secrets-approle.pending.json"} & names


def test_the_audit_log_has_every_request_and_no_secret(openbao: OpenBaoServer, secrets: Secrets) -> None:
    write(openbao)
    token = secrets.mint_token(["djops-test-crash"], 60)
    assert stat.S_IMODE(openbao.audit_log.stat().st_mode) == 0o600
    text = openbao.audit_log.read_text()
    paths = {json.loads(line).get("request", {}).get("path") for line in text.splitlines()}
    # The requests of the first start as well, and that its root token was revoked.
    wanted = {
        f"djops/data/{PATH}",
        "auth/approle/login",
        "sys/policies/acl/manager",
        "auth/token/revoke-self",
    }
    assert wanted <= paths
    for secret in (*secrets_of(openbao), token.reveal(), secrets.token().reveal()):
        assert secret not in text


def secrets_of(server: OpenBaoServer) -> list[str]:
    ids = connection(server.lab)
    return [ids.secret_id.reveal(), *FIELDS.values()]


def test_no_secret_shows_in_processes_configuration_or_log(openbao: OpenBaoServer) -> None:
    write(openbao)
    seen = {"environ": (Path("/proc") / str(pid_of(openbao)) / "environ").read_bytes()}
    seen["config"] = (openbao.lab.state("openbao") / "config.json").read_bytes()
    seen["log"] = openbao.log.read_bytes()
    for other in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            seen[str(other)] = other.read_bytes()
        except OSError:
            continue
    assert any(b"openbao" in text for name, text in seen.items() if name.endswith("cmdline"))
    leaks = [
        (name, n)
        for n, secret in enumerate(secrets_of(openbao))
        for name in seen
        if secret.encode() in seen[name]
    ]
    assert leaks == []


def test_it_listens_on_loopback_only(openbao: OpenBaoServer) -> None:
    inodes = {str(fd.readlink()) for fd in (Path("/proc") / str(pid_of(openbao)) / "fd").iterdir()}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()
    ]
    mine = {row[1] for row in rows if len(row) > 9 and row[3] == "0A" and f"socket:[{row[9]}]" in inodes}
    assert mine == {f"0100007F:{port:04X}" for port in openbao.lab.ports.values()}


def test_without_a_program_the_error_names_the_one_thing_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openbao_program, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InstallError) as error:
        openbao_program.find()
    assert "djops[local]" in str(error.value.hint)


PROGRAMS = {
    "vault": ("echo 'Vault v1.17.2 (abc), built 2024'", "static seal"),
    "bao": ("echo 'OpenBao v2.3.1 (abc), built 2025'", "2.3.1; the lab needs 2.4 or newer"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_cannot_do_it_is_refused_with_the_reason(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, reason = PROGRAMS[name]
    executable(tmp_path / name, script)
    monkeypatch.setattr(openbao_program, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InstallError) as error:
        openbao_program.find()
    assert reason in error.value.message


def test_bao_on_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = executable(tmp_path / "bao", "echo 'OpenBao v2.10.0 (abc), built 2027'")
    monkeypatch.setattr(openbao_program, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert openbao_program.find() == Program(program, "2.10.0")


def test_the_package_tells_the_hash_of_its_program() -> None:
    program = openbao_program.find()
    assert program.sha256 == openbao_program._sha256(program.path)


def executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in a directory the servers' account cannot enter, as in root's home."""
    monkeypatch.setenv("DJOPS_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(openbao_program, "_can_run", lambda path, account: False)
    return executable(tmp_path / "bao", "echo hello")


def test_a_program_out_of_reach_is_copied_once(out_of_reach: Path, openbao: OpenBaoServer) -> None:
    program = Program(out_of_reach, "2.7.2", openbao_program._sha256(out_of_reach))
    copy = openbao_program.runnable_by(program, openbao.lab.account)
    first = copy.path.stat()
    assert copy.path.read_bytes() == out_of_reach.read_bytes()
    assert stat.S_IMODE(first.st_mode) == stat.S_IMODE(copy.path.parent.stat().st_mode) == 0o755
    again = openbao_program.runnable_by(program, openbao.lab.account)
    assert (again, again.path.stat().st_mtime_ns) == (copy, first.st_mtime_ns)


def test_a_program_that_is_not_what_its_package_says_is_not_run(
    out_of_reach: Path, openbao: OpenBaoServer
) -> None:
    with pytest.raises(InstallError):
        openbao_program.runnable_by(Program(out_of_reach, "2.7.2", "0" * 64), openbao.lab.account)
    left = [path for path in (out_of_reach.parent / "cache").rglob("*bao*") if path.name != ".openbao.lock"]
    assert left == []
