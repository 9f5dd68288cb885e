"""Adoption: bringing accounts that are there already under management, without cutting anybody off.

First it is only looked: who has what, which roles come closest, what would be lost and gained. Applying marks
each account as the project's own, then takes away what it holds itself, then gives it its roles. The old
password and the old keys hold beside the new ones until ``finish``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from djops.compile.mysql_state import AccountId, Held, Scope
from djops.compile.s3 import iam_path
from djops.compile.vault import secret_path
from djops.errors import NotManagedError, UsageError
from djops.model.checking import reserved_principal
from djops.model.editing import Edit, Section, SetValue, grant_data
from djops.model.nearest import advice
from djops.model.project import PRINCIPAL_NAME, Grant
from djops.plan.adoption import Adoption
from djops.plan.adoption import finish as finish_changes
from djops.plan.change import Plan, in_order
from djops.plan.mysql_changes import CreateAccount, SetPassword
from djops.plan.operations import KeepKey
from djops.plan.s3_changes import CreateKey, adopted_keys
from djops.proof.cells import SCHEMA_PRIVILEGES
from djops.proof.iam_state import CatalogUser
from djops.proof.mysql_matching import opens
from djops.services import access, evidence, project
from djops.services.access import Servers, Standing, Wanted
from djops.services.evidence import Evidence
from djops.services.levels import Levels
from djops.services.project import Edited, Loaded

_PLUGIN = "caching_sha2_password"
_PROJECTS = "/djops/"

_HOLDS = "it is taken over; its old password and keys hold until `djops adopt --finish`"
AWS_KEYS = 2
"""Keys that a user of AWS can have (AWS manual, IAM quotas)."""


@dataclass(frozen=True)
class Proposal:
    """One account, and what would become of it.

    Attributes:
        name: Its name in djops.yaml.
        section: ``people`` or ``services``.
        account: The database account; ``None`` where there is only an IAM user.
        user_path: IAM path of the user of that name; ``None`` where there is none.
        grants: What it has in djops.yaml, or what is proposed for it.
        written: Whether it stands in djops.yaml already.
        loses: What it would lose on the pipeline's schemas.
        gains: What it would gain there.
        outside: What else it would lose: rows beyond the pipeline, and roles that djops did not make.
        notes: What happens to its password, its keys and where it may log in from.
    """

    name: str
    section: Section
    account: AccountId | None
    user_path: str | None
    grants: tuple[Grant, ...]
    written: bool
    loses: Mapping[str, tuple[str, ...]]
    gains: Mapping[str, tuple[str, ...]]
    outside: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class LeftOut:
    """An account that is not proposed, and why."""

    account: str
    why: str


@dataclass(frozen=True)
class Survey:
    """Who is there.

    Attributes:
        proposals: Who could be taken over.
        left: Who could not, or has nothing to do with the project.
    """

    proposals: tuple[Proposal, ...]
    left: tuple[LeftOut, ...] = field(default=())


def survey(
    servers: Servers, wanted: Wanted, names: Collection[str] = (), services: Collection[str] = ()
) -> Survey:
    """Look who has what on the servers, and propose what would come closest; change nothing.

    Args:
        servers: The servers.
        wanted: The project.
        names: Only these; with them also accounts that have nothing on the pipeline.
        services: Those of them that are machines.

    Returns:
        Proposals, and who is left out.

    Raises:
        UsageError: ``E_UNKNOWN_ACCOUNT`` for a name that nobody has.
        DjopsError: A server does not answer, or does not show its catalog to djops.
    """
    return _Survey(servers, evidence.gather(servers, wanted), frozenset(services)).run(
        frozenset((*names, *services))
    )


class _Survey:
    """Looks at one account after the other."""

    def __init__(self, servers: Servers, found: Evidence, services: frozenset[str]) -> None:
        self.servers = servers
        self.found = found
        self.services = services
        self.project = found.wanted.project
        self.host = self.project.environments[servers.site.environment].host_pattern
        self.levels = Levels(found)
        self.catalog = found.mysql.catalog
        self.ours = self.catalog.managed(self.project.project)
        self.users: Mapping[str, CatalogUser] = found.s3.catalog.users if found.s3 is not None else {}

    def run(self, names: frozenset[str]) -> Survey:
        chosen = self._chosen()
        managed = {account.user for account in self.ours} & self.project.principals.keys()
        missing = sorted(names - chosen.keys() - managed)
        if missing:
            hint = advice(missing[0], [name for name in chosen if name], what="accounts")
            raise UsageError(
                f"no account that djops did not make is called {missing[0]!r}",
                hint=hint,
                code="E_UNKNOWN_ACCOUNT",
            )
        proposals: list[Proposal] = []
        left = [*self._managed(names)]
        for name, accounts in sorted(chosen.items()):
            if names and name not in names:
                continue
            account = accounts[0] if accounts else None
            why = self._refusal(name, account, names or chosen)
            why = why or self._unconcerned(name, account, named=bool(names))
            if why:
                left += [LeftOut(str(one), why) for one in accounts]
                left += [] if accounts else [LeftOut(f"{name}, a user of the object store", why)]
                continue
            proposals.append(self._proposal(name, account))
            left += [LeftOut(str(other), self._other(accounts[0])) for other in accounts[1:]]
        return Survey(tuple(proposals), tuple(left))

    def _managed(self, names: frozenset[str]) -> Iterator[LeftOut]:
        """Yield who is managed already: those named, and those whose old credentials hold."""
        for account in sorted(self.ours):
            if self.catalog.accounts[account].adopted and (not names or account.user in names):
                yield LeftOut(str(account), _HOLDS)
            elif account.user in names:
                yield LeftOut(str(account), "djops manages it already")

    def _chosen(self) -> Mapping[str, tuple[AccountId, ...]]:
        """Return each name with its accounts, the one to take over first; the store's names may have none."""
        roles = {edge.role for edge in self.catalog.edges}
        by_name: dict[str, list[AccountId]] = {}
        for account in sorted(self.catalog.accounts):
            asleep = not self.found.mysql.may_log_in(account).allowed and account in roles
            if account not in self.ours and account not in self.found.keepers and not asleep:
                by_name.setdefault(account.user, []).append(account)
        for name in self.users.keys() - self.found.iam_keepers:
            if self._path(name) != iam_path(self.project.project):
                by_name.setdefault(name, [])
        return {
            name: tuple(sorted(accounts, key=lambda account: (account.host != self.host, account)))
            for name, accounts in by_name.items()
        }

    def _refusal(self, name: str, account: AccountId | None, others: Collection[str]) -> str:
        """Say why an account cannot be taken over."""
        if not name:
            return "it has no name, so that anybody may log in: have it dropped"
        if not PRINCIPAL_NAME.fullmatch(name) or reserved_principal(name):
            return "djops.yaml cannot have this name"
        for other in (*self.project.principals, *others):
            if other != name and other.casefold() == name.casefold():
                return f"its name and {other!r} differ only by case: name the one to take over"
        path = self._path(name)
        if path is not None and path.startswith(_PROJECTS) and path != iam_path(self.project.project):
            return f"its user at the object store, at {path}, belongs to another project"
        if account is None:
            return ""
        return self._account_refusal(account)

    def _account_refusal(self, account: AccountId) -> str:
        held = self.catalog.privileges.get(Held(account, Scope("*")), frozenset())
        if self.catalog.accounts[account].project:
            return f"it belongs to the project {self.catalog.accounts[account].project!r}"
        if "SYSTEM_USER" in held:
            return "it has SYSTEM_USER, as administrators of the server do; djops may not touch it"
        if AccountId(account.user, self.host) in self.ours:
            return (
                f"{account.user} is managed already, and is taken for this account when it comes from "
                f"{account.host}: have it dropped"
            )
        if not self.found.mysql.may_log_in(account).allowed:
            return "it cannot log in: it is locked, or a role that nobody has"
        return ""

    def _unconcerned(self, name: str, account: AccountId | None, *, named: bool) -> str:
        if named or name in self.project.principals:
            return ""
        if account is None:
            reached = self.levels.objects_reached(name)
            return (
                f"it reaches objects of {', '.join(reached)} and has no account in the database: name it to "
                "take it over, or have its keys deleted"
                if reached
                else "it has nothing on the pipeline's objects"
            )
        schemas = self.found.mysql.schemas_reached(account).keys() & self.found.graph.schemas
        if schemas:
            return ""
        asleep = sorted(str(edge.role) for edge in self.catalog.edges if edge.member == account)
        roles = f"; its roles are not active at log-in: {', '.join(asleep)}" if asleep else ""
        return f"it has nothing on the pipeline's schemas{roles}"

    def _other(self, chosen: AccountId) -> str:
        return f"{chosen} is taken over; have this one dropped once {chosen.user} has new credentials"

    def _proposal(self, name: str, account: AccountId | None) -> Proposal:
        written = name in self.project.principals
        section: Section = "services" if name in self.services or name in self.project.services else "people"
        if written:
            grants = tuple(grant for _, grant in self.project.grants_of(name))
        else:
            grants = self.levels.grants(account, section) if account is not None else ()
        user = name if name in self.users else None
        loses, gains = self.levels.differences(account, user, name, section, grants)
        outside = [] if account is None else [*self._outside(account)]
        return Proposal(
            name,
            section,
            account,
            self._path(name),
            grants,
            written,
            loses,
            gains,
            (*outside, *self._policies(name)),
            (*([] if account is None else self._login_notes(account)), *self._store_notes(name)),
        )

    def _path(self, name: str) -> str | None:
        """Return the path of the IAM user of a name."""
        return _path_of(self.users[name].arn) if name in self.users else None

    def _policies(self, name: str) -> Iterator[str]:
        """Yield the policies of the IAM user of a name; whatever they open, they go."""
        if name in self.users:
            user = self.users[name]
            yield from (f"policy {policy} at the object store" for policy in sorted(user.policies))
            yield from (f"policy {arn} at the object store" for arn in user.attached)
            yield from (f"group {group} at the object store" for group in user.groups)

    def _outside(self, account: AccountId) -> Iterator[str]:
        """Yield what an account loses beyond the pipeline's schemas."""
        schemas = self.found.graph.schemas
        for held, names in sorted(self.catalog.privileges.items()):
            if held.grantee == account and held.scope.pattern not in schemas:
                reached = self._reached(held.scope)
                if reached or held.scope.pattern == "*":
                    yield f"{_listed(names)} on {held.scope}{reached}"
        for routine in sorted(self.catalog.routines):
            if routine.grantee == account:
                yield f"EXECUTE on {routine.schema}.{routine.name}"
        for edge in sorted(self.catalog.edges):
            if edge.member == account and edge.role not in self.ours:
                asleep = "" if edge in self.catalog.defaults else ", which is not active at log-in"
                yield f"role {edge.role}{asleep}"

    def _reached(self, scope: Scope) -> str:
        """Name the schemas beyond the pipeline that a row reaches; nothing when there are none."""
        if scope.table or scope.pattern == "*":
            return ""
        others = sorted(self.catalog.schemas - self.found.graph.schemas)
        literal = self.catalog.partial_revokes
        hit = [n for n in others if (scope.pattern == n if literal else opens(scope.pattern, n))]
        return f" ({', '.join(hit)})" if hit else ""

    def _login_notes(self, account: AccountId) -> Iterator[str]:
        login, there = self.catalog.logins.get(account), self.catalog.accounts[account]
        if account.host != self.host:
            yield f"may log in from {self.host!r} instead of {account.host!r}"
        if there.plugin != _PLUGIN or there.expired:
            reason = "has expired" if there.expired else f"is kept by {there.plugin}"
            yield f"its password is replaced at once, because it {reason}: hand out the new one"
        else:
            yield "its password holds beside the new one until `djops adopt --finish`"
        if there.second_password:
            yield "an older password that is valid too ends at once, because an account can have two"
        if login is not None and not login.tls:
            yield "must connect with TLS"

    def _store_notes(self, name: str) -> Iterator[str]:
        if not self.project.stores:
            return
        path = self._path(name)
        if path is None:
            yield "gets a user and a key for the object store"
            return
        count = len(self.users[name].keys)
        if count:
            keys = "key holds" if count == 1 else f"{count} keys hold"
            yield f"its {keys} beside the new one until `djops adopt --finish`"
        if count >= AWS_KEYS and evidence.dialect_of(self.servers.site) == "aws":
            yield f"first, one of its {count} keys must go: the object store allows no third"
        if path != iam_path(self.project.project) and self.servers.site.s3_root is None:
            command = move_command(self.project.project, name)
            yield f"after `djops adopt --write`, by an administrator of the object store: {command}"


