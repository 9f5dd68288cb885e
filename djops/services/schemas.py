"""The pipeline's schemas on the server: declaring them, and giving tables declared later what they lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from djops.errors import PipelineError
from djops.model.graph import TableName
from djops.model.names import is_sandbox, sandbox_stem
from djops.model.project import SchemaEntry
from djops.services import access
from djops.services.access import Applied, Servers, Wanted
from djops.services.journal import note
from djops.services.site import Site
from djops.systems import datajoint
from djops.systems.progress import Progress, Silent


@dataclass(frozen=True)
class SchemaInfo:
    """One schema of the pipeline.

    Attributes:
        name: Its name in the database.
        module: The module that declares it, where known.
        stage: Its stage.
        upstream: The schemas it depends on directly.
        there: Whether the database has it.
        tables: How many tables it has there, hidden ones left out.
        missing_job_tables: Imported and computed tables on which nobody can reserve jobs yet.
        owner: Whose sandbox it is, if it stands for the schemas of one.
        holds: The schemas in the sandbox.
    """

    name: str
    module: str | None
    stage: Literal["production", "development"]
    upstream: tuple[str, ...]
    there: bool
    tables: int
    missing_job_tables: tuple[TableName, ...]
    owner: str | None = None
    holds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Attributes:
        job_tables: Tables that got a job table.
        without: Tables that cannot have one: no part of their primary key comes from a parent.
        applied: The changes of rights.
    """

    job_tables: tuple[TableName, ...]
    without: tuple[TableName, ...]
    applied: Applied


def survey(servers: Servers, wanted: Wanted) -> tuple[SchemaInfo, ...]:
    """Read what the database has of the pipeline.

    Args:
        servers: The servers.
        wanted: The pipeline as code and project file tell it.

    Returns:
        The schemas, parents before children, and people's sandboxes.
    """
    live, inventory = servers.mysql.read_pipeline(wanted.graph.schemas)
    graph = access.whole_graph(wanted.graph, live)
    tables: dict[str, list[TableName]] = {}
    for table in sorted(inventory.tables):
        tables.setdefault(table.schema, []).append(table)
    shared = tuple(
        SchemaInfo(
            name=name,
            module=graph.modules.get(name),
            stage=wanted.project.schemas.get(name, SchemaEntry()).stage,
            upstream=tuple(sorted(graph.parents.get(name, ()))),
            there=name in live.schemas,
            tables=sum(table.tier.holds_data for table in tables.get(name, ())),
            missing_job_tables=datajoint.missing_job_tables(tables.get(name, ())),
        )
        for name in graph.order
        if not is_sandbox(name)
    )
    owned = wanted.project.owned
    found = servers.mysql.tables_below([sandbox_stem(sandbox) for sandbox in owned.values()])
    return (*shared, *(_sandbox(person, sandbox, found) for person, sandbox in sorted(owned.items())))


def _sandbox(person: str, sandbox: str, found: Mapping[str, tuple[TableName, ...]]) -> SchemaInfo:
    inside = tuple(schema for schema in sorted(found) if schema.startswith(sandbox_stem(sandbox)))
    tables = [table for schema in inside for table in found[schema] if table.tier.holds_data]
    return SchemaInfo(sandbox, None, "development", (), bool(inside), len(tables), (), person, inside)


def require_power(servers: Servers, wanted: Wanted) -> None:
    """See to it that djops' own account has its rights on every schema of the pipeline, new ones included.

    Args:
        servers: The servers.
        wanted: The pipeline.

    Raises:
        AccessDeniedError: ``E_DENIED`` naming what the database administrator must grant, where djops
            cannot give it itself.
    """
    access.read_database(servers, wanted.graph.schemas)


def sync(
    servers: Servers, wanted: Wanted, missing: tuple[TableName, ...], progress: Progress | None = None
) -> Synced:
    """Create job tables as the administrator, then bring all rights up to date.

    Args:
        servers: The servers; the caller holds :meth:`Servers.changing`.
        wanted: What they should hold.
        missing: Tables without a job table, from :func:`survey`.
        progress: Who wants to know.

    Returns:
        What was done.

    Raises:
        ClientError: A job table could not be created.
        ApplyError: A right could not be changed; the next sync goes on from there.
    """
    told = progress or Silent()
    without: tuple[TableName, ...] = ()
    if missing:
        with told.step("Creating job tables") as step, datajoint.connect(servers.site.mysql) as client:
            note(servers.journal, servers.cause, tables=", ".join(map(str, missing)))
            without = datajoint.create_job_tables(client, missing, lambda table: step.note(str(table)))
    applied = access.apply(servers, access.make_plan(servers, wanted), told)
    made = tuple(table for table in missing if table not in without)
    return Synced(made, without, applied)


def administrator_stores(site: Site) -> Mapping[str, Mapping[str, Any]]:
    """Return the settings of all stores with djops' own keys; they must not be shown."""
    keys = datajoint.StoreKeys(site.s3.access_key, site.s3.secret_key)
    return datajoint.opened_stores(site.project.stores, site.s3.endpoint, lambda name: keys)


def declare(
    site: Site, wanted: Wanted, run: str | None = None, heard: Callable[[str], None] = lambda module: None
) -> tuple[str, ...]:
    """Import the pipeline's modules as the administrator, in a process of its own, which declares its tables.

    Args:
        site: The environment.
        wanted: The pipeline, for its modules and their order.
        run: A module to run after that, as ``python -m`` would.
        heard: Called with each module that was imported.

    Returns:
        The modules.

    Raises:
        PipelineError: ``E_MODULE`` when it is not known which modules declare the schemas.
        ClientError: The pipeline's code failed; ``where`` is the file and line.
    """
    graph = wanted.graph
    modules = tuple(dict.fromkeys(graph.modules[name] for name in graph.order if name in graph.modules))
    if not modules:
        raise PipelineError(
            "no module of the pipeline declares a schema",
            where=str(site.project_file),
            code="E_MODULE",
            hint="check `pipeline:`, or name the modules under `schemas:`",
        )
    source = site.project_file.parent / site.project.pipeline.path
    with datajoint.trusting(site.s3.ca):
        datajoint.run_pipeline(
            source, site.mysql, administrator_stores(site), modules=modules, run=run, heard=heard
        )
    return modules
