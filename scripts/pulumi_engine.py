"""Build Pulumi's engine for the tests: its command line, an ordinary Go program, from the module proxy.

    python scripts/pulumi_engine.py

Where Go is on the machine; a quarter of an hour on two cores the first time, 80 MB, kept outside of the
repository where ``tests/support/pulumi_engine.py`` looks for it. The module proxy serves the engine's module
(``github.com/pulumi/pulumi/pkg/v3``) at some versions only: 3.100.0 and 3.200.0 answered; 3.240.0, 3.272.0
and 3.273.0 answered "403 Forbidden: This module version is not available" (2026-11-21).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "3.200.0"
"""As in ``tests/support/pulumi_engine.py``; a test holds them together."""

MODULE = f"""\
module example.invalid/engine

go 1.24

require (
	github.com/pulumi/pulumi/pkg/v3 v{VERSION}
	github.com/pulumi/pulumi/sdk/v3 v{VERSION}
)
"""


def main() -> None:
    """Build it unless it is there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made = cache / "djops-tests" / f"pulumi-{VERSION}" / "pulumi"
    if made.exists():
        print(made)
        return
    made.parent.mkdir(parents=True, exist_ok=True)
    version = f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={VERSION}"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "go.mod").write_text(MODULE)
        beside = made.with_suffix(".new")
        command = ["go", "build", "-mod=mod", "-trimpath", "-ldflags", f"-s -w {version}", "-o", str(beside)]
        done = subprocess.run(
            [*command, "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"], cwd=folder, check=False
        )
        if done.returncode != 0:
            sys.exit("the engine could not be built; the tests use the stand-in")
        beside.replace(made)
    print(made)


if __name__ == "__main__":
    main()