def _listed(names: Collection[str]) -> str:
    """Name privileges; those that make up ALL on a schema by that word."""
    every = SCHEMA_PRIVILEGES.keys() - {"GRANT OPTION"}
    rest = sorted(set(names) - every) if every <= set(names) else sorted(names)
    told = ["ALL", *rest] if every <= set(names) else rest
    return ", ".join(told)


def _path_of(arn: str) -> str:
    """Return the path in an IAM user's ARN."""
    parts = arn.partition(":user/")[2].rpartition("/")
    return f"/{parts[0]}/" if parts[0] else "/"


def move_command(project_name: str, user: str) -> str:
    """Return what an administrator of the object store runs to bring a user under management.

    Args:
        project_name: Name of the project.
        user: The IAM user.
    """
    return f"aws iam update-user --user-name {user} --new-path {iam_path(project_name)}"


def writing(project_file: Path, proposals: Sequence[Proposal]) -> Edited:
    """Work out how proposals stand in the project file; nothing is written yet.

    Args:
        project_file: The ``djops.yaml``.
        proposals: The proposals; those that stand there already stay as they are.

    Returns:
        The change of the project file, checked.

    Raises:
        UsageError: Something in it would be refused.
    """
    new = [one for one in proposals if not one.written]

    def decide(loaded: Loaded) -> list[Edit]:
        return [
            SetValue((one.section, one.name), {"grants": [grant_data(grant) for grant in one.grants]})
            for one in new
        ]

    return project.edit(project_file, decide)


