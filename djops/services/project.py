"""The project as a whole: its file, its pipeline, and what is to be said about them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from djops.errors import ConfigError, DjopsError, ManyErrors, PipelineError, UsageError
from djops.model import loading
from djops.model.checking import check, remarks, reserved_schema, stage_of
from djops.model.compare import disagreements
from djops.model.editing import Edit
from djops.model.findings import Finding
from djops.model.graph import PipelineGraph, TableName, merge
from djops.model.nearest import advice
from djops.model.project import Project
from djops.model.source import CodecUse, SourceReading, read_source
from djops.model.symbols import SourceFile
from djops.model.yamltree import Positions
from djops.systems import projectedit, projectfile, sources
from djops.systems.resources import load_roles


@dataclass(frozen=True)
class Loaded:
    """A project whose file and source were read and agree.

    Attributes:
        project: The project file's content.
        project_file: The file.
        positions: Where in the file everything stands.
        graph: The pipeline as code and project file tell it; only its own schemas.
        findings: What is worth knowing.
        codecs: Every attribute whose values go to an object store.
        places: File and line of each table's class.
    """

    project: Project
    project_file: Path
    positions: Positions
    graph: PipelineGraph
    findings: tuple[Finding, ...]
    codecs: tuple[CodecUse, ...]
    places: Mapping[TableName, str]

    def stage(self, schema: str) -> str:
        """Return a schema's stage."""
        return stage_of(self.project, schema)


def load_project(project_file: Path) -> Project:
    """Read the project file alone, without the pipeline's source.

    Args:
        project_file: The ``djops.yaml``.

    Returns:
        The project, well formed; that its names mean something is what :func:`load` sees to.

    Raises:
        ConfigError: One thing is wrong with the file; ManyErrors: several.
    """
    return _read(project_file)[0]


def _read(project_file: Path) -> tuple[Project, Positions]:
    return loading.load(projectfile.read(project_file), projectfile.shown(project_file))


def load(project_file: Path, today: dt.date | None = None) -> Loaded:
    """Read the project file and the pipeline's source, and check them against each other.

    Args:
        project_file: The ``djops.yaml``.
        today: The day on which grants are judged; this day (UTC) unless given.

    Returns:
        The project, its graph and what is worth knowing about both.

    Raises:
        ConfigError: Something is wrong with the file.
        PipelineError: The source does not parse, or schemas depend on each other in a circle.
        ManyErrors: Several things are wrong.
    """
    project, places = _read(project_file)
    return check_project(project, places, project_file, today)


def load_text(text: str, project_file: Path, today: dt.date | None = None) -> Loaded:
    """Check what a project file would hold, before it is written.

    Args:
        text: The content.
        project_file: The file it is meant for; its folder is where the pipeline is.
        today: The day on which grants are judged; this day (UTC) unless given.

    Returns:
        As :func:`load` does, and with the same errors.
    """
    project, places = loading.load(text, projectfile.shown(project_file))
    return check_project(project, places, project_file, today)


def check_project(
    project: Project, places: Positions, project_file: Path, today: dt.date | None = None
) -> Loaded:
    """Read a project's source and check both; see :func:`load`."""
    root = project_file.parent / project.pipeline.path
    files = sources.read_package(root, project.pipeline.package)
    named, errors = _named_modules(project, places, files)
    reading = read_source(files, named)
    graph = _whole(project, reading)
    day = today or dt.datetime.now(dt.UTC).date()
    errors += check(project, graph.schemas, load_roles(), places, day)
    errors += _reserved(reading)
    errors += _cycle(graph, reading)
    if errors:
        raise ManyErrors(errors) if len(errors) > 1 else errors[0]
    findings = (
        *reading.findings,
        *_store_findings(project, reading, places),
        *_outside(project, reading, graph),
        *_alike(graph),
        *remarks(project, graph.schemas, places, day),
    )
    return Loaded(project, project_file, places, graph, findings, reading.codecs, reading.places)


