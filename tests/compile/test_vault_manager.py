from __future__ import annotations

from pathlib import Path

import pytest

from djops.compile.vault import policy_name, policy_text
from djops.compile.vault_manager import approle, is_another_projects, manager_policy, token_role

PAGE = (Path(__file__).parents[2] / "docs" / "secrets-server.md").read_text()

# Asking project, the policy's project, the path it opens, whether it is another one's.
OWNERS = [
    ("a", "a", "a/people/b-c", False),
    ("a", "a-b", "a-b/people/c", True),
    ("a-b", "a-b", "a-b/services/c", False),
    ("a", "a", "other/people/alice", False),
]


@pytest.mark.parametrize(("asking", "project", "path", "another"), OWNERS)
def test_whose_a_policy_is(asking: str, project: str, path: str, another: bool) -> None:
    name = policy_name(project, path.rpartition("/")[2])
    assert is_another_projects(asking, name, policy_text(path)) is another


def test_a_policy_that_was_changed_by_hand_stays_the_projects() -> None:
    assert not is_another_projects("a", "djops-a-b", 'path "*" { capabilities = ["sudo"] }')


def test_the_page_about_existing_servers_has_the_whole_policy() -> None:
    assert manager_policy() in PAGE


@pytest.mark.parametrize(
    "name", [*token_role(), "token_policies", "token_no_default_policy", "token_ttl", "token_max_ttl"]
)
def test_the_page_sets_what_the_lab_sets(name: str) -> None:
    value = {**token_role(), **approle()}[name]
    shown = value[0] if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else value
    assert f"{name}={shown}" in PAGE or f"{name}='{shown}'" in PAGE
