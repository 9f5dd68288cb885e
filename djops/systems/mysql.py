"""The MySQL server: reading what it holds about access, and sending it statements.

Whatever the number of people, the state takes a constant number of queries, all on the grant tables;
``SHOW GRANTS`` would take one for each account and would not show what mandatory roles add.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pymysql
import pymysql.cursors
from pymysql.constants import CR, ER

from djops.compile.machines import LEASES, SWEEP
from djops.compile.mysql import Inventory
from djops.compile.mysql_manager import (
    END_SESSION,
    EVENT_SCHEMA,
    GLOBAL_COLUMNS,
    PRIVILEGE_COLUMNS,
    USER_COLUMNS,
    grant_tables,
    missing_grants,
)
from djops.compile.mysql_state import (
    Account,
    AccountId,
    Edge,
    Event,
    Held,
    Lease,
    MysqlCatalog,
    MysqlState,
    Scope,
)
from djops.compile.sql import quote_account
from djops.errors import AccessDeniedError, ApplyError, DjopsError, LockedError, ServerUnavailableError
from djops.model.graph import PipelineGraph, TableName
from djops.plan.operations import SecretRef, Sql
from djops.systems.connections import MysqlConnection
from djops.systems.mysql_catalog import read_catalog, read_routines
from djops.systems.tls_errors import tls_error

CONNECT_SECONDS = 10
ANSWER_SECONDS = 120
"""How long one statement may take: a server that accepts and never answers must not hang djops."""

_ATTEMPTS = 10

SQL_MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"
"""No NO_BACKSLASH_ESCAPES and no ANSI_QUOTES: :mod:`djops.compile.sql` quotes for exactly this."""

# Of User_attributes only what is needed: it also holds the hash of a second password.
_LOGIN_COLUMNS = (
    "account_locked",
    "ssl_type",
    "plugin",
    "max_user_connections",
    "password_expired",
    "UNIX_TIMESTAMP(password_last_changed)",
    "JSON_CONTAINS_PATH(User_attributes, 'one', '$.additional_password')",
    "JSON_EXTRACT(User_attributes, '$.metadata.djops')",
)
"""What is read of ``mysql.user`` for :func:`_account`, in the order of its arguments."""

_UNREACHABLE = {2002, 2003, 2005, 2006, 2013, 2026, 1053, 1152, 1184}
"""Client and server error numbers that mean the connection, not the statement (MySQL error reference)."""


_DENIED = {
    ER.DBACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
}


class Mysql:
    """One connection to a MySQL server, which threads may share: one statement goes after the other.

    Args:
        connection: Where it is, and as whom.
        answer_seconds: How long one statement may take.
    """

    def __init__(self, connection: MysqlConnection, answer_seconds: int = ANSWER_SECONDS) -> None:
        self.connection = connection
        self._answer_seconds = answer_seconds
        self.where = f"mysql {connection.host}:{connection.port}"
        self._link: pymysql.Connection[pymysql.cursors.Cursor] | None = None
        self._turn = threading.RLock()

    def __enter__(self) -> Mysql:
        self._connected()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; it opens again when needed."""
        if self._link is not None and self._link.open:
            self._link.close()
        self._link = None

    def _connected(self) -> pymysql.Connection[pymysql.cursors.Cursor]:
        if self._link is None:
            wanted = self.connection
            if wanted.no_way is not None:
                raise wanted.no_way
            authority = ssl.create_default_context(cafile=str(wanted.ca) if wanted.ca else None)
            try:
                link = pymysql.connect(
                    host=wanted.host,
                    port=wanted.port,
                    user=wanted.user,
                    password=wanted.password.reveal(),
                    ssl=authority,
                    charset="utf8mb4",
                    autocommit=True,
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=self._answer_seconds,
                    write_timeout=self._answer_seconds,
                    sql_mode=SQL_MODE,
                    defer_connect=True,
                )
                # The certificate is the server's, wherever a tunnel to it begins.
                way = wanted.through and socket.create_connection(wanted.through, CONNECT_SECONDS)
                link.connect(way or None)
                self._link = link
            except (pymysql.MySQLError, OSError) as error:
                raise self._translated(error) from None
        return self._link

    def query(self, text: str, values: Sequence[Any] = ()) -> tuple[tuple[Any, ...], ...]:
        """Run one statement and return its rows.

        Args:
            text: The statement; ``%s`` stands for each value.
            values: The values.

        Returns:
            The rows, empty when it returns none.

        Raises:
            ServerUnavailableError: ``E_SERVER`` when the server cannot be reached or went away.
            AccessDeniedError: ``E_DENIED`` when it refuses.
            ApplyError: ``E_APPLY`` for anything else it says no to.
        """
        try:
            with self._turn, self._connected().cursor() as cursor:
                cursor.execute(text, tuple(values) or None)
                return tuple(cursor.fetchall() or ())
        except (pymysql.MySQLError, OSError) as error:
            raise self._translated(error) from None

    def run(self, operation: Sql, reveal: Callable[[SecretRef], str]) -> None:
        """Send one statement of a change.

        Args:
            operation: The statement.
            reveal: Looks up the secrets in it.

        Raises:
            ServerUnavailableError: The server went away; whether the statement was carried out is unknown.
            AccessDeniedError: djops' own account lacks a privilege.
            ApplyError: The server refused the statement.
        """
        try:
            self.query(operation.render(reveal))
        except ApplyError as error:
            if operation.instead is None or f"error {operation.instead[0]}:" not in error.message:
                raise
            self.run(operation.instead[1], reveal)

    def _translated(self, error: Exception) -> DjopsError:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        text = str(error.args[1]) if len(error.args) > 1 else str(error)
        untrusted = tls_error(error, "MySQL", self.where, self.connection.ca)
        if untrusted is not None or number == CR.CR_SSL_CONNECTION_ERROR:
            return untrusted or ServerUnavailableError(
                "MySQL there does not offer TLS, and djops sends no password without it",
                where=self.where,
                code="E_TLS",
                hint="have its administrator switch TLS on (`ssl_cert`, `ssl_key`), or check host and port",
            )
        if isinstance(error, OSError) or number in _UNREACHABLE or isinstance(error, pymysql.InterfaceError):
            self._link = None
            return ServerUnavailableError(
                f"MySQL does not answer: {text}",
                where=self.where,
                hint="look at `djops status`; the same command goes on once the server is back",
            )
        if number == ER.ACCESS_DENIED_ERROR:
            return AccessDeniedError(
                f"MySQL refused the log-in of {self.connection.user!r}",
                where=self.where,
                hint="check the administrator's password, and that the account may come from this machine",
            )
        if number in _DENIED:
            return AccessDeniedError(
                f"MySQL refused djops: {text}", where=self.where, hint="give its account this right"
            )
        return ApplyError(f"MySQL error {number}: {text}", where=self.where)

    def take_over(self, name: str) -> None:
        """Take a lock that only a connection can still hold whose program is gone, and end that connection.

        Args:
            name: Name of the lock, up to 64 characters.

        Raises:
            LockedError: ``E_LOCKED`` when the server does not end it in time.
        """
        for _ in range(_ATTEMPTS):
            if self.query("SELECT GET_LOCK(%s, 1)", (name,))[0][0] == 1:
                return
            holder = self.query("SELECT IS_USED_LOCK(%s)", (name,))[0][0]
            if holder is not None:
                self.end_session(int(holder))
        raise LockedError("a statement of an earlier djops does not end", where=self.where, hint="try again")

    def end_session(self, session: int) -> None:
        """End a session; nothing happens when it has ended already.

        Args:
            session: Its number.
        """
        try:
            self._kill(f"KILL {session}")
        except ApplyError as error:
            # RDS' administrators cannot give the right to end others' sessions, only a procedure.
            if f"error {ER.KILL_DENIED_ERROR}" not in error.message or not self.ends_by_procedure():
                raise
            self._kill(f"CALL {END_SESSION}({session})")

    def _kill(self, statement: str) -> None:
        try:
            self.query(statement)
        except ApplyError as error:
            if f"error {ER.NO_SUCH_THREAD}" not in error.message:
                raise

    def ends_by_procedure(self) -> bool:
        """Tell whether the account may call the procedure with which RDS ends sessions."""
        schema, _, name = END_SESSION.partition(".")
        asked = "SELECT 1 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = %s AND ROUTINE_NAME = %s"
        return bool(self.query(asked, (schema, name)))

    def end_sessions(self, user: str) -> int:
        """End every open session of an account.

        Args:
            user: The account's user name.

        Returns:
            How many were ended.
        """
        rows = self.query("SELECT id FROM information_schema.processlist WHERE user = %s", (user,))
        for (session,) in rows:
            self.end_session(int(session))
        return len(rows)

    def connected(self, accounts: Collection[AccountId]) -> tuple[AccountId, ...]:
        """Return those of some accounts whose user has a session.

        Args:
            accounts: The accounts.
        """
        if not accounts:
            return ()
        names = sorted({account.user for account in accounts})
        marks = ", ".join(["%s"] * len(names))
        asked = f"SELECT DISTINCT user FROM information_schema.processlist WHERE user IN ({marks})"
        users = {user for (user,) in self.query(asked, names)}
        return tuple(sorted(account for account in accounts if account.user in users))

    def read_state(self) -> MysqlState:
        """Read accounts, privileges and memberships of the whole server, in ten queries."""
        accounts = dict(self._accounts())
        privileges: dict[Held, set[str]] = {}
        for held, names in self._privileges():
            privileges.setdefault(held, set()).update(names)
        edges = {
            Edge(AccountId(role, role_host), AccountId(user, host)): admin == "Y"
            for role, role_host, user, host, admin in self.query(
                "SELECT FROM_USER, FROM_HOST, TO_USER, TO_HOST, WITH_ADMIN_OPTION FROM mysql.role_edges"
            )
        }
        defaults = frozenset(
            Edge(AccountId(role, role_host), AccountId(user, host))
            for role, role_host, user, host in self.query(
                "SELECT DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST, USER, HOST FROM mysql.default_roles"
            )
        )
        held_by = {held: frozenset(names) for held, names in privileges.items()}
        events = self._events(held_by)
        leases = self._leases() if any(one.kind == "lease" for one in accounts.values()) else {}
        return MysqlState(accounts, held_by, edges, defaults, dict(read_routines(self)), events, leases)

    def _leases(self) -> dict[AccountId, Lease]:
        """Read what is noted of accounts that the secrets server made."""
        try:
            rows = self.query(
                f"SELECT user, host, project, service, ends < UTC_TIMESTAMP() FROM {EVENT_SCHEMA}.{LEASES}"
            )
        except (AccessDeniedError, ApplyError):
            return {}
        return {
            AccountId(user, host): Lease(project, service, bool(over))
            for user, host, project, service, over in rows
        }

    def procedures(self) -> dict[str, str]:
        """Return the bodies of the stored procedures in djops' schema that its account may see, by name."""
        rows = self.query(
            "SELECT ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES "
            "WHERE ROUTINE_SCHEMA = %s AND DEFINER = CURRENT_USER() AND SECURITY_TYPE = 'DEFINER'",
            (EVENT_SCHEMA,),
        )
        return {str(name): str(body or "") for name, body in rows}

    def _events(self, privileges: Mapping[Held, frozenset[str]]) -> Mapping[str, Event] | None:
        """Read the events in djops' own schema, or ``None`` where it can keep none."""
        version, scheduler, me, there = self.query(
            "SELECT @@version, @@event_scheduler, CURRENT_USER(), (SELECT COUNT(*) FROM "
            "information_schema.SCHEMATA WHERE SCHEMA_NAME = %s)",
            (EVENT_SCHEMA,),
        )[0]
        account = AccountId(*me.rsplit("@", 1))
        may = any(
            "EVENT" in privileges.get(Held(account, scope), ()) for scope in (Scope(EVENT_SCHEMA), Scope("*"))
        )
        if not (may and there) or scheduler != "ON" or not _knows_revoke_if_exists(version):
            return None
        return {
            name: Event(
                f"{at}" if zone == "+00:00" else f"{at} {zone}",
                body,
                status == "ENABLED",
                about,
                definer != me,
            )
            for name, body, at, zone, status, definer, about in self.query(
                "SELECT EVENT_NAME, EVENT_DEFINITION, EXECUTE_AT, TIME_ZONE, STATUS, DEFINER, EVENT_COMMENT "
                "FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %s",
                (EVENT_SCHEMA,),
            )
            if (name, definer) != (SWEEP, me)
        }

    def read_catalog(self) -> MysqlCatalog:
        """Read all that the server says about access, of every account, in sixteen queries."""
        return read_catalog(self)

    def _accounts(self) -> Iterator[tuple[AccountId, Account]]:
        self._globals: list[tuple[AccountId, frozenset[str]]] = []
        logins, width = ", ".join(_LOGIN_COLUMNS), len(_LOGIN_COLUMNS)
        columns = f"{logins}, {', '.join(GLOBAL_COLUMNS)}"
        for user, host, *row in self.query(f"SELECT User, Host, {columns} FROM mysql.user"):
            name, flags = AccountId(user, host), row[width:]
            held = frozenset(p for p, flag in zip(GLOBAL_COLUMNS.values(), flags, strict=True) if flag == "Y")
            self._globals.append((name, held))
            yield name, _account(*row[:width])

    def _privileges(self) -> Iterator[tuple[Held, frozenset[str]]]:
        for name, names in self._globals:
            if names:
                yield Held(name, Scope("*")), names
        for user, host, privilege in self.query("SELECT USER, HOST, PRIV FROM mysql.global_grants"):
            yield Held(AccountId(user, host), Scope("*")), frozenset({privilege})
        columns = ", ".join(PRIVILEGE_COLUMNS)
        for user, host, pattern, *flags in self.query(f"SELECT User, Host, Db, {columns} FROM mysql.db"):
            names = frozenset(
                p for p, flag in zip(PRIVILEGE_COLUMNS.values(), flags, strict=True) if flag == "Y"
            )
            yield Held(AccountId(user, host), Scope(pattern)), names
        for user, host, schema, table, names in self.query(
            "SELECT User, Host, Db, Table_name, Table_priv FROM mysql.tables_priv"
        ):
            yield Held(AccountId(user, host), Scope(schema, table)), _set_of(names)
        for user, host, schema, table, column, names in self.query(
            "SELECT User, Host, Db, Table_name, Column_name, Column_priv FROM mysql.columns_priv"
        ):
            yield Held(AccountId(user, host), Scope(schema, table, column)), _set_of(names)

    def escapes_patterns(self) -> bool:
        """Tell whether ``_`` and ``%`` in grant patterns are wildcards that must be escaped."""
        return not self.query("SELECT @@partial_revokes")[0][0]

    def read_inventory(self, schemas: Iterable[str]) -> Inventory:
        """Read which tables exist, in four queries.

        Args:
            schemas: The pipeline's schemas.

        Returns:
            Their tables, hidden job columns and first key columns, and how grant patterns are to be written.
        """
        wanted = sorted(schemas)
        tables: list[TableName] = []
        columns: dict[TableName, list[str]] = {}
        first_keys: dict[TableName, str] = {}
        if wanted:
            marks = ", ".join(["%s"] * len(wanted))
            rows = self.query(
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES "
                f"WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA IN ({marks})",
                wanted,
            )
            tables = [TableName(*row) for row in rows]
            for schema, table, column in self.query(
                "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS "
                f"WHERE COLUMN_NAME LIKE '\\_job\\_%%' AND TABLE_SCHEMA IN ({marks})",
                wanted,
            ):
                columns.setdefault(TableName(schema, table), []).append(column)
            first_keys = {
                TableName(schema, table): column
                for schema, table, column in self.query(
                    "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS "
                    f"WHERE INDEX_NAME = 'PRIMARY' AND SEQ_IN_INDEX = 1 AND TABLE_SCHEMA IN ({marks})",
                    wanted,
                )
            }
        job_columns = {table: tuple(sorted(names)) for table, names in columns.items()}
        return Inventory(frozenset(tables), job_columns, first_keys, escape=self.escapes_patterns())

    def read_graph(self, schemas: Iterable[str]) -> PipelineGraph:
        """Read the pipeline as the database has it, without its inventory: see :meth:`read_pipeline`."""
        return self.read_pipeline(schemas)[0]

    def read_pipeline(self, schemas: Iterable[str]) -> tuple[PipelineGraph, Inventory]:
        """Read the pipeline as the database has it: tables, job columns and foreign keys, in six queries.

        Args:
            schemas: The pipeline's schemas.

        Returns:
            The graph of those of them that exist, and the inventory that grants are compiled for.
        """
        wanted = sorted(schemas)
        inventory = self.read_inventory(wanted)
        if not wanted:
            return PipelineGraph(), inventory
        marks = ", ".join(["%s"] * len(wanted))
        present = self.query(
            f"SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ({marks})", wanted
        )
        references: dict[TableName, set[TableName]] = {}
        for schema, table, parent_schema, parent in self.query(
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME "
            f"FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA IN ({marks})",
            wanted,
        ):
            references.setdefault(TableName(schema, table), set()).add(TableName(parent_schema, parent))
        graph = PipelineGraph(
            schemas=frozenset(row[0] for row in present),
            tables=inventory.tables,
            references={child: frozenset(above) for child, above in references.items()},
        )
        return graph, inventory

    def tables_below(self, stems: Collection[str]) -> Mapping[str, tuple[TableName, ...]]:
        """Read which schemas there are whose names begin so, and the tables of each, in one query.

        Args:
            stems: What names begin with.
        """
        found: dict[str, list[TableName]] = {}
        if not stems:
            return {}
        begins = " OR ".join(["LEFT(SCHEMA_NAME, CHAR_LENGTH(%s)) = BINARY %s"] * len(stems))
        for schema, table in self.query(
            "SELECT s.SCHEMA_NAME, t.TABLE_NAME FROM information_schema.SCHEMATA s "
            "LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.SCHEMA_NAME "
            f"AND t.TABLE_TYPE = 'BASE TABLE' WHERE {begins}",
            [value for stem in stems for value in (stem, stem)],
        ):
            tables = found.setdefault(schema, [])
            tables += [TableName(schema, table)] if table is not None else []
        return {schema: tuple(sorted(tables)) for schema, tables in found.items()}

    def keyed_by_parents(self, tables: Collection[TableName]) -> tuple[TableName, ...]:
        """Tell which tables have a part of their primary key from a parent, as job tables need it.

        Args:
            tables: Tables in question.

        Returns:
            Those of them, in the order given.
        """
        rows = self.query(
            "SELECT DISTINCT k.TABLE_SCHEMA, k.TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE k "
            "JOIN information_schema.KEY_COLUMN_USAGE p USING (TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME) "
            "WHERE p.CONSTRAINT_NAME = 'PRIMARY' AND k.REFERENCED_TABLE_NAME IS NOT NULL "
            f"AND k.TABLE_SCHEMA IN ({', '.join(['%s'] * len(tables))})",
            [table.schema for table in tables],
        )
        keyed = {TableName(*row) for row in rows}
        return tuple(table for table in tables if table in keyed)

    def password_changed(self, account: AccountId) -> str:
        """Return when an account's password was last changed, as :attr:`Account.password_changed` has it.

        Args:
            account: The account.
        """
        column = "UNIX_TIMESTAMP(password_last_changed)"
        rows = self.query(f"SELECT {column} FROM mysql.user WHERE User = %s AND Host = %s", account)
        return str(rows[0][0]) if rows and rows[0][0] is not None else ""

    def account(self) -> AccountId:
        """Return the account that the server took the log-in for."""
        user, _, host = str(self.query("SELECT CURRENT_USER()")[0][0]).rpartition("@")
        return AccountId(user, host)

    def lacking(self, schemas: Iterable[str]) -> tuple[str, ...]:
        """Tell what djops' own account lacks, also when it lacks the right to read who may do what.

        Args:
            schemas: The pipeline's schemas.

        Returns:
            The statements that a database administrator has to run; none when nothing lacks.

        Raises:
            DjopsError: As :meth:`query`.
        """
        account = self.account()
        reading = []
        for table, statement in grant_tables(quote_account(*account)).items():
            columns = ", ".join(USER_COLUMNS) if table == "user" else "1"
            try:
                self.query(f"SELECT {columns} FROM mysql.{table} LIMIT 0")
            except AccessDeniedError:
                reading.append(statement)
        state = self._own_state(account) if reading else self.read_state()
        escape, by_procedure = self.escapes_patterns(), self.ends_by_procedure()
        lacking = missing_grants(state, account, schemas, escape=escape, by_procedure=by_procedure)
        return (*reading, *lacking)

    def _own_state(self, account: AccountId) -> MysqlState:
        """Read what djops' own account holds, which takes no right; what its roles hold is not seen."""
        privileges: dict[Held, set[str]] = {}
        for scope, name, grantable in self.query(
            "SELECT '*', PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES "
            "WHERE GRANTEE = %s UNION ALL SELECT TABLE_SCHEMA, PRIVILEGE_TYPE, IS_GRANTABLE "
            "FROM information_schema.SCHEMA_PRIVILEGES WHERE GRANTEE = %s",
            (quote_account(*account),) * 2,
        ):
            held = privileges.setdefault(Held(account, Scope(scope)), set())
            held |= {name, "GRANT OPTION"} if grantable == "YES" else {name}
        return MysqlState(privileges={held: frozenset(names) for held, names in privileges.items()})

    def version(self) -> str:
        """Return the server's version text."""
        return str(self.query("SELECT @@version")[0][0])


