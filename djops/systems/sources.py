"""The pipeline's source files, read without running them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from djops.errors import ConfigError, PipelineError
from djops.model.symbols import SourceFile
from djops.systems.projectfile import read_text, shown

MAX_FILE = 2 << 20
MAX_FILES = 5000
SKIPPED = frozenset(
    {"__pycache__", "tests", "test", "venv", "env", "node_modules", "site-packages", "build", "dist"}
)


def read_package(root: Path, package: str) -> dict[str, SourceFile]:
    """Read every module of a package.

    Args:
        root: The folder that holds the package, or its top-level package.
        package: The package's importable name.

    Returns:
        The modules by full name.

    Raises:
        PipelineError: ``E_NO_PACKAGE`` when there is none; ``E_ENCODING`` for a file that is not UTF-8;
            ``E_TOO_MUCH`` for more than a pipeline has.
    """
    folder = root.joinpath(*package.split("."))
    single = folder.with_suffix(".py")
    if not folder.is_dir() and single.is_file():
        return {package: SourceFile(_read(single), shown(single))}
    if not folder.is_dir():
        raise PipelineError(
            f"there is no package {package!r} in {shown(root)}",
            where=shown(folder),
            code="E_NO_PACKAGE",
            hint=_packages_hint(root),
        )
    found: dict[str, SourceFile] = {}
    for path in _python_files(folder, folder.resolve()):
        if len(found) >= MAX_FILES:
            raise PipelineError(
                f"the package has more than {MAX_FILES} modules",
                where=shown(folder),
                code="E_TOO_MUCH",
                hint="is `pipeline.path` the right folder?",
            )
        is_package = path.name == "__init__.py"
        parts = path.relative_to(folder).with_suffix("").parts[: -1 if is_package else None]
        found[".".join((package, *parts))] = SourceFile(_read(path), shown(path), is_package)
    return found


def _python_files(folder: Path, inside: Path) -> Iterator[Path]:
    """Yield the modules below a folder, in a stable order; links that lead out of it are not followed."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = Path(entry.path)
        if entry.name.startswith(".") or (entry.is_symlink() and not _stays(path, inside)):
            continue
        if entry.is_dir(follow_symlinks=False):
            is_environment = (path / "pyvenv.cfg").exists()
            if entry.name not in SKIPPED and entry.name.isidentifier() and not is_environment:
                yield from _python_files(path, inside)
        elif path.suffix == ".py" and path.stem.isidentifier() and entry.is_file():
            yield path


def _stays(link: Path, inside: Path) -> bool:
    return link.resolve().is_relative_to(inside)


def _read(path: Path) -> str:
    try:
        return read_text(path, MAX_FILE)
    except ConfigError as error:
        raise PipelineError(error.message, where=error.where, code="E_UNREADABLE", hint=error.hint) from error


def packages_in(root: Path) -> list[str]:
    """Return the names of the packages right below a folder.

    Args:
        root: The folder; it need not exist.
    """
    try:
        folders = [entry for entry in root.iterdir() if entry.is_dir()]
    except OSError:
        return []
    return sorted(
        one.name
        for one in folders
        if one.name.isidentifier() and one.name not in SKIPPED and (one / "__init__.py").is_file()
    )


def _packages_hint(root: Path) -> str:
    names = packages_in(root)
    if names:
        return f"there are these packages: {', '.join(names)}"
    return "`pipeline.path` is the folder that holds the package, relative to djops.yaml"
