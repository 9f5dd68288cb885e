"""Jobs that somebody has reserved in the client's job tables, and how they become free again.

The client's own ``refresh(orphan_timeout=...)`` frees jobs by their age; who is gone needs no waiting for.
Columns as 2.3.5 declares them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from djops.compile.sql import quote_identifier
from djops.model.graph import TableName
from djops.systems.mysql import Mysql

_MINE = "status = 'reserved' AND (user = %s OR LEFT(user, %s) = %s)"


@dataclass(frozen=True)
class Reserved:
    """Jobs of one table that somebody has reserved.

    Attributes:
        table: The job table.
        jobs: How many.
    """

    table: TableName
    jobs: int

    def __str__(self) -> str:
        return f"{self.jobs} in {self.table}"


def reserved(mysql: Mysql, schemas: Collection[str], user: str) -> tuple[Reserved, ...]:
    """Count the jobs that somebody has reserved.

    Args:
        mysql: A connection that may read the schemas.
        schemas: The pipeline's schemas.
        user: The account's user name.
    """
    found = []
    for table in _job_tables(mysql, schemas):
        rows = mysql.query(f"SELECT COUNT(*) FROM {_quoted(table)} WHERE {_MINE}", _values(user))
        if rows[0][0]:
            found.append(Reserved(table, int(rows[0][0])))
    return tuple(found)


def release(mysql: Mysql, one: Reserved, user: str) -> None:
    """Make somebody's reserved jobs pending again, for whoever comes next.

    Args:
        mysql: A connection that may change the job tables.
        one: Where they are.
        user: The account's user name.
    """
    mysql.query(
        f"UPDATE {_quoted(one.table)} SET status = 'pending', reserved_time = NULL, user = '', host = '', "
        f"pid = 0, connection_id = 0 WHERE {_MINE}",
        _values(user),
    )


def _values(user: str) -> tuple[str | int, ...]:
    return user, len(user) + 1, f"{user}@"


def _job_tables(mysql: Mysql, schemas: Collection[str]) -> list[TableName]:
    if not schemas:
        return []
    marks = ", ".join(["%s"] * len(schemas))
    rows = mysql.query(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.COLUMNS WHERE COLUMN_NAME IN "
        "('status', 'user', 'connection_id', 'reserved_time') AND LEFT(TABLE_NAME, 2) = '~~' "
        f"AND TABLE_SCHEMA IN ({marks}) GROUP BY TABLE_SCHEMA, TABLE_NAME HAVING COUNT(*) = 4 "
        "ORDER BY TABLE_SCHEMA, TABLE_NAME",
        sorted(schemas),
    )
    return [TableName(str(schema), str(table)) for schema, table in rows]


def _quoted(table: TableName) -> str:
    return f"{quote_identifier(table.schema)}.{quote_identifier(table.table)}"
