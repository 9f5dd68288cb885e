"""How MySQL understands grants, without a server: what one answered once, and names and hosts by case."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from djops.compile.mysql_state import Account, AccountId, Edge, Held, MysqlCatalog, Scope
from djops.proof.mysql_matching import Client, host_admits, host_order, opens, rank
from djops.proof.mysql_reader import MysqlReader
from tests.support.mysql_oracle import CELLS
from tests.support.mysql_recorded import CASES, HERE, disagreements, load


def test_the_reader_says_what_a_server_did() -> None:
    """Without a server: what one answered, kept when the environment said DJOPS_RECORD=1."""
    cases = load()
    assert len(cases) == sum(CASES.values())
    assert [wrong for case in cases for wrong in disagreements(case)] == []


def test_the_catalog_settles_nearly_everything() -> None:
    decisions = [
        MysqlReader(case.catalog).decide(account, *cell[:4], client=HERE)
        for case in load()
        for account, _ in case.answers.values()
        for cell in CELLS[:40]
    ]
    assert sum(not decision.certain for decision in decisions) < len(decisions) / 200


@pytest.mark.parametrize(
    ("pattern", "schema", "expected"),
    [
        ("lab_ephys", "lab_ephys", True),
        ("lab_ephys", "labXephys", True),
        (r"lab\_ephys", "lab_ephys", True),
        (r"lab\_ephys", "labXephys", False),
        ("lab%", "lab", True),
        ("%", "anything", True),
        ("lab_", "labü", False),  # one byte, not one character
        ("lab__", "labü", True),
        ("Lab", "lab", False),
        (r"a\\b", r"a\b", True),
        ("a\\", "a\\", True),
        ("a.b", "axb", False),
        ("a\n%", "a\nb", True),
    ],
)
def test_patterns(pattern: str, schema: str, expected: bool) -> None:
    assert opens(pattern, schema) is expected


def test_the_place_of_the_first_wildcard_ranks_a_pattern() -> None:
    patterns = [r"lab\_ephys", r"lab\_e%", r"lab\_%", "lab%", "l%s", "%s", "%", ""]
    ranks = [rank(pattern) for pattern in patterns]
    assert ranks == sorted(set(ranks), reverse=True)
    assert rank("lab_ephys") == rank("lab%")


HOSTS = [
    "127.0.0.1",
    "127.0.0.1/32",
    "127.0.0.0/24",
    "127.0.0.0/8",
    "127.0.0.0/255.255.255.0",
    "127.0.0.0/255.0.0.0",
    "localhost",
    "127.0.0.%",
    "127.%",
    "l%",
    "%host",
    "%",
]
"""In the order in which the server tries them, which it was seen to do."""


def test_hosts_in_order() -> None:
    shuffled = random.Random(1).sample(HOSTS, len(HOSTS))
    assert sorted(shuffled, key=host_order) == HOSTS
    assert all(host_admits(host, HERE) for host in HOSTS)
    assert not any(host_admits(host, Client("db.lab", "10.1.2.3")) for host in HOSTS[:-1])


@pytest.mark.parametrize(
    ("account", "row", "expected"),
    [
        ("%", "%", True),
        ("%", "localhost", False),
        ("%", "10.%", False),
        ("10.0.0.1", "10.%", True),
        ("10.0.0.1", "10.0.0.0/24", True),
        ("10.%", "%", True),
        ("10.%", "10._", False),
        ("localhost", "127.0.0.1", True),
        ("127.0.0.1", "LOCALHOST", True),
    ],
)
def test_rows_of_other_hosts(account: str, row: str, expected: bool) -> None:
    assert host_admits(row, Client.of(account)) is expected


ALICE, READER, WRITER = AccountId("alice"), AccountId("reader"), AccountId("writer")


def server(
    rows: dict[tuple[AccountId, str], str], *, roles: Sequence[AccountId] = (), **settings: object
) -> MysqlReader:
    """Make a reader of a server with Alice and two roles, those active that are named."""
    parts: dict[str, object] = {
        "accounts": {one: Account(None, None) for one in (ALICE, READER, WRITER)},
        "privileges": {
            Held(who, Scope(pattern)): frozenset(names.split(",")) for (who, pattern), names in rows.items()
        },
        "edges": {Edge(role, ALICE): False for role in roles},
        "defaults": frozenset(Edge(role, ALICE) for role in roles),
    }
    return MysqlReader(MysqlCatalog(**{**parts, **settings}))  # type: ignore[arg-type]


def test_of_rows_of_one_account_the_narrowest_counts() -> None:
    reader = server({(ALICE, r"lab\_ephys"): "SELECT", (ALICE, "lab%"): "INSERT"})
    assert reader.decide(ALICE, "SELECT", "lab_ephys").certain
    assert reader.privileges(ALICE, "lab_ephys") == {"SELECT"}
    assert reader.privileges(ALICE, "labXephys") == {"INSERT"}


def test_with_a_role_the_first_spelling_in_byte_order_counts() -> None:
    rows = {(READER, r"lab\_ephys"): "SELECT", (WRITER, r"lab\_ephys"): "INSERT", (ALICE, "lab%"): "DELETE"}
    reader = server(rows, roles=[READER, WRITER])
    assert reader.privileges(ALICE, "lab_ephys") == {"DELETE"}
    assert reader.decide(ALICE, "SELECT", "lab_ephys").because == (
        r"alice <- reader: SELECT on `lab\_ephys`.* does not count: "
        "the server goes by alice: DELETE on `lab%`.*",
    )
    del rows[ALICE, "lab%"]
    assert server(rows, roles=[READER, WRITER]).privileges(ALICE, "lab_ephys") == {"SELECT", "INSERT"}


def test_a_granted_role_that_is_not_active_is_pointed_out() -> None:
    reader = server({(READER, "ephys"): "SELECT"}, roles=[READER], defaults=frozenset())
    refused = reader.decide(ALICE, "SELECT", "ephys")
    assert refused.because == ("alice <- reader: SELECT on `ephys`.*: not active after log-in",)


@pytest.mark.parametrize(("schema", "expected"), [("lab_ephys", False), ("ephys", True), ("other", True)])
def test_a_role_s_partial_revoke_reaches_other_roles(schema: str, expected: bool) -> None:
    """The right of another role lifts it, but not where the schema's name has an underscore in it."""
    reader = server(
        {(READER, "*"): "SELECT", (WRITER, "lab_ephys"): "SELECT", (WRITER, "ephys"): "SELECT"},
        roles=[READER, WRITER],
        partial_revokes=True,
        restrictions={READER: dict.fromkeys(("lab_ephys", "ephys"), frozenset({"SELECT"}))},
    )
    assert reader.decide(ALICE, "SELECT", schema).allowed is expected


