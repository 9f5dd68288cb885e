"""A person's own set-up, looked at from where she starts her client: who she is there, and what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from djops.errors import ConfigError, DjopsError
from djops.model.findings import Finding
from djops.model.shown_grants import capabilities, powers
from djops.services import arriving
from djops.services.arriving import Bundle
from djops.services.welcome import FILE
from djops.systems import client_files
from djops.systems.client_files import Found
from djops.systems.client_look import ClientView, look

STALE_VARIABLES = ("DJ_TLS", "DJ_STORES__", "DJ_SECRETS")
"""Beginnings of variables that documents name and the client does not read."""

COMPARED = frozenset({"read", "insert", "update", "delete", "declare", "drop", "jobs"})
"""Capabilities that SHOW GRANTS shows and that are compared with the welcome page's."""


@dataclass(frozen=True)
class Identity:
    """Who somebody is to the servers.

    Attributes:
        directory: Where the client would be started.
        settings: The ``datajoint.json`` that it reads.
        view: What the client reads and reaches.
        may: Capabilities by schema, as the server itself tells.
        powers: Privileges on the whole server.
    """

    directory: Path
    settings: Path | None
    view: ClientView
    may: Mapping[str, frozenset[str]]
    powers: frozenset[str]


@dataclass(frozen=True)
class Checkup:
    """What was found.

    Attributes:
        identity: Who she is.
        findings: What is wrong, worst first.
        looked: What was looked at.
    """

    identity: Identity
    findings: tuple[Finding, ...]
    looked: tuple[str, ...]


def identify(directory: Path) -> Identity:
    """Ask the installed client and the servers who somebody is.

    Args:
        directory: Where she starts her client.

    Raises:
        ConfigError: ``E_CONFIG`` when there is no such directory.
    """
    if not directory.is_dir():
        raise ConfigError("there is no such directory", where=str(directory))
    directory = directory.resolve()
    found, bundle = client_files.find(directory), _bundle(directory)
    view = look(directory, bundle.shown_schema if bundle else None)
    return Identity(directory, found.settings, view, capabilities(view.grants), powers(view.grants))


def _bundle(directory: Path) -> Bundle | None:
    found = client_files.find(directory)
    for folder in (directory, *([found.settings.parent] if found.settings else [])):
        if (folder / FILE).is_file():
            try:
                return arriving.read_bundle(folder)
            except DjopsError:
                return None
    return None


def examine(directory: Path, code: Path | None = None) -> Checkup:
    """Look for what is wrong with a person's set-up.

    Args:
        directory: Where she starts her client.
        code: Where the pipeline's code lies; the repository that the directory lies in unless given.

    Returns:
        Who she is, and what is wrong.

    Raises:
        ConfigError: ``E_CONFIG`` when there is no such directory.
    """
    identity = identify(directory)
    directory = identity.directory
    found = client_files.find(directory)
    root = client_files.git_root(directory)
    place = code or root
    findings = [
        *_files(directory, found),
        *_variables(),
        *_git(root, found),
        *_servers(identity),
        *_rights(identity, _bundle(directory)),
        *(_code(place) if place else ()),
    ]
    looked = ["files", "variables", "database", "stores"]
    looked += ["git history"] if root and found.secrets else []
    looked += ["rights"] if _bundle(directory) else []
    looked += [f"code in {place}"] if place else []
    findings.sort(key=lambda one: one.severity != "warning")
    return Checkup(identity, tuple(findings), tuple(looked))


def _files(directory: Path, found: Found) -> Iterator[Finding]:
    if found.settings is None:
        hint = "start the client in the directory that `djops welcome` wrote, or copy the file here"
        if found.above is not None:
            hint = f"{found.above} is above the repository's top, and the client does not look there; copy it"
        yield Finding("W_NO_SETTINGS", "there is no datajoint.json here or above", str(directory), hint)
        return
    if found.secrets is None:
        message = "there is no .secrets beside datajoint.json"
        hint = "`djops welcome` writes it; without it the client asks for a password"
        yield Finding("W_NO_SECRETS", message, str(found.settings.parent), hint)
    for name, instead in client_files.IGNORED_BESIDE.items():
        if (found.settings.parent / name).exists():
            yield Finding(
                "W_IGNORED", "the client ignores this file", str(found.settings.parent / name), instead
            )
    if found.secrets is not None:
        yield from _secrets(found.secrets)


