"""The reader of policies, by the rules that OpenBao documents; a real server is asked elsewhere."""

from __future__ import annotations

import pytest

from djops.proof.vault_policies import PathRule, UnreadableError, opened_by, read_policy

PATH = "djops/data/lab/people/alice"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'path "{PATH}" {{ capabilities = ["read"] }}', {"read"}),
        ('path "djops/*" { capabilities = ["read", "list"] }', {"read", "list"}),
        ('path "djops/data/+/people/+" { capabilities = ["update"] }', {"update"}),
        ('path "djops/data/+/people" { capabilities = ["update"] }', set()),
        ('path "djops/data/lab/people/al+" { capabilities = ["read"] }', set()),
        ('path "*" { policy = "write" }', {"create", "read", "update", "delete", "list"}),
        (f'path "djops/*" {{ policy = "write" }}\npath "{PATH}" {{ capabilities = ["deny"] }}', set()),
        (f'path "{PATH}" {{ capabilities = ["read"] }} path "djops/data/*" {{ policy = "deny" }}', {"read"}),
        (
            'path "djops/data/+/people/alice" { capabilities = ["list"] } '
            'path "djops/data/lab/*" { policy = "deny" }',
            set(),
        ),
        (f'path "{PATH}" {{ capabilities = ["read"] }} path "{PATH}" {{ capabilities = ["deny"] }}', set()),
        (f'# path "{PATH}" {{}}\n/* {"{"} */ path "x" {{ capabilities = ["read"] }} // "', set()),
        (f'{{"path": {{"{PATH}": {{"capabilities": ["read"]}}}}}}', {"read"}),
        (f'path "{PATH}" {{ allowed_parameters = {{ "a" = ["b"] }}\n capabilities = ["read",] }}', {"read"}),
        ("", set()),
    ],
)
def test_what_a_policy_opens(text: str, expected: set[str]) -> None:
    assert opened_by(read_policy(text), PATH) == expected


@pytest.mark.parametrize("text", ['path "x" {', "paths {}", "{", "[1]", 'path "x" { capabilities', "\0"])
def test_what_is_no_policy_is_not_taken_for_an_empty_one(text: str) -> None:
    with pytest.raises(UnreadableError):
        read_policy(text)


def test_a_star_is_only_one_at_the_end() -> None:
    assert not PathRule("djops/*/people/alice", frozenset()).matches(PATH)
    assert PathRule("djops/data/lab/people/alice*", frozenset()).matches(PATH)
