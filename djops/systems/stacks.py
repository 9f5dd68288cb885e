"""The Pulumi programs that djops ships: how Python finds their pure parts, which need no Pulumi."""

from __future__ import annotations

import functools
import sys
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
