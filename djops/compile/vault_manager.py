"""What djops itself may do on a secrets server, and whose a policy is where projects share one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from djops.compile.vault import DATABASE, LOGINS, MOUNT, policy_name

MANAGER = "manager"
"""Name of the AppRole's policy; outside of ``djops-*``, so that the AppRole cannot rewrite it."""

TOKEN_ROLE = "djops-principal"  # noqa: S105 - a role's name
"""The token role through which short-lived tokens of principals are made."""

ENGINES: Mapping[str, Mapping[str, object]] = {
    MOUNT: {"type": "kv", "options": {"version": "2"}},
    DATABASE: {"type": "database"},
}
"""Secrets engines of a server that djops sets up, by mount: what is kept, and what makes credentials."""

METHODS: Mapping[str, Mapping[str, object]] = {
    "approle": {"type": "approle"},
    "userpass": {"type": "userpass"},
}
"""Its log-in methods likewise: for djops and services, and for people."""

AUDIT: Mapping[str, str] = {"mode": "0600", "elide_list_responses": "true"}
"""Options of its audit device, a file: lists of a thousand people's policies would fill the disk without
telling who did what."""

RECOVERY = "recovery"
"""AppRole and policy of whoever makes a root token with the recovery keys, where no root token is kept;
outside of ``djops-*``, so that djops' own AppRole cannot make itself that."""

ROOT_TOKENS = "sys/generate-root-token"
"""Where root tokens are made by who is logged in and has the recovery keys; OpenBao has it from 2.6 on."""

_OPENS = re.compile(rf'"{MOUNT}/data/(?P<project>[^/"]+)/(?:people|services)/(?P<principal>[^/"]+)"')


RENEW_LOGIN = "auth/approle/role/djops/secret-id"
"""Where the AppRole gets another secret id for itself."""

RULES: Mapping[str, str] = {
    f"{MOUNT}/data/*": "create read update delete",
    f"{MOUNT}/metadata/*": "create read update delete list",
    f"{MOUNT}/detailed-metadata/*": "list",
    "sys/policies/acl": "list",
    "sys/policies/detailed/acl": "list",
    "sys/policies/acl/djops-*": "create read update delete",
    f"auth/token/create/{TOKEN_ROLE}": "create update",
    "auth/token/lookup-self": "read",
    "auth/token/renew-self": "update",
    "auth/token/revoke-self": "update",
    "auth/token/accessors": "list sudo",
    "auth/token/lookup-accessor": "update",
    "auth/token/revoke-accessor": "update",
    "sys/capabilities-self": "update",
    "sys/wrapping/wrap": "update",
    RENEW_LOGIN: "update",
    f"{RENEW_LOGIN}/destroy": "update",
    "auth/approle/role": "list",
    "auth/approle/role/djops-*": "create read update delete",
    LOGINS: "list",
    f"{LOGINS}/djops-*": "create read update delete",
    f"{DATABASE}/roles": "list",
    f"{DATABASE}/static-roles": "list",
    f"{DATABASE}/roles/djops-*": "create read update delete",
    f"{DATABASE}/static-roles/djops-*": "create read update delete",
    f"{DATABASE}/config/djops-*": "create read update delete",
    f"{DATABASE}/rotate-root/djops-*": "create update",
    f"{DATABASE}/rotate-role/djops-*": "create update",
    f"sys/leases/revoke-force/{DATABASE}/creds/djops-*": "update sudo",
}
"""Capabilities of djops' own AppRole by path."""

_OPTIONAL = frozenset(
    {
        f"{MOUNT}/detailed-metadata/*",
        "sys/policies/detailed/acl",
        "auth/token/accessors",
        "auth/token/lookup-accessor",
        "auth/token/revoke-accessor",
        RENEW_LOGIN,
        f"{RENEW_LOGIN}/destroy",
        "auth/approle/role",
        "auth/approle/role/djops-*",
        LOGINS,
        f"{LOGINS}/djops-*",
        f"{DATABASE}/roles",
        f"{DATABASE}/static-roles",
        f"{DATABASE}/roles/djops-*",
        f"{DATABASE}/static-roles/djops-*",
        f"{DATABASE}/config/djops-*",
        f"{DATABASE}/rotate-root/djops-*",
        f"{DATABASE}/rotate-role/djops-*",
        f"sys/leases/revoke-force/{DATABASE}/creds/djops-*",
    }
)
"""Listings that only OpenBao has, without which reading takes more requests; and what is only for links and
tokens of people and for services' log-ins, which servers that were set up earlier do not allow."""


