"""Every cell, asked of the real servers as the person herself: role, schema, capability."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import boto3
import pymysql
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from djops.compile.rights import Rights, compile_rights
from djops.compile.sql import quote_identifier
from djops.model.graph import PipelineGraph
from djops.model.project import Project
from djops.model.roles import Capability
from djops.services import access
from djops.services.site import Site, open_site
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest
from tests.support.projects import DEMO, TODAY, pipeline

HOSTILE = "lab_%`'\"ü " + "x" * 52
"""64 characters, escapes counted, with what means something to MySQL; its twin must stay closed."""
TWIN = "labX%`'\"ü " + "x" * 52
UPSTREAM = {**DEMO, HOSTILE: ["session"], TWIN: []}
PEOPLE: dict[str, list[dict[str, Any]]] = {
    "vera": [{"role": "viewer", "on": "imaging"}],
    "anna": [{"role": "analyst", "on": "ephys"}],
    "otto": [{"role": "operator", "on": ["session", HOSTILE]}],
    "olga": [{"role": "operator", "on": "ephys", "cascade": True}],
    "dave": [{"role": "developer", "on": "imaging"}],
    "erin": [{"role": "admin", "on": "all"}],
    "nemo": [],
    "past": [{"role": "admin", "on": "all", "until": "2020-01-01"}],
}
DENIED = {1044, 1142, 1143, 1370}
ALLOWED = {1051, 1050, 1091, 1146, 1826, 3780}
"""Errors that only somebody who is allowed to try gets to see."""


@dataclass
class Bench:
    site: Site
    graph: PipelineGraph
    rights: Rights
    secrets: dict[str, dict[str, str]]


def _project(site: Site, people: dict[str, list[dict[str, Any]]]) -> Project:
    data = site.project.model_dump()
    data["people"] = {name: {"grants": grants} for name, grants in people.items()}
    return Project.model_validate(data)


@pytest.fixture(scope="module")
def bench(lab: LabUnderTest) -> Iterator[Bench]:
    site = open_site(lab.project_file)
    graph = pipeline(UPSTREAM)
    assert site.mysql_root is not None
    with Mysql(site.mysql_root) as root:
        try:
            for table in sorted(graph.tables):
                root.query(f"CREATE DATABASE IF NOT EXISTS {quote_identifier(table.schema)}")
                name = f"{quote_identifier(table.schema)}.{quote_identifier(table.table)}"
                root.query(f"CREATE TABLE IF NOT EXISTS {name} (x INT PRIMARY KEY)")
            yield _granted(site, graph)
        finally:
            _bring_to(replace(site, project=_project(site, {})), graph)
            for schema in UPSTREAM:
                root.query(f"DROP DATABASE IF EXISTS {quote_identifier(schema)}")


def _granted(site: Site, graph: PipelineGraph) -> Bench:
    project = _project(site, PEOPLE)
    site = replace(site, project=project)
    wanted = _bring_to(site, graph)
    rights = compile_rights(project, graph, wanted.roles, wanted.today)
    with access.Servers(site) as servers:
        assert access.make_plan(servers, wanted).is_empty
        stored = {name: servers.secrets.read_secret(f"{project.project}/people/{name}") for name in PEOPLE}
    return Bench(
        site, graph, rights, {name: dict(secret.fields) for name, secret in stored.items() if secret}
    )


def _bring_to(site: Site, graph: PipelineGraph) -> access.Wanted:
    wanted = access.Wanted.of(site.project, graph)
    with access.Servers(site) as servers, servers.changing("test", 10):
        access.apply(servers, access.make_plan(servers, wanted))
    return wanted


def _login(bench: Bench, who: str) -> pymysql.Connection[Any]:
    return pymysql.connect(
        host=bench.site.mysql.host,
        port=bench.site.mysql.port,
        user=who,
        password=bench.secrets[who]["database.password"],
        ssl={"ca": str(bench.site.mysql.ca)},
    )


def _statements(schema: str) -> Iterator[tuple[Capability | None, str]]:
    name = quote_identifier(schema)
    yield Capability.READ, f"SELECT * FROM {name}.manual LIMIT 0"
    yield Capability.READ, f"SELECT * FROM {name}.`~lineage` LIMIT 0"
    for table in ("manual", "manual__part", "_imported", "__computed", "`#lookup`"):
        yield Capability.INSERT, f"INSERT INTO {name}.{table} SELECT 1 FROM DUAL WHERE FALSE"
        yield Capability.UPDATE, f"UPDATE {name}.{table} SET x = 1 WHERE FALSE"
        yield Capability.DELETE, f"DELETE FROM {name}.{table} WHERE FALSE"
    for verb in (
        "INSERT INTO {} SELECT 1 FROM DUAL WHERE FALSE",
        "UPDATE {} SET x = 1",
        "DELETE FROM {} WHERE FALSE",
    ):
        yield Capability.JOBS, verb.format(f"{name}.`~~computed`")
    yield Capability.DECLARE, f"INSERT INTO {name}.`~lineage` SELECT 1 FROM DUAL WHERE FALSE"
    yield Capability.DECLARE, f"CREATE TABLE {name}.manual (x INT)"
    yield Capability.ALTER, f"ALTER TABLE {name}.manual DROP COLUMN missing"
    yield Capability.DROP, f"DROP TABLE {name}.missing"
    yield None, f"CREATE VIEW {name}.v AS SELECT 1"
    yield None, f"CREATE TRIGGER {name}.t BEFORE INSERT ON {name}.manual FOR EACH ROW SET @a = 1"
    yield None, f"LOCK TABLES {name}.manual READ"


def _tries(link: pymysql.Connection[Any], statement: str) -> bool:
    with link.cursor() as cursor:
        try:
            cursor.execute(statement)
        except pymysql.MySQLError as error:
            number = error.args[0]
            assert number in DENIED | ALLOWED, (statement, error)
            return number in ALLOWED
        finally:
            link.rollback()
    return True


@pytest.mark.parametrize("who", PEOPLE)
def test_rows(bench: Bench, who: str) -> None:
    link = _login(bench, who)
    wrong = []
    for schema in UPSTREAM:
        for capability, statement in _statements(schema):
            expected = capability in bench.rights.capabilities(who, schema) if capability else False
            if _tries(link, statement) != expected:
                wrong.append((schema, capability, expected, statement))
    link.close()
    assert wrong == []


@pytest.mark.parametrize("who", PEOPLE)
def test_foreign_keys(bench: Bench, who: str) -> None:
    """A child may be declared exactly where its schema may be changed and its parent be referenced."""
    link = _login(bench, who)
    wrong = []
    for child in DEMO:
        for parent in DEMO:
            child_name = f"{quote_identifier(child)}.probe"
            key = f"FOREIGN KEY (x) REFERENCES {quote_identifier(parent)}.manual (x)"
            mine, theirs = bench.rights.capabilities(who, child), bench.rights.capabilities(who, parent)
            expected = Capability.DECLARE in mine and bool(
                {Capability.REFERENCE, Capability.DECLARE} & theirs
            )
            seen = _tries(link, f"CREATE TABLE {child_name} (x INT PRIMARY KEY, {key})")
            if seen:
                _tries(link, f"DROP TABLE {child_name}")
            if seen != expected:
                wrong.append((child, parent, expected))
    link.close()
    assert wrong == []


def _objects(bench: Bench, who: str) -> Any:
    secrets = bench.secrets[who]
    return boto3.client(
        "s3",
        endpoint_url=bench.site.s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id=secrets["stores.main.access_key"],
        aws_secret_access_key=secrets["stores.main.secret_key"],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def _may(call: Callable[..., Any], **parameters: Any) -> bool:
    try:
        call(**parameters)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        assert code in ("AccessDenied", "403", "404", "NoSuchKey"), error
        return code in ("404", "NoSuchKey")
    return True


def _publishes(client: Any, endpoint: str, there: dict[str, str]) -> bool:
    """Whether an object can be put so that anybody may read it."""
    with contextlib.suppress(ClientError):
        client.put_object(**there, Body=b"x", ACL="public-read")
    with contextlib.suppress(ClientError):
        client.put_object_acl(**there, ACL="public-read")
    return requests.get(f"{endpoint}/{there['Bucket']}/{quote(there['Key'])}", timeout=60).ok


@pytest.mark.parametrize("who", PEOPLE)
def test_objects(bench: Bench, who: str) -> None:
    client = _objects(bench, who)
    store = bench.site.project.stores["main"]
    wrong = []
    for schema in UPSTREAM:
        has = bench.rights.capabilities(who, schema)
        for section in ("_hash", "_schema"):
            key = f"{store.location}/{section}/{schema}/probe-of-{who}"
            there = {"Bucket": store.bucket, "Key": key}
            cells = {
                "put": (_may(client.put_object, **there, Body=b"x"), Capability.INSERT in has),
                "get": (_may(client.get_object, **there), Capability.READ in has),
                "head": (
                    _may(client.head_object, Bucket=store.bucket, Key=key + "-missing"),
                    Capability.READ in has,
                ),
                "list": (
                    _may(
                        client.list_objects_v2,
                        Bucket=store.bucket,
                        Prefix=f"{store.location}/{section}/{schema}/",
                    ),
                    Capability.READ in has,
                ),
                "delete": (_may(client.delete_object, **there), False),
                "publish": (_publishes(client, bench.site.s3.endpoint, there), False),
            }
            wrong += [
                (schema, section, name, seen) for name, (seen, expected) in cells.items() if seen != expected
            ]
    for prefix in ("", store.location, f"{store.location}/", f"{store.location}/_hash/"):
        if _may(client.list_objects_v2, Bucket=store.bucket, Prefix=prefix):
            wrong.append(("", "list", prefix, True))
    if _may(client.create_bucket, Bucket="somebody-elses"):
        wrong.append(("", "create bucket", "", True))
    assert wrong == []


def test_a_person_reads_her_own_secret_and_no_other(bench: Bench) -> None:
    project = bench.site.project.project
    with access.Servers(bench.site) as servers:
        token = servers.secrets.mint_token([f"djops-{project}-anna"], ttl=60)
        for path, expected in (
            (f"{project}/people/anna", 200),
            (f"{project}/people/vera", 403),
            (project, 403),
        ):
            assert _status(bench, f"djops/data/{path}", token.reveal()) == expected
        assert _status(bench, "sys/policies/acl?list=true", token.reveal()) == 403
        servers.secrets.revoke_token(token)
        assert _status(bench, f"djops/data/{project}/people/anna", token.reveal()) == 403


def _status(bench: Bench, path: str, token: str) -> int:
    answer = requests.get(
        f"{bench.site.secrets.address}/v1/{path}",
        headers={"X-Vault-Token": token},
        verify=str(bench.site.secrets.ca),
        timeout=60,
    )
    return answer.status_code


def test_without_tls_nobody_gets_in(bench: Bench) -> None:
    with pytest.raises(pymysql.MySQLError):
        pymysql.connect(
            host=bench.site.mysql.host,
            port=bench.site.mysql.port,
            user="anna",
            password=bench.secrets["anna"]["database.password"],
            ssl_disabled=True,
        )


def test_a_revoke_ends_open_sessions_that_could_go_on(bench: Bench) -> None:
    link = _login(bench, "anna")
    with link.cursor() as cursor:
        cursor.execute("USE ephys")
        cursor.execute("SELECT * FROM manual")
    fewer = {**PEOPLE, "anna": []}
    _bring_to(replace(bench.site, project=_project(bench.site, fewer)), bench.graph)
    with pytest.raises(pymysql.MySQLError), link.cursor() as cursor:
        cursor.execute("SELECT * FROM manual")
    _bring_to(bench.site, bench.graph)
    again = _login(bench, "anna")
    assert _tries(again, "SELECT * FROM ephys.manual")
    again.close()


SERVICES: dict[str, list[dict[str, Any]]] = {
    "robot": [{"role": "worker", "on": "ephys"}],
    "camera": [{"role": "ingest", "on": "imaging"}],
    "broom": [{"role": "janitor", "on": "ephys"}],
    "viewer-page": [{"role": "navigator", "on": "analysis"}],
    "oracle": [{"role": "agent", "on": "analysis", "until": "2030-01-20"}],
}


@pytest.fixture(scope="module")
def services(bench: Bench) -> Bench:
    data = bench.site.project.model_dump()
    data["services"] = {name: {"grants": grants} for name, grants in SERVICES.items()}
    project = Project.model_validate(data)
    site = replace(bench.site, project=project)
    wanted = replace(access.Wanted.of(project, bench.graph), today=TODAY)
    with access.Servers(site) as servers, servers.changing("test", 10):
        access.apply(servers, access.make_plan(servers, wanted))
        stored = {
            name: servers.secrets.read_secret(f"{project.project}/services/{name}") for name in SERVICES
        }
    rights = compile_rights(project, bench.graph, wanted.roles, wanted.today)
    return Bench(
        site, bench.graph, rights, {name: dict(secret.fields) for name, secret in stored.items() if secret}
    )


@pytest.mark.parametrize(
    ("who", "table", "expected"),
    [
        ("robot", "ephys.__computed", {"SELECT", "INSERT"}),
        ("robot", "ephys._imported", {"SELECT", "INSERT"}),
        ("robot", "ephys.manual", {"SELECT"}),
        ("robot", "ephys.manual__part", {"SELECT"}),
        ("robot", "ephys.`~~computed`", {"SELECT", "INSERT", "UPDATE", "DELETE"}),
        ("robot", "session.manual", {"SELECT"}),
        ("robot", "imaging.manual", set()),
        ("camera", "imaging.manual", {"SELECT", "INSERT"}),
        ("camera", "imaging.manual__part", {"SELECT", "INSERT"}),
        ("camera", "imaging.__computed", {"SELECT"}),
        ("camera", "imaging.`~~computed`", {"SELECT"}),
        ("broom", "ephys.manual", {"SELECT"}),
        ("viewer-page", "analysis.manual", {"SELECT"}),
        ("oracle", "analysis.manual", {"SELECT"}),
    ],
)
def test_what_services_may_do_with_rows(services: Bench, who: str, table: str, expected: set[str]) -> None:
    link = _login(services, who)
    statements = {
        "SELECT": f"SELECT * FROM {table} LIMIT 0",
        "INSERT": f"INSERT INTO {table} SELECT 1 FROM DUAL WHERE FALSE",
        "UPDATE": f"UPDATE {table} SET x = 1",
        "DELETE": f"DELETE FROM {table} WHERE FALSE",
    }
    assert {verb for verb, statement in statements.items() if _tries(link, statement)} == expected
    link.close()


def test_only_the_janitor_removes_objects_and_only_services_use_the_inbox(services: Bench) -> None:
    store = services.site.project.stores["main"]
    seen: dict[str, set[str]] = {}
    for who in SERVICES:
        client = _objects(services, who)
        places = {
            "own": f"{store.location}/_hash/ephys/probe",
            "inbox": f"{store.location}/inbox/{'imaging' if who == 'camera' else 'ephys'}/probe",
            "other inbox": f"{store.location}/inbox/session/probe",
        }
        found = seen.setdefault(who, set())
        for place, key in places.items():
            there = {"Bucket": store.bucket, "Key": key}
            found |= {f"put {place}"} if _may(client.put_object, **there, Body=b"x") else set()
            found |= {f"remove {place}"} if _may(client.delete_object, **there) else set()
    assert seen == {
        "robot": {"put own", "put inbox"},
        "camera": {"put inbox"},
        "broom": {"remove own"},
        "viewer-page": set(),
        "oracle": set(),
    }


def test_an_agent_is_limited(services: Bench) -> None:
    for who, seconds, rows in (("oracle", 30_000, 100_000), ("robot", 0, 2**64 - 1)):
        link = _login(services, who)
        with link.cursor() as cursor:
            cursor.execute("SELECT @@max_execution_time, @@sql_select_limit")
            assert cursor.fetchone() == (seconds, rows)
        link.close()
    links = [_login(services, "oracle") for _ in range(4)]
    with pytest.raises(pymysql.MySQLError) as caught:
        _login(services, "oracle")
    assert caught.value.args[0] == 1226
    for link in links:
        link.close()
