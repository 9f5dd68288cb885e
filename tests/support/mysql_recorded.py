"""What a MySQL server answered once, for tests without one: catalogs, and the answer to every cell."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djops.compile.mysql_state import Account, AccountId, Edge, Held, Login, MysqlCatalog, Scope
from djops.proof.mysql_matching import Client
from djops.proof.mysql_reader import MysqlReader
from tests.support.mysql_oracle import CELLS, LOCAL, STRANGER, World, answer, current_account

CASES = {False: 16, True: 12}
"""How many cases there are, without and with partial revokes."""

HERE = Client(*LOCAL)
FILE = Path(__file__).parent.parent / "data" / "mysql_answers.json"


@dataclass(frozen=True)
class Case:
    """One server's catalog, and what it said.

    Attributes:
        seed: What the case was made from.
        catalog: The catalog.
        answers: By the name given at log-in: the account it led to, and an answer for each cell.
    """

    seed: int
    catalog: MysqlCatalog
    answers: Mapping[str, tuple[AccountId, Sequence[bool]]]


def asked(world: World, seed: int, *, literal: bool) -> Case:
    """Make a case, and ask the server everything as everybody who can log in."""
    world.chance = random.Random(seed)
    users = world.make_case(literal=literal)
    answers = {}
    for name in sorted({user.user or STRANGER for user in users}):
        with world.session(name) as link:
            answers[name] = (current_account(link), [answer(link, cell.statement) for cell in CELLS])
    return Case(seed, world.root.read_catalog(), answers)


def save(cases: Sequence[Case]) -> None:
    """Keep cases, one a line, without the server's own accounts."""
    lines = ",\n".join(json.dumps(_packed(case), ensure_ascii=False) for case in cases)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def load() -> list[Case]:
    """Return the cases that were kept."""
    return [_unpacked(case) for case in json.loads(FILE.read_text(encoding="utf-8"))]


def disagreements(case: Case) -> list[str]:
    """Ask the reader the same, and tell where it says something else than the server."""
    reader = MysqlReader(case.catalog)
    wrong = []
    for name, (account, answers) in case.answers.items():
        if account != reader.account_for(name, HERE):
            wrong.append(f"{name} is let in as {account}, not {reader.account_for(name, HERE)}")
        for cell, seen in zip(CELLS, answers, strict=True):
            there = (cell.schema, cell.table, cell.column)
            said = reader.decide(account, cell.privilege, *there, client=HERE)
            # What the catalog leaves open may go either way, but not beyond what the reader allows.
            if seen != said.allowed and (said.certain or seen):
                wrong.append(f"{account}: {cell.statement}: the server says {seen}, the reader {said}")
            held = reader.privileges(account, *there, client=HERE)
            if (cell.privilege in held) != said.allowed or (said.allowed and not said.because):
                wrong.append(f"{account}: {cell}: the reader contradicts itself: {said}, {held}")
    return wrong


def _packed(case: Case) -> dict[str, Any]:
    catalog = case.catalog
    ours = sorted(one for one in catalog.accounts if one.user.startswith("mr") or not one.user)
    return {
        "seed": case.seed,
        "accounts": ours,
        "privileges": [
            [*held.grantee, *held.scope, ",".join(sorted(names))]
            for held, names in sorted(catalog.privileges.items())
            if held.grantee in ours
        ],
        "edges": [[*edge.role, *edge.member] for edge in sorted(catalog.edges)],
        "defaults": [[*edge.role, *edge.member] for edge in sorted(catalog.defaults)],
        "restrictions": [
            [*account, schema, ",".join(sorted(names))]
            for account, schemas in sorted(catalog.restrictions.items())
            if account in ours
            for schema, names in sorted(schemas.items())
        ],
        "mandatory": catalog.mandatory_roles,
        "all_roles": catalog.activate_all_roles,
        "partial_revokes": catalog.partial_revokes,
        "answers": {
            name: [*account, "".join("-+"[one] for one in said)]
            for name, (account, said) in case.answers.items()
        },
    }


def _unpacked(case: Mapping[str, Any]) -> Case:
    accounts = [AccountId(*one) for one in case["accounts"]]
    restrictions: dict[AccountId, dict[str, frozenset[str]]] = {}
    for user, host, schema, names in case["restrictions"]:
        restrictions.setdefault(AccountId(user, host), {})[schema] = _names(names)
    catalog = MysqlCatalog(
        accounts={one: Account(None, None) for one in accounts},
        logins={one: Login() for one in accounts},
        privileges={
            Held(AccountId(user, host), Scope(*scope)): _names(names)
            for user, host, *scope, names in case["privileges"]
        },
        edges={_edge(one): False for one in case["edges"]},
        defaults=frozenset(_edge(one) for one in case["defaults"]),
        restrictions=restrictions,
        mandatory_roles=tuple(AccountId(*one) for one in case["mandatory"]),
        activate_all_roles=case["all_roles"],
        partial_revokes=case["partial_revokes"],
    )
    answers = {
        name: (AccountId(user, host), [one == "+" for one in said])
        for name, (user, host, said) in case["answers"].items()
    }
    return Case(case["seed"], catalog, answers)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split(",")) - {""}


def _edge(ends: Sequence[str]) -> Edge:
    return Edge(AccountId(*ends[:2]), AccountId(*ends[2:]))