def plan(servers: Servers, wanted: Wanted, proposals: Sequence[Proposal]) -> Plan:
    """List everything that taking accounts over takes, with whatever else differs.

    Args:
        servers: The servers.
        wanted: What they should hold; all of the proposals are in it.
        proposals: Who.

    Returns:
        The plan.

    Raises:
        NotManagedError: ``E_UNMANAGED`` when an IAM user must be moved by an administrator first.
    """
    standing = access.stand(servers, wanted)
    host = wanted.project.environments[servers.site.environment].host_pattern
    accounts = {one.account: AccountId(one.name, host) for one in proposals if one.account is not None}
    users = {}
    if wanted.project.stores:
        _refuse_strangers(servers, wanted, proposals)
        users = {
            one.name: (one.user_path, servers.s3.user(one.name))
            for one in proposals
            if one.user_path is not None
        }
        _refuse_third_key(servers, {name: len(user.keys) for name, (_, user) in users.items()})
    return access.plan_of(servers, wanted, standing, Adoption(accounts, users))


def _refuse_strangers(servers: Servers, wanted: Wanted, proposals: Sequence[Proposal]) -> None:
    """Refuse to go on with IAM users that only an administrator of the object store can move."""
    own = iam_path(wanted.project.project)
    moving = [one.name for one in proposals if one.user_path not in (None, own)]
    if moving and servers.site.s3_root is None:
        commands = "".join(f"\n     {move_command(wanted.project.project, name)}" for name in moving)
        raise NotManagedError(
            f"the object store has users that djops did not make: {', '.join(moving)}",
            where=servers.s3.where,
            # Once they are moved, an apply would take users that djops.yaml does not have for leftovers.
            hint=f"run `djops adopt --write`; then have the object store's administrator run:{commands}",
        )


