"""Names in AWS that an account, or the whole world, has only once: each carries project and environment.

Pure. What gets its name from Pulumi, or is inside of a VPC, needs nothing of this.
"""

from __future__ import annotations

import hashlib
import re

_STACK, _USER = 45, 64
"""Most characters: S3 allows 63, of which the log bucket takes 18 for the account; IAM 64 for a user."""


def stack_name(project: str, environment: str) -> str:
    """Name a set-up where only letters, digits and single hyphens are allowed: its database, its log bucket.

    Args:
        project: The project's name.
        environment: The stage.
    """
    joined = re.sub("[-_]+", "-", f"{project}-{environment}").strip("-")
    return _shortened(joined, _STACK, project, environment)


def manager_name(project: str, environment: str) -> str:
    """Name the IAM user that the access layer works as, and its policy.

    Args:
        project: The project's name.
        environment: The stage.
    """
    return _shortened(f"djops-manager-{project}-{environment}", _USER, project, environment)


def people_name(project: str, environment: str) -> str:
    """Name the permissions boundary of the users that the access layer makes.

    Args:
        project: The project's name.
        environment: The stage.
    """
    return _shortened(f"djops-people-{project}-{environment}", _USER, project, environment)


def _shortened(name: str, most: int, *parts: str) -> str:
    """Return a name, one that is too long with a digest of its parts in the place of its end."""
    if len(name) <= most:
        return name
    digest = hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]
    return f"{name[: most - 9].rstrip('-_')}-{digest}"
