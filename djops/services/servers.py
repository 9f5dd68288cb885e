"""The three servers of a site, connected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property

from djops.errors import DjopsError
from djops.services.journal import Cause, Journal
from djops.services.site import Site
from djops.systems.connections import Secret
from djops.systems.lock import Lease, Waiting, locked
from djops.systems.mysql import Mysql
from djops.systems.progress import Progress, Silent, Step
from djops.systems.s3 import S3
from djops.systems.vault import Secrets


class Servers:
    """The three servers of a site, connected; use it as a context manager.

    Args:
        site: The environment.

    Attributes:
        cause: What changes are made for, while a lock is held.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.mysql = Mysql(site.mysql)
        self.s3 = S3(site.s3)
        self.secrets = Secrets(site.secrets)
        self.cause = Cause("apply")
        self._lease: Lease | None = None
        self._fresh: dict[tuple[str, str], Secret] = {}

    @cached_property
    def journal(self) -> Journal:
        """The project's journal."""
        return Journal(self.site, self.mysql, self.secrets)

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
    def changing(
        self, purpose: str, lock_wait: float, *, reason: str = "", progress: Progress | None = None
    ) -> Iterator[None]:
        """Hold both locks that keep a second djops from changing the project at the same time.

        Args:
            purpose: What is being done, for whoever waits and for the journal: the command.
            lock_wait: Seconds to wait for another djops.
            reason: Why, for the journal.
            progress: Who wants to know for whom it waits.

        Raises:
            LockedError: ``E_LOCKED`` naming the holder.
        """
        with (
            self.alone_here(purpose, lock_wait, reason=reason, progress=progress),
            self.alone_everywhere(lock_wait, progress=progress),
        ):
            yield

    @contextmanager
    def alone_here(
        self, purpose: str, lock_wait: float, *, reason: str = "", progress: Progress | None = None
    ) -> Iterator[None]:
        """Hold the lock of this machine only.

        Args:
            purpose: What is being done.
            lock_wait: Seconds to wait for another djops.
            reason: Why.
            progress: Who wants to know for whom it waits.

        Raises:
            LockedError: ``E_LOCKED`` naming the holder.
        """
        with ExitStack() as stack:
            with _waiting(progress) as waiting:
                stack.enter_context(locked(self.site.lab / "lock", purpose, lock_wait, waiting))
            before, self.cause = self.cause, Cause(purpose.removeprefix("djops "), reason)
            try:
                yield
            finally:
                self.cause = before

    @contextmanager
    def alone_everywhere(self, lock_wait: float, *, progress: Progress | None = None) -> Iterator[None]:
        """Hold the lock in the database; the caller holds :meth:`alone_here`.

        Args:
            lock_wait: Seconds to wait for another djops.
            progress: Who wants to know for whom it waits.

        Raises:
            LockedError: ``E_LOCKED`` naming the holder.
            ServerUnavailableError: The database does not answer.
        """
        project = self.site.project.project
        lease = Lease(self.site.mysql, f"djops:{project}", self.cause.command)
        with _waiting(progress) as waiting:
            lease.acquire(lock_wait, waiting)
        try:
            # What a djops that died has sent may still be carried out: that is over once this is ours.
            self.mysql.take_over(f"djops!{project}")
            self._lease = lease
            yield
        finally:
            self._lease = None
            lease.release(self.mysql.end_session)
            with suppress(DjopsError):
                self.mysql.query("SELECT RELEASE_LOCK(%s)", (f"djops!{project}",))

    def require_lock(self) -> None:
        """See to it that the lock in the database is still held, where it was taken.

        Raises:
            LockedError: ``E_LOCK_LOST`` when it is not, or when that cannot be known any more.
        """
        if self._lease is not None:
            self._lease.require()


@contextmanager
def _waiting(progress: Progress | None) -> Iterator[Waiting]:
    """Show a step for the waiting, once there is any."""
    with ExitStack() as stack:
        steps: list[Step] = []

        def tell(text: str) -> None:
            if not steps:
                told = progress or Silent()
                steps.append(stack.enter_context(told.step("Waiting for another djops")))
            steps[0].note(text)

        yield tell
