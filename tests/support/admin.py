"""The administrators of servers that are already there, who do what a page of the documents shows."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.cli import PROGRAM

ROOT = Path(__file__).parents[2]
AWS = ROOT / "tests" / "support" / "aws_command.py"


def block(page: str, language: str, heading: str = "") -> str:
    """Return the only block of a language on a page, or below one of its headings."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    part = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0] if heading else text
    (found,) = re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)
    return str(found)


def as_root(repository: Path, system: str, script: str, directory: Path) -> str:
    """Run a script with the root credentials of a lab's server, and return what it prints.

    ``mysql`` is MySQL's own client; ``aws`` is :mod:`tests.support.aws_command`.
    """
    programs = directory / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "aws").write_text(f'#!/bin/sh\nexec {sys.executable} {AWS} "$@"\n')
    (programs / "aws").chmod(0o755)
    path = f'export PATH="{programs}:$PATH"\n'
    command = [str(PROGRAM), "connect", system, "-C", str(repository), "--", "bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*command, path + script], cwd=directory, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def replaced(text: str, words: Mapping[str, str]) -> str:
    """Put a reader's own names where the page has its examples; each must be there."""
    for old, new in words.items():
        assert old in text
        text = text.replace(old, new)
    return text