def test_privileges_on_the_server_are_not_on_its_schemas() -> None:
    reader = server({(ALICE, "*"): "PROCESS,SELECT,ROLE_ADMIN"})
    assert reader.privileges(ALICE, "ephys") == {"SELECT"}
    assert reader.privileges(ALICE, "") == {"PROCESS", "SELECT", "ROLE_ADMIN"}


def test_what_the_catalog_leaves_open_is_said() -> None:
    reader = server({(ALICE, "lab_%"): "SELECT,INSERT", (ALICE, "lab%"): "INSERT"})
    assert reader.decide(ALICE, "INSERT", "lab_ephys").certain
    read = reader.decide(ALICE, "SELECT", "lab_ephys")
    assert (read.allowed, read.certain) == (True, False)


def test_accounts_alike_on_a_schema_have_the_same_there() -> None:
    """Of all recorded servers: where two accounts are alike, every answer is the same."""
    shared = 0
    for case in load():
        reader = MysqlReader(case.catalog)
        alike: dict[object, object] = {}
        for account in reader.accounts():
            for schema in {cell[1] for cell in CELLS}:
                asked = {cell[1:4] for cell in CELLS if cell[1] == schema}
                held = {one: reader.privileges(account, *one) for one in asked}
                before = alike.setdefault((schema, reader.alike(account, schema)), held)
                shared += before is not held
                assert before == held, (account, schema)
    assert shared > 100, "accounts that are alike"
