"""Texts as MySQL, the client and the S3 client say them today: each raised for real, and known."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pymysql
import pytest
from botocore.config import Config

from djops.services.schemas import administrator_stores
from djops.services.site import Site, open_site
from djops.systems import datajoint
from djops.systems.connections import MysqlConnection, Secret
from djops.systems.resources import load_error_texts
from tests.conftest import LabUnderTest

USER, PASSWORD = "texts", "Texts-of-errors-1"
UP, DOWN, HIDDEN = "djops_smoke_texts_up", "djops_smoke_texts_down", "djops_smoke_texts_hidden"
SCHEMAS = (UP, DOWN, HIDDEN)

FURNISH = f"""
CREATE TABLE {UP}.parent (id INT PRIMARY KEY, note INT)
CREATE TABLE {UP}.other (id INT PRIMARY KEY, note INT)
CREATE TABLE {UP}.`#species` (id INT PRIMARY KEY)
CREATE TABLE {UP}.`~~job` (id INT PRIMARY KEY)
CREATE TABLE {UP}.`~lineage` (id INT PRIMARY KEY)
CREATE TABLE {DOWN}.child (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES {UP}.parent (id))
CREATE TABLE {HIDDEN}.secret (id INT PRIMARY KEY)
CREATE TABLE {HIDDEN}._rec (id INT PRIMARY KEY)
CREATE TABLE {HIDDEN}._rec__part (id INT PRIMARY KEY)
INSERT INTO {UP}.parent VALUES (1, 1)
INSERT INTO {DOWN}.child VALUES (1)
CREATE USER {USER} IDENTIFIED BY '{PASSWORD}' REQUIRE SSL
CREATE ROLE texts_role
CREATE ROLE texts_inner
GRANT texts_inner TO texts_role
GRANT SELECT ON {UP}.* TO {USER}
GRANT UPDATE (id) ON {UP}.parent TO {USER}
GRANT CREATE ON {DOWN}.* TO {USER}
""".strip().splitlines()

DUPLICATE = "INSERT INTO {} VALUES (1) ON DUPLICATE KEY UPDATE id = id"
AS_USER = [
    ("locking-denied", f"SELECT * FROM {UP}.other FOR UPDATE"),
    ("lookup-denied", DUPLICATE.format(f"{UP}.`#species`")),
    ("skip-duplicates-denied", DUPLICATE.format(f"{UP}.other (id)")),
    ("job-denied", f"INSERT INTO {UP}.`~~job` VALUES (1)"),
    ("lineage-denied", f"DELETE FROM {UP}.`~lineage`"),
    ("references-denied", f"CREATE TABLE {DOWN}.new (id INT, FOREIGN KEY (id) REFERENCES {UP}.other (id))"),
    ("column-denied", f"UPDATE {UP}.parent SET note = 2"),
    ("update-denied", f"UPDATE {UP}.other SET note = 2"),
    ("delete-denied", f"DELETE FROM {UP}.other"),
    ("table-denied", f"INSERT INTO {UP}.other VALUES (1, 1)"),
    ("table-denied", f"SELECT * FROM {HIDDEN}.secret"),
    ("routine-denied", f"CALL {UP}.anything()"),
    ("schema-denied", "CREATE DATABASE djops_smoke_texts_new"),
    ("admin-denied", "SET GLOBAL max_connections = 10"),
    ("system-user", "KILL {root}"),
    ("role-not-granted", "SET ROLE texts_role"),
    (
        "statement-time",
        "SELECT /*+ MAX_EXECUTION_TIME(20) */ COUNT(*) FROM information_schema.collations a, "
        "information_schema.collations b, information_schema.collations c",
    ),
]
AS_ROOT = [
    ("parent-row", f"DELETE FROM {UP}.parent"),
    ("child-row", f"INSERT INTO {DOWN}.child VALUES (7)"),
    ("drop-referenced", f"DROP TABLE {UP}.parent"),
    ("no-such-table", f"SELECT * FROM {UP}.missing"),
    ("no-such-schema", "USE djops_smoke_texts_missing"),
    ("duplicate", f"INSERT INTO {UP}.parent VALUES (1, 1)"),
    ("syntax", "SELEC 1"),
    ("no-schema-selected", f"GRANT ALL ON my_pipeline_*.* TO {USER}"),
    ("no-such-grant", f"REVOKE SELECT ON {DOWN}.* FROM {USER}"),
    ("role-not-granted", f"SET DEFAULT ROLE texts_role TO {USER}"),
    ("unknown-authorization", f"GRANT texts_nobody TO {USER}"),
    ("role-cycle", "GRANT texts_role TO texts_inner"),
    ("account-operation", f"CREATE USER {USER}"),
    ("grant-creates", f"GRANT SELECT ON {UP}.* TO texts_nobody"),
    ("name-too-long", f"CREATE DATABASE {'x' * 65}"),
    ("name-too-long", f"CREATE USER {'x' * 33}"),
]


@dataclass
class Bench:
    site: Site
    root: pymysql.Connection[Any]
    number: int

    def login(self, **options: Any) -> pymysql.Connection[Any]:
        assert self.site.mysql_root is not None
        there = {"host": self.site.mysql.host, "port": self.site.mysql.port, "user": USER}
        tls = {"ssl": {"ca": str(self.site.mysql.ca)}}
        return pymysql.connect(**{**there, "password": PASSWORD, **tls, **options})

    def connection(self) -> MysqlConnection:
        return replace(self.site.mysql, user=USER, password=Secret(PASSWORD))


@pytest.fixture(scope="module")
def bench(lab: LabUnderTest) -> Iterator[Bench]:
    site = open_site(lab.project_file)
    assert site.mysql_root is not None
    with datajoint.connect(site.mysql_root) as root:
        link = root.connection._conn
        try:
            for schema in SCHEMAS:
                _run(link, f"CREATE DATABASE {schema}")
            for statement in FURNISH:
                _run(link, statement)
            yield Bench(site, link, session_of(link))
        finally:
            for schema in reversed(SCHEMAS):
                _run(link, f"DROP DATABASE IF EXISTS {schema}")
            _run(link, f"DROP USER IF EXISTS {USER}, texts_role, texts_inner")


def _run(link: pymysql.Connection[Any], statement: str) -> None:
    with link.cursor() as cursor:
        cursor.execute(statement)


def session_of(link: pymysql.Connection[Any]) -> int:
    with link.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        return int((cursor.fetchone() or (0,))[0])


def raised(action: Callable[[], object]) -> str:
    """Return what somebody would copy from the terminal."""
    with pytest.raises(Exception) as caught:
        action()
    return f"{caught.type.__module__}.{caught.type.__name__}: {caught.value}"


def known_as(text: str) -> str:
    reading = load_error_texts().read(text)
    assert reading is not None, text
    for part in (reading.entry.means, reading.entry.cause, reading.entry.do):
        assert "{" not in reading.fill(part)
    return reading.entry.id


@pytest.mark.parametrize(("wanted", "statement"), AS_USER)
def test_what_the_server_refuses(bench: Bench, wanted: str, statement: str) -> None:
    link = bench.login()
    with contextlib.closing(link):
        text = raised(lambda: _run(link, statement.format(root=bench.number)))
    assert known_as(text) == wanted, text


@pytest.mark.parametrize(("wanted", "statement"), AS_ROOT)
def test_what_the_server_does_not_do(bench: Bench, wanted: str, statement: str) -> None:
    text = raised(lambda: _run(bench.root, statement))
    assert known_as(text) == wanted, text


@pytest.mark.parametrize(
    ("wanted", "setting", "options"),
    [
        ("login-denied", "REQUIRE SSL", {"password": "wrong"}),
        ("login-denied", "REQUIRE SSL", {"ssl": None, "ssl_disabled": True}),
        ("certificate", "REQUIRE SSL", {"ssl": {"ca": "AUTHORITY"}}),
        ("unreachable", "REQUIRE SSL", {"port": 1}),
        ("no-such-schema", "REQUIRE SSL", {"database": "djops_smoke_texts_missing"}),
        ("account-locked", "ACCOUNT LOCK", {}),
        ("password-expired", "PASSWORD EXPIRE", {}),
    ],
)
def test_what_keeps_somebody_out(
    bench: Bench, tmp_path: Any, wanted: str, setting: str, options: dict[str, Any]
) -> None:
    if options.get("ssl"):
        from djops.systems import tls
        from djops.systems.paths import server_account

        directory = tmp_path / "tls"
        directory.mkdir()
        tls.ensure(directory, "another", server_account())
        options = {"ssl": {"ca": str(directory / "ca.pem")}}
    _run(bench.root, f"ALTER USER {USER} {setting}")
    try:
        text = raised(lambda: bench.login(**options))
        # The names of schemas that one has no right on are not given away.
        assert known_as(text) == ("schema-denied" if wanted == "no-such-schema" else wanted), text
    finally:
        _run(bench.root, f"ALTER USER {USER} IDENTIFIED BY '{PASSWORD}' ACCOUNT UNLOCK")


def test_limits_of_an_account(bench: Bench) -> None:
    _run(bench.root, f"ALTER USER {USER} WITH MAX_USER_CONNECTIONS 1")
    first = bench.login()
    try:
        assert known_as(raised(bench.login)) == "connections-exceeded"
    finally:
        first.close()
        _run(bench.root, f"ALTER USER {USER} WITH MAX_USER_CONNECTIONS 0")


def test_a_guess_too_many(bench: Bench) -> None:
    _run(bench.root, f"ALTER USER {USER} FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME 1")
    try:
        texts = [raised(lambda: bench.login(password="wrong")) for _ in range(2)]
        assert known_as(texts[-1]) == "account-blocked", texts
    finally:
        unlimited = "FAILED_LOGIN_ATTEMPTS 0 PASSWORD_LOCK_TIME 0 ACCOUNT UNLOCK"
        _run(bench.root, f"ALTER USER {USER} {unlimited}")


def test_a_session_that_was_ended(bench: Bench) -> None:
    link = bench.login()
    _run(bench.root, f"KILL {session_of(link)}")
    assert known_as(raised(lambda: _run(link, "SELECT 1"))) in ("gone-away", "session-killed")


@pytest.fixture(scope="module")
def admin(bench: Bench) -> Iterator[Any]:
    assert bench.site.mysql_root is not None
    stores = administrator_stores(bench.site)
    with datajoint.connect(bench.site.mysql_root, stores) as opened:
        yield opened


class TestClient:
    """What the client makes of it."""

    @pytest.fixture
    def client(self, bench: Bench) -> Iterator[Any]:
        with datajoint.connect(bench.connection()) as opened:
            yield opened

    def test_a_schema_out_of_sight(self, client: Any) -> None:
        assert known_as(raised(lambda: client.Schema(HIDDEN))) == "schema-invisible-create"
        text = raised(lambda: client.Schema(HIDDEN, create_schema=False))
        assert known_as(text) == "schema-invisible"

    def test_a_table_out_of_sight(self, client: Any) -> None:
        assert known_as(raised(lambda: len(client.FreeTable(f"`{HIDDEN}`.`secret`")))) == "table-invisible"

    def test_a_part_without_its_master(self, bench: Bench, client: Any) -> None:
        import datajoint as library

        _run(bench.root, f"GRANT SELECT ON {HIDDEN}._rec__part TO {USER}")
        try:
            module = lambda: library.VirtualModule("v", HIDDEN, connection=client.connection)  # noqa: E731
            assert known_as(raised(module)) == "naming-conventions"
        finally:
            _run(bench.root, f"REVOKE SELECT ON {HIDDEN}._rec__part FROM {USER}")

    def test_a_schema_that_cannot_be_dropped(self, client: Any) -> None:
        schema = client.Schema(UP, create_schema=False, create_tables=False)
        assert known_as(raised(lambda: schema.drop(prompt=False))) == "schema-drop"

    def test_lineage_on_one_side(self, bench: Bench, admin: Any, client: Any) -> None:
        import datajoint as library

        places = ("djops_smoke_texts_a", "djops_smoke_texts_b")
        try:
            first = type("Abc", (library.Manual,), {"definition": "abc : int32"})
            admin.Schema(places[0])(first, context={})
            second = type("Def", (library.Manual,), {"definition": "-> Abc"})
            admin.Schema(places[1])(second, context={"Abc": first})
            for table in (f"{places[0]}.*", f"{places[1]}.def"):
                _run(bench.root, f"GRANT SELECT ON {table} TO {USER}")
            tables = [client.FreeTable(f"`{s}`.`{t}`") for s, t in zip(places, ("abc", "def"), strict=True)]
            text = raised(lambda: (tables[0] * tables[1]).to_dicts())
            assert known_as(text) == "lineage-one-side", text
        finally:
            for place in reversed(places):
                _run(bench.root, f"DROP DATABASE IF EXISTS {place}")

    @pytest.mark.parametrize(
        ("wanted", "tier", "definition", "use"),
        [
            ("unsupported-type", "Manual", "id : uint16", lambda table: None),
            ("no-store-name", "Manual", "id : int32\n---\nx : <blob@>",
             lambda table: table.insert1({"id": 1, "x": 1})),
            ("unknown-store", "Manual", "id : int32\n---\nx : <blob@elsewhere>",
             lambda table: table.insert1({"id": 1, "x": 1})),
            ("update-one", "Manual", "id : int32\n---\nx : int32",
             lambda table: table.update1({"id": 9, "x": 1})),
            ("direct-insert", "Lookup-Imported", "-> Base", lambda table: table.insert1({"base": 1})),
            ("no-key-source", "Computed", "-> Base\n---\nx : int32", lambda table: _unkeyed(table)),
        ],
    )  # fmt: skip
    def test_what_the_client_itself_refuses(
        self, admin: Any, wanted: str, tier: str, definition: str, use: Callable[[Any], object]
    ) -> None:
        import datajoint as library

        schema = admin.Schema(DOWN, create_schema=False)
        base = type("Base", (library.Manual,), {"definition": "base : int32"})
        schema(base, context={})
        name = "Case" + "".join(part.title() for part in wanted.split("-"))
        made = type(name, (getattr(library, tier.rpartition("-")[2]),), {"definition": definition})

        def attempt() -> None:
            schema(made, context={"Base": base})
            use(made())

        assert known_as(raised(attempt)) == wanted


def _unkeyed(table: Any) -> None:
    """Ask for the keys of a table whose parents are not in its primary key."""
    table.parents = lambda **options: []
    table._key_source = None
    table.key_source  # noqa: B018


class TestStore:
    """What boto3 says, on which the client's texts rest."""

    def client(self, site: Site, **options: Any) -> Any:
        wanted = {
            "endpoint_url": site.s3.endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": site.s3.access_key,
            "aws_secret_access_key": site.s3.secret_key.reveal(),
            "config": Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=2),
        }
        return boto3.client("s3", **{**wanted, **options})

    @pytest.mark.parametrize(
        ("wanted", "options", "call"),
        [
            ("no-object", {}, ("get_object", {"Key": "missing"})),
            ("no-object", {}, ("head_object", {"Key": "missing"})),
            ("s3-denied", {}, ("delete_object", {"Key": "missing"})),
            ("create-bucket", {}, ("create_bucket", {"Bucket": "somebody-elses"})),
            ("bad-secret", {"aws_secret_access_key": "x" * 40}, ("get_object", {"Key": "missing"})),
            ("bad-key", {"aws_access_key_id": "nobodys-key-at-all"}, ("get_object", {"Key": "missing"})),
            ("s3-unreachable", {"endpoint_url": "http://127.0.0.1:1"}, ("get_object", {"Key": "missing"})),
        ],
    )
    def test_a_refusal(
        self, bench: Bench, wanted: str, options: dict[str, Any], call: tuple[str, dict[str, Any]]
    ) -> None:
        client = self.client(bench.site, **options)
        name, parameters = call
        there = {"Bucket": bench.site.project.stores["main"].bucket, **parameters}
        text = raised(lambda: getattr(client, name)(**there))
        assert known_as(text) == wanted, text

    def test_tls_where_there_is_none(self, bench: Bench) -> None:
        client = self.client(bench.site, endpoint_url=bench.site.s3.endpoint.replace("http:", "https:"))
        text = raised(lambda: client.list_buckets())
        assert known_as(text) == "s3-tls", text

    def test_no_keys(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        session = boto3.session.Session(region_name="us-east-1")
        client = session.client("s3", endpoint_url=bench.site.s3.endpoint)
        assert known_as(raised(client.list_buckets)) == "no-keys"
