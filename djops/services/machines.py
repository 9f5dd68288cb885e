"""Services' own log-ins at the secrets server, and the engine that makes their database credentials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from djops.compile.machines import (
    PROCEDURES,
    SWEEP,
    body_of,
    compile_leases,
    compile_logins,
    credentials_path,
    engine_account,
    engine_config,
    engine_connection,
    grant_engine,
)
from djops.compile.mysql_manager import EVENT_SCHEMA
from djops.compile.mysql_state import MysqlState, Routine
from djops.compile.sql import quote_account
from djops.compile.vault import DATABASE, MOUNT, policy_name, secret_path
from djops.errors import AccessDeniedError, DjopsError, UsageError
from djops.model.nearest import advice
from djops.model.project import Project
from djops.plan.change import Change
from djops.plan.vault import RenewStatic, WriteSettings, connect_database
from djops.services.applying import execute
from djops.services.credentials import file_errors
from djops.services.journal import Cause, note_at
from djops.services.servers import Servers
from djops.services.site import Site
from djops.systems.connections import Secret, SecretsConnection
from djops.systems.files import write_private
from djops.systems.mysql import Mysql
from djops.systems.vault import Secrets, Wrapped


def compiled(project: Project, environment: str) -> Mapping[str, Mapping[str, Any]]:
    """Compile what services have on the secrets server besides policies and secrets.

    Args:
        project: The project.
        environment: Name of the environment.

    Returns:
        Settings by API path.
    """
    return {**compile_logins(project, environment), **compile_leases(project)}


def uses_engine(project: Project) -> bool:
    """Tell whether any service gets its database credentials from the secrets server's engine.

    Args:
        project: The project.
    """
    return any(service.credentials.type != "kept" for service in project.services.values())


def connect(servers: Servers, database: MysqlState) -> list[Change]:
    """Plan how the database engine reaches MySQL, where a service needs it.

    Args:
        servers: The servers.
        database: What MySQL holds.

    Raises:
        DjopsError: The secrets server cannot be read.
    """
    project, at = servers.site.project, servers.site.mysql
    if not uses_engine(project):
        return []
    name = engine_config(project.project)
    found = servers.secrets.request("GET", f"{DATABASE}/config/{name}")
    ca = at.ca.read_text() if at.ca is not None else ""
    wanted = engine_connection(project.project, at.host, at.port, ca)
    account = database.accounts.get(engine_account(project.project))
    in_force = account is not None and account.engine == account.password_changed
    return connect_database(name, wanted, None if found is None else found["data"], in_force=in_force)


def require_engine(servers: Servers, found: MysqlState) -> bool:
    """See to it that MySQL has the engine's account and procedures, where a service needs them.

    Args:
        servers: The servers.
        found: What the database holds.

    Returns:
        Whether they were made, where djops runs the server itself.

    Raises:
        AccessDeniedError: ``E_DENIED`` naming what the database administrator must run.
    """
    if not uses_engine(servers.site.project):
        return False
    bodies = servers.mysql.procedures()
    right = [name for name in (*PROCEDURES, SWEEP) if _same(bodies.get(name), body_of(name))]
    engine = engine_account(servers.site.project.project)
    may = {Routine(engine, EVENT_SCHEMA, name, "PROCEDURE") for name in PROCEDURES}
    if len(right) > len(PROCEDURES) and engine in found.accounts and may <= found.routines.keys():
        return False
    manager = quote_account(*servers.mysql.account())
    statements = grant_engine(servers.site.project.project, manager, right)
    if servers.site.mysql_root is None:
        raise AccessDeniedError(
            f"MySQL lacks what the secrets server needs to make credentials: {engine} and its procedures",
            where=servers.mysql.where,
            hint=f"`djops up --env {servers.site.environment}` makes it, as the database's administrator"
            if servers.site.env.target == "aws"
            else "have the database administrator run, with DELIMITER set to something else than ;\n"
            + "\n".join(f"     {line};" for line in statements),
        )
    with Mysql(servers.site.mysql_root) as root:
        for statement in statements:
            root.query(statement)
    return True


def _same(found: str | None, wanted: str) -> bool:
    """Compare two bodies; servers show texts inside of them in their own way."""
    return found is not None and "".join(found.split()) == "".join(wanted.split())


def renew(project: Project, service: str, why: tuple[str, ...]) -> list[Change]:
    """Plan a new password for a service whose password the engine renews; leases are renewed by themselves.

    Args:
        project: The project.
        service: The service.
        why: The reasons.
    """
    static = project.services[service].credentials.type == "static"
    return [RenewStatic(name=policy_name(project.project, service), why=why)] if static else []


def forget(servers: Servers, project: Project, service: str) -> tuple[str, ...]:
    """End a service's log-in and everything that the database engine makes or made for it.

    Args:
        servers: The servers; the caller holds the lock.
        project: The project.
        service: Its name; somebody who is no service has nothing to end.

    Returns:
        The API paths of what was there.

    Raises:
        DjopsError: The secrets server refuses, or does not answer.
    """
    settings, name = (
        servers.secrets.state(project.project).settings or {},
        policy_name(project.project, service),
    )
    mine = {path: found for path, found in settings.items() if path.rpartition("/")[2] == name}
    for path, found in mine.items():
        for operation in WriteSettings(path=path, found=found, wanted=None, why=()).operations():
            execute(servers, operation)
    return tuple(mine)


@dataclass(frozen=True)
class AppRoleLogin:
    """What a service logs in to the secrets server with.

    Attributes:
        service: The service.
        address: URL of the secrets server.
        role_id: Its role id, which is no secret.
        policy: Its policy.
        reads: API paths at which it reads its credentials.
        wrapped: The token behind which its secret id is, when it was wrapped.
        files: The files that were written.
    """

    service: str
    address: str
    role_id: str
    policy: str
    reads: tuple[str, ...]
    wrapped: Wrapped | None = None
    files: tuple[Path, ...] = ()


ROLE_ID, SECRET_ID = "role-id", "secret-id"


def hand_out(
    site: Site, service: str, *, directory: Path | None = None, seconds: int = 300, reason: str = ""
) -> AppRoleLogin:
    """Make a new secret id for a service; those that it has stay good.

    Args:
        site: The environment.
        service: A service of the project.
        directory: Where to write role id and secret id; ``None`` to put the secret id behind a token that
            gives it out once.
        seconds: How long that token is good for.
        reason: Why, for the journal, where it is recorded before anything is handed out.

    Returns:
        What the service needs.

    Raises:
        UsageError: ``E_NO_PRINCIPAL`` when the project file has no such service.
        DjopsError: ``E_NO_CREDENTIALS`` when it was not applied yet.
        ConfigError: ``E_CONFIG`` when the directory cannot be used.
    """
    project = site.project
    _require_service(project, service)
    name = policy_name(project.project, service)
    role = f"auth/approle/role/{name}"
    own = credentials_path(project, service)
    with Secrets(site.secrets) as session:
        answer = session.request("GET", f"{role}/role-id")
        if answer is None:
            raise DjopsError(
                f"{service} has no log-in yet", code="E_NO_CREDENTIALS", hint="`djops apply` makes it"
            )
        note_at(site, Cause("secrets approle", reason), who=service, to=str(directory or "a wrapped token"))
        role_id = str(answer["data"]["role_id"])
        wrapped: Wrapped | None = None
        files: tuple[Path, ...] = ()
        if directory is None:
            wrapped = session.wrap("POST", f"{role}/secret-id", seconds)
        else:
            fresh = session.request("POST", f"{role}/secret-id", {}) or {}
            files = _write(directory, role_id, Secret(str(fresh["data"]["secret_id"])))
    reads = (f"{MOUNT}/data/{secret_path(project, service)}", *((own,) if own else ()))
    return AppRoleLogin(service, site.secrets.address, role_id, name, reads, wrapped, files)


def another_login(servers: Servers, service: str) -> SecretsConnection | None:
    """Make what a service logs in with, with a secret id that nobody else gets.

    Args:
        servers: The servers.
        service: Its name, also of one that the project file no longer has.

    Returns:
        What it logs in with; ``None`` when it has no log-in, or djops may not see to that.
    """
    role = f"auth/approle/role/{policy_name(servers.site.project.project, service)}"
    try:
        role_id = servers.secrets.request("GET", f"{role}/role-id")
        secret_id = servers.secrets.request("POST", f"{role}/secret-id", {}) if role_id else None
    except DjopsError:
        return None
    if role_id is None or secret_id is None:
        return None
    fresh = Secret(str(secret_id["data"]["secret_id"]))
    return replace(servers.site.secrets, role_id=str(role_id["data"]["role_id"]), secret_id=fresh)


def _require_service(project: Project, service: str) -> None:
    if service not in project.services:
        hint = advice(service, project.services, what="services")
        raise UsageError(f"the project has no service {service!r}", code="E_NO_PRINCIPAL", hint=hint)


def _write(directory: Path, role_id: str, secret_id: Secret) -> tuple[Path, ...]:
    files = {directory / ROLE_ID: role_id, directory / SECRET_ID: secret_id.reveal()}
    with file_errors(directory):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path, text in files.items():
            write_private(path, text)
    return tuple(files)
