"""People who arrive: into the project file, onto the servers, and a welcome for each."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from djops.errors import ConfigError, DjopsError, ManyErrors, UsageError, Where
from djops.model import editing, loading
from djops.model.editing import Edit, SetValue
from djops.model.nearest import advice
from djops.model.project import PRINCIPAL_NAME, Grant, Login
from djops.plan.change import Plan
from djops.services import access, people, project, welcome
from djops.services.access import Applied
from djops.services.journal import Cause
from djops.services.project import Edited, Loaded
from djops.services.site import choose_environment
from djops.services.welcome import Issued, LinkState
from djops.systems import existing, ldap, projectedit, projectfile
from djops.systems.progress import Progress
from djops.systems.resources import load_roles

Decide = Callable[[Loaded], list[Edit]]
"""Says what a step of a change does to the project as it is by then."""

COLUMNS = ("name", "role", "on", "email", "until", "reason")
"""What a list of people may have; the first is required, and further ones are left alone."""


@dataclass(frozen=True)
class Newcomer:
    """Somebody who shall have an account, or more rights than before.

    Attributes:
        name: Account name.
        email: How to reach her; kept as it is when she is there already.
        grants: What she shall be given.
        where: Where in a list of people she stands.
    """

    name: str
    email: str | None = None
    grants: tuple[Grant, ...] = ()
    where: Where | None = None


@dataclass(frozen=True)
class Onboarded:
    """The outcome.

    Attributes:
        applied: What was done on the servers.
        issued: The welcomes with their links.
    """

    applied: Applied
    issued: tuple[Issued, ...]


def read_list(file: Path) -> tuple[Newcomer, ...]:
    """Read people from a CSV file with a heading; several lines about one person add up.

    Args:
        file: The file, with columns of :data:`COLUMNS`; schemas in ``on`` stand with blanks between them.

    Returns:
        The people, in the file's order.

    Raises:
        ConfigError: Something is wrong with a line; ManyErrors: with several.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"the list cannot be read: {reason}", where=str(file)) from None
    first = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",", strict=True
    )
    found: dict[str, Newcomer] = {}
    errors: list[DjopsError] = []
    try:
        _require_columns(reader.fieldnames or (), file)
        for row in reader:
            try:
                _add_row(found, row, Where(str(file), reader.line_num))
            except DjopsError as error:
                errors += error.flatten()
    except csv.Error as error:
        raise ConfigError(f"this is no CSV: {error}", where=Where(str(file), reader.line_num)) from None
    if not found and not errors:
        errors = [ConfigError("the list names nobody", where=str(file))]
    if errors:
        raise ManyErrors(errors) if len(errors) > 1 else errors[0]
    return tuple(found.values())


def _require_columns(names: Sequence[str], file: Path) -> None:
    missing = [column for column in COLUMNS[:1] if column not in names]
    if missing:
        raise ConfigError(
            f"the list has no column {missing[0]!r}",
            where=Where(str(file), 1),
            hint=f"its first line names columns, of which djops knows {', '.join(COLUMNS)}",
        )


def _add_row(found: dict[str, Newcomer], row: Mapping[str, str | None], where: Where) -> None:
    cells = {key: (row.get(key) or "").strip() for key in COLUMNS}
    if not any(cells.values()):
        return
    name, on = cells["name"], tuple(cells["on"].replace(",", " ").split())
    if bool(cells["role"]) != bool(on):
        raise ConfigError("a role needs schemas in `on`, and schemas a role", where=where)
    grants: tuple[Grant, ...] = ()
    if on:
        facts = {"role": cells["role"], "on": on, "until": cells["until"] or None}
        grants = (_grant({**facts, "reason": cells["reason"] or None}, where),)
    before = found.get(name, Newcomer(name, where=where))
    email = cells["email"] or None
    if before.email and email and before.email != email:
        raise ConfigError(f"{name!r} has two addresses", where=where)
    found[name] = replace(before, email=before.email or email, grants=before.grants + grants)


def _grant(data: Mapping[str, object], where: Where) -> Grant:
    try:
        return Grant.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{place}: {first['msg'].removeprefix('Value error, ')}", where=where) from None


def from_group(
    project_file: Path, environment: str | None, group: str, grants: tuple[Grant, ...]
) -> tuple[Newcomer, ...]:
    """List the people of a group of the lab's directory, each with the same rights to be given.

    Args:
        project_file: The ``djops.yaml``, whose environment says in ``login:`` where the directory is.
        environment: Name of the environment; ``None`` means the only one, or ``local``.
        group: The group.
        grants: What each shall be given.

    Raises:
        ConfigError: ``E_NO_DIRECTORY`` when the environment names no directory.
        UsageError: ``E_UNKNOWN_GROUP``; or when nobody is in it.
        DjopsError: The directory does not answer, or refuses.
    """
    loaded, places = loading.load(projectfile.read(project_file), projectfile.shown(project_file))
    name = choose_environment(loaded, environment)
    login, where = loaded.environments[name].login, places.where("environments", name)
    if login is None or login.method != "ldap":
        raise ConfigError(
            f"the environment {name!r} names no directory of people",
            where=where,
            code="E_NO_DIRECTORY",
            hint="add `login: {method: ldap, url: ..., user_dn: ..., group_dn: ...}`; see docs/people.md",
        )
    found = ldap.members(_directory(login, project_file.absolute().parent, where), group)
    if not found:
        raise UsageError(f"nobody is in the group {group!r}", code="E_UNKNOWN_GROUP")
    return tuple(Newcomer(one.name, one.email, grants) for one in found)


