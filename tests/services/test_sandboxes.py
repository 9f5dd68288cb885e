"""People's own schemas: the owner works in them with the ordinary client, and nobody else gets in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from djops.compile.mysql_manager import SCHEMA_PRIVILEGES, missing_grants
from djops.compile.mysql_state import AccountId
from djops.compile.sql import quote_identifier
from djops.errors import AccessDeniedError
from djops.plan.drift_kinds import DriftKind
from djops.plan.operations import AwsCall
from djops.services import access, can, credentials, drift, schemas, verify, who
from djops.services.verify import BOTH
from djops.systems import datajoint, passwords
from djops.systems.client_errors import is_denial
from djops.systems.connections import MysqlConnection, Secret
from djops.systems.mysql import Mysql
from djops.systems.s3 import S3
from tests.conftest import LabUnderTest
from tests.support.bench import Bench, bench_in
from tests.support.projects import pipeline
from tests.support.sins import BUCKET, s3_root

GRAPH = pipeline({"session": [], "imaging": ["session"]}, ("manual",))
PEOPLE: dict[str, list[dict[str, Any]]] = {
    "alice": [{"role": "developer", "on": "imaging"}],
    "dora": [{"role": "developer", "on": "imaging"}],
    "alice_b": [{"role": "operator", "on": "imaging"}],
    "bob": [{"role": "viewer", "on": "all"}],
    "gail": [{"role": "viewer", "on": ["session", "dev_alice_*"]}],
    "erin": [{"role": "admin", "on": "all"}],
}
TEST, OTHER = "dev_alice_test", "dev_alice_other"
SANDBOXES = {"prefix": "dev_", "roles": ["developer"]}


@pytest.fixture(scope="module")
def bench(lab: LabUnderTest) -> Iterator[Bench]:
    with bench_in(lab, GRAPH) as bench:
        bench.bring_to(people=PEOPLE, sandboxes=SANDBOXES)
        try:
            yield bench
        finally:
            bench.by_root(f"DROP DATABASE IF EXISTS {TEST}", f"DROP DATABASE IF EXISTS {OTHER}")
            bench.bring_to(sandboxes=None)


@contextlib.contextmanager
def client(bench: Bench, name: str) -> Iterator[Any]:
    """Connect as somebody, with the credentials that she finds."""
    site, found = bench.site, credentials.read(bench.site, name)
    keys = datajoint.StoreKeys(found["stores.main.access_key"], Secret(found["stores.main.secret_key"]))
    stores = datajoint.opened_stores(site.project.stores, site.s3.endpoint, lambda _: keys)
    mysql = datajoint_connection(bench, name, found["database.password"])
    with datajoint.trusting(site.s3.ca), datajoint.connect(mysql, stores) as instance:
        yield instance


def datajoint_connection(bench: Bench, name: str, password: str) -> MysqlConnection:
    return replace(bench.site.mysql, user=name, password=Secret(password))


def made(instance: Any, name: str, *, create: bool) -> Any:
    """Bind a table with a foreign key to the pipeline and an array in the store."""
    import datajoint as dj

    parent = instance.FreeTable("`session`.`manual`")
    schema = instance.Schema(name, create_schema=create, create_tables=create)
    definition = "-> parent\n---\ntrace: <blob@main>\n"
    made_class = type("Trial", (dj.Manual,), {"definition": definition})
    schema(made_class, context={"parent": parent, "Trial": made_class})
    return made_class


def refused(*attempts: Callable[[], object]) -> None:
    for attempt in attempts:
        with pytest.raises(Exception) as caught:
            attempt()
        assert is_denial(caught.value), caught.value


@pytest.fixture(scope="module")
def filled(bench: Bench) -> Bench:
    """The owner has declared a schema of her own, and put a row with an object in."""
    bench.by_root("REPLACE INTO session.manual VALUES (1, 2)")
    with client(bench, "alice") as instance:
        table = made(instance, TEST, create=True)
        table.insert1({"x": 1, "trace": np.arange(1000.0)})
        assert (table.fetch1("trace") == np.arange(1000.0)).all()
    return bench


def test_all_deciders_agree(filled: Bench) -> None:
    verdict = filled.verify(BOTH)
    assert verdict.disagreements == ()
    assert verdict.violations == ()
    assert {"dev_alice_*", TEST, "dev_dora_*"} <= {*verdict.schemas}
    assert verdict.notes == ()


@pytest.mark.parametrize("name", ["bob", "alice_b", "dora"])
def test_nobody_else_gets_in(filled: Bench, name: str) -> None:
    with client(filled, name) as instance:
        refused(
            lambda: instance.FreeTable(f"`{TEST}`.`trial`").to_dicts(),
            lambda: instance.connection.query(f"CREATE DATABASE {OTHER}"),
            lambda: instance.connection.query(f"DROP DATABASE {TEST}"),
            lambda: instance.connection.query(f"CREATE TABLE {TEST}.theirs (x INT)"),
        )


def test_who_was_given_it_reads_and_does_nothing_else(filled: Bench) -> None:
    with client(filled, "gail") as instance:
        table = made(instance, TEST, create=False)
        assert (table.fetch1("trace") == np.arange(1000.0)).all()
        refused(lambda: table.insert1({"x": 2, "trace": 1}), lambda: (table & {"x": 1}).delete())


def test_an_admin_gets_in(filled: Bench) -> None:
    with client(filled, "erin") as instance:
        assert len(instance.FreeTable(f"`{TEST}`.`trial`").to_dicts()) == 1


def test_what_is_told_of_a_sandbox(filled: Bench) -> None:
    wanted = filled.wanted
    assert can.can(wanted, "alice", "drop", f"{TEST}.Trial").allowed
    assert not can.can(wanted, "bob", "read", TEST).allowed
    assert can.can(wanted, "gail", "read", "dev_alice_*").allowed
    assert not can.can(wanted, "alice", "read", "dev_dora_x").allowed
    found = filled.evidence()
    readers = {
        one.who
        for one in who.matrix(wanted, ["dev_alice_*"], found)
        if (one.database or {}).get("read") == "yes"
    }
    assert readers >= {"alice", "gail", "erin"}
    assert not readers & {"bob", "dora", "alice_b"}
    with access.Servers(filled.site) as servers:
        told = {info.name: info for info in schemas.survey(servers, wanted)}
    assert (told["dev_alice_*"].owner, told["dev_alice_*"].holds, told["dev_alice_*"].tables) == (
        "alice",
        (TEST,),
        1,
    )
    assert not told["dev_dora_*"].there


SINS = {
    r"GRANT SELECT ON `dev\_alice\_%`.* TO bob": DriftKind.DIRECT_GRANT,
    r"GRANT SELECT ON `dev\_alice\_%`.* TO `session:viewer`": DriftKind.EXTRA_GRANT,
    "GRANT SELECT ON `dev_alice_%`.* TO `dev_alice_*:viewer`": DriftKind.WILDCARD,
    r"GRANT SELECT ON `dev\_%`.* TO `dev_alice_*:viewer`": DriftKind.WILDCARD,
    r"REVOKE DROP ON `dev\_alice\_%`.* FROM `dev_alice_*:sandbox`": DriftKind.MISSING_GRANT,
    "GRANT `dev_alice_*:viewer` TO bob": DriftKind.EXTRA_ROLE,
}


def test_what_is_changed_by_hand_is_named_and_mended(filled: Bench) -> None:
    filled.by_root(*SINS)
    verdict = filled.verify(verify.STATIC)
    assert {"bob", "gail", "alice"} <= {one.cell.principal for one in verdict.disagreements}
    with access.Servers(filled.site) as servers, servers.changing("test", 10):
        found = drift.look(servers, filled.wanted)
        assert {*SINS.values()} <= {one.kind for one in found.drift}
        access.apply(servers, found.plan)
        assert access.make_plan(servers, filled.wanted).is_empty
    assert filled.verify(verify.STATIC).agrees


def test_a_cascade_into_a_sandbox_is_told(filled: Bench) -> None:
    with access.Servers(filled.site) as servers:
        session = can.live(servers, filled.wanted, "erin", "delete", "session.manual")
    inside = [one for one in session.touched or () if one.table.schema == TEST]
    assert [(one.rows, one.allowed, one.blocks) for one in inside] == [(1, True, False)]


def test_rows_in_a_sandbox_that_djops_did_not_make_are_found(filled: Bench) -> None:
    """A row on one schema of a sandbox hides what the owner has on all of them."""
    filled.by_root(r"GRANT SELECT ON `dev\_alice\_test`.* TO `session:viewer`@`%`")
    verdict = filled.verify(verify.STATIC)
    assert {(one.theorem, one.who) for one in verdict.violations} >= {("T_CLOSURE", "bob")}
    with access.Servers(filled.site) as servers, servers.changing("test", 10):
        found = drift.look(servers, filled.wanted)
        assert DriftKind.EXTRA_GRANT in {one.kind for one in found.drift}
        access.apply(servers, found.plan)
        assert access.make_plan(servers, filled.wanted).is_empty
    assert filled.verify(verify.STATIC).agrees


def test_the_owner_drops_and_cleans_up(filled: Bench) -> None:
    with client(filled, "alice") as instance:
        made(instance, TEST, create=False).drop_quick()
        instance.connection.query(f"DROP DATABASE {quote_identifier(TEST)}")
    found = credentials.read(filled.site, "alice")
    store = s3_root(filled.site)
    listed = store.call(
        AwsCall("s3", "ListObjectsV2", {"Bucket": BUCKET, "Prefix": "my_pipeline/_hash/dev_alice_"})
    )
    key = listed["Contents"][0]["Key"]
    own = S3(
        replace(
            filled.site.s3,
            access_key=found["stores.main.access_key"],
            secret_key=Secret(found["stores.main.secret_key"]),
        )
    )
    own.call(AwsCall("s3", "DeleteObject", {"Bucket": BUCKET, "Key": key}))


def test_a_sandbox_ends_with_its_role(filled: Bench) -> None:
    people = {name: held for name, held in PEOPLE.items() if name not in ("alice", "gail")}
    filled.bring_to(people={**people, "alice": []}, sandboxes=SANDBOXES)
    with client(filled, "alice") as instance, pytest.raises(Exception) as caught:
        instance.connection.query(f"CREATE DATABASE {OTHER}")
    assert is_denial(caught.value)
    assert filled.verify(verify.STATIC).agrees


def test_one_row_for_all_sandboxes_is_enough_for_djops_own_account(filled: Bench) -> None:
    """What an administrator of an existing server may grant once, instead of for each new owner."""
    owner, password = "'sandbox_manager'@'%'", passwords.generate()
    rights = ", ".join(SCHEMA_PRIVILEGES)
    try:
        filled.by_root(
            f"CREATE USER {owner} IDENTIFIED BY '{password}' REQUIRE SSL",
            f"GRANT {rights} ON `dev\\_%`.* TO {owner} WITH GRANT OPTION",
            "CREATE ROLE sandbox_role",
        )
        with access.Servers(filled.site) as servers:
            state = servers.mysql.read_state()
        account = AccountId("sandbox_manager")
        missing = missing_grants(state, account, ["dev_alice_*", "lab_alice_*"], escape=True)
        assert [line for line in missing if "*.*" not in line] == [
            f"GRANT {rights} ON `lab\\_alice\\_%`.* TO {owner} WITH GRANT OPTION"
        ]
        with Mysql(datajoint_connection(filled, "sandbox_manager", password)) as manager:
            manager.query(r"GRANT SELECT, DROP ON `dev\_alice\_%`.* TO sandbox_role")
            manager.query(r"REVOKE SELECT, DROP ON `dev\_alice\_%`.* FROM sandbox_role")
            with pytest.raises(AccessDeniedError):
                manager.query(r"GRANT SELECT ON `de%`.* TO sandbox_role")
    finally:
        filled.by_root(f"DROP USER IF EXISTS {owner}", "DROP ROLE IF EXISTS sandbox_role")
