"""Access: what the project file wants, how the servers differ from it, and bringing them there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from djops.compile.deadlines import compile_deadlines
from djops.compile.machines import engine_account
from djops.compile.mysql import Inventory, compile_mysql, plain_level, role_name
from djops.compile.mysql_manager import missing_grants
from djops.compile.mysql_state import AccountId, MysqlState, Scope
from djops.compile.rights import Because, Rights, compile_rights, is_expired
from djops.compile.s3 import S3State, compile_s3
from djops.compile.secrets_state import SecretsState
from djops.compile.sql import schema_pattern, unescape_pattern
from djops.compile.vault import compile_vault, secret_path
from djops.errors import AccessDeniedError, ConfigError
from djops.model.graph import PipelineGraph, merge
from djops.model.names import is_sandbox
from djops.model.project import Project
from djops.model.roles import RoleModel
from djops.plan.adoption import Adoption, adopt_mysql, adopt_s3, with_adopted_keys
from djops.plan.change import Change, Plan, in_order
from djops.plan.expiry import Ended, what_ended
from djops.plan.leases import with_leases
from djops.plan.mysql import Reasons, diff_mysql
from djops.plan.mysql_changes import CHANGED_FACT, STATE_FACT, EndSessions
from djops.plan.operations import KeepKey
from djops.plan.rotation import ROTATING, end_overdue
from djops.plan.s3 import diff_s3
from djops.plan.vault import diff_vault
from djops.services import machines
from djops.services.applying import Applied as Applied
from djops.services.applying import apply as apply
from djops.services.applying import execute as execute
from djops.services.project import Loaded
from djops.services.servers import Servers as Servers
from djops.services.site import open_site
from djops.systems.mysql import Mysql
from djops.systems.resources import load_roles


@dataclass(frozen=True)
class Wanted:
    """What is wanted of the servers, before their state is known.

    Attributes:
        project: The checked project.
        graph: The pipeline as code and project file tell it.
        roles: The role model.
        today: The day on which grants are judged.
    """

    project: Project
    graph: PipelineGraph
    roles: RoleModel
    today: dt.date

    @classmethod
    def of(cls, project: Project, graph: PipelineGraph, today: dt.date | None = None) -> Wanted:
        """Use the shipped roles and the project's own, and today's date unless another is given.

        People's sandboxes are added to the schemas.
        """
        roles = load_roles().with_custom(project.roles)
        whole = replace(graph, schemas=graph.schemas | frozenset(project.owned.values()))
        return cls(project, whole, roles, today or dt.datetime.now(dt.UTC).date())


@contextmanager
def opened(loaded: Loaded, environment: str | None = None) -> Iterator[tuple[Servers, Wanted]]:
    """Open a project's servers, and say what is wanted of them.

    Args:
        loaded: The checked project.
        environment: Name of the environment; ``None`` means the only one, or ``local``.

    Returns:
        The servers and what they should hold, until the context is left.

    Raises:
        DjopsError: ``E_NOT_UP`` when the lab was never brought up.
    """
    site = replace(open_site(loaded.project_file, environment), project=loaded.project)
    with Servers(site) as servers:
        yield servers, Wanted.of(loaded.project, loaded.graph)


def make_plan(servers: Servers, wanted: Wanted) -> Plan:
    """Read all three servers and list what differs from what is wanted.

    Args:
        servers: The servers.
        wanted: What they should hold.

    Returns:
        The plan; empty when nothing differs.

    Raises:
        ServerUnavailableError: A server does not answer.
        NotManagedError: A name is taken by somebody else's account.
        PipelineError: ``E_CYCLE`` when schemas depend on each other in a circle.
    """
    return plan_of(servers, wanted, stand(servers, wanted))


def plan_of(servers: Servers, wanted: Wanted, standing: Standing, adoption: Adoption | None = None) -> Plan:
    """List what differs between what the servers should hold and what they do.

    Args:
        servers: The servers.
        wanted: What is wanted of them.
        standing: Both sides.
        adoption: Whose accounts that djops did not make are to be taken over.

    Returns:
        The plan; empty when nothing differs.

    Raises:
        NotManagedError: A name is taken by somebody else's account.
    """
    project, found, want = wanted.project, standing.found, standing.compiled
    adoption = adoption or Adoption()
    rights = want.rights
    paths = {name: secret_path(project, name) for name in rights.principals}
    facts = {name: found.secrets.secrets.get(path, {}) for name, path in paths.items()}
    host = project.environments[servers.site.environment].host_pattern
    known = {name for name, beside in facts.items() if _in_force(beside, found.mysql, AccountId(name, host))}
    # Whatever is kept from before, it is not the password of an account that somebody else made.
    known -= {account.user for account in adoption.accounts.values()}
    reasons = replace(
        _reasons(project, rights, found.mysql), ended=standing.ended.reasons, renewed=_renewed(facts)
    )
    revocable = _revocable(wanted.graph.schemas, escape=found.inventory.escape)
    mysql, changes = adopt_mysql(adoption, want.mysql, found.mysql)
    in_database = with_leases(project, want.mysql, mysql)
    changes += diff_mysql(project.project, in_database, mysql, reasons, known.__contains__, revocable)
    changes += _still_open(servers, changes)
    keeps = {name: KeepKey(path, tuple(sorted(project.stores))) for name, path in paths.items()}
    if project.stores or found.s3.users:
        s3, first = adopt_s3(project.project, adoption, found.s3, keeps)
        held, why = with_adopted_keys(adoption, facts), _entries(rights, standing.ended)
        changes += [*first, *diff_s3(project.project, want.s3, s3, keeps, held, why)]
    beside = {AccountId(name, host): known_of for name, known_of in facts.items()}
    changes += end_overdue(found.mysql.accounts, beside, keeps, wanted.today)
    changes += diff_vault(want.secrets, found.secrets)
    changes += machines.connect(servers, found.mysql)
    return Plan(in_order(changes), _unmanaged(servers, mysql))


def _still_open(servers: Servers, changes: Iterable[Change]) -> Iterator[Change]:
    """Yield the end of sessions that an earlier run took rights from, and stopped before it ended them."""
    ended = {name for change in changes if isinstance(change, EndSessions) for name in change.members}
    left = servers.mysql.connected(servers.journal.sessions_to_end() - ended)
    if left:
        why = "an earlier run took rights away, and stopped before it ended the sessions that may use them"
        yield EndSessions(members=left, why=(why,))


@dataclass(frozen=True)
class Compiled:
    """What all three servers should hold.

    Attributes:
        graph: The pipeline it was compiled for.
        rights: The rights it was compiled from.
        mysql: What the database should hold.
        s3: What the object store should hold.
        secrets: What the secrets server should hold.
    """

    graph: PipelineGraph
    rights: Rights
    mysql: MysqlState
    s3: S3State
    secrets: SecretsState


def compile_all(
    wanted: Wanted,
    environment: str,
    graph: PipelineGraph,
    inventory: Inventory,
    account: str = "",
    boundary: str = "",
) -> Compiled:
    """Compile what is wanted to what each server should hold.

    Args:
        wanted: The project, the roles and the day.
        environment: Name of the environment.
        graph: The pipeline as code, project file and database tell it.
        inventory: The tables that exist.
        account: Id of the object store's account, which tells how large policies may be there.
        boundary: As for :func:`djops.compile.s3.compile_s3`.

    Raises:
        PipelineError: ``E_CYCLE`` when schemas depend on each other in a circle.
        NameRefusedError: ``E_NAME`` for a name that one of the servers cannot take.
        PolicyTooLargeError: ``E_POLICY_SIZE`` when somebody's rights do not fit into policies.
    """
    project = wanted.project
    graph.order  # noqa: B018  raises on a cycle
    rights = compile_rights(project, graph, wanted.roles, wanted.today)
    host = project.environments[environment].host_pattern
    mysql = compile_mysql(project, host, rights, graph, wanted.roles, inventory)
    return Compiled(
        graph,
        rights,
        replace(mysql, events=compile_deadlines(project, rights, host)),
        compile_s3(project, rights, account, boundary),
        replace(compile_vault(project, rights), settings=machines.compiled(project, environment)),
    )


@dataclass(frozen=True)
class Standing:
    """What the servers should hold and what they do.

    Attributes:
        compiled: What they should hold.
        found: What they hold.
        ended: What only grants that are over would give.
    """

    compiled: Compiled
    found: Found
    ended: Ended = field(default_factory=Ended)


def stand(servers: Servers, wanted: Wanted) -> Standing:
    """Read all three servers, and work out what they should hold.

    Args:
        servers: The servers.
        wanted: What is wanted of them.

    Raises:
        DjopsError: As :func:`make_plan`.
    """
    found = _read(servers, wanted)
    graph = whole_graph(wanted.graph, found.pipeline)
    compiled = compile_all(
        wanted,
        servers.site.environment,
        graph,
        found.inventory,
        found.s3.account,
        servers.site.boundary,
    )
    return Standing(
        compiled, found, what_is_over(wanted, servers.site.environment, compiled, found.inventory)
    )


def what_is_over(wanted: Wanted, environment: str, compiled: Compiled, inventory: Inventory) -> Ended:
    """Work out what only grants that are over would give.

    Args:
        wanted: What is wanted.
        environment: Name of the environment.
        compiled: The same, compiled as of today.
        inventory: The tables that exist.
    """
    why = lines_over(wanted)
    if not why:
        return Ended()
    # Without an account, so that nothing is too large: what is over need not fit any more.
    always = compile_all(replace(wanted, today=dt.date.min), environment, compiled.graph, inventory)
    return what_ended((always.mysql, always.s3), (compiled.mysql, compiled.s3), why)


def lines_over(wanted: Wanted) -> Mapping[str, tuple[str, ...]]:
    """Return for each principal the lines of the project file that are over.

    Args:
        wanted: The project and the day.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in wanted.project.principals:
        lines = tuple(
            f"{entry}: {grant.role} on {', '.join(grant.on)} ended on {grant.until}"
            for entry, grant in wanted.project.grants_of(name)
            if is_expired(grant, wanted.today)
        )
        if lines:
            found[name] = lines
    return found


