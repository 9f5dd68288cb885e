"""A project in one of its environments, with all it takes to talk to the servers there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from djops.compile.s3_manager import MANAGER
from djops.errors import DjopsError, ServerUnavailableError, UsageError
from djops.model import loading
from djops.model.nearest import advice
from djops.model.project import Environment, Project
from djops.services.project import load_project
from djops.systems import cloudfile, existing, projectfile
from djops.systems.connections import MysqlConnection, S3Connection, Secret, SecretsConnection
from djops.systems.files import read_json
from djops.systems.local import labfile
from djops.systems.local.server import Lab
from djops.systems.paths import lab_directory, private_directory, server_account

DEFAULT_ENVIRONMENT = "local"


@dataclass(frozen=True)
class Site:
    """A project in one environment.

    Attributes:
        project: The project file's content.
        project_file: The project file.
        environment: Name of the environment.
        env: The environment.
        mysql: MySQL, as the account djops works as.
        s3: The object store, as the user djops works as.
        secrets: The secrets server, as djops' AppRole.
        mysql_root: MySQL as root, where djops runs the server itself.
        lab: The directory of djops' own state: lock, journal.
        s3_root: The object store as its account's root, where djops runs the server itself.
        part_of: The project in whose journal it is recorded, for a test with a project of its own.
        boundary: ARN of the permissions boundary of everybody's user at the object store; empty for none.
        administrator: The database's own administrator, in whose name djops' account was made; empty where
            djops does not know him.
        access_manager: The IAM user djops works as, where it is called otherwise than on other servers.
    """

    project: Project
    project_file: Path
    environment: str
    env: Environment
    mysql: MysqlConnection
    s3: S3Connection
    secrets: SecretsConnection
    mysql_root: MysqlConnection | None
    lab: Path
    s3_root: S3Connection | None = None
    part_of: str = ""
    boundary: str = ""
    administrator: str = ""
    access_manager: str = MANAGER


def choose_environment(project: Project, name: str | None) -> str:
    """Return the environment meant.

    Args:
        project: The project.
        name: What the user named; ``None`` means the only one, or ``local``.

    Raises:
        UsageError: ``E_ENVIRONMENT`` when there is no such environment, or no telling which is meant.
    """
    names = sorted(project.environments)
    if name is None:
        if len(names) == 1:
            return names[0]
        if DEFAULT_ENVIRONMENT in names:
            return DEFAULT_ENVIRONMENT
        raise UsageError(
            "the project has several environments",
            code="E_ENVIRONMENT",
            hint=f"name one with --env: {', '.join(names)}",
        )
    if name not in names:
        hint = advice(name, names, what="environments")
        raise UsageError(f"there is no environment {name!r}", code="E_ENVIRONMENT", hint=hint)
    return name


def own_environment(project: Project, environment: str | None) -> str:
    """Return the environment meant, whose servers are djops' own.

    Args:
        project: The project.
        environment: What the user named; ``None`` means the only one, or ``local``.

    Raises:
        UsageError: ``E_ENVIRONMENT``; ``E_TARGET`` when djops does not run this environment's servers.
    """
    name = choose_environment(project, environment)
    target = project.environments[name].target
    if target != "local":
        raise UsageError(
            f"the servers of environment {name!r} are not djops' own (its target is {target!r}): djops "
            "neither starts nor stops them, and removes no data of theirs",
            code="E_TARGET",
            hint="`djops down` is for environments with `target: local`; to take away everybody's rights, "
            "remove people and services from djops.yaml and run `djops apply`",
        )
    return name


def open_site(project_file: Path, environment: str | None = None) -> Site:
    """Load a project and find its servers.

    Args:
        project_file: The ``djops.yaml``.
        environment: Name of the environment; ``None`` means the only one, or ``local``.

    Returns:
        The site; nothing has been connected to yet.

    Raises:
        ConfigError: The project file is not right.
        UsageError: ``E_ENVIRONMENT`` for an environment there is none of.
        DjopsError: ``E_NOT_UP`` when the lab was never brought up.
    """
    project = load_project(project_file)
    name = choose_environment(project, environment)
    env = project.environments[name]
    if env.target == "local":
        return _open_local(project, project_file, name, env)
    if env.target == "existing":
        return _open_existing(project_file, name)
    return _open_cloud(project_file, name)


def local_lab(project: Project, environment: str) -> Lab | None:
    """Return the lab of a ``local`` environment, or ``None`` when it was never brought up.

    Args:
        project: The project.
        environment: Name of the environment.
    """
    directory, file = labfile.find(project.project, environment)
    if file is None:
        return None
    buckets = (store.bucket for store in project.stores.values())
    return labfile.lab_at(directory, file, server_account(), buckets)


def _open_local(project: Project, project_file: Path, name: str, env: Environment) -> Site:
    from djops.systems.local import ceph, mysql, openbao

    lab = local_lab(project, name)
    manager = None if lab is None else mysql.manager_connection(lab)
    if lab is None or manager is None:
        raise DjopsError(
            f"the lab of project {project.project!r} was never brought up",
            where=str(project_file),
            code="E_NOT_UP",
            hint="bring it up with `djops up`",
        )
    return Site(
        project=project,
        project_file=project_file,
        environment=name,
        env=env,
        mysql=manager,
        s3=ceph.connection(lab),
        secrets=openbao.connection(lab),
        mysql_root=mysql.root_connection(lab),
        lab=lab.directory,
        s3_root=ceph.root_connection(lab),
    )


def _open_existing(project_file: Path, name: str) -> Site:
    # Read once more, for the lines that errors about credentials name.
    project, positions = loading.load(projectfile.read(project_file), projectfile.shown(project_file))
    env = project.environments[name]
    found = existing.connections(name, env, project_file.absolute().parent, positions.where)
    return Site(
        project=project,
        project_file=project_file,
        environment=name,
        env=env,
        mysql=found.mysql,
        s3=found.s3,
        secrets=found.secrets,
        mysql_root=None,
        lab=private_directory(lab_directory(project.project, name)),
    )


@dataclass(frozen=True)
class CloudDirectory:
    """Where djops keeps what it needs of an environment in the cloud.

    Attributes:
        directory: The environment's directory.
        known: Where the servers are.
        no_way: Why no way leads to a server, by server.
    """

    directory: Path
    known: cloudfile.CloudFile
    no_way: Mapping[str, ServerUnavailableError] = field(default_factory=dict)

    @property
    def mysql_manager(self) -> Path:
        """The file with the database account that djops works as."""
        return private_directory(self.directory / "secrets") / "mysql-manager.json"

    @property
    def s3_manager(self) -> Path:
        """The file with the key that djops works with."""
        return private_directory(self.directory / "secrets") / "s3-manager.json"

    @property
    def approle(self) -> Path:
        """The file with djops' log-in at the secrets server."""
        return private_directory(self.directory / "secrets") / "secrets-approle.json"

    @property
    def mysql_ca(self) -> Path:
        """The authorities of RDS."""
        return private_directory(self.directory / "tls") / "rds-ca.pem"

    @property
    def secrets_ca(self) -> Path:
        """The authority of the secrets server."""
        return private_directory(self.directory / "tls") / "secrets-ca.pem"

    def database_ca(self, env: Environment, project_file: Path) -> Path | None:
        """Return what the database's certificate is verified with; ``None`` for what the system trusts.

        Args:
            env: The environment.
            project_file: The project file, from whose directory relative paths count.
        """
        database = env.existing.database
        if database is None:
            return self.mysql_ca
        return (
            None if database.ca is None else project_file.absolute().parent / Path(database.ca).expanduser()
        )

    def mysql(self, user: str, password: Secret, ca: Path | None) -> MysqlConnection:
        """Return how to reach the database, through the tunnel where one is open.

        Args:
            user: The account.
            password: Its password.
            ca: What the server's certificate is verified with.
        """
        port = cloudfile.tunnelled(self.directory).get("mysql")
        through = None if port is None else ("127.0.0.1", port)
        host, at, no_way = self.known.mysql_host, self.known.mysql_port, self.no_way.get("mysql")
        return MysqlConnection(host, at, user, password, ca, through, no_way)

    def secrets_address(self) -> str:
        """Return the URL of the secrets server, through the tunnel where one is open."""
        port = cloudfile.tunnelled(self.directory).get("secrets")
        return self.known.secrets_address if port is None else f"https://127.0.0.1:{port}"


