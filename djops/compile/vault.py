"""Rights as OpenBao or Vault policies: each principal reads its own credentials and nothing else."""

from __future__ import annotations

from djops.compile.rights import Rights
from djops.compile.secrets_state import SecretsState
from djops.model.project import Project

MOUNT = "djops"
"""The KV version 2 mount that holds everything djops keeps."""


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
        policies[policy_name(project.project, principal)] = policy_text(path)
        secrets[path] = {}
    return SecretsState(policies, secrets)
