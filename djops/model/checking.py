"""What is wrong with a project file that is well formed: names that mean nothing, and contradictions."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import combinations

from djops.errors import ConfigError, DjopsError
from djops.model.cloud import CloudEnvironment
from djops.model.findings import Finding
from djops.model.graph import PipelineGraph
from djops.model.loading import path_text
from djops.model.names import SANDBOX_END, is_sandbox, sandbox_stem
from djops.model.nearest import advice
from djops.model.project import (
    ALL,
    CredentialSource,
    Environment,
    Grant,
    Principal,
    Project,
    Store,
    Team,
    resolve_on,
)
from djops.model.roles import SANDBOX_ROLE, Capability, Role, RoleModel
from djops.model.yamltree import Path, Positions

RESERVED_PRINCIPALS = frozenset(
    {"root", "admin", "administrator", "djops", "djops-manager", "debian-sys-maint", "rdsadmin",
     "cloudsqladmin", "azure_superuser", "event_scheduler", "mysql", "public", "default"}
)  # fmt: skip
"""Accounts of servers, of clouds and of djops itself, in lower case."""
_RESERVED_PREFIXES = ("mysql.", "mariadb.", "djops-", "djops_", "djops.")

SERVER_SCHEMAS = frozenset({"mysql", "sys", "information_schema", "performance_schema"})
"""Schemas of the database server itself: no right may ever be given on them."""
SCRATCH_PREFIX = "djops_smoke_"
EVENT_SCHEMA = "djops"
_LONGEST = 64
"""Characters of a name in MySQL, escapes in a grant included."""

_Found = Iterator[DjopsError]


class _Check:
    """What every check needs."""

    def __init__(
        self, project: Project, schemas: Collection[str], roles: Mapping[str, Role], places: Positions | None
    ) -> None:
        self.project = project
        self.schemas = frozenset(schemas) | frozenset(project.owned.values())
        self.roles = roles
        self.shipped: frozenset[str] = frozenset()
        self.today: dt.date | None = None
        self.places = places or Positions("djops.yaml", {})

    @property
    def roles_of_sandboxes(self) -> tuple[str, ...]:
        """The roles that bring a sandbox along."""
        return self.project.sandboxes.roles if self.project.sandboxes else ()

    def error(self, path: Path, message: str, hint: str, code: str) -> ConfigError:
        return ConfigError(message, where=self.places.where(*path), hint=hint, code=code)

    def principals(self) -> Iterator[tuple[Path, Principal]]:
        for section in ("people", "services"):
            for name, principal in getattr(self.project, section).items():
                yield (section, name), principal

    def holders(self) -> Iterator[tuple[Path, Principal | Team]]:
        yield from self.principals()
        for name, team in self.project.teams.items():
            yield ("teams", name), team

    def grants(self) -> Iterator[tuple[Path, Grant]]:
        for path, holder in self.holders():
            for index, grant in enumerate(holder.grants):
                yield (*path, "grants", index), grant


def check(
    project: Project,
    schemas: Collection[str],
    roles: RoleModel,
    places: Positions | None = None,
    today: dt.date | None = None,
) -> list[DjopsError]:
    """Check a project against its pipeline and the role model.

    Args:
        project: The project.
        schemas: Every schema of the pipeline, from the code and the project file.
        roles: The role model.
        places: Where everything stands in the file.
        today: The day from which a grant's length is counted, where its role limits that.

    Returns:
        The errors in the order of their lines; empty when the project is right. Grants that are over
        are no errors: see :func:`remarks`.
    """
    look = _Check(project, schemas, roles.with_custom(project.roles).roles, places)
    look.today = today
    look.shipped = frozenset(roles.roles)
    checks: tuple[Callable[[_Check], _Found], ...] = (
        _check_principals, _check_teams, _check_groups, _check_roles, _check_grants, _check_repeated_grants,
        _check_sandboxes, _check_schemas, _check_upstream_cycle,
        _check_stores, _check_environments,
    )  # fmt: skip
    errors = [error for one in checks for error in one(look)]
    return sorted(errors, key=_line)


def _line(error: DjopsError) -> int:
    _, _, number = (error.where or "").rpartition(":")
    return int(number) if number.isdigit() else 0


def _check_principals(look: _Check) -> _Found:
    own = {env.mysql.user.casefold() for env in look.project.environments.values() if env.mysql is not None}
    names: dict[str, Path] = {}
    folded: dict[str, Path] = {}
    for path, _ in look.principals():
        name = str(path[1])
        low = name.casefold()
        if reserved_principal(name):
            message = f"the name {name!r} is reserved for a server or djops"
            yield look.error(path, message, "choose another name, like the person's own", "E_RESERVED_NAME")
        elif low in own:
            message = f"{name!r} is the account that djops itself uses"
            yield look.error(path, message, "choose another name", "E_RESERVED_NAME")
        if name in names:
            message = (
                f"{name!r} stands in {path[0]} and in {names[name][0]} ({look.places.where(*names[name])})"
            )
            hint = "one account is a person or a service; remove one"
            yield look.error(path, message, hint, "E_DUPLICATE")
        elif low in folded:
            message = (
                f"{name!r} and {folded[low][1]!r} ({look.places.where(*folded[low])}) differ only by case"
            )
            hint = "some systems take them for one account; rename one"
            yield look.error(path, message, hint, "E_CASE")
        names.setdefault(name, path)
        folded.setdefault(low, path)


def _check_grants(look: _Check) -> _Found:
    for path, grant in look.grants():
        role = look.roles.get(grant.role)
        if role is None:
            hint = advice(grant.role, look.roles, what="roles")
            yield look.error((*path, "role"), f"there is no role {grant.role!r}", hint, "E_UNKNOWN_ROLE")
        yield from _check_names(look, path, grant)
        if role is not None:
            yield from _check_others_sandbox(look, path, grant, role)
        if role is not None and role.project_wide and ALL not in grant.on:
            message = f"{grant.role} is given on the whole project, not on {', '.join(grant.on)}"
            hint = "write `on: all`, or give a role that is given by schema"
            yield look.error((*path, "on"), message, hint, "E_PROJECT_WIDE")
        if grant.force and not (grant.reason or "").strip():
            hint = "add `reason:` with why; it is recorded"
            yield look.error((*path, "force"), "`force: true` needs a reason", hint, "E_REASON")
        if role is not None:
            yield from _check_stage(look, path, grant, role)
            yield from _check_holder(look, path, grant, role)


def _check_others_sandbox(look: _Check, path: Path, grant: Grant, role: Role) -> _Found:
    wrong = [name for name in look.project.meant(grant.on, look.schemas) if is_sandbox(name)]
    if wrong and role.target != {Capability.READ}:
        message = f"{grant.role} is not given on a sandbox: {wrong[0]}"
        hint = "others only read in a sandbox: give a role that reads and does nothing else"
        yield look.error((*path, "on"), message, hint, "E_SANDBOX")


def _check_holder(look: _Check, path: Path, grant: Grant, role: Role) -> _Found:
    section = "services" if path[0] == "services" else "people"
    if section not in role.holders:
        other = "services" if section == "people" else "people"
        message = f"{grant.role} is a role of {other}"
        yield look.error((*path, "role"), message, f"give it to one of the {other}", "E_HOLDER")
    if role.max_days is None:
        return
    if grant.until is None:
        message = f"{grant.role} must end: it is given for {role.max_days} days at most"
        yield look.error(path, message, "add `until: DATE`", "E_UNTIL")
    elif look.today is not None and grant.until > look.today + dt.timedelta(days=role.max_days):
        message = (
            f"{grant.role} is given for {role.max_days} days at most, and this one ends on {grant.until}"
        )
        last = look.today + dt.timedelta(days=role.max_days)
        yield look.error((*path, "until"), message, f"the last day can be {last}", "E_UNTIL")


def _check_teams(look: _Check) -> _Found:
    for name, team in look.project.teams.items():
        if name in look.project.principals:
            message = f"{name!r} is a team and an account"
            yield look.error(("teams", name), message, "rename the team", "E_DUPLICATE")
        for index, member in enumerate(team.members):
            here = ("teams", name, "members", index)
            if member not in look.project.people:
                hint = advice(member, look.project.people, what="people")
                yield look.error(here, f"there is no person {member!r}", hint, "E_UNKNOWN_PRINCIPAL")
            elif member in team.members[:index]:
                yield look.error(here, f"{member!r} is in the team twice", "remove one", "E_DUPLICATE")


def _check_groups(look: _Check) -> _Found:
    for name, members in look.project.groups.items():
        path = ("groups", name)
        if name in look.schemas or name == ALL:
            message = f"{name!r} is a group and {'the word for all' if name == ALL else 'a schema'}"
            yield look.error(path, message, "rename the group", "E_DUPLICATE")
        for index, member in enumerate(members):
            if not resolve_on((member,), look.schemas):
                hint = advice(member, look.schemas, what="schemas")
                message = f"there is no schema {member!r}"
                yield look.error((*path, index), message, hint, "E_UNKNOWN_SCHEMA")


def _check_roles(look: _Check) -> _Found:
    for name in look.project.roles:
        if name in look.shipped or name == SANDBOX_ROLE:
            message = f"{name!r} is a role that djops has already"
            yield look.error(("roles", name), message, "give it another name", "E_DUPLICATE")


def _check_sandboxes(look: _Check) -> _Found:
    setting, owned = look.project.sandboxes, look.project.owned
    if setting is None:
        return
    for index, name in enumerate(setting.roles):
        role = look.roles.get(name)
        if role is None or "people" not in role.holders:
            message = f"there is no role {name!r}" if role is None else f"{name} is a role of services"
            hint = advice(name, [n for n, one in look.roles.items() if "people" in one.holders], what="roles")
            yield look.error(("sandboxes", "roles", index), message, hint, "E_UNKNOWN_ROLE")
    stems = {name: sandbox_stem(sandbox) for name, sandbox in owned.items()}
    for name, stem in stems.items():
        yield from _check_sandbox(look, name, stem, stems)


def _check_sandbox(look: _Check, name: str, stem: str, stems: Mapping[str, str]) -> _Found:
    """Find what a sandbox would open besides, or hide: servers go by one matching row, which may be its."""
    path, low, escapes = ("people", name), stem.casefold(), stem.count("_")
    if len(stem) + escapes + 1 > _LONGEST:
        message = (
            f"{name!r} is too long to have a sandbox: {stem}% takes more than MySQL's {_LONGEST} characters"
        )
        yield look.error(
            path, message, "rename the person, or shorten `sandboxes: {prefix: ...}`", "E_SANDBOX"
        )
    inside = [other for other, theirs in stems.items() if other != name and theirs.casefold().startswith(low)]
    if inside:
        message = f"the sandbox of {name!r} would open {inside[0]!r}'s: both begin with {stem}"
        hint = f"rename one of them, or give only one of them {' or '.join(look.roles_of_sandboxes)}"
        yield look.error(path, message, hint, "E_SANDBOX")
    under = sorted(
        schema for schema in look.schemas if not is_sandbox(schema) and schema.casefold().startswith(low)
    )
    if under:
        message = f"the schema {under[0]!r} lies in the sandbox of {name!r}, which would open it"
        yield look.error(
            path, message, "rename the schema, or choose another `sandboxes: {prefix: ...}`", "E_SANDBOX"
        )
    if low.startswith(EVENT_SCHEMA) or any(one.startswith(low) for one in SERVER_SCHEMAS):
        message = f"the sandbox of {name!r} would lie among the schemas of djops or of the server: {stem}"
        yield look.error(path, message, "choose another `sandboxes: {prefix: ...}`", "E_SANDBOX")


def _check_names(look: _Check, path: Path, grant: Grant) -> _Found:
    for index, name in enumerate(grant.on):
        if look.project.meant((name,), look.schemas) or name == ALL or name in look.project.groups:
            continue
        place = look.places.where(*path, "on", index)
        glob = any(character in name for character in "*?[")
        message = f"no schema matches {name!r}" if glob else f"there is no schema {name!r}"
        hint = advice(name, look.schemas, what="schemas")
        yield ConfigError(message, where=place, hint=hint, code="E_UNKNOWN_SCHEMA")


def _check_stage(look: _Check, path: Path, grant: Grant, role: Role) -> _Found:
    if grant.force:
        return
    wrong = [
        name
        for name in look.project.meant(grant.on, look.schemas)
        if stage_of(look.project, name) not in role.stages
    ]
    if wrong:
        shown = ", ".join(wrong)
        stages = " or ".join(sorted(role.stages))
        message = f"{grant.role} is for schemas in {stages}; not in {stages}: {shown}"
        entry = f"`schemas: {{{wrong[0]}: {{stage: {min(role.stages)}}}}}`"
        hint = f"set {entry}, or add `force: true` and a reason"
        yield look.error((*path, "on"), message, hint, "E_STAGE")


def stage_of(project: Project, schema: str) -> str:
    """Return a schema's stage; ``production`` unless the project file says otherwise."""
    entry = project.schemas.get(schema)
    return "production" if entry is None else entry.stage


