"""What the model says and what the servers' own catalogs say, side by side, for whoever compares them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal
from urllib.parse import urlsplit

from djops.compile.mysql import Inventory
from djops.compile.mysql_state import AccountId, Edge, MysqlCatalog
from djops.compile.rights import Right, Rights, compile_rights
from djops.compile.s3 import iam_path
from djops.compile.s3_manager import scratch_project
from djops.compile.sql import quote_account
from djops.errors import UndecidedError
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import is_sandbox, sandbox_stem
from djops.model.roles import DATA_TIERS, RoleModel
from djops.plan.leases import engines, stand_for_services
from djops.proof.cells import ADMIN_OPTION, MysqlAsk, Places, Power, S3Ask, Tables, places_of
from djops.proof.decision import Decision
from djops.proof.iam_patterns import Dialect
from djops.proof.iam_reader import IamReader
from djops.proof.iam_state import IamCatalog
from djops.proof.mysql_reader import MysqlReader
from djops.proof.theorems import LOOPBACK, Situation, WeakPassword, undecided
from djops.services.access import Servers, Wanted, require_power, whole_graph
from djops.services.site import Site
from djops.systems.mysql_passwords import weak_passwords

INNER = ("mysql.infoschema", "mysql.session", "mysql.sys")
"""Accounts that MySQL keeps for itself."""

_RDS = (".rds.amazonaws.com", ".rds.amazonaws.com.cn")

RDS_OWN = (
    AccountId("rdsadmin", "localhost"),
    AccountId("rdsrepladmin", "%"),
    AccountId("rds_superuser_role", "%"),
)
"""Accounts that AWS keeps in every database of RDS, to run it; the last is a role of its administrator."""


@dataclass(frozen=True)
class Evidence:
    """The project and the servers at one moment.

    Attributes:
        wanted: What the project file wants.
        graph: The pipeline as code, project file and database tell it.
        rights: The model's rights.
        inventory: The tables that exist.
        mysql: The database's reader.
        s3: The object store's reader; ``None`` for a project without stores.
        tables: What each schema holds.
        places: Where each schema's objects lie.
        powers: The rights as powers, by principal and schema.
        accounts: Each principal's database account, whether it exists or not.
        keepers: Database accounts of the server itself and of djops, throw-away ones included.
        iam_keepers: IAM users that are djops' own.
        administrators: Those of the keepers who administer a database that djops does not run, with what
            they are, for people.
        site: Where all this is.
        inside: Schemas that people made in their sandboxes, each with its sandbox.
    """

    wanted: Wanted
    graph: PipelineGraph
    rights: Rights
    inventory: Inventory
    mysql: MysqlReader
    s3: IamReader | None
    tables: Mapping[str, Tables]
    places: Mapping[str, Places]
    powers: Mapping[tuple[str, str], Sequence[Power]]
    accounts: Mapping[str, AccountId]
    keepers: frozenset[AccountId]
    iam_keepers: frozenset[str]
    site: Site
    inside: Mapping[str, str] = field(default_factory=dict)
    administrators: Mapping[AccountId, str] = field(default_factory=dict)
    _readers: dict[str, Sequence[AccountId]] = field(default_factory=dict, repr=False)

    @property
    def order(self) -> Sequence[str]:
        """All schemas, parents before children; those in sandboxes last."""
        return (*self.graph.order, *self.inside)

    @cached_property
    def _roles(self) -> Sequence[AccountId]:
        catalog = self.mysql.catalog
        made = {name for name, account in catalog.accounts.items() if account.kind == "role"}
        return sorted(made | {edge.role for edge in catalog.edges})

    def readers_of(self, schema: str) -> Sequence[AccountId]:
        """Return the roles that read a schema by themselves.

        Args:
            schema: The schema.
        """
        if schema not in self._readers:
            reads = (role for role in self._roles if "SELECT" in self.mysql.privileges(role, schema))
            self._readers[schema] = tuple(reads)
        return self._readers[schema]

    @cached_property
    def _passing_on(self) -> frozenset[AccountId]:
        """Whoever may pass on any role."""
        return frozenset(edge.member for edge, admin in self.mysql.catalog.edges.items() if admin)

    def alike(self, system: Literal["mysql", "s3"], principal: str, schema: str) -> Hashable:
        """Return what is equal for principals of whom the catalog says the same on a schema.

        Args:
            system: Whose catalog.
            principal: A person or service.
            schema: The schema.
        """
        if system == "s3":
            there = self.s3 is not None and principal in self.s3.catalog.users
            return self.s3.alike(principal) if there and self.s3 else principal
        account = self.accounts[principal]
        if account not in self.mysql.catalog.accounts:
            return principal
        passing_on = self._passing_on.intersection(self.mysql.session(account).paths)
        return self.mysql.alike(account, schema), passing_on

    def situation(self, passwords: Sequence[WeakPassword] | None = None) -> Situation:
        """Return what the theorems are about.

        Args:
            passwords: Accounts with passwords that others know; ``None`` where nobody looked.
        """
        return Situation(
            mysql=self.mysql,
            s3=self.s3,
            schemas={schema: self.tables[schema].names for schema in self.order},
            places=self.places,
            powers=self.powers,
            accounts=frozenset(self.accounts.values()),
            keepers=self.keepers,
            iam_keepers=self.iam_keepers,
            in_clear=in_clear(self.site),
            passwords=passwords,
        )


def gather(servers: Servers, wanted: Wanted, *, stores: bool = True) -> Evidence:
    """Read what both catalogs say, and what the model says of the same pipeline.

    Args:
        servers: The servers.
        wanted: What the project file wants.
        stores: Whether to ask the object store at all.

    Returns:
        Both, for every principal of the project and everybody else on the servers.

    Raises:
        DjopsError: A server does not answer, or does not show its catalog to djops.
    """
    project, schemas = wanted.project, wanted.graph.schemas
    buckets = [store.bucket for store in project.stores.values() if stores]
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(servers.s3.read_catalog, buckets) if buckets else None
        catalog = servers.mysql.read_catalog()
        if require_power(servers, catalog, schemas, escape=servers.mysql.escapes_patterns()):
            catalog = servers.mysql.read_catalog()
        live, inventory = servers.mysql.read_pipeline(schemas)
        store = reading.result() if reading else None
    return assemble(servers.site, wanted, whole_graph(wanted.graph, live), inventory, catalog, store)


def assemble(
    site: Site,
    wanted: Wanted,
    graph: PipelineGraph,
    inventory: Inventory,
    catalog: MysqlCatalog,
    store: IamCatalog | None,
) -> Evidence:
    """Put side by side what was read.

    Args:
        site: Where it was read.
        wanted: What the project file wants.
        graph: The pipeline as code, project file and database tell it.
        inventory: The tables that exist.
        catalog: What the database says about access.
        store: What the object store says; ``None`` for a project without stores.
    """
    project = wanted.project
    rights = compile_rights(project, graph, wanted.roles, wanted.today)
    host = project.environments[site.environment].host_pattern
    inside = _inside(graph, catalog)
    powers = dict(powers_of(rights, wanted.roles))
    for schema, sandbox in inside.items():
        powers |= {(name, schema): held for (name, on), held in tuple(powers.items()) if on == sandbox}
    return Evidence(
        wanted=wanted,
        graph=graph,
        rights=rights,
        inventory=inventory,
        mysql=MysqlReader(catalog),
        s3=None if store is None else store_reader(site, store),
        tables={**_tables(graph, inventory, catalog), **_tables_inside(inside, catalog)},
        # The place of the sandbox stands for those of its schemas.
        places={
            **{schema: places_of(project.stores.values(), schema) for schema in graph.order},
            **dict.fromkeys(inside, Places()),
        },
        powers=powers,
        accounts={name: AccountId(name, host) for name in rights.principals},
        keepers=_keepers(site, catalog),
        administrators=_administrators(site, catalog),
        iam_keepers=_iam_keepers(site, store),
        site=site,
        inside=inside,
    )


def _inside(graph: PipelineGraph, catalog: MysqlCatalog) -> Mapping[str, str]:
    """Find the schemas that people made in their sandboxes."""
    stems = {sandbox: sandbox_stem(sandbox) for sandbox in graph.order if is_sandbox(sandbox)}
    return {
        schema: sandbox
        for sandbox, stem in stems.items()
        for schema in sorted(catalog.schemas - graph.schemas)
        if schema.startswith(stem)
    }


def _tables_inside(inside: Mapping[str, str], catalog: MysqlCatalog) -> Mapping[str, Tables]:
    found: dict[str, list[TableName]] = {schema: [] for schema in inside}
    for schema, table in sorted(catalog.tables):
        if schema in found:
            found[schema].append(TableName(schema, table))
    return {schema: Tables(names) for schema, names in found.items()}


def look_at_passwords(site: Site) -> Sequence[WeakPassword] | None:
    """Look for accounts with passwords that others know.

    Args:
        site: The environment.

    Returns:
        The accounts; ``None`` where djops does not run the server, and so may not see the hashes.
    """
    if site.mysql_root is None:
        return None
    own = (site.mysql.user, site.mysql_root.user)
    return [WeakPassword(account, reason) for account, reason in weak_passwords(site.mysql_root, own)]


def in_clear(site: Site) -> Mapping[str, str]:
    """Return the URLs of servers that clients reach over a network without TLS, by the server's name.

    Args:
        site: The environment.
    """
    urls = {"the secrets server": site.secrets.address}
    urls |= {"the object store": site.s3.endpoint} if site.project.stores else {}
    parts = {name: urlsplit(url) for name, url in urls.items()}
    return {
        name: urls[name]
        for name, part in parts.items()
        if part.scheme != "https" and part.hostname not in LOOPBACK
    }


def store_reader(site: Site, catalog: IamCatalog) -> IamReader:
    """Return what reads an object store's policies, for users who come as djops' settings let them come.

    Args:
        site: The environment.
        catalog: What the store holds.
    """
    return IamReader(catalog, dialect_of(site), tls=urlsplit(site.s3.endpoint).scheme == "https")


def dialect_of(site: Site) -> Dialect:
    """Tell how an environment's object store reads policies.

    Args:
        site: The environment.
    """
    host = urlsplit(site.s3.admin_endpoint).hostname or ""
    return "aws" if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else "ceph"


def powers_of(rights: Rights, roles: RoleModel) -> Mapping[tuple[str, str], Sequence[Power]]:
    """Turn rights into powers, by principal and schema.

    Args:
        rights: The rights.
        roles: The role model, for what limits a role to some tables.
    """
    found: dict[tuple[str, str], dict[Power, None]] = {}
    for right in rights.rights:
        found.setdefault((right.principal, right.schema), {})[_power(right, roles)] = None
    return {key: tuple(powers) for key, powers in found.items()}


def _power(right: Right, roles: RoleModel) -> Power:
    role = roles.role(right.because.role)
    if is_sandbox(right.schema):
        return Power(right.capability, whole=True)
    if right.because.relation == "target":
        return Power(right.capability, role.tiers, role.extras)
    # A cascading delete visits every table, and what is upstream is another role's business.
    return Power(right.capability, DATA_TIERS)


def _tables(graph: PipelineGraph, inventory: Inventory, catalog: MysqlCatalog) -> Mapping[str, Tables]:
    columns: dict[tuple[str, str], set[str]] = {}
    for held in catalog.privileges:
        if held.scope.column:
            columns.setdefault((held.scope.pattern, held.scope.table), set()).add(held.scope.column)
    found = {}
    for schema in graph.order:
        names = sorted(table for table in inventory.tables if table.schema == schema)
        singled_out = {name: frozenset(columns.get((schema, name.table), ())) for name in names}
        found[schema] = Tables(names, inventory.job_columns, inventory.first_keys, singled_out)
    return found


def _keepers(site: Site, catalog: MysqlCatalog) -> frozenset[AccountId]:
    """Name the accounts without which there is no server and no djops, its throw-away ones included.

    The accounts that are leased to services stand for these, whose rights are looked at; the database
    engine's holds nothing of the pipeline.
    """
    scratch = scratch_project(site.project.project, "")
    return frozenset(
        account
        for account, about in catalog.accounts.items()
        if account.user in INNER
        or account.user == site.mysql.user
        or (account.user == "root" and account.host in LOOPBACK)
        or (about.project or "").startswith(scratch)
    ).union(
        stand_for_services(site.project, catalog),
        engines(site.project, catalog),
        _administrators(site, catalog),
    )


def _administrators(site: Site, catalog: MysqlCatalog) -> Mapping[AccountId, str]:
    """Name those without whom a database in the cloud is not run: AWS itself, and its administrator.

    They count by name and host: what somebody else calls the same at another host is somebody else's.
    """
    known: dict[AccountId, str] = {}
    if site.administrator:
        known[AccountId(site.administrator, "%")] = (
            "the database's administrator, whom this environment names"
        )
    if site.mysql.host.endswith(_RDS):
        known |= dict.fromkeys(RDS_OWN, "AWS' own account, which runs the database")
    return {account: what for account, what in known.items() if account in catalog.accounts}


def _iam_keepers(site: Site, store: IamCatalog | None) -> frozenset[str]:
    scratch = iam_path(scratch_project(site.project.project, "")).rstrip("/")
    users = {} if store is None else store.users
    return frozenset(
        {site.access_manager, *(name for name, user in users.items() if f":user{scratch}" in user.arn)}
    )


def ask_database(found: Evidence, account: AccountId, ask: MysqlAsk, *, unexpected: bool = True) -> Decision:
    """Answer a question from the database's catalog.

    Args:
        found: What the catalogs say.
        account: Whoever is asked about; an account that exists.
        ask: The question.
        unexpected: Which answer is to come with its reasons; the other comes without, and faster.
    """
    reader = found.mysql
    if ask.privilege == ADMIN_OPTION:
        return _may_pass_on(found, account, ask.schema)
    held = ask.privilege in reader.privileges(account, ask.schema, ask.table, ask.column)
    if held != unexpected and not reader.catalog.partial_revokes:
        return Decision(held)
    return reader.decide(account, *ask)


def _may_pass_on(found: Evidence, account: AccountId, schema: str) -> Decision:
    """Tell whether a session may pass on a role that reads a schema: it, or a role active in it, was let."""
    session, edges = found.mysql.session(account), found.mysql.catalog.edges
    because = tuple(
        f"GRANT {quote_account(*role)} TO {quote_account(*member)} WITH ADMIN OPTION"
        for role in found.readers_of(schema)
        for member in session.paths
        if edges.get(Edge(role, member))
    )
    return Decision(bool(because), because)


def ask_store(found: Evidence, user: str, ask: S3Ask) -> Decision:
    """Answer a question from the object store's catalog.

    Args:
        found: What the catalogs say.
        user: An IAM user that exists, or ``*`` for somebody without a key.
        ask: The question.
    """
    if found.s3 is None:
        return Decision(False)
    try:
        return found.s3.decide(user, ask.action, ask.resource, ask.context)
    except UndecidedError as error:
        return undecided(error)
