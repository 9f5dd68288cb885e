"""Servers that are already there, and the administrator's secrets out of files and variables."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from djops.errors import ConfigError, DjopsError, ManyErrors, Where
from djops.model.project import CredentialSource, Environment, MysqlServer, S3Server, SecretsServer
from djops.systems.connections import MysqlConnection, S3Connection, Secret, SecretsConnection

_LARGEST = 4096
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Existing:
    """How to reach the servers of an ``existing`` environment.

    Attributes:
        mysql: The database, as the account djops works as.
        s3: The object store, with the key djops works with.
        secrets: The secrets server, as djops' AppRole.
    """

    mysql: MysqlConnection
    s3: S3Connection
    secrets: SecretsConnection


def connections(
    name: str, environment: Environment, directory: Path, where: Callable[..., Where]
) -> Existing:
    """Gather what an ``existing`` environment's servers are reached with; nothing is connected to.

    Args:
        name: Name of the environment.
        environment: The environment, whose target is ``existing``.
        directory: The project file's directory, from which relative paths count.
        where: Tells where in the project file a value stands, by the path of its keys.

    Returns:
        The connections.

    Raises:
        ConfigError: ``E_MODE`` for a secret's file that others can read, ``E_SECRET`` for a secret that
            is not there, ``E_TLS`` for an address that would send it in the clear, ``E_CONFIG``.
        ManyErrors: Several of these.
    """
    section = _Section(("environments", name), directory, where)
    mysql, s3, secrets = environment.mysql, environment.s3, environment.secrets
    if mysql is None or s3 is None or secrets is None:
        parts = {"mysql": mysql, "s3": s3, "secrets": secrets}
        missing = [part for part, settings in parts.items() if settings is None]
        raise ConfigError(
            f"environment {name!r} has the target existing and does not say where {', '.join(missing)} is",
            where=where(*section.path),
            hint=f"add {', '.join(f'`{part}:`' for part in missing)} with address and credentials",
        )
    found = Existing(_mysql(section, mysql), _s3(section, s3), _secrets(section, secrets))
    if section.errors:
        raise ManyErrors(section.errors) if len(section.errors) > 1 else section.errors[0]
    return found


@dataclass
class _Section:
    """A part of the project file, and what was found wrong in it so far."""

    path: tuple[str, ...]
    directory: Path
    where: Callable[..., Where]
    errors: list[DjopsError] = field(default_factory=list)

    def secret(self, source: CredentialSource, *keys: str) -> Secret:
        place = self.where(*self.path, *keys)
        with self._collect():
            return Secret(_secret(source, self.directory, ".".join(keys), place))
        return Secret("")

    def authority(self, ca: str | None, *keys: str) -> Path | None:
        if ca is None:
            return None
        path = _resolve(ca, self.directory)
        if not path.is_file():
            self._refuse(f"{'.'.join(keys)}: there is no file {path}", keys, None)
        return path

    def url(self, address: str, *keys: str, encrypted: bool = False) -> str:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            self._refuse(f"{'.'.join(keys)}: {address!r} is no URL", keys, "write https://HOST:PORT")
        elif encrypted and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            message = f"{'.'.join(keys)}: over http everybody on the way could read the secrets"
            self._refuse(message, keys, "write https://, and name the authority with `ca:`", "E_TLS")
        return address

    def _refuse(self, message: str, keys: tuple[str, ...], hint: str | None, code: str | None = None) -> None:
        self.errors.append(ConfigError(message, where=self.where(*self.path, *keys), hint=hint, code=code))

    @contextmanager
    def _collect(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            self.errors.append(error)


def secrets_connection(
    name: str, server: SecretsServer, directory: Path, where: Callable[..., Where]
) -> SecretsConnection:
    """Gather what a secrets server that is there already is reached with; nothing is connected to.

    Args:
        name: Name of the environment.
        server: What the project file says of it.
        directory: The project file's directory, from which relative paths count.
        where: Tells where in the project file a value stands, by the path of its keys.

    Raises:
        ConfigError: See :func:`connections`.
        ManyErrors: Several of these.
    """
    section = _Section(("environments", name), directory, where)
    found = _secrets(section, server)
    if section.errors:
        raise ManyErrors(section.errors) if len(section.errors) > 1 else section.errors[0]
    return found


def credential(source: CredentialSource, directory: Path, name: str, where: Where) -> Secret:
    """Read one secret that the project file says where to find.

    Args:
        source: Where it is.
        directory: The project file's directory, from which relative paths count.
        name: What it is called, for messages.
        where: Where the project file says so.

    Raises:
        ConfigError: ``E_MODE``, ``E_SECRET`` or ``E_CONFIG``.
    """
    return Secret(_secret(source, directory, name, where))


def _mysql(section: _Section, settings: MysqlServer) -> MysqlConnection:
    return MysqlConnection(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        password=section.secret(settings.password, "mysql", "password"),
        ca=section.authority(settings.ca, "mysql", "ca"),
    )


def _s3(section: _Section, settings: S3Server) -> S3Connection:
    iam = settings.iam_endpoint
    # New secret keys come back from the IAM API; objects may travel in the clear where a lab wants it so.
    endpoint = section.url(settings.endpoint, "s3", "endpoint", encrypted=iam is None)
    return S3Connection(
        endpoint=endpoint,
        admin_endpoint=endpoint,
        iam_endpoint=section.url(iam, "s3", "iam_endpoint", encrypted=True) if iam else None,
        access_key=section.secret(settings.access_key, "s3", "access_key").reveal(),
        secret_key=section.secret(settings.secret_key, "s3", "secret_key"),
        region=settings.region,
        ca=section.authority(settings.ca, "s3", "ca"),
    )


def _secrets(section: _Section, settings: SecretsServer) -> SecretsConnection:
    return SecretsConnection(
        address=section.url(settings.address, "secrets", "address", encrypted=True),
        role_id=section.secret(settings.role_id, "secrets", "role_id").reveal(),
        secret_id=section.secret(settings.secret_id, "secrets", "secret_id"),
        ca=section.authority(settings.ca, "secrets", "ca"),
    )


def _secret(source: CredentialSource, directory: Path, name: str, place: Where) -> str:
    if (source.file is None) == (source.env is None):
        raise ConfigError(
            f"{name} needs one place to be read from, not {'two' if source.file else 'none'}",
            where=place,
            hint="write `file: PATH` or `env: VARIABLE`",
        )
    if source.env is not None:
        return _from_variable(source.env, name, place)
    return _from_file(_resolve(str(source.file), directory), name, place)


def _from_variable(variable: str, name: str, place: Where) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise ConfigError(
            f"{name}: the variable {variable} is {'empty' if variable in os.environ else 'not set'}",
            where=place,
            code="E_SECRET",
            hint=f"set {variable}, or name a file with `file:`",
        )
    return _one_line(value, name, f"the variable {variable}", place)


def _from_file(path: Path, name: str, place: Where) -> str:
    try:
        # Judged and read through one handle, so that nobody can put another file in between.
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise ConfigError(
                    f"{name}: {path} can be read by others (mode {stat.S_IMODE(mode):04o})",
                    where=place,
                    code="E_MODE",
                    hint=f"chmod 600 {path}, and change the secret if others may have read it",
                )
            content = file.read(_LARGEST + 1)
        value = content.decode().removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        raise _unreadable(name, f"there is no file {path}", place) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise _unreadable(name, f"{path} cannot be read: {reason}", place) from None
    if not value or len(content) > _LARGEST:
        raise _unreadable(name, f"{path} {'is empty' if not value else 'is too long for a secret'}", place)
    return _one_line(value, name, str(path), place)


def _one_line(value: str, name: str, source: str, place: Where) -> str:
    if any(char in value for char in "\r\n\0"):
        raise _unreadable(name, f"{source} holds more than one line", place)
    return value


def _unreadable(name: str, reason: str, place: Where) -> ConfigError:
    return ConfigError(
        f"{name}: {reason}", where=place, code="E_SECRET", hint="it shall hold the secret alone, mode 0600"
    )


def _resolve(path: str, directory: Path) -> Path:
    return directory / Path(path).expanduser()
