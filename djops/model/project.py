"""The project file as typed data.

``djops.yaml`` is read by :mod:`djops.model.loading`; nothing here knows files.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from djops.model.cloud import CloudEnvironment
from djops.model.frozen import Frozen
from djops.model.machine import AppRole, MachineCredentials, as_credentials
from djops.model.names import SANDBOX_END, is_sandbox
from djops.model.roles import Role

PRINCIPAL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")
"""MySQL allows 32 characters, IAM ``[\\w+=,.@-]``, Vault paths no slash: this is what all three take."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _as_date(value: object) -> object:
    # Pydantic also takes seconds since 1970 and the other ISO forms, which nobody means here.
    if isinstance(value, dt.date) or (isinstance(value, str) and _DATE.fullmatch(value)):
        return value
    raise ValueError("a date is written YYYY-MM-DD")


def _as_mapping(value: object) -> object:
    return {} if value is None else value


def _as_list(value: object) -> object:
    return () if value is None else value


PrincipalName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,31}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
StoreName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,30}$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,30}$")]
# The order matters: what stands last is applied first, and JSON Schema shows what the file may hold.
Names = Annotated[
    tuple[Name, ...], BeforeValidator(_as_tuple, json_schema_input_type=Name | tuple[Name, ...])
]
NameList = Annotated[
    tuple[Name, ...],
    Field(min_length=1),
    BeforeValidator(
        _as_tuple, json_schema_input_type=Name | Annotated[tuple[Name, ...], Field(min_length=1)]
    ),
]
Day = Annotated[dt.date, BeforeValidator(_as_date, json_schema_input_type=dt.date)]


class Pipeline(Frozen):
    """Where the pipeline's code is.

    Attributes:
        package: The importable name of the package whose modules declare the schemas.
        path: The folder that holds the package, relative to the project file.
    """

    package: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
    path: str = "src"


class CredentialSource(Frozen):
    """Where an administrator's secret is read from; never the project file, never argv.

    Attributes:
        file: A file with the secret, mode 0600.
        env: The environment variable with the secret.
    """

    file: str | None = None
    env: str | None = None


class MysqlServer(Frozen):
    """A MySQL server that already exists.

    Attributes:
        host: Host name or address.
        port: TCP port.
        user: The account djops works as.
        password: Where its password is.
        ca: PEM file of the authority that signed the server's certificate.
    """

    host: str
    port: int = Field(default=3306, ge=1, le=65535)
    user: str
    password: CredentialSource
    ca: str | None = None


class S3Server(Frozen):
    """An S3 server that already exists.

    Attributes:
        endpoint: URL that clients use, with scheme.
        iam_endpoint: URL of its IAM API where that differs from ``endpoint``.
        region: Region name given to the client library.
        access_key: Where djops' access key is.
        secret_key: Where djops' secret key is.
        ca: PEM file of the authority that signed the server's certificate.
    """

    endpoint: str
    iam_endpoint: str | None = None
    region: str = "us-east-1"
    access_key: CredentialSource
    secret_key: CredentialSource
    ca: str | None = None


class SecretsServer(Frozen):
    """An OpenBao or Vault server that already exists.

    Attributes:
        address: URL of the server.
        role_id: Where djops' AppRole role id is.
        secret_id: Where djops' AppRole secret id is.
        ca: PEM file of the authority that signed the server's certificate.
    """

    address: str
    role_id: CredentialSource
    secret_id: CredentialSource
    ca: str | None = None


