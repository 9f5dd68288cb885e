"""Trying every role through the real client, on a scratch schema, as throw-away principals.

The principals come about on the very way that people's rights come about: compiled from the role model,
planned, applied. What is expected of them is read from the role model too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

from djops.compile.s3 import inbox_prefix, schema_prefixes
from djops.compile.s3_manager import SCRATCH
from djops.compile.vault import secret_path
from djops.errors import AccessDeniedError, DjopsError, UsageError
from djops.model.graph import TableName
from djops.model.nearest import advice
from djops.model.roles import Capability, Role
from djops.services import access, trial
from djops.services.site import Site
from djops.services.trial import Trial
from djops.systems import datajoint
from djops.systems.client_errors import explained, is_denial
from djops.systems.connections import MysqlConnection, Secret
from djops.systems.limits import check_limits
from djops.systems.progress import Progress, Silent
from djops.systems.rawfiles import RawFiles
from djops.systems.resources import load_roles
from djops.systems.s3 import S3
from djops.systems.scratch import DOOMED, OWN, PENDING, READ, Scratch

Outcome = Literal["works", "denied", "failed"]

_KEY_PARTS = ("access_key", "secret_key")


@dataclass(frozen=True)
class Action:
    """Something a principal tries.

    Attributes:
        name: Its name in the table.
        needs: The capabilities without which it must be refused.
        tiers: The tiers of the tables whose rows it changes.
        attempt: Does it, as the principal with this number.
        happened: Whether it had its effect, as the administrator sees it.
        on_objects: Whether there is nothing to try without a store.
    """

    name: str
    needs: frozenset[Capability]
    tiers: frozenset[str]
    attempt: Callable[[Scratch, int], None]
    happened: Callable[[Scratch, int], bool]
    on_objects: bool = False

    def expected_of(self, role: Role) -> Outcome:
        """What the role model says of it."""
        return "works" if self.needs <= role.target and self.tiers <= role.tiers else "denied"

    @property
    def leaves_trace(self) -> bool:
        """Whether it changes anything that could be seen afterwards."""
        return bool(self.needs - {Capability.READ})


def _action(
    name: str,
    *needs: Capability,
    tiers: tuple[str, ...] = (),
    attempt: Callable[[Scratch, int], None],
    happened: Callable[[Scratch, int], bool] = lambda admin, number: True,
    on_objects: bool = False,
) -> Action:
    return Action(name, frozenset(needs), frozenset(tiers), attempt, happened, on_objects)


ACTIONS = (
    _action("connect", attempt=lambda client, number: None),
    _action("read", Capability.READ, attempt=lambda client, number: client.verify(READ)),
    _action(
        "insert",
        Capability.READ,
        Capability.INSERT,
        tiers=("manual",),
        attempt=lambda client, number: client.add(OWN + number),
        happened=lambda admin, number: admin.has(OWN + number),
    ),
    _action(
        "update",
        Capability.READ,
        Capability.UPDATE,
        tiers=("manual",),
        attempt=lambda client, number: client.update(DOOMED + number),
        happened=lambda admin, number: admin.has(DOOMED + number, note="changed"),
    ),
    _action(
        "populate",
        Capability.READ,
        Capability.INSERT,
        Capability.JOBS,
        tiers=("computed",),
        attempt=lambda client, number: client.populate(),
        happened=lambda admin, number: admin.has_result(PENDING + number),
    ),
    _action(
        "delete",
        Capability.READ,
        Capability.DELETE,
        tiers=("manual", "computed"),
        attempt=lambda client, number: client.delete(DOOMED + number),
        happened=lambda admin, number: not admin.has(DOOMED + number),
    ),
    _action(
        "deliver",
        Capability.INBOX,
        attempt=lambda client, number: client.files.deliver(number),
        happened=lambda admin, number: admin.files.arrived(number),
        on_objects=True,
    ),
    _action(
        "collect",
        Capability.COLLECT,
        attempt=lambda client, number: client.files.collect(number),
        happened=lambda admin, number: admin.files.collected(number),
        on_objects=True,
    ),
    _action("limits", attempt=lambda client, number: client.check_limits()),
    _action(
        "declare",
        Capability.READ,
        Capability.DECLARE,
        attempt=lambda client, number: client.declare(f"Made{number}"),
        happened=lambda admin, number: f"made{number}" in admin.tables(),
    ),
    _action(
        "drop",
        Capability.READ,
        Capability.DROP,
        attempt=lambda client, number: client.drop(f"spare{number}"),
        happened=lambda admin, number: f"spare{number}" not in admin.tables(),
    ),
)
"""What is tried, in this order, each by all principals: a table declared meanwhile has no grants yet, and
would stand in the way of later deletes."""


@dataclass(frozen=True)
class Cell:
    """One attempt.

    Attributes:
        role: The role.
        action: The action.
        expected: What the role model says.
        seen: What happened; ``failed`` for anything that is neither success nor refusal.
        detail: What the client said, when that matters.
    """

    role: str
    action: str
    expected: Outcome
    seen: Outcome
    detail: str | None

    @property
    def agrees(self) -> bool:
        """Whether it went as the role model says."""
        return self.seen == self.expected


@dataclass(frozen=True)
class Report:
    """The outcome of a smoke test.

    Attributes:
        schema: The scratch schema, which is gone.
        cells: All attempts.
        removed: Scratch schemas of earlier runs that were removed first.
    """

    schema: str
    cells: tuple[Cell, ...]
    removed: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether every attempt went as the role model says."""
        return all(cell.agrees for cell in self.cells)


