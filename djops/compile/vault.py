"""Rights as OpenBao or Vault policies: each principal reads its own credentials and nothing else."""

from __future__ import annotations

from djops.compile import secrets_state as names
from djops.compile.rights import Rights
from djops.compile.secrets_state import KV_MOUNT, SecretsState
from djops.model.project import Project


def secret_of(project: Project, principal: str) -> str:
    """Return where a principal's credentials lie below the mount."""
    kind = names.PEOPLE if principal in project.people else names.SERVICES
    return names.secret_path(project.project, kind, principal)


def policy_text(project: str, path: str) -> str:
    """Write the policy that opens one secret, for reading only.

    Args:
        project: Whose policy it is.
        path: The secret's path below the mount.

    Returns:
        The policy in HCL, with the project's mark.
    """
    return f'{names.ownership_mark(project)}path "{KV_MOUNT}/data/{path}" {{\n  capabilities = ["read"]\n}}\n'


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
        path = secret_of(project, principal)
        policies[names.policy_name(project.project, principal)] = policy_text(project.project, path)
        secrets[path.removeprefix(f"{project.project}/")] = {}
    return SecretsState(policies, secrets)
