"""The new person's side: a link becomes the files that her client reads, and they are tried."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djops.errors import ConfigError, DjopsError, UsageError
from djops.model.graph import PipelineGraph, TableName
from djops.services import credentials
from djops.services.credentials import Written
from djops.services.welcome import FILE, first_query
from djops.systems.client_look import ClientView, look
from djops.systems.connections import Secret
from djops.systems.files import read_json
from djops.systems.links import LinkServer

TOKEN_BEGINNINGS = ("s.", "b.", "hvs.", "hvb.")
"""How tokens of OpenBao and Vault begin."""


@dataclass(frozen=True)
class Bundle:
    """What came with the welcome page; nothing of it is secret.

    Attributes:
        who: Account name.
        project: The project.
        address: URL of the secrets server.
        authority: PEM file of its authority, where it is no public one.
        path: The API path that the link was made from.
        until: When the link ends.
        settings: What ``datajoint.json`` is to hold.
        secrets: Names of the secrets.
        rights: Names of capabilities by schema, when the page was made.
        table: The table for a first query.
        login: Method and path of a log-in to the secrets server, where the lab has one.
        user: What she is called there.
    """

    who: str
    project: str
    address: str
    authority: Path | None
    path: str
    until: dt.datetime
    settings: Mapping[str, Any]
    secrets: tuple[str, ...]
    rights: Mapping[str, frozenset[str]]
    table: TableName | None
    login: tuple[str, str] | None = None
    user: str = ""

    @property
    def shown_schema(self) -> str | None:
        """A schema whose objects she may read, the one of the first query if there is one."""
        readable = [name for name, held in self.rights.items() if "read" in held]
        return self.table.schema if self.table else next(iter(readable), None)


@dataclass(frozen=True)
class Arrived:
    """The outcome.

    Attributes:
        bundle: What the page says.
        written: The files.
        view: What the client reads and reaches with them.
        query: A first query.
    """

    bundle: Bundle
    written: Written
    view: ClientView
    query: tuple[str, ...]


def read_bundle(place: Path) -> Bundle:
    """Read the file that came with a welcome page.

    Args:
        place: The file, or the directory that it is in.

    Raises:
        ConfigError: ``E_WELCOME_FILE`` when it is missing or not what djops wrote.
    """
    file = place / FILE if place.is_dir() else place
    told = read_json(file)
    if told is None:
        raise ConfigError(
            f"there is no {FILE} here",
            where=str(place),
            code="E_WELCOME_FILE",
            hint="change to the directory with the files that came with the page, or name it with --page",
        )
    try:
        table, login = told["table"], told.get("login")
        return Bundle(
            str(told["who"]),
            str(told["project"]),
            str(told["address"]),
            file.parent / Path(told["authority"]).name if told["authority"] else None,
            str(told["path"]),
            dt.datetime.fromisoformat(told["until"]),
            dict(told["settings"]),
            tuple(_name(name) for name in told["secrets"]),
            {str(name): frozenset(held) for name, held in told["rights"].items()},
            TableName(table["schema"], table["table"]) if table else None,
            (str(login["method"]), str(login["path"])) if login else None,
            str(login.get("user") or told["who"]) if login else "",
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConfigError(
            "this file is not what djops wrote",
            where=str(file),
            code="E_WELCOME_FILE",
            hint="ask for the page again",
        ) from None


def _name(name: str) -> str:
    if "/" in name or name.startswith("."):
        raise ValueError(name)
    return name


def refuse_token(argument: str) -> None:
    """Refuse a link that stands in the command line, where everybody on the machine may read it.

    Raises:
        UsageError: ``E_LINK_SHOWN``.
    """
    if argument.startswith(TOKEN_BEGINNINGS):
        raise UsageError(
            "a link in a command line can be read by others on this machine, and the shell keeps it",
            code="E_LINK_SHOWN",
            hint="run `djops welcome` alone, which asks for it; to be safe, ask for a new link",
        )


def arrive(
    bundle: Bundle, link: Secret, directory: Path, *, force: bool = False, now: dt.datetime | None = None
) -> Arrived:
    """Use a link, write the files of the client, and try them.

    Args:
        bundle: What came with the page.
        link: The link.
        directory: Where to write.
        force: Replace files that are for something else.
        now: The time; the clock's unless given.

    Returns:
        What was written, and what the client reaches with it.

    Raises:
        DjopsError: ``E_LINK_USED`` when somebody used it before; ``E_LINK_OPENED`` when it was opened and
            wrapped again; ``E_LINK_ENDED`` when its time is over; ``E_WELCOME_FILE``.
        NotManagedError: ``E_EXISTS`` when files there are for something else; the link is still good then.
    """
    server = _server(bundle)
    credentials.refuse_others(directory, bundle.who, bundle.settings, force=force)
    try:
        _refuse_opened(bundle, server.look(link).path)
        fields = server.open(link)
    except DjopsError as error:
        raise _explained(error, bundle, now or dt.datetime.now(dt.UTC)) from None
    return _settle(bundle, fields, directory, force=force)


def log_in(bundle: Bundle, password: Secret, directory: Path, *, force: bool = False) -> Arrived:
    """Fetch secrets with a log-in of one's own, write the files of the client, and try them.

    It may be repeated, for example when a password was replaced.

    Args:
        bundle: What came with the page.
        password: The password of the log-in, which is the lab's and not the database's.
        directory: Where to write.
        force: Replace files that are for something else.

    Raises:
        UsageError: ``E_NO_LOGIN`` when the lab has no log-in with a password.
        AccessDeniedError: ``E_LOGIN`` when the server refuses.
    """
    if bundle.login is None or bundle.login[0] == "oidc":
        raise UsageError(
            "the lab has no log-in to the secrets server that takes a password",
            code="E_NO_LOGIN",
            hint="with OIDC: bao login -method=oidc -token-only | djops welcome --token -"
            if bundle.login
            else "ask for a link: `djops welcome` takes one",
        )
    token = _server(bundle).log_in(*bundle.login, bundle.user, password)
    return with_token(bundle, token, directory, force=force)


def with_token(bundle: Bundle, token: Secret, directory: Path, *, force: bool = False) -> Arrived:
    """Fetch secrets with a token of the secrets server, write the files of the client, and try them.

    Args:
        bundle: What came with the page.
        token: The token, as a log-in gives one.
        directory: Where to write.
        force: Replace files that are for something else.

    Raises:
        AccessDeniedError: ``E_LOGIN`` when the token does not open her secret.
    """
    credentials.refuse_others(directory, bundle.who, bundle.settings, force=force)
    return _settle(bundle, _server(bundle).read(token, bundle.path), directory, force=force)


def _server(bundle: Bundle) -> LinkServer:
    if bundle.authority is not None and not bundle.authority.is_file():
        raise ConfigError(
            "the authority's certificate that came with the page is missing",
            where=str(bundle.authority),
            code="E_WELCOME_FILE",
            hint="put all files that came with the page into one directory",
        )
    return LinkServer(bundle.address, bundle.authority)


def _settle(bundle: Bundle, fields: Mapping[str, str], directory: Path, *, force: bool) -> Arrived:
    """Write the files and try them."""
    missing = [name for name in bundle.secrets if not fields.get(name)]
    if missing or fields.get("database.user") != bundle.who:
        raise DjopsError(
            f"the link is not {bundle.who}'s, or is incomplete: {', '.join(missing) or 'another account'}",
            code="E_LINK_OTHER",
            hint="ask who sent you the page for a new link, and say what it said",
        )
    wanted = {name: fields[name] for name in bundle.secrets}
    written = credentials.write_files(directory, bundle.who, bundle.settings, wanted, force=force)
    view = look(directory, bundle.shown_schema)
    query = () if bundle.table is None else first_query(PipelineGraph(), bundle.table)
    return Arrived(bundle, written, view, query)


def _refuse_opened(bundle: Bundle, path: str) -> None:
    """Refuse a link that does not hold what the administrator put into it."""
    if path.strip("/") != bundle.path:
        raise DjopsError(
            "somebody has opened this link before you and made another one of it: the secrets are known "
            f"to others (it comes from {path}, not from {bundle.path})",
            where=bundle.address,
            code="E_LINK_OPENED",
            hint="tell whoever sent you the page at once, and do not use the link",
        )


def _explained(error: DjopsError, bundle: Bundle, now: dt.datetime) -> DjopsError:
    if error.code != "E_LINK_USED":
        return error
    if bundle.until <= now:
        return DjopsError(
            f"the link's time was over on {bundle.until:%Y-%m-%d at %H:%M} UTC",
            where=error.where,
            code="E_LINK_ENDED",
            hint="ask who sent you the page for a new link",
        )
    return DjopsError(
        "the link was used already, or a newer one has taken its place, or a part of it is missing",
        where=error.where,
        code="E_LINK_USED",
        hint="if you did not use it yourself, somebody else has your secrets: tell whoever sent you the page "
        "at once, who sees with `djops onboard --check` when it was used, and ends it: "
        f"`djops rotate {bundle.who}`",
    )
