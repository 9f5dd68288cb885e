"""A pipeline of a consortium with a lab to itself: people, schemas and tables by number."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest import mock

from bench.plan import make_tables, write_project
from bench.up import djops, purge
from djops.compile.mysql import Inventory
from djops.compile.mysql_state import MysqlState
from djops.compile.s3 import S3State
from djops.compile.secrets_state import SecretsState
from djops.compile.sql import quote_account
from djops.model.graph import TableName
from djops.plan.change import Change, Plan
from djops.plan.operations import SecretRef, Sql
from djops.plan.schedule import schedule
from djops.services import access, project
from djops.services.servers import Servers
from djops.systems.local.mysql import clients
from djops.systems.mysql import Mysql

TABLES = ("session", "_recording", "_recording__channel", "__result", "~lineage", "~~recording", "~~result")


@dataclass(frozen=True)
class Consortium:
    """Where it is, and how large.

    Attributes:
        directory: The folder of the project file.
        people: How many people, each with three grants.
        schemas: How many schemas, with seven tables each.
    """

    directory: Path
    people: int
    schemas: int

    @property
    def project_file(self) -> Path:
        """Its ``djops.yaml``."""
        return self.directory / "djops.yaml"

    @property
    def size(self) -> str:
        """How large it is, for people."""
        return f"{self.people:,} x {self.schemas}"

    def wanted(self) -> access.Wanted:
        """Read what is wanted, and the tables as if they were declared."""
        loaded = project.load(self.project_file)
        return access.Wanted.of(loaded.project, loaded.graph)

    def servers(self) -> Servers:
        """Connect."""
        with access.opened(project.load(self.project_file)) as (servers, _):
            return Servers(servers.site)


def written(place: Path, people: int, schemas: int) -> Consortium:
    """Write one without servers.

    Args:
        place: An empty directory.
        people: How many people.
        schemas: How many schemas.
    """
    write_project(place / "project", people, schemas)
    return Consortium(place / "project", people, schemas)


@contextmanager
def running(place: Path, people: int, schemas: int) -> Iterator[Consortium]:
    """Write one and bring its lab up, with all tables and nobody's rights.

    Args:
        place: An empty directory on the disk that labs live on.
        people: How many people.
        schemas: How many schemas.
    """
    os.environ["DJOPS_DATA_HOME"] = str(place / "data")
    found = written(place, people, schemas)
    djops(found.directory, os.environ, "up")
    try:
        make_tables(found.directory, schemas)
        yield found
    finally:
        purge(found.directory, os.environ)


def tables(wanted: access.Wanted) -> Inventory:
    """Return the tables as they are once they are declared.

    Args:
        wanted: What is wanted.
    """
    return Inventory(frozenset(TableName(s, t) for s in wanted.graph.schemas for t in TABLES))


def plan_from_empty(wanted: access.Wanted, servers: Servers | None = None) -> Plan:
    """Compile and compare with servers that hold nothing, asking none.

    Args:
        wanted: What is wanted.
        servers: Whose names count; any when not given.
    """
    graph, inventory = wanted.graph, tables(wanted)
    compiled = access.compile_all(wanted, "local", graph, inventory)
    nothing = access.Found(MysqlState(), graph, inventory, S3State(), SecretsState({}, {}))
    # Sessions that an earlier run left open are asked of the database.
    with mock.patch.object(access, "_still_open", lambda *_: []):
        return access.plan_of(servers or _Nowhere(), wanted, access.Standing(compiled, nothing))  # type: ignore[arg-type]


class _Nowhere:
    """In the place of servers, where only their names count."""

    class site:  # noqa: N801  as an attribute is called
        """What a plan looks at."""

        environment = "local"
        mysql_root = None

        class mysql:  # noqa: N801
            """The account that djops works as."""

            user = "djops"

        class project:  # noqa: N801
            """The project."""

            project = "djops_bench"
            services: Mapping[str, Any] = {}


def pieces(changes: Sequence[Change]) -> Iterator[tuple[Sql, tuple[int, ...]]]:
    """Yield the SQL of changes as an apply sends it, each with the numbers of the changes that it is about.

    Args:
        changes: The changes, in the order of the plan.
    """
    first = 0
    for _, phase in groupby(changes, key=lambda change: change.phase):
        together = tuple(phase)
        for piece in schedule(together):
            if isinstance(piece.operation, Sql):
                yield piece.operation, tuple(first + number for number in piece.changes)
        first += len(together)


def statements(changes: Sequence[Change], passwords: dict[str, str]) -> list[tuple[Sql, str]]:
    """Return the SQL of changes, with its text as the server gets it.

    Args:
        changes: The changes.
        passwords: Takes the passwords made up for it, by place.
    """

    def reveal(reference: SecretRef) -> str:
        return passwords.setdefault(reference.path, secrets.token_urlsafe(18))

    return [(one, one.render(reveal)) for one, _ in pieces(changes)]


def pipe(servers: Servers, script: Path) -> None:
    """Send a script through the mysql client.

    Args:
        servers: Where to.
        script: The statements.
    """
    link = servers.site.mysql
    options = script.with_suffix(".cnf")
    with os.fdopen(os.open(options, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f'[client]\nuser="{link.user}"\npassword="{link.password.reveal()}"\n')
    client = clients()["mysql"]
    where = [f"--host={link.host}", f"--port={link.port}", f"--ssl-ca={link.ca}", "--ssl-mode=VERIFY_CA"]
    with script.open() as source:
        subprocess.run([*client, f"--defaults-file={options}", *where], stdin=source, check=True)


def empty_database(servers: Servers) -> None:
    """Drop every account that the project made."""
    state = servers.mysql.read_state()
    mine = sorted(state.managed(servers.site.project.project))
    assert servers.site.mysql_root
    with Mysql(servers.site.mysql_root) as root:
        for start in range(0, len(mine), 500):
            names = ", ".join(quote_account(*name) for name in mine[start : start + 500])
            root.query(f"DROP USER {names}")
