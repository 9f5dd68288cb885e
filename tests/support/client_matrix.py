"""Run by path, as one person with the files djops wrote: tries every action on every schema and tells.

Nothing here knows an address, an account or a key: the client must find them itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

sys.path.pop(0)

import datajoint as dj
import numpy as np

from djops.systems.client_errors import is_denial


class Attempts:
    """What one person tries on one schema."""

    def __init__(self, person: str, schema: str, task: dict[str, Any]) -> None:
        self.person = person
        self.schema = schema
        self.task = task

    def table(self, name: str | None = None) -> Any:
        return dj.FreeTable(dj.conn(), f"`{self.schema}`.`{name or self.task['table']}`")

    def all(self) -> dict[str, Callable[[], None]]:
        found = {
            "read": self.read,
            "insert": self.insert,
            "update": self.update,
            "delete": self.delete,
            "declare": self.declare,
            "drop": self.drop,
        }
        return {**found, "jobs": self.populate} if "populate" in self.task else found

    def read(self) -> None:
        rows = self.table().to_dicts()
        assert rows
        for name in self.task.get("objects", ()):
            assert np.size(rows[0][name]) or rows[0][name]

    def insert(self) -> None:
        row = dict(self.task["insert"])
        if "frames" in row:
            row["frames"] = np.full((60, 24, 24), float(row["frames"]))
        self.table().insert1(row)
        key = {name: row[name] for name in self.table().primary_key}
        assert len(self.table() & key) == 1

    def update(self) -> None:
        self.table().update1(self.task["update"])
        assert len(self.table() & self.task["update"]) == 1

    def delete(self) -> None:
        assert len(self.table() & self.task["delete"]) == 1
        (self.table() & self.task["delete"]).delete(prompt=False)
        assert len(self.table() & self.task["delete"]) == 0

    def populate(self) -> None:
        name, key = self.task["populate"]
        module = importlib.import_module(f"my_pipeline.{self.schema}")
        table = getattr(module, name)
        table.populate(reserve_jobs=True)
        assert table & key

    def declare(self) -> None:
        schema = dj.Schema(self.schema, create_schema=False)
        name = f"Made{self.person.title()}"
        schema(type(name, (dj.Manual,), {"definition": "made : int32"}), context={})
        assert self.table(f"made_{self.person}").is_declared

    def drop(self) -> None:
        mine = self.table(f"made_{self.person}")
        if mine.is_declared or self.table("spare").is_declared:
            table = mine if mine.is_declared else self.table("spare")
            table.drop()
            assert not table.is_declared
        else:
            # The client takes a table that it cannot see for one that is not there.
            dj.conn().query(f"DROP TABLE `{self.schema}`.spare")


def attempt(action: Callable[[], None]) -> str:
    try:
        action()
    except Exception as error:
        return "denied" if is_denial(error) else f"failed: {type(error).__name__}: {error}"
    return "works"


def create_schema(person: str) -> None:
    dj.Schema(f"schema_of_{person}")


def main() -> None:
    task = json.load(sys.stdin)
    dj.config.safemode = False
    person = task["person"]
    for schema in task["schemas"]:
        # The client follows foreign keys between the schemas it was told of; others may be out of sight.
        with contextlib.suppress(dj.DataJointError):
            dj.Schema(schema, create_schema=False, create_tables=False)
    answers = {
        schema: {name: attempt(action) for name, action in Attempts(person, schema, wanted).all().items()}
        for schema, wanted in task["schemas"].items()
    }
    answers["*"] = {"create schema": attempt(lambda: create_schema(person))}
    sys.stdout.write(json.dumps(answers))


main()
