"""A welcome link from the side of whoever uses it: no account, no AppRole, only the token."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from djops.errors import AccessDeniedError, DjopsError, ServerUnavailableError
from djops.systems.connections import Secret
from djops.systems.tls_errors import tls_error

_LOOKUP, _UNWRAP = "sys/wrapping/lookup", "sys/wrapping/unwrap"
_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
SECONDS = 15.0
"""How long one request may take."""


@dataclass(frozen=True)
class Link:
    """What a link says about itself, without being used up.

    Attributes:
        path: The API path that was read for it; anything else than expected means that it was opened before.
        made: When, as the server wrote it.
        seconds: How long it is good for from then on.
    """

    path: str
    made: str
    seconds: int


@dataclass(frozen=True)
class LinkServer:
    """A secrets server, to which a link's token is the only credential.

    Attributes:
        address: Its URL.
        ca: PEM file of the authority its certificate must come from; ``None`` uses the system's.
        session: The connection.
    """

    address: str
    ca: Path | None = None
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def look(self, token: Secret) -> Link:
        """Ask what a link holds; it stays good.

        Args:
            token: The link.

        Raises:
            DjopsError: ``E_LINK_USED`` when it was used, has ended or never was one.
            ServerUnavailableError: The server does not answer.
        """
        data = self._send(_LOOKUP, token)
        return Link(str(data["creation_path"]), str(data["creation_time"]), int(data["creation_ttl"]))

    def open(self, token: Secret) -> Mapping[str, str]:
        """Use a link up.

        Args:
            token: The link.

        Returns:
            The fields of the secret behind it. They must not be shown.

        Raises:
            DjopsError: As :meth:`look`.
        """
        fields = self._send(_UNWRAP, token).get("data")
        return {str(name): str(value) for name, value in (fields or {}).items()}

    def log_in(self, method: str, path: str, user: str, password: Secret) -> Secret:
        """Log in as somebody.

        Args:
            method: ``userpass`` or ``ldap``.
            path: Where the method is mounted.
            user: The account's name.
            password: Its password there.

        Returns:
            A token that is good for some minutes.

        Raises:
            AccessDeniedError: ``E_LOGIN`` when the server refuses.
            ServerUnavailableError: The server does not answer.
        """
        where = f"auth/{path}/login/{quote(user, safe='')}"
        response = self._request("POST", where, {}, {"password": password.reveal()})
        if response.status_code in _REFUSED:
            raise AccessDeniedError(
                f"the secrets server refuses the log-in of {user!r} with {method}",
                where=self.address,
                code="E_LOGIN",
                hint="check the password: it is not the database's",
            )
        return Secret(str(self._data(response, "auth")["client_token"]))

    def read(self, token: Secret, path: str) -> Mapping[str, str]:
        """Read a secret with a token.

        Args:
            token: The token.
            path: API path.

        Returns:
            Its fields. They must not be shown.

        Raises:
            AccessDeniedError: ``E_LOGIN`` when the token may not, or there is nothing.
            ServerUnavailableError: The server does not answer.
        """
        response = self._request("GET", path, {"X-Vault-Token": token.reveal()}, None)
        if response.status_code in _REFUSED:
            raise AccessDeniedError(
                f"the log-in does not open {path}",
                where=self.address,
                code="E_LOGIN",
                hint="is the name you logged in with the account's?",
            )
        fields = self._data(response, "data").get("data") or {}
        return {str(name): str(value) for name, value in fields.items()}

    def _send(self, path: str, token: Secret) -> dict[str, Any]:
        return self._understood(self._request("POST", path, {"X-Vault-Token": token.reveal()}, None))

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: Mapping[str, str] | None
    ) -> requests.Response:
        host = urlsplit(self.address).hostname or ""
        self.session.trust_env = not _is_loopback(host)
        try:
            return self.session.request(
                method,
                f"{self.address.rstrip('/')}/v1/{path}",
                headers={**headers, "X-Vault-Request": "true"},
                json=body,
                verify=str(self.ca) if self.ca else True,
                timeout=SECONDS,
            )
        except (requests.RequestException, OSError, UnicodeError) as error:
            raise tls_error(error, "the secrets server", self.address, self.ca) or ServerUnavailableError(
                "the secrets server cannot be reached",
                where=self.address,
                hint="is this machine in the network that it serves? The link was not used",
            ) from None

    def _data(self, response: requests.Response, part: str) -> dict[str, Any]:
        try:
            answer = response.json()[part]
        except (ValueError, KeyError, TypeError):
            answer = None
        if not response.ok or not isinstance(answer, dict):
            raise ServerUnavailableError(
                f"what answers there is no working secrets server (status {response.status_code})",
                where=self.address,
            )
        return dict(answer)

    def _understood(self, response: requests.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = {}
        if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise ServerUnavailableError(
                "the secrets server is sealed", where=self.address, hint="the link was not used; try later"
            )
        if response.ok and isinstance(answer.get("data"), dict):
            return dict(answer["data"])
        if response.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN):
            raise DjopsError(
                "the link is not good: it was used already, it has ended, or a part of it is missing",
                where=self.address,
                code="E_LINK_USED",
            )
        raise ServerUnavailableError(
            f"what answers there gives no link's secret (status {response.status_code})",
            where=self.address,
            hint="has the page been changed? Ask who sent it to you",
        )


def events(log: Path, made: str) -> Iterator[tuple[str, str, str]]:
    """Read from an OpenBao audit log what became of a link.

    Args:
        log: The log, one JSON object a line.
        made: When the link was made, exactly as the server wrote it.

    Yields:
        Time, address of the other side, and ``opened`` or ``refused``, in order.

    Raises:
        OSError: The log cannot be read.
    """
    mark = ""
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if mark and mark in line and (_UNWRAP in line or _LOOKUP in line):
                entry = _entry(line)
                asked, failed = entry.get("request", {}), bool(entry.get("error"))
                # A refusal is logged with the request; what was given out, with the response.
                if failed or (entry.get("type") == "response" and asked.get("path") == _UNWRAP):
                    what = "refused" if failed else "opened"
                    yield str(entry.get("time", "")), str(asked.get("remote_address", "")), what
            elif not mark and made in line:
                mark = _mark(_entry(line), made)


def _mark(entry: Mapping[str, Any], made: str) -> str:
    about = (entry.get("response") or {}).get("wrap_info") or {}
    return str(about.get("token", "")) if about.get("creation_time") == made else ""


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