def _named_modules(
    project: Project, places: Positions, files: Mapping[str, SourceFile]
) -> tuple[dict[str, str], list[DjopsError]]:
    """Find the modules that the project file names, by full name or within the package."""
    found: dict[str, str] = {}
    errors: list[DjopsError] = []
    package = project.pipeline.package
    short = {name.removeprefix(f"{package}."): name for name in files}
    for schema, entry in project.schemas.items():
        if entry.module is None:
            continue
        full = entry.module if entry.module in files else short.get(entry.module)
        if full is not None:
            found.setdefault(full, schema)
            continue
        where = places.where("schemas", schema, "module")
        hint = advice(entry.module, [*files, *short], what="modules")
        message = f"the pipeline has no module {entry.module!r}"
        errors.append(ConfigError(message, where=where, hint=hint, code="E_UNKNOWN_MODULE"))
    return found, errors


def _whole(project: Project, reading: SourceReading) -> PipelineGraph:
    """Unite what code and project file tell; what lies outside of the project is left out."""
    told = {name for name, entry in project.schemas.items() if not entry.code or entry.module is not None}
    extra = {name: frozenset(entry.upstream) for name, entry in project.schemas.items() if entry.upstream}
    graph = merge([reading.graph, PipelineGraph(schemas=frozenset(told), extra=extra)])
    inside = graph.schemas
    kept = {name: above & inside for name, above in graph.extra.items() if name in inside}
    return replace(graph, extra={name: above for name, above in kept.items() if above})


def _reserved(reading: SourceReading) -> Iterator[DjopsError]:
    for name in sorted(reading.graph.schemas):
        if reason := reserved_schema(name):
            yield PipelineError(
                f"the schema {name!r} cannot be part of a pipeline: {reason}",
                where=reading.graph.modules.get(name),
                code="E_RESERVED_NAME",
                hint="rename it",
            )


def _cycle(graph: PipelineGraph, reading: SourceReading) -> Iterator[DjopsError]:
    """Name a cycle between schemas, with the place of each of its edges."""
    if graph.cycle is not None:
        edges = "; ".join(_edge(graph, reading, child, parent) for child, parent in pairwise(graph.cycle))
        yield PipelineError(
            f"the schemas depend on each other in a cycle: {' -> '.join(graph.cycle)}",
            code="E_CYCLE",
            hint=f"dependencies must run one way: {edges}",
        )


def _edge(graph: PipelineGraph, reading: SourceReading, child: str, parent: str) -> str:
    for table, above in sorted(graph.references.items()):
        if table.schema == child and any(one.schema == parent for one in above):
            return f"{child} references {parent} in {reading.places.get(table, table)}"
    module = graph.modules.get(child)
    return f"{module} imports {graph.modules.get(parent)}" if module else f"{child} is upstream of {parent}"


def _store_findings(project: Project, reading: SourceReading, places: Positions) -> Iterator[Finding]:
    for use in reading.codecs:
        if use.store and use.store not in project.stores:
            message = (
                f"{use.table}.{use.attribute} uses the store {use.store!r}, which {places.file} does not have"
            )
            yield Finding(
                "W_UNKNOWN_STORE", message, use.where, advice(use.store, project.stores, what="stores")
            )


def _outside(project: Project, reading: SourceReading, graph: PipelineGraph) -> Iterator[Finding]:
    for schema, above in sorted(reading.graph.extra.items()):
        for name in sorted(above - graph.schemas):
            message = f"the schema {schema!r} depends on {name!r}, which is not part of this project"
            entry = f"`schemas: {{{name}: {{code: false}}}}`"
            hint = f"rights on it are somebody else's; to have djops give them: {entry}"
            yield Finding("W_OUTSIDE", message, graph.modules.get(schema), hint, "info")


def _alike(graph: PipelineGraph) -> Iterator[Finding]:
    folded: dict[str, str] = {}
    for name in sorted(graph.schemas):
        first = folded.setdefault(name.casefold(), name)
        if first != name:
            message = f"the schemas {first!r} and {name!r} differ only by case"
            hint = "a server with lower_case_table_names takes them for one; rename one"
            yield Finding("W_CASE", message, graph.modules.get(name), hint)


