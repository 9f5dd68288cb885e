"""The three servers of a site, connected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from djops.services.site import Site
from djops.systems.connections import Secret
from djops.systems.lock import locked
from djops.systems.mysql import Mysql
from djops.systems.s3 import S3
from djops.systems.vault import Secrets


class Servers:
    """The three servers of a site, connected; use it as a context manager.

    Args:
        site: The environment.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.mysql = Mysql(site.mysql)
        self.s3 = S3(site.s3)
        self.secrets = Secrets(site.secrets)
        self._fresh: dict[tuple[str, str], Secret] = {}

    def remember(self, path: str, field: str, value: str) -> None:
        """Hold a secret that was just kept until it is sent to the server that it is for.

        Args:
            path: Where it is kept.
            field: Name of the field.
            value: The secret.
        """
        self._fresh[path, field] = Secret(value)

    def recall(self, path: str, field: str) -> str | None:
        """Return what :meth:`remember` holds, once.

        Args:
            path: Where it is kept.
            field: Name of the field.
        """
        held = self._fresh.pop((path, field), None)
        return held.reveal() if held else None

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        with ExitStack() as stack:
            stack.callback(self.mysql.close)
            stack.callback(self.secrets.close)

    @contextmanager
    def changing(self, purpose: str, lock_wait: float) -> Iterator[None]:
        """Hold both locks that keep a second djops from changing the project at the same time.

        Args:
            purpose: What is being done, for whoever waits.
            lock_wait: Seconds to wait for another djops.

        Raises:
            LockedError: ``E_LOCKED`` naming the holder.
        """
        name = f"djops:{self.site.project.project}"
        with locked(self.site.lab / "lock", purpose, lock_wait), self.mysql.lock(name, lock_wait):
            yield