class Login(Frozen):
    """How people log in to the secrets server by themselves, and where the lab's groups of people are.

    Attributes:
        method: ``userpass`` (the secrets server's own), ``ldap`` or ``oidc``.
        path: Where the method is mounted on the secrets server; its name unless given.
        url: LDAP: URL of the directory, ``ldaps://`` or, with StartTLS, ``ldap://``.
        ca: LDAP: PEM file of the authority that signed the directory's certificate.
        bind_dn: LDAP: the account that may search.
        bind_password: LDAP: where its password is.
        user_dn: LDAP: below which people are.
        user_attr: LDAP: the attribute that is the account's name.
        group_dn: LDAP: below which groups are.
        discovery_url: OIDC: the provider's issuer.
        client_id: OIDC: what the provider calls this client.
        client_secret: OIDC: where its secret is.
        user_claim: OIDC: the claim that is the account's name.
    """

    method: Literal["userpass", "ldap", "oidc"]
    path: str | None = Field(default=None, pattern=r"^[a-z0-9_-]{1,40}$")
    url: str | None = Field(default=None, pattern=r"^ldaps?://[^\s/]+/?$")
    ca: str | None = None
    bind_dn: str | None = None
    bind_password: CredentialSource | None = None
    user_dn: str | None = None
    user_attr: str = Field(default="uid", pattern=r"^[A-Za-z][A-Za-z0-9-]*$")
    group_dn: str | None = None
    discovery_url: str | None = None
    client_id: str | None = None
    client_secret: CredentialSource | None = None
    user_claim: str = Field(default="preferred_username", pattern=r"^[\w./-]+$")

    @model_validator(mode="after")
    def _knows_where(self) -> Self:
        needed = {
            "ldap": ("url", "user_dn", "group_dn"),
            "oidc": ("discovery_url", "client_id", "client_secret"),
        }
        missing = [name for name in needed.get(self.method, ()) if getattr(self, name) is None]
        if missing:
            raise ValueError(f"the method {self.method} needs {', '.join(missing)}")
        return self


class Environment(CloudEnvironment):
    """One place where the project runs.

    Attributes:
        target: ``local`` (djops starts the servers), ``existing`` (they are there) or ``aws`` (djops has
            Pulumi make them).
        host_pattern: The host part of every MySQL account, for example ``%`` or ``10.1.%``.
        mysql: The database server, for ``existing``.
        s3: The object store, for ``existing``.
        secrets: The secrets server, for ``existing``, and for ``aws`` where the lab has one already.
        login: How people log in to the secrets server by themselves, and where the lab's groups are.
    """

    target: Literal["local", "existing", "aws"]
    host_pattern: str = Field(default="%", min_length=1, max_length=255)
    mysql: MysqlServer | None = None
    s3: S3Server | None = None
    secrets: SecretsServer | None = None
    login: Login | None = None


class Store(Frozen):
    """An object store as the DataJoint client knows it.

    Attributes:
        protocol: Only ``s3`` has policies.
        bucket: Bucket name.
        location: Key prefix of the project inside the bucket; may be empty.
        hash_prefix: First key part of content-addressed objects.
        schema_prefix: First key part of schema-addressed objects.
    """

    protocol: Literal["s3"] = "s3"
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    location: str = ""
    hash_prefix: str = "_hash"
    schema_prefix: str = "_schema"


class SchemaEntry(Frozen):
    """What cannot be read from the code about one schema.

    Attributes:
        stage: Developers are granted only on ``development`` schemas.
        module: The module that declares it, where the name is computed and cannot be read.
        upstream: Schemas it depends on beyond what code and database show.
        code: ``false`` for a schema that no module of this repository declares.
    """

    stage: Literal["production", "development"] = "production"
    module: str | None = None
    upstream: Names = ()
    code: bool = True


class Grant(Frozen):
    """One line of a principal's rights.

    Attributes:
        role: Name of a role of the role model.
        on: Schemas: names, globs, or ``all``.
        until: Last day on which it holds.
        reason: Why it was given.
        cascade: Adds read and delete on everything downstream, for cascading deletes.
        force: Gives a developer rights on a schema that is not in development; needs ``reason``.
    """

    role: str
    on: NameList
    until: Day | None = None
    reason: str | None = None
    cascade: bool = False
    force: bool = False


