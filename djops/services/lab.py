"""The local lab: bring it up, tell its health, take it down.

Every step can be done again: whatever kills djops or a server, the next ``up`` goes on from what is there.
"""

from __future__ import annotations

import concurrent.futures
import math
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from djops.compile.mysql import statement_guard
from djops.errors import DjopsError, ManyErrors, StartError
from djops.model.project import Project
from djops.services.site import local_lab, own_environment
from djops.systems import journal, ports, process, tls
from djops.systems.files import disk_errors, require_space
from djops.systems.local import labfile
from djops.systems.local.labfile import LabFile
from djops.systems.local.server import Lab, Server
from djops.systems.lock import locked
from djops.systems.paths import server_account
from djops.systems.progress import Progress, Silent, Step
from djops.systems.resources import load_roles

_R = TypeVar("_R")

READY_SECONDS = 90.0
"""How long a server may take to answer."""

_GONE_SECONDS = 1.5  # a server may replace its process while it starts, and takes a while to die
_DYING_SECONDS = 6.0  # the memory of a killed server is freed first, its ports last: slow on a busy machine
_FRESH_BYTES = 3 << 30
_PURGED = ".purged-"


@dataclass(frozen=True)
class ServerHealth:
    """How one server is.

    Attributes:
        name: ``mysql``, ``s3`` or ``secrets``.
        title: How people call it.
        healthy: Whether it answers.
        running: Whether its processes are alive; ``None`` where djops does not run them.
        endpoint: Address for users; ``None`` before the lab was first brought up.
        version: Its version, where known.
        problem: What is wrong, when it is not healthy.
        log: The log to look at, where djops runs it.
    """

    name: str
    title: str
    healthy: bool
    running: bool | None
    endpoint: str | None
    version: str | None
    problem: str | None = None
    log: Path | None = None


@dataclass(frozen=True)
class ServerUp:
    """What bringing up one server came to.

    Attributes:
        name: ``mysql``, ``s3`` or ``secrets``.
        title: How people call it.
        endpoint: Address for users.
        version: Its version.
        started: Whether it had to be started.
        seconds: How long it took.
    """

    name: str
    title: str
    endpoint: str
    version: str
    started: bool
    seconds: float


@dataclass(frozen=True)
class LabUp:
    """A lab that is up.

    Attributes:
        project: Name of the project.
        environment: Name of the environment.
        directory: Where it lives.
        servers: Its servers.
        seconds: How long it took in all.
        put_away: Whose credentials were renewed and are kept in the secrets server alone from now on.
    """

    project: str
    environment: str
    directory: Path
    servers: tuple[ServerUp, ...]
    seconds: float
    put_away: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything had to be started or renewed."""
        return bool(self.put_away) or any(server.started for server in self.servers)

    @property
    def unseal_key(self) -> Path | None:
        """The file that unseals the secrets server, where it lies on the same disk as the data."""
        key = self.directory / "openbao" / "seal.key"
        return key if key.exists() else None


@dataclass(frozen=True)
class LabStatus:
    """How a lab is.

    Attributes:
        project: Name of the project.
        environment: Name of the environment.
        target: Where the servers come from.
        directory: Where the lab lives, whether it exists or not.
        servers: Its servers.
    """

    project: str
    environment: str
    target: str
    directory: Path
    servers: tuple[ServerHealth, ...]

    @property
    def healthy(self) -> bool:
        """Whether all servers answer."""
        return all(server.healthy for server in self.servers)


@dataclass(frozen=True)
class LabDown:
    """What taking a lab down came to.

    Attributes:
        project: Name of the project.
        environment: Name of the environment.
        directory: Where it lives, or lived.
        stopped: Titles of the servers that ran.
        removed: Whether its data is gone.
    """

    project: str
    environment: str
    directory: Path
    stopped: tuple[str, ...]
    removed: bool


def server_classes() -> tuple[type[Server], ...]:
    """Return the lab's servers, in the order they are shown."""
    from djops.systems.local.ceph import CephServer
    from djops.systems.local.mysql import MysqlServer
    from djops.systems.local.openbao import OpenBaoServer

    return MysqlServer, CephServer, OpenBaoServer


