"""``djops demo``."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from djops.cli import common

if TYPE_CHECKING:
    from djops.services.demo import Demo


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default="demo-lab")
@common.changing
def command(out: common.Output, directory: Path) -> None:
    """Make a complete example lab in DIRECTORY: servers, a pipeline with data, people with rights.

    It may be run again at any time, and does what is missing.
    """
    from djops.services import demo

    result = demo.run(out.directory / directory, out.progress, out.lock_wait)
    data = {
        "directory": result.directory.resolve(),
        "project": result.project,
        "servers": result.servers,
        "schemas": result.schemas,
        "people": result.people,
        "changes": result.changes,
        "next": next_commands(result),
    }
    out.emit(data, lambda: _show(result))


def next_commands(result: Demo) -> list[str]:
    """Return three commands worth trying next, as they can be typed here."""
    here = result.directory
    home = here / "alice"
    djops, python = _typed(sys.argv[0], Path.cwd()), _typed(sys.executable, home)
    show = "from my_pipeline import ephys; print(ephys.Spikes())"
    return [
        f"{djops} credentials alice --to {home} -C {here}",
        f'(cd {home} && PYTHONPATH=../src {python} -c "{show}")',
        f"{djops} grant alice viewer imaging -C {here}",
    ]


def _typed(program: str, directory: Path) -> str:
    """Return the shortest way to type a program in a directory, when the shell is here now."""
    path = Path(program)
    found = shutil.which(path.name)
    if found is not None and Path(found).absolute() == path.absolute():
        return path.name
    if path.absolute().is_relative_to(Path.cwd()):
        return os.path.relpath(path.absolute(), directory.absolute())
    return str(path.absolute())


def _show(result: Demo) -> str:
    from djops.report.table import table

    servers = [(server.title, server.endpoint, server.version) for server in result.servers]
    every = {schema.name for schema in result.schemas}

    def named(schemas: tuple[str, ...]) -> str | None:
        return "everything" if every.issubset(schemas) else ", ".join(schemas) or None

    people = [
        (person.name, "; ".join(person.grants), named(person.writes), named(person.reads))
        for person in result.people
    ]
    return "\n".join(
        [
            f"The lab of project {result.project} is up; its repository is {result.directory}.",
            "",
            table(("server", "endpoint", "version"), servers),
            "",
            table(("person", "holds", "adds to", "reads"), people),
            "",
            "Try next:",
            *(f"  {command}" for command in next_commands(result)),
        ]
    )