def around(loaded: Loaded, schema: str | None) -> frozenset[str]:
    """Return a schema with everything it depends on and that depends on it; all schemas without one.

    Args:
        loaded: The project.
        schema: The schema, or its module.

    Raises:
        UsageError: ``E_UNKNOWN_SCHEMA`` with the nearest name.
    """
    graph = loaded.graph
    if schema is None:
        return graph.schemas
    by_module = {module: name for name, module in graph.modules.items()}
    name = schema if schema in graph.schemas else by_module.get(schema)
    if name is None:
        hint = advice(schema, graph.schemas, what="schemas")
        raise UsageError(f"there is no schema {schema!r}", hint=hint, code="E_UNKNOWN_SCHEMA")
    return graph.upstream(name) | {name} | graph.downstream(name)


def pipeline_findings(loaded: Loaded) -> tuple[Finding, ...]:
    """Return the findings about the pipeline, without those about grants."""
    return tuple(one for one in loaded.findings if one.code not in ("W_EXPIRED", "W_COVERED"))


def counts(loaded: Loaded) -> dict[str, int]:
    """Count what a project has."""
    project = loaded.project
    return {
        "schemas": len(loaded.graph.schemas),
        "tables": len(loaded.graph.tables),
        "stores": len(project.stores),
        "people": len(project.people),
        "services": len(project.services),
        "grants": sum(len(principal.grants) for principal in project.principals.values()),
    }


@dataclass(frozen=True)
class Edited:
    """A change of the project file.

    Attributes:
        before: The file's content when it was read.
        after: What it holds with the change.
        loaded: The project with the change.
    """

    before: str
    after: str
    loaded: Loaded

    @property
    def changed(self) -> bool:
        """Whether there was anything to change."""
        return self.before != self.after


def edit(
    project_file: Path, decide: Callable[[Loaded], Sequence[Edit]], today: dt.date | None = None
) -> Edited:
    """Work out a change of the project file, and check what comes of it; nothing is written yet.

    Args:
        project_file: The ``djops.yaml``.
        decide: Says what to change, from :mod:`djops.model.editing`.
        today: The day on which grants are judged.

    Returns:
        The change, for :func:`save`.

    Raises:
        ConfigError: The file was wrong before.
        UsageError: ``E_...`` as the check names it, when the change would make it wrong.
    """
    before = projectfile.read(project_file)
    loaded = load_text(before, project_file, today)
    after = projectedit.edit_text(before, projectfile.shown(project_file), decide(loaded))
    if after == before:
        return Edited(before, after, loaded)
    try:
        return Edited(before, after, load_text(after, project_file, today))
    except DjopsError as error:
        # The lines it names are of a file that does not exist.
        wrong: list[DjopsError] = [
            UsageError(one.message, hint=one.hint, code=one.code) for one in error.flatten()
        ]
        raise (ManyErrors(wrong) if len(wrong) > 1 else wrong[0]) from error


def save(edited: Edited, project_file: Path) -> None:
    """Write a change into the project file, unless somebody else changed it meanwhile.

    Raises:
        ConfigError: ``E_CHANGED`` when somebody did.
    """
    if edited.changed:
        projectfile.write(project_file, edited.after, expected=edited.before)


def compare(loaded: Loaded, database: PipelineGraph) -> tuple[Finding, ...]:
    """Say where code and database tell different things.

    Args:
        loaded: The project.
        database: What the database has of its schemas.

    Returns:
        Findings that name both sides.
    """
    return tuple(disagreements(loaded.graph, database, loaded.places))


def live_graph(loaded: Loaded, environment: str | None = None) -> PipelineGraph:
    """Read the pipeline as the database of an environment has it.

    Args:
        loaded: The project.
        environment: Name of the environment; ``None`` means the only one, or ``local``.

    Returns:
        The graph of those of the project's schemas that exist.

    Raises:
        ServerUnavailableError: The database does not answer.
    """
    from djops.services.site import open_site
    from djops.systems.mysql import Mysql

    database = Mysql(open_site(loaded.project_file, environment).mysql)
    try:
        return database.read_graph(loaded.graph.schemas)
    finally:
        database.close()
