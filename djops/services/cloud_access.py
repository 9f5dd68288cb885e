"""The access layer on servers that Pulumi made: the accounts that djops works as, made once.

An RDS administrator is not root: no ``SUPER``, no ``SYSTEM_USER``, and ``CONNECTION_ADMIN`` is not his to
give (AWS' documentation of RDS for MySQL); what ends a session there is a procedure.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from djops.compile.vault_manager import RECOVERY, ROOT_TOKENS, first_requests, recovery_requests
from djops.errors import AccessDeniedError, DjopsError
from djops.model.cloud import manager_account
from djops.services import machines, tunnel
from djops.services.cloud import Cloud
from djops.services.servers import Servers
from djops.services.site import CloudDirectory, cloud_secrets, open_site
from djops.systems import cloudfile, passwords
from djops.systems.cloud_admin import Administrator
from djops.systems.connections import MysqlConnection, Secret, SecretsConnection
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
    place = CloudDirectory(cloud.directory, known, tunnel.reach(cloud.project, cloud.environment))
    administrator = Administrator(known.region, cloud.env.profile)
    work, told = _SetUp(cloud, known, place, administrator, project_file), progress or Silent()
    with told.step("Secrets server: djops' log-in") as step:
        _secrets_server(work, step)
    with Secrets(cloud_secrets(project_file, cloud.environment, cloud.env, place)) as kept:
        with told.step("Database: djops' own account"):
            _database(work, kept, schemas)
        with told.step("Object store: djops' own key"):
            _object_store(work, kept)
    if machines.uses_engine(cloud.project):
        with told.step("Database: what makes services' credentials"):
            _engine(work)


# -- the secrets server ------------------------------------------------------------------------------------


def _secrets_server(work: _SetUp, step: Step) -> None:
    known, place = work.known, work.place
    if work.cloud.env.secrets is not None:
        return
    if not place.secrets_ca.exists():
        write_private(
            place.secrets_ca, _awaited(lambda: work.administrator.parameter(known.secrets_ca), step)
        )
    ids = read_json(place.approle)
    if ids is not None and _is_whole(work):
        return
    with _rooted(work) as root:
        for path, settings in lacking(root):
            root.request("POST", path, settings)
        if ids is None:
            role = root.request("GET", "auth/approle/role/djops/role-id") or {}
            secret = root.request("POST", "auth/approle/role/djops/secret-id", {}) or {}
            write_json(
                place.approle,
                {"role_id": role["data"]["role_id"], "secret_id": secret["data"]["secret_id"]},
            )


def _is_whole(work: _SetUp) -> bool:
    """Tell whether the server has all that djops would set up today, as far as djops' own log-in sees it."""
    place = work.place
    own_log_in = cloud_secrets(work.project_file, work.cloud.environment, work.cloud.env, place)
    with Secrets(own_log_in) as own:
        seen = (own.request("GET", "sys/internal/ui/mounts") or {}).get("data") or {}
    there = {f"sys/mounts/{path}" for path in seen.get("secret") or {}}
    there |= {f"sys/auth/{path}" for path in seen.get("auth") or {}}
    return all(f"{path}/" in there for path, _ in first_requests().values() if path.startswith(_MOUNTS))


_MOUNTS = ("sys/mounts/", "sys/auth/")
"""Where a second write is refused rather than done again."""


