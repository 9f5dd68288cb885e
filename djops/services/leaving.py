"""Somebody leaves: every way in is closed, what she held is handed over, and a certificate says so.

What is done is kept in a file of djops' own state, so that a run that was cut off, or that found a server
down, is finished by the next one. Her kept password and keys are destroyed last: with them every way in is
tried once more, and only what was refused stands in the certificate as closed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from djops.compile.mysql_state import AccountId, MysqlState
from djops.compile.rights import compile_rights, is_expired
from djops.compile.s3 import iam_path
from djops.compile.sql import quote_account
from djops.compile.vault import MOUNT, policy_name
from djops.errors import AccessDeniedError, DjopsError, LockedError, UsageError
from djops.model import editing, leaving
from djops.model.project import ALL, Grant
from djops.model.roles import Capability
from djops.plan.mysql_changes import DropAccount
from djops.plan.operations import AwsCall, EndSession, Sql, VaultCall
from djops.plan.s3_changes import DeletePrincipal
from djops.services import access, machines, project, trying, welcome
from djops.services.access import Servers, Wanted
from djops.services.journal import Cause, note
from djops.services.onboarding import Decide, step_by_step
from djops.services.project import Edited, Loaded
from djops.systems import definers, job_tables, journal, projectfile
from djops.systems.files import read_json, write_private
from djops.systems.local.mysql import can_be_had
from djops.systems.mysql import Mysql
from djops.systems.paths import private_directory
from djops.systems.progress import Progress, Silent

SYSTEMS = ("mysql", "s3", "secrets")
TITLES = {"mysql": "database", "s3": "object store", "secrets": "secrets server"}
FOLDER, CERTIFICATES = "leaving", "certificates"

_HANDED = (Capability.INSERT, Capability.DELETE, Capability.DECLARE, Capability.ALTER)
"""What somebody must be able to do with every schema: whoever leaves as the last one leaves an orphan."""


@dataclass
class Leaver:
    """Somebody who is leaving, as far as it has come; kept in a file.

    Attributes:
        who: Account name.
        since: When it began.
        by: Who began it.
        reason: Why.
        heir: Who takes over, if anybody.
        entry: What the project file said of her.
        had: What she had, by system; a system that was not looked at yet is missing.
        steps: What was done: system, words, time.
        finished: When each system was done with.
        attempts: Ways in that were tried: before, and after.
        tellings: What somebody else has to do.
    """

    who: str
    since: str
    by: str
    reason: str = ""
    heir: str | None = None
    entry: dict[str, Any] = field(default_factory=dict)
    had: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: list[dict[str, str]] = field(default_factory=list)
    finished: dict[str, str] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    tellings: list[str] = field(default_factory=list)

    def did(self, system: str, what: str) -> None:
        """Note a step."""
        self.steps.append({"system": system, "what": what, "at": now()})


@dataclass(frozen=True)
class Survey:
    """What somebody has, before she leaves.

    Attributes:
        leaver: As far as it has come.
        edited: The change of the project file; ``None`` when it was made already.
        orphans: What nobody else could do after her, by schema.
        unreachable: Systems that do not answer.
    """

    leaver: Leaver
    edited: Edited | None
    orphans: Mapping[str, tuple[str, ...]]
    unreachable: Mapping[str, DjopsError]


@dataclass(frozen=True)
class Left:
    """The outcome.

    Attributes:
        leaver: As far as it has come.
        pending: By system, why it is not done with.
        certificate: The certificate, when everything is done.
    """

    leaver: Leaver
    pending: Mapping[str, DjopsError]
    certificate: Mapping[str, Any] | None = None


def now() -> str:
    """Return the time (UTC), to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


# The file


def _file(state: Path, who: str) -> Path:
    return state / FOLDER / f"{who}.json"


def load(state: Path, who: str) -> Leaver | None:
    """Read how far somebody's leaving has come.

    Args:
        state: The directory of djops' own state for the environment.
        who: Account name.
    """
    data = read_json(_file(state, who))
    return None if data is None else Leaver(**data)


def keep(state: Path, leaver: Leaver) -> None:
    """Write how far it has come, on disk before this returns.

    Args:
        state: The directory of djops' own state for the environment.
        leaver: Whose.
    """
    private_directory(state / FOLDER)
    write_private(_file(state, leaver.who), json.dumps(vars(leaver), indent=2) + "\n")


