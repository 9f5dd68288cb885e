"""A complete example lab: a repository, servers, data, and people with different rights.

Every step can be done again, so that a demo that was killed goes on from there, and one that is complete
stays as it is. The copy's last file is ``djops.yaml``: a directory that has it was copied whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from djops.compile.rights import Rights, compile_rights
from djops.errors import ConfigError
from djops.model.project import Project
from djops.services import access, lab, schemas
from djops.services.project import load
from djops.systems.files import disk_errors, write_private
from djops.systems.progress import Progress, Silent

DEFAULT_DIRECTORY = "demo-lab"
PROJECT_FILE = "djops.yaml"
POPULATE = "populate"
"""The module that enters and computes the demo's data."""

_LEFT_OUT = re.compile(r"__pycache__|\.pyc$")
_BESIDE = re.compile(r"\..+\.[0-9a-f]{8}$")
"""What :func:`djops.systems.files.write_private` calls a file that is not whole yet."""


@dataclass(frozen=True)
class Person:
    """One of the demo's people.

    Attributes:
        name: Account name.
        grants: What the project file gives, as ``analyst on ephys``.
        reads: Schemas whose rows and objects the person reads.
        writes: Schemas the person can also change.
    """

    name: str
    grants: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Demo:
    """A demo that is up.

    Attributes:
        directory: The repository.
        project: Name of the project.
        copied: Whether files were copied now.
        servers: Its servers.
        schemas: Its schemas, parents before children.
        people: Its people.
        changes: How many changes of rights were made now.
    """

    directory: Path
    project: str
    copied: bool
    servers: tuple[lab.ServerUp, ...]
    schemas: tuple[schemas.SchemaInfo, ...]
    people: tuple[Person, ...]
    changes: int


def run(directory: Path, progress: Progress | None = None, lock_wait: float = 30) -> Demo:
    """Make the demo, or what is missing of it.

    Args:
        directory: Where the repository shall be; made when it does not exist.
        progress: Hears about each step.
        lock_wait: Seconds to wait for another djops.

    Returns:
        What there is now.

    Raises:
        ConfigError: ``E_DEMO_DIRECTORY`` when the directory holds something else.
        DjopsError: A server could not be brought up, or the pipeline failed.
    """
    told = progress or Silent()
    with told.step("Copying the demo pipeline") as step:
        copied = copy(directory)
        step.note(str(directory) if copied else "already there")
    project_file = (directory / PROJECT_FILE).resolve()
    loaded = load(project_file)
    up = lab.up(loaded.project, progress=told, lock_wait=lock_wait)
    with access.opened(loaded) as (servers, wanted):
        schemas.require_power(servers, wanted)
        with told.step("Declaring and populating the pipeline") as step:
            module = f"{loaded.project.pipeline.package}.{POPULATE}"
            schemas.declare(servers.site, wanted, module, heard=step.note)
        with servers.changing("demo", lock_wait):
            missing = [table for info in schemas.survey(servers, wanted) for table in info.missing_job_tables]
            synced = schemas.sync(servers, wanted, tuple(missing), told)
        info = schemas.survey(servers, wanted)
    rights = compile_rights(loaded.project, loaded.graph, wanted.roles, wanted.today)
    return Demo(
        directory=directory,
        project=loaded.project.project,
        copied=copied,
        servers=up.servers,
        schemas=info,
        people=tuple(_people(loaded.project, rights, [schema.name for schema in info])),
        changes=len(synced.applied.done),
    )


def _people(project: Project, rights: Rights, order: list[str]) -> Iterator[Person]:
    for name, person in project.people.items():
        grants = tuple(f"{grant.role} on {', '.join(grant.on)}" for grant in person.grants)
        may = {schema: {str(c) for c in rights.capabilities(name, schema)} for schema in order}
        reads = tuple(schema for schema in order if "read" in may[schema])
        writes = tuple(schema for schema in order if may[schema] - {"read", "reference"})
        yield Person(name, grants, reads, writes)


# The repository


def copy(directory: Path) -> bool:
    """Copy the demo's repository.

    Args:
        directory: Where to; made when it does not exist.

    Returns:
        Whether anything had to be copied: a whole copy stays as its owner changed it.

    Raises:
        ConfigError: ``E_DEMO_DIRECTORY`` when the directory holds something else.
    """
    shipped = dict(_shipped(directory))
    if (directory / PROJECT_FILE).exists():
        _require_demo(directory)
        return False
    _require_nothing_else(directory, shipped)
    try:
        for path, content in sorted(shipped.items(), key=lambda item: item[0].name == PROJECT_FILE):
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with disk_errors(target):
                write_private(target, content, mode=0o644)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(
            f"the demo cannot be copied there: {error.strerror}",
            where=str(error.filename or directory),
            code="E_DEMO_DIRECTORY",
            hint="name another directory",
        ) from error
    return True


def _shipped(directory: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    for path, file in _walk(files("djops") / "demo_pipeline", PurePosixPath()):
        content = file.read_bytes()
        if path.name == PROJECT_FILE:
            named = f"project: {project_name(directory)}\n".encode()
            content = re.sub(rb"^project: .*\n", named, content, count=1, flags=re.MULTILINE)
        yield path, content


def _walk(folder: Traversable, base: PurePosixPath) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for entry in folder.iterdir():
        if _LEFT_OUT.search(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(entry, base / entry.name)
        else:
            yield base / entry.name, entry


def project_name(directory: Path) -> str:
    """Name the project after its directory, in the characters a project's name may have."""
    name = re.sub(r"[^a-z0-9_]+", "_", directory.resolve().name.lower()).strip("_")
    return (name if name[:1].isalpha() else f"demo_{name}".rstrip("_"))[:31]


def _require_demo(directory: Path) -> None:
    project = load(directory / PROJECT_FILE).project
    package = directory / project.pipeline.path / project.pipeline.package
    if not (package / f"{POPULATE}.py").is_file():
        raise _occupied(directory, f"its {PROJECT_FILE} is another project's")


def _require_nothing_else(directory: Path, shipped: dict[PurePosixPath, bytes]) -> None:
    """Allow an empty directory, and what a killed copy left."""
    if not directory.is_dir():
        if directory.exists() or directory.is_symlink():
            raise _occupied(directory, "it is no directory")
        return
    for path in sorted(directory.rglob("*")):
        known = shipped.get(PurePosixPath(path.relative_to(directory).as_posix()))
        if path.is_dir() or _BESIDE.match(path.name):
            continue
        if known is None or path.read_bytes() != known:
            raise _occupied(directory, f"it holds {path.relative_to(directory)}")


def _occupied(directory: Path, why: str) -> ConfigError:
    return ConfigError(
        f"this directory is not the demo's: {why}",
        where=str(directory),
        code="E_DEMO_DIRECTORY",
        hint="name another directory: djops demo DIR",
    )
