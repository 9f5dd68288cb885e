"""The reader of IAM policies against a real Ceph, which judges every answer of it.

Random policies of users, groups and buckets out of everything Ceph takes; then every request with the
users' own keys, and with none. `make soak` goes on with other seeds.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from djops.errors import UndecidedError
from djops.proof.iam_patterns import compile_pattern
from djops.proof.iam_reader import IamReader
from tests.conftest import LabUnderTest
from tests.support.iam_oracle import Oracle, Tally, circumstances, expect, root_of
from tests.support.iam_requests import Ask
from tests.support.iam_worlds import Policies, World

pytestmark = pytest.mark.lab

SEEDS = range(1, 8)
DIFFERENCES = yaml.safe_load((Path(__file__).parents[1] / "data/iam/differences.yaml").read_text())
METHODS = {"s3:GetObject": "GET", "s3:PutObject": "PUT", "s3:DeleteObject": "DELETE", "s3:ListBucket": "GET"}


@pytest.fixture(scope="module")
def oracle(lab: LabUnderTest) -> Iterator[Oracle]:
    with contextlib.closing(Oracle(root_of(lab.project_file), "iam-proof")) as made:
        yield made


def test_the_reader_and_the_server_agree(oracle: Oracle) -> None:
    tally = Tally()
    for seed in SEEDS:
        before = len(tally.wrong)
        tally.refused += oracle.install(Policies(seed, oracle.names).world())
        oracle.compare(tally)
        tally.wrong[before:] = [f"seed {seed}: {told}" for told in tally.wrong[before:]]
    assert not tally.wrong, "\n".join(tally.wrong[:20])
    # Else nothing was compared that matters.
    assert 0.15 < tally.allowed / tally.cells < 0.7
    assert tally.undecided < 0.02 * tally.cells
    assert tally.refused < 2 * SEEDS.stop


def filled(case: dict[str, Any], oracle: Oracle) -> dict[str, Any]:
    """Put the names of this server into a case."""
    user, ident = next(iter(oracle.names.users.items()))
    arn = f"arn:aws:iam::{oracle.names.account}:user{oracle.path}{user}"
    text = json.dumps(case)
    for word, name in (
        ("BUCKET", oracle.buckets[0]),
        ("USERARN", arn),
        ("USERID", ident),
        ("USER", user),
        ("ACCOUNT", oracle.names.account),
    ):
        text = text.replace(word, name)
    filled: dict[str, Any] = json.loads(text)
    return filled


def request(ask: dict[str, Any]) -> Ask:
    query = {"prefix": ask["prefix"]} if "prefix" in ask else {}
    context = {f"s3:{name}": value for name, value in query.items()}
    return Ask(METHODS[ask["action"]], ask.get("key", ""), ask["action"], query, context=context)


@pytest.mark.parametrize("case", DIFFERENCES, ids=lambda case: case["name"])
def test_where_ceph_differs_from_aws(oracle: Oracle, case: dict[str, Any]) -> None:
    case = filled(case, oracle)
    user, bucket = next(iter(oracle.names.users)), oracle.buckets[0]
    world = World()
    for place, key, holder in ((world.users, "user", user), (world.buckets, "bucket", bucket)):
        if key in case:
            place[holder] = {"Version": "2012-10-17", "Statement": case[key]}
    assert oracle.install(world) == 0
    catalog = oracle.server.read_catalog(oracle.buckets)
    aws, ceph = IamReader(catalog, "aws"), IamReader(catalog, "ceph")
    for ask in case["asks"]:
        sent = request(ask)
        assert {"ok": "ok", "403": "denied"}[oracle.callers[user].send(sent, bucket)] == ask["ceph"], ask
        assert {"ok": "ok", "403": "denied"}[expect(ceph, user, bucket, sent)] == ask["ceph"], ask
        arn = f"arn:aws:s3:::{bucket}/{sent.key}" if sent.key else f"arn:aws:s3:::{bucket}"
        try:
            said = (
                "ok"
                if aws.decide(user, sent.action, arn, {**circumstances(), **sent.context}).allowed
                else "denied"
            )
        except UndecidedError:
            said = "undecided"
        assert said == ask["aws"], ask
    check_warnings(case, ceph)


def check_warnings(case: dict[str, Any], reader: IamReader) -> None:
    """A statement that means different things is named, others are not."""
    told = [warning for warning in reader.warnings() if ", statement " in warning.where]
    differs = any(ask["aws"] != ask["ceph"] for ask in case["asks"])
    if "warned" in case:
        meant = [warning for warning in told if case["warned"] in str(warning)]
        assert meant, told
        assert any(warning.fails_open for warning in meant) is case.get("fails_open", False)
    else:
        assert not told
        assert not differs or case.get("quiet"), "a difference that nobody is warned of"


def test_everything_that_differs_is_tried() -> None:
    assert sum(any(ask["aws"] != ask["ceph"] for ask in case["asks"]) for case in DIFFERENCES) >= 20


@pytest.mark.parametrize("pattern", ["[[=a=]]", "[[.a.]]"])
def test_sets_that_are_not_understood_are_not_guessed(pattern: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        compile_pattern(pattern, "ceph")
