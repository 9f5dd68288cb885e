"""The lab's MySQL, on a real server: how it is made, whom it lets in, what its manager may do."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from djops.errors import AccessDeniedError, DjopsError, InstallError
from djops.systems import debian, process
from djops.systems.connections import MysqlConnection, Secret
from djops.systems.local import mysql
from djops.systems.local.mysql import MysqlServer, grant_manager, manager_connection, root_connection
from djops.systems.mysql import Mysql
from djops.systems.progress import Silent
from tests.support.labs import bare_lab, data_home, kill_all, processes_of

PROJECT = "mysql_alone"


def bring_up(server: MysqlServer, seconds: float = 180) -> None:
    with Silent().step("up") as step:
        server.install(step)
    server.initialise()
    server.start()
    deadline = time.monotonic() + seconds
    while not server.ready():
        assert time.monotonic() < deadline, server.log.read_text()[-3000:]
        time.sleep(0.02)
    server.bootstrap()


@pytest.fixture(scope="module")
def server() -> Iterator[MysqlServer]:
    with data_home():
        lab = bare_lab(MysqlServer, PROJECT)
        made = MysqlServer(lab)
        try:
            bring_up(made)
            yield made
        finally:
            made.stop()
            kill_all(lab.directory)


@pytest.fixture
def root(server: MysqlServer) -> MysqlConnection:
    connection = root_connection(server._lab)
    assert connection is not None
    return connection


@pytest.fixture
def manager(server: MysqlServer) -> MysqlConnection:
    connection = manager_connection(server._lab)
    assert connection is not None
    return connection


def test_no_account_has_an_empty_password(server: MysqlServer, root: MysqlConnection) -> None:
    empty = MysqlConnection(root.host, root.port, "root", Secret(""), root.ca)
    with pytest.raises(AccessDeniedError), Mysql(empty):
        pass
    with Mysql(root) as connection:
        rows = connection.query(
            "SELECT User FROM mysql.user WHERE authentication_string = '' AND account_locked = 'N'"
        )
    assert rows == ()


def test_nothing_without_encryption(root: MysqlConnection) -> None:
    with pytest.raises(pymysql.err.OperationalError) as caught:
        pymysql.connect(
            host=root.host,
            port=root.port,
            user="root",
            password=root.password.reveal(),
            ssl_disabled=True,
        )
    assert caught.value.args[0] in (3159, 1045), "insecure transport is prohibited, for this account too"


def test_the_certificate_is_verified_against_the_labs_authority(root: MysqlConnection) -> None:
    from djops.errors import ServerUnavailableError

    with pytest.raises(ServerUnavailableError, match="certificate does not verify"):
        Mysql(MysqlConnection(root.host, root.port, "root", root.password, None)).query("SELECT 1")


def test_it_listens_on_loopback_only(server: MysqlServer) -> None:
    (pid,) = {found.pid for found in processes_of(server._lab.directory)}
    inodes = {
        str(entry.readlink())[8:-1]
        for entry in Path(f"/proc/{pid}/fd").iterdir()
        if str(entry.readlink()).startswith("socket:[")
    }
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and fields[9] in inodes
    ]
    assert listening == [f"0100007F:{server._lab.ports['mysql']:04X}"]


def test_data_and_secrets_are_private(server: MysqlServer) -> None:
    lab = server._lab
    for path in (lab.secrets / "mysql-root.json", lab.secrets / "mysql-manager.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    state = lab.state("mysql").stat()
    assert (stat.S_IMODE(state.st_mode), state.st_uid) == (0o700, lab.account.uid)
    assert stat.S_IMODE((lab.state("mysql") / "mysqld.log").stat().st_mode) == 0o600
    assert not (lab.state("mysql") / "initialise.sql").exists(), "it held root's password"


def test_no_secret_on_any_command_line(server: MysqlServer, root: MysqlConnection) -> None:
    for found in processes_of(server._lab.directory):
        assert root.password.reveal() not in " ".join(found.arguments)
    assert root.password.reveal() not in server.log.read_text()


def test_cascades_over_several_levels_keep_all_rows(root: MysqlConnection) -> None:
    """MySQL 9.6 and later refuse or forget rows here unless InnoDB's own foreign keys are on."""
    with Mysql(root) as connection:
        run = connection.query
        run("CREATE DATABASE cascades")
        try:
            run("CREATE TABLE cascades.a (x INT PRIMARY KEY)")
            for child, parent, key in (("b", "a", "x"), ("c", "b", "x, y"), ("d", "c", "x, y, z")):
                run(
                    f"CREATE TABLE cascades.{child} (x INT, y INT, z INT, w INT, PRIMARY KEY ({key}, "
                    f"{'yzw'['bcd'.index(child)]}), FOREIGN KEY ({key}) REFERENCES cascades.{parent} ({key})"
                    " ON UPDATE CASCADE ON DELETE CASCADE)"
                )
            run("INSERT INTO cascades.a VALUES (1), (2)")
            triples = ", ".join(f"({x}, {y}, 1, 1)" for x, y in ((1, 1), (1, 2), (1, 3), (2, 1)))
            for child in "bcd":
                run(f"INSERT INTO cascades.{child} VALUES {triples}")
            run("UPDATE cascades.a SET x = 9 WHERE x = 1")
            assert [run(f"SELECT COUNT(*) FROM cascades.{child} WHERE x = 9") for child in "bcd"] == [
                ((3,),)
            ] * 3
            run("DELETE FROM cascades.a WHERE x = 9")
            assert [run(f"SELECT COUNT(*) FROM cascades.{child}") for child in "bcd"] == [((1,),)] * 3
        finally:
            run("DROP DATABASE cascades")