def unfinished(state: Path) -> tuple[Leaver, ...]:
    """Return everybody whose leaving is not finished.

    Args:
        state: The directory of djops' own state for the environment.
    """
    names = sorted(file.stem for file in (state / FOLDER).glob("*.json"))
    return tuple(leaver for name in names if (leaver := load(state, name)) is not None)


# Before


def survey(servers: Servers, loaded: Loaded, who: str, heir: str | None, reason: str) -> Survey:
    """Look at what somebody has, without changing anything.

    Args:
        servers: The servers; those that are down are named.
        loaded: The checked project.
        who: Account name.
        heir: Who takes over, if anybody.
        reason: Why.

    Raises:
        UsageError: ``E_NO_PRINCIPAL`` when nobody of that name is there or leaving; ``E_USAGE`` for an heir
            who cannot take over.
    """
    leaver = load(servers.site.lab, who)
    there = who in loaded.project.principals
    if leaver is None and not there:
        editing.section_of(loaded.project, who)
    leaver = leaver or Leaver(who, now(), journal.caller(), reason)
    leaver.heir = heir or leaver.heir
    if leaver.heir is not None and (leaver.heir == who or leaver.heir not in loaded.project.people):
        raise UsageError(
            f"{leaver.heir!r} cannot take over from {who}",
            hint="name another person of the project",
        )
    edited, orphans = None, {}
    if there:
        leaver.entry = dict(leaving.former_entry(loaded.project, who))
        orphans = orphaned(Wanted.of(loaded.project, loaded.graph), who)
        edited = removed(loaded, who, leaver.heir, orphans)
    unreachable = {}
    for system, look in (("mysql", _look_mysql), ("s3", _look_s3), ("secrets", _look_secrets)):
        try:
            if system not in leaver.finished:
                look(servers, loaded, leaver)
        except DjopsError as error:
            unreachable[system] = error
    return Survey(leaver, edited, orphans, unreachable)


def orphaned(wanted: Wanted, who: str) -> dict[str, tuple[str, ...]]:
    """Tell what nobody else could do once somebody is gone.

    Args:
        wanted: The project as it is.
        who: Account name.

    Returns:
        By schema, names of capabilities that no other person has.
    """
    rights = compile_rights(wanted.project, wanted.graph, wanted.roles, wanted.today)
    others = [name for name in wanted.project.people if name != who]
    found: dict[str, tuple[str, ...]] = {}
    for schema in wanted.graph.order:
        mine = [one for one in _HANDED if one in rights.capabilities(who, schema)]
        alone = [one for one in mine if not any(one in rights.capabilities(o, schema) for o in others)]
        if alone:
            found[schema] = tuple(str(one) for one in alone)
    return found


def removed(loaded: Loaded, who: str, heir: str | None, orphans: Mapping[str, object]) -> Edited:
    """Work out the project file without somebody, with what goes to whoever takes over.

    Args:
        loaded: The checked project.
        who: Account name.
        heir: Who takes over, if anybody.
        orphans: The schemas that would be nobody's.

    Returns:
        The change, checked and not yet written.
    """
    file = loaded.project_file
    before = projectfile.read(file)
    teams = leaving.written_teams(before, projectfile.shown(file))
    handed = list(_handed(loaded, who, orphans)) if heir is not None else []

    def decisions() -> Iterator[Decide]:
        for grant in handed:
            yield lambda now, grant=grant: editing.add_grant(  # type: ignore[misc]
                now.project, heir or "", grant
            )
        yield lambda now: leaving.removal(now.project, who, teams)

    return step_by_step(file, before, loaded, decisions())


def _handed(loaded: Loaded, who: str, orphans: Mapping[str, object]) -> Iterator[Grant]:
    """Yield the grants that go to whoever takes over: only on schemas that would be nobody's."""
    today = dt.datetime.now(dt.UTC).date()
    for _, grant in loaded.project.grants_of(who):
        meant = loaded.project.meant(grant.on, loaded.graph.schemas)
        on = tuple(name for name in meant if name in orphans)
        if on and not is_expired(grant, today):
            # A role of the whole project is given on all of it or not at all.
            whole = ALL if ALL in grant.on and ALL not in loaded.graph.schemas else None
            yield grant.model_copy(
                update={"on": (whole,) if whole else on, "reason": f"handed over by {who}"}
            )


