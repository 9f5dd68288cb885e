"""Pulumi's own installer, in a process that can be ended: it downloads without a time limit of its own.

python -m djops.systems.pulumi_install ROOT VERSION
"""

from __future__ import annotations

import subprocess
import sys


def main(root: str, version: str) -> None:
    """Install a version of Pulumi's command line; why it cannot be done is the last line of standard error.

    Args:
        root: Where it goes: its programs into ``bin`` there.
        version: The version.
    """
    from pulumi.automation import PulumiCommand
    from semver import VersionInfo

    try:
        PulumiCommand.install(root=root, version=VersionInfo.parse(version))
    except subprocess.CalledProcessError as error:
        told = (error.output or b"").decode(errors="replace").strip().splitlines()
        sys.exit(told[-1] if told else f"its installer ended with status {error.returncode}")
    except OSError as error:
        sys.exit(f"https://get.pulumi.com does not answer: {getattr(error, 'reason', error)}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
