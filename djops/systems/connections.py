"""How to reach the three servers of an environment, with secrets that do not print themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from djops.errors import ServerUnavailableError


class Secret:
    """A string that never shows in reprs, logs, tracebacks or formatted text.

    Args:
        value: The secret.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself; the only way to it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True)
class MysqlConnection:
    """A MySQL server and the account to use.

    Attributes:
        host: Host name or address.
        port: TCP port.
        user: Account name.
        password: The account's password.
        ca: PEM file of the authority the server's certificate must come from; ``None`` uses the system's.
        through: Where a tunnel to it ends on this machine; its certificate must name ``host`` all the same.
        no_way: Why no way leads there, for whoever wants to connect.
    """

    host: str
    port: int
    user: str
    password: Secret
    ca: Path | None = None
    through: tuple[str, int] | None = None
    no_way: ServerUnavailableError | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for clients that cannot be told of a way: of the way, where there is one.

        They cannot verify the server's name then, but whose authority signed its certificate; the way itself
        leads to one server only.

        Raises:
            ServerUnavailableError: No way leads there.
        """
        if self.no_way is not None:
            raise self.no_way
        return self.through or (self.host, self.port)


@dataclass(frozen=True)
class S3Connection:
    """An S3 server with its IAM API, and the key to use.

    Attributes:
        endpoint: URL that DataJoint clients use.
        admin_endpoint: URL that djops uses for bucket administration, over TLS where there is any.
        access_key: Access key id.
        secret_key: Secret access key.
        region: Region name for request signing.
        ca: PEM file of the authority the server's certificate must come from; ``None`` uses the system's.
        iam_endpoint: URL of the API for users and keys, where that differs from ``admin_endpoint``.
    """

    endpoint: str
    admin_endpoint: str
    access_key: str
    secret_key: Secret
    region: str = "us-east-1"
    ca: Path | None = None
    iam_endpoint: str | None = None


@dataclass(frozen=True)
class SecretsConnection:
    """An OpenBao or Vault server and djops' AppRole.

    Attributes:
        address: URL of the server.
        role_id: The AppRole's role id.
        secret_id: The AppRole's secret id.
        ca: PEM file of the authority the server's certificate must come from; ``None`` uses the system's.
        no_way: As for :class:`MysqlConnection`.
    """

    address: str
    role_id: str
    secret_id: Secret
    ca: Path | None = None
    no_way: ServerUnavailableError | None = None
