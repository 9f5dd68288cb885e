"""OpenBao and Vault through one client: policies, the versioned key-value engine, short-lived tokens.

Two listings that only OpenBao has (``detailed``) read a whole project in three requests; against Vault
each policy and each secret's metadata is a request of its own.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import hvac
import requests
from hvac.adapters import RawAdapter
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import MaxRetryError, SSLError
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from djops.compile.secrets_state import SecretsState
from djops.compile.vault import DATABASE, LOGINS, MOUNT, policy_name
from djops.compile.vault_manager import (
    TOKEN_ROLE,
    example_paths,
    is_another_projects,
    missing_rules,
    rule_for,
)
from djops.errors import AccessDeniedError, ConflictError, DjopsError, ServerUnavailableError
from djops.plan.operations import VaultCall
from djops.systems.connections import Secret, SecretsConnection
from djops.systems.tls_errors import tls_error

THREADS = 8
"""Requests under way at once where each item has to be asked for singly."""

SECTIONS = ("people", "services")
"""Below each project's path."""

_SETTINGS = ("auth/approle/role", f"{DATABASE}/roles", f"{DATABASE}/static-roles", LOGINS)
"""Where services' log-ins are, what the database engine makes for them, and people's log-ins."""

_MERGE_ATTEMPTS = 5


class _Retry(Retry):
    """Sends again after what may pass, which a bad certificate will not."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """Give up at once, or wait as the base class does."""
        if isinstance(error, SSLError) and _pool is not None:
            raise MaxRetryError(_pool, url or "", error)
        return super().increment(method, url, response, error, _pool, _stacktrace)


_RETRY = _Retry(
    total=4,
    backoff_factor=0.1,
    status_forcelist=(412, 502),
    allowed_methods={"GET", "LIST"},
    raise_on_status=False,
)
"""Only what changes nothing is sent again: a server that has just started elects its leader first."""

_Out = TypeVar("_Out")


@dataclass(frozen=True)
class StoredSecret:
    """One version of a secret.

    Attributes:
        fields: Its fields; empty when the newest version was deleted.
        version: Number of the newest version, for check-and-set.
    """

    fields: Mapping[str, str] = field(repr=False)
    version: int


@dataclass(frozen=True)
class SecretFacts:
    """What may be known about a secret without reading it.

    Attributes:
        facts: Its ``custom_metadata``.
        version: Number of the newest version, 0 when there is none.
        readable: Whether the newest version exists and was not deleted.
    """

    facts: Mapping[str, str]
    version: int
    readable: bool

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read the server's description of one secret."""
        version = int(data.get("current_version") or 0)
        newest = (data.get("versions") or {}).get(str(version)) or {}
        readable = version > 0 and not newest.get("deletion_time") and not newest.get("destroyed")
        return cls(facts=dict(data.get("custom_metadata") or {}), version=version, readable=readable)


@dataclass(frozen=True)
class Wrapped:
    """A secret behind a token that gives it out once.

    Attributes:
        token: The token; whoever has it first gets the secret.
        accessor: Names the token without being it.
        path: The API path that was read for it.
        made: When, as the server wrote it.
        seconds: How long it is good for.
    """

    token: Secret
    accessor: str
    path: str
    made: str
    seconds: int


class _RefusedError(Exception):
    """An answer that is not 2xx.

    Args:
        response: The answer; only its status and its list of errors are kept.
    """

    def __init__(self, response: requests.Response) -> None:
        self.status = response.status_code
        self.body: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            body = response.json()
            self.body = body if isinstance(body, dict) else {}
        self.errors = [str(error) for error in self.body.get("errors") or ()]
        super().__init__(self.status)

    @property
    def no_route(self) -> bool:
        """Whether nothing at all is mounted at the path."""
        return any("no handler for route" in error for error in self.errors)


