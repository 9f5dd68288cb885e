"""Rights as MySQL roles, grants and memberships.

Reading is granted on the schema, which covers tables to come and ``~lineage``. Everything that writes
is granted table by table: a schema-wide DELETE would let a denied ``drop()`` wipe ``~lineage`` for
everybody, because the client deletes the lineage before the server refuses the DROP (seen with
DataJoint 2.3.5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from djops.compile.mysql_state import Account, AccountId, Edge, Held, Kind, MysqlState, Scope
from djops.compile.rights import Right, Rights
from djops.compile.sql import MAX_ACCOUNT, quote_string, schema_pattern
from djops.errors import NameRefusedError
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import LINEAGE_TABLE, Tier, is_sandbox
from djops.model.project import Project, SchemaEntry
from djops.model.roles import DATA_TIERS, Capability, Role, RoleModel

SCHEMA_PRIVILEGES: Mapping[Capability, frozenset[str]] = {
    Capability.READ: frozenset({"SELECT"}),
    Capability.DECLARE: frozenset({"CREATE", "REFERENCES"}),
    Capability.REFERENCE: frozenset({"REFERENCES"}),
    Capability.ALTER: frozenset({"ALTER", "INDEX"}),
    Capability.DROP: frozenset({"DROP"}),
}
"""Privileges on the whole schema. REFERENCES is what MySQL asks on the parent of a new foreign key."""

DATA_PRIVILEGES: Mapping[Capability, frozenset[str]] = {
    Capability.INSERT: frozenset({"INSERT"}),
    Capability.UPDATE: frozenset({"UPDATE"}),
    Capability.DELETE: frozenset({"DELETE"}),
}
"""Privileges on each table that holds scientists' rows."""

JOB_PRIVILEGES: Mapping[Capability, frozenset[str]] = {
    Capability.JOBS: frozenset({"INSERT", "UPDATE", "DELETE"}),
}
"""Privileges on each job table: refresh inserts, reserve updates, complete deletes."""

LINEAGE_PRIVILEGES: Mapping[Capability, frozenset[str]] = {
    Capability.DECLARE: frozenset({"INSERT", "UPDATE", "DELETE", "CREATE"}),
    Capability.DROP: frozenset({"DELETE"}),
}
"""Privileges on ``~lineage``. CREATE is named so that the grant can precede the table (else error 1146)."""


def sandbox_privileges(capabilities: frozenset[Capability]) -> frozenset[str]:
    """Return what capabilities on a sandbox take: all on its schemas, because its tables are not known."""
    kinds = (SCHEMA_PRIVILEGES, DATA_PRIVILEGES, JOB_PRIVILEGES, LINEAGE_PRIVILEGES)
    return frozenset[str]().union(*(_united(kind, capabilities) for kind in kinds))


@dataclass(frozen=True)
class Inventory:
    """The tables that exist, since table grants need their tables.

    Attributes:
        tables: All tables of the pipeline's schemas.
        job_columns: Hidden ``_job_...`` columns by table; populate updates them after its insert.
        first_keys: The first column of each table's primary key.
        escape: Whether grant patterns take escapes: ``@@partial_revokes`` is off.
    """

    tables: frozenset[TableName] = frozenset()
    job_columns: Mapping[TableName, tuple[str, ...]] = field(default_factory=dict)
    first_keys: Mapping[TableName, str] = field(default_factory=dict)
    escape: bool = True


def role_name(schema: str, level: str) -> str:
    """Name the MySQL role of a schema and level within MySQL's 32 characters.

    Args:
        schema: The schema's name, up to 64 characters.
        level: The role's name, or capabilities joined by ``+``.

    Returns:
        ``schema:level``; a long schema is cut and told apart by six hex digits of its SHA-256.
    """
    full = f"{schema}:{level}"
    if len(full) <= MAX_ACCOUNT:
        return full
    digest = hashlib.sha256(schema.encode()).hexdigest()[:6]
    return f"{schema[: MAX_ACCOUNT - len(level) - 8]}~{digest}:{level}"


def plain_level(capabilities: Iterable[Capability]) -> str:
    """Name a level that is no role of the role model: its capabilities, in their fixed order."""
    wanted = frozenset(capabilities)
    return "+".join(capability for capability in Capability if capability in wanted)