def chosen(role: str | None) -> dict[str, Role]:
    """Return the roles to try.

    Args:
        role: A role's name, or ``None`` for all.

    Raises:
        UsageError: ``E_NO_ROLE`` with the nearest name.
    """
    roles = dict(load_roles().roles)
    if role is None:
        return roles
    if role not in roles:
        raise UsageError(
            f"there is no role {role!r}", code="E_NO_ROLE", hint=advice(role, roles.keys(), what="roles")
        )
    return {role: roles[role]}


def run(
    site: Site, role: str | None = None, progress: Progress | None = None, lock_wait: float = 30
) -> Report:
    """Try roles, and remove everything that was made for it.

    Args:
        site: The environment.
        role: The role to try; all roles when ``None``.
        progress: Who wants to know.
        lock_wait: Seconds to wait for another djops.

    Returns:
        What was expected and what was seen.

    Raises:
        UsageError: ``E_NO_ROLE`` when there is no such role.
        LockedError: ``E_LOCKED`` naming who works on the project.
        ApplyError: ``E_SMOKE_REMAINS`` when something could not be removed; the next run tries again.
    """
    roles, told = chosen(role), progress or Silent()
    with access.Servers(site) as servers, servers.changing("smoke", lock_wait):
        # Whoever is to wait, or to grant djops something, is told before anything was made.
        access.read_database(servers, [SCRATCH])
    removed = trial.remove_remains(site, told, lock_wait)
    with trial.under_way(site, told, lock_wait) as current:
        cells = _try_roles(current.site(site, roles), current, roles, told, lock_wait)
    return Report(current.schema, cells, removed)


def _try_roles(
    site: Site, current: Trial, roles: Mapping[str, Role], progress: Progress, lock_wait: float
) -> tuple[Cell, ...]:
    with ExitStack() as stack:
        stack.enter_context(datajoint.trusting(site.s3.ca))
        servers = stack.enter_context(access.Servers(site))
        with progress.step("Making a scratch schema"):
            keys = datajoint.StoreKeys(site.s3.access_key, site.s3.secret_key)
            stores = datajoint.opened_stores(site.project.stores, site.s3.endpoint, lambda name: keys)
            admin = _scratch(stack, site.mysql, stores, current, create=True)
            admin.files = _files(site, current, S3(site.s3))
            _furnish(admin, len(roles))
        with progress.step("Making a principal for each role"), servers.changing("smoke", lock_wait):
            access.apply(servers, access.make_plan(servers, current.wanted(site)))
        clients = {role: _client(stack, servers, current, role, model) for role, model in roles.items()}
        cells = []
        with progress.step("Trying every role") as step:
            for action in (one for one in ACTIONS if stores or not one.on_objects):
                step.note(action.name)
                for number, (role, model) in enumerate(roles.items()):
                    cells.append(_attempt(action, number, role, model, clients[role], admin))
    order = list(roles)
    return tuple(sorted(cells, key=lambda cell: order.index(cell.role)))