def up(
    project: Project,
    environment: str | None = None,
    *,
    progress: Progress | None = None,
    lock_wait: float = 0,
    reason: str = "",
) -> LabUp:
    """Bring the lab up, or what is missing of it; after a first start, take its roots off the disk.

    Args:
        project: The project.
        environment: Name of a ``local`` environment; ``None`` means the only one, or ``local``.
        progress: Hears about each step.
        lock_wait: Seconds to wait for another djops.
        reason: Why, for the journal.

    Returns:
        What was done.

    Raises:
        UsageError: ``E_TARGET`` when djops does not run this environment's servers.
        LockedError: ``E_LOCKED`` naming who works on the lab.
        InstallError: ``E_INSTALL`` naming the one thing to install.
        StartError: ``E_PORT`` naming who holds a port; ``E_START`` with the last lines of the log.
        DiskFullError: ``E_DISK`` when there is no room.
        ManyErrors: Several servers failed.
    """
    name = own_environment(project, environment)
    began = time.monotonic()
    account = server_account()
    directory, _ = labfile.find(project.project, name)
    labfile.make_directories(directory, account)
    with locked(directory / "lock", "up", lock_wait), disk_errors(directory):
        _sweep(directory)
        file = _labfile(project.project, name, directory)
        lab = labfile.lab_at(directory, file, account, (store.bucket for store in project.stores.values()))
        servers = [make(lab) for make in server_classes()]
        if tls.ensure(directory / "tls", f"{project.project}/{name}", account):
            _stop_all(servers)  # they hold the old certificate
        done = _bring_up_all(servers, lab, progress or Silent())
        _guard_statements(project, lab)
        away = _put_roots_away(lab, progress)
        versions = {server.name: server.version for server in done}
        if versions != file.versions:
            labfile.write(directory, replace(file, versions=versions))
        started = [server.name for server in done if server.started]
        if started or away:
            told = {"started": ", ".join(started), "renewed": ", ".join(away)}
            journal.record(
                directory, "up", reason=reason, **{key: value for key, value in told.items() if value}
            )
    return LabUp(project.project, name, directory, tuple(done), time.monotonic() - began, away)


def _put_roots_away(lab: Lab, progress: Progress | None) -> tuple[str, ...]:
    """Renew what roots log in with, unless the secrets server alone has it; say whose was renewed."""
    from djops.services import administrators

    return tuple(one.title for one in administrators.put_away(lab, progress))


def _guard_statements(project: Project, lab: Lab) -> None:
    """Put the limits of roles in force that MySQL only knows for sessions."""
    from djops.systems.local import mysql

    root = mysql.root_connection(lab)
    if root is not None and mysql.can_be_had(root.password):
        roles = load_roles().with_custom(project.roles)
        mysql.guard_statements(root, statement_guard(roles))


def status(project: Project, environment: str | None = None) -> LabStatus:
    """Ask every server of a ``local`` environment how it is; changes nothing and never waits for a lock.

    Args:
        project: The project.
        environment: Name of a ``local`` environment; ``None`` means the only one, or ``local``.

    Raises:
        UsageError: ``E_ENVIRONMENT`` or ``E_TARGET``.
        DjopsError: ``E_STATE`` when the lab's own file is damaged.
    """
    name = own_environment(project, environment)
    directory, file = labfile.find(project.project, name)
    lab = None if file is None else local_lab(project, name)
    if lab is None or file is None:
        found = [
            ServerHealth(one.name, one.title, False, False, None, None, "never brought up: run `djops up`")
            for one in server_classes()
        ]
    else:
        servers = [make(lab) for make in server_classes()]
        found = _at_once(lambda server: _health(server, file.versions.get(server.name)), servers)
    return LabStatus(project.project, name, "local", directory, tuple(found))


