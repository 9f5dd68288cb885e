"""Grant rows and the way to them, in words."""

from __future__ import annotations

from djops.compile.mysql_state import AccountId
from djops.proof.mysql_session import Row, Session


def name_of(account: AccountId) -> str:
    """Return an account's name as texts have it.

    Args:
        account: The account.
    """
    user = account.user or "(anonymous)"
    return user if account.host == "%" else f"{user}@{account.host}"


def quote(name: str) -> str:
    """Put a name between backticks.

    Args:
        name: The name, whatever the server holds.
    """
    return "`" + name.replace("`", "``") + "`"


def path_of(session: Session, grantee: AccountId) -> str:
    """Return the way from a session's account to the holder of a row: ``alice <- analyst <- viewer``.

    Args:
        session: The session.
        grantee: The holder.
    """
    path = session.paths.get(grantee) or (session.account, grantee)
    return " <- ".join(name_of(one) for one in path)


def text_of(row: Row, session: Session, privilege: str = "") -> str:
    r"""Return a row in words: ``alice <- viewer: SELECT on `ephys`.*``.

    Args:
        row: The row.
        session: Who asks.
        privilege: Name this privilege only.
    """
    names = privilege or ", ".join(sorted(row.names)) or "USAGE"
    if row.schema == "*" and not row.table:
        where = "*.*"
    else:
        where = f"{quote(row.schema)}.{quote(row.table) if row.table else '*'}"
    if row.column:
        names += f" ({quote(row.column)})"
    return f"{path_of(session, row.grantee)}: {names} on {where}"
