"""The files that a person's DataJoint client reads, written from the secrets server.

Names and precedence were measured with 2.3.5: the client reads ``datajoint.json`` in the working directory
or above it, and beside that file ``.secrets/database.user``, ``.secrets/database.password`` and
``.secrets/stores.<store>.<key>``. It ignores every other name, those of its own documentation included.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djops.compile.machines import credentials_path
from djops.compile.vault import secret_path
from djops.errors import ConfigError, DjopsError, NotManagedError, UsageError
from djops.model.nearest import advice
from djops.model.project import Project
from djops.services.journal import Cause, note_at
from djops.services.site import Site
from djops.systems.datajoint import store_settings
from djops.systems.files import disk_errors, write_private
from djops.systems.paths import Account
from djops.systems.vault import Secrets

SETTINGS = "datajoint.json"
SECRETS = ".secrets"
IGNORED = f"{SECRETS}/"


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        principal: Whose credentials they are.
        directory: Where the client is to be started, or anywhere below.
        files: The files, with those that were right already.
        changed: The files that are new or different.
    """

    principal: str
    directory: Path
    files: tuple[Path, ...]
    changed: tuple[Path, ...]


def shared_settings(site: Site) -> dict[str, Any]:
    """Return what ``datajoint.json`` holds: where the servers are, and nothing secret.

    Args:
        site: The environment.

    Returns:
        The settings. ``use_tls`` is no more than a wish there; the accounts themselves require TLS.
    """
    database = {"host": site.mysql.host, "port": site.mysql.port, "use_tls": True}
    stores = {name: store_settings(store, site.s3.endpoint) for name, store in site.project.stores.items()}
    if not stores:
        return {"database": database}
    return {"database": database, "stores": {"default": next(iter(stores)), **stores}}


def secret_names(project: Project, principal: str = "") -> tuple[str, ...]:
    """Name the secrets a principal has, which are the names of the files too.

    Args:
        project: The project.
        principal: The person or service; some services get database credentials elsewhere.
    """
    keys = [f"stores.{store}.{key}" for store in project.stores for key in ("access_key", "secret_key")]
    if principal in project.services and credentials_path(project, principal):
        return tuple(keys)
    return ("database.user", "database.password", *keys)


def read(site: Site, principal: str) -> Mapping[str, str]:
    """Read a principal's secrets.

    Args:
        site: The environment.
        principal: A person or service of the project.

    Returns:
        The secrets by the names of :func:`secret_names`. They must not be shown.

    Raises:
        UsageError: ``E_NO_PRINCIPAL`` when the project file does not have that name.
        DjopsError: ``E_NO_CREDENTIALS`` when they were not made yet.
    """
    require_principal(site.project, principal)
    with Secrets(site.secrets) as secrets:
        stored = secrets.read_secret(secret_path(site.project, principal))
    fields = stored.fields if stored else {}
    names = secret_names(site.project, principal)
    missing = [name for name in names if not fields.get(name)]
    if missing:
        raise DjopsError(
            f"{principal} lacks {', '.join(missing)}" if fields else f"{principal} has no credentials yet",
            code="E_NO_CREDENTIALS",
            hint="`djops apply` makes what is missing",
        )
    return {name: fields[name] for name in names}


def require_principal(project: Project, principal: str) -> None:
    """Refuse a name that the project file does not have.

    Raises:
        UsageError: ``E_NO_PRINCIPAL`` with the nearest name.
    """
    if principal in project.principals:
        return
    hint = advice(principal, project.principals, what="people or services")
    raise UsageError(f"the project has no person or service {principal!r}", code="E_NO_PRINCIPAL", hint=hint)


def write(site: Site, principal: str, directory: Path, *, force: bool = False, reason: str = "") -> Written:
    """Write a principal's settings and secrets where its client finds them.

    Args:
        site: The environment.
        principal: A person or service of the project.
        directory: Where to write; made, for its owner only, when it does not exist.
        force: Replace other settings, or somebody else's secrets.
        reason: Why, for the journal, where it is recorded before anything is written.

    Returns:
        What was written.

    Raises:
        UsageError: ``E_NO_PRINCIPAL`` when the project file does not have that name.
        DjopsError: ``E_NO_CREDENTIALS`` when there are none yet.
        NotManagedError: ``E_EXISTS`` when the files there are for something else, without ``force``.
        ConfigError: ``E_CONFIG`` when the directory cannot be used.
    """
    secrets = read(site, principal)
    note_at(site, Cause("credentials", reason), who=principal, to=str(directory.absolute()))
    return write_files(directory, principal, shared_settings(site), secrets, force=force)