class Principal(Frozen):
    """A person or a service.

    Attributes:
        email: For people, how to reach them.
        grants: What they may do.
    """

    email: str | None = None
    grants: Annotated[
        tuple[Grant, ...], BeforeValidator(_as_list, json_schema_input_type=tuple[Grant, ...] | None)
    ] = ()


class Service(Principal):
    """A machine: a worker, an importer, a monitor.

    Attributes:
        email: Who looks after it.
        grants: What it may do.
        credentials: Who makes and keeps its database password: `kept`, `static` or `dynamic`.
        approle: How it logs in to the secrets server.
    """

    credentials: Annotated[
        MachineCredentials,
        BeforeValidator(
            as_credentials,
            json_schema_input_type=Literal["kept", "static", "dynamic"] | MachineCredentials,
        ),
    ] = Field(default_factory=MachineCredentials)
    approle: AppRole = Field(default_factory=AppRole)


class Team(Frozen):
    """People who get the same rights.

    Attributes:
        members: Their account names.
        grants: What each of them may do.
    """

    members: Names = ()
    grants: Annotated[
        tuple[Grant, ...], BeforeValidator(_as_list, json_schema_input_type=tuple[Grant, ...] | None)
    ] = ()


def _as_team(value: object) -> object:
    return {"members": value} if isinstance(value, list | tuple | str) else {} if value is None else value


# A key with nothing behind it is an empty mapping: `bob:` is a person without rights.
_Principals = Annotated[
    dict[
        PrincipalName,
        Annotated[Principal, BeforeValidator(_as_mapping, json_schema_input_type=Principal | None)],
    ],
    BeforeValidator(_as_mapping, json_schema_input_type=dict[PrincipalName, Principal | None] | None),
]
_Services = Annotated[
    dict[
        PrincipalName,
        Annotated[Service, BeforeValidator(_as_mapping, json_schema_input_type=Service | None)],
    ],
    BeforeValidator(_as_mapping, json_schema_input_type=dict[PrincipalName, Service | None] | None),
]
_SchemaEntries = Annotated[
    dict[
        Name, Annotated[SchemaEntry, BeforeValidator(_as_mapping, json_schema_input_type=SchemaEntry | None)]
    ],
    BeforeValidator(_as_mapping, json_schema_input_type=dict[Name, SchemaEntry | None] | None),
]
_Stores = Annotated[
    dict[StoreName, Store],
    BeforeValidator(_as_mapping, json_schema_input_type=dict[StoreName, Store] | None),
]


_Teams = Annotated[
    dict[
        PrincipalName,
        Annotated[Team, BeforeValidator(_as_team, json_schema_input_type=Team | tuple[Name, ...] | None)],
    ],
    BeforeValidator(
        _as_mapping, json_schema_input_type=dict[PrincipalName, Team | tuple[Name, ...] | None] | None
    ),
]
RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,15}$")]


class Sandboxes(Frozen):
    """Schemas that people make for themselves, such as ``dev_alice_test``, without asking anybody.

    Attributes:
        prefix: What their names begin with; the owner's name and an underscore follow.
        roles: Whoever holds one of these roles has a sandbox.
    """

    prefix: str = Field(default="dev_", pattern=r"^[A-Za-z][A-Za-z0-9_]{0,13}_$")
    roles: Annotated[
        tuple[RoleName, ...],
        Field(min_length=1),
        BeforeValidator(
            _as_tuple, json_schema_input_type=RoleName | Annotated[tuple[RoleName, ...], Field(min_length=1)]
        ),
    ] = ("developer",)


