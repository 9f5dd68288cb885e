"""A server prepared badly by hand, and what the reader finds on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from djops.compile.mysql_state import (
    Account,
    AccountId,
    Edge,
    Held,
    Login,
    MysqlCatalog,
    Proxy,
    Scope,
)
from djops.proof.mysql_reader import MysqlReader
from djops.services.site import open_site
from djops.systems.mysql import Mysql
from djops.systems.mysql_catalog import parse_accounts
from tests.conftest import LabUnderTest

SINS = [
    "CREATE DATABASE mt_lab",
    "CREATE DATABASE mtXlab",
    "CREATE TABLE mt_lab.t (x INT)",
    "CREATE TABLE mt_lab.gone (x INT)",
    "CREATE PROCEDURE mt_lab.p() BEGIN END",
    "CREATE ROLE mt_role, mt_asleep, mt_top",
    "CREATE USER mt_a IDENTIFIED BY 'a Password, 4 tests'",
    "CREATE USER mt_a@localhost IDENTIFIED BY 'a Password, 4 tests' REQUIRE SSL",
    "CREATE USER mt_b IDENTIFIED BY 'a Password, 4 tests' REQUIRE SSL",
    "CREATE USER ''@'%' IDENTIFIED BY 'a Password, 4 tests' REQUIRE SSL",
    "GRANT SELECT ON mt_lab.* TO ''@'%'",
    "GRANT SELECT ON `mt_lab`.* TO mt_a",
    "GRANT SELECT ON `mt\\_la%`.* TO mt_a",
    "GRANT INSERT ON `mt\\_lab`.* TO mt_a WITH GRANT OPTION",
    "GRANT SELECT ON `m%`.* TO mt_b",
    "GRANT DELETE ON *.* TO mt_b",
    "GRANT SYSTEM_USER, ROLE_ADMIN ON *.* TO mt_b WITH GRANT OPTION",
    "GRANT SELECT ON `mt\\_missing`.* TO mt_role",
    "GRANT SELECT ON mt_lab.gone TO mt_role",
    "DROP TABLE mt_lab.gone",
    "GRANT EXECUTE ON PROCEDURE mt_lab.p TO mt_role",
    "GRANT mt_asleep TO mt_b WITH ADMIN OPTION",
    "GRANT mt_a TO mt_b",
    "GRANT mt_role TO mt_b",
    "SET DEFAULT ROLE mt_role, mt_a TO mt_b",
    "GRANT PROXY ON mt_a TO mt_b",
    "SET GLOBAL mandatory_roles = 'mt_top'",
    "SET GLOBAL activate_all_roles_on_login = OFF",
]
UNDO = [
    "SET GLOBAL mandatory_roles = ''",
    "DROP USER IF EXISTS mt_role, mt_asleep, mt_top, mt_a, mt_a@localhost, mt_b, ''@'%'",
    "DROP DATABASE IF EXISTS mt_lab",
    "DROP DATABASE IF EXISTS mtXlab",
]

A, B, ROLE = AccountId("mt_a"), AccountId("mt_b"), AccountId("mt_role")
NOBODY = AccountId("")

EXPECTED = [
    ("anonymous-account", NOBODY, "no account fits"),
    ("anonymous-rights", NOBODY, "no active role"),
    ("mandatory-role", AccountId("mt_top"), "every session"),
    ("global-grant", B, "DELETE on *.*"),
    ("system-user", B, "SYSTEM_USER"),
    ("dynamic-privilege", B, "ROLE_ADMIN on *.*"),
    ("wildcard", A, "SELECT on `mt_lab`.* has live wildcards and opens mtXlab, mt_lab"),
    ("loose-pattern", A, "SELECT on `mt\\_la%`.* has live wildcards and opens mt_lab"),
    ("wildcard", B, "SELECT on `m%`.*"),
    ("system-schema", B, "SELECT on `m%`.*"),
    ("grant-option", A, "may pass on GRANT OPTION, INSERT on `mt\\_lab`.*"),
    ("grant-option", B, "may pass on ROLE_ADMIN"),
    ("admin-option", B, "may pass on the role mt_asleep"),
    ("no-tls", A, "the server asks for it"),
    ("account-as-role", B, "mt_a"),
    ("inactive-role", B, "mt_asleep"),
    ("proxy", B, "may act as mt_a"),
    ("namesakes", A, "mt_a, mt_a@localhost"),
    ("hidden-row", B, "`mt\\_lab`.* does not count on `mt_lab`: the server goes by mt_b: SELECT on `m%`.*"),
    ("missing-schema", ROLE, "SELECT on `mt\\_missing`.*"),
    ("missing-table", ROLE, "SELECT on `mt_lab`.`gone`"),
    ("routine-grant", ROLE, "EXECUTE on procedure `mt_lab`.`p`"),
]


@pytest.fixture(scope="module")
def readers(lab: LabUnderTest) -> Iterator[tuple[MysqlReader, MysqlReader]]:
    """What root and djops' own account read of the same server."""
    site = open_site(lab.project_file)
    assert site.mysql_root is not None
    with Mysql(site.mysql_root) as root, Mysql(site.mysql) as manager:
        try:
            for statement in (*UNDO, *SINS):
                root.query(statement)
            yield MysqlReader(root.read_catalog()), MysqlReader(manager.read_catalog())
        finally:
            for statement in UNDO:
                root.query(statement)