def _revocable(schemas: Collection[str], *, escape: bool) -> Callable[[Scope], bool]:
    """Tell which scopes djops' own account has power over: the pipeline's schemas, spelled exactly.

    Sandboxes have one spelling each.
    """
    sandboxes = {schema_pattern(schema, escape=escape) for schema in schemas if is_sandbox(schema)}

    def may_revoke(scope: Scope) -> bool:
        if scope.table:
            return scope.pattern in schemas
        exact = unescape_pattern(scope.pattern, escape=escape)
        return scope.pattern in sandboxes or (scope.pattern != "*" and exact in schemas)

    return may_revoke


def _renewed(facts: Mapping[str, Mapping[str, str]]) -> frozenset[str]:
    """Name those whose next password was kept and maybe put in force, and not handed out yet."""
    return frozenset(name for name, beside in facts.items() if beside.get(STATE_FACT) == ROTATING)


def _in_force(beside: Mapping[str, str], found: MysqlState, account: AccountId) -> bool:
    """Tell whether the kept password is the account's: nobody has set another one since djops did."""
    there = found.accounts.get(account)
    since = beside.get(CHANGED_FACT)
    same = since is None or there is None or there.password_changed == since
    return beside.get(STATE_FACT) == "set" and same


@dataclass(frozen=True)
class Found:
    """What the servers hold.

    Attributes:
        mysql: Accounts, roles and grants of the whole database server.
        pipeline: The pipeline as the database has it.
        inventory: Its tables.
        s3: The project's users and buckets.
        secrets: The project's policies, and facts about its secrets.
    """

    mysql: MysqlState
    pipeline: PipelineGraph
    inventory: Inventory
    s3: S3State
    secrets: SecretsState


