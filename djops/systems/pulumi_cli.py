"""Pulumi's command line: found on PATH, or installed beside other programs by Pulumi's own installer."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from djops.errors import InstallError
from djops.systems.lock import locked
from djops.systems.paths import roots
from djops.systems.process import reap

if TYPE_CHECKING:
    from pulumi import automation

VERSION = "3.272.0"
"""The command line that is installed where there is none: the version of the SDK that was tested."""

OLDEST = (3, 181, 0)
"""Since then ``destroy`` and ``refresh`` run programs that are inside of another process."""

INSTALL_SECONDS = 900.0
"""How long the download may take: a hundred megabytes."""


def automation_api() -> Any:  # noqa: ANN401  the module
    """Return Pulumi's Automation API.

    Raises:
        InstallError: ``E_INSTALL`` when the SDK is not installed.
    """
    try:
        from pulumi import automation
    except ImportError:
        raise InstallError(
            "the target aws needs Pulumi's SDK, which is not installed",
            hint='pip install "djops[aws]"',
        ) from None
    # What a program still tries to tell an engine that has ended is no news to anybody.
    logging.getLogger("grpc._server").setLevel(logging.CRITICAL + 1)
    return automation


def command_line() -> automation.PulumiCommand:
    """Find Pulumi's command line on PATH, or install the pinned version.

    Returns:
        The program, of a version that can do what is asked of it.

    Raises:
        InstallError: ``E_PULUMI_CLI`` when there is none and it cannot be installed.
        LockedError: ``E_LOCKED`` when another djops is installing it for too long.
    """
    found = _usable(None, ".".join(map(str, OLDEST))) if shutil.which("pulumi") else None
    if found is not None:
        return found
    root = roots().programs / f"pulumi-{VERSION}"
    installed = _usable(root, VERSION)
    if installed is not None:
        return installed
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.parent / "pulumi.lock", "installing Pulumi", INSTALL_SECONDS):
        return _usable(root, VERSION) or _installed(root)


def _usable(root: Path | None, oldest: str) -> automation.PulumiCommand | None:
    """Return the program below a folder, or on PATH, when it runs and is new enough."""
    api = automation_api()
    from pulumi.automation.errors import InvalidVersionError
    from semver import VersionInfo

    with contextlib.suppress(InvalidVersionError, subprocess.CalledProcessError, OSError):
        found: automation.PulumiCommand = api.PulumiCommand(
            root=str(root) if root is not None else None, version=VersionInfo.parse(oldest)
        )
        return found
    return None


def _installed(root: Path) -> automation.PulumiCommand:
    """Install it beside its place, and put it there when it is whole."""
    fresh = root.with_name(f"{root.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        why = _fetch(fresh)
        if not why and _usable(fresh, VERSION) is not None:
            shutil.rmtree(root, ignore_errors=True)
            fresh.replace(root)
        found = _usable(root, VERSION)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if found is not None:
        return found
    raise InstallError(
        f"there is no Pulumi of version {'.'.join(map(str, OLDEST))} or newer on PATH, and {VERSION} "
        f"could not be installed: {why or 'what was installed does not run'}",
        where=str(root),
        code="E_PULUMI_CLI",
        hint="install it (https://www.pulumi.com/docs/install/), or let this machine reach get.pulumi.com "
        "(HTTPS_PROXY names a proxy), and run this again",
    )


def _fetch(root: Path) -> str:
    """Run Pulumi's installer; returns why it failed, nothing when it did not."""
    command = [sys.executable, "-m", "djops.systems.pulumi_install", str(root), VERSION]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = child.communicate(timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"the download did not end within {INSTALL_SECONDS:.0f} s"
    finally:
        if child.poll() is None:
            # The download itself is a program that this one started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            reap(child)
    lines = said.decode(errors="replace").strip().splitlines()
    return "" if child.returncode == 0 else (lines or ["its installer said nothing"])[-1]