def _check_repeated_grants(look: _Check) -> _Found:
    for path, principal in look.holders():
        seen: dict[tuple[str, str], Path] = {}
        for index, grant in enumerate(principal.grants):
            for number, name in enumerate(grant.on):
                here = (*path, "grants", index, "on", number)
                first = seen.setdefault((grant.role, name), here)
                if first is not here:
                    before = look.places.where(*first)
                    message = f"{path[1]} gets {grant.role} on {name!r} twice, first in {before}"
                    yield look.error(here, message, "keep one of them", "E_DUPLICATE")


def _check_schemas(look: _Check) -> _Found:
    modules: dict[str, str] = {}
    for name, entry in look.project.schemas.items():
        path = ("schemas", name)
        if reason := reserved_schema(name):
            message = f"{name!r} cannot be part of a pipeline: {reason}"
            yield look.error(path, message, "rename it", "E_RESERVED_NAME")
        elif name not in look.schemas:
            hint = f"{advice(name, look.schemas, what='schemas')} A schema without code needs `code: false`"
            yield look.error(path, f"no module declares the schema {name!r}", hint, "E_UNKNOWN_SCHEMA")
        if entry.module is not None and not entry.code:
            message = f"schemas.{name} has a module and says `code: false`"
            yield look.error((*path, "module"), message, "keep one of them", "E_CONTRADICTION")
        if entry.module is not None and modules.setdefault(entry.module, name) != name:
            message = f"the module {entry.module!r} is named for {name!r} and for {modules[entry.module]!r}"
            yield look.error((*path, "module"), message, "a module declares one schema", "E_DUPLICATE")
        for index, above in enumerate(entry.upstream):
            here = (*path, "upstream", index)
            if above == name:
                yield look.error(here, f"{name!r} is named upstream of itself", "remove it", "E_CYCLE")
            elif above not in look.schemas or is_sandbox(above):
                hint = advice(above, look.schemas, what="schemas")
                yield look.error(here, f"there is no schema {above!r}", hint, "E_UNKNOWN_SCHEMA")


