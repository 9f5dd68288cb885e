"""Everything a project has on its secrets server, encrypted for one named key, and back again."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from djops.errors import ConfigError, ConflictError, NotManagedError
from djops.services.site import Site
from djops.systems import encryption, journal
from djops.systems.files import disk_errors, write_private
from djops.systems.local.kept import SECTION
from djops.systems.lock import locked
from djops.systems.vault import SECTIONS, Secrets

FORMAT = 1
Method = Literal["age", "gpg"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        file: The encrypted file.
        secrets: How many secrets are in it.
        policies: How many policies.
        beside_data: Whether it lies in the directory of the lab whose secrets it holds.
    """

    file: Path
    secrets: int
    policies: int
    beside_data: bool


@dataclass(frozen=True)
class Export:
    """What a file holds.

    Attributes:
        project: Name of the project.
        environment: Name of its environment.
        made: When it was written.
        secrets: Fields and facts by path below the mount.
        policies: Texts by name.
    """

    project: str
    environment: str
    made: str
    secrets: Mapping[str, Mapping[str, Mapping[str, str]]] = field(repr=False)
    policies: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Imported:
    """What was brought back.

    Attributes:
        written: Paths of secrets that were written.
        same: Paths of those that were there already.
        policies: Names of policies that were written.
    """

    written: tuple[str, ...]
    same: tuple[str, ...]
    policies: tuple[str, ...]


def export(
    site: Site, file: Path, method: Method, key: str, *, lock_wait: float = 0, reason: str = ""
) -> Exported:
    """Write everything the project has on the secrets server into one encrypted file.

    Args:
        site: The environment.
        file: The file; it must not exist.
        method: Which kind of key.
        key: The age recipient, or the GPG key.
        lock_wait: Seconds to wait for another djops.
        reason: Why, for the journal, where it is recorded before anything is written.

    Returns:
        What was written.

    Raises:
        NotManagedError: ``E_EXISTS`` when the file is there already.
        UsageError: ``E_RECIPIENT`` when the key is none.
        ConfigError: ``E_CONFIG`` when the file cannot be written.
        DjopsError: The secrets server cannot be read.
    """
    if file.exists() or file.is_symlink():
        raise NotManagedError(
            "the file is there already", where=str(file), code="E_EXISTS", hint="name another"
        )
    encrypt = encryption.encrypt_age if method == "age" else encryption.encrypt_gpg
    encrypt(b"", key)  # before anything secret is read
    with locked(site.lab / "lock", "secrets export", lock_wait), Secrets(site.secrets) as session:
        found = _read(site, session)
        sealed = encrypt(_serialise(found), key)
        journal.record(
            site.lab, "secrets export", reason=reason, to=str(file.absolute()), key=f"{method} {key}"
        )
    try:
        with disk_errors(file.parent):
            write_private(file, sealed)
    except OSError as error:
        raise ConfigError(f"the file cannot be written: {error.strerror}", where=str(file)) from error
    beside = site.env.target == "local" and file.resolve().is_relative_to(site.lab.resolve())
    return Exported(file, len(found.secrets), len(found.policies), beside)


def open_export(site: Site, file: Path, identity: Path | None) -> Export:
    """Decrypt an export.

    Args:
        site: The environment that it is for.
        file: The file.
        identity: File of the age or SSH private key; GnuPG finds its own.

    Returns:
        What it holds.

    Raises:
        ConfigError: ``E_EXPORT`` when it is another project's, or no export at all.
        DjopsError: ``E_DECRYPT``, ``E_IDENTITY``.
    """
    try:
        sealed = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the file cannot be read: {error.strerror}", where=str(file), code="E_EXPORT"
        ) from error
    found = _parse(encryption.decrypt(sealed, identity), file)
    name = site.project.project
    if found.project != name:
        raise ConfigError(
            f"these are the secrets of project {found.project!r}, not of {name!r}",
            where=str(file),
            code="E_EXPORT",
        )
    outside = [path for path in found.secrets if not path.startswith(f"{name}/")]
    outside += [policy for policy in found.policies if not policy.startswith(f"djops-{name}-".lower())]
    if outside:
        raise ConfigError(
            f"it would write what is not the project's: {outside[0]}", where=str(file), code="E_EXPORT"
        )
    return found


def restore(
    site: Site, found: Export, *, overwrite: bool = False, lock_wait: float = 0, reason: str = ""
) -> Imported:
    """Write what an export holds to the secrets server.

    Args:
        site: The environment.
        found: What :func:`open_export` returned.
        overwrite: Also replace secrets that are other ones there.
        lock_wait: Seconds to wait for another djops.
        reason: Why, for the journal, where it is recorded before anything is written.

    Returns:
        What was done.

    Raises:
        ConflictError: ``E_CONFLICT`` when other secrets are there, without ``overwrite``.
        DjopsError: The secrets server cannot be written.
    """
    with locked(site.lab / "lock", "secrets import", lock_wait), Secrets(site.secrets) as session:
        there = _read(site, session)
        same = tuple(path for path, one in found.secrets.items() if there.secrets.get(path) == one)
        other = [path for path in found.secrets if path in there.secrets and path not in same]
        if other and not overwrite:
            raise ConflictError(
                f"the secrets server has other secrets at {', '.join(other[:5])}"
                + (f" and {len(other) - 5} more" if len(other) > 5 else ""),
                hint="nothing was written; --overwrite replaces them; `djops plan` shows what then differs",
            )
        journal.record(
            site.lab, "secrets import", reason=reason, made=found.made, secrets=str(len(found.secrets))
        )
        written = tuple(path for path in found.secrets if path not in same)
        for path in written:
            _write(session, path, found.secrets[path])
        policies = tuple(name for name, text in found.policies.items() if there.policies.get(name) != text)
        for name in policies:
            session.request("PUT", f"sys/policies/acl/{name}", {"policy": found.policies[name]})
    return Imported(written, same, policies)


def _read(site: Site, session: Secrets) -> Export:
    project = site.project.project
    kept: dict[str, Mapping[str, Mapping[str, str]]] = {}
    for section in (*SECTIONS, SECTION):
        names = [name for name in session.list_secrets(f"{project}/{section}") if not name.endswith("/")]
        for path in (f"{project}/{section}/{name}" for name in names):
            stored, about = session.read_secret(path), session.read_metadata(path)
            if stored is not None and stored.fields:
                kept[path] = {"fields": stored.fields, "facts": about.facts if about else {}}
    made = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return Export(project, site.environment, made, kept, session.state(project).policies)


def _write(session: Secrets, path: str, one: Mapping[str, Mapping[str, str]]) -> None:
    stored = session.read_secret(path)
    session.write_secret(path, one["fields"], stored.version if stored else 0)
    session.write_metadata(path, one["facts"])


def _serialise(found: Export) -> bytes:
    return json.dumps({"djops_secrets": FORMAT, **vars(found)}, sort_keys=True).encode()


def _parse(text: bytes, file: Path) -> Export:
    try:
        held: dict[str, Any] = json.loads(text)
        if held.pop("djops_secrets") != FORMAT:
            raise ValueError
        found = Export(**held)
        for one in found.secrets.values():
            dict(one["fields"]), dict(one["facts"])
        dict(found.policies)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Without its cause, which could repeat what the file holds.
        raise ConfigError("that is no export of djops", where=str(file), code="E_EXPORT") from None
    return found
