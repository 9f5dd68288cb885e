"""Rights as OpenBao or Vault policies: each principal reads its own credentials and nothing else."""

from __future__ import annotations

from djops.compile.rights import Rights
from djops.compile.secrets_state import SecretsState
from djops.model.project import Project

MOUNT = "djops"
"""The KV version 2 mount that holds everything djops keeps."""

DATABASE = "djops-database"
"""The mount of the database engine, which makes services' short-lived credentials."""

LOGINS = "auth/userpass/users"
"""Where log-ins with a password are, where people have them; each is called as the policy that it gives."""

_CREDS = {"dynamic": "creds", "static": "static-creds"}


def secret_path(project: Project, principal: str) -> str:
    """Return where a principal's credentials lie below the mount."""
    section = "people" if principal in project.people else "services"
    return f"{project.project}/{section}/{principal}"


def policy_name(project: str, principal: str) -> str:
    """Return the name of a principal's policy; the servers keep policy names in lower case."""
    return f"djops-{project}-{principal}".lower()


def policy_text(path: str) -> str:
    """Write the policy that opens one secret, for reading only.

    Args:
        path: The secret's path below the mount.

    Returns:
        The policy in HCL.
    """
    return f'path "{MOUNT}/data/{path}" {{\n  capabilities = ["read"]\n}}\n'


def creds_path(project: str, service: str, kind: str) -> str:
    """Return the API path at which a service gets database credentials from the engine.

    Args:
        project: Name of the project.
        service: The service.
        kind: ``dynamic`` or ``static``.
    """
    return f"{DATABASE}/{_CREDS[kind]}/{policy_name(project, service)}"


def _engine_rules(project: str, service: str, kind: str) -> str:
    """Write what a service needs that gets its credentials from the engine: them, and to keep its log-in."""
    rules = {creds_path(project, service, kind): "read", **_OWN_TOKEN}
    return "".join(f'path "{path}" {{\n  capabilities = ["{may}"]\n}}\n' for path, may in rules.items())


_OWN_TOKEN = {
    "auth/token/lookup-self": "read",
    "auth/token/renew-self": "update",
    "auth/token/revoke-self": "update",
    "sys/leases/renew": "update",
}
"""A lease is renewed by whoever knows its id, which is random, and ends with the token it was made with."""


def compile_vault(project: Project, rights: Rights) -> SecretsState:
    """Compile the principals to what the secrets server should hold.

    Args:
        project: The project.
        rights: The compiled rights, for the principals.

    Returns:
        One policy for each principal, and which secrets exist; their values are made when needed.
    """
    policies: dict[str, str] = {}
    secrets: dict[str, dict[str, str]] = {}
    for principal in rights.principals:
        path = secret_path(project, principal)
        text = policy_text(path)
        service = project.services.get(principal)
        if service is not None and service.credentials.type != "kept":
            text += _engine_rules(project.project, principal, service.credentials.type)
        policies[policy_name(project.project, principal)] = text
        secrets[path] = {}
    return SecretsState(policies, secrets)
