"""Differences of the secrets server."""

from __future__ import annotations

from typing import Any

import pytest

from djops.compile.secrets_state import SecretsState
from djops.plan.change import Phase, Risk
from djops.plan.operations import VaultCall
from djops.plan.vault import WriteSettings, diff_vault

LOGIN = "auth/approle/role/djops-lab-worker"
ROLE = "djops-database/roles/djops-lab-worker"
WANTED: dict[str, dict[str, Any]] = {
    LOGIN: {"token_ttl": 3600, "token_bound_cidrs": ["::1/128", "127.0.0.1/32"], "token_policies": ["own"]},
    ROLE: {"max_ttl": 60, "renew_statements": []},
}
AS_SHOWN = {"token_bound_cidrs": ["127.0.0.1", "::1"], "token_type": "default"}


def diff(found: dict[str, Any] | None, wanted: dict[str, Any] | None = None) -> list[WriteSettings]:
    empty: dict[str, Any] = {}
    should = SecretsState({}, {}, WANTED if wanted is None else wanted)
    changes = diff_vault(should, SecretsState(empty, {}, found))
    assert all(isinstance(one, WriteSettings) for one in changes)
    return [one for one in changes if isinstance(one, WriteSettings)]


def test_settings_are_compared_as_the_server_shows_them() -> None:
    shown = {LOGIN: WANTED[LOGIN] | AS_SHOWN, ROLE: WANTED[ROLE] | {"renew_statements": None}}
    assert diff(shown) == []


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (LOGIN, "token_bound_cidrs", None),
        (LOGIN, "token_bound_cidrs", ["127.0.0.0/8", "::1"]),
        (LOGIN, "token_policies", ["own", "more"]),
        (LOGIN, "token_ttl", 3601),
        (ROLE, "renew_statements", ["DROP USER djops"]),
    ],
)
def test_what_somebody_changed_is_told_and_written_again(path: str, name: str, value: object) -> None:
    (change,) = diff({**WANTED, path: WANTED[path] | {name: value}})
    assert change.path == path
    assert name in change.before
    assert change.operations() == (VaultCall("POST", path, WANTED[path]),)


def test_policies_that_somebody_added_to_a_log_in_go_before_anything_else_is_done() -> None:
    more, less = (
        {**WANTED, LOGIN: WANTED[LOGIN] | {"token_policies": names}} for names in (["own", "x"], [])
    )
    assert [(one.phase, one.risk) for one in diff(more)] == [(Phase.NARROW, Risk.NARROWS)]
    assert [(one.phase, one.risk) for one in diff(less)] == [(Phase.CLEAN, Risk.WIDENS)]


def test_what_makes_accounts_ends_after_those_that_it_made() -> None:
    login, role = diff(WANTED, {})
    assert login.operations() == (VaultCall("DELETE", LOGIN),)
    assert role.operations() == (
        VaultCall("PUT", "sys/leases/revoke-force/djops-database/creds/djops-lab-worker"),
        VaultCall("DELETE", ROLE),
    )


def test_a_server_that_was_set_up_without_log_ins_of_services_is_left_alone() -> None:
    assert diff(None) == []
    assert [one.path for one in diff({})] == [LOGIN, ROLE]