class Secrets:
    """A session on a secrets server as djops' AppRole; use it as a context manager.

    It logs in with the first request, again when its token has expired, and gives the token back when
    it is closed. It may be shared by threads.

    Args:
        connection: The server and the AppRole.
        timeout: Seconds that one request may take.
    """

    def __init__(self, connection: SecretsConnection, *, timeout: float = 15) -> None:
        self._connection = connection
        self._guard = threading.Lock()
        self._expires = 0.0
        session = requests.Session()
        # The environment names proxies and authorities for the world outside; neither is for loopback.
        session.trust_env = not _is_loopback(connection.address)
        transport = HTTPAdapter(pool_maxsize=THREADS, max_retries=_RETRY)
        session.mount("https://", transport)
        session.mount("http://", transport)
        session.verify = str(connection.ca) if connection.ca else True
        # An empty token, or hvac would take the user's own from VAULT_TOKEN or ~/.vault-token.
        self._client = hvac.Client(
            connection.address.rstrip("/"),
            "",
            verify=session.verify,
            timeout=timeout,
            session=session,
            adapter=RawAdapter,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the token back and close the connections; a server that is gone does not matter."""
        if self._client.token:
            with contextlib.suppress(_RefusedError, DjopsError):
                self._exchange("POST", "auth/token/revoke-self", None)
            self._client.token = ""
        self._client.adapter.close()

    def login(self) -> None:
        """Log in now, to learn whether the AppRole is good.

        Raises:
            ServerUnavailableError: The server cannot be reached or is sealed.
            AccessDeniedError: The server does not know the AppRole.
        """
        with self._guard:
            self._login()

    def token(self) -> Secret:
        """Return the token of this session, which is good for some minutes; logs in if need be."""
        self._ensure_token()
        return Secret(str(self._client.token))

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Send one request.

        Args:
            method: ``GET``, ``LIST``, ``POST``, ``PUT`` or ``DELETE``.
            path: API path below ``/v1/``, not yet quoted.
            body: JSON body.

        Returns:
            The answer; ``None`` when it is empty, or when there is nothing at a path that is read.

        Raises:
            ServerUnavailableError: The server cannot be reached or is sealed.
            AccessDeniedError: ``E_DENIED`` when the AppRole or its token may not do this.
            ConflictError: A check-and-set found another version than expected.
            DjopsError: ``E_SECRETS`` for whatever else the server refuses.
        """
        try:
            return self._send(method, path, body)
        except _RefusedError as error:
            nothing = error.status == HTTPStatus.NOT_FOUND and not error.no_route
            if nothing and method in ("GET", "LIST", "DELETE"):
                return None
            raise self._explained(error, method, path) from None

    def run(self, call: VaultCall) -> dict[str, Any] | None:
        """Carry out one operation of a plan.

        Args:
            call: The operation.

        Returns:
            The server's answer.

        Raises:
            DjopsError: As :meth:`request`.
        """
        return self.request(call.method, call.path, call.body)

    def check(self, project: str) -> str:
        """See to it that the server is set up for djops.

        Args:
            project: The project whose secrets it shall keep.

        Returns:
            The server's version.

        Raises:
            AccessDeniedError: ``E_DENIED`` naming the lines that the AppRole's policy lacks.
            DjopsError: ``E_SECRETS`` when there is no key-value engine of version 2 in djops' place; or as
                :meth:`request`.
        """
        paths = example_paths(project)
        answer = self.request("POST", "sys/capabilities-self", {"paths": sorted(paths.values())}) or {}
        lacking = missing_rules({rule: answer["data"].get(path, ()) for rule, path in paths.items()})
        if lacking:
            raise AccessDeniedError(
                "djops' AppRole lacks rights that it needs",
                where=self._connection.address,
                hint="\n".join(["add to its policy:", *(f"     {line}" for line in lacking)]),
            )
        self._check_engine()
        return str((self.request("GET", "sys/health") or {}).get("version", ""))

    def _check_engine(self) -> None:
        try:
            answer = self._send("GET", f"sys/internal/ui/mounts/{MOUNT}", None) or {}
        except _RefusedError:
            # So it answers, too, to whoever may do nothing below a mount; that was asked before.
            raise self._no_engine(f"there is no engine at {MOUNT}/") from None
        version = (answer["data"].get("options") or {}).get("version")
        if answer["data"].get("type") != "kv" or version != "2":
            raise self._no_engine(f"the engine at {MOUNT}/ is no key-value engine of version 2")

    # Policies

    def read_policies(self, prefix: str = "") -> dict[str, str]:
        """Read policies.

        Args:
            prefix: What their names begin with; names are lower case.

        Returns:
            The texts by name.

        Raises:
            DjopsError: As :meth:`request`.
        """
        details = self._details("sys/policies/detailed/acl")
        if details is not None:
            return {name: str(item["policy"]) for name, item in details.items() if name.startswith(prefix)}
        return self._read_policies_singly(prefix)

    def _read_policies_singly(self, prefix: str) -> dict[str, str]:
        names = [name for name in self._keys("sys/policies/acl") if name.startswith(prefix)]
        answers = _concurrently(lambda name: self.request("GET", f"sys/policies/acl/{name}"), names)
        return {name: str(answer["data"]["policy"]) for name, answer in answers.items() if answer is not None}

    # Secrets

    def read_secret(self, path: str) -> StoredSecret | None:
        """Read a secret.

        Args:
            path: Its path below the mount.

        Returns:
            Its newest version, ``None`` when there never was one.

        Raises:
            DjopsError: As :meth:`request`.
        """
        try:
            answer = self._send("GET", f"{MOUNT}/data/{path}", None)
        except _RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise self._explained(error, "GET", path) from None
            # A deleted version answers so too, and tells its number.
            answer = error.body
        data = (answer or {}).get("data")
        if not data:
            return None
        return StoredSecret(fields=dict(data.get("data") or {}), version=int(data["metadata"]["version"]))

    def write_secret(self, path: str, fields: Mapping[str, str], cas: int) -> int:
        """Write a new version of a secret.

        Args:
            path: Its path below the mount.
            fields: All its fields.
            cas: Number of the version it replaces, 0 for a new secret.

        Returns:
            Number of the version written.

        Raises:
            ConflictError: The newest version is not ``cas``.
            DjopsError: As :meth:`request`.
        """
        body = {"data": dict(fields), "options": {"cas": cas}}
        answer = self.request("POST", f"{MOUNT}/data/{path}", body) or {}
        return int(answer["data"]["version"])

    def merge_secret(self, path: str, changes: Mapping[str, str | None]) -> int:
        """Set or remove fields of a secret and keep the others, whoever else writes at the same time.

        Args:
            path: Its path below the mount.
            changes: New values by field; ``None`` removes a field.

        Returns:
            Number of the newest version, which is a new one only when something changed.

        Raises:
            ConflictError: Somebody else kept changing it.
            DjopsError: As :meth:`request`.
        """
        for attempt in range(_MERGE_ATTEMPTS):
            stored = self.read_secret(path) or StoredSecret({}, 0)
            merged = {**stored.fields, **changes}
            wanted = {name: value for name, value in merged.items() if value is not None}
            if stored.version and wanted == stored.fields:
                return stored.version
            try:
                return self.write_secret(path, wanted, stored.version)
            except ConflictError:
                if attempt == _MERGE_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def read_metadata(self, path: str) -> SecretFacts | None:
        """Read what is known about a secret, without the secret.

        Args:
            path: Its path below the mount.

        Returns:
            The facts, ``None`` when there is nothing at ``path``.

        Raises:
            DjopsError: As :meth:`request`.
        """
        answer = self.request("GET", f"{MOUNT}/metadata/{path}")
        return SecretFacts.parse(answer["data"]) if answer else None

    def write_metadata(self, path: str, facts: Mapping[str, str]) -> None:
        """Record facts beside a secret that are not secret, in the place of all earlier ones.

        Args:
            path: The secret's path below the mount.
            facts: At most 64, names up to 128 bytes, values up to 512: the servers' limits.

        Raises:
            DjopsError: As :meth:`request`.
        """
        self.request("POST", f"{MOUNT}/metadata/{path}", {"custom_metadata": dict(facts)})

    def list_secrets(self, path: str) -> list[str]:
        """List what lies below a path.

        Args:
            path: A path below the mount, not of a secret itself.

        Returns:
            Names, with a slash behind those that hold further ones; empty when there is nothing.

        Raises:
            DjopsError: As :meth:`request`.
        """
        return self._keys(f"{MOUNT}/metadata/{path}")

    def delete_secret_completely(self, path: str) -> None:
        """Delete a secret with all its versions and facts; nothing happens when there is none.

        Args:
            path: Its path below the mount.

        Raises:
            DjopsError: As :meth:`request`.
        """
        self.request("DELETE", f"{MOUNT}/metadata/{path}")

    # State

    def state(self, project: str) -> SecretsState:
        """Read everything a project has on the server, but no secret.

        Args:
            project: Name of the project.

        Returns:
            Its policies, for each secret that can be read the facts beside it, and the settings of services'
            log-ins and of what the database engine makes for them.

        Raises:
            DjopsError: As :meth:`request`.
        """
        self._ensure_token()
        with ThreadPoolExecutor(max_workers=1 + len(SECTIONS) + len(_SETTINGS)) as pool:
            policies = pool.submit(self.read_policies, policy_name(project, ""))
            settings = pool.map(lambda path: self._settings_below(path, policy_name(project, "")), _SETTINGS)
            sections = pool.map(lambda section: self._facts_below(f"{project}/{section}"), SECTIONS)
            secrets = {path: facts for section in sections for path, facts in section.items()}
            found = policies.result()
            below = tuple(settings)
        mine = {name: text for name, text in found.items() if not is_another_projects(project, name, text)}
        others = found.keys() - mine.keys()
        own = {
            path: value
            for listed in below
            for path, value in (listed or {}).items()
            if path.rpartition("/")[2] not in others
        }
        return SecretsState(policies=mine, secrets=secrets, settings=None if below[0] is None else own)

    def _settings_below(self, path: str, prefix: str) -> dict[str, Mapping[str, Any]] | None:
        """Read what is configured for services, ``None`` where the server was set up without that."""
        try:
            answer = self._send("LIST", path, None)
        except _RefusedError as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
                return None if error.status == HTTPStatus.FORBIDDEN else {}
            raise self._explained(error, "LIST", path) from None
        names = [str(name) for name in (answer or {}).get("data", {}).get("keys", ())]
        chosen = [f"{path}/{name}" for name in names if name.startswith(prefix)]
        answers = _concurrently(lambda one: self.request("GET", one), chosen)
        return {one: dict(found["data"]) for one, found in answers.items() if found is not None}

    def _facts_below(self, path: str) -> dict[str, Mapping[str, str]]:
        details = self._details(f"{MOUNT}/detailed-metadata/{path}")
        seen: Mapping[str, SecretFacts | None]
        if details is None:
            names = [name for name in self.list_secrets(path) if not name.endswith("/")]
            seen = _concurrently(lambda name: self.read_metadata(f"{path}/{name}"), names)
        else:
            seen = {name: SecretFacts.parse(item) for name, item in details.items()}
        readable = {name: facts for name, facts in seen.items() if facts is not None and facts.readable}
        return {f"{path}/{name}": facts.facts for name, facts in readable.items()}

    # Tokens

    def mint_token(self, policies: Iterable[str], ttl: int) -> Secret:
        """Make a token for a principal.

        Args:
            policies: Names of the policies it shall hold, all of them djops' own.
            ttl: Seconds it is good for; it cannot be renewed.

        Returns:
            The token, which does not end with djops' own.

        Raises:
            DjopsError: As :meth:`request`.
        """
        body = {"policies": sorted(policies), "ttl": f"{ttl}s", "renewable": False}
        answer = self.request("POST", f"auth/token/create/{TOKEN_ROLE}", body) or {}
        return Secret(answer["auth"]["client_token"])

    def opens(self, token: Secret, path: str) -> bool:
        """Tell whether a token reads a path; what it reads is thrown away.

        Args:
            token: The token.
            path: API path below ``/v1/``.

        Raises:
            DjopsError: As :meth:`request`, for anything but a refusal.
        """
        try:
            self._exchange("GET", path, None, token=token)
        except _RefusedError as error:
            if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
                return False
            raise self._explained(error, "GET", path) from None
        return True

    def revoke_token(self, token: Secret) -> None:
        """End a token that :meth:`mint_token` made; nothing happens when it has ended already.

        Args:
            token: The token.

        Raises:
            ServerUnavailableError: The server cannot be reached or is sealed.
        """
        # In the token's own name: revoking others' tokens is not among djops' rights.
        with contextlib.suppress(_RefusedError):
            self._exchange("POST", "auth/token/revoke-self", None, token=token)

    def wrap_secret(self, path: str, seconds: int) -> Wrapped:
        """Put a secret behind a token that can be used once, without reading it here.

        Args:
            path: The secret's path below the mount.
            seconds: How long the token is good for.

        Returns:
            The token, which does not end with djops' own.

        Raises:
            DjopsError: As :meth:`request`; ``E_NO_CREDENTIALS`` when there is no such secret.
        """
        if not (facts := self.read_metadata(path)) or not facts.readable:
            raise DjopsError(
                f"there is nothing at {path} to hand over",
                code="E_NO_CREDENTIALS",
                hint="`djops apply` makes what is missing",
            )
        return self.wrap("GET", f"{MOUNT}/data/{path}", seconds)

    def wrap(self, method: str, path: str, seconds: int) -> Wrapped:
        """Put an answer behind a token that can be used once, without reading it here.

        Args:
            method: ``GET`` or ``POST``.
            path: API path.
            seconds: How long the token is good for.

        Returns:
            The token, which does not end with djops' own.

        Raises:
            DjopsError: As :meth:`request`.
        """
        try:
            answer = self._send(method, path, None, wrap=seconds) or {}
        except _RefusedError as error:
            raise self._explained(error, method, path) from None
        about = answer["wrap_info"]
        return Wrapped(
            Secret(about["token"]),
            str(about["accessor"]),
            str(about["creation_path"]),
            str(about["creation_time"]),
            int(about["ttl"]),
        )

    def accessors(self) -> list[str]:
        """List the accessors of all tokens of the server.

        Raises:
            DjopsError: As :meth:`request`.
        """
        return self._keys("auth/token/accessors")

    def lookup_accessor(self, accessor: str) -> dict[str, Any] | None:
        """Tell about a token without having it.

        Args:
            accessor: The token's accessor.

        Returns:
            What the server knows, ``None`` when there is no such token any more.

        Raises:
            DjopsError: As :meth:`request`.
        """
        answer = self._about_accessor("auth/token/lookup-accessor", accessor)
        # The server takes a used-up token away a moment later; until then its count of uses is negative.
        return dict(answer["data"]) if answer and int(answer["data"].get("num_uses") or 0) >= 0 else None

    def revoke_accessor(self, accessor: str) -> None:
        """End a token without having it; nothing happens when there is none.

        Args:
            accessor: The token's accessor.

        Raises:
            DjopsError: As :meth:`request`.
        """
        self._about_accessor("auth/token/revoke-accessor", accessor)

    def _about_accessor(self, path: str, accessor: str) -> dict[str, Any] | None:
        try:
            return self._send("POST", path, {"accessor": accessor}) or {}
        except _RefusedError as error:
            # Servers say so with 403, 404 or 400, each in its version.
            if any("invalid accessor" in said or "failed to find accessor" in said for said in error.errors):
                return None
            raise self._explained(error, "POST", path) from None

    # Sending

    def _keys(self, path: str) -> list[str]:
        answer = self.request("LIST", path)
        return [str(key) for key in answer["data"]["keys"]] if answer else []

    def _details(self, path: str) -> dict[str, dict[str, Any]] | None:
        """List with details, ``None`` where the server has no such listing."""
        try:
            answer = self._send("LIST", path, None)
        except _RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND and not error.errors:
                return {}
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.FORBIDDEN):
                return None
            raise self._explained(error, "LIST", path) from None
        return dict((answer or {}).get("data", {}).get("key_info") or {})

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, wrap: int | None = None
    ) -> dict[str, Any] | None:
        self._ensure_token()
        try:
            return self._exchange(method, path, body, wrap=wrap)
        except _RefusedError as error:
            if error.status != HTTPStatus.FORBIDDEN or time.monotonic() < self._expires:
                raise
        self._ensure_token()
        return self._exchange(method, path, body, wrap=wrap)

    def _exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        token: Secret | None = None,
        wrap: int | None = None,
    ) -> dict[str, Any] | None:
        adapter = RawAdapter.from_adapter(self._client.adapter) if token else self._client.adapter
        if token:
            adapter.token = token.reveal()
        url = "/v1/" + quote(_checked(path), safe="/")
        try:
            response = adapter.request(
                method.lower(),
                url,
                json=None if body is None else dict(body),
                wrap_ttl=None if wrap is None else f"{wrap}s",
                raise_exception=False,
            )
        except (requests.RequestException, OSError) as error:
            raise self._unreachable(error) from None
        if not response.ok:
            raise _RefusedError(response)
        try:
            return dict(response.json()) if response.content else None
        except ValueError:
            raise self._no_secrets_server() from None

    def _ensure_token(self) -> None:
        with self._guard:
            if time.monotonic() >= self._expires:
                self._login()

    def _login(self) -> None:
        if self._connection.no_way is not None:
            raise self._connection.no_way
        self._client.token = ""
        credentials = {"role_id": self._connection.role_id, "secret_id": self._connection.secret_id.reveal()}
        try:
            answer = self._exchange("POST", "auth/approle/login", credentials) or {}
        except _RefusedError as error:
            if not error.errors and error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise self._no_secrets_server() from None
            raise self._login_refused(error) from None
        self._client.token = answer["auth"]["client_token"]
        # Nine tenths: the server's clock started before ours.
        self._expires = time.monotonic() + 0.9 * float(answer["auth"]["lease_duration"])

    # Errors

    def _no_secrets_server(self) -> ServerUnavailableError:
        return ServerUnavailableError(
            "what answers there is neither OpenBao nor Vault",
            where=self._connection.address,
            hint="check host and port in djops.yaml, and whether it is http or https",
        )

    def _login_refused(self, error: _RefusedError) -> DjopsError:
        if error.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            return AccessDeniedError(
                "the secrets server does not accept djops' role id and secret id",
                where=self._connection.address,
                hint="check that the AppRole exists and that the secret id was not revoked",
            )
        return self._explained(error, "POST", "auth/approle/login")

    def _explained(self, error: _RefusedError, method: str, path: str) -> DjopsError:
        status, where, said = error.status, self._connection.address, "; ".join(error.errors)
        if status == HTTPStatus.FORBIDDEN:
            rule = rule_for(path)
            lacks = f"add to its policy: {rule}" if rule else "its policy on the server lacks it"
            hint = f"{lacks}; docs/secrets-server.md has the whole policy"
            return AccessDeniedError(f"djops may not {method} {path}", where=where, hint=hint)
        if error.no_route:
            kind = f"{DATABASE} database" if path.startswith(DATABASE) else ""
            return self._no_engine(f"the server has nothing at {path}", kind)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return ServerUnavailableError("the secrets server is sealed", where=where, hint="unseal it")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ServerUnavailableError(f"the server failed at {method} {path}: {said}", where=where)
        if "check-and-set" in said:
            return ConflictError(f"somebody else changed {path} meanwhile", where=where, hint="try again")
        return DjopsError(f"{method} {path} was refused: {said or status}", where=where, code="E_SECRETS")

    def _no_engine(self, message: str, kind: str = "") -> DjopsError:
        return DjopsError(
            message,
            where=self._connection.address,
            code="E_SECRETS",
            hint="have its administrator run: bao secrets enable -path=" + (kind or f"{MOUNT} -version=2 kv"),
        )

    def _unreachable(self, error: Exception) -> ServerUnavailableError:
        where = self._connection.address
        untrusted = tls_error(error, "the secrets server", where, self._connection.ca)
        if untrusted is not None:
            return untrusted
        said = "does not answer in time" if isinstance(error, requests.Timeout) else "cannot be reached"
        return ServerUnavailableError(f"the secrets server {said}", where=where, hint="see `djops status`")


def _concurrently(function: Callable[[str], _Out], items: Iterable[str]) -> dict[str, _Out]:
    names = list(items)
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        return dict(zip(names, pool.map(function, names), strict=True))


def _checked(path: str) -> str:
    """Refuse a path that the client library would turn into another one."""
    if any(part in ("", ".", "..") for part in path.strip("/").split("/")):
        raise DjopsError(f"{path!r} is no path on a secrets server", code="E_SECRETS")
    return path.strip("/")


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