def down(
    project: Project,
    environment: str | None = None,
    *,
    purge: bool = False,
    progress: Progress | None = None,
    lock_wait: float = 0,
    reason: str = "",
) -> LabDown:
    """Stop what djops started, and nothing else; data stays unless ``purge`` is given.

    Args:
        project: The project.
        environment: Name of a ``local`` environment; ``None`` means the only one, or ``local``.
        purge: Remove the lab's directory, with all data in it, for good.
        progress: Hears about each step.
        lock_wait: Seconds to wait for another djops.
        reason: Why, for the journal.

    Returns:
        What was done.

    Raises:
        UsageError: ``E_TARGET`` when djops does not run this environment's servers.
        LockedError: ``E_LOCKED`` naming who works on the lab.
        DjopsError: ``E_STATE`` when the directory is not a lab of this project and was to be removed;
            ``E_STOP`` when a process cannot be ended.
    """
    name = own_environment(project, environment)
    directory, _ = labfile.find(project.project, name)
    if not directory.exists():
        return LabDown(project.project, name, directory, (), removed=False)
    steps = progress or Silent()
    with locked(directory / "lock", "down", lock_wait):
        file = labfile.read(directory)
        stopped: tuple[str, ...] = ()
        if file is not None:
            with steps.step("Stopping the servers") as step:
                lab = labfile.lab_at(directory, file, server_account())
                stopped = tuple(_stop_all([make(lab) for make in server_classes()]))
                step.note(", ".join(stopped) or "none was running")
        if stopped and not purge:
            journal.record(directory, "down", reason=reason, stopped=", ".join(stopped))
        if purge:
            with steps.step("Removing the data"):
                _remove(directory, project.project, name, file)
    return LabDown(project.project, name, directory, stopped, removed=purge)


def _labfile(project: str, environment: str, directory: Path) -> LabFile:
    """Read the lab's file; write it, with ports for all, before anything starts for the first time."""
    known = labfile.read(directory)
    if known is None:
        require_space(directory, _FRESH_BYTES)
    names = [port for make in server_classes() for port in make.port_names]
    file = labfile.with_ports(known or LabFile(project, environment), names)
    if file != known:
        labfile.write(directory, file)
    return file


def _bring_up_all(servers: Sequence[Server], lab: Lab, progress: Progress) -> list[ServerUp]:
    given_up = threading.Event()
    done: list[ServerUp] = []
    errors: list[DjopsError] = []
    with concurrent.futures.ThreadPoolExecutor(len(servers)) as pool:
        futures = [pool.submit(_bring_up, server, lab, progress, given_up) for server in servers]
        try:
            for future in futures:
                try:
                    done.append(future.result())
                except DjopsError as error:
                    errors.append(error)
        except BaseException:
            given_up.set()
            raise
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    return done


def _bring_up(server: Server, lab: Lab, progress: Progress, given_up: threading.Event) -> ServerUp:
    began = time.monotonic()
    with progress.step(server.title) as step, disk_errors(lab.directory):
        version = server.install(step)
        started = not _runs(server)
        if started:
            _require_ports(server, lab)
            step.note("preparing its data")
            server.initialise()
            step.note("starting")
            server.start()
        _await(server, step, given_up)
        server.bootstrap()
        seconds = time.monotonic() - began
        step.note(f"{version} {'ready' if started else 'runs already'} at {server.endpoint()}")
    return ServerUp(server.name, server.title, server.endpoint(), version, started, seconds)


def _runs(server: Server) -> bool:
    """Tell whether a server runs; one that was killed a moment ago seems to until its last thread is gone."""
    deadline = time.monotonic() + _GONE_SECONDS
    while server.running() and not server.ready():
        if time.monotonic() > deadline:
            return True
        time.sleep(0.02)
    return server.running()


