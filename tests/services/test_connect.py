"""Programs run as the administrator: what they are given, and that it is taken back."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql.optionfile
import pytest

from djops.errors import DjopsError
from djops.model.project import Project
from djops.services.connect import System, connect
from djops.services.site import Site
from djops.systems import clients
from djops.systems.connections import MysqlConnection, S3Connection, Secret, SecretsConnection
from djops.systems.local.openbao import OpenBaoServer, connection
from djops.systems.vault import Secrets
from tests.support.secrets_lab import bare_lab, stopped_in_the_end, up

PASSWORD, SECRET_KEY = "pass#word-=4711", "secret-key-4711"
SHOW = "import os, json; print(json.dumps(dict(os.environ)))"


@pytest.fixture(scope="module")
def openbao() -> Iterator[OpenBaoServer]:
    with bare_lab() as lab, stopped_in_the_end(lab) as server:
        up(server)
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Site:
    project = Project.model_validate(
        {
            "version": 1,
            "project": "my_lab",
            "pipeline": {"package": "p"},
            "environments": {"lab": {"target": "existing"}},
        }
    )
    ca = tmp_path / "ca.pem"
    return Site(
        project=project,
        project_file=tmp_path / "djops.yaml",
        environment="lab",
        env=project.environments["lab"],
        mysql=MysqlConnection("db.example.org", 3307, "djops", Secret(PASSWORD), ca),
        s3=S3Connection(
            "https://s3.example.org", "https://iam.example.org", "AKIA1", Secret(SECRET_KEY), ca=ca
        ),
        secrets=SecretsConnection("https://127.0.0.1:1", "role", Secret("none")),
        mysql_root=None,
        lab=tmp_path,
    )


def run(site: Site, system: System, tmp_path: Path, script: str = SHOW, *arguments: str) -> tuple[int, str]:
    """Run a line of Python through `connect`; return its exit status and what it printed."""
    with (tmp_path / "out").open("w+") as file:
        command = [sys.executable, "-c", script, *arguments]
        done = connect(site, system, command, terminal=False, stdout=file)
        file.seek(0)
        return done.status, file.read()


def variables(site: Site, system: System, tmp_path: Path) -> dict[str, str]:
    seen: dict[str, str] = json.loads(run(site, system, tmp_path)[1])
    return seen


def left(site: Site) -> list[Path]:
    return list((site.lab / "connect").rglob("*"))


def journal(site: Site) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (site.lab / "journal.jsonl").read_text().splitlines()]


# What is given


def test_mysql_gets_a_private_option_file_that_is_gone_afterwards(site: Site, tmp_path: Path) -> None:
    script = (
        "import os; path = os.environ['MYSQL_DEFAULTS_FILE'];"
        "print(oct(os.stat(path).st_mode & 0o7777), path);"
        "print(open(path).read())"
    )
    status, shown = run(site, "mysql", tmp_path, script)
    first, _, content = shown.partition("\n")
    mode, path = first.split(" ", 1)
    assert (status, mode) == (0, "0o600")
    assert not Path(path).exists()
    assert left(site) == []
    options = pymysql.optionfile.Parser(strict=False)
    options.read_string(content)
    assert options.get("client", "host") == "db.example.org"
    assert options.get("client", "port") == "3307"
    assert options.get("client", "user") == "djops"
    assert options.get("client", "password") == PASSWORD
    assert options.get("client", "ssl-ca") == str(tmp_path / "ca.pem")
    assert options.get("client", "loose-ssl-mode") == "VERIFY_IDENTITY"


def test_mysqls_clients_read_it_without_being_told(site: Site, tmp_path: Path) -> None:
    client = tmp_path / "mysql"
    client.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    client.chmod(0o755)
    handed = clients.hand_mysql(site.mysql, tmp_path, {"mysql": [str(client)]})
    with (tmp_path / "out").open("w+") as file:
        clients.run(["mysql", "-e", "SELECT 'a b'"], handed, tmp_path, file)
        clients.run(["sh", "-c", "mysql --defaults-extra-file=x"], handed, tmp_path, file)
        file.seek(0)
        shown = file.read().splitlines()
    assert shown == [f"--defaults-file={tmp_path}/mysql.cnf", "-e", "SELECT 'a b'", "--defaults-extra-file=x"]


def test_s3_gets_key_endpoint_and_authority(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "the-users-own")
    seen = variables(site, "s3", tmp_path)
    wanted = {
        "AWS_ACCESS_KEY_ID": "AKIA1",
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": "https://s3.example.org",
        "AWS_ENDPOINT_URL_IAM": "https://iam.example.org",
        "AWS_CA_BUNDLE": str(tmp_path / "ca.pem"),
        "AWS_REGION": "us-east-1",
    }
    assert wanted.items() <= seen.items()
    assert "the-users-own" not in seen.values()


def test_secrets_get_a_token_that_works_and_then_ends(
    site: Site, openbao: OpenBaoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_NAMESPACE", "the-users-own")
    site = Site(**{**vars(site), "secrets": connection(openbao.lab)})
    status, shown = run(
        site,
        "secrets",
        tmp_path,
        "import os, subprocess as s; print(os.environ['VAULT_TOKEN'], os.environ.get('VAULT_NAMESPACE'));"
        "print(s.run(['bao', 'kv', 'list', '-mount=djops', 'none'], capture_output=True, text=True));"
        "print(s.run(['bao', 'token', 'lookup', '-format=json'], capture_output=True, text=True).stdout)",
    )
    first, listed, looked_up = shown.split("\n", 2)
    token, namespace = first.split()
    assert (status, namespace) == (0, "None")
    assert "No value found" in listed
    assert json.loads(looked_up)["data"]["policies"] == ["manager"]
    (tmp_path / "out").unlink()  # it holds the token
    with Secrets(connection(openbao.lab)) as session:
        session._client.token, session._expires = token, time.monotonic() + 60
        with pytest.raises(DjopsError):
            session.list_secrets("none")


# How it ends


@pytest.mark.parametrize(
    ("script", "status"), [("exit()", 0), ("exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_exit_status_is_the_programs(site: Site, tmp_path: Path, script: str, status: int) -> None:
    assert run(site, "s3", tmp_path, script)[0] == status


@pytest.mark.parametrize("name", ["no-such-program-4711", "/", "/etc/passwd", "", "a\0b"])
def test_a_program_that_cannot_be_run(site: Site, name: str) -> None:
    with pytest.raises(DjopsError) as error:
        connect(site, "mysql", [name], terminal=False)
    assert error.value.code == "E_NO_PROGRAM"
    assert left(site) == []


@pytest.mark.parametrize("system", ["mysql", "s3", "secrets"])
def test_without_a_terminal_there_must_be_a_command(site: Site, system: System) -> None:
    with pytest.raises(DjopsError) as error:
        connect(site, system, [], terminal=False)
    assert error.value.code == "E_NO_TERMINAL"
    assert f"djops connect {system} -- COMMAND" in str(error.value.hint)


DRIVER = """
import sys
from pathlib import Path
from djops.systems import clients
from djops.systems.connections import MysqlConnection, Secret
state = Path(sys.argv[1])
with clients.workspace(state) as directory:
    handed = clients.hand_mysql(MysqlConnection("h", 1, "u", Secret("p")), directory, {})
    status = clients.run(["sh", "-c", sys.argv[2]], handed, directory)