class Project(Frozen):
    """The whole of ``djops.yaml``.

    Attributes:
        version: Version of the file's format.
        project: Name of the project; part of every ownership mark.
        pipeline: Where the code is.
        environments: Places where it runs, by name.
        stores: Object stores by the name the client uses in ``<blob@name>``.
        schemas: Facts about schemas that the code does not tell.
        people: Persons by account name.
        services: Services by account name.
        teams: People who get the same rights, by the team's name.
        groups: Schemas by the group's name, which stands for them in ``on``.
        roles: Roles of the project's own.
        sandboxes: Who may make schemas of their own; nobody without it.
    """

    version: Literal[1]
    project: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")
    pipeline: Pipeline
    environments: dict[EnvironmentName, Environment] = Field(min_length=1)
    stores: _Stores = Field(default_factory=dict)
    schemas: _SchemaEntries = Field(default_factory=dict)
    people: _Principals = Field(default_factory=dict)
    services: _Services = Field(default_factory=dict)
    teams: _Teams = Field(default_factory=dict)
    groups: dict[Name, NameList] = Field(default_factory=dict)
    roles: dict[RoleName, Role] = Field(default_factory=dict)
    sandboxes: Sandboxes | None = None

    @property
    def principals(self) -> dict[str, Principal]:
        """People and services in one mapping; the loader refuses a name used by both."""
        return {**self.people, **self.services}

    def entries(self) -> Iterator[tuple[str, str, int, Grant]]:
        """Yield every grant with its section, holder and number: people's, services', then teams'."""
        for section, holders in (("people", self.people), ("services", self.services), ("teams", self.teams)):
            for name, holder in holders.items():
                for index, grant in enumerate(holder.grants):
                    yield section, name, index, grant

    def grants_of(self, principal: str) -> Iterator[tuple[str, Grant]]:
        """Yield every grant that a person or service has, with its place in the file; teams' grants last."""
        section = "people" if principal in self.people else "services"
        holder = self.people.get(principal) or self.services[principal]
        for index, grant in enumerate(holder.grants):
            yield f"{section}.{principal}.grants[{index}]", grant
        for name, team in self.teams.items():
            if principal in team.members and principal in self.people:
                for index, grant in enumerate(team.grants):
                    yield f"teams.{name}.grants[{index}]", grant

    @property
    def owned(self) -> dict[str, str]:
        """The sandbox of each person who has one, grants that are over included."""
        if self.sandboxes is None:
            return {}
        return {
            name: f"{self.sandboxes.prefix}{name}{SANDBOX_END}"
            for name in self.people
            if any(grant.role in self.sandboxes.roles for _, grant in self.grants_of(name))
        }

    def meant(self, on: Iterable[str], schemas: Collection[str]) -> tuple[str, ...]:
        """Expand what a grant is given on, groups of schemas included; see :func:`resolve_on`."""
        names = [
            one for name in on for one in ((name,) if name in schemas else self.groups.get(name, (name,)))
        ]
        return resolve_on(names, schemas)


ALL = "all"


def resolve_on(on: Iterable[str], schemas: Collection[str]) -> tuple[str, ...]:
    """Expand names, globs and ``all`` to names of schemas.

    Args:
        on: Names, globs in which ``*``, ``?`` and ``[...]`` count, or ``all``.
        schemas: All schemas of the pipeline.

    Returns:
        The schemas meant, in alphabetical order; what matches nothing is left out. A schema that is
        itself called ``all`` takes the word's meaning away. A person's sandbox must be named to be meant.
    """
    wanted = tuple(on)
    if all(name in schemas for name in wanted):  # as nearly always: the rest looks at every schema
        return tuple(sorted(set(wanted)))
    shared = [name for name in schemas if not is_sandbox(name)]
    if ALL in wanted and ALL not in schemas:
        return tuple(sorted({*shared, *(name for name in wanted if name in schemas)}))
    named = {name for name in wanted if name in schemas}
    patterns = [
        pattern for pattern in wanted if pattern not in named and any(mark in pattern for mark in "*?[")
    ]
    named.update(name for name in shared for pattern in patterns if fnmatch.fnmatchcase(name, pattern))
    return tuple(sorted(named))
