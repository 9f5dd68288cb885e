"""Expiry without a daemon: what grants that are over left behind is taken away, and nothing else is done."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from djops.compile.mysql import Inventory
from djops.compile.mysql_state import MysqlState
from djops.compile.s3 import S3State
from djops.compile.vault import secret_path
from djops.errors import DjopsError, LockedError
from djops.model.graph import PipelineGraph
from djops.plan.change import Change, Plan, in_order
from djops.plan.expiry import Ended, expire_mysql, expire_s3
from djops.services import access
from djops.services.access import Servers, Wanted
from djops.systems.progress import Progress, Silent

_T = TypeVar("_T")


@dataclass(frozen=True)
class Expired:
    """What came of it.

    Attributes:
        over: For each principal its lines of the project file that are over.
        plan: What they left behind, on the servers that answer.
        done: What of it was carried out.
        pending: Why something could not be looked at or carried out, one for each server.
    """

    over: Mapping[str, tuple[str, ...]]
    plan: Plan
    done: tuple[Change, ...] = ()
    pending: tuple[DjopsError, ...] = ()


def expire(
    servers: Servers,
    wanted: Wanted,
    *,
    dry_run: bool = False,
    lock_wait: float = 0,
    progress: Progress | None = None,
    reason: str = "",
) -> Expired:
    """Take away what grants that are over left behind; a server that is down does not stop the others.

    Nothing that is missing is given, and nothing that somebody changed by hand is mended: that is what
    ``djops apply`` is for. The secrets server is not needed.

    Args:
        servers: The servers.
        wanted: What they should hold.
        dry_run: Only look.
        lock_wait: Seconds to wait for another djops.
        progress: Who wants to know.
        reason: Why, for the journal.

    Returns:
        What was done, and what is pending.

    Raises:
        LockedError: ``E_LOCKED`` when another djops changes the project.
    """
    over = access.lines_over(wanted)
    if not over:
        return Expired(over, Plan(()))
    told, pending = progress or Silent(), list[DjopsError]()
    with _alone(servers, lock_wait, pending, reason, told):
        with told.step("Reading the servers"):
            plan = _plan(servers, wanted, pending)
        done: tuple[Change, ...] = ()
        for system in () if dry_run else ("mysql", "s3"):
            part = Plan(tuple(change for change in plan.changes if change.system == system))
            if part.changes:
                work = functools.partial(access.apply, servers, part, told, command="expire")
                applied = _or_pending(work, pending)
                done += applied.done if applied else ()
    return Expired(over, plan, done, tuple(pending))


@contextmanager
def _alone(
    servers: Servers, lock_wait: float, pending: list[DjopsError], reason: str, told: Progress
) -> Iterator[None]:
    """Hold the locks that can be had: the database's own is out of reach while it is down."""
    with (
        servers.alone_here("djops expire", lock_wait, reason=reason, progress=told),
        ExitStack() as stack,
    ):
        everywhere = servers.alone_everywhere(lock_wait, progress=told)
        _or_pending(lambda: stack.enter_context(everywhere), pending)
        yield


def _plan(servers: Servers, wanted: Wanted, pending: list[DjopsError]) -> Plan:
    """List what is to be taken away on the servers that answer."""
    mysql = None if pending else _or_pending(lambda: _read_mysql(servers, wanted), pending)
    # Without the database there are the foreign keys that the code tells.
    state, live, inventory = mysql or (None, PipelineGraph(), Inventory())
    graph = access.whole_graph(wanted.graph, live)
    compiled = access.compile_all(wanted, servers.site.environment, graph, inventory)
    ended = access.what_is_over(wanted, servers.site.environment, compiled, inventory)
    changes = _in_mysql(wanted, ended, state) if state is not None else []
    if ended.policies:
        buckets = [store.bucket for store in wanted.project.stores.values()]
        project = wanted.project.project
        found: S3State | None = _or_pending(lambda: servers.s3.read_state(project, buckets), pending)
        changes += expire_s3(ended, found) if found is not None else []
    return Plan(in_order(changes))


def _read_mysql(servers: Servers, wanted: Wanted) -> tuple[MysqlState, PipelineGraph, Inventory]:
    return (servers.mysql.read_state(), *servers.mysql.read_pipeline(wanted.graph.schemas))


def _in_mysql(wanted: Wanted, ended: Ended, found: MysqlState) -> list[Change]:
    project = wanted.project
    secrets = {name: secret_path(project, name) for name in project.principals}
    return expire_mysql(project.project, ended, found, secrets, wanted.today)


def _or_pending(ask: Callable[[], _T], pending: list[DjopsError]) -> _T | None:
    """Ask a server; what it cannot do now is noted."""
    try:
        return ask()
    except LockedError:
        raise
    except DjopsError as error:
        pending.append(error)
        return None
