"""The reader of a MySQL catalog against a MySQL server: random accounts, every cell asked of both.

`make soak` goes on with other seeds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import LabUnderTest
from tests.support.mysql_oracle import World, worlds
from tests.support.mysql_recorded import CASES, Case, asked, disagreements, save

KEEP = os.environ.get("DJOPS_RECORD") == "1"
"""Whether to keep what the server says to the fixed seeds, for the test without one."""


kept: list[Case] = []


@pytest.fixture(scope="module")
def world(lab: LabUnderTest) -> Iterator[World]:
    with worlds(lab.project_file) as made:
        yield made
    if KEEP:
        save(kept)


@pytest.mark.parametrize("literal", [False, True], ids=["wildcards", "partial revokes"])
def test_the_reader_says_what_the_server_does(world: World, literal: bool) -> None:
    compared = allowed = 0
    for seed in range(CASES[literal]):
        case = asked(world, seed, literal=literal)
        if KEEP:
            kept.append(case)
        wrong = disagreements(case)
        assert not wrong, "\n".join([f"seed {seed}:", *world.done, *wrong[:5], f"{len(wrong)} in all"])
        answers = [one for _, said in case.answers.values() for one in said]
        compared, allowed = compared + len(answers), allowed + sum(answers)
    assert compared > 1000
    assert compared / 20 < allowed < compared / 2
