"""Accounts that the secrets server makes for services: which of those on a server are right.

An account is leased when the procedure that makes them has noted it, which nobody else can: a mark, a name or
a role does not make one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from djops.compile.machines import PROCEDURES, engine_account
from djops.compile.mysql_manager import EVENT_SCHEMA
from djops.compile.mysql_state import Account, AccountId, Edge, MysqlState
from djops.model.project import Project


def with_leases(project: Project, wanted: MysqlState, found: MysqlState) -> MysqlState:
    """Add to what MySQL should hold the accounts that were leased to services.

    Each should hold its service as a role, and nothing else. All others that are marked as the project's are
    no part of what is wanted, and so end.

    Args:
        project: The project.
        wanted: What MySQL should hold.
        found: What it holds.
    """
    accounts, edges, defaults = dict(wanted.accounts), dict(wanted.edges), set(wanted.defaults)
    for name, service in _leased(project, found):
        if service in wanted.accounts:
            limit = wanted.accounts[service].connections
            accounts[name] = Account(
                "lease", project.project, connections=limit, meaning=f"a lease of {service}"
            )
            edges[Edge(service, name)] = False
            defaults.add(Edge(service, name))
    if len(accounts) == len(wanted.accounts):
        return wanted
    return replace(wanted, accounts=accounts, edges=edges, defaults=frozenset(defaults))


def stand_for_services(project: Project, found: MysqlState) -> frozenset[AccountId]:
    """Return the leased accounts that hold what their service holds, no more, and are nobody's role.

    What the service holds is looked at anyway.

    Args:
        project: The project.
        found: What MySQL holds.
    """
    held = {one.grantee for one in found.privileges} | {one.grantee for one in found.routines}
    members: dict[AccountId, dict[AccountId, bool]] = {}
    for edge, admin in found.edges.items():
        members.setdefault(edge.member, {})[edge.role] = admin
    roles = {edge.role for edge in found.edges}
    return frozenset(
        name
        for name, service in _leased(project, found)
        if members.get(name) == {service: False} and name not in held | roles
    )


def engines(project: Project, found: MysqlState) -> frozenset[AccountId]:
    """Return the account of the project's database engine, unless it holds more than djops' procedures.

    Args:
        project: The project.
        found: What MySQL holds.
    """
    name = engine_account(project.project)
    more = {one.grantee for one in found.privileges} | {edge.member for edge in found.edges}
    more |= {one.grantee for one in found.routines if (one.schema, one.name) not in _CALLED}
    return frozenset({name} & found.accounts.keys() - more)


_CALLED = {(EVENT_SCHEMA, name) for name in PROCEDURES}


def _leased(project: Project, found: MysqlState) -> Iterator[tuple[AccountId, AccountId]]:
    """Yield the accounts that were leased and are to go on, each with its service."""
    ours = ("lease", project.project)
    for name, lease in found.leases.items():
        there, service = found.accounts.get(name), project.services.get(lease.service)
        if there is None or (there.kind, there.project) != ours or lease.project != project.project:
            continue
        if not lease.overdue and service is not None and service.credentials.type == "dynamic":
            yield name, AccountId(lease.service, name.host)
