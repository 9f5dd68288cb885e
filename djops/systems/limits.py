"""Whether the limits of a role are in force for one of its holders."""

from __future__ import annotations

from contextlib import ExitStack

from djops.errors import ClientError, DjopsError
from djops.model.roles import Limits
from djops.systems.connections import MysqlConnection
from djops.systems.mysql import Mysql

_TOO_MANY = "1226"
"""MySQL's error number for more connections than the account may have."""

_UNLIMITED = 2**64 - 1


def check_limits(holder: MysqlConnection, limits: Limits, *, guarded: bool) -> None:
    """Try whether an account is limited as its role says, and no more.

    Args:
        holder: The account; none of its connections may be in use by others than the caller.
        limits: What its role says.
        guarded: Whether djops sees to limits that MySQL knows for sessions only.

    Raises:
        ClientError: ``E_CLIENT`` naming the limit that is not in force.
    """
    if guarded:
        _check_session(holder, limits)
    if limits.connections is not None:
        _check_connections(holder, limits.connections)


def _check_session(holder: MysqlConnection, limits: Limits) -> None:
    with Mysql(holder) as session:
        found = session.query("SELECT @@max_execution_time, @@sql_select_limit")[0]
    wanted = ((limits.statement_seconds or 0) * 1000, limits.rows or _UNLIMITED)
    for what, seen, should in zip(("milliseconds", "rows"), found, wanted, strict=True):
        if int(seen) != should:
            raise ClientError(f"a query of {holder.user} may take {seen} {what}, not {should}")


def _check_connections(holder: MysqlConnection, most: int) -> None:
    """Open one connection more than there may be; whoever asks may have some open already."""
    with ExitStack() as stack:
        for _ in range(most + 1):
            session = Mysql(holder)
            stack.callback(session.close)
            try:
                session.query("SELECT 1")
            except DjopsError as error:
                if _TOO_MANY in error.message:
                    return
                raise
    raise ClientError(f"{holder.user} opens {most + 1} connections at once, and may have {most}")