def _directory(login: Login, folder: Path, where: Where) -> ldap.Directory:
    password = login.bind_password
    return ldap.Directory(
        login.url or "",
        login.user_dn or "",
        login.user_attr,
        login.group_dn or "",
        login.bind_dn,
        None if password is None else existing.credential(password, folder, "login.bind_password", where),
        None if login.ca is None else folder / login.ca,
    )


def onboarding(project_file: Path, newcomers: Sequence[Newcomer]) -> Edited:
    """Work out the change of the project file for people who arrive, and check all of it.

    Args:
        project_file: The ``djops.yaml``.
        newcomers: The people.

    Returns:
        The change, checked and not yet written.

    Raises:
        UsageError: Something cannot be meant; ManyErrors: several things.
    """
    before = projectfile.read(project_file)
    loaded = project.load_text(before, project_file)
    errors = [error for one in newcomers for error in _wrong(loaded, one)]
    if errors:
        raise ManyErrors(errors) if len(errors) > 1 else errors[0]
    return step_by_step(project_file, before, loaded, _decisions(loaded, newcomers))


def step_by_step(project_file: Path, before: str, loaded: Loaded, decisions: Iterable[Decide]) -> Edited:
    """Work out a change that takes several steps, each decided by what the steps before it led to.

    Args:
        project_file: The ``djops.yaml``.
        before: Its content.
        loaded: The project.
        decisions: Say what to change.

    Returns:
        The change, checked and not yet written.

    Raises:
        DjopsError: A step leads to a file that is wrong.
    """
    text = before
    for decide in decisions:
        text = projectedit.edit_text(text, projectfile.shown(project_file), decide(loaded))
        loaded = project.load_text(text, project_file) if text != before else loaded
    return Edited(before, text, loaded)


def _wrong(loaded: Loaded, one: Newcomer) -> Iterator[DjopsError]:
    roles = load_roles().with_custom(loaded.project.roles).roles
    schemas = loaded.graph.schemas
    if not PRINCIPAL_NAME.fullmatch(one.name):
        hint = "up to 32 letters, digits, '.', '_' and '-', a letter first"
        yield UsageError(f"{one.name!r} cannot be an account name", where=one.where, hint=hint, code="E_NAME")
    elif one.name in loaded.project.services:
        yield UsageError(f"{one.name!r} is a service", where=one.where, code="E_EXISTS")
    for grant in one.grants:
        if grant.role not in roles:
            hint = advice(grant.role, roles, what="roles")
            message = f"there is no role {grant.role!r}"
            yield UsageError(message, where=one.where, hint=hint, code="E_UNKNOWN_ROLE")
        for name in grant.on:
            if not loaded.project.meant((name,), schemas):
                hint = advice(name, schemas, what="schemas")
                message = f"there is no schema {name!r}"
                yield UsageError(message, where=one.where, hint=hint, code="E_UNKNOWN_SCHEMA")


def _decisions(loaded: Loaded, newcomers: Sequence[Newcomer]) -> Iterator[Decide]:
    """Yield steps of the change: all who are new at once, then every further grant by itself."""
    there = loaded.project.people
    fresh = [one for one in newcomers if one.name not in there]
    if fresh:
        edits: list[Edit] = []
        for one in fresh:
            grants = [editing.grant_data(grant) for grant in one.grants]
            email = {"email": one.email} if one.email else {}
            edits.append(SetValue(("people", one.name), {**email, "grants": grants}))
        yield lambda _: edits
    for one in newcomers:
        for grant in one.grants if one.name in there else ():
            yield lambda now, name=one.name, grant=grant: editing.add_grant(  # type: ignore[misc]
                now.project, name, grant
            )


def carry_out(
    edited: Edited,
    environment: str | None,
    names: Sequence[str],
    seconds: int,
    lock_wait: float,
    show: Callable[[Plan], None],
    progress: Progress | None = None,
    reason: str = "",
) -> Onboarded:
    """Write the change, bring the servers along, and make the welcomes.

    Args:
        edited: The change.
        environment: Name of the environment; ``None`` means the only one, or ``local``.
        names: Who is to be welcomed.
        seconds: How long the links are good for.
        lock_wait: Seconds to wait for another djops.
        show: Shows the plan; raises when it is not to be carried out, and then nothing was changed.
        progress: Who wants to know.
        reason: Why, for the journal.

    Returns:
        What was done, and the welcomes.

    Raises:
        DjopsError: As :func:`djops.services.people.carry_out`.
    """
    cause = Cause("onboard", reason)
    applied = people.carry_out(edited, environment, lock_wait, show, progress, cause)
    with (
        access.opened(edited.loaded, environment) as (servers, wanted),
        servers.changing(cause.command, lock_wait, reason=reason, progress=progress),
    ):
        return Onboarded(applied, welcome.issue(servers, wanted, names, seconds))


def links(loaded: Loaded, environment: str | None) -> tuple[LinkState, ...]:
    """Tell what has become of everybody's newest link; see :func:`djops.services.welcome.link_states`."""
    with access.opened(loaded, environment) as (servers, wanted):
        return welcome.link_states(servers, wanted)


def parse_duration(text: str) -> int:
    """Read a duration such as ``72h`` or ``3d``.

    Returns:
        Seconds.

    Raises:
        UsageError: It is none, or not between a minute and 30 days.
    """
    units = {"m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    seconds = int(number) * units[unit] if number.isdecimal() and unit in units else 0
    if not 60 <= seconds <= int(dt.timedelta(days=30).total_seconds()):
        raise UsageError(f"{text!r} is no time for a link", hint="a number with m, h or d; at most 30d")
    return seconds