def reserved_principal(name: str) -> bool:
    """Tell whether an account's name is not for people and services."""
    low = name.casefold()
    return low in RESERVED_PRINCIPALS or low.startswith(_RESERVED_PREFIXES)


def reserved_schema(name: str) -> str | None:
    """Tell why a schema of this name cannot be part of a pipeline, or ``None``."""
    if name.casefold() in SERVER_SCHEMAS:
        return "it belongs to the database server itself"
    if name.casefold() == EVENT_SCHEMA:
        return "djops keeps the events there that end grants"
    if is_sandbox(name):
        return f"a name that ends in {SANDBOX_END} stands for a person's sandbox"
    if name.casefold().startswith(SCRATCH_PREFIX):
        return f"names that begin with {SCRATCH_PREFIX} are djops' own scratch schemas"
    return None


def _check_upstream_cycle(look: _Check) -> _Found:
    """Find a cycle within what the file itself says; one that the code closes is found in the graph."""
    extra = {
        name: frozenset(entry.upstream) - {name}
        for name, entry in look.project.schemas.items()
        if entry.upstream
    }
    cycle = PipelineGraph(schemas=look.schemas, extra=extra).cycle
    if cycle is not None:
        where = next((("schemas", name, "upstream") for name in cycle if name in extra), ("schemas",))
        message = f"the schemas depend on each other in a cycle: {' -> '.join(cycle)}"
        yield look.error(where, message, "remove one of these `upstream` entries", "E_CYCLE")


