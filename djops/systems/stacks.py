"""The Pulumi programs that djops ships: how Python finds their pure parts, which need no Pulumi."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

from djops.systems.resources import shipped


@functools.cache
def use_stacks() -> Path:
    """Let Python find the package ``cloud`` of ``stacks/``, whose programs do not know djops.

    Returns:
        The folder.

    Raises:
        InstallError: ``E_INSTALL`` when the installation is not whole.
    """
    folder = shipped("stacks")
    # Last: nothing of the stacks shall come before what is installed.
    sys.path.append(str(folder))
    return folder


@dataclass(frozen=True)
class StackNames:
    """What an environment is called in AWS.

    Attributes:
        stack: Its database, and the first part of its log bucket's name.
        manager: The IAM user that the access layer works as.
    """

    stack: str
    manager: str


def stack_names(project: str, environment: str) -> StackNames:
    """Return the names that the stacks give to an environment's things.

    Args:
        project: Name of the project.
        environment: Name of the environment.
    """
    use_stacks()
    from cloud import names

    return StackNames(names.stack_name(project, environment), names.manager_name(project, environment))
