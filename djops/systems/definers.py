"""Objects in the database that run with the rights of whoever is named as their definer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from djops.compile.mysql_state import AccountId
from djops.compile.sql import quote_account, quote_identifier
from djops.errors import ApplyError
from djops.systems.mysql import Mysql

_DEFINER = re.compile(r"\bDEFINER\s*=\s*`(?:[^`]|``)*`@`(?:[^`]|``)*`", re.IGNORECASE)

_QUERY = """
SELECT 'view', TABLE_SCHEMA, TABLE_NAME, DEFINER FROM information_schema.VIEWS WHERE DEFINER IN ({marks})
UNION ALL SELECT LOWER(ROUTINE_TYPE), ROUTINE_SCHEMA, ROUTINE_NAME, DEFINER
    FROM information_schema.ROUTINES WHERE DEFINER IN ({marks})
UNION ALL SELECT 'event', EVENT_SCHEMA, EVENT_NAME, DEFINER
    FROM information_schema.EVENTS WHERE DEFINER IN ({marks})
UNION ALL SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME, DEFINER
    FROM information_schema.TRIGGERS WHERE DEFINER IN ({marks})
"""

_TEXT_COLUMN = {"view": 1, "procedure": 2, "function": 2, "event": 3, "trigger": 2}
"""Where ``SHOW CREATE`` has the statement; before it, but for views, stands the SQL mode."""


@dataclass(frozen=True)
class DefinedObject:
    """An object with a definer.

    Attributes:
        kind: ``view``, ``procedure``, ``function``, ``event`` or ``trigger``.
        schema: Its schema.
        name: Its name.
        definer: The account, as ``user@host``.
    """

    kind: str
    schema: str
    name: str
    definer: str

    def __str__(self) -> str:
        return f"{self.kind} {self.schema}.{self.name}"

    @property
    def quoted(self) -> str:
        """Its name for a statement."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"


@dataclass(frozen=True)
class Recreation:
    """The statements that give an object another definer.

    Attributes:
        of: The object.
        mode: The SQL mode in which it was made; ``None`` where it does not matter.
        drop: Removes the object first, where the server cannot replace it.
        create: Makes it with the new definer.
    """

    of: DefinedObject
    mode: str | None
    drop: str | None
    create: str


def defined_by(mysql: Mysql, accounts: Sequence[AccountId]) -> tuple[DefinedObject, ...]:
    """Find the objects whose definer one of some accounts is, on the whole server.

    Args:
        mysql: A connection; it sees the objects on which its account has rights, root sees all.
        accounts: The accounts.
    """
    if not accounts:
        return ()
    names = [f"{account.user}@{account.host}" for account in accounts]
    query = _QUERY.format(marks=", ".join(["%s"] * len(names)))
    return tuple(DefinedObject(*map(str, row)) for row in mysql.query(query, names * 4))


def recreation(mysql: Mysql, one: DefinedObject, heir: AccountId) -> Recreation:
    """Work out how an object gets another definer.

    Args:
        mysql: A connection that may see the object's text.
        one: The object.
        heir: The new definer.

    Raises:
        ApplyError: The server does not show the text.
    """
    row = mysql.query(f"SHOW CREATE {one.kind.upper()} {one.quoted}")[0]
    text = row[_TEXT_COLUMN[one.kind]]
    owner = f"DEFINER={quote_account(*heir)}"
    if not isinstance(text, str) or len(found := _DEFINER.findall(text)) < 1:
        raise ApplyError(f"the server does not show the text of {one}", where=mysql.where)
    new = text.replace(found[0], owner, 1)
    if one.kind == "view":
        return Recreation(one, None, None, re.sub(r"^CREATE\b", "CREATE OR REPLACE", new, count=1))
    return Recreation(one, str(row[1]), f"DROP {one.kind.upper()} IF EXISTS {one.quoted}", new)


def recreate(mysql: Mysql, work: Recreation) -> None:
    """Give an object its new definer; may be repeated after it was cut off.

    Args:
        mysql: A connection that may set definers.
        work: The statements.
    """
    before = str(mysql.query("SELECT @@SESSION.sql_mode")[0][0])
    mysql.query(f"USE {quote_identifier(work.of.schema)}")
    try:
        if work.mode is not None:
            mysql.query("SET SESSION sql_mode = %s", (work.mode,))
        if work.drop is not None:
            mysql.query(work.drop)
        mysql.query(work.create)
    finally:
        mysql.query("SET SESSION sql_mode = %s", (before,))
