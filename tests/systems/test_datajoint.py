"""The embedded client on real servers: isolated, verified, and the pipeline's code kept out of djops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from djops.errors import AccessDeniedError, ClientError, DjopsError, ServerUnavailableError
from djops.model.graph import TableName
from djops.model.project import Store
from djops.services.site import Site, open_site
from djops.systems import datajoint, tls
from djops.systems.connections import MysqlConnection, Secret
from djops.systems.mysql import Mysql
from djops.systems.paths import server_account
from tests.conftest import LabUnderTest

SCHEMA = "djops_smoke_client"
"""djops' own account has rights on schemas that are called so."""


@pytest.fixture(scope="module")
def site(lab: LabUnderTest) -> Site:
    return open_site(lab.project_file)


@pytest.fixture
def mysql(site: Site) -> Iterator[MysqlConnection]:
    yield site.mysql
    with Mysql(site.mysql) as server:
        server.query(f"DROP DATABASE IF EXISTS {SCHEMA}")


def test_the_connection_is_encrypted(mysql: MysqlConnection) -> None:
    with datajoint.connect(mysql) as client:
        assert client.connection.query("SHOW STATUS LIKE 'Ssl_cipher'").fetchone()[1]


def test_neither_environment_nor_a_file_decides_where_it_connects(
    mysql: MysqlConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {"database": {"host": "192.0.2.1", "port": 1}, "stores": {"x": {"protocol": "file"}}}
    (tmp_path / "datajoint.json").write_text(json.dumps(elsewhere))
    monkeypatch.chdir(tmp_path)
    mischief = {"DJ_HOST": "192.0.2.1", "DJ_PORT": "no number", "DJ_STORES": "no JSON", "LIMIT": "no number"}
    for name, value in mischief.items():
        monkeypatch.setenv(name, value)
    with datajoint.connect(mysql) as client:
        assert client.connection.query("SELECT 1").fetchone() == (1,)
        assert client.config.stores == {}
    assert {name: os.environ.get(name) for name in mischief} == mischief
    assert "DJ_IGNORE_CONFIG_FILE" not in os.environ


def test_the_client_prints_nothing(mysql: MysqlConnection, capfd: pytest.CaptureFixture[str]) -> None:
    with datajoint.connect(mysql):
        pass
    assert capfd.readouterr() == ("", "")


def test_another_authority_is_refused(mysql: MysqlConnection, tmp_path: Path) -> None:
    tls.ensure(tmp_path, "another", server_account())
    with (
        pytest.raises(ServerUnavailableError) as caught,
        datajoint.connect(replace(mysql, ca=tmp_path / "ca.pem")),
    ):
        pass
    assert caught.value.code == "E_TLS"


def test_a_wrong_password_is_told_without_any_password(mysql: MysqlConnection) -> None:
    with (
        pytest.raises(AccessDeniedError) as caught,
        datajoint.connect(replace(mysql, password=Secret("s3cr3t-4711"))),
    ):
        pass
    assert caught.value.code == "E_DENIED"
    assert "s3cr3t" not in str(caught.value)


def test_a_server_that_is_gone(mysql: MysqlConnection) -> None:
    with pytest.raises(ServerUnavailableError), datajoint.connect(replace(mysql, port=1)):
        pass


def test_identities_do_not_mix(site: Site, mysql: MysqlConnection) -> None:
    assert site.mysql_root is not None

    def who(connection: MysqlConnection) -> str:
        with datajoint.connect(connection) as client:
            time.sleep(0.05)
            return str(client.connection.query("SELECT CURRENT_USER()").fetchone()[0]).partition("@")[0]

    identities = [mysql, site.mysql_root] * 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(who, identities)) == [mysql.user, site.mysql_root.user] * 4


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://127.0.0.1:7480", ("127.0.0.1:7480", False)),
        ("https://s3.example.org", ("s3.example.org", True)),
    ],
)
def test_a_store_without_tls_says_so(endpoint: str, expected: tuple[str, bool]) -> None:
    settings = datajoint.store_settings(Store(bucket="my-data", location="x"), endpoint)
    assert (settings["endpoint"], settings["secure"]) == expected
    assert "hash_prefix" not in settings


def test_prefixes_are_named_when_they_are_not_the_usual_ones() -> None:
    store = Store(bucket="my-data", hash_prefix="h", schema_prefix="s")
    settings = datajoint.store_settings(store, "http://127.0.0.1:1")
    assert (settings["hash_prefix"], settings["schema_prefix"]) == ("h", "s")


# Job tables


def _define(mysql: MysqlConnection) -> tuple[TableName, ...]:
    tables = {
        "a": "a INT PRIMARY KEY",
        "__b": "a INT NOT NULL COMMENT ':int32:', x JSON COMMENT ':<unheard_of@main>:', PRIMARY KEY (a), "
        f"FOREIGN KEY (a) REFERENCES `{SCHEMA}`.a (a) ON UPDATE CASCADE ON DELETE RESTRICT",
        "_no_parent": "n INT PRIMARY KEY",
    }
    with Mysql(mysql) as server:
        server.query(f"CREATE DATABASE {SCHEMA}")
        for name, columns in tables.items():
            server.query(f"CREATE TABLE {SCHEMA}.`{name}` ({columns})")
    return tuple(TableName(SCHEMA, name) for name in tables)


