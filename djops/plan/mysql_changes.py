"""Changes to a MySQL server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from djops.compile.mysql_manager import EVENT_SCHEMA
from djops.compile.mysql_state import Account, AccountId, Event, Scope
from djops.compile.sql import quote_account, quote_identifier, quote_string
from djops.plan.change import Change, Phase, Risk, Told
from djops.plan.operations import (
    EndSession,
    ForgetFields,
    NotePassword,
    Operation,
    SecretRef,
    Sql,
    StorePassword,
)

EMPTY_PASSWORD = 3878
"""MySQL's error for RETAIN CURRENT PASSWORD where there is none (seen on 9.7)."""

_COMMENT = 1000
"""Characters of an event's comment, well below MySQL's limit."""

PASSWORD_FIELD = "database.password"  # noqa: S105  the field's name, as the client names its file
STATE_FACT = "database_state"
"""Beside a secret: ``set`` once the password is known to be in force."""

CHANGED_FACT = "database_password_changed"
"""Beside a secret: when the server says that the password was put in force."""


def _quoted(account: AccountId) -> str:
    return quote_account(account.user, account.host)


def _joined(accounts: Iterable[AccountId]) -> str:
    return ", ".join(_quoted(account) for account in accounts)


def _attribute(account: Account) -> str:
    mark = {"project": account.project, "kind": account.kind}
    mark |= {"engine": account.engine} if account.engine else {}
    return merged(mark)


def merged(mark: Mapping[str, object]) -> str:
    """Write an account's mark: into one that is there MySQL merges it, and ``None`` takes away.

    Args:
        mark: Values by name.
    """
    return f"ATTRIBUTE {quote_string(json.dumps({'djops': mark}, sort_keys=True))}"


def _limit(account: Account) -> str:
    return f"MAX_USER_CONNECTIONS {account.connections}"


class MysqlChange(Change):
    """A change to the MySQL server."""

    system = "mysql"