def _read(servers: Servers, wanted: Wanted) -> Found:
    project, schemas = wanted.project, wanted.graph.schemas
    buckets = [store.bucket for store in project.stores.values()]
    with ThreadPoolExecutor(2) as pool:
        # Also without stores: users of stores that the project once had must not stay behind.
        has_s3 = servers.site.env.target != "existing" or servers.site.env.s3 is not None
        reading_s3 = pool.submit(servers.s3.read_state, project.project, buckets) if has_s3 else None
        reading_secrets = pool.submit(servers.secrets.state, project.project)
        mysql = read_database(servers, schemas)
        if machines.require_engine(servers, mysql):
            mysql = servers.mysql.read_state()
        pipeline, inventory = servers.mysql.read_pipeline(schemas)
        s3 = reading_s3.result() if reading_s3 else S3State()
        require_buckets(servers, frozenset(buckets) - s3.buckets.keys())
        return Found(mysql, pipeline, inventory, s3, reading_secrets.result())


def whole_graph(wanted: PipelineGraph, live: PipelineGraph) -> PipelineGraph:
    """Unite the pipeline as code tells it with the database's foreign keys.

    Args:
        wanted: The pipeline as code and project file tell it; it says which schemas there are.
        live: What the database has of them.

    Returns:
        One graph. Foreign keys to schemas outside of the pipeline are left out: no right follows them.
    """
    inside = wanted.schemas
    references = {
        child: frozenset(parent for parent in above if parent.schema in inside)
        for child, above in live.references.items()
    }
    graph = merge([wanted, replace(live, references=references, schemas=live.schemas & inside)])
    extra = {schema: above & inside for schema, above in graph.extra.items() if schema in inside}
    return replace(graph, extra=extra)