sys.exit(status)
"""


def driven(tmp_path: Path, script: str, first: str = ":", **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that runs a program so, and wait until that program runs."""
    ready = tmp_path / "ready"
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), f"{first}; touch {ready}; {script}"],
        start_new_session=True,
        **options,
    )
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.01)
    return child


def test_ctrl_c_is_the_programs_and_nothing_is_left(tmp_path: Path) -> None:
    # As a terminal does it: to the whole group.
    child = driven(tmp_path, "while :; do sleep 0.05; done", first="trap 'exit 5' INT")
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait(60) == 5
    assert list((tmp_path / "connect").iterdir()) == []


def test_a_program_ended_by_ctrl_c_says_so(tmp_path: Path) -> None:
    child = driven(tmp_path, "while :; do sleep 0.05; done")
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait(60) == 130
    assert list((tmp_path / "connect").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_ended_is_passed_on(tmp_path: Path, number: signal.Signals) -> None:
    child = driven(tmp_path, "exec sleep 60")
    child.send_signal(number)
    assert child.wait(60) == 128 + number
    assert list((tmp_path / "connect").iterdir()) == []


def test_what_a_killed_djops_left_goes_with_the_next_one(tmp_path: Path) -> None:
    child = driven(tmp_path, "exec sleep 60")
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(120)
    assert [path.name.partition("-")[0] for path in (tmp_path / "connect").iterdir()] == [str(child.pid)]
    with clients.workspace(tmp_path) as directory:
        assert list((tmp_path / "connect").iterdir()) == [directory]


def test_the_secret_is_in_no_argument(tmp_path: Path, site: Site) -> None:
    script = "import pathlib; print([p.read_bytes() for p in pathlib.Path('/proc').glob('[0-9]*/cmdline')])"
    shown = run(site, "mysql", tmp_path, script)[1]
    assert sys.executable in shown
    assert PASSWORD not in shown


# The journal


def test_each_use_is_recorded_before_it_happens_and_without_secrets(site: Site, tmp_path: Path) -> None:
    script = f"print(open({str(site.lab / 'journal.jsonl')!r}).read())"
    _, seen = run(site, "s3", tmp_path, script, "--password", "argument-4711")
    run(site, "mysql", tmp_path)
    lines = journal(site)
    told = [json.loads(line["detail"]) for line in lines]
    assert [
        (line["command"], one["system"], one["account"]) for line, one in zip(lines, told, strict=True)
    ] == [
        ("connect", "s3", "AKIA1"),
        ("connect", "mysql", "djops"),
    ]
    assert {one["program"] for one in told} == {Path(sys.executable).name}
    assert all(line["who"] and line["host"] and line["at"].endswith("Z") for line in lines)
    assert json.loads(seen) == lines[0]
    text = (site.lab / "journal.jsonl").read_text()
    assert not [secret for secret in (PASSWORD, SECRET_KEY, "argument-4711") if secret in text]
    assert (site.lab / "journal.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_journal_names_who_is_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    from djops.systems import journal as module

    monkeypatch.setenv("SUDO_USER", "maria")
    assert module.caller().startswith("maria as ") == (os.getuid() == 0)


def test_a_shell_opens_where_there_is_no_client_with_a_prompt(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell = tmp_path / "my-shell"
    shell.write_text("#!/bin/sh\nexit 3\n")
    shell.chmod(0o755)
    monkeypatch.setenv("SHELL", str(shell))
    done = connect(site, "s3", [], terminal=True)
    assert (done.program, done.status) == ("my-shell", 3)


def test_a_client_gets_the_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    try:
        child = driven(tmp_path, 'test -t 0 && read line && test "$line" = typed', stdin=slave)
        os.write(master, b"typed\n")
        assert child.wait(60) == 0
    finally:
        os.close(master)
        os.close(slave)
