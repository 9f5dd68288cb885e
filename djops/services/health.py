"""How the servers of an environment are, whoever runs them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from djops.errors import DjopsError, ManyErrors
from djops.services import access, lab
from djops.services.journal import Journal
from djops.services.lab import LabStatus, LabUp, ServerHealth, ServerUp
from djops.services.log import Recorded, recorded
from djops.services.project import Loaded, load_project
from djops.services.site import Site, choose_environment, open_site
from djops.systems.connections import SecretsConnection
from djops.systems.mysql import Mysql
from djops.systems.progress import Progress, Silent
from djops.systems.vault import Secrets


def status(project_file: Path, environment: str | None = None) -> LabStatus:
    """Ask every server of an environment how it is; changes nothing and waits for no lock.

    Args:
        project_file: The ``djops.yaml``.
        environment: Name of the environment; ``None`` means the only one, or ``local``.

    Returns:
        The health of all three; a server that does not answer is a result, not an error.

    Raises:
        ConfigError: The project file is not right.
        UsageError: ``E_ENVIRONMENT`` for an environment there is none of.
    """
    project = load_project(project_file)
    name = choose_environment(project, environment)
    target = project.environments[name].target
    if target == "local":
        return lab.status(project, name)
    site = open_site(project_file, name)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        servers = tuple(pool.map(lambda probe: probe(site), (_mysql, _s3, _secrets)))
    return LabStatus(project.project, name, target, site.lab, servers)


def journal_of(found: LabStatus, project_file: Path) -> Recorded | None:
    """Look where the journal is and what it says last.

    Args:
        found: How the servers are.
        project_file: The ``djops.yaml``.

    Returns:
        The journal; ``None`` when it cannot be read now.
    """
    if not any(server.name == "mysql" and server.healthy for server in found.servers):
        return None
    with contextlib.suppress(DjopsError):
        site = open_site(project_file, found.environment)
        with Mysql(site.mysql) as mysql, Secrets(site.secrets) as secrets:
            return recorded(Journal(site, mysql, secrets), site.lab)
    return None


def unseal_key(found: LabStatus) -> Path | None:
    """Return the file that unseals the secrets server, where it lies on the same disk as the data.

    Args:
        found: How the servers are.
    """
    key = found.directory / "openbao" / "seal.key"
    return key if found.target == "local" and key.exists() else None


def check(loaded: Loaded, environment: str, progress: Progress | None = None) -> LabUp:
    """See to it that servers that are already there have what djops needs; change nothing on them.

    Args:
        loaded: The checked project.
        environment: Name of an ``existing`` environment.
        progress: Hears about each server.

    Returns:
        The servers, none of them started.

    Raises:
        DjopsError: What one server lacks, with what its administrator must do.
        ManyErrors: What several lack.
    """
    began, told = time.monotonic(), progress or Silent()
    site = replace(open_site(loaded.project_file, environment), project=loaded.project)
    done: list[ServerUp] = []
    errors: list[DjopsError] = []
    with access.Servers(site) as servers:
        for name, title, endpoint, version in _checks(servers, loaded):
            start = time.monotonic()
            try:
                with told.step(title) as step:
                    found = version()
                    step.note(f"{found} ready at {endpoint}")
            except DjopsError as error:
                errors += error.flatten()
            else:
                seconds = time.monotonic() - start
                done.append(ServerUp(name, title, endpoint, found, started=False, seconds=seconds))
    if errors:
        raise ManyErrors(errors) if len(errors) > 1 else errors[0]
    return LabUp(loaded.project.project, environment, site.lab, tuple(done), time.monotonic() - began)


def _checks(servers: access.Servers, loaded: Loaded) -> tuple[tuple[str, str, str, Callable[[], str]], ...]:
    site, project = servers.site, loaded.project

    def mysql() -> str:
        access.read_database(servers, access.Wanted.of(project, loaded.graph).graph.schemas)
        return servers.mysql.version()

    def s3() -> str:
        buckets = frozenset(store.bucket for store in project.stores.values())
        state = servers.s3.read_state(project.project, buckets)
        access.require_buckets(servers, buckets - state.buckets.keys())
        return ""

    return (
        ("mysql", "MySQL", f"{site.mysql.host}:{site.mysql.port}", mysql),
        ("s3", "S3", site.s3.endpoint, s3),
        ("secrets", "Secrets", site.secrets.address, lambda: servers.secrets.check(project.project)),
    )


def _mysql(site: Site) -> ServerHealth:
    def version() -> str:
        with Mysql(site.mysql) as server:
            return str(server.query("SELECT VERSION()")[0][0])

    return _probed("mysql", "MySQL", f"{site.mysql.host}:{site.mysql.port}", version)


def _s3(site: Site) -> ServerHealth:
    from djops.plan.operations import AwsCall
    from djops.systems.s3 import S3

    def answers() -> None:
        S3(site.s3).call(AwsCall("iam", "ListUsers", {"MaxItems": 1}))

    return _probed("s3", "S3", site.s3.endpoint, answers)


def _secrets(site: Site) -> ServerHealth:
    return _probed("secrets", "Secrets", site.secrets.address, lambda: _secrets_version(site.secrets))


def _secrets_version(connection: SecretsConnection) -> str | None:
    with Secrets(connection) as session:
        answer = session.request("GET", "sys/health") or {}
    version = answer.get("version")
    return None if version is None else str(version)


def _probed(name: str, title: str, endpoint: str, probe: Callable[[], str | None]) -> ServerHealth:
    try:
        version = probe()
    except DjopsError as error:
        return ServerHealth(name, title, False, None, endpoint, None, str(error))
    return ServerHealth(name, title, True, None, endpoint, version)