def logs_in(connection: MysqlConnection) -> bool:
    """Tell whether a server lets an account in with its password.

    Args:
        connection: The server and the account.

    Raises:
        ServerUnavailableError: The server does not answer.
    """
    try:
        with Mysql(connection):
            return True
    except AccessDeniedError:
        return False


def _account(
    locked: str,
    tls: str,
    plugin: str,
    connections: int,
    expired: str,
    changed: object,
    second: object,
    text: str,
) -> Account:
    mark = _mark(text)
    kind = mark.get("kind")
    return Account(
        kind=kind if kind in ("role", "person", "service", "lease") else None,
        project=mark.get("project"),
        locked=locked == "Y",
        require_tls=bool(tls),
        certificate=tls in ("X509", "SPECIFIED"),
        plugin=plugin,
        connections=connections,
        password_changed="" if changed is None else str(changed),
        second_password=bool(second),
        expired=expired == "Y",
        adopted=bool(mark.get("adopted")),
        rotating=bool(mark.get("rotating")),
        engine=str(mark.get("engine") or ""),
    )


def _knows_revoke_if_exists(version: str) -> bool:
    """Tell whether a server knows ``REVOKE IF EXISTS``, which came with 8.0.30."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return numbers >= (8, 0, 30)


def _mark(text: str | None) -> dict[str, Any]:
    """Read the ownership mark of an account; anything odd is no mark."""
    try:
        mark = json.loads(text or "{}")
    except ValueError:
        return {}
    return mark if isinstance(mark, dict) else {}


def _set_of(names: str) -> frozenset[str]:
    """Turn a SET column such as ``Select,Grant,Create View`` into privilege names."""
    known = {"GRANT": "GRANT OPTION"}
    return frozenset(known.get(name.upper(), name.upper()) for name in names.split(",") if name)