def _furnish(admin: Scratch, count: int) -> None:
    """Put in what the principals will work on, and the job table that only an administrator can make."""
    with explained("filling the scratch schema"):
        admin.add(READ)
        for number in range(count):
            admin.add(DOOMED + number)
            admin.declare_spare(f"Spare{number}")
            admin.files.litter(number)
    datajoint.create_job_tables(admin.instance, [TableName(admin.schema, "__result")])
    with explained("filling the scratch schema"):
        admin.populate()


def _scratch(
    stack: ExitStack,
    mysql: MysqlConnection,
    stores: Mapping[str, Mapping[str, Any]],
    current: Trial,
    *,
    create: bool = False,
) -> Scratch:
    instance = stack.enter_context(datajoint.connect(mysql, stores))
    with explained(f"opening {current.schema} as {mysql.user}"):
        return Scratch(instance, current.schema, list(stores), create=create)


def _files(site: Site, current: Trial, server: S3) -> RawFiles:
    stores = site.project.stores.values()
    inboxes = [(store.bucket, inbox_prefix(store, current.schema)) for store in stores]
    sections = [(store.bucket, one) for store in stores for one in schema_prefixes(store, current.schema)]
    return RawFiles(server, inboxes, sections)


def _client(
    stack: ExitStack, servers: access.Servers, current: Trial, role: str, model: Role
) -> Scratch | DjopsError:
    """Connect as a role's principal, with the credentials the principal would find."""
    site, name = servers.site, current.principal(role)
    stored = servers.secrets.read_secret(secret_path(site.project, name))
    fields = stored.fields if stored else {}

    def keys(store: str) -> datajoint.StoreKeys:
        access_key, secret_key = (fields.get(f"stores.{store}.{part}", "") for part in _KEY_PARTS)
        return datajoint.StoreKeys(access_key, Secret(secret_key))

    stores = datajoint.opened_stores(site.project.stores, site.s3.endpoint, keys)
    mysql = replace(site.mysql, user=name, password=Secret(fields.get("database.password", "")))
    try:
        client = _scratch(stack, mysql, stores, current)
    except DjopsError as error:
        return error
    access_key, secret_key = next(
        ((one["access_key"], one["secret_key"]) for one in stores.values()), ("", "")
    )
    client.files = _files(
        site, current, S3(replace(site.s3, access_key=access_key, secret_key=Secret(secret_key)))
    )
    guarded = site.env.target == "local"
    client.check_limits = lambda: check_limits(mysql, model.limits, guarded=guarded)
    return client


def _attempt(
    action: Action, number: int, role: str, model: Role, client: Scratch | DjopsError, admin: Scratch
) -> Cell:
    expected = action.expected_of(model)
    if isinstance(client, DjopsError):
        return Cell(role, action.name, expected, "failed", client.message)
    if action.name == "populate":
        admin.add(PENDING + number)
    detail: str | None = None
    try:
        action.attempt(client, number)
        seen: Outcome = "works"
    except Exception as error:  # whatever the client raises is the observation
        seen = "denied" if is_denial(error) or isinstance(error, AccessDeniedError) else "failed"
        detail = " ".join(str(error).split()) or type(error).__name__
    happened = action.happened(admin, number)
    if seen == "works" and not happened:
        seen, detail = "failed", "the client did not complain, but nothing happened"
    elif seen == "denied" and expected == "denied" and happened and action.leaves_trace:
        seen, detail = "failed", f"it happened all the same, although the client said: {detail}"
    return Cell(role, action.name, expected, seen, None if seen == expected else detail)