def _secrets(folder: Path) -> Iterator[Finding]:
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        path, told = folder / name, client_files.IGNORED_NAMES.get(name)
        if name.startswith("."):
            continue
        if told or not client_files.READ.fullmatch(name):
            hint = told or "the client reads database.user, database.password and stores.STORE.KEY"
            yield Finding("W_IGNORED", "the client ignores this file", str(path), hint)
        elif reason := client_files.too_open(path):
            yield Finding(
                "W_MODE", f"a secret that others can read: {reason}", str(path), f"chmod 600 {path}"
            )
    if reason := client_files.too_open(folder):
        yield Finding("W_MODE", f"a directory of secrets: {reason}", str(folder), f"chmod 700 {folder}")
    for wanted in ("database.user", "database.password"):
        if wanted not in names:
            message = f"{wanted} is missing"
            yield Finding(
                "W_NO_SECRETS", message, str(folder), "ask for a new link: `djops welcome` writes it"
            )
    for name in names:
        store, _, part = name.removeprefix("stores.").rpartition(".")
        other = {"access_key": "secret_key", "secret_key": "access_key"}.get(part)
        if name.startswith("stores.") and other and f"stores.{store}.{other}" not in names:
            hint = "the client takes half a pair for a mistake"
            yield Finding("W_NO_SECRETS", f"stores.{store}.{other} is missing", str(folder), hint)


def _variables() -> Iterator[Finding]:
    for name in sorted(os.environ):
        if name in client_files.WINS:
            hint = f"unset {name}, unless you mean it"
            yield Finding("W_VARIABLE", "this variable beats the files", name, hint, "info")
        elif name.startswith(STALE_VARIABLES):
            hint = "stores come from DJ_STORES (JSON) or datajoint.json; TLS is DJ_USE_TLS"
            yield Finding("W_IGNORED", "the client ignores this variable", name, hint)
    if "DJ_PASS" in os.environ:
        hint = "keep it in .secrets/database.password, mode 0600"
        yield Finding(
            "W_VARIABLE", "a password in the environment goes to every program you start", "DJ_PASS", hint
        )


def _git(root: Path | None, found: Found) -> Iterator[Finding]:
    if root is None or found.secrets is None or root not in found.secrets.resolve().parents:
        return
    paths = [path for path in sorted(found.secrets.iterdir()) if client_files.READ.fullmatch(path.name)]
    for path in paths:
        if client_files.is_tracked(root, path):
            hint = f"git -C {root} rm --cached --ignore-unmatch {path}; add .secrets/ to .gitignore"
            yield Finding("W_GIT", "git keeps this secret, or will with the next `git add`", str(path), hint)
    secrets = [path.read_text(errors="replace").strip() for path in paths if path.name != "database.user"]
    try:
        commits = client_files.in_history(root, secrets)
    except OSError:
        return
    if commits:
        shown = ", ".join(commits[:5]) + (" and more" if len(commits) > 5 else "")
        hint = "whoever has a copy has it: have it replaced (`djops rotate`), then clean the history"
        yield Finding("W_GIT", f"a secret stands in the history: {shown}", str(root), hint)


def _servers(identity: Identity) -> Iterator[Finding]:
    view = identity.view
    if view.failure is not None:
        message = f"the database cannot be used: {view.failure.kind}: {view.failure.text}"
        hint = f"`djops explain --error '{view.failure.number or view.failure.kind}'` says what that means"
        yield Finding("W_DATABASE", message, None, hint)
    elif not view.tls:
        hint = "ask for an account that requires TLS; `use_tls` in datajoint.json is no more than a wish"
        yield Finding("W_TLS", "the connection is not encrypted", None, hint)
    if identity.powers:
        listed = ", ".join(sorted(identity.powers))
        hint = "work as yourself; an administrator's account is for `djops connect`"
        yield Finding("W_POWER", f"this account holds privileges on the whole server: {listed}", None, hint)
    for name, failure in view.store_failures.items():
        message = f"the store {name!r} cannot be used: {failure.kind}: {failure.text}"
        yield Finding("W_STORE", message, None, "have the keys in .secrets replaced, if they are old")


def _rights(identity: Identity, bundle: Bundle | None) -> Iterator[Finding]:
    if bundle is None or identity.view.failure is not None:
        return
    every = identity.may.get("*", frozenset())
    for schema, expected in sorted(bundle.rights.items()):
        has, wanted = (identity.may.get(schema, frozenset()) | every) & COMPARED, expected & COMPARED
        for names, word in ((wanted - has, "less"), (has - wanted, "more")):
            if names:
                message = (
                    f"you may {word} with {schema} than your welcome page says: {', '.join(sorted(names))}"
                )
                hint = "it was changed since, or somebody should look: ask who sent you the page"
                yield Finding("W_RIGHTS", message, None, hint)


def _code(place: Path) -> Iterator[Finding]:
    for path, number, codec in client_files.nameless_stores(place):
        message = f"<{codec}@> names no store, and the client refuses to insert it"
        yield Finding("W_CODEC", message, f"{path}:{number}", f"write <{codec}@STORE>, with a store's name")