def read_database(servers: Servers, schemas: Collection[str]) -> MysqlState:
    """Read who may do what in the database, and see to it that djops' own account may change it.

    Args:
        servers: The servers.
        schemas: The schemas on which djops' account must be able to grant.

    Returns:
        What the database holds.

    Raises:
        AccessDeniedError: As :func:`require_power`.
    """
    try:
        state = servers.mysql.read_state()
    except AccessDeniedError:
        _refuse_lacking(servers, servers.mysql.lacking(schemas))
        raise
    # The server shows djops only tables on which it has a right: this comes before they are read.
    require_power(servers, state, schemas, escape=servers.mysql.escapes_patterns())
    return state


def require_power(servers: Servers, found: MysqlState, schemas: Collection[str], *, escape: bool) -> bool:
    """See to it that djops' own account may grant on schemas.

    Args:
        servers: The servers.
        found: What the database holds.
        schemas: The schemas.
        escape: Whether grant patterns take escapes.

    Returns:
        Whether anything was granted, where djops runs the server itself.

    Raises:
        AccessDeniedError: ``E_DENIED`` naming what the database administrator must grant, where djops
            cannot give it to its account itself.
    """
    account = servers.mysql.account()
    missing = missing_grants(found, account, schemas, escape=escape)
    if missing and servers.mysql.ends_by_procedure():
        missing = missing_grants(found, account, schemas, escape=escape, by_procedure=True)
    if missing and servers.site.mysql_root is not None:
        with Mysql(servers.site.mysql_root) as root:
            for statement in missing:
                root.query(statement)
        return True
    _refuse_lacking(servers, missing)
    return False


def _refuse_lacking(servers: Servers, statements: Collection[str]) -> None:
    if statements:
        raise AccessDeniedError(
            f"djops' account {servers.site.mysql.user!r} lacks rights that it needs",
            where=servers.mysql.where,
            hint="\n".join(
                ["have the database administrator run:", *(f"     {line};" for line in statements)]
            ),
        )


def require_buckets(servers: Servers, missing: Collection[str]) -> None:
    """Refuse to go on without the stores' buckets, which are an administrator's to make.

    Args:
        servers: The servers.
        missing: Buckets that are not there.

    Raises:
        ConfigError: ``E_NO_BUCKET`` naming who makes them.
    """
    if missing:
        local = servers.site.env.target == "local"
        raise ConfigError(
            f"the object store has no bucket {', '.join(sorted(missing))}",
            where=servers.s3.where,
            code="E_NO_BUCKET",
            hint="`djops up` makes it"
            if local
            else "have its administrator make it, versioned: see docs/existing-servers.md; or mend `stores:`",
        )


def _reasons(project: Project, rights: Rights, found: MysqlState) -> Reasons:
    edges: dict[tuple[str, str], dict[Because, None]] = {}
    for right in rights.rights:
        if right.because.relation == "target":
            key = (role_name(right.schema, right.because.role), right.principal)
            edges.setdefault(key, {})[right.because] = None
    for (principal, schema), held in rights.downstream.items():
        level = plain_level(right.capability for right in held)
        edges[role_name(schema, level), principal] = dict.fromkeys(right.because for right in held)
    secrets = {
        name.user: f"{project.project}/{'people' if account.kind == 'person' else 'services'}/{name.user}"
        for name, account in found.accounts.items()
        if account.project == project.project and account.kind != "role"
    }
    secrets |= {name: secret_path(project, name) for name in rights.principals}
    return Reasons({key: tuple(map(str, because)) for key, because in edges.items()}, secrets)


def _entries(rights: Rights, ended: Ended) -> Mapping[str, tuple[str, ...]]:
    """Return for each principal the lines of the project file that give it something, and those over."""
    lines: dict[str, dict[tuple[str, str], dict[str, None]]] = {}
    for right in rights.rights:
        because = right.because
        if because.relation == "target":
            line = lines.setdefault(right.principal, {}).setdefault((because.entry, because.role), {})
            line[because.target] = None
    told = {
        principal: tuple(
            f"{entry}: {role} on {', '.join(targets)}" for (entry, role), targets in found.items()
        )
        for principal, found in lines.items()
    }
    return {name: told.get(name, ()) + ended.why.get(name, ()) for name in (*told, *ended.why)}


def _unmanaged(servers: Servers, found: MysqlState) -> tuple[str, ...]:
    engine = engine_account(servers.site.project.project).user
    system = {"mysql.infoschema", "mysql.session", "mysql.sys", servers.site.mysql.user, engine}
    if servers.site.mysql_root is not None:
        system.add(servers.site.mysql_root.user)
    return tuple(
        f"mysql: {name}"
        for name, account in sorted(found.accounts.items())
        if account.project != servers.site.project.project and name.user not in system
    )
