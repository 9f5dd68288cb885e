"""Where the code and the database tell different things about a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from djops.model.findings import Finding
from djops.model.graph import PipelineGraph, TableName


def disagreements(
    code: PipelineGraph, database: PipelineGraph, places: Mapping[TableName, str] | None = None
) -> list[Finding]:
    """Compare what the code declares with what the database has, for the schemas the code knows.

    Args:
        code: The pipeline as the code and the project file tell it.
        database: The pipeline as the database has it.
        places: File and line of each table's class, where known.

    Returns:
        Findings that name both sides. A schema or table that only the code has is an ``info``: it is
        declared when its module is imported.
    """
    here = dict(places or {})
    found = [*_schemas(code, database)]
    both = code.schemas & database.schemas & frozenset(code.modules)
    found += _tables(code, database, both, here)
    found += _references(code, database, both, here)
    return found


def _schemas(code: PipelineGraph, database: PipelineGraph) -> Iterator[Finding]:
    for schema in sorted(code.schemas - database.schemas):
        module = code.modules.get(schema)
        told = f"the module {module}" if module else "djops.yaml"
        message = f"the schema {schema!r}: {told} has it, the database does not"
        hint = (
            "it is declared when its module is imported by somebody who may"
            if module
            else "is it spelled right?"
        )
        yield Finding("W_NOT_DECLARED", message, module, hint, "info" if module else "warning")


def _tables(
    code: PipelineGraph, database: PipelineGraph, schemas: frozenset[str], places: Mapping[TableName, str]
) -> Iterator[Finding]:
    for schema in sorted(schemas):
        module = code.modules[schema]
        mine = {table for table in code.tables_of(schema) if table.tier.holds_data}
        live = {table for table in database.tables_of(schema) if table.tier.holds_data}
        for table in sorted(mine - live):
            message = f"the table {table}: the class {code.classes.get(table, module)} declares it, "
            message += "the database does not have it"
            hint = f"import {module} as somebody who may declare tables in {schema}"
            yield Finding("W_NOT_DECLARED", message, places.get(table), hint, "info")
        for table in sorted(live - mine):
            message = f"the table {table}: the database has it, no class in {module} declares it"
            yield Finding("W_NOT_IN_CODE", message, module, "drop the table, or restore its class")


def _references(
    code: PipelineGraph, database: PipelineGraph, schemas: frozenset[str], places: Mapping[TableName, str]
) -> Iterator[Finding]:
    for table in sorted(code.tables & database.tables):
        if table.schema not in schemas or not table.tier.holds_data:
            continue
        mine = code.references.get(table, frozenset())
        live = database.references.get(table, frozenset())
        where = places.get(table)
        for parent in sorted(mine - live):
            message = f"{table}: the code references {parent}, the database has no such foreign key"
            hint = (
                "a definition changed after its table was declared; only alter() or a new table changes that"
            )
            yield Finding("W_REFERENCE_DIFFERS", message, where, hint)
        for parent in sorted(live - mine):
            message = f"{table}: the database has a foreign key to {parent}, the code does not reference it"
            yield Finding(
                "W_REFERENCE_DIFFERS", message, where, "a definition changed after its table was declared"
            )
