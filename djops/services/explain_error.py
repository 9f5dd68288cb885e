"""What an error's text means in this project: who was refused what, where, why, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from djops.compile.s3 import schema_prefixes
from djops.model.error_texts import Reading
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import Tier
from djops.model.nearest import advice
from djops.model.roles import Capability
from djops.services import question
from djops.services.can import full_name
from djops.services.explain import Explanation
from djops.services.project import Loaded
from djops.systems.resources import load_error_texts

Explain = Callable[[str, str, str], Explanation]
"""Explains who may do what on what, from the project file or from the servers."""

_BY_PRIVILEGE = {
    "SELECT": Capability.READ,
    "INSERT": Capability.INSERT,
    "UPDATE": Capability.UPDATE,
    "DELETE": Capability.DELETE,
    "CREATE": Capability.DECLARE,
    "ALTER": Capability.ALTER,
    "INDEX": Capability.ALTER,
    "DROP": Capability.DROP,
    "REFERENCES": Capability.REFERENCE,
}
_BY_ACTION = {
    "Get": Capability.READ,
    "Head": Capability.READ,
    "List": Capability.READ,
    "Put": Capability.INSERT,
    "CreateMultipart": Capability.INSERT,
    "UploadPart": Capability.INSERT,
    "Delete": Capability.COLLECT,
}
"""The capability that an S3 action takes, by how its name begins."""


@dataclass(frozen=True)
class ErrorMeaning:
    """What an error's text means here.

    Attributes:
        id: The catalogue's name of it.
        misleading: Whether the text names another cause than the real one, or none.
        means: What it says.
        cause: Why that happens.
        do: What to do.
        who: The principal, where the text or the caller names one of this project.
        what: The capability that was tried, where the text tells.
        schema: The schema, where the text names one of this project.
        table: The table, likewise.
        notes: What could not be made out.
        also: Other errors of the catalogue that stand in the text.
        explanation: The chain for who, what and where; ``None`` where one of them is not known.
    """

    id: str
    misleading: bool
    means: str
    cause: str
    do: str
    who: str | None
    what: str | None
    schema: str | None
    table: str | None
    notes: tuple[str, ...]
    also: tuple[str, ...]
    explanation: Explanation | None = None


def read(
    loaded: Loaded, text: str, who: str | None = None, explain: Explain | None = None
) -> ErrorMeaning | None:
    """Say what an error's text means in a project.

    Args:
        loaded: The checked project.
        text: What DataJoint, MySQL or the S3 client said; a whole traceback does, too.
        who: Whose error it is, where the text does not name the account.
        explain: Explains the chain once it is known who, what and where.

    Returns:
        Its meaning, or ``None`` for a text that is not in the catalogue.

    Raises:
        UsageError: ``E_UNKNOWN`` when ``who`` is nobody of this project.
    """
    reading = load_error_texts().read(text)
    if reading is None:
        return None
    if who is not None:
        question.principal_named(loaded.project, who)
    places = _Places(loaded, reading, text)
    named = who or reading.found.get("user")
    principal = named if named in loaded.project.principals else None
    what = _capability(reading, places.table)
    notes = [*_about_who(loaded, named), *places.notes()]
    words = {"who": principal, "schema": places.schema, "table": places.shown}
    meaning = ErrorMeaning(
        id=reading.entry.id,
        misleading=reading.entry.misleading,
        means=reading.fill(reading.entry.means, **words),
        cause=reading.fill(reading.entry.cause, **words),
        do=_filled(reading.fill(reading.entry.do, **words), principal, places.shown),
        who=principal,
        what=what,
        schema=places.schema,
        table=str(places.table) if places.table else None,
        notes=tuple(notes),
        also=reading.also,
    )
    if explain is None or principal is None or what is None or places.schema is None:
        return meaning
    return replace(meaning, explanation=explain(principal, what, places.on(what)))


def _filled(advice: str, who: str | None, table: str | None) -> str:
    """Write commands so that they can be typed, where it is known for whom and what."""
    known = advice.replace("WHO", who) if who else advice
    return known.replace("SCHEMA.Table", table) if table and "." in table else known


def _about_who(loaded: Loaded, name: str | None) -> Iterator[str]:
    if name and name not in loaded.project.principals:
        nearest = advice(name, loaded.project.principals, what="people and services")
        yield f"{name!r} is no person or service of djops.yaml: {nearest}"


def _capability(reading: Reading, table: TableName | None) -> Capability | None:
    if reading.entry.capability is not None:
        return reading.entry.capability
    if table is not None and table.tier is Tier.JOB:
        return Capability.JOBS
    privilege = reading.found.get("privileges", "").split(",")[0].strip()
    action = reading.found.get("action", "")
    by_action = (one for start, one in _BY_ACTION.items() if action.startswith(start))
    return _BY_PRIVILEGE.get(privilege) or next(by_action, None)


class _Places:
    """The schema and the table that a text means, found among those of the project."""

    def __init__(self, loaded: Loaded, reading: Reading, text: str) -> None:
        self.graph: PipelineGraph = loaded.graph
        self.named_schema, self.named_table = reading.place
        self.schema: str | None = None
        self.table: TableName | None = None
        self.candidates: tuple[TableName, ...] = ()
        if self.named_schema is None and self.named_table is None:
            self._from_key(loaded, text)
        elif self.named_schema is None:
            self._from_table(self.named_table or "")
        elif self.named_schema in self.graph.schemas:
            self.schema = self.named_schema
            self.table = self._names(self.schema).get(self.named_table or "")

    def _names(self, schema: str) -> Mapping[str, TableName]:
        return question.table_names(self.graph, schema)

    def _from_table(self, name: str) -> None:
        """MySQL mostly names the table alone; the schema is known when only one has such a table."""
        found = [names[name] for names in map(self._names, sorted(self.graph.schemas)) if name in names]
        self.candidates = tuple(found)
        if len(found) == 1:
            self.schema, self.table = found[0].schema, found[0]

    def _from_key(self, loaded: Loaded, text: str) -> None:
        """Object keys hold the schema, and below the schema section the table."""
        for schema in sorted(self.graph.schemas, key=len, reverse=True):
            for store in loaded.project.stores.values():
                for prefix in schema_prefixes(store, schema):
                    if prefix in text:
                        self.schema = schema
                        after = text.partition(prefix)[2].partition("/")[0]
                        self.table = self._names(schema).get(after)
                        return

    @property
    def shown(self) -> str | None:
        """The table for people, or the schema where only that is known."""
        return full_name(self.graph, self.table) if self.table else None

    def on(self, what: Capability) -> str:
        """What the chain is about: new tables have none of their own, so declaring is about the schema."""
        about_schema = what in (Capability.DECLARE, Capability.REFERENCE, Capability.ALTER)
        return str(self.schema) if self.table is None or about_schema else str(self.table)

    def notes(self) -> Iterator[str]:
        """Say what the text leaves open."""
        if self.named_schema is not None and self.schema is None:
            nearest = advice(self.named_schema, self.graph.schemas, what="schemas")
            yield f"the project has no schema {self.named_schema!r}: {nearest}"
        elif self.schema is None and len(self.candidates) > 1:
            schemas = ", ".join(table.schema for table in self.candidates)
            yield f"the text does not say which schema: {schemas} have a table {self.named_table}"
        elif self.named_table is not None and self.table is None:
            where = f"schema {self.schema}" if self.schema else "no schema"
            yield f"the code declares no table {self.named_table!r}" + (f" in {where}" if self.schema else "")
