"""A pipeline of two tables on a scratch schema, to try rights on through the real client.

Rows are told apart by number: each principal reads row 1, and has rows of its own for everything else.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any

from djops.errors import ClientError
from djops.systems.rawfiles import RawFiles

READ, PENDING, DOOMED, OWN = 1, 1000, 2000, 3000
"""First numbers of the rows to read, to compute from, to delete, and to insert."""


class Scratch:
    """The scratch pipeline as one identity sees it.

    The methods named after actions raise what the client raises; that they had an effect is for another
    identity to check.

    Args:
        instance: A client from :func:`djops.systems.datajoint.connect`.
        schema: Name of the scratch schema.
        stores: Names of the stores to put objects into.
        create: Whether this identity makes the schema and its tables.

    Attributes:
        files: Objects beside the client's, as this identity reaches them.
        check_limits: Tries whether this identity is limited as it should be.
    """

    files: RawFiles
    check_limits: Callable[[], None]

    def __init__(self, instance: Any, schema: str, stores: Sequence[str], *, create: bool = False) -> None:  # noqa: ANN401
        self.instance = instance
        self.schema = schema
        self.stores = tuple(stores)
        bound = instance.Schema(schema, create_schema=create, create_tables=create)
        self._bound = bound
        self.sample = _sample_class(self.stores, self._columns)
        self.result = _result_class(self._fetch)
        context = {"Sample": self.sample, "Result": self.result}
        bound(self.sample, context=context)
        bound(self.result, context=context)

    def _columns(self) -> tuple[str, ...]:
        return tuple(f"{kind}_{number}" for number in range(len(self.stores)) for kind in ("blob", "npy"))

    def _arrays(self, number: int) -> dict[str, Any]:
        import numpy

        return {name: numpy.arange(8) * number + index for index, name in enumerate(self._columns())}

    def _fetch(self, number: int) -> dict[str, Any]:
        import numpy

        row = (self.sample & {"sample_id": number}).fetch1()
        return {name: numpy.asarray(row[name]) for name in self._columns()}

    def add(self, number: int) -> None:
        """Insert a row with a blob and an array in every store."""
        self.sample.insert1({"sample_id": number, "note": "new", **self._arrays(number)})

    def verify(self, number: int) -> None:
        """Fetch a row with its objects.

        Raises:
            ClientError: ``E_CLIENT`` when what comes back is not what was put.
        """
        fetched, put = self._fetch(number), self._arrays(number)
        if any((fetched[name] != put[name]).any() for name in put):
            raise ClientError(f"row {number} of {self.schema} comes back with other content")

    def has(self, number: int, **facts: object) -> bool:
        """Whether a row is there, with these values."""
        return bool(self.sample & {"sample_id": number, **facts})

    def has_result(self, number: int) -> bool:
        """Whether a result was computed from a row."""
        return bool(self.result & {"sample_id": number})

    def update(self, number: int) -> None:
        """Change a row in place."""
        self.sample.update1({"sample_id": number, "note": "changed"})

    def populate(self) -> None:
        """Compute whatever is pending, reserving each job as one of several workers would."""
        try:
            self.result.populate(reserve_jobs=True)
        except SystemExit:
            # The client's own handler, gone again by now, turns SIGTERM into this.
            signal.raise_signal(signal.SIGTERM)
            raise

    def delete(self, number: int) -> None:
        """Delete a row and what was computed from it."""
        (self.sample & {"sample_id": number}).delete()

    def declare(self, name: str) -> None:
        """Declare a table with a foreign key.

        Args:
            name: Its class name.
        """
        definition = "-> Sample\n---\nmade : int32\n"
        _declare(self._bound, name, definition, {"Sample": self.sample})

    def declare_spare(self, name: str) -> None:
        """Declare a table on which nothing depends.

        Args:
            name: Its class name.
        """
        _declare(self._bound, name, "spare : int32\n", {})

    def drop(self, table: str) -> None:
        """Drop a table.

        Args:
            table: Its SQL name.
        """
        self.instance.FreeTable(f"`{self.schema}`.`{table}`").drop()

    def tables(self) -> frozenset[str]:
        """Return the SQL names of the tables that are there and have their lineage.

        The client forgets a table's lineage before the server refuses to drop it, when it may.
        """
        query = self.instance.connection.query
        named = {row[0] for row in query(f"SHOW TABLES FROM `{self.schema}`")}
        traced = {row[0] for row in query(f"SELECT DISTINCT table_name FROM `{self.schema}`.`~lineage`")}
        return frozenset(named & traced)


def _sample_class(stores: Sequence[str], columns: Callable[[], tuple[str, ...]]) -> Any:  # noqa: ANN401
    import datajoint

    kinds = [f"<{kind}@{store}>" for store in stores for kind in ("blob", "npy")]
    lines = [f"{name} : {kind}" for name, kind in zip(columns(), kinds, strict=True)]
    definition = "\n".join(["sample_id : int32", "---", "note : varchar(16)", *lines])
    return type("Sample", (datajoint.Manual,), {"definition": definition})


def _result_class(fetch: Callable[[int], dict[str, Any]]) -> Any:  # noqa: ANN401
    import datajoint

    def make(self: Any, key: dict[str, Any]) -> None:  # noqa: ANN401
        total = sum(float(array.sum()) for array in fetch(key["sample_id"]).values())
        self.insert1({**key, "total": total})

    definition = "-> Sample\n---\ntotal : float64\n"
    return type("Result", (datajoint.Computed,), {"definition": definition, "make": make})


def _declare(bound: Any, name: str, definition: str, context: dict[str, Any]) -> None:  # noqa: ANN401
    """Declare whatever the schema was bound with: being refused is what is tried."""
    import datajoint

    table = type(name, (datajoint.Manual,), {"definition": definition})
    bound.create_tables = True
    try:
        bound(table, context={**context, name: table})
    finally:
        bound.create_tables = False
