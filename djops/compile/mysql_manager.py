"""What djops itself may do on a MySQL server, and what of it an account lacks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from djops.compile.mysql_state import AccountId, MysqlState
from djops.compile.s3_manager import SCRATCH
from djops.compile.sql import quote_account, quote_identifier, schema_pattern, unescape_pattern

SERVER_PRIVILEGES = ("CREATE USER", "PROCESS", "SHOW DATABASES", "ROLE_ADMIN", "CONNECTION_ADMIN")
"""Making accounts, seeing their sessions, telling a grant on a schema from one on none, giving roles,
ending sessions."""

END_SESSIONS = "CONNECTION_ADMIN"
"""Which administrators of RDS cannot give (AWS' documentation of RDS for MySQL)."""

END_SESSION = "mysql.rds_kill"
"""The procedure that RDS has in its place."""

SCHEMA_PRIVILEGES = (
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "ALTER",
    "DROP",
    "INDEX",
    "REFERENCES",
)
"""On every schema of the pipeline, to be passed on."""

GRANT_TABLES = (
    "db",
    "tables_priv",
    "columns_priv",
    "procs_priv",
    "role_edges",
    "default_roles",
    "global_grants",
    "proxies_priv",
)
"""Tables of ``mysql`` that are read as a whole."""

PRIVILEGE_COLUMNS: Mapping[str, str] = {
    "Select_priv": "SELECT",
    "Insert_priv": "INSERT",
    "Update_priv": "UPDATE",
    "Delete_priv": "DELETE",
    "Create_priv": "CREATE",
    "Drop_priv": "DROP",
    "Grant_priv": "GRANT OPTION",
    "References_priv": "REFERENCES",
    "Index_priv": "INDEX",
    "Alter_priv": "ALTER",
    "Create_tmp_table_priv": "CREATE TEMPORARY TABLES",
    "Lock_tables_priv": "LOCK TABLES",
    "Create_view_priv": "CREATE VIEW",
    "Show_view_priv": "SHOW VIEW",
    "Create_routine_priv": "CREATE ROUTINE",
    "Alter_routine_priv": "ALTER ROUTINE",
    "Execute_priv": "EXECUTE",
    "Event_priv": "EVENT",
    "Trigger_priv": "TRIGGER",
}
"""Columns of ``mysql.db``, and of ``mysql.user`` where they are global."""

GLOBAL_COLUMNS: Mapping[str, str] = {
    **PRIVILEGE_COLUMNS,
    "Reload_priv": "RELOAD",
    "Shutdown_priv": "SHUTDOWN",
    "Process_priv": "PROCESS",
    "File_priv": "FILE",
    "Show_db_priv": "SHOW DATABASES",
    "Super_priv": "SUPER",
    "Repl_slave_priv": "REPLICATION SLAVE",
    "Repl_client_priv": "REPLICATION CLIENT",
    "Create_user_priv": "CREATE USER",
    "Create_tablespace_priv": "CREATE TABLESPACE",
    "Create_role_priv": "CREATE ROLE",
    "Drop_role_priv": "DROP ROLE",
}

USER_COLUMNS = (
    "User",
    "Host",
    "account_locked",
    "ssl_type",
    "plugin",
    "password_expired",
    "password_last_changed",
    "max_user_connections",
    "User_attributes",
    *GLOBAL_COLUMNS,
)
"""Columns of ``mysql.user`` that are read: everything but what is secret or of no interest."""

EVENT_SCHEMA = "djops"
"""A small schema for the journal, and for the events that end grants where nobody runs djops; optional.

EVENT on it is all that they need: they run as djops' own account, with what it has anyway. Without the
right to set another definer, to grant EVENT or to hold it elsewhere this opens nothing new (MySQL 9.7).
"""

JOURNAL_TABLE = "journal"
"""In :data:`EVENT_SCHEMA`: who changed what. djops' own account may read it and add rows, no more."""

JOURNAL_COLUMNS: Mapping[str, str] = {
    "project": "VARCHAR(64) NOT NULL",
    "seq": "BIGINT UNSIGNED NOT NULL",
    "environment": "VARCHAR(64) NOT NULL",
    "id": "CHAR(32) NOT NULL",
    "at": "DATETIME(6) NOT NULL",
    "who": "VARCHAR(255) NOT NULL",
    "host": "VARCHAR(255) NOT NULL",
    "command": "VARCHAR(255) NOT NULL",
    "event": "VARCHAR(16) NOT NULL",
    "run": "CHAR(32) NOT NULL",
    "changes": "MEDIUMTEXT NOT NULL",
    "plan": "CHAR(64) NOT NULL",
    "change": "MEDIUMTEXT NOT NULL",
    "detail": "MEDIUMTEXT NOT NULL",
    "reason": "TEXT NOT NULL",
    "previous": "CHAR(64) NOT NULL",
    "hash": "CHAR(64) NOT NULL",
}
"""Types by column; times are UTC. Text, not JSON: MySQL would write that anew, and the hash be wrong."""

SMOKE_PATTERN = SCRATCH.replace("_", r"\_") + "%"
"""Scratch schemas of ``djops smoke``, as a grant names them."""


def grant_tables(account: str) -> dict[str, str]:
    """Write the grants that let djops read who may do what.

    Args:
        account: The account djops works as, quoted.

    Returns:
        By table of the schema ``mysql``, the statement that opens it.
    """
    columns = ", ".join(quote_identifier(name) for name in USER_COLUMNS)
    return {
        **{table: f"GRANT SELECT ON mysql.{table} TO {account}" for table in GRANT_TABLES},
        # Never all of it: it holds the hashes of the passwords.
        "user": f"GRANT SELECT ({columns}) ON mysql.user TO {account}",
    }


def grant_server(account: str, privileges: Iterable[str] = SERVER_PRIVILEGES) -> str:
    """Write the grant of privileges on the server as a whole."""
    return f"GRANT {', '.join(privileges)} ON *.* TO {account}"


def grant_schemas(account: str, schemas: Iterable[str], *, escape: bool = True) -> tuple[str, ...]:
    """Write the grants of what djops passes on.

    Args:
        account: The account djops works as, quoted.
        schemas: The schemas; those of ``djops smoke`` are granted once for all.
        escape: Whether grant patterns take escapes.

    Returns:
        One statement for each schema.

    Raises:
        NameRefusedError: ``E_NAME`` for a name MySQL cannot hold.
    """
    patterns = (
        SMOKE_PATTERN if name.startswith(SCRATCH) and escape else schema_pattern(name, escape=escape)
        for name in sorted(schemas)
    )
    rights = ", ".join(SCHEMA_PRIVILEGES)
    return tuple(
        f"GRANT {rights} ON {quote_identifier(pattern)}.* TO {account} WITH GRANT OPTION"
        for pattern in dict.fromkeys(patterns)
    )


def grant_events(account: str) -> tuple[str, ...]:
    """Write what lets djops keep events.

    Args:
        account: The account djops works as, quoted.

    Returns:
        Statements for a database administrator; each may be run again.
    """
    schema = quote_identifier(EVENT_SCHEMA)
    return f"CREATE DATABASE IF NOT EXISTS {schema}", f"GRANT EVENT ON {schema}.* TO {account}"


def grant_journal(account: str) -> tuple[str, ...]:
    """Write what makes the journal's table and lets djops add to it.

    The primary key lets no two rows be the next one, so that the chain cannot fork.

    Args:
        account: The account djops works as, quoted.

    Returns:
        Statements for a database administrator, behind those of :func:`grant_events`; each may be run again.
    """
    table = f"{quote_identifier(EVENT_SCHEMA)}.{quote_identifier(JOURNAL_TABLE)}"
    columns = [f"{quote_identifier(name)} {kind}" for name, kind in JOURNAL_COLUMNS.items()]
    keys = ["PRIMARY KEY (`project`, `seq`)", "UNIQUE KEY (`project`, `id`)"]
    options = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    return (
        f"CREATE TABLE IF NOT EXISTS {table} ({', '.join((*columns, *keys))}) {options}",
        f"GRANT SELECT, INSERT ON {table} TO {account}",
    )


def missing_grants(
    state: MysqlState, account: AccountId, schemas: Iterable[str], *, escape: bool, by_procedure: bool = False
) -> tuple[str, ...]:
    """Tell which grants an account lacks to do djops' work.

    Args:
        state: What the server holds; of others than the account it may be less than all.
        account: The account djops works as.
        schemas: The pipeline's schemas.
        escape: Whether grant patterns take escapes.
        by_procedure: Whether the account may call the procedure with which RDS ends sessions.

    Returns:
        The statements that a database administrator has to run; none when nothing lacks.
    """
    quoted, held = quote_account(*account), _held(state, account)
    server = _on_server(held)
    lacking = [name for name in SERVER_PRIVILEGES if name not in server]
    if by_procedure and END_SESSIONS in lacking:
        lacking.remove(END_SESSIONS)
    wanted = frozenset(schemas)
    without = wanted - _administered(held, wanted, escape=escape)
    found = [grant_server(quoted, lacking)] if lacking else []
    return (*found, *grant_schemas(quoted, without, escape=escape))


_Rows = Mapping[str, frozenset[str]]
"""What one grantee holds, by pattern; ``*`` is the server."""


def _held(state: MysqlState, account: AccountId) -> tuple[_Rows, ...]:
    """Return what an account holds, and what each role holds that works for it from log-in."""
    rows: dict[AccountId, dict[str, frozenset[str]]] = {name: {} for name in _identities(state, account)}
    for (grantee, scope), names in state.privileges.items():
        if grantee in rows and not scope.table:
            rows[grantee][scope.pattern] = names
    return tuple(rows.values())


def _identities(state: MysqlState, account: AccountId) -> frozenset[AccountId]:
    """Return an account with the roles that work for it, those granted to its roles included."""
    found = {account, *(edge.role for edge in state.defaults if edge.member == account)}
    while True:
        nested = {edge.role for edge in state.edges if edge.member in found and edge.member != account}
        if nested <= found:
            return frozenset(found)
        found |= nested


def _on_server(held: Iterable[_Rows]) -> frozenset[str]:
    return frozenset[str]().union(*(rows.get("*", ()) for rows in held))


def _administered(held: Iterable[_Rows], schemas: Collection[str], *, escape: bool) -> frozenset[str]:
    """Tell on which schemas every privilege that djops deals with may be passed on."""
    found = {name: set(_on_server(held)) for name in schemas}
    for rows in held:
        for name, names in _on_schemas(rows, schemas, escape=escape).items():
            found[name] |= names
    needed = {*SCHEMA_PRIVILEGES, "GRANT OPTION"}
    return frozenset(name for name, names in found.items() if names >= needed)


def _on_schemas(rows: _Rows, schemas: Collection[str], *, escape: bool) -> dict[str, frozenset[str]]:
    """Return what one grantee's rows say of each schema.

    Of several rows that match a schema the server goes by one only, the exact one first; which one of
    several with wildcards is not foreseen here, so that only what all of them hold counts.
    """
    exact: dict[str, frozenset[str]] = {}
    wild: list[tuple[re.Pattern[str], frozenset[str]]] = []
    for pattern, names in rows.items():
        schema = None if pattern == "*" else unescape_pattern(pattern, escape=escape)
        if schema is not None:
            exact[schema] = names
        elif pattern != "*":
            wild.append((_as_expression(pattern), names))
    found = {}
    for schema in schemas:
        matching = [names for like, names in wild if like.fullmatch(schema)]
        matching = [exact[schema]] if schema in exact else matching
        if matching:
            found[schema] = frozenset.intersection(*matching)
    return found


def _as_expression(pattern: str) -> re.Pattern[str]:
    """Turn a grant pattern with wildcards into a regular expression."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    meanings = {"_": ".", "%": ".*"}
    return re.compile("".join(meanings.get(part, re.escape(part[-1])) for part in parts), re.DOTALL)
