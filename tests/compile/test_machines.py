"""What services get on the secrets server: their own, and nothing of anybody else's."""

from __future__ import annotations

import re

import pytest

from djops.compile.machines import (
    PROCEDURES,
    compile_leases,
    compile_logins,
    engine_account,
    engine_connection,
    grant_engine,
)
from djops.compile.rights import Rights
from djops.compile.vault import compile_vault, policy_name
from djops.model.project import Project
from djops.proof.vault_policies import opened_by, read_policy
from tests.support.projects import project

WAYS = {"one": "dynamic", "two": "dynamic", "three": "static", "four": "kept"}


@pytest.fixture
def wanted() -> Project:
    services = {name: {"credentials": way} for name, way in WAYS.items()}
    return Project.model_validate(project({"ada": []}).model_dump() | {"services": services})


def test_each_policy_opens_what_is_its_owners_own(wanted: Project) -> None:
    names = ("ada", *WAYS)
    policies = compile_vault(wanted, Rights(names, ())).policies
    own = {
        "ada": {"djops/data/lab/people/ada"},
        "one": {"djops/data/lab/services/one", "djops-database/creds/djops-lab-one"},
        "two": {"djops/data/lab/services/two", "djops-database/creds/djops-lab-two"},
        "three": {"djops/data/lab/services/three", "djops-database/static-creds/djops-lab-three"},
        "four": {"djops/data/lab/services/four"},
    }
    every = {path for paths in own.values() for path in paths}
    every |= {path.replace("/creds/", "/static-creds/") for path in every} | set(compile_leases(wanted))
    every |= {f"{path}/secret-id" for path in compile_logins(wanted, "local")}
    every |= {"djops-database/config/djops-lab", "sys/policies/acl/djops-lab-one", "auth/token/create"}
    for name in names:
        rules = read_policy(policies[policy_name("lab", name)])
        assert {path for path in every if opened_by(rules, path)} == own[name]
        assert all(opened_by(rules, path) == {"read"} for path in own[name])


def test_a_log_in_holds_one_policy_and_comes_from_where_it_should(wanted: Project) -> None:
    found = compile_logins(wanted, "local")
    assert {path: one["token_policies"] for path, one in found.items()} == {
        f"auth/approle/role/djops-lab-{name}": [f"djops-lab-{name}"] for name in WAYS
    }
    assert all(one["secret_id_bound_cidrs"] == ["127.0.0.1/32", "::1/128"] for one in found.values())
    assert all(one["bind_secret_id"] and one["token_no_default_policy"] for one in found.values())


def test_the_engine_makes_what_the_project_file_says(wanted: Project) -> None:
    assert set(compile_leases(wanted)) == {
        "djops-database/roles/djops-lab-one",
        "djops-database/roles/djops-lab-two",
        "djops-database/static-roles/djops-lab-three",
    }


@pytest.mark.parametrize("name", ["a", "x" * 19, "x" * 20, "x" * 31])
def test_the_engines_account_has_a_name_that_mysql_takes(name: str) -> None:
    account = engine_account(name)
    assert len(account.user) <= 32
    assert account != engine_account(f"{name[:-1]}y")
    assert engine_connection(name, "db", 3306, "")["connection_url"].endswith("/?tls=true")


def test_the_engines_account_is_given_procedures_and_nothing_else() -> None:
    given = [text for text in grant_engine("lab", "'djops'@'%'") if text.startswith("GRANT")]
    to_engine = [text for text in given if "djops-engine-lab" in text]
    assert [re.findall(r"GRANT (.*?) TO", text) for text in to_engine] == [
        [f"EXECUTE ON PROCEDURE `djops`.`{name}`"] for name in PROCEDURES
    ]


def test_what_tells_that_the_engine_is_set_up_is_done_last_and_what_is_right_stays() -> None:
    statements = grant_engine("lab", "'djops'@'%'", right=["end_lease"])
    assert all(text.startswith("GRANT EXECUTE") for text in statements[-len(PROCEDURES) :])
    dropped = [text for text in statements if text.startswith("DROP PROCEDURE")]
    assert len(dropped) == len(PROCEDURES)
    assert not any("PROCEDURE `djops`.`end_lease`" in text for text in statements if "GRANT" not in text)
