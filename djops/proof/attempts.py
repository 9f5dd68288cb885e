"""Statements that tell whether a privilege is there and change nothing, whatever the answer.

Each is either about no rows, or cannot be carried out for a reason that MySQL only finds after it has
looked at privileges: a table that is not there, a column named twice. The numbers were measured on
MySQL 9.7.4, as an account with and without the privilege.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from djops.compile.sql import quote_identifier
from djops.proof.cells import MysqlAsk

NOWHERE = "djops_probe"
"""A table that there is none of."""

REFUSALS = frozenset({1044, 1142, 1143, 1227, 1370})
"""Errors that mean a lack of privileges: on a schema, a table, a column, the server, a routine."""

_MISSING = frozenset({1049, 1146})


@dataclass(frozen=True)
class Attempt:
    """A statement to try.

    Attributes:
        sql: The statement.
        let_in: Errors that only somebody who has the privilege gets to see.
        refusals: Errors that mean that the privilege is not there.
    """

    sql: str
    let_in: frozenset[int] = frozenset()
    refusals: frozenset[int] = REFUSALS


def attempt(ask: MysqlAsk, columns: Sequence[str], scratch: str) -> Attempt | None:
    """Write the statement that answers a question.

    Args:
        ask: The question.
        columns: All columns of the table that can be written; not needed for schemas.
        scratch: A schema in which whoever asks may create tables.

    Returns:
        The statement, or ``None`` where only doing it would tell.
    """
    if ask.column:
        return _on_columns(ask, [ask.column])
    if ask.table:
        return _on_columns(ask, columns) if columns else None
    return _on_schema(ask, scratch)


def _on_columns(ask: MysqlAsk, columns: Sequence[str]) -> Attempt | None:
    table = f"{quote_identifier(ask.schema)}.{quote_identifier(ask.table)}"
    names = [quote_identifier(column) for column in columns]
    match ask.privilege:
        case "SELECT":
            return Attempt(f"SELECT {', '.join(names) if ask.column else '*'} FROM {table} LIMIT 0")
        case "INSERT":
            nulls = ", ".join(["NULL"] * len(names))
            text = f"INSERT INTO {table} ({', '.join(names)}) SELECT {nulls} FROM DUAL WHERE FALSE"
            # A column without a default, where only one is named.
            return Attempt(text, frozenset({1364}))
        case "UPDATE":
            sets = ", ".join(f"{name} = NULL" for name in names)
            return Attempt(f"UPDATE {table} SET {sets} WHERE FALSE")
        case "DELETE" if not ask.column:
            return Attempt(f"DELETE FROM {table} WHERE FALSE")
    return None


def _on_schema(ask: MysqlAsk, scratch: str) -> Attempt | None:
    nowhere = f"{quote_identifier(ask.schema)}.{NOWHERE}"
    here = f"{quote_identifier(scratch)}.{NOWHERE}"
    twice = frozenset({1060})  # two columns of one name
    statements: dict[str, Attempt] = {
        "SELECT": Attempt(f"SELECT * FROM {nowhere} LIMIT 0", _MISSING),
        "INSERT": Attempt(f"INSERT INTO {nowhere} SELECT NULL FROM DUAL WHERE FALSE", _MISSING),
        "UPDATE": Attempt(f"UPDATE {nowhere} SET x = NULL WHERE FALSE", _MISSING),
        "DELETE": Attempt(f"DELETE FROM {nowhere} WHERE FALSE", _MISSING),
        "CREATE": Attempt(f"CREATE TABLE {nowhere} (x INT, x INT)", twice | _MISSING),
        "DROP": Attempt(f"DROP TABLE {nowhere}", _MISSING | {1051}),
        "ALTER": Attempt(f"ALTER TABLE {nowhere} DROP COLUMN x", _MISSING),
        "INDEX": Attempt(f"CREATE INDEX i ON {nowhere} (x)", _MISSING),
        "REFERENCES": Attempt(
            f"CREATE TABLE {here} (x INT, FOREIGN KEY (x) REFERENCES {nowhere} (x))", _MISSING | {1824}
        ),
        "CREATE VIEW": Attempt(f"CREATE VIEW {nowhere} AS SELECT 1 AS x, 1 AS x", twice | _MISSING),
        "CREATE TEMPORARY TABLES": Attempt(
            f"CREATE TEMPORARY TABLE {nowhere} (x INT, x INT)", twice | _MISSING
        ),
        # Locking also asks for SELECT; without it the error is another one.
        "LOCK TABLES": Attempt(f"LOCK TABLES {nowhere} READ", _MISSING | {1142}, frozenset({1044})),
        "EVENT": Attempt(f"DROP EVENT {nowhere}", _MISSING | {1539}),
        "ALTER ROUTINE": Attempt(f"DROP PROCEDURE {nowhere}", _MISSING | {1305}),
        "EXECUTE": Attempt(f"CALL {nowhere}()", _MISSING | {1305}),
        # The server may ask for more than the privilege before anybody may write triggers.
        "TRIGGER": Attempt(
            f"CREATE TRIGGER {nowhere} BEFORE INSERT ON {nowhere} FOR EACH ROW SET @a = 1", _MISSING | {1419}
        ),
    }
    return statements.get(ask.privilege)
