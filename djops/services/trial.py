"""What one test on real servers makes, and removing it, however the test ended.

A record of what is about to be made is on disk before anything is made. Whoever makes it holds a lock on
the record, which the kernel lets go of when the process dies: a record without a lock is left over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from djops.compile.s3 import inbox_prefix, schema_prefixes
from djops.compile.s3_manager import SCRATCH, scratch_project
from djops.compile.sql import quote_identifier
from djops.errors import ApplyError, DjopsError, LockedError, ManyErrors
from djops.model.graph import PipelineGraph
from djops.model.project import Grant, Project, SchemaEntry, Service
from djops.model.roles import Role
from djops.plan.operations import AwsCall
from djops.services import access
from djops.services.site import Site
from djops.systems.files import read_json, write_json
from djops.systems.paths import private_directory
from djops.systems.progress import Progress
from djops.systems.s3 import READERS


@dataclass(frozen=True)
class Trial:
    """Everything one test makes, named before it is made.

    Attributes:
        project: Name of the project that marks its principals.
        schema: Its scratch schema.
        places: Buckets and key prefixes below which it puts objects besides those of its schema. Their
            names begin with the schema's there, so that djops may remove them.
    """

    project: str
    schema: str
    places: tuple[tuple[str, str], ...] = ()

    @classmethod
    def fresh(cls, site: Site, places: Iterable[tuple[str, str]] = ()) -> Trial:
        """Think of names that nothing has yet."""
        token = secrets.token_hex(3)
        return cls(scratch_project(site.project.project, token), SCRATCH + token, tuple(places))

    @property
    def token(self) -> str:
        """What tells it from other tests."""
        return self.schema.removeprefix(SCRATCH)

    def principal(self, role: str) -> str:
        """Name the principal that tries a role."""
        return f"smoke_{self.token}_{role}"[:32]

    def site(self, site: Site, roles: Mapping[str, Role]) -> Site:
        """Return the site with a project of the test's own in the place of the real one."""
        grants = {
            role: Grant(role=role, on=("all" if model.project_wide else self.schema,), reason="smoke test")
            for role, model in roles.items()
        }
        project = Project(
            version=1,
            project=self.project,
            pipeline=site.project.pipeline,
            environments=site.project.environments,
            stores=site.project.stores,
            schemas={self.schema: SchemaEntry(stage="development")},
            services={self.principal(role): Service(grants=(grant,)) for role, grant in grants.items()},
        )
        return replace(site, project=project, part_of=site.part_of or site.project.project)

    def wanted(self, site: Site) -> access.Wanted:
        """Return what the servers should hold: what :meth:`site` was made for, on the scratch schema."""
        return access.Wanted.of(site.project, PipelineGraph(schemas=frozenset({self.schema})))


def _records(site: Site) -> Path:
    return site.lab / "smoke"


def _record(site: Site, current: Trial) -> Path:
    return private_directory(_records(site)) / f"{current.token}.json"


@contextlib.contextmanager
def under_way(
    site: Site, progress: Progress, lock_wait: float, places: Iterable[tuple[str, str]] = ()
) -> Iterator[Trial]:
    """Think of a test, and remove everything it made when the context is left, in whatever way.

    Args:
        site: The environment.
        progress: Who wants to know.
        lock_wait: Seconds to wait for another djops.
        places: Where it will put objects besides.

    Yields:
        The test.

    Raises:
        ApplyError: ``E_SMOKE_REMAINS`` when something could not be removed; the next test tries again.
    """
    with recorded(site, places) as current:
        try:
            yield current
        except BaseException as error:
            _remove_after(error, site, current, progress, lock_wait)
            raise
        with progress.step("Removing what the test made"):
            remove(site, current, lock_wait)


def _remove_after(
    error: BaseException, site: Site, current: Trial, progress: Progress, lock_wait: float
) -> None:
    try:
        with progress.step("Removing what the test made"):
            remove(site, current, lock_wait)
    except DjopsError as second:
        if isinstance(error, DjopsError):
            raise ManyErrors([error, second]) from error
        raise