def lacking(root: Secrets) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield what a server is to be told so that it is djops': mounts that it lacks, and everything else.

    Args:
        root: A session that may do everything.
    """
    there = {
        f"{parent}{path}".rstrip("/")
        for parent in _MOUNTS
        for path in (root.request("GET", parent.rstrip("/")) or {}).get("data") or {}
    }
    for path, settings in first_requests().values():
        if path not in there:
            yield path, settings


@contextlib.contextmanager
def _rooted(work: _SetUp) -> Iterator[Secrets]:
    """Open a session as root; afterwards no root token holds, and none is kept.

    The first root token is what the machine handed over. In its place Secrets Manager has the recovery keys
    and, renewed by every run, a log-in that may make a root token with them and nothing else.
    """
    if (no_way := work.place.no_way.get("secrets")) is not None:
        raise no_way
    kept = dict(work.administrator.secret(work.known.secrets_init))
    address, ca = work.place.secrets_address(), work.place.secrets_ca
    token = Secret(str(kept.get("root_token") or ""))
    if not token.reveal() or not _holds(address, ca, token):
        token = _recovered(address, ca, kept)
    with _TokenSecrets(address, ca, token) as root:
        try:
            yield root
            before = kept.get(_SECRET_ID)
            kept |= _recovery_log_in(root)
            # Root goes after its successor is kept: whoever is killed in between begins again.
            work.administrator.put_secret(work.known.secrets_init, kept)
            if before is not None:
                root.request("POST", f"{_RECOVERY}/secret-id/destroy", {"secret_id": before})
        finally:
            root.request("POST", "auth/token/revoke-self", {})
    if kept.pop("root_token", None) is not None:
        work.administrator.put_secret(work.known.secrets_init, kept)


_RECOVERY = f"auth/approle/role/{RECOVERY}"
_ROLE_ID, _SECRET_ID = "recovery_role_id", "recovery_secret_id"
"""In the secret beside the recovery keys: the log-in that makes a root token with these."""


def _recovery_log_in(root: Secrets) -> Mapping[str, str]:
    for path, settings in recovery_requests().values():
        root.request("POST", path, settings)
    role = root.request("GET", f"{_RECOVERY}/role-id") or {}
    secret = root.request("POST", f"{_RECOVERY}/secret-id", {}) or {}
    return {_ROLE_ID: role["data"]["role_id"], _SECRET_ID: secret["data"]["secret_id"]}


def _holds(address: str, ca: Path, token: Secret) -> bool:
    """Tell whether a token is one that the server still knows."""
    with _TokenSecrets(address, ca, token) as root:
        try:
            return root.request("GET", "auth/token/lookup-self") is not None
        except AccessDeniedError:
            return False


def _recovered(address: str, ca: Path, kept: Mapping[str, Any]) -> Secret:
    """Make a root token with what is kept beside the recovery keys."""
    role, secret = str(kept.get(_ROLE_ID) or ""), Secret(str(kept.get(_SECRET_ID) or ""))
    with Secrets(SecretsConnection(address, role, secret, ca)) as session:
        token = generate_root(session, [str(key) for key in kept.get("recovery_keys_b64") or ()])
    if token is None:
        raise AccessDeniedError(
            "the secrets server has no root token, and the recovery keys that are kept do not make one",
            where=address,
            hint="have who holds the others make one with `bao operator generate-root`, and put it into the "
            "environment's secret in Secrets Manager as `root_token`",
        )
    return token


def generate_root(session: Secrets, recovery_keys: Sequence[str]) -> Secret | None:
    """Make a root token with the recovery keys.

    Args:
        session: A session that may do that, and need not do anything else.
        recovery_keys: As many of them as it takes.

    Returns:
        The token; ``None`` when these keys are not enough.

    Raises:
        DjopsError: The server refuses.
    """
    # An attempt that was not finished would be in the way.
    session.request("DELETE", f"{ROOT_TOKENS}/attempt")
    begun = (session.request("POST", f"{ROOT_TOKENS}/attempt", {}) or {})["data"]
    for key in recovery_keys:
        sent = {"key": key, "nonce": begun["nonce"]}
        answer = (session.request("POST", f"{ROOT_TOKENS}/update", sent) or {})["data"]
        if answer["complete"]:
            encoded = str(answer["encoded_token"])
            token = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
            pad = str(begun["otp"]).encode()
            return Secret(bytes(one ^ two for one, two in zip(token, pad, strict=True)).decode())
    session.request("DELETE", f"{ROOT_TOKENS}/attempt")
    return None


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


class _TokenSecrets(Secrets):
    """A session with a token that was not got by logging in; it is not given back."""

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
    master = _master(work)
    with Mysql(master) as server:
        account = quote_account(user, "%")
        secret = quote_string(password["password"])
        # Not `IF NOT EXISTS`: MySQL refuses even that of an account in whose name procedures run.
        if not server.query("SELECT 1 FROM mysql.user WHERE User = %s AND Host = '%%'", (user,)):
            server.query(f"CREATE USER {account} IDENTIFIED BY {secret} REQUIRE SSL")
        elif not logs_in(manager):
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


def _master(work: _SetUp) -> MysqlConnection:
    """Return how to reach the database as its administrator, whose password AWS keeps and renews."""
    found = work.administrator.secret(work.known.mysql_secret)
    return work.place.mysql(str(found["username"]), Secret(str(found["password"])), _ca(work))


def _engine(work: _SetUp) -> None:
    """Make what only an administrator makes for the secrets server's database engine, where it lacks."""
    site = open_site(work.project_file, work.cloud.environment)
    with Servers(replace(site, mysql_root=_master(work))) as servers:
        machines.require_engine(servers, servers.mysql.read_state())


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
