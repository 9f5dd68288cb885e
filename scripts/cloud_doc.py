"""Writes what djops and Pulumi's engine really answer into docs/cloud.md.

Usage: ``.venv/bin/python scripts/cloud_doc.py``

The tests of docs/cloud.md's worked example lead the life that it tells of, on Pulumi's own engine where it is
built (``scripts/pulumi_engine.py``), and compare each answer with the page; here they write it instead. Only
the parts between ``<!-- shown: NAME -->`` and ``<!-- end -->`` are written.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "cloud.md"
WRITE = "DJOPS_WRITE_CLOUD_DOC"
"""Set in the environment, the tests write the page."""

TESTS = ("tests/test_cloud_doc.py", "tests/services/test_cloud.py")

VARYING = (
    (re.compile(r"\bi-[0-9a-f]{17}\b"), "i-0123456789abcdef0"),
    (re.compile(r"\bvol-[0-9a-f]{17}\b"), "vol-0123456789abcdef0"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "01234567-89ab-cdef-0123-456789abcdef"),
    (re.compile(r"(:secret:\S+)-\w{6}\b"), r"\1-AbCdEf"),
    (re.compile(r"\bip-10-40-\d+-\d+\b"), "ip-10-40-0-4"),
)
"""What AWS chooses, and what stands for it."""


def settled(text: str) -> str:
    """Return an answer without what differs from run to run.

    Args:
        text: The answer.
    """
    for pattern, instead in VARYING:
        text = pattern.sub(instead, text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def shown(page: str, name: str) -> str:
    """Return what the page shows under a name.

    Args:
        page: The page.
        name: The part's name.

    Raises:
        LookupError: It has no such part.
    """
    found = _part(name).search(page)
    if found is None:
        raise LookupError(f"{DOCUMENT.name} has no place for {name!r}")
    return found["text"].rstrip("\n")


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with another text under a name.

    Args:
        page: The page.
        name: The part's name.
        text: What it shall show.
    """
    shown(page, name)
    return _part(name).sub(lambda found: f"{found['begin']}{settled(text)}\n{found['end']}", page)


def _part(name: str) -> re.Pattern[str]:
    begin = rf"<!-- shown: {re.escape(name)} -->\n```\n"
    return re.compile(rf"(?P<begin>{begin})(?P<text>.*?)(?P<end>```\n<!-- end -->\n)", re.DOTALL)


def names(page: str) -> list[str]:
    """Return the names of all parts.

    Args:
        page: The page.
    """
    return re.findall(r"<!-- shown: (.+?) -->", page)


def main() -> int:
    """Have the tests write the page; returns their exit status."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, WRITE: "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
