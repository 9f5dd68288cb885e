"""What on a MySQL server is dangerous, or does not mean what it seems to, whoever made it.

A trap need not be a fault: an administrator has GRANT OPTION for good reason. Whoever asks knows which
accounts are meant to be so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from djops.compile.mysql_state import AccountId, Login, MysqlCatalog
from djops.compile.sql import unescape_pattern
from djops.proof.mysql_matching import opens
from djops.proof.mysql_session import SCHEMA_PRIVILEGES, Row, Rows, Session
from djops.proof.mysql_texts import name_of, quote, text_of

_STATIC = SCHEMA_PRIVILEGES | {
    "RELOAD",
    "SHUTDOWN",
    "PROCESS",
    "FILE",
    "SHOW DATABASES",
    "SUPER",
    "REPLICATION SLAVE",
    "REPLICATION CLIENT",
    "CREATE USER",
    "CREATE TABLESPACE",
    "CREATE ROLE",
    "DROP ROLE",
}
_OLD_PLUGINS = ("mysql_native_password", "sha256_password")
_SERVERS_OWN = ("mysql.infoschema", "mysql.session", "mysql.sys")
_SYSTEM_SCHEMAS = ("mysql", "sys", "performance_schema", "information_schema")


class Trap(NamedTuple):
    """Something dangerous or surprising.

    Attributes:
        kind: Its stable name, such as ``anonymous-account``.
        account: The account or role concerned; ``None`` for the server's settings.
        text: What it is and what it does.
        schemas: The schemas concerned.
    """

    kind: str
    account: AccountId | None
    text: str
    schemas: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Server:
    """What the traps are looked for in.

    Attributes:
        catalog: The server's tables.
        rows: Its grants.
        sessions: What each account that can log in holds.
    """

    catalog: MysqlCatalog
    rows: Rows
    sessions: Mapping[AccountId, Session]

    def on_schemas(self) -> Iterator[Row]:
        """Yield all grants on schemas."""
        for rows in self.rows.schemas.values():
            yield from rows

    def opened(self, pattern: str) -> list[str]:
        """Return the schemas that exist and a pattern matches."""
        if self.catalog.partial_revokes:
            return [pattern] if pattern in self.catalog.schemas else []
        return sorted(schema for schema in self.catalog.schemas if opens(pattern, schema))

    def meant(self, pattern: str) -> str | None:
        """Return the one schema that a pattern can match, ``None`` when it has live wildcards."""
        return unescape_pattern(pattern, escape=not self.catalog.partial_revokes)

    def login(self, account: AccountId) -> Login:
        """Return how an account is let in."""
        return self.catalog.logins.get(account, Login())


def find_traps(catalog: MysqlCatalog, rows: Rows, sessions: Mapping[AccountId, Session]) -> list[Trap]:
    """Look for everything that is dangerous or surprising.

    Args:
        catalog: The server's tables.
        rows: Its grants.
        sessions: What each account that can log in holds.

    Returns:
        The traps, those of one kind together.
    """
    server = _Server(catalog, rows, sessions)
    found = [trap for look in _LOOKS for trap in look(server)]
    return [trap for trap in found if trap.account is None or trap.account.user not in _SERVERS_OWN]


def _anonymous(server: _Server) -> Iterator[Trap]:
    for account in server.catalog.accounts:
        if not account.user:
            text = f"whoever comes from {account.host or '%'} with a name that no account fits is let in"
            yield Trap("anonymous-account", account, text)
            if server.rows.schemas.get(account):
                text = "its rights on schemas are also everybody's who has no active role"
                yield Trap("anonymous-rights", account, text)


def _settings(server: _Server) -> Iterator[Trap]:
    catalog = server.catalog
    for role in catalog.mandatory_roles:
        there = "" if role in catalog.accounts else "; it does not exist"
        yield Trap("mandatory-role", role, f"every session has the role {name_of(role)}{there}")
    if catalog.activate_all_roles:
        text = "every role that is granted is active from log-in, default or not"
        yield Trap("all-roles-active", None, text)
    if catalog.partial_revokes:
        text = "partial_revokes is on: wildcards and escapes in grants are plain characters"
        yield Trap("partial-revokes", None, text)


def _everywhere(server: _Server) -> Iterator[Trap]:
    for account, names in sorted(server.rows.everywhere.items()):
        static, dynamic = names & _STATIC, names - _STATIC
        if static:
            yield Trap("global-grant", account, f"{_list(static)} on *.*")
        if "SYSTEM_USER" in dynamic:
            text = "SYSTEM_USER: only accounts that have it too can change this one, or end its sessions"
            yield Trap("system-user", account, text)
        if dynamic - {"SYSTEM_USER"}:
            yield Trap("dynamic-privilege", account, f"{_list(dynamic - {'SYSTEM_USER'})} on *.*")
    for account, schemas in sorted(server.catalog.restrictions.items()):
        for schema, names in sorted(schemas.items()):
            text = f"{_list(names)} on *.*, less {quote(schema)}.*: a partial revoke"
            yield Trap("partial-revoke", account, text, (schema,))


def _patterns(server: _Server) -> Iterator[Trap]:
    for row in server.on_schemas():
        opened = server.opened(row.schema)
        system = [schema for schema in opened if schema in _SYSTEM_SCHEMAS]
        if server.meant(row.schema) is None:
            kind = "wildcard" if len(opened) > 1 else "loose-pattern"
            reach = ", ".join(opened) if opened else "no schema yet"
            text = f"{_words(row)} has live wildcards and opens {reach}"
            yield Trap(kind, row.grantee, text, tuple(opened))
        if system:
            text = f"{_words(row)} opens the server's own schemas"
            yield Trap("system-schema", row.grantee, text, tuple(system))


def _passing_on(server: _Server) -> Iterator[Trap]:
    rows = [*server.on_schemas(), *(row for rows in server.rows.tables.values() for row in rows)]
    for row in rows:
        if "GRANT OPTION" in row.names:
            yield Trap("grant-option", row.grantee, f"may pass on {_words(row)}", (row.schema,))
    for account, names in server.rows.everywhere.items():
        if "GRANT OPTION" in names:
            yield Trap("grant-option", account, "may pass on what it has on any schema")
    for account, privilege in sorted(server.catalog.passed_on):
        yield Trap("grant-option", account, f"may pass on {privilege}")
    for edge, admin in sorted(server.catalog.edges.items()):
        if admin:
            yield Trap("admin-option", edge.member, f"may pass on the role {name_of(edge.role)}")


def _log_ins(server: _Server) -> Iterator[Trap]:
    catalog = server.catalog
    for account in server.sessions:
        login = server.login(account)
        if not login.tls:
            also = "; the server asks for it" if catalog.require_tls else ""
            yield Trap("no-tls", account, f"its connections need no TLS{also}")
        if login.plugin in _OLD_PLUGINS:
            yield Trap("old-plugin", account, f"logs in with {login.plugin}")
    for edge in sorted(catalog.edges):
        if edge.role in server.sessions:
            text = f"has the rights of the account {name_of(edge.role)}, granted as a role"
            yield Trap("account-as-role", edge.member, text)
        elif edge.member in server.sessions and edge.role not in server.sessions[edge.member].paths:
            text = f"the role {name_of(edge.role)} is granted, and not active after log-in"
            yield Trap("inactive-role", edge.member, text)
    for proxy in sorted(catalog.proxies or ()):
        yield Trap("proxy", proxy.account, f"may act as {name_of(proxy.proxied)}")


def _namesakes(server: _Server) -> Iterator[Trap]:
    hosts: dict[str, list[AccountId]] = {}
    for account in server.catalog.accounts:
        hosts.setdefault(account.user, []).append(account)
    for user, accounts in sorted(hosts.items()):
        if user and len(accounts) > 1:
            text = "one name, several accounts: where a session comes from decides which one it gets, and "
            text += "without an active role it has rows of the others as well"
            yield Trap("namesakes", accounts[0], f"{', '.join(name_of(one) for one in accounts)}: {text}")


def _rows_that_do_not_count(server: _Server) -> Iterator[Trap]:
    for account, session in server.sessions.items():
        for schema in sorted(server.catalog.schemas - set(_SYSTEM_SCHEMAS)):
            counted = session.on_schema(schema)
            if not counted.certain:
                rows = " or ".join(text_of(row, session) for row in counted.rows)
                text = f"which row counts on {quote(schema)} hangs on the server's memory: {rows}"
                yield Trap("undefined-order", account, text, (schema,))
            for row in counted.hidden:
                first = text_of(counted.rows[0], session)
                text = (
                    f"{text_of(row, session)} does not count on {quote(schema)}: the server goes by {first}"
                )
                yield Trap("hidden-row", account, text, (schema,))


def _gone(server: _Server) -> Iterator[Trap]:
    """Yield grants on what does not exist, where the reading account sees enough to tell."""
    catalog = server.catalog
    me = catalog.read_by
    mine = server.rows.everywhere.get(me, frozenset()) if me else frozenset[str]()
    sees_schemas = bool(mine & {"SHOW DATABASES", "SELECT"})
    for row in server.on_schemas():
        schema = server.meant(row.schema)
        if sees_schemas and schema is not None and schema not in catalog.schemas:
            text = f"{_words(row)}: there is no such schema; whoever makes one opens it to this account"
            yield Trap("missing-schema", row.grantee, text, (schema,))
    visible = _visible(server)
    for (grantee, schema, table), rows in server.rows.tables.items():
        if sees_schemas and schema not in catalog.schemas:
            what = "schema"
        elif schema in visible and (schema, table) not in catalog.tables:
            what = "table"
        else:
            continue
        for row in rows:
            yield Trap(f"missing-{what}", grantee, f"{_words(row)}: there is no such {what}", (schema,))


def _visible(server: _Server) -> frozenset[str]:
    """Return the schemas whose tables the account that read the catalog all sees."""
    me = server.catalog.read_by
    session = server.sessions.get(me) if me else None
    if session is None:
        return frozenset()
    if any("SELECT" in names for names in session.on_server().values()):
        return server.catalog.schemas
    return frozenset(schema for schema in server.catalog.schemas if session.on_schema(schema).rows)


def _routines(server: _Server) -> Iterator[Trap]:
    for routine, names in sorted(server.catalog.routines.items()):
        name = f"{quote(routine.schema)}.{quote(routine.name)}"
        text = f"{_list(names)} on {routine.kind.lower()} {name}, which may run with its owner's rights"
        yield Trap("routine-grant", routine.grantee, text, (routine.schema,))


_LOOKS: Sequence[Callable[[_Server], Iterator[Trap]]] = (
    _anonymous,
    _settings,
    _everywhere,
    _patterns,
    _passing_on,
    _log_ins,
    _namesakes,
    _rows_that_do_not_count,
    _gone,
    _routines,
)


def _words(row: Row) -> str:
    names = _list(row.names) + (f" ({quote(row.column)})" if row.column else "")
    return f"{names} on {quote(row.schema)}.{quote(row.table) if row.table else '*'}"


def _list(names: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(names))
