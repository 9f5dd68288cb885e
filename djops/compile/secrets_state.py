"""What the secrets server holds for one project, as plain data, and how djops names things there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

KV_MOUNT = "djops"
"""Path of the versioned key-value engine that holds every project's secrets."""

PEOPLE, SERVICES = "people", "services"

_MARK = re.compile(r"\A# managed by djops, project (?P<project>\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class SecretsState:
    """What the secrets server was seen to hold for one project.

    Attributes:
        policies: Text of each of the project's policies, by policy name.
        secrets: Non-secret facts (``custom_metadata``) of each stored secret that has a readable version,
            by its path under the project: ``people/alice``, ``services/nightly``.
    """

    policies: Mapping[str, str]
    secrets: Mapping[str, Mapping[str, str]]


def policy_prefix(project: str) -> str:
    """Return what the names of all the project's policies begin with.

    Args:
        project: Name of the project.
    """
    return f"djops-{project}-"


def policy_name(project: str, principal: str) -> str:
    """Name the policy of one principal.

    Args:
        project: Name of the project.
        principal: Account name of the person or service.

    Returns:
        A name in lower case, because the servers store policy names so: two principals whose names
        differ only in case would share one policy and must be refused before.
    """
    return f"{policy_prefix(project)}{principal}".lower()


def secret_path(project: str, kind: str, principal: str) -> str:
    """Say where a principal's credentials are, under the mount.

    Args:
        project: Name of the project.
        kind: :data:`PEOPLE` or :data:`SERVICES`.
        principal: Account name of the person or service.
    """
    return f"{project}/{kind}/{principal}"


def ownership_mark(project: str) -> str:
    """Return the first line of every policy of a project.

    Names alone do not tell whose a policy is: ``djops-a-b-c`` may be principal ``b-c`` of project ``a``
    or principal ``c`` of project ``a-b``.

    Args:
        project: Name of the project.
    """
    return f"# managed by djops, project {project}\n"


def owner_of(policy: str) -> str | None:
    """Tell which project a policy's mark names.

    Args:
        policy: The policy's text.

    Returns:
        The project, or ``None`` when there is no mark.
    """
    match = _MARK.match(policy)
    return match["project"] if match else None
