"""People and services: edit the project file and bring the servers along, in one step."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from djops.compile.rights import compile_rights, is_expired
from djops.errors import ApplyError, DjopsError
from djops.model import editing, leaving
from djops.model.editing import Edit
from djops.model.project import Grant, Principal
from djops.plan.change import Plan
from djops.services import access, project
from djops.services.access import Applied, Wanted
from djops.services.journal import Cause, note
from djops.services.project import Edited, Loaded
from djops.systems import projectfile
from djops.systems.journal import digest
from djops.systems.progress import Progress


@dataclass(frozen=True)
class Person:
    """What is known about a person or service.

    Attributes:
        name: Account name.
        kind: ``person`` or ``service``.
        email: How to reach a person.
        grants: Lines of the project file, in words.
        rights: Capabilities by schema, with what comes from closures.
    """

    name: str
    kind: str
    email: str | None
    grants: tuple[str, ...]
    rights: dict[str, tuple[str, ...]]


def granting(project_file: Path, who: str, grant: Grant) -> Edited:
    """Work out a grant.

    Args:
        project_file: The ``djops.yaml``.
        who: Account name.
        grant: What to give.

    Returns:
        The change of the project file, checked and not yet written.

    Raises:
        UsageError: An unknown name, or a grant that the role model refuses.
    """
    return project.edit(project_file, lambda loaded: editing.add_grant(loaded.project, who, grant))


def revoking(project_file: Path, who: str, role: str, on: Sequence[str]) -> Edited:
    """Work out a revocation.

    Args:
        project_file: The ``djops.yaml``.
        who: Account name.
        role: The role to take.
        on: Schemas, globs, or ``all``.

    Returns:
        The change of the project file, checked and not yet written.

    Raises:
        UsageError: An unknown name; ``E_NOT_GRANTED`` when there is nothing to take.
    """
    return project.edit(
        project_file,
        lambda loaded: editing.remove_grant(loaded.project, who, role, on, loaded.graph.schemas),
    )


def adding(project_file: Path, who: str, email: str | None, *, service: bool = False) -> Edited:
    """Work out a new person or service without rights.

    Args:
        project_file: The ``djops.yaml``.
        who: Account name.
        email: How to reach the person.
        service: Whether it is a service.

    Returns:
        The change of the project file, checked and not yet written.

    Raises:
        UsageError: ``E_EXISTS`` when the name is taken, or it cannot be an account name.
    """
    section: editing.Section = "services" if service else "people"
    return project.edit(
        project_file, lambda loaded: editing.add_principal(loaded.project, section, who, email)
    )


def removing(project_file: Path, who: str) -> Edited:
    """Work out the removal of a person or service, with account, keys, credentials and places in teams.

    Args:
        project_file: The ``djops.yaml``.
        who: Account name.

    Returns:
        The change of the project file, checked and not yet written.

    Raises:
        UsageError: ``E_UNKNOWN_PRINCIPAL``.
    """
    text = projectfile.read(project_file)

    def decide(loaded: Loaded) -> list[Edit]:
        teams = leaving.written_teams(text, projectfile.shown(project_file))
        return leaving.removal(loaded.project, who, teams)

    return project.edit(project_file, decide)


@contextmanager
def _unfinished_business(edited: Edited) -> Iterator[None]:
    """Say that the file already holds what was asked when carrying it out failed."""
    try:
        yield
    except DjopsError as error:
        if not edited.changed:
            raise
        raise ApplyError(
            error.message,
            where=error.where,
            hint=f"{error.hint}; " * bool(error.hint)
            + "djops.yaml says what was asked already; `djops apply` finishes it",
            code=error.code,
        ) from error


def carry_out(
    edited: Edited,
    environment: str | None,
    lock_wait: float,
    show: Callable[[Plan], None],
    progress: Progress | None = None,
    cause: Cause = Cause("edit"),  # noqa: B008  it cannot be changed
) -> Applied:
    """Write a change into the project file and bring the servers along.

    Args:
        edited: The change.
        environment: Name of the environment; ``None`` means the only one, or ``local``.
        lock_wait: Seconds to wait for another djops.
        show: Shows the plan; raises when it is not to be carried out, and then nothing was changed.
        progress: Who wants to know.
        cause: What stands in the journal.

    Returns:
        What was done on the servers.

    Raises:
        ConfigError: ``E_CHANGED`` when somebody else changed the file meanwhile.
        ApplyError: The file says what was asked, and the servers do not wholly hold it yet.
    """
    with (
        access.opened(edited.loaded, environment) as (servers, wanted),
        servers.changing(cause.command, lock_wait, reason=cause.reason, progress=progress),
    ):
        plan = access.make_plan(servers, wanted)
        show(plan)
        if edited.changed and plan.is_empty:
            note(servers.journal, cause, file=digest(edited.loaded.project_file))
        project.save(edited, edited.loaded.project_file)
        with _unfinished_business(edited):
            return access.apply(servers, plan, progress)


def people(loaded: Loaded, today: dt.date | None = None) -> tuple[Person, ...]:
    """List people and services with what they may do.

    Args:
        loaded: The checked project.
        today: The day on which grants are judged; this day (UTC) unless given.

    Returns:
        People, then services, each in the file's order.
    """
    wanted = Wanted.of(loaded.project, loaded.graph, today)
    rights = compile_rights(loaded.project, loaded.graph, wanted.roles, wanted.today)
    found = []
    for kind, principals in (("person", loaded.project.people), ("service", loaded.project.services)):
        for name, principal in principals.items():
            by_schema: dict[str, list[str]] = {schema: [] for schema in wanted.graph.order}
            for right in rights.by_principal[name]:
                if right.capability not in by_schema[right.schema]:
                    by_schema[right.schema].append(right.capability)
            may = {schema: tuple(sorted(names)) for schema, names in by_schema.items() if names}
            found.append(Person(name, kind, principal.email, _in_words(principal, wanted.today), may))
    return tuple(found)


def _in_words(principal: Principal, today: dt.date) -> tuple[str, ...]:
    lines = []
    for grant in principal.grants:
        line = f"{grant.role} on {', '.join(grant.on)}"
        line += ", cascading" if grant.cascade else ""
        if grant.until is not None:
            line += f", ended {grant.until}" if is_expired(grant, today) else f", until {grant.until}"
        lines.append(line + (f" ({grant.reason})" if grant.reason else ""))
    return tuple(lines)