def _check_stores(look: _Check) -> _Found:
    for name, store in look.project.stores.items():
        for key in ("location", "hash_prefix", "schema_prefix"):
            if reason := _bad_prefix(getattr(store, key), may_be_empty=key == "location"):
                path = ("stores", name, key)
                hint = "write it as in `lab/data`, or leave it out"
                yield look.error(path, f"{path_text(path)} {reason}", hint, "E_LOCATION")
        if nested(store.hash_prefix, store.schema_prefix):
            message = f"in stores.{name}, hash_prefix and schema_prefix lie within each other"
            yield look.error(("stores", name), message, "keep `_hash` and `_schema`", "E_LOCATION")
        if store.bucket.startswith("xn--") or ".." in store.bucket or _like_an_address(store.bucket):
            message = f"S3 allows no bucket {store.bucket!r}"
            hint = "use lower-case letters, digits and hyphens"
            yield look.error(("stores", name, "bucket"), message, hint, "E_BAD_NAME")
    for (one, first), (other, second) in combinations(look.project.stores.items(), 2):
        if first.bucket == second.bucket and _overlap(first, second):
            message = f"the stores {one!r} and {other!r} overlap in the bucket {first.bucket!r}"
            hint = "give each a location of its own: a right on one would open the other"
            yield look.error(("stores", other), message, hint, "E_LOCATION")