def cloud_secrets(
    project_file: Path, name: str, env: Environment, place: CloudDirectory
) -> SecretsConnection:
    """Return how djops reaches the secrets server of an environment in the cloud.

    Args:
        project_file: The project file.
        name: Name of the environment.
        env: The environment.
        place: Where djops keeps what it needs.

    Raises:
        DjopsError: ``E_NOT_UP`` when there is no log-in yet.
    """
    if env.secrets is not None:
        _, positions = loading.load(projectfile.read(project_file), projectfile.shown(project_file))
        directory = project_file.absolute().parent
        return existing.secrets_connection(name, env.secrets, directory, positions.where)
    ids = _kept(place.approle, project_file, name)
    return SecretsConnection(
        place.secrets_address(),
        str(ids["role_id"]),
        Secret(str(ids["secret_id"])),
        place.secrets_ca,
        place.no_way.get("secrets"),
    )


def _kept(file: Path, project_file: Path, name: str) -> dict[str, object]:
    found = read_json(file)
    if found is None:
        raise DjopsError(
            f"the environment {name!r} is not set up from this machine",
            where=str(project_file),
            code="E_NOT_UP",
            hint=f"run `djops up --env {name}`: what is there stays as it is",
        )
    return found


def _open_cloud(project_file: Path, name: str) -> Site:
    project = load_project(project_file)
    env, directory = project.environments[name], private_directory(lab_directory(project.project, name))
    known = cloudfile.read(directory)
    if known is None:
        raise DjopsError(
            f"the environment {name!r} was never brought up from this machine",
            where=str(project_file),
            code="E_NOT_UP",
            hint=f"run `djops up --env {name}`",
        )
    from djops.services import tunnel  # slow to import, and needed here alone

    place = CloudDirectory(directory, known, tunnel.reach(project, name))
    manager, key = (_kept(file, project_file, name) for file in (place.mysql_manager, place.s3_manager))
    endpoint = f"https://s3.{known.region}.amazonaws.com"
    return Site(
        project=project,
        project_file=project_file,
        environment=name,
        env=env,
        mysql=place.mysql(
            str(manager["user"]), Secret(str(manager["password"])), place.database_ca(env, project_file)
        ),
        s3=S3Connection(
            endpoint=endpoint,
            admin_endpoint=endpoint,
            iam_endpoint="https://iam.amazonaws.com",
            access_key=str(key["access_key"]),
            secret_key=Secret(str(key["secret_key"])),
            region=known.region,
        ),
        secrets=cloud_secrets(project_file, name, env, place),
        mysql_root=None,
        lab=directory,
        boundary=known.people_boundary,
        administrator=str(manager.get("administrator", "")),
        access_manager=known.access_manager,
    )