def _refuse_third_key(servers: Servers, keys: Mapping[str, int]) -> None:
    """Refuse to go on where there is no room for the new key: half-way is a bad place to learn that."""
    full = sorted(name for name, count in keys.items() if count >= AWS_KEYS)
    if full and evidence.dialect_of(servers.site) == "aws":
        raise NotManagedError(
            f"{', '.join(full)} has {AWS_KEYS} access keys already, and the object store allows no third",
            where=servers.s3.where,
            code="E_KEYS",
            hint="have the one that is not used deleted; `aws iam get-access-key-last-used` tells which",
        )


def unfinished(servers: Servers, wanted: Wanted) -> Plan:
    """List what a take-over that was cut short has left to do.

    Args:
        servers: The servers.
        wanted: The project.

    Returns:
        The plan; empty when nobody was taken over, or everything is done.
    """
    standing = access.stand(servers, wanted)
    return access.plan_of(servers, wanted, standing) if _adopted(standing, wanted) else Plan(())


def finishing(servers: Servers, wanted: Wanted, names: Collection[str] = ()) -> Plan:
    """List what ends the old passwords and keys of people who were taken over.

    Args:
        servers: The servers.
        wanted: The project.
        names: Only theirs.

    Returns:
        The plan; empty when there are none.

    Raises:
        UsageError: ``E_UNKNOWN_PRINCIPAL`` for a name that is not in the project; ``E_UNFINISHED`` when
            new credentials are not in force yet.
    """
    unknown = sorted(set(names) - wanted.project.principals.keys())
    if unknown:
        hint = advice(unknown[0], wanted.project.principals, what="people and services")
        raise UsageError(f"there is no {unknown[0]!r} in the project", hint=hint, code="E_UNKNOWN_PRINCIPAL")
    standing = access.stand(servers, wanted)
    chosen = set(names) or set(wanted.project.principals)
    _refuse_unfinished(access.plan_of(servers, wanted, standing), chosen)
    accounts = [account for account in _adopted(standing, wanted) if account.user in chosen]
    stores = tuple(sorted(wanted.project.stores))
    keeps = {name: KeepKey(secret_path(wanted.project, name), stores) for name in sorted(chosen)}
    keys = {name: _old_keys(standing, keep.path) for name, keep in keeps.items()}
    return Plan(in_order(finish_changes(accounts, {name: old for name, old in keys.items() if old}, keeps)))


def _refuse_unfinished(rest: Plan, names: Collection[str]) -> None:
    """Refuse to end old credentials before the new ones are in force."""
    lacking = {one.name.user for one in rest.changes if isinstance(one, SetPassword | CreateAccount)}
    lacking |= {one.name for one in rest.changes if isinstance(one, CreateKey)}
    if lacking & set(names):
        raise UsageError(
            f"the new credentials of {', '.join(sorted(lacking & set(names)))} are not in force yet",
            hint="`djops apply` puts them in force; then hand them out",
            code="E_UNFINISHED",
        )


def _adopted(standing: Standing, wanted: Wanted) -> list[AccountId]:
    mysql = standing.found.mysql
    return [one for one in sorted(mysql.managed(wanted.project.project)) if mysql.accounts[one].adopted]


def _old_keys(standing: Standing, path: str) -> tuple[str, ...]:
    return adopted_keys(standing.found.secrets.secrets.get(path, {}))