def test_a_large_blob_fits(root: MysqlConnection) -> None:
    with Mysql(root) as connection:
        connection.query("CREATE DATABASE large")
        try:
            connection.query("CREATE TABLE large.t (x LONGBLOB)")
            connection.query("INSERT INTO large.t VALUES (REPEAT('x', 100 << 20))")
            assert connection.query("SELECT LENGTH(x) FROM large.t") == ((100 << 20,),)
        finally:
            connection.query("DROP DATABASE large")


class TestManager:
    """The account djops works as."""

    @pytest.fixture(autouse=True)
    def _schemas(self, root: MysqlConnection) -> Iterator[None]:
        with Mysql(root) as connection:
            for name in ("lab_ephys", "labXephys", "it`s%"):
                connection.query(f"CREATE DATABASE `{name.replace('`', '``')}`")
            try:
                grant_manager(root, ["lab_ephys", "it`s%"])
                yield
            finally:
                for name in ("lab_ephys", "labXephys", "it`s%"):
                    connection.query(f"DROP DATABASE `{name.replace('`', '``')}`")
                connection.query("DROP USER IF EXISTS probe")

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE USER probe IDENTIFIED BY 'Some-Password-1' REQUIRE SSL",
            r"GRANT SELECT, INSERT ON `lab\_ephys`.* TO probe",
            r"GRANT SELECT ON `it``s\%`.* TO probe",
            r"GRANT SELECT ON `djops\_smoke\_%`.* TO probe",
            "SELECT User, account_locked, User_attributes FROM mysql.user",
            "SELECT id FROM information_schema.processlist",
            "CREATE TABLE `lab_ephys`.t (x INT PRIMARY KEY)",
        ],
    )
    def test_may(self, statement: str, manager: MysqlConnection) -> None:
        with Mysql(manager) as connection:
            connection.query("CREATE USER IF NOT EXISTS probe REQUIRE SSL")
            connection.query(statement.replace("CREATE USER probe", "ALTER USER probe"))

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT authentication_string FROM mysql.user",
            r"GRANT SELECT ON `labXephys`.* TO probe",
            "GRANT SELECT ON *.* TO probe",
            "GRANT UPDATE ON mysql.user TO probe",
            "CREATE TABLE labXephys.t (x INT)",
            "ALTER USER root@localhost IDENTIFIED BY 'x'",
            "GRANT root@localhost TO djops",
            "DROP USER root@localhost",
            "SET GLOBAL require_secure_transport = OFF",
            "SHUTDOWN",
            "SELECT * INTO OUTFILE '/tmp/x' FROM lab_ephys.t",
        ],
    )
    def test_may_not(self, statement: str, manager: MysqlConnection) -> None:
        with Mysql(manager) as connection:
            connection.query("CREATE USER IF NOT EXISTS probe REQUIRE SSL")
            with pytest.raises(DjopsError):
                connection.query(statement)

    def test_what_somebody_took_from_it_comes_back(
        self, server: MysqlServer, root: MysqlConnection, manager: MysqlConnection
    ) -> None:
        with Mysql(root) as connection:
            connection.query("REVOKE ROLE_ADMIN ON *.* FROM djops")
            connection.query("ALTER USER djops IDENTIFIED BY 'Something-Else-1' REQUIRE NONE ACCOUNT LOCK")
            server.bootstrap()
            grants = [row[0] for row in connection.query("SHOW GRANTS FOR djops")]
            assert any("ROLE_ADMIN" in grant for grant in grants)
            tls = connection.query("SELECT ssl_type FROM mysql.user WHERE User = 'djops'")
        assert tls == ((b"ANY",),) or tls == (("ANY",),)
        with Mysql(manager):
            pass