def compile_mysql(
    project: Project,
    host_pattern: str,
    rights: Rights,
    graph: PipelineGraph,
    roles: RoleModel,
    inventory: Inventory,
) -> MysqlState:
    """Compile rights to what the MySQL server should hold.

    Args:
        project: The project; its name marks what djops owns.
        host_pattern: Host part of people's and services' accounts.
        rights: The compiled rights.
        graph: The pipeline, for nesting upstream readers.
        roles: The role model.
        inventory: The tables that exist.

    Returns:
        Roles, accounts, privileges, memberships and default roles of this project.

    Raises:
        NameRefusedError: ``E_NAME`` when two roles would get the same name.
    """
    builder = _Builder(project, graph, roles, inventory)
    accounts = {name: AccountId(name, host_pattern) for name in (*project.people, *project.services)}
    for name, account in accounts.items():
        kind: Kind = "person" if name in project.people else "service"
        limit = _connections(rights.by_principal[name], roles)
        engine = project.services[name].credentials.type if kind == "service" else "kept"
        builder.accounts[account] = Account(
            kind,
            project.project,
            connections=limit,
            meaning=f"{kind} {name}",
            engine="" if engine == "kept" else engine,
        )
    for principal, held in rights.by_principal.items():
        given = {(r.because.target, r.because.role) for r in held if r.because.relation != "downstream"}
        for schema, role in sorted(given):
            builder.join(builder.level(schema, role), accounts[principal])
    for (principal, schema), below in rights.downstream.items():
        builder.join(builder.plain(schema, (right.capability for right in below)), accounts[principal])
    return builder.state()


def statement_guard(roles: RoleModel) -> str:
    """Write what a server runs for each new session (``init_connect``), so that limits of roles hold.

    MySQL has no such limit for an account. Sessions may lift it again: it keeps a program from hurting
    the others by mistake, not on purpose.

    Args:
        roles: The role model.

    Returns:
        One statement; empty when no role is limited so. A session that holds several limited roles gets
        the limit of the first.
    """
    seconds = {name: role.limits.statement_seconds for name, role in roles.roles.items()}
    rows = {name: role.limits.rows for name, role in roles.roles.items()}
    parts = [
        ("max_execution_time", {name: limit * 1000 for name, limit in seconds.items() if limit}),
        ("sql_select_limit", {name: limit for name, limit in rows.items() if limit}),
    ]
    settings = [f"{variable} = {_by_role(variable, limits)}" for variable, limits in parts if limits]
    return f"SET {', '.join(settings)}" if settings else ""


def _by_role(variable: str, limits: Mapping[str, int]) -> str:
    cases = " ".join(
        f"WHEN CURRENT_ROLE() LIKE {quote_string(f'%:{name}`@%')} THEN {limit}"
        for name, limit in sorted(limits.items())
    )
    return f"CAST(CASE {cases} ELSE @@{variable} END AS UNSIGNED)"


def _connections(held: Iterable[Right], roles: RoleModel) -> int:
    """Return how many connections an account may have: what its most generous role allows, 0 for any."""
    limits = [roles.role(name).limits.connections for name in {right.because.role for right in held}]
    return 0 if not limits or None in limits else max(limit or 0 for limit in limits)


