"""What a server of the local lab must be able to do, and what it is told about the lab it lives in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from djops.systems.paths import Account
from djops.systems.progress import Step


@dataclass(frozen=True)
class Lab:
    """One environment's lab, as its servers see it.

    Attributes:
        directory: The lab's directory.
        project: Name of the project.
        environment: Name of the environment.
        account: The operating-system account the servers run as.
        ports: TCP ports on 127.0.0.1 by the names the servers declared in ``port_names``.
        buckets: Buckets the project's stores need.
    """

    directory: Path
    project: str
    environment: str
    account: Account
    ports: Mapping[str, int] = field(default_factory=dict)
    buckets: tuple[str, ...] = ()

    @property
    def secrets(self) -> Path:
        """Directory of djops' own passwords and keys: the caller's, mode 0700; servers cannot read it."""
        return self.directory / "secrets"

    @property
    def ca(self) -> Path:
        """The lab's certificate authority, for clients to verify with."""
        return self.directory / "tls" / "ca.pem"

    @property
    def certificate(self) -> Path:
        """The servers' certificate; names 127.0.0.1, ::1 and localhost."""
        return self.directory / "tls" / "server.pem"

    @property
    def key(self) -> Path:
        """The key of :attr:`certificate`; owned by the servers' account, mode 0600."""
        return self.directory / "tls" / "server.key"

    def state(self, name: str) -> Path:
        """Return the directory one server keeps everything in: data, log, pid file, configuration.

        Args:
            name: The server's directory name: ``mysql``, ``ceph`` or ``openbao``.
        """
        return self.directory / name


class Server(Protocol):
    """One server of the lab.

    Every method may be called again after any interruption, ``kill -9`` included, and then finishes
    what was begun. ``install``, ``initialise`` and ``start`` of different servers run at the same time
    in threads. The constructor takes a :class:`Lab` and nothing else.

    Attributes:
        name: ``mysql``, ``s3`` or ``secrets``.
        title: How people call it, for example ``MySQL``.
        port_names: Names of the ports it needs; :attr:`Lab.ports` has them.
        public_ports: Those of them a user connects to; checked for other holders before a start.
        log: The log a user should look at.
    """

    port_names: ClassVar[tuple[str, ...]]
    public_ports: ClassVar[tuple[str, ...]]
    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, lab: Lab) -> None: ...

    @property
    def log(self) -> Path:
        """The log a user should look at."""

    def install(self, step: Step) -> str:
        """Make sure the programs are there and are what was recorded.

        Args:
            step: Hears about what is fetched.

        Returns:
            The server's version.

        Raises:
            InstallError: The programs cannot be had; the hint names the one thing to install.
        """

    def initialise(self) -> None:
        """Make the data directory when there is none; safe under ``kill -9``."""

    def running(self) -> bool:
        """Whether the processes that djops started are alive; says nothing about their health."""

    def start(self) -> None:
        """Start it when it does not run, detached from djops; may return before it is ready."""

    def ready(self) -> bool:
        """Whether it answers; cheap, and never raises."""

    def stop(self) -> None:
        """Stop what djops started and nothing else: gracefully, then by force."""

    def endpoint(self) -> str:
        """Return the address shown to users."""

    def bootstrap(self) -> None:
        """Once it is ready: make the accounts, buckets and mounts that djops needs. Idempotent."""