def _look_mysql(servers: Servers, loaded: Loaded, leaver: Leaver) -> None:
    state = servers.mysql.read_state()
    mine = servers.site.project.project
    named = {name: account for name, account in state.accounts.items() if name.user == leaver.who}
    accounts = sorted(name for name, account in named.items() if account.project == mine)
    with administrator(servers) as root:
        objects = definers.defined_by(root, accounts)
    sessions = servers.mysql.query(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE user = %s", (leaver.who,)
    )[0][0]
    reserved = job_tables.reserved(servers.mysql, loaded.graph.schemas, leaver.who)
    found = {
        "accounts": [list(name) for name in accounts],
        "foreign accounts": [str(name) for name in sorted(named.keys() - set(accounts))],
        "leases": sorted(name.user for name in _leases(state, mine, leaver.who)),
        "sessions": int(sessions),
        "reserved jobs": [str(one) for one in reserved],
        "definer of": [str(one) for one in objects],
    }
    leaver.had.setdefault("mysql", found)


def _look_s3(servers: Servers, loaded: Loaded, leaver: Leaver) -> None:
    users = servers.s3.read_state(loaded.project.project, []).users
    user = users.get(leaver.who)
    leaver.had.setdefault("s3", {"user": user is not None, "keys": sorted(user.keys) if user else []})


def _look_secrets(servers: Servers, loaded: Loaded, leaver: Leaver) -> None:
    state = servers.secrets.state(loaded.project.project)
    name = policy_name(loaded.project.project, leaver.who)
    path = _path(loaded, leaver)
    known = servers.secrets.read_metadata(path)
    found = {
        "policy": name in state.policies,
        "log-ins": sorted(path for path in state.settings or {} if path.rpartition("/")[2] == name),
        "credentials": path if path in state.secrets else None,
        "link": bool(known and known.facts.get(welcome.ACCESSOR)),
    }
    leaver.had.setdefault("secrets", found)


def _path(loaded: Loaded, leaver: Leaver) -> str:
    return f"{loaded.project.project}/{leaver.entry.get('section', 'people')}/{leaver.who}"


@contextmanager
def administrator(servers: Servers) -> Iterator[Mysql]:
    """Open the database as root where djops runs it and the secrets server has it, else as djops itself."""
    administrator = servers.site.mysql_root
    if administrator is None or not can_be_had(administrator.password):
        yield servers.mysql
        return
    with Mysql(administrator) as root:
        yield root


# Leaving


@contextmanager
def alone(servers: Servers, lock_wait: float, reason: str) -> Iterator[None]:
    """Hold the locks that can be had: the database's own is out of reach while it is down."""
    with servers.alone_here("offboard", lock_wait, reason=reason), ExitStack() as stack:
        try:
            stack.enter_context(servers.alone_everywhere(lock_wait))
        except LockedError:
            raise
        except DjopsError:
            pass
        yield


def leave(servers: Servers, loaded: Loaded, found: Survey, progress: Progress | None = None) -> Left:
    """Close every way in, on every system that answers; may be repeated until nothing is pending.

    Args:
        servers: The servers; the caller holds :func:`alone`.
        loaded: The project as the file was before.
        found: What she has.
        progress: Who wants to know.

    Returns:
        How far it has come, with the certificate once everything is closed.

    Raises:
        ConfigError: ``E_CHANGED`` when somebody else changed the project file meanwhile.
    """
    leaver, state = found.leaver, servers.site.lab
    keep(state, leaver)
    if found.edited is not None:
        was = json.dumps(leaver.entry, sort_keys=True)
        note(servers.journal, Cause("offboard", leaver.reason), leaves=leaver.who, was=was)
        project.save(found.edited, loaded.project_file)
        leaver.did("djops.yaml", "entry removed" + f", handed over to {leaver.heir}" * bool(leaver.heir))
        keep(state, leaver)
    doors = _doors(servers, loaded, leaver)
    pending: dict[str, DjopsError] = {}
    work: Mapping[str, Callable[[], None]] = {
        "mysql": lambda: _leave_mysql(servers, loaded, leaver),
        "s3": lambda: _leave_s3(servers, loaded, leaver),
        "secrets": lambda: _leave_secrets(servers, loaded, leaver),
    }
    for system, close in work.items():
        if system not in leaver.finished:
            with (progress or Silent()).step(f"Closing the {TITLES[system]} to {leaver.who}"):
                try:
                    close()
                    leaver.finished[system] = now()
                except DjopsError as error:
                    pending[system] = error
            keep(state, leaver)
    if pending:
        return Left(leaver, pending)
    return _certify(servers, loaded, leaver, doors)