def manager_policy() -> str:
    """Render the policy of djops' own AppRole.

    Whoever may write policies and make tokens that hold them can give himself every right on the
    server; no policy takes that back. So the AppRole's secret id is to be guarded like a root token,
    and on a server shared with others djops belongs into a namespace of its own.

    Returns:
        The policy's text.
    """
    return "".join(f"{_rule(path)}\n" for path in RULES)


def rule_for(path: str) -> str | None:
    """Return the line of the policy that opens a path.

    Args:
        path: An API path.

    Returns:
        The line; ``None`` where the policy has none.
    """
    found = path if path in RULES else None
    for pattern in RULES:
        if pattern.endswith("*") and path.startswith(pattern[:-1]):
            found = pattern
    return None if found is None else _rule(found)


def example_paths(project: str) -> dict[str, str]:
    """Return for each rule that djops cannot do without one path on which to ask for its capabilities."""
    name = f"{project}-lacking"
    return {
        rule: rule[:-1] + (f"{project}/people/{name}" if rule.startswith(MOUNT) else name)
        if rule.endswith("*")
        else rule
        for rule in RULES
        if rule not in _OPTIONAL
    }


def missing_rules(held: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Tell which lines of the policy an AppRole lacks.

    Args:
        held: By rule, the capabilities that the server says it has.

    Returns:
        The lines to add.
    """
    return tuple(
        _rule(rule)
        for rule, names in held.items()
        if "root" not in (has := set(names)) and not set(RULES[rule].split()) <= has
    )


def _rule(path: str) -> str:
    return f'path "{path}" {{ capabilities = [{_quoted(RULES[path])}] }}'


def token_role() -> dict[str, object]:
    """Return the settings of :data:`TOKEN_ROLE`: orphans, only principals' policies, a working day."""
    return {
        "allowed_policies_glob": ["djops-*"],
        "orphan": True,
        "renewable": False,
        "token_type": "service",
        "token_explicit_max_ttl": "8h",
    }


def approle() -> dict[str, object]:
    """Return the settings of djops' AppRole, but for its role id."""
    return {
        "token_policies": [MANAGER],
        "token_no_default_policy": True,
        "token_ttl": "1h",
        "token_max_ttl": "8h",
        "secret_id_num_uses": 0,
        "secret_id_ttl": 0,
    }


def first_requests() -> Mapping[str, tuple[str, Mapping[str, object]]]:
    """Return what makes a new server djops', in order: each a path and what is written there.

    What an AppRole may do is there before the role, and nobody can log in before the last.
    """
    return {
        **{f"mount-{path}": (f"sys/mounts/{path}", how) for path, how in ENGINES.items()},
        "policy": (f"sys/policies/acl/{MANAGER}", {"policy": manager_policy()}),
        "token-role": (f"auth/token/roles/{TOKEN_ROLE}", token_role()),
        **{f"auth-{path}": (f"sys/auth/{path}", how) for path, how in METHODS.items()},
        "role": ("auth/approle/role/djops", approle()),
    }


def recovery_requests() -> Mapping[str, tuple[str, Mapping[str, object]]]:
    """Return what lets who has the recovery keys make a root token, and do nothing else; in order."""
    policy = f'path "{ROOT_TOKENS}/*" {{ capabilities = ["create", "delete", "read", "update"] }}\n'
    role = {**approle(), "token_policies": [RECOVERY], "token_ttl": "10m", "token_max_ttl": "10m"}
    return {
        "policy": (f"sys/policies/acl/{RECOVERY}", {"policy": policy}),
        "role": (f"auth/approle/role/{RECOVERY}", role),
    }


def is_another_projects(project: str, name: str, text: str) -> bool:
    """Tell whether a policy that by its name could be the project's is really another one's.

    ``djops-a-b-c`` may be principal ``b-c`` of project ``a`` or principal ``c`` of project ``a-b``.

    Args:
        project: Name of the project that asks.
        name: Name of the policy.
        text: The policy as the server has it.
    """
    opened = _OPENS.search(text)
    return (
        opened is not None
        and opened["project"] != project
        and policy_name(opened["project"], opened["principal"]) == name
    )


def _quoted(capabilities: str) -> str:
    return ", ".join(f'"{name}"' for name in capabilities.split())
