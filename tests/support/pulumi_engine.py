"""Pulumi's own engine for the tests: its command line, built from source by ``scripts/pulumi_engine.py``.

The engine is an ordinary Go program. Programs run inside of the tests (the Automation API's inline programs),
so that Pulumi's language host, a program of its own, is not needed; the provider is the double in
``tests/support/aws_double``, which the engine attaches to instead of starting one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VERSION = "3.200.0"
"""The newest version of the engine's module that the module proxy serves."""


def engine() -> Path | None:
    """Return the folder of the engine, or ``None`` when nobody built it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("DJOPS_TEST_PULUMI") or cache / "djops-tests" / f"pulumi-{VERSION}")
    return folder if (folder / "pulumi").exists() else None


def use_engine(patch: pytest.MonkeyPatch, folder: Path, home: Path, provider: str) -> None:
    """Have Pulumi be found, keep its own files apart, and ask the double of AWS.

    Args:
        patch: Undoes it.
        folder: The engine's folder.
        home: Where Pulumi keeps its own files.
        provider: Address of the double.
    """
    patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("PULUMI_HOME", str(home))
    patch.setenv("PULUMI_DEBUG_PROVIDERS", f"aws:{provider.rpartition(':')[2]}")
    # What the double does is not worth asking the world for a newer version.
    patch.setenv("PULUMI_SKIP_UPDATE_CHECK", "true")
