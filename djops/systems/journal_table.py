"""The journal's table in the project's database: djops' account may read it and add rows, no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from djops.compile.mysql_manager import EVENT_SCHEMA, JOURNAL_COLUMNS, JOURNAL_TABLE
from djops.compile.sql import quote_identifier
from djops.errors import AccessDeniedError, ApplyError, ConflictError
from djops.model.journal import Draft, Entry, Head, seal
from djops.systems.mysql import Mysql

_TABLE = f"{quote_identifier(EVENT_SCHEMA)}.{quote_identifier(JOURNAL_TABLE)}"
_COLUMNS = ", ".join(quote_identifier(name) for name in JOURNAL_COLUMNS)
_MARKS = f"({', '.join(['%s'] * len(JOURNAL_COLUMNS))})"
_TIME = "%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ"

_ABSENT = ("error 1146:", "error 1049:")
"""No such table, no such schema (MySQL error reference)."""
_TAKEN = "error 1062:"
"""Somebody else added the next row meanwhile, or this one is there already."""

_PAGE = 2000
_ROWS, _BYTES = 500, 1_000_000
"""What one INSERT holds at most: well below ``max_allowed_packet``, and each is all or nothing."""
_ATTEMPTS = 20


class TableChain:
    """The chain of one project in the database.

    Args:
        mysql: The connection.
        project: Whose chain it is.
        environment: The environment that new rows are about.
    """

    name = "mysql"

    def __init__(self, mysql: Mysql, project: str, environment: str) -> None:
        self.where = f"{mysql.where}, {EVENT_SCHEMA}.{JOURNAL_TABLE}"
        self._mysql, self._project, self._environment = mysql, project, environment
        self._head: Head | None = None

    def is_there(self) -> bool:
        """Tell whether the database has the table, and djops may use it.

        Raises:
            ServerUnavailableError: ``E_SERVER`` when the database does not answer.
        """
        try:
            self.head()
        except AccessDeniedError:
            return False
        except ApplyError as error:
            if any(number in error.message for number in _ABSENT):
                return False
            raise
        return True

    def head(self) -> Head:
        """Return the end of the chain."""
        rows = self._mysql.query(
            f"SELECT seq, hash FROM {_TABLE} WHERE project = %s ORDER BY seq DESC LIMIT 1", (self._project,)
        )
        self._head = Head(*rows[0]) if rows else Head()
        return self._head

    def read(self, after: int = 0) -> Iterator[Entry]:
        """Return the rows by their numbers.

        Args:
            after: Rows up to this number are left out.
        """
        names = list(JOURNAL_COLUMNS)
        shown = _COLUMNS.replace("`at`", f"DATE_FORMAT(`at`, '{_TIME}')")
        while True:
            rows = self._mysql.query(
                f"SELECT {shown} FROM {_TABLE} WHERE project = %s AND seq > %s ORDER BY seq LIMIT {_PAGE}",
                (self._project, after),
            )
            for row in rows:
                yield Entry(**dict(zip(names, row, strict=True)))
            if len(rows) < _PAGE:
                return
            after = rows[-1][names.index("seq")]

    def newest_plan(self, without: str) -> Entry | None:
        """Return where the environment's newest plan begins.

        Args:
            without: A command whose plans do not count.
        """
        rows = self._mysql.query(
            f"SELECT seq FROM {_TABLE} WHERE project = %s AND environment = %s AND event = 'begin' "
            "AND command <> %s ORDER BY seq DESC LIMIT 1",
            (self._project, self._environment, without),
        )
        return next(self.read(rows[0][0] - 1), None) if rows else None

    def newest_end(self, without: str) -> int:
        """Return the number of the row with which the environment's newest plan ended well, 0 without one.

        Args:
            without: A command whose plans do not count.
        """
        return int(
            self._mysql.query(
                f"SELECT COALESCE(MAX(seq), 0) FROM {_TABLE} WHERE project = %s AND environment = %s "
                "AND event = 'end' AND command <> %s",
                (self._project, self._environment, without),
            )[0][0]
        )

    def append(self, drafts: Iterable[Draft]) -> Head:
        """Add rows, each once however often it is tried.

        Args:
            drafts: The rows.

        Returns:
            The new end of the chain.

        Raises:
            ServerUnavailableError: The database went away; whether rows were added is unknown.
            ConflictError: Others kept adding rows.
        """
        left = list(drafts)
        head = self._head or self.head()
        for _ in range(_ATTEMPTS):
            try:
                while left:
                    entries = _portion(seal(left, head, self._project, self._environment))
                    self._insert(entries)
                    left = left[len(entries) :]
                    head = self._head = Head(entries[-1].seq, entries[-1].hash)
                return head
            except ApplyError as error:
                self._head = None
                if _TAKEN not in error.message:
                    raise
                known = self._known(left)
                left = [one for one in left if one.id not in known]
                head = self.head()
        raise ConflictError("others kept adding to the journal", where=self.where, hint="try again")

    def _insert(self, entries: Sequence[Entry]) -> None:
        values: list[Any] = []
        for entry in entries:
            row = {**vars(entry), "at": entry.at.rstrip("Z").replace("T", " ")}
            values += (row[name] for name in JOURNAL_COLUMNS)
        marks = ", ".join([_MARKS] * len(entries))
        self._mysql.query(f"INSERT INTO {_TABLE} ({_COLUMNS}) VALUES {marks}", values)

    def _known(self, drafts: Sequence[Draft]) -> set[str]:
        found: set[str] = set()
        for first in range(0, len(drafts), _PAGE):
            ids = [one.id for one in drafts[first : first + _PAGE]]
            marks = ", ".join(["%s"] * len(ids))
            found |= {
                row[0]
                for row in self._mysql.query(
                    f"SELECT id FROM {_TABLE} WHERE project = %s AND id IN ({marks})", (self._project, *ids)
                )
            }
        return found


def _portion(entries: Iterable[Entry]) -> list[Entry]:
    """Take as many rows as one INSERT may hold."""
    taken: list[Entry] = []
    size = 0
    for entry in entries:
        size += 4 * (len(entry.detail) + len(entry.change) + 500)
        if taken and size > _BYTES:
            break
        taken.append(entry)
        if len(taken) == _ROWS:
            break
    return taken
