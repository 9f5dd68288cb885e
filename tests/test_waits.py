"""Nobody waits without an end: a wait says how long it may take, or stands here with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("djops", "tests", "crash", "bench")

THREADS = "its threads send requests, each of which has an end of its own"
ENDLESS = {
    "djops/cli/tunnel.py: way.wait()": "a tunnel is there until somebody ends it",
    "djops/services/access.py: reading_s3.result()": THREADS,
    "djops/services/access.py: reading_secrets.result()": THREADS,
    "djops/services/evidence.py: reading.result()": THREADS,
    "djops/services/lab.py: future.result()": "its threads wait for servers as long as is said there",
    "djops/systems/clients.py: child.wait()": "the user's own program takes as long as it takes",
    "djops/systems/s3.py: one.result()": THREADS,
    "djops/systems/vault.py: policies.result()": THREADS,
    "crash/points.py: os.waitpid(child, 0)": "the child is killed when it takes too long",
    "tests/test_secrets_stay.py: os.waitpid(child, 0)": "the child was killed",
}
"""Waits without an end, and why they are right."""

# How many arguments a call may have that do not say how long.
_WAITS = {"wait": 0, "join": 0, "result": 0, "communicate": 1}
_RUNS = {"run", "call", "check_call", "check_output"}


def endless(source: str, *, programs: bool) -> Iterator[str]:
    """Yield the waits of a module that may take for ever.

    Args:
        source: Its text.
        programs: Whether ``subprocess.run`` counts too; what tests run ends with the test.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        bounded = any(keyword.arg in ("timeout", None) for keyword in node.keywords)
        waits = name in _WAITS and len(node.args) <= _WAITS[name]
        runs = programs and owner == "subprocess" and name in _RUNS
        locks = name in ("flock", "lockf") and not any("LOCK_NB" in ast.unparse(one) for one in node.args)
        if ((waits or runs) and not bounded) or (owner, name) == ("os", "waitpid") or locks:
            yield ast.unparse(node)


def modules() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_every_wait_has_an_end_or_a_reason() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {wait}"
        for path in modules()
        for wait in endless(path.read_text(), programs=path.is_relative_to(ROOT / "djops"))
    }
    assert found - ENDLESS.keys() == set(), "say how long it may take"
    assert ENDLESS.keys() - found == set(), "these are gone"


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("child.wait()", 1),
        ("child.wait(5)", 0),
        ("child.wait(timeout=5)", 0),
        ("child.communicate(b'x')", 1),
        ("child.communicate(b'x', timeout=5)", 0),
        ("thread.join()", 1),
        ("', '.join(names)", 0),
        ("future.result()", 1),
        ("os.waitpid(child, 0)", 1),
        ("subprocess.run(['true'], check=True)", 1),
        ("subprocess.run(['true'], timeout=5)", 0),
        ("fcntl.flock(file, fcntl.LOCK_EX)", 1),
        ("fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)", 0),
    ],
)
def test_a_wait_without_an_end_is_seen(source: str, count: int) -> None:
    assert len(list(endless(source, programs=True))) == count