class _Builder:
    """Collects the parts of the state; each role is made once, when first needed."""

    def __init__(
        self, project: Project, graph: PipelineGraph, roles: RoleModel, inventory: Inventory
    ) -> None:
        self.project = project
        self.graph = graph
        self.roles = roles
        self.reader = roles.reader()
        self.inventory = inventory
        self.accounts: dict[AccountId, Account] = {}
        self.privileges: dict[Held, frozenset[str]] = {}
        self.edges: dict[Edge, bool] = {}
        self.defaults: set[Edge] = set()
        self.made: dict[AccountId, tuple[str, str]] = {}
        self.levels: dict[tuple[str, str], AccountId] = {}
        self.tables: dict[str, list[TableName]] = {}
        for table in sorted(inventory.tables):
            self.tables.setdefault(table.schema, []).append(table)

    def state(self) -> MysqlState:
        return MysqlState(self.accounts, self.privileges, self.edges, frozenset(self.defaults))

    def join(self, role: AccountId, member: AccountId) -> None:
        edge = Edge(role, member)
        self.edges[edge] = self.edges.get(edge, False)
        self.defaults.add(edge)

    def level(self, schema: str, role: str) -> AccountId:
        """Make the MySQL role that gives ``role`` on ``schema`` with everything that goes with it."""
        account, is_new = self._make(schema, role)
        if not is_new:
            return account
        definition = self.roles.role(role)
        above = sorted(self.graph.upstream(schema))
        own, upstream = definition.target, definition.upstream
        if is_sandbox(schema):
            own = self.roles.in_sandbox(role)
        if self.reader and Capability.READ in own and (Capability.READ in upstream or not above):
            nested = [schema] if role != self.reader else sorted(self.graph.parents.get(schema, ()))
            for name in nested:
                self.edges[Edge(self.level(name, self.reader), account)] = False
            upstream -= {Capability.READ}
            if role != self.reader:
                own -= {Capability.READ}
        self._allow(account, schema, own, definition.tiers, definition.extras)
        for name in above:
            self._allow(account, name, upstream)
        if Capability.GRANT in own:
            self._delegate(account, schema, definition)
        return account

    def plain(self, schema: str, capabilities: Iterable[Capability]) -> AccountId:
        """Make a MySQL role that gives capabilities on one schema and nothing beside it."""
        wanted = frozenset(capabilities)
        account, is_new = self._make(schema, plain_level(wanted))
        if is_new:
            self._allow(account, schema, wanted)
        return account

    def _make(self, schema: str, level: str) -> tuple[AccountId, bool]:
        known = self.levels.get((schema, level))
        if known is not None:
            return known, False
        account = AccountId(role_name(schema, level))
        owner = self.made.setdefault(account, (schema, level))
        if owner != (schema, level) or account in self.accounts:
            raise NameRefusedError(
                f"the MySQL role {account} would stand for two things: {schema!r} and {owner[0]!r}",
                hint="rename one of the schemas",
            )
        self.levels[schema, level] = account
        meaning = f"{level} on {schema}"
        self.accounts[account] = Account(
            "role", self.project.project, locked=True, require_tls=False, meaning=meaning
        )
        return account, True

    def _delegate(self, holder: AccountId, schema: str, definition: Role) -> None:
        """Let a role pass on every role that gives nothing it does not give itself: nesting gives both."""
        stage = self.project.schemas.get(schema, SchemaEntry()).stage
        for name, role in self.roles.roles.items():
            if is_sandbox(schema) and name != self.reader:
                continue
            if not role.project_wide and stage in role.stages and _gives_no_more(role, definition):
                self.edges[Edge(self.level(schema, name), holder)] = True

    def _allow(
        self,
        grantee: AccountId,
        schema: str,
        capabilities: frozenset[Capability],
        tiers: Collection[str] = DATA_TIERS,
        extras: Collection[str] = (),
    ) -> None:
        if not capabilities:
            return
        pattern = schema_pattern(schema, escape=self.inventory.escape)
        if is_sandbox(schema):
            self._add(grantee, Scope(pattern), sandbox_privileges(capabilities))
            return
        self._add(grantee, Scope(pattern), _united(SCHEMA_PRIVILEGES, capabilities))
        lineage = _united(LINEAGE_PRIVILEGES, capabilities)
        if "CREATE" in lineage or TableName(schema, LINEAGE_TABLE) in self.inventory.tables:
            self._add(grantee, Scope(schema, LINEAGE_TABLE), lineage)
        jobs, data = _united(JOB_PRIVILEGES, capabilities), _united(DATA_PRIVILEGES, capabilities)
        for table in self.tables.get(schema, ()) if jobs or data else ():
            if table.tier is Tier.JOB:
                self._add(grantee, Scope(schema, table.table), jobs)
            elif table.family in tiers:
                self._add(grantee, Scope(schema, table.table), data)
                if Capability.INSERT in capabilities and Capability.UPDATE not in capabilities:
                    for column in self._updated_by_inserts(table, extras):
                        self._add(grantee, Scope(schema, table.table, column), frozenset({"UPDATE"}))

    def _updated_by_inserts(self, table: TableName, extras: Collection[str]) -> Iterable[str]:
        """Name the columns that the client updates although rows are only inserted."""
        yield from self.inventory.job_columns.get(table, ())
        # INSERT ... ON DUPLICATE KEY UPDATE sets the first column of the key to itself.
        if "skip_duplicates" in extras and table in self.inventory.first_keys:
            yield self.inventory.first_keys[table]

    def _add(self, grantee: AccountId, scope: Scope, privileges: frozenset[str]) -> None:
        if privileges:
            held = Held(grantee, scope)
            self.privileges[held] = self.privileges.get(held, frozenset()) | privileges


def _gives_no_more(role: Role, than: Role) -> bool:
    """Compare two roles by what they give in MySQL."""
    elsewhere = {Capability.INBOX, Capability.COLLECT}
    return (
        role is not than
        and role.target - elsewhere <= than.target
        and role.upstream - elsewhere <= than.upstream
        and (role.tiers <= than.tiers or not role.target & DATA_PRIVILEGES.keys())
        and (role.extras <= than.extras or Capability.INSERT not in role.target)
    )


def _united(
    privileges: Mapping[Capability, frozenset[str]], capabilities: frozenset[Capability]
) -> frozenset[str]:
    return frozenset[str]().union(*(privileges.get(capability, frozenset()) for capability in capabilities))