@dataclass(frozen=True, kw_only=True)
class CreateRole(MysqlChange):
    """Make a role, marked as the project's own in the same statement.

    ``CREATE ROLE`` takes no attribute, and a crash between it and an ``ALTER USER`` would leave a role
    that nobody owns. A locked account with an expired password is what ``CREATE ROLE`` makes.
    """

    role: AccountId
    account: Account

    def _tell(self) -> Told:
        return Told(f"role {self.role}", "", "created", Risk.KEEPS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        """Return one CREATE USER."""
        attribute = _attribute(self.account)
        frame = ("CREATE USER ", f" PASSWORD EXPIRE ACCOUNT LOCK {attribute}")
        return (Sql((_quoted(self.role),), frame=frame),)

    def reverse(self) -> Change:
        """Return the drop."""
        return DropAccount(name=self.role, account=self.account, why=self.why)


@dataclass(frozen=True, kw_only=True)
class CreateAccount(MysqlChange):
    """Make a person's or service's account, without any right yet."""

    name: AccountId
    account: Account
    secret: str

    def _tell(self) -> Told:
        return Told(f"account {self.name}", "", "created, TLS required", Risk.KEEPS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        """Keep the password first, so that no unknown password is ever in force."""
        head = f"{_quoted(self.name)} IDENTIFIED WITH {self.account.plugin} BY "
        frame = ("CREATE USER ", f" REQUIRE SSL WITH {_limit(self.account)} {_attribute(self.account)}")
        if self.account.engine:
            return (Sql((f"{head}RANDOM PASSWORD",), frame=frame),)
        return (
            StorePassword(self.secret, self.name.user),
            Sql((head, SecretRef(self.secret, PASSWORD_FIELD)), frame=frame),
            NotePassword(self.secret, self.name),
        )

    def reverse(self) -> Change:
        """Return the drop."""
        return DropAccount(name=self.name, account=self.account, why=self.why)


@dataclass(frozen=True, kw_only=True)
class EntrustPassword(MysqlChange):
    """Have the secrets server's engine make a service's credentials from now on, or djops again.

    Open sessions go on. A static role keeps the present password valid until it renews it the second time;
    where accounts are leased, the service's own gets a password that nobody knows.
    """

    name: AccountId
    found: str
    wanted: str
    secret: str

    def _tell(self) -> Told:
        before, after = (f"credentials {way or 'kept'}" for way in (self.found, self.wanted))
        return Told(f"account {self.name}", before, after, Risk.NARROWS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        """Mark the account, and forget the password that was kept."""
        nobodys = " IDENTIFIED BY RANDOM PASSWORD" if self.wanted == "dynamic" else ""
        marking = Sql(
            (f"ALTER USER {_quoted(self.name)}{nobodys} {merged({'engine': self.wanted or None})}",)
        )
        if not self.wanted:
            return (marking,)
        fields = ("database.user", PASSWORD_FIELD, f"{PASSWORD_FIELD}_next")
        return marking, ForgetFields(self.secret, fields, (STATE_FACT, CHANGED_FACT))

    def reverse(self) -> Change:
        """Return the opposite."""
        return EntrustPassword(
            name=self.name, found=self.wanted, wanted=self.found, secret=self.secret, why=self.why
        )


@dataclass(frozen=True, kw_only=True)
class DropAccount(MysqlChange):
    """Drop an account or role, with everything granted to it and every membership of it."""

    name: AccountId
    account: Account
    secret: str = ""

    def _tell(self) -> Told:
        return Told(
            f"{'role' if self.account.kind == 'role' else 'account'} {self.name}",
            "there",
            "",
            Risk.NARROWS if self.account.kind == "role" else Risk.DESTROYS,
            Phase.NARROW,
        )

    def operations(self) -> tuple[Operation, ...]:
        """Return one DROP USER."""
        return (Sql((_quoted(self.name),), frame=("DROP USER IF EXISTS ", "")),)

    def reverse(self) -> Change:
        """Return the creation."""
        if self.account.kind == "role":
            return CreateRole(role=self.name, account=self.account, why=self.why)
        return CreateAccount(name=self.name, account=self.account, secret=self.secret, why=self.why)


@dataclass(frozen=True, kw_only=True)
class AlterAccount(MysqlChange):
    """Bring an account's protection back to what it should be."""

    name: AccountId
    found: Account
    wanted: Account

    def _tell(self) -> Told:
        opens = (self.found.locked and not self.wanted.locked) or (
            self.found.require_tls and not self.wanted.require_tls
        )
        opens = opens or (self.found.certificate and not self.wanted.certificate)
        opens = opens or _looser(self.found.connections, self.wanted.connections)
        risk, phase = (Risk.WIDENS, Phase.WIDEN) if opens else (Risk.NARROWS, Phase.NARROW)
        return Told(f"account {self.name}", _protection(self.found), _protection(self.wanted), risk, phase)

    def operations(self) -> tuple[Operation, ...]:
        """Return one ALTER USER."""
        tls = "SSL" if self.wanted.require_tls else "NONE"
        lock = "LOCK" if self.wanted.locked else "UNLOCK"
        options = f" REQUIRE {tls} WITH {_limit(self.wanted)} ACCOUNT {lock} {_attribute(self.wanted)}"
        return (Sql((_quoted(self.name),), frame=("ALTER USER ", options)),)

    def reverse(self) -> Change:
        """Return the opposite."""
        return AlterAccount(name=self.name, found=self.wanted, wanted=self.found, why=self.why)


def _protection(account: Account) -> str:
    parts = [
        "locked" if account.locked else "open",
        "TLS required" if account.require_tls else "TLS not required",
    ]
    parts += ["a client certificate asked for"] if account.certificate else []
    parts += [f"{account.connections} connections at once"] if account.connections else []
    return ", ".join(parts)


def _looser(found: int, wanted: int) -> bool:
    """Tell whether a limit is lifted or raised; 0 stands for none."""
    return found != 0 and (wanted == 0 or wanted > found)


@dataclass(frozen=True, kw_only=True)
class TakeOver(MysqlChange):
    """Mark an account that djops did not make as the project's own; its old password may hold for a while.

    Attributes:
        older: Whether it has an older password too, which ends: MySQL keeps two, and one is to be new.
    """

    name: AccountId
    account: Account
    older: bool = False

    def _tell(self) -> Told:
        return Told(f"account {self.name}", "not made by djops", "taken over", Risk.KEEPS, Phase.NARROW)

    def operations(self) -> tuple[Operation, ...]:
        """Return one ALTER USER; before it the end of an older password, lest it be taken for the new one."""
        mark = {"project": self.account.project, "kind": self.account.kind, "adopted": True}
        marking = Sql((f"ALTER USER {_quoted(self.name)} {merged(mark)}",))
        ending = Sql((f"ALTER USER {_quoted(self.name)} DISCARD OLD PASSWORD",))
        return (ending, marking) if self.older else (marking,)

    def reverse(self) -> Change:
        """Return the end of the mark."""
        return LetGo(name=self.name, account=self.account, why=self.why)


@dataclass(frozen=True, kw_only=True)
class LetGo(MysqlChange):
    """Take djops' mark off an account; only ever the reverse of :class:`TakeOver`."""

    name: AccountId
    account: Account

    def _tell(self) -> Told:
        return Told(f"account {self.name}", "the project's", "nobody's", Risk.KEEPS, Phase.CLEAN)

    def operations(self) -> tuple[Operation, ...]:
        """Return one ALTER USER."""
        taken = quote_string(json.dumps({"djops": None}))
        return (Sql((f"ALTER USER {_quoted(self.name)} ATTRIBUTE {taken}",)),)

    def reverse(self) -> Change:
        """Return the take-over."""
        return TakeOver(name=self.name, account=self.account, why=self.why)


@dataclass(frozen=True, kw_only=True)
class RenameAccount(MysqlChange):
    """Change the host part of an account; its password, privileges and roles go with it."""

    name: AccountId
    to: AccountId

    def _tell(self) -> Told:
        return Told(
            f"account {self.name.user}",
            f"from {self.name.host}",
            f"from {self.to.host}",
            Risk.WIDENS,
            Phase.NARROW,
        )

    def operations(self) -> tuple[Operation, ...]:
        """Return one RENAME USER."""
        return (Sql((f"RENAME USER {_quoted(self.name)} TO {_quoted(self.to)}",)),)

    def reverse(self) -> Change:
        """Return the opposite."""
        return RenameAccount(name=self.to, to=self.name, why=self.why)


@dataclass(frozen=True, kw_only=True)
class SetPassword(MysqlChange):
    """Put the kept password in force, making one when none is kept.

    Attributes:
        retain: Whether the password that is in force now shall hold as well. An empty one cannot.
    """

    name: AccountId
    account: Account
    secret: str
    retain: bool = False

    def _tell(self) -> Told:
        return Told(
            f"account {self.name}",
            "password not known to be the one kept",
            "password from the secrets server" + (", and the old one for now" if self.retain else ""),
            Risk.KEEPS if self.retain else Risk.NARROWS,
            Phase.PREPARE,
        )

    def operations(self) -> tuple[Operation, ...]:
        """Keep first, then set, then note that it is set."""
        head = f"{_quoted(self.name)} IDENTIFIED WITH {self.account.plugin} BY "
        secret, frame = SecretRef(self.secret, PASSWORD_FIELD), ("ALTER USER ", "")
        alone = Sql((head, secret), frame=frame)
        keeping = (head, secret, " RETAIN CURRENT PASSWORD")
        retained = Sql(keeping, instead=(EMPTY_PASSWORD, alone), frame=frame)
        return (
            StorePassword(self.secret, self.name.user),
            retained if self.retain else alone,
            NotePassword(self.secret, self.name),
        )

    def reverse(self) -> Change:
        """Return itself: an unknown password cannot be had back."""
        return self


@dataclass(frozen=True, kw_only=True)
class DiscardPassword(MysqlChange):
    """End the validity of an account's older password."""

    name: AccountId

    def _tell(self) -> Told:
        return Told(f"account {self.name}", "an older password is valid too", "", Risk.NARROWS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        """Return one ALTER USER, which takes the mark off as well that let the password hold."""
        frame = ("ALTER USER ", f" {merged({'adopted': None})}")
        return (Sql((f"{_quoted(self.name)} DISCARD OLD PASSWORD",), frame=frame),)

    def reverse(self) -> Change:
        """Return itself: a discarded password cannot be had back."""
        return self


@dataclass(frozen=True, kw_only=True)
class _Privileges(MysqlChange):
    """Privileges of one grantee on one schema or table.

    Attributes:
        grantee: Who holds them.
        scope: The schema pattern or table, without column.
        privileges: Privilege names; the value lists columns, empty for all.
    """

    grantee: AccountId
    scope: Scope
    privileges: Mapping[str, tuple[str, ...]]
    meaning: str = ""

    @property
    def holder(self) -> str:
        """Grantee and scope."""
        return f"{self.grantee} on {self.scope}"

    @property
    def text(self) -> str:
        """The privileges as MySQL lists them."""
        return self._listed(self.privileges)

    @staticmethod
    def _listed(privileges: Mapping[str, tuple[str, ...]]) -> str:
        return ", ".join(
            name + (f" ({', '.join(quote_identifier(column) for column in columns)})" if columns else "")
            for name, columns in sorted(privileges.items())
        )

    @property
    def target(self) -> str:
        """The scope as MySQL writes it."""
        if self.scope.pattern == "*":
            return "*.*"
        table = quote_identifier(self.scope.table) if self.scope.table else "*"
        return f"{quote_identifier(self.scope.pattern)}.{table}"


@dataclass(frozen=True, kw_only=True)
class GrantPrivileges(_Privileges):
    """Give privileges."""

    def _tell(self) -> Told:
        return Told(self.holder, "", self.text, Risk.WIDENS, Phase.WIDEN)

    def operations(self) -> tuple[Operation, ...]:
        """Return one GRANT."""
        plain = {name: columns for name, columns in self.privileges.items() if name != "GRANT OPTION"}
        option = " WITH GRANT OPTION" if "GRANT OPTION" in self.privileges else ""
        text = self._listed(plain) or "USAGE"
        return (Sql((f"GRANT {text} ON {self.target} TO {_quoted(self.grantee)}{option}",)),)

    def reverse(self) -> Change:
        """Return the revocation."""
        return RevokePrivileges(
            grantee=self.grantee,
            scope=self.scope,
            privileges=self.privileges,
            meaning=self.meaning,
            why=self.why,
        )


@dataclass(frozen=True, kw_only=True)
class RevokePrivileges(_Privileges):
    """Take privileges away, in the spelling in which they are stored."""

    def _tell(self) -> Told:
        return Told(self.holder, self.text, "", Risk.NARROWS, Phase.NARROW)

    def operations(self) -> tuple[Operation, ...]:
        """Return one REVOKE."""
        return (Sql((f"REVOKE {self.text} ON {self.target} FROM {_quoted(self.grantee)}",)),)

    def reverse(self) -> Change:
        """Return the grant."""
        return GrantPrivileges(
            grantee=self.grantee,
            scope=self.scope,
            privileges=self.privileges,
            meaning=self.meaning,
            why=self.why,
        )


@dataclass(frozen=True, kw_only=True)
class RevokeAll(MysqlChange):
    """Take away everything that a grantee holds directly, roles excepted, in one atomic statement.

    It takes the right to make accounts and nothing else, so that it also reaches what djops' own account
    could not revoke singly: server-wide privileges, other schemas, patterns, routines (seen on MySQL 9.7).
    All grantees of a plan lose it in the same statement: of two rows that match one schema, one hides the
    other, and which one hangs on the session (docs/mysql-grants.md), so that no order of them is safe.
    """

    grantee: AccountId
    found: Mapping[Scope, frozenset[str]]

    def _tell(self) -> Told:
        rows = (f"{', '.join(sorted(names))} on {scope}" for scope, names in sorted(self.found.items()))
        return Told(f"{self.grantee}", f"{'; '.join(rows)}", "", Risk.NARROWS, Phase.NARROW)

    def operations(self) -> tuple[Operation, ...]:
        """Return one REVOKE."""
        frame = ("REVOKE ALL PRIVILEGES, GRANT OPTION FROM ", "")
        return (Sql((_quoted(self.grantee),), frame=frame, whole=True),)

    def reverse(self) -> Change:
        """Return itself: djops may not give back what it may not revoke singly."""
        return self


@dataclass(frozen=True, kw_only=True)
class _Membership(MysqlChange):
    """A role and members that get or lose it in one atomic statement.

    Attributes:
        role: The role.
        members: Accounts or roles.
        admin: Whether the members may pass it on.
        inner: Whether the members are roles themselves.
    """

    role: AccountId
    members: tuple[AccountId, ...]
    admin: bool = False
    inner: bool = False

    @property
    def holder(self) -> str:
        """The members."""
        return ", ".join(str(member) for member in self.members)

    @property
    def text(self) -> str:
        """The role, and whether it may be passed on."""
        return f"role {self.role}" + (", may pass it on" if self.admin else "")


@dataclass(frozen=True, kw_only=True)
class GrantRole(_Membership):
    """Give a role."""

    def _tell(self) -> Told:
        return Told(self.holder, "", self.text, Risk.WIDENS, Phase.JOIN)

    def operations(self) -> tuple[Operation, ...]:
        """Return one GRANT."""
        option = " WITH ADMIN OPTION" if self.admin else ""
        return (Sql((f"GRANT {_quoted(self.role)} TO {_joined(self.members)}{option}",)),)

    def reverse(self) -> Change:
        """Return the revocation."""
        return RevokeRole(
            role=self.role, members=self.members, admin=self.admin, inner=self.inner, why=self.why
        )


@dataclass(frozen=True, kw_only=True)
class RevokeRole(_Membership):
    """Take a role away."""

    def _tell(self) -> Told:
        return Told(self.holder, self.text, "", Risk.NARROWS, Phase.NARROW)

    def operations(self) -> tuple[Operation, ...]:
        """Return one REVOKE."""
        return (Sql((f"REVOKE {_quoted(self.role)} FROM {_joined(self.members)}",)),)

    def reverse(self) -> Change:
        """Return the grant."""
        return GrantRole(
            role=self.role, members=self.members, admin=self.admin, inner=self.inner, why=self.why
        )


@dataclass(frozen=True, kw_only=True)
class SetDefaultRoles(MysqlChange):
    """Say which roles are active from log-in; the DataJoint client never asks for any itself.

    For everybody who goes from the same roles to the same in one atomic statement: where one of the roles
    is not granted to one of the accounts, nobody's are changed (seen on MySQL 9.7).
    """

    members: tuple[AccountId, ...]
    found: tuple[AccountId, ...]
    wanted: tuple[AccountId, ...]

    def _tell(self) -> Told:
        return Told(
            f"roles active at log-in of {', '.join(str(member) for member in self.members)}",
            ", ".join(str(role) for role in self.found),
            ", ".join(str(role) for role in self.wanted) or "none",
            Risk.WIDENS if set(self.wanted) - set(self.found) else Risk.NARROWS,
            Phase.ACTIVATE,
        )

    def operations(self) -> tuple[Operation, ...]:
        """Return one SET DEFAULT ROLE."""
        roles = _joined(self.wanted) if self.wanted else "NONE"
        return (Sql((f"SET DEFAULT ROLE {roles} TO {_joined(self.members)}",)),)

    def reverse(self) -> Change:
        """Return the opposite."""
        return SetDefaultRoles(members=self.members, found=self.wanted, wanted=self.found, why=self.why)


@dataclass(frozen=True, kw_only=True)
class ScheduleEvent(MysqlChange):
    """Have the server itself end a grant, for the case that nobody runs djops in time.

    An event that was missed while the server was down, or its scheduler off, is carried out when it is
    back (seen on MySQL 9.7).
    """

    name: str
    event: Event

    def _tell(self) -> Told:
        return Told(f"event {self.name}", "", self.event.about, Risk.KEEPS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        """Return one CREATE EVENT, its time told in UTC."""
        at, about = quote_string(self.event.at), quote_string(self.event.about[:_COMMENT])
        head = f"CREATE EVENT IF NOT EXISTS {event_name(self.name)} ON SCHEDULE AT {at}"
        tail = f"ON COMPLETION NOT PRESERVE COMMENT {about} DO {self.event.body}"
        return (Sql(("SET time_zone = '+00:00'",)), Sql((f"{head} {tail}",)))

    def reverse(self) -> Change:
        """Return the cancellation."""
        return CancelEvent(name=self.name, event=self.event, why=self.why)


@dataclass(frozen=True, kw_only=True)
class CancelEvent(MysqlChange):
    """Have the server no longer end a grant."""

    name: str
    event: Event

    def _tell(self) -> Told:
        return Told(f"event {self.name}", self.event.about or "there", "", Risk.KEEPS, Phase.NARROW)

    def operations(self) -> tuple[Operation, ...]:
        """Return one DROP EVENT."""
        return (Sql((f"DROP EVENT IF EXISTS {event_name(self.name)}",)),)

    def reverse(self) -> Change:
        """Return the schedule."""
        return ScheduleEvent(name=self.name, event=self.event, why=self.why)


def event_name(name: str) -> str:
    """Return an event's full name as SQL has it."""
    return f"{quote_identifier(EVENT_SCHEMA)}.{quote_identifier(name)}"


@dataclass(frozen=True, kw_only=True)
class EndSessions(MysqlChange):
    """End open sessions of accounts that lost a right.

    A session that did ``USE schema`` keeps its old privileges there until its next ``USE``, and DROP
    USER leaves sessions open (seen on MySQL 9.7).
    """

    members: tuple[AccountId, ...]

    def _tell(self) -> Told:
        return Told(
            f"open sessions of {', '.join(str(member) for member in self.members)}",
            "may still use what is taken away",
            "ended",
            Risk.NARROWS,
            Phase.END_SESSIONS,
        )

    def operations(self) -> tuple[Operation, ...]:
        """Return one end for each account."""
        return tuple(EndSession(member.user) for member in self.members)

    def as_data(self) -> Mapping[str, Any]:
        """Return the change for JSON, with the members by name: the next run ends what this one did not."""
        return {**super().as_data(), "members": [list(member) for member in self.members]}

    def reverse(self) -> Change:
        """Return itself: an ended session cannot be had back."""
        return self