@pytest.mark.parametrize(("kind", "account", "text"), EXPECTED, ids=[f"{e[0]} {e[1]}" for e in EXPECTED])
def test_every_sin_is_found(
    readers: tuple[MysqlReader, MysqlReader], kind: str, account: AccountId, text: str
) -> None:
    traps = [trap for trap in readers[0].traps() if (trap.kind, trap.account) == (kind, account)]
    assert any(text in trap.text for trap in traps), traps


def test_djops_own_account_reads_the_same(readers: tuple[MysqlReader, MysqlReader]) -> None:
    root, manager = (reader.catalog for reader in readers)
    for part in (
        "accounts",
        "privileges",
        "edges",
        "defaults",
        "logins",
        "restrictions",
        "routines",
        "proxies",
        "passed_on",
        "mandatory_roles",
        "schemas",
    ):
        assert getattr(root, part) == getattr(manager, part), part
    assert manager.read_by == AccountId("djops")
    assert manager.tables < root.tables


def test_the_catalog_takes_the_same_queries_whatever_there_is(
    lab: LabUnderTest, readers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    query = Mysql.query

    def counted(self: Mysql, text: str, values: Sequence[Any] = ()) -> tuple[tuple[Any, ...], ...]:
        asked.append(text)
        return query(self, text, values)

    monkeypatch.setattr(Mysql, "query", counted)
    with Mysql(open_site(lab.project_file).mysql) as server:
        server.read_catalog()
    # One for each account would be more, and the same one over and over.
    assert len(asked) == len(set(asked)) < 20


def test_the_rows_behind_a_decision_are_named(readers: tuple[MysqlReader, MysqlReader]) -> None:
    reader = readers[0]
    # It counted, did not the mandatory role make this a session with roles.
    assert reader.decide(A, "INSERT", "mt_lab").because == (
        "mt_a: INSERT on `mt\\_lab`.* does not count: the server goes by mt_a: SELECT on `mt\\_la%`.*",
    )
    refused = reader.decide(B, "INSERT", "mt_lab")
    assert not refused.allowed
    assert refused.because == (
        "mt_b <- mt_a: INSERT on `mt\\_lab`.* does not count: the server goes by mt_b: SELECT on `m%`.*",
    )
    assert reader.decide(B, "DELETE", "mt_lab").because == ("mt_b: DELETE on *.*",)
    assert reader.decide(B, "SELECT", "mt_lab", "gone").because == (
        "mt_b: SELECT on `m%`.*",
        "mt_b <- mt_role: SELECT on `mt_lab`.`gone`",
    )
    assert reader.decide(B, "ROLE_ADMIN", "").allowed
    assert not reader.decide(A, "ROLE_ADMIN", "").allowed


def test_schemas_reached(readers: tuple[MysqlReader, MysqlReader]) -> None:
    reached = readers[0].schemas_reached(B)
    assert reached["mt_lab"] >= {"SELECT", "DELETE"}
    assert "SELECT" in reached["mysql"]
    assert "information_schema" not in reached
    assert B in readers[0].holders("SELECT", "mtXlab")
    assert ROLE not in readers[0].holders("SELECT", "mt_lab", "gone")


def catalog(**more: object) -> MysqlCatalog:
    """Alice with the default role reader, which may read lab_ephys."""
    alice, role = AccountId("alice"), AccountId("reader")
    parts: dict[str, object] = {
        "accounts": {alice: Account(None, None), role: Account(None, None, locked=True)},
        "logins": {alice: Login("ANY"), role: Login(locked=True)},
        "privileges": {Held(role, Scope(r"lab\_ephys")): frozenset({"SELECT"})},
        "edges": {Edge(role, alice): False},
        "defaults": frozenset({Edge(role, alice)}),
        "schemas": frozenset({"lab_ephys", "labXephys"}),
        "read_by": AccountId("root", "localhost"),
    }
    return MysqlCatalog(**{**parts, **more})  # type: ignore[arg-type]


def test_nothing_to_find() -> None:
    assert MysqlReader(catalog()).traps() == []


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"activate_all_roles": True}, "all-roles-active"),
        ({"partial_revokes": True}, "partial-revokes"),
        ({"restrictions": {AccountId("alice"): {"lab_ephys": frozenset({"SELECT"})}}}, "partial-revoke"),
        ({"logins": {AccountId("alice"): Login("ANY", plugin="mysql_native_password")}}, "old-plugin"),
        ({"proxies": frozenset({Proxy(AccountId("alice"), AccountId("bob"))})}, "proxy"),
        (
            {
                "edges": {},
                "defaults": frozenset(),
                "privileges": {
                    Held(AccountId("alice"), Scope("lab_%")): frozenset({"SELECT"}),
                    Held(AccountId("alice"), Scope("lab%")): frozenset({"INSERT"}),
                },
            },
            "undefined-order",
        ),
    ],
)
def test_traps_in_memory(more: dict[str, object], kind: str) -> None:
    assert kind in {trap.kind for trap in MysqlReader(catalog(**more)).traps()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("role1", [AccountId("role1")]),
        (" `r 3`@`%` , r2@localhost", [AccountId("r 3"), AccountId("r2", "localhost")]),
        ("'x,y'@'10.%',\"a'b`\"@%", [AccountId("x,y", "10.%"), AccountId("a'b`")]),
    ],
)
def test_lists_of_accounts(text: str, expected: list[AccountId]) -> None:
    assert list(parse_accounts(text)) == expected
