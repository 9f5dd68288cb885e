"""Trying things on the servers as somebody else, to see what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import botocore.exceptions
import pymysql

from djops.plan.operations import AwsCall
from djops.systems.connections import MysqlConnection
from djops.systems.mysql import Mysql
from djops.systems.s3 import S3

LOCK_SECONDS = 5
"""How long a statement waits for somebody who works on the same table."""

_NEW_KEY_SECONDS = 30
"""Where the server is many servers, a new access key is not known to all of them at once."""

_UNKNOWN_KEY = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId")


class MysqlProbe(Mysql):
    """A connection on which statements are tried, and rolled back.

    Args:
        connection: Where the server is, and who tries.
    """

    def __init__(self, connection: MysqlConnection) -> None:
        super().__init__(connection)
        self._ready = False

    def attempt(self, text: str) -> tuple[int, str]:
        """Try one statement, and roll back whatever it did.

        Args:
            text: The statement.

        Returns:
            The server's error number, 0 for none, and its message.

        Raises:
            ServerUnavailableError: The server went away.
            AccessDeniedError: The log-in is refused.
        """
        if not self._ready:
            self.query(f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}, autocommit = 0")
            self.query(f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}")
            self._ready = True
        link = self._connected()
        try:
            with link.cursor() as cursor:
                cursor.execute(text)
        except (pymysql.InterfaceError, OSError) as error:
            raise self._translated(error) from None
        except pymysql.MySQLError as error:
            number = error.args[0] if error.args and isinstance(error.args[0], int) else -1
            return number, str(error.args[-1])
        finally:
            if link.open:
                link.rollback()
        return 0, ""


class S3Probe(S3):
    """An S3 server as somebody who tries things."""

    def attempt(self, operation: AwsCall) -> str:
        """Try one request.

        Args:
            operation: The request.

        Returns:
            The server's error code, empty for none.

        Raises:
            ServerUnavailableError: The server cannot be reached.
        """
        deadline = time.monotonic() + _NEW_KEY_SECONDS
        while True:
            try:
                answer = self._send(operation)
            except botocore.exceptions.ClientError as error:
                code = str(error.response.get("Error", {}).get("Code", ""))
                if code not in _UNKNOWN_KEY or time.monotonic() > deadline:
                    return code
                time.sleep(0.5)
                continue
            body = answer.get("Body")
            if body is not None:
                body.close()
            return ""


def columns_of(server: Mysql, schemas: Iterable[str]) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Read the columns that can be written, by schema and table.

    Args:
        server: The server.
        schemas: The schemas.
    """
    wanted = sorted(schemas)
    if not wanted:
        return {}
    marks = ", ".join(["%s"] * len(wanted))
    found: dict[tuple[str, str], list[str]] = {}
    for schema, table, column in server.query(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS "
        f"WHERE GENERATION_EXPRESSION = '' AND TABLE_SCHEMA IN ({marks})",
        wanted,
    ):
        found.setdefault((schema, table), []).append(column)
    return {name: tuple(columns) for name, columns in found.items()}
