"""The access layer on servers that Pulumi made: the accounts that djops works as, made once.

An RDS administrator is not root: no ``SUPER``, no ``SYSTEM_USER``, and ``CONNECTION_ADMIN`` is not his to
give (AWS' documentation of RDS for MySQL); what ends a session there is a procedure.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djops.compile.mysql_manager import (
    END_SESSION,
    END_SESSIONS,
    SERVER_PRIVILEGES,
    grant_events,
    grant_journal,
    grant_schemas,
    grant_server,
    grant_tables,
)
from djops.compile.s3_manager import SCRATCH
from djops.compile.sql import quote_account, quote_string
from djops.compile.vault import MOUNT
from djops.compile.vault_manager import MANAGER as POLICY
from djops.compile.vault_manager import TOKEN_ROLE, approle, manager_policy, token_role
from djops.errors import AccessDeniedError, DjopsError
from djops.model.cloud import manager_account
from djops.services.cloud import Cloud
from djops.services.site import CloudDirectory, cloud_secrets
from djops.systems import cloudfile, passwords
from djops.systems.cloud_admin import Administrator
from djops.systems.connections import Secret, SecretsConnection
from djops.systems.files import read_json, write_json, write_private
from djops.systems.mysql import Mysql, logs_in
from djops.systems.progress import Progress, Silent, Step
from djops.systems.vault import Secrets

SECTION = "servers"
"""Below the project's path in the secrets server, beside people and services: administrators' credentials."""

FIRST_BOOT_SECONDS = 600.0
"""How long the machine of the secrets server may take to set it up, which ends with what is waited for."""

_POLL_SECONDS = 5.0


@dataclass(frozen=True)
class _SetUp:
    """What is being set up.

    Attributes:
        cloud: The environment.
        known: Where its servers are.
        place: Where djops keeps its credentials.
        administrator: AWS.
        project_file: The project file.
    """

    cloud: Cloud
    known: cloudfile.CloudFile
    place: CloudDirectory
    administrator: Administrator
    project_file: Path


def set_up(
    cloud: Cloud, project_file: Path, schemas: Iterable[str], *, progress: Progress | None = None
) -> None:
    """Make the accounts that djops works as, or mend them; what is there and good stays as it is.

    Args:
        cloud: The environment, which is up.
        project_file: The project file.
        schemas: The pipeline's schemas.
        progress: Hears about each step.

    Raises:
        ServerUnavailableError: A server cannot be reached from this machine.
        DjopsError: ``E_NOT_UP``; or AWS or a server refuses.
    """
    known = cloudfile.read(cloud.directory)
    if known is None:
        raise DjopsError("the environment was never brought up", code="E_NOT_UP", hint="run `djops up`")
    place = CloudDirectory(cloud.directory, known)
    administrator = Administrator(known.region, cloud.env.profile)
    work, told = _SetUp(cloud, known, place, administrator, project_file), progress or Silent()
    with told.step("Secrets server: djops' log-in") as step:
        _secrets_server(work, step)
    with Secrets(cloud_secrets(project_file, cloud.environment, cloud.env, place)) as kept:
        with told.step("Database: djops' own account"):
            _database(work, kept, schemas)
        with told.step("Object store: djops' own key"):
            _object_store(work, kept)


# -- the secrets server ------------------------------------------------------------------------------------


def _secrets_server(work: _SetUp, step: Step) -> None:
    known, place = work.known, work.place
    if work.cloud.env.secrets is not None or read_json(place.approle) is not None:
        return
    write_private(place.secrets_ca, _awaited(lambda: work.administrator.parameter(known.secrets_ca), step))
    first = work.administrator.secret(known.secrets_init)
    server = _RootedSecrets(place.secrets_address(), place.secrets_ca, Secret(str(first["root_token"])))
    with server as root:
        _mount(root)
        root.request("POST", f"sys/policies/acl/{POLICY}", {"policy": manager_policy()})
        root.request("POST", f"auth/token/roles/{TOKEN_ROLE}", token_role())
        root.request("POST", "auth/approle/role/djops", approle())
        role = root.request("GET", "auth/approle/role/djops/role-id") or {}
        secret = root.request("POST", "auth/approle/role/djops/secret-id", {}) or {}
    ids = {"role_id": role["data"]["role_id"], "secret_id": secret["data"]["secret_id"]}
    write_json(place.approle, ids)


def _awaited(ask: Callable[[], str], step: Step) -> str:
    """Wait for what a new machine leaves when it has booted for the first time."""
    began = time.monotonic()
    while True:
        try:
            return ask()
        except DjopsError as error:
            waited = time.monotonic() - began
            if error.code != "E_NO_SECRET" or waited > FIRST_BOOT_SECONDS:
                raise
            step.note(f"its machine is setting it up, for {waited:.0f} s")
            time.sleep(_POLL_SECONDS)


def _mount(root: Secrets) -> None:
    mounts = (root.request("GET", "sys/mounts") or {}).get("data") or {}
    if f"{MOUNT}/" not in mounts:
        root.request("POST", f"sys/mounts/{MOUNT}", {"type": "kv", "options": {"version": "2"}})
    methods = (root.request("GET", "sys/auth") or {}).get("data") or {}
    if "approle/" not in methods:
        root.request("POST", "sys/auth/approle", {"type": "approle"})


class _RootedSecrets(Secrets):
    """A session with the first token of a new secrets server, which is not given back."""

    def __init__(self, address: str, ca: Path, token: Secret) -> None:
        super().__init__(SecretsConnection(address, "", Secret(""), ca))
        self._root = token

    def _login(self) -> None:
        self._client.token = self._root.reveal()
        self._expires = float("inf")

    def close(self) -> None:
        self._client.token = ""
        super().close()


# -- the database ------------------------------------------------------------------------------------------


def _database(work: _SetUp, kept: Secrets, schemas: Iterable[str]) -> None:
    place, project = work.place, work.cloud.project.project
    user, path = manager_account(project), f"{project}/{SECTION}/{work.cloud.environment}-mysql"
    password = _kept(kept, path, place.mysql_manager, {"user": user, "password": passwords.generate()})
    _authority(work)
    manager = place.mysql(user, Secret(password["password"]), _ca(work))
    administrator = work.administrator.secret(work.known.mysql_secret)
    master = place.mysql(str(administrator["username"]), Secret(str(administrator["password"])), _ca(work))
    with Mysql(master) as server:
        account = quote_account(user, "%")
        secret = quote_string(password["password"])
        server.query(f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY {secret} REQUIRE SSL")
        if not logs_in(manager):
            server.query(f"ALTER USER {account} IDENTIFIED BY {secret} REQUIRE SSL ACCOUNT UNLOCK")
        _grant_server(server, account)
        for statement in (
            *grant_tables(account).values(),
            *grant_schemas(account, [SCRATCH, *schemas], escape=server.escapes_patterns()),
            *grant_events(account),
            *grant_journal(account),
        ):
            server.query(statement)
    write_json(place.mysql_manager, {**password, "administrator": master.user})


def _grant_server(server: Mysql, account: str) -> None:
    """Give what may be given; where ``CONNECTION_ADMIN`` may not, the procedure of RDS in its place."""
    for privilege in SERVER_PRIVILEGES:
        try:
            server.query(grant_server(account, [privilege]))
        except DjopsError:
            if privilege != END_SESSIONS:
                raise
            server.query(f"GRANT EXECUTE ON PROCEDURE {END_SESSION} TO {account}")


def _authority(work: _SetUp) -> None:
    """Fetch what RDS' certificates are verified with, unless the project file names a file for it."""
    existing = work.cloud.env.existing.database
    if existing is None and not work.place.mysql_ca.exists():
        write_private(work.place.mysql_ca, work.administrator.rds_authorities())