def write_files(
    directory: Path,
    principal: str,
    shared: Mapping[str, Any],
    secrets: Mapping[str, str],
    *,
    force: bool = False,
) -> Written:
    """Write settings and secrets that are known already where a client finds them.

    Args:
        directory: Where to write; made, for its owner only, when it does not exist.
        principal: Whose they are.
        shared: What ``datajoint.json`` shall hold.
        secrets: The secrets by the names of :func:`secret_names`.
        force: Replace other settings, or somebody else's secrets.

    Returns:
        What was written.

    Raises:
        NotManagedError: ``E_EXISTS`` when the files there are for something else, without ``force``.
        ConfigError: ``E_CONFIG`` when the directory cannot be used.
    """
    folder = directory / SECRETS
    settings = json.dumps(shared, indent=2) + "\n"
    wanted = {directory / SETTINGS: settings} | {folder / name: value for name, value in secrets.items()}
    with file_errors(directory):
        refuse_others(directory, principal, shared, force=force)
        owner = _make_folders(directory, folder)
        _ignore_in_git(directory, owner)
        changed = tuple(path for path, text in wanted.items() if _write_when_other(path, text, owner))
    return Written(principal, directory, tuple(wanted), changed)


def refuse_others(directory: Path, principal: str, shared: Mapping[str, Any], *, force: bool = False) -> None:
    """Refuse a directory whose files are for something else, or somebody else's.

    Args:
        directory: Where files are to be written.
        principal: Whose, which is also the account's name.
        shared: What ``datajoint.json`` shall hold.
        force: Refuse nothing.

    Raises:
        NotManagedError: ``E_EXISTS``.
    """
    if not force:
        _refuse_other(directory / SETTINGS, json.dumps(shared))
        _refuse_other_owner(directory / SECRETS / "database.user", principal, principal)


def _refuse_other(path: Path, settings: str) -> None:
    try:
        there = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        there = None
    if there != json.loads(settings):
        raise NotManagedError(
            "these settings are not what djops would write",
            where=str(path),
            code="E_EXISTS",
            hint="choose another directory with --to, or replace them with --force",
        )


def _refuse_other_owner(path: Path, principal: str, user: str) -> None:
    if path.is_file() and path.read_text(errors="replace").strip() != user:
        raise NotManagedError(
            f"the secrets there are somebody else's than {principal}'s",
            where=str(path),
            code="E_EXISTS",
            hint="choose another directory with --to, or replace them with --force",
        )


@contextlib.contextmanager
def file_errors(directory: Path) -> Iterator[None]:
    """Have whatever inside cannot be written named, with what to do.

    Args:
        directory: Where the files go.

    Raises:
        ConfigError: ``E_CONFIG`` when the directory cannot be used.
    """
    try:
        with disk_errors(directory):
            yield
    except OSError as error:
        raise ConfigError(
            f"the files cannot be written there: {error.strerror}",
            where=str(error.filename or directory),
            hint="choose another directory with --to",
        ) from error


def _make_folders(directory: Path, folder: Path) -> Account | None:
    """Make both folders and tell whose the files shall be."""
    if not directory.exists():
        directory.mkdir(parents=True, mode=0o700)
    if folder.is_symlink():
        raise ConfigError("secrets are not written through a link", where=str(folder), hint="remove the link")
    folder.mkdir(exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    owner = _owner_of(directory)
    if owner is not None:
        os.chown(folder, owner.uid, owner.gid)
    return owner


def _owner_of(directory: Path) -> Account | None:
    """Return whose a directory is, to whom root must leave the files: else nobody could read them."""
    status = directory.stat()
    return Account(str(status.st_uid), status.st_uid, status.st_gid) if os.geteuid() == 0 else None


def _write_when_other(path: Path, text: str, owner: Account | None) -> bool:
    is_right = path.is_file() and not path.is_symlink() and path.read_bytes() == text.encode()
    if is_right:
        path.chmod(0o600)
        return False
    write_private(path, text, owner=owner)
    return True


def _ignore_in_git(directory: Path, owner: Account | None) -> None:
    """Keep the secrets out of the repository that ``directory`` lies in, if it lies in one."""
    here = directory.resolve()
    root = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)
    if root is None:
        return
    between = [folder for folder in (here, *here.parents) if folder == root or root in folder.parents]
    for folder in between:
        if any(_ignores(line) for line in _lines(folder / ".gitignore")):
            return
    ours = here / ".gitignore"
    text = ours.read_bytes() if ours.is_file() else b""
    text += b"\n" if text and not text.endswith(b"\n") else b""
    write_private(ours, text + IGNORED.encode() + b"\n", owner=owner, mode=0o644)


def _ignores(line: str) -> bool:
    return line.strip().strip("/").removeprefix("**/") == SECRETS


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.is_file() else []