def test_job_tables_are_created_without_the_code(mysql: MysqlConnection) -> None:
    missing = datajoint.missing_job_tables(_define(mysql))
    assert [table.table for table in missing] == ["__b", "_no_parent"]
    for _ in range(2):
        with datajoint.connect(mysql) as client:
            without = datajoint.create_job_tables(client, missing)
        assert without == (TableName(SCHEMA, "_no_parent"),)
        with Mysql(mysql) as server:
            columns = {row[0] for row in server.query(f"SHOW COLUMNS FROM {SCHEMA}.`~~b`")}
        assert {"a", "status", "priority", "error_message"} <= columns


def test_only_imported_and_computed_tables_need_one() -> None:
    names = (
        "session",
        "session__note",
        "#species",
        "_scan",
        "__stats",
        "__stats__part",
        "~~scan",
        "~lineage",
    )
    missing = datajoint.missing_job_tables([TableName("s", name) for name in names])
    assert missing == (TableName("s", "__stats"),)


# The pipeline in its own process

FAULTS = {
    "import nothing_of_that_name\n": (1, "nothing_of_that_name"),
    "x = 1\nx = (\n": (2, "was never closed"),
    "import datajoint\n\ndatajoint.Schema('not_mine')\n": (3, "does not exist"),
    "import sys\nsys.exit('enough')\n": (2, "enough"),
    f"import datajoint as dj\ns = dj.Schema({SCHEMA!r})\n\n@s\nclass T(dj.Manual):\n"
    "    definition = 'a : uint16'\n": (4, "int32"),
}


@pytest.mark.parametrize(("code", "expected"), FAULTS.items(), ids=[said for _, said in FAULTS.values()])
def test_a_fault_of_the_pipeline_is_told_with_its_line(
    mysql: MysqlConnection, tmp_path: Path, code: str, expected: tuple[int, str]
) -> None:
    (tmp_path / "faulty.py").write_text(code)
    with pytest.raises(DjopsError) as caught:
        datajoint.run_pipeline(tmp_path, mysql, {}, modules=["faulty"])
    line, said = expected
    assert caught.value.where == f"{tmp_path / 'faulty.py'}:{line}"
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_pipeline_that_ends_the_process_is_told(mysql: MysqlConnection, tmp_path: Path) -> None:
    (tmp_path / "quits.py").write_text("import os, sys\nsys.stderr.write('out of luck\\n')\nos._exit(7)\n")
    with pytest.raises(ClientError, match=r"status 7: out of luck"):
        datajoint.run_pipeline(tmp_path, mysql, {}, modules=["quits"])


def test_modules_are_imported_in_order_and_one_is_run(mysql: MysqlConnection, tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text("print('noise')\n")
    (tmp_path / "second.py").write_text("import first\n")
    (tmp_path / "work.py").write_text(
        "import pathlib, datajoint as dj\nif __name__ == '__main__':\n"
        "    user = dj.conn().query('SELECT CURRENT_USER()').fetchone()[0]\n"
        "    pathlib.Path('who').write_text(user)\n"
    )
    heard: list[str] = []
    datajoint.run_pipeline(tmp_path, mysql, {}, modules=["first", "second"], run="work", heard=heard.append)
    assert heard == ["first", "second"]
    assert (tmp_path / "who").read_text().startswith(f"{mysql.user}@")


def test_no_secret_is_in_the_process_table(mysql: MysqlConnection, tmp_path: Path) -> None:
    (tmp_path / "nosy.py").write_text(
        "from pathlib import Path\nme = Path('/proc/self')\n"
        "Path('seen').write_bytes((me / 'cmdline').read_bytes() + (me / 'environ').read_bytes())\n"
    )
    keys = datajoint.StoreKeys("access-4711", Secret("secret-4712"))
    store = datajoint.opened(datajoint.store_settings(Store(bucket="my-data"), "http://127.0.0.1:1"), keys)
    datajoint.run_pipeline(tmp_path, mysql, {"main": store}, modules=["nosy"])
    seen = (tmp_path / "seen").read_bytes()
    assert b"pipeline_runner.py" in seen
    for secret in (mysql.password.reveal(), "secret-4712"):
        assert secret.encode() not in seen


def test_it_ends_when_djops_is_killed(mysql: MysqlConnection, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)\n"
    )
    code = (
        "import sys\nfrom pathlib import Path\nfrom djops.services.site import open_site\n"
        "from djops.systems import datajoint\nsite = open_site(Path(sys.argv[1]))\n"
        "datajoint.run_pipeline(Path(sys.argv[2]), site.mysql, {}, modules=['slow'])\n"
    )
    project_file = tmp_path / "djops.yaml"
    project_file.write_text(
        "version: 1\nproject: demo_lab\npipeline: {package: slow, path: .}\n"
        "environments: {local: {target: local}}\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(project_file), str(tmp_path)])
    _eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait(120)
    _eventually(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def _eventually(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