def _require_ports(server: Server, lab: Lab) -> None:
    for name in server.public_ports:
        port = lab.ports[name]
        holder = _holder(port)
        if holder is None and ports.is_free(port):
            continue
        if holder is not None and str(lab.directory) in holder.arguments:
            continue  # a part of this very server that still runs
        who = f"is held by {holder}" if holder else "cannot be used"
        raise StartError(
            f"port {port}, which {server.title} of this lab has had from the beginning, {who}",
            where=f"127.0.0.1:{port}",
            code="E_PORT",
            hint="stop that program, then run `djops up` again",
        )


def _holder(port: int) -> ports.Holder | None:
    """Return who holds a port; one that was killed a moment ago holds it until its last thread is gone."""
    deadline = time.monotonic() + _DYING_SECONDS
    while not ports.is_free(port):
        holder = ports.holder(port)
        if (holder is not None and holder.pid is not None) or time.monotonic() > deadline:
            return holder
        time.sleep(0.02)
    return None


def _await(server: Server, step: Step, given_up: threading.Event) -> None:
    began, lost = time.monotonic(), math.inf
    pause = 0.02
    while not server.ready():
        alive, now = server.running(), time.monotonic()
        # Counted from the first look that finds none: on a busy machine a single one may come late.
        lost = math.inf if alive else min(lost, now)
        gone = now - lost > _GONE_SECONDS
        if gone or given_up.is_set() or now - began > READY_SECONDS:
            raise _did_not_come_up(server, now - began, gone=gone)
        step.note("waiting until it answers")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.25)


def _did_not_come_up(server: Server, seconds: float, *, gone: bool) -> StartError:
    what = "ended" if gone else "did not answer"
    lines = process.tail(server.log)
    said = "\n".join(f"    {line}" for line in lines) or "    (its log is empty)"
    return StartError(
        f"{server.title} {what} after {seconds:.1f} s; the last lines of its log:\n{said}",
        where=str(server.log),
        hint=f"see more with `tail -n 100 {server.log}`",
    )


def _health(server: Server, version: str | None) -> ServerHealth:
    healthy, running = server.ready(), server.running()
    problem = None
    if not healthy:
        state = "runs but does not answer" if running else "does not run"
        problem = f"{state}: run `djops up`, or see `tail -n 100 {server.log}`"
    return ServerHealth(
        server.name, server.title, healthy, running, server.endpoint(), version, problem, server.log
    )


def _stop_all(servers: Sequence[Server]) -> list[str]:
    """Stop servers, all at once, and name those that ran."""

    def stop(server: Server) -> str | None:
        ran = server.running()
        server.stop()
        return server.title if ran else None

    return [title for title in _at_once(stop, servers) if title is not None]


def _at_once(function: Callable[[Server], _R], servers: Sequence[Server]) -> list[_R]:
    with concurrent.futures.ThreadPoolExecutor(len(servers)) as pool:
        return list(pool.map(function, servers))


def _remove(directory: Path, project: str, environment: str, file: LabFile | None) -> None:
    """Remove a lab: first from sight, in one step, then from the disk."""
    strangers = [path.name for path in directory.iterdir() if path.name not in ("lock", "secrets", "tls")]
    if file is None and strangers:
        raise _not_a_lab(directory, "it has no lab.json")
    if file is not None and (file.project, file.environment) != (project, environment):
        raise _not_a_lab(directory, f"it says that it is {file.project!r}, {file.environment!r}")
    if directory.is_symlink():
        raise _not_a_lab(directory, "it is a symbolic link")
    hidden = directory.with_name(f"{_PURGED}{environment}-{time.time_ns()}")
    directory.rename(hidden)
    _sweep(directory)


def _sweep(directory: Path) -> None:
    """Remove what a purge left that was killed."""
    for leftover in directory.parent.glob(f"{_PURGED}{directory.name}-*"):
        # Never follows symbolic links, whoever put them there: see shutil.rmtree.avoids_symlink_attacks.
        shutil.rmtree(leftover, ignore_errors=True)


def _not_a_lab(directory: Path, why: str) -> DjopsError:
    return DjopsError(
        f"this is not this project's lab, so nothing was removed: {why}",
        where=str(directory),
        code="E_STATE",
        hint="remove it by hand if it is no longer wanted",
    )
