"""The floors of the house: each module imports only from its own floor and those before it.

Read from the source, so imports inside functions count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "djops"

FLOORS = ["errors", "model", "compile", "plan", "proof", "systems", "services", "report", "cli"]
PURE = ["errors", "model", "compile", "plan", "proof"]

# What touches the world, or brings in a library that does.
IMPURE = {
    "asyncio", "boto3", "botocore", "datajoint", "fcntl", "getpass", "glob", "hvac", "http", "io", "logging",
    "multiprocessing", "os", "pathlib", "pwd", "pymysql", "random", "requests", "secrets", "select", "shutil",
    "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
# Pure parts of modules that also do I/O.
ALLOWED = {("pathlib", "PurePath"), ("pathlib", "PurePosixPath")}
# Calls that read the world without an import, or the clock.
IMPURE_CALLS = {"open", "input", "print", "exec", "eval", "breakpoint", "today", "now", "utcnow"}
EXITS = {("sys", "exit"), ("os", "_exit"), ("os", "abort")}

# The example pipeline is a user's project that the package carries; a child process runs its own script.
SKIPPED = {"demo_pipeline", "_shipped"}
PRINTS_BY_PURPOSE = {"systems/pipeline_runner.py", "systems/client_probe.py", "systems/pulumi_install.py"}


def sources() -> list[Path]:
    return [
        path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in SKIPPED
    ]


def short(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def floor_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str | None]]:
    """Yield line, module and imported name of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield from ((node.lineno, node.module or "", alias.name) for alias in node.names)


def floor_named(module: str, name: str | None) -> str | None:
    parts = module.split(".")
    if parts[0] != "djops":
        return None
    return parts[1] if len(parts) > 1 else name


def upward(path: Path, tree: ast.AST) -> Iterator[str]:
    mine = FLOORS.index(floor_of(path))
    for line, module, name in imports(tree):
        floor = floor_named(module, name)
        if floor in FLOORS and FLOORS.index(floor) > mine:
            yield f"{short(path)}:{line} imports {module}, which is above its floor"


def impure(path: Path, tree: ast.AST) -> Iterator[str]:
    for line, module, name in imports(tree):
        if module.split(".")[0] in IMPURE and (module, name) not in ALLOWED:
            yield f"{short(path)}:{line} imports {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else None
            name = node.func.attr if isinstance(node.func, ast.Attribute) else name
            if name in IMPURE_CALLS:
                yield f"{short(path)}:{node.lineno} calls {name}()"


def prints_or_exits(path: Path, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "exit", "quit")
        ):
            yield f"{short(path)}:{node.lineno} calls {node.func.id}()"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in EXITS:
                yield f"{short(path)}:{node.lineno} uses {node.value.id}.{node.attr}"
            if (node.value.id, node.attr) in (("sys", "stdout"), ("sys", "stderr")):
                yield f"{short(path)}:{node.lineno} uses {node.value.id}.{node.attr}"
        if isinstance(node, ast.Raise) and node.exc and ast.unparse(node.exc).startswith("SystemExit"):
            yield f"{short(path)}:{node.lineno} raises SystemExit"
        if isinstance(node, ast.Import | ast.ImportFrom) and "click" in ast.unparse(node).split():
            yield f"{short(path)}:{node.lineno} imports click"


@pytest.mark.parametrize("path", sources(), ids=short)
def test_each_module_keeps_to_its_floor(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if path.parent != PACKAGE or floor_of(path) in FLOORS:
        assert floor_of(path) in FLOORS, f"{short(path)} stands on no floor"
        assert not list(upward(path, tree))
    if floor_of(path) in PURE:
        assert not list(impure(path, tree))
    if floor_of(path) != "cli" and short(path) not in PRINTS_BY_PURPOSE:
        assert not list(prints_or_exits(path, tree))


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("model/x.py", "def f():\n    from djops.services import lab\n"),
        ("compile/x.py", "from djops import plan\n"),
        ("systems/x.py", "import djops.cli.main\n"),
        ("plan/x.py", "import os.path\n"),
        ("model/x.py", "from pathlib import Path\n"),
        ("model/x.py", "import datetime as dt\ntoday = dt.date.today()\n"),
        ("errors.py", "open('x')\n"),
        ("services/x.py", "def f():\n    print('x')\n"),
        ("report/x.py", "import sys\nsys.exit(1)\n"),
        ("services/x.py", "raise SystemExit\n"),
        ("services/x.py", "import click\n"),
    ],
)
def test_a_breach_is_seen(place: str, source: str) -> None:
    path, tree = PACKAGE / place, ast.parse(source)
    pure = list(impure(path, tree)) if floor_of(path) in PURE else []
    assert [*upward(path, tree), *pure, *prints_or_exits(path, tree)]


def test_the_pure_parts_are_allowed() -> None:
    source = "from pathlib import PurePosixPath\nimport datetime, re\nfrom djops.errors import DjopsError\n"
    path, tree = PACKAGE / "compile/x.py", ast.parse(source)
    assert not [*upward(path, tree), *impure(path, tree), *prints_or_exits(path, tree)]
