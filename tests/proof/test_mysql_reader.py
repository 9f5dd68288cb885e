"""The reader of a MySQL catalog against a MySQL server: random accounts, every cell asked of both."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest

from djops.proof.mysql_matching import Client, host_admits, host_order, opens, rank
from djops.proof.mysql_reader import MysqlReader
from djops.services.site import open_site
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest
from tests.support.mysql_oracle import CELLS, LOCAL, STRANGER, World, answer, current_account

SOAK = float(os.environ.get("DJOPS_SOAK_SECONDS", "0"))
"""How long to go on with new seeds, divided among the servers' modes; 0 for a few fixed ones."""

CASES = {False: 24, True: 16}
HERE = Client(*LOCAL)


@pytest.fixture(scope="module")
def world(lab: LabUnderTest) -> Iterator[World]:
    connection = open_site(lab.project_file).mysql_root
    assert connection is not None
    with Mysql(connection) as root:
        made = World(root)
        made.remove()
        try:
            made.make_schemas()
            yield made
        finally:
            made.remove()


def seeds(literal: bool) -> Iterator[int]:
    if not SOAK:
        yield from range(CASES[literal])
        return
    end = time.monotonic() + SOAK / len(CASES)
    first = random.randrange(10**9)
    while time.monotonic() < end:
        yield first
        first += 1


def disagreements(world: World, seed: int, *, literal: bool) -> tuple[int, int, list[str]]:
    """Make a case, and ask the reader and the server the same of everybody who can log in.

    Returns:
        How many cells were compared, how many of them the server allowed, and where they differ.
    """
    world.chance = random.Random(seed)
    users = world.make_case(literal=literal)
    reader = MysqlReader(world.root.read_catalog())
    compared = allowed = 0
    wrong = []
    for name in sorted({user.user or STRANGER for user in users}):
        with world.session(name) as link:
            account = current_account(link)
            if account != reader.account_for(name, HERE):
                wrong.append(f"{name} is let in as {account}, not {reader.account_for(name, HERE)}")
            for cell in CELLS:
                there = (cell.schema, cell.table, cell.column)
                seen = answer(link, cell.statement)
                said = reader.decide(account, cell.privilege, *there, client=HERE)
                compared += 1
                allowed += seen
                # What the catalog leaves open may go either way, but not beyond what the reader allows.
                if seen != said.allowed and (said.certain or seen):
                    wrong.append(f"{account}: {cell.statement}: the server says {seen}, the reader {said}")
                held = reader.privileges(account, *there, client=HERE)
                if (cell.privilege in held) != said.allowed or (said.allowed and not said.because):
                    wrong.append(f"{account}: {cell}: the reader contradicts itself: {said}, {held}")
    return compared, allowed, wrong


@pytest.mark.parametrize("literal", [False, True], ids=["wildcards", "partial revokes"])
def test_the_reader_says_what_the_server_does(world: World, literal: bool) -> None:
    if literal:
        world.root.query("SET GLOBAL partial_revokes = ON")
    compared = allowed = cases = 0
    for seed in seeds(literal):
        more, yes, wrong = disagreements(world, seed, literal=literal)
        assert not wrong, "\n".join([f"seed {seed}:", *world.done, *wrong[:5], f"{len(wrong)} in all"])
        compared, allowed, cases = compared + more, allowed + yes, cases + 1
    print(f"{compared} cells of {cases} cases compared, {allowed} of them allowed")
    assert compared > 1000
    assert compared / 20 < allowed < compared / 2


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
    assert sorted(patterns, key=rank, reverse=True) == patterns
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