def _doors(servers: Servers, loaded: Loaded, leaver: Leaver) -> trying.Doors:
    """Take her credentials out once more, in memory only, and see that they still open something."""
    try:
        doors = trying.doors(servers, leaver.who, _path(loaded, leaver))
    except DjopsError:
        return trying.Doors()  # the secrets server is down: they are still there for the next run
    if not leaver.attempts:
        tried = trying.attempts(servers, leaver.who, doors, must_answer=False)
        leaver.attempts = [{**vars(one), "when": "before"} for one in tried]
    return doors


def _leave_mysql(servers: Servers, loaded: Loaded, leaver: Leaver) -> None:
    _look_mysql(servers, loaded, leaver)
    state = servers.mysql.read_state()
    mine = loaded.project.project
    accounts = [
        name
        for name, account in sorted(state.accounts.items())
        if name.user == leaver.who and account.project == mine
    ]
    for name in accounts:
        if not state.accounts[name].locked:
            access.execute(servers, Sql((f"ALTER USER IF EXISTS {_quoted(name)} ACCOUNT LOCK",)))
            leaver.did("mysql", f"account {name} locked")
    ended = servers.mysql.end_sessions(leaver.who)
    if ended:
        leaver.did("mysql", f"{ended} session{'s' * (ended != 1)} ended")
    leases = _leases(state, mine, leaver.who)
    for user in (leaver.who, *(name.user for name in leases)):
        for one in job_tables.reserved(servers.mysql, loaded.graph.schemas, user):
            job_tables.release(servers.mysql, one, user)
            leaver.did("mysql", f"reserved jobs released: {one}")
    _pass_definers_on(servers, loaded, leaver, accounts)
    for name in (*leases, *accounts):
        for operation in DropAccount(name=name, account=state.accounts[name], why=()).operations():
            access.execute(servers, operation)
        # A session that was opened while the account was there outlives it.
        access.execute(servers, EndSession(name.user))
        leaver.did("mysql", f"account {name} dropped")


def _leases(state: MysqlState, project: str, who: str) -> list[AccountId]:
    """Return the accounts that were leased to a service, and are there."""
    mine = (name for name, one in state.leases.items() if (one.project, one.service) == (project, who))
    return [name for name in mine if name in state.accounts]


def _quoted(name: AccountId) -> str:
    return quote_account(*name)


def _pass_definers_on(
    servers: Servers, loaded: Loaded, leaver: Leaver, accounts: Sequence[AccountId]
) -> None:
    """Give what runs with her rights to whoever takes over: the server drops no definer's account."""
    with administrator(servers) as root:
        objects = definers.defined_by(root, accounts)
        if not objects:
            return
        listed = ", ".join(str(one) for one in objects)
        if leaver.heir is None:
            raise DjopsError(
                f"{leaver.who} is the definer of {listed}; the account is locked, and stays until somebody "
                "takes them over",
                code="E_DEFINER",
                where=servers.mysql.where,
                hint=f"`djops offboard {leaver.who} --hand-over-to NAME`, or drop them",
            )
        host = loaded.project.environments[servers.site.environment].host_pattern
        for one in objects:
            try:
                work = definers.recreation(root, one, AccountId(leaver.heir, host))
                leaver.did("mysql", f"{one} goes to {leaver.heir}: {work.create}")
                keep(servers.site.lab, leaver)
                definers.recreate(root, work)
            except AccessDeniedError as error:
                raise DjopsError(
                    f"djops' account may not change the definer of {one}",
                    code="E_DEFINER",
                    where=error.where,
                    hint=f"have the database administrator make {leaver.heir} the definer of {listed}; "
                    f"then `djops offboard {leaver.who}` goes on",
                ) from None


def _leave_s3(servers: Servers, loaded: Loaded, leaver: Leaver) -> None:
    _look_s3(servers, loaded, leaver)
    mine = loaded.project.project
    user = servers.s3.read_state(mine, []).users.get(leaver.who)
    if user is None:
        return
    for key, active in user.keys.items():
        if active:
            off = {"UserName": leaver.who, "AccessKeyId": key, "Status": "Inactive"}
            access.execute(servers, AwsCall("iam", "UpdateAccessKey", off, missing_is_done=True))
            leaver.did("s3", f"access key {key} deactivated")
    gone = DeletePrincipal(name=leaver.who, path=iam_path(mine), user=user, why=())
    for operation in gone.operations():
        access.execute(servers, operation)
    leaver.did("s3", f"user {leaver.who} deleted, with keys {', '.join(sorted(user.keys)) or 'none'}")