@contextlib.contextmanager
def recorded(site: Site, places: Iterable[tuple[str, str]] = ()) -> Iterator[Trial]:
    """Think of a test and keep a record of it until :func:`remove` has removed what it made.

    Args:
        site: The environment.
        places: Where it will put objects besides.

    Yields:
        The test.
    """
    current = Trial.fresh(site, places)
    path = _record(site, current)
    record = {"project": current.project, "schema": current.schema, "places": current.places}
    write_json(path, record)
    with _held(path) as ours:
        if not ours:
            raise LockedError("another smoke test took this one's record", hint="run it again")
        yield current


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a record unless somebody else does; tells whether it is held now."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = path.exists()
    except BlockingIOError:
        ours = False
    try:
        yield ours
    finally:
        os.close(handle)


def remove_remains(site: Site, progress: Progress, lock_wait: float) -> tuple[str, ...]:
    """Remove what killed tests left behind.

    Args:
        site: The environment.
        progress: Who wants to know.
        lock_wait: Seconds to wait for another djops.

    Returns:
        The scratch schemas of those tests.

    Raises:
        ApplyError: ``E_SMOKE_REMAINS`` when something could not be removed.
    """
    removed = []
    for path in sorted(_records(site).glob("*.json")):
        with _held(path) as ours:
            found = read_json(path) if ours else None
            if found is not None:
                places = tuple((str(bucket), str(prefix)) for bucket, prefix in found.get("places", ()))
                left = Trial(str(found["project"]), str(found["schema"]), places)
                with progress.step(f"Removing what an earlier test left behind ({left.schema})"):
                    remove(site, left, lock_wait)
                removed.append(left.schema)
    return tuple(removed)


def remove(site: Site, current: Trial, lock_wait: float) -> None:
    """Remove a test's principals, roles, keys, secrets, objects and schema, as far as there are any.

    Args:
        site: The environment.
        current: The test.
        lock_wait: Seconds to wait for another djops.

    Raises:
        ApplyError: ``E_SMOKE_REMAINS`` naming what stayed; the record stays too.
    """
    failed: list[Exception] = []
    with access.Servers(current.site(site, {})) as servers:
        for remove_one in (_remove_principals, _remove_objects, _remove_schema):
            try:
                remove_one(servers, current, lock_wait)
            except Exception as error:  # whatever is wrong with one part, the others go
                failed.append(error)
    for other in failed:
        if not isinstance(other, DjopsError):
            raise other
    if failed:
        raise ApplyError(
            f"the test left {current.schema} behind: {'; '.join(str(error) for error in failed)}",
            code="E_SMOKE_REMAINS",
            hint="the next `djops smoke` or `djops verify --live` removes it first",
        ) from failed[0]
    _record(site, current).unlink(missing_ok=True)


def _remove_principals(servers: access.Servers, current: Trial, lock_wait: float) -> None:
    with servers.changing("smoke", lock_wait):
        access.apply(servers, access.make_plan(servers, current.wanted(servers.site)))


def _remove_schema(servers: access.Servers, current: Trial, lock_wait: float) -> None:
    servers.mysql.query(f"DROP DATABASE IF EXISTS {quote_identifier(current.schema)}")


def _remove_objects(servers: access.Servers, current: Trial, lock_wait: float) -> None:
    stores = servers.site.project.stores.values()
    places = [(store.bucket, prefix) for store in stores for prefix in schema_prefixes(store, current.schema)]
    places += [(store.bucket, inbox_prefix(store, current.schema)) for store in stores]
    places += [(bucket, f"{prefix}{current.schema}") for bucket, prefix in current.places]
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda place: _remove_below(servers, *place), places))


def _remove_below(servers: access.Servers, bucket: str, prefix: str) -> None:
    for versions in _versions(servers, bucket, prefix):
        delete = {"Bucket": bucket, "Delete": {"Objects": versions, "Quiet": True}}
        errors = servers.s3.call(AwsCall("s3", "DeleteObjects", delete)).get("Errors")
        if errors:
            raise ApplyError(f"{len(errors)} objects below {prefix} could not be deleted")


def _versions(servers: access.Servers, bucket: str, prefix: str) -> Iterator[Sequence[Mapping[str, str]]]:
    """Yield all versions and deletion marks below a prefix, 1000 at most; the taker deletes them."""
    before: Sequence[Mapping[str, str]] | None = None
    while True:
        asked = {"Bucket": bucket, "Prefix": prefix}
        answer = servers.s3.call(AwsCall("s3", "ListObjectVersions", asked))
        listed = [*answer.get("Versions", ()), *answer.get("DeleteMarkers", ())]
        versions = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in listed]
        if not versions:
            return
        if versions == before:
            raise ApplyError(f"objects below {prefix} stay although they were deleted")
        yield versions
        before = versions