def test_up_again_starts_nothing(server: MysqlServer) -> None:
    before = processes_of(server._lab.directory)
    bring_up(server)
    assert processes_of(server._lab.directory) == before


def test_a_killed_server_comes_back_with_its_data(server: MysqlServer, root: MysqlConnection) -> None:
    with Mysql(root) as connection:
        connection.query("CREATE DATABASE kept")
    for found in processes_of(server._lab.directory):
        os.kill(found.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while server.running():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not server.ready()
    bring_up(server)
    with Mysql(root) as connection:
        connection.query("DROP DATABASE kept")


INITIALISE = """
import sys
from djops.systems.local import labfile
from djops.systems.local.mysql import MysqlServer
from djops.systems.paths import server_account
from djops.systems.progress import Silent
directory, file = labfile.find(sys.argv[1], "local")
server = MysqlServer(labfile.lab_at(directory, file, server_account()))
with Silent().step("x") as step:
    server.install(step)
print("begins", flush=True)
server.initialise()
"""


def test_an_initialisation_that_was_killed_is_begun_again() -> None:
    """djops is killed at several moments; its mysqld goes on for a while, and must not be in the way."""
    with data_home():
        lab = bare_lab(MysqlServer, "killed")
        server = MysqlServer(lab)
        try:
            for delay in (0.05, 0.3, 0.9):
                victim = subprocess.Popen(
                    [sys.executable, "-c", INITIALISE, "killed"], stdout=subprocess.PIPE, text=True
                )
                assert victim.stdout is not None
                assert victim.stdout.readline() == "begins\n"
                time.sleep(delay)
                victim.kill()
                victim.wait(120)
                victim.stdout.close()
                assert not (lab.state("mysql") / "data").exists(), "too late to test anything"
            bring_up(server)
            assert len(processes_of(lab.directory)) == 1
        finally:
            with contextlib.suppress(DjopsError):
                server.stop()
            kill_all(lab.directory)


class TestProgram:
    """Which ``mysqld`` is taken."""

    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

        def none(*_: object, **__: object) -> debian.Prefix:
            raise InstallError("MySQL cannot be fetched: there is no network", hint="install MySQL")

        monkeypatch.setattr(debian, "install", none)
        return tmp_path

    def install(self, tmp_path: Path) -> str:
        from djops.systems.local.server import Lab
        from djops.systems.paths import Account

        lab = Lab(tmp_path, "p", "local", Account("me", os.getuid(), os.getgid()))
        with Silent().step("x") as step:
            return MysqlServer(lab).install(step)

    def program(self, path: Path, name: str, says: str) -> None:
        (path / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (path / name).chmod(0o755)

    @pytest.mark.parametrize("version", ["8.0.44", "8.4.3", "9.7.4"])
    def test_mysql_on_path_is_taken(self, version: str, path: Path) -> None:
        self.program(
            path, "mysqld", f"{path}/mysqld  Ver {version}-0ubuntu0.24.04.1 for Linux on x86_64 ((Ubuntu))"
        )
        assert self.install(path) == version

    @pytest.mark.parametrize("name", ["mysqld", "mariadbd"])
    def test_mariadb_is_refused_with_the_reason(self, name: str, path: Path) -> None:
        self.program(
            path, name, f"{path}/{name}  Ver 10.11.14-MariaDB-0+deb12u2 for debian-linux-gnu on x86_64"
        )
        with pytest.raises(InstallError, match="is MariaDB, which DataJoint 2 does not support") as caught:
            self.install(path)
        assert caught.value.hint == "install MySQL"

    def test_an_old_mysql_is_refused_with_the_reason(self, path: Path) -> None:
        self.program(path, "mysqld", f"{path}/mysqld  Ver 5.7.44 for Linux on x86_64 (Source)")
        with pytest.raises(InstallError, match=r"older than MySQL 8\.0"):
            self.install(path)

    def test_without_any_the_hint_names_the_one_thing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(InstallError) as caught:
            self.install(path)
        assert caught.value.hint == "install MySQL"


def test_a_wrong_root_password_is_told(server: MysqlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = MysqlConnection("127.0.0.1", server._lab.ports["mysql"], "root", Secret("wrong"), server._lab.ca)
    monkeypatch.setattr(mysql, "root_connection", lambda _, patience=0: wrong)
    with pytest.raises(AccessDeniedError) as caught:
        server.bootstrap()
    assert caught.value.code == "E_DENIED"
    assert "wrong" not in str(caught.value)


def test_the_pid_file_is_gone_after_a_stop(server: MysqlServer) -> None:
    server.stop()
    assert not server.running()
    assert processes_of(server._lab.directory) == []
    assert process.running_pid(server._pid_file, server._lab.account) is None
    bring_up(server)