def _like_an_address(bucket: str) -> bool:
    parts = bucket.split(".")
    return len(parts) == 4 and all(part.isdigit() for part in parts)


def _bad_prefix(prefix: str, *, may_be_empty: bool) -> str | None:
    if not prefix:
        return None if may_be_empty else "is empty: objects of all kinds would mix"
    if prefix.startswith("/") or prefix.endswith("/"):
        return "begins or ends with a slash"
    if any(part in ("", ".", "..") for part in prefix.split("/")):
        return "has an empty part, `.` or `..`"
    if not prefix.isprintable() or any(character in prefix for character in "*?\\${}"):
        return "has a character that means something else in a policy: * ? $ { } \\"
    return None


def nested(one: str, other: str) -> bool:
    """Tell whether one key prefix lies within the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _overlap(first: Store, second: Store) -> bool:
    """Tell whether objects of two stores in one bucket can meet."""
    mine, theirs = (
        {f"{s.location}/{p}".strip("/") for p in (s.hash_prefix, s.schema_prefix)} for s in (first, second)
    )
    if first.location == second.location:
        return True
    return any(nested(a, b) for a in mine for b in theirs) or (
        nested(first.location, second.location) if first.location and second.location else False
    )


def _check_environments(look: _Check) -> _Found:
    for name, environment in look.project.environments.items():
        path: Path = ("environments", name)
        servers = {"mysql": environment.mysql, "s3": environment.s3, "secrets": environment.secrets}
        needed = ["mysql", "secrets", *(["s3"] if look.project.stores else [])]
        missing = [key for key in needed if servers[key] is None]
        if environment.target == "existing" and missing:
            shown = ", ".join(missing)
            message = f"{path_text(path)} says `target: existing` and does not say where: {shown}"
            hint = "`djops config schema` shows what each of them takes"
            yield look.error(path, message, hint, "E_SERVERS")
        if environment.target == "local":
            for key in (key for key, server in servers.items() if server is not None):
                message = f"{path_text(path)} says `target: local`, where djops starts {key} itself"
                yield look.error((*path, key), message, "remove it, or say `target: existing`", "E_SERVERS")
        yield from _check_cloud(look, path, environment)
        for key, server in servers.items():
            for field in type(server).model_fields if server is not None else ():
                source = getattr(server, field)
                if isinstance(source, CredentialSource) and (source.file is None) == (source.env is None):
                    here = (*path, key, field)
                    message = f"{path_text(here)} must name one of `file` and `env`"
                    yield look.error(here, message, "write {file: PATH} or {env: NAME}", "E_SECRET")


def _check_cloud(look: _Check, path: Path, environment: Environment) -> _Found:
    """Look for what the target ``aws`` lacks, and for what no other takes."""
    given = sorted(environment.model_fields_set & CloudEnvironment.model_fields.keys())
    if environment.target != "aws":
        for key in given:
            message = f"{path_text((*path, key))} is only for `target: aws`"
            yield look.error((*path, key), message, "remove it, or say `target: aws`", "E_SERVERS")
        return
    says = f"{path_text(path)} says `target: aws`"
    if environment.region is None:
        message = f"{says} and does not say in which region"
        yield look.error(path, message, "add `region:`, for example `region: eu-central-1`", "E_SERVERS")
    if (environment.openbao is None) == (environment.secrets is None):
        twice = "both how to install a secrets server and where one is"
        message = f"{says} and says {twice if environment.openbao else 'of no secrets server'}"
        hint = "write `openbao: {url: ..., sha256: ...}` to install one, or `secrets:` for one that is there"
        yield look.error(path, message, hint, "E_SERVERS")
    for key in (one for one in ("mysql", "s3") if getattr(environment, one) is not None):
        message = f"{says}, where djops has Pulumi make {key}"
        hint = "remove it; `existing:` and `buckets:` name what is there already"
        yield look.error((*path, key), message, hint, "E_SERVERS")
    buckets = {store.bucket for store in look.project.stores.values()}
    for name in sorted(environment.buckets.keys() - buckets):
        message = f"{path_text((*path, 'buckets', name))}: no store has this bucket"
        yield look.error(
            (*path, "buckets", name), message, advice(name, buckets, what="buckets"), "E_SERVERS"
        )
    if environment.state.organization and environment.state.backend != "cloud":
        message = f"{path_text((*path, 'state', 'organization'))} is for Pulumi Cloud only"
        yield look.error((*path, "state", "organization"), message, "say `backend: cloud`", "E_SERVERS")


def remarks(project: Project, schemas: Collection[str], places: Positions, today: dt.date) -> list[Finding]:
    """Say what is worth knowing about a project file without being wrong.

    Args:
        project: The checked project.
        schemas: Every schema of the pipeline.
        places: Where everything stands in the file.
        today: The day on which grants are judged.

    Returns:
        Grants that are over, and grants that another one of the same role already covers.
    """
    found: list[Finding] = []
    look = _Check(project, schemas, {}, places)
    for path, grant in look.grants():
        if grant.until is not None and grant.until < today:
            message = f"{path[1]}'s {grant.role} on {', '.join(grant.on)} ended on {grant.until}"
            hint = "it gives nothing; remove it, or set a later date"
            found.append(Finding("W_EXPIRED", message, str(places.where(*path, "until")), hint, "info"))
    for path, holder in look.holders():
        found.extend(_covered(look, path, holder, today))
    return found


def _covered(look: _Check, path: Path, principal: Principal | Team, today: dt.date) -> Iterator[Finding]:
    lasting: defaultdict[str, list[tuple[int, frozenset[str]]]] = defaultdict(list)
    for index, grant in enumerate(principal.grants):
        if grant.until is None:
            lasting[grant.role].append((index, frozenset(look.project.meant(grant.on, look.schemas))))
    for index, grant in enumerate(principal.grants):
        mine = frozenset(look.project.meant(grant.on, look.schemas))
        over = grant.until is not None and grant.until < today
        for other, theirs in lasting[grant.role]:
            if over or other == index or not mine or not mine <= theirs or grant.cascade or grant.force:
                continue
            if mine == theirs and other > index and grant.until is None:
                continue
            message = f"{path[1]} already holds {grant.role} on {', '.join(sorted(mine))} by grants[{other}]"
            where = str(look.places.where(*path, "grants", index))
            yield Finding("W_COVERED", message, where, "one of the two can go", "info")
            break
