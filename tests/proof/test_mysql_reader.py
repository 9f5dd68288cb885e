"""The reader of a MySQL catalog against a MySQL server: random accounts, every cell asked of both."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest

from djops.services.site import open_site
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest
from tests.support.mysql_oracle import CELLS, STRANGER, World, answer, current_account
from tests.support.mysql_recorded import CASES, Case, disagreements, save

SOAK = float(os.environ.get("DJOPS_SOAK_SECONDS", "0"))
"""How long to go on with new seeds, divided among the servers' modes; 0 for a few fixed ones."""

KEEP = os.environ.get("DJOPS_RECORD") == "1"
"""Whether to keep what the server says to the fixed seeds, for the test without one."""


kept: list[Case] = []


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
            if KEEP and not SOAK:
                save(kept)
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


def asked(world: World, seed: int, *, literal: bool) -> Case:
    """Make a case, and ask the server everything as everybody who can log in."""
    world.chance = random.Random(seed)
    users = world.make_case(literal=literal)
    answers = {}
    for name in sorted({user.user or STRANGER for user in users}):
        with world.session(name) as link:
            answers[name] = (current_account(link), [answer(link, cell.statement) for cell in CELLS])
    return Case(seed, world.root.read_catalog(), answers)


@pytest.mark.parametrize("literal", [False, True], ids=["wildcards", "partial revokes"])
def test_the_reader_says_what_the_server_does(world: World, literal: bool) -> None:
    if literal:
        world.root.query("SET GLOBAL partial_revokes = ON")
    cases = compared = allowed = 0
    for seed in seeds(literal):
        case = asked(world, seed, literal=literal)
        if KEEP:
            kept.append(case)
        wrong = disagreements(case)
        assert not wrong, "\n".join([f"seed {seed}:", *world.done, *wrong[:5], f"{len(wrong)} in all"])
        answers = [one for _, said in case.answers.values() for one in said]
        cases, compared, allowed = cases + 1, compared + len(answers), allowed + sum(answers)
    print(f"{compared} cells of {cases} cases compared, {allowed} of them allowed")
    assert compared > 1000
    assert compared / 20 < allowed < compared / 2