def _ca(work: _SetUp) -> Path | None:
    return work.place.database_ca(work.cloud.env, work.project_file)


# -- the object store --------------------------------------------------------------------------------------


def _object_store(work: _SetUp, kept: Secrets) -> None:
    place, user = work.place, work.known.access_manager
    path = f"{work.cloud.project.project}/{SECTION}/{work.cloud.environment}-s3"
    stored = kept.read_secret(path)
    there = work.administrator.keys(user)
    if stored is not None and stored.fields.get("access_key") in there:
        write_json(place.s3_manager, dict(stored.fields))
        return
    for lost in there[1:]:
        # IAM allows two keys; one whose secret nobody has is of no use.
        work.administrator.delete_key(user, lost)
    key, secret = work.administrator.new_key(user)
    fields: dict[str, str | None] = {"access_key": key, "secret_key": secret.reveal()}
    kept.merge_secret(path, fields)
    write_json(place.s3_manager, fields)
    for lost in there[:1]:
        work.administrator.delete_key(user, lost)


def _kept(kept: Secrets, path: str, file: Path, fresh: Mapping[str, str]) -> Mapping[str, str]:
    """Return a credential that another machine, or an earlier run, kept; else keep a fresh one."""
    stored = kept.read_secret(path)
    if stored is not None and fresh.keys() <= stored.fields.keys():
        return {name: stored.fields[name] for name in fresh}
    on_disk: Mapping[str, Any] = read_json(file) or {}
    chosen = {name: str(on_disk.get(name, value)) for name, value in fresh.items()}
    with contextlib.suppress(AccessDeniedError):
        kept.merge_secret(path, dict(chosen))
    return chosen