def _leave_secrets(servers: Servers, loaded: Loaded, leaver: Leaver) -> None:
    _look_secrets(servers, loaded, leaver)
    policy, path = policy_name(loaded.project.project, leaver.who), _path(loaded, leaver)
    if policy in servers.secrets.state(loaded.project.project).policies:
        access.execute(servers, VaultCall("DELETE", f"sys/policies/acl/{policy}"))
        leaver.did("secrets", f"policy {policy} deleted")
    for gone in machines.forget(servers, loaded.project, leaver.who):
        leaver.did("secrets", f"{gone} deleted, and whatever it gave ended")
    if not welcome.end_link(servers.secrets, path):
        leaver.tellings.append("djops may not end her welcome link: it ends by itself, and opens nothing")
    try:
        ended = 0
        for accessor in servers.secrets.accessors():
            about = servers.secrets.lookup_accessor(accessor)
            if about is not None and policy in about.get("policies", ()):
                servers.secrets.revoke_accessor(accessor)
                ended += 1
        if ended:
            leaver.did("secrets", f"{ended} token{'s' * (ended != 1)} revoked")
    except AccessDeniedError:
        leaver.tellings.append("djops may not look for her tokens: they open nothing, and end within 8 hours")


def _certify(servers: Servers, loaded: Loaded, leaver: Leaver, doors: trying.Doors) -> Left:
    """Try every way in once more, and only then destroy what it was tried with."""
    try:
        after = trying.attempts(servers, leaver.who, doors, must_answer=True)
        still = [one for one in after if one.outcome == "open"]
        leaver.attempts = [one for one in leaver.attempts if one["when"] == "before"]
        leaver.attempts += [{**vars(one), "when": "after"} for one in after]
        if still:
            for one in still:
                leaver.finished.pop(one.system, None)
            keep(servers.site.lab, leaver)
            raise DjopsError(
                f"{', '.join(one.way for one in still)} still let {leaver.who} in",
                code="E_STILL_OPEN",
                hint=f"look at the server, then run `djops offboard {leaver.who}` again",
            )
        path, left = _path(loaded, leaver), Leaver(leaver.who, "", "", entry=leaver.entry)
        if servers.secrets.read_metadata(path) is not None:
            access.execute(servers, VaultCall("DELETE", f"{MOUNT}/metadata/{path}"))
            leaver.did("secrets", f"credentials at {path} destroyed, with all versions")
        for look in (_look_mysql, _look_s3, _look_secrets):
            look(servers, loaded, left)
    except DjopsError as error:
        return Left(leaver, {"certificate": error})
    certificate = certify(servers, leaver, left.had)
    _file(servers.site.lab, leaver.who).unlink(missing_ok=True)
    return Left(leaver, {}, certificate)


def certify(servers: Servers, leaver: Leaver, left: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write the certificate, and its digest into the journal.

    Args:
        servers: The servers.
        leaver: Somebody with whom everything is done.
        left: What the systems still have of her, looked at afterwards.

    Returns:
        The certificate, with ``digest`` over everything else in it.
    """
    body: dict[str, Any] = {
        "djops": 1,
        "certificate": "offboard",
        "project": servers.site.project.project,
        "environment": servers.site.environment,
        "who": leaver.who,
        "by": leaver.by,
        "reason": leaver.reason,
        "handed_over_to": leaver.heir,
        "began": leaver.since,
        "ended": now(),
        "project_file_said": leaver.entry,
        "had": leaver.had,
        "steps": leaver.steps,
        "attempts": leaver.attempts,
        "left": left,
        "tellings": list(dict.fromkeys(leaver.tellings)),
    }
    certificate = {**body, "digest": digest(body)}
    folder = private_directory(servers.site.lab / CERTIFICATES)
    stamp = body["ended"].replace(":", "").replace("+0000", "Z")
    write_private(folder / f"{leaver.who}-{stamp}.json", json.dumps(certificate, indent=2) + "\n")
    cause = Cause("offboard", leaver.reason)
    note(servers.journal, cause, left=leaver.who, certificate=str(certificate["digest"]))
    return certificate


def digest(certificate: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a certificate without its digest, as JSON with sorted keys and no blanks."""
    body = {name: value for name, value in certificate.items() if name != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
