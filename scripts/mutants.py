"""Sabotage djops in small ways, one at a time, and tell which test catches each.

    python scripts/mutants.py [NAME...]    all, or those whose name holds one of the words

Each mutant is made in a copy of the checkout; the tests that need no server, or
the file a mutant names, run there until one fails.
Exit status: 0 all are caught, 1 one is not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
LIST = ROOT / "tests" / "mutants" / "mutants.yaml"
COPIED = ("djops", "tests", "crash", "policies", "stacks", "docs", "pyproject.toml")
SUITE = ("tests/compile", "tests/plan", "tests/model/test_teams.py")


def mutants() -> Sequence[Mapping[str, str]]:
    """Return the list of sabotages."""
    found: Sequence[Mapping[str, str]] = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return found


def sabotage(text: str, mutant: Mapping[str, str]) -> str:
    """Return a source text with the sabotage in it.

    Raises:
        ValueError: The place does not stand exactly once in the text.
    """
    if text.count(mutant["find"]) != 1:
        raise ValueError(
            f"{mutant['name']}: {text.count(mutant['find'])} places in {mutant['file']}, not one"
        )
    return text.replace(mutant["find"], mutant["put"])


def first_failure(copy: Path, suite: Sequence[str]) -> str | None:
    """Run the tests in a copy and return the first that fails, or ``None``."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *suite]
    # The copy stands first on the path, before the checkout that is installed.
    environment = {**os.environ, "PYTHONPATH": str(copy), "HYPOTHESIS_PROFILE": "hasty"}
    # What was compiled before a sabotage of the same second and length would be taken for it.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, env=environment)
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return failed[1] if failed else None if done.returncode == 0 else "the run itself"


def nearest_first(file: str) -> Sequence[str]:
    """Return the tests that need no server, those of one source file first: they mostly catch it."""
    folder, _, name = file.rpartition("/")
    own = f"tests/{folder}/test_{name}"
    return [own, *SUITE] if (ROOT / own).exists() else SUITE


def caught_by(mutant: Mapping[str, str], copy: Path) -> str | None:
    """Return the test that fails with the sabotage, or ``None``."""
    file = copy / "djops" / mutant["file"]
    before = file.read_text(encoding="utf-8")
    file.write_text(sabotage(before, mutant), encoding="utf-8")
    try:
        return first_failure(copy, [mutant["tests"]] if "tests" in mutant else nearest_first(mutant["file"]))
    finally:
        file.write_text(before, encoding="utf-8")


def main(words: Sequence[str]) -> int:
    """Try the mutants and tell what catches each."""
    chosen = [m for m in mutants() if not words or any(word in m["name"] for word in words)]
    if not chosen:
        print(f"no mutant's name has {' or '.join(words)} in it", file=sys.stderr)
        return 2
    survivors = []
    with tempfile.TemporaryDirectory(prefix="djops-mutants-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        suites = {*SUITE, *(mutant["tests"] for mutant in chosen if "tests" in mutant)}
        if broken := first_failure(copy, sorted(suites)):
            print(f"{broken} fails without any sabotage")
            return 1
        for mutant in chosen:
            began = time.monotonic()
            test = caught_by(mutant, copy)
            print(
                f"{time.monotonic() - began:5.1f} s  {mutant['name']:<45}  {test or 'NOT CAUGHT'}", flush=True
            )
            survivors += [] if test else [mutant["name"]]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
