"""Ways in that somebody has or had, tried with her own credentials: each opens, or is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from djops.compile.machines import credentials_path
from djops.compile.vault import MOUNT, policy_name
from djops.errors import AccessDeniedError, ApplyError, DjopsError, ServerUnavailableError
from djops.services import machines
from djops.services.servers import Servers
from djops.services.welcome import ACCESSOR
from djops.systems.connections import Secret, SecretsConnection
from djops.systems.mysql import Mysql
from djops.systems.s3 import S3, key_is_refused
from djops.systems.vault import Secrets

TOKEN_SECONDS = 900

Outcome = Literal["open", "refused", "unknown"]
Tried = tuple[Outcome, str]
_Work = Callable[[], Tried]


@dataclass(frozen=True)
class Doors:
    """Somebody's credentials, in memory only.

    Attributes:
        fields: What the secrets server keeps for her.
        token: A token with her rights, as a log-in to the secrets server gives.
        path: Where her secret is, below the mount.
        link: The accessor of her newest welcome link.
        login: What a service logs in to the secrets server with.
        given: A service's account in the database, and the password that the secrets server gave with it.
    """

    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: Secret | None = None
    path: str = ""
    link: str = ""
    login: SecretsConnection | None = None
    given: tuple[str, Secret] | None = None


@dataclass(frozen=True)
class Attempt:
    """A way in that was tried.

    Attributes:
        system: ``mysql``, ``s3`` or ``secrets``.
        way: What was tried, without anything secret.
        outcome: Whether it let her in.
        answer: What the server said.
        at: When.
    """

    system: str
    way: str
    outcome: Outcome
    answer: str
    at: str


def doors(servers: Servers, who: str, path: str) -> Doors:
    """Take out somebody's credentials, and make a token as she could have one.

    Args:
        servers: The servers.
        who: Account name.
        path: Where her secret is, below the mount.

    Raises:
        DjopsError: The secrets server does not answer, or refuses.
    """
    stored = servers.secrets.read_secret(path)
    known = servers.secrets.read_metadata(path)
    token = servers.secrets.mint_token([policy_name(servers.site.project.project, who)], TOKEN_SECONDS)
    link = known.facts.get(ACCESSOR, "") if known else ""
    login = machines.another_login(servers, who) if "/services/" in path else None
    given = _given(servers, who, login) if login is not None else None
    return Doors(stored.fields if stored else {}, token, path, link, login, given)


def _given(servers: Servers, who: str, login: SecretsConnection) -> tuple[str, Secret] | None:
    """Have the secrets server give a service credentials, if it does and can."""
    project = servers.site.project
    own = credentials_path(project, who) if who in project.services else None
    if own is None:
        return None
    try:
        # Not closed: with the session would end what is leased to it.
        found = Secrets(login).request("GET", own)
    except DjopsError:
        return None
    return (found["data"]["username"], Secret(found["data"]["password"])) if found else None


def attempts(servers: Servers, who: str, found: Doors, *, must_answer: bool) -> tuple[Attempt, ...]:
    """Try everything.

    Args:
        servers: The servers.
        who: Account name.
        found: Her credentials; without any, nothing can be tried.
        must_answer: Whether a server that does not answer is an error, and not an unknown outcome.

    Returns:
        One attempt for each way in.

    Raises:
        ServerUnavailableError: A server does not answer that must.
    """
    done = []
    for system, way, work in _ways(servers, who, found):
        try:
            outcome, answer = work()
        except DjopsError as error:
            if must_answer and isinstance(error, ServerUnavailableError):
                raise
            outcome, answer = "unknown", error.message
        at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        done.append(Attempt(system, way, outcome, answer, at))
    return tuple(done)


def _ways(servers: Servers, who: str, found: Doors) -> Iterator[tuple[str, str, _Work]]:
    password = found.fields.get("database.password")
    if password:
        secret = Secret(password)
        yield "mysql", f"log-in of {who} with the kept password", lambda: _database(servers, who, secret)
    for store in servers.site.project.stores:
        key, hers = (found.fields.get(f"stores.{store}.{part}_key") for part in ("access", "secret"))
        if key and hers:
            her = replace(servers.site.s3, access_key=key, secret_key=Secret(hers))
            bucket = servers.site.project.stores[store].bucket
            yield "s3", f"access key {key}", partial(_store, S3(her), bucket)
            break  # one key serves all stores
    if (token := found.token) is not None:
        yield "secrets", "a token with her policy", lambda: _token(servers, token, found.path)
    if (login := found.login) is not None:
        yield "secrets", "a log-in with its role id and a secret id", lambda: _login(login)
    if found.given is not None:
        user, given = found.given
        way = f"log-in of {user} with what the secrets server gave {who}"
        yield "mysql", way, lambda: _database(servers, user, given)
    if found.link:
        yield "secrets", "her newest welcome link", lambda: _link(servers, found.link)


def _database(servers: Servers, who: str, password: Secret) -> Tried:
    her = replace(servers.site.mysql, user=who, password=password)
    try:
        with Mysql(her) as mysql:
            mysql.query("SELECT 1")
    except AccessDeniedError as error:
        return "refused", error.message
    except ApplyError as error:
        # A locked account is refused with an error of its own.
        if "locked" not in error.message:
            raise
        return "refused", error.message
    return "open", "the log-in was taken"


def _store(server: S3, bucket: str) -> Tried:
    if key_is_refused(server, bucket):
        return "refused", "the key is not known or not active"
    return "open", "the key is known"


def _token(servers: Servers, token: Secret, path: str) -> Tried:
    if servers.secrets.opens(token, f"{MOUNT}/data/{path}"):
        return "open", "it reads her secret"
    return "refused", "permission denied"


def _login(login: SecretsConnection) -> Tried:
    try:
        with Secrets(login) as session:
            session.login()
    except AccessDeniedError as error:
        return "refused", error.message
    return "open", "the log-in was taken"


def _link(servers: Servers, accessor: str) -> Tried:
    if servers.secrets.lookup_accessor(accessor) is not None:
        return "open", "it can still be used"
    return "refused", "there is no such link any more"
