"""The DataJoint client, embedded: isolated connections, job tables, and pipelines in their own process.

The client is imported only when needed: it takes most of a second. It reads ``DJ_*`` variables and a
``datajoint.json`` in any parent directory, which must not decide what djops connects to, so both are kept
from it while djops makes a connection (precedence measured with 2.3.5).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import ssl
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from djops.errors import ClientError, UsageError
from djops.model.graph import TableName
from djops.model.names import Tier, job_table_of
from djops.model.nearest import advice
from djops.model.project import Store
from djops.systems.client_errors import explain_remote, explained
from djops.systems.connections import MysqlConnection, Secret
from djops.systems.process import reap

RUNNER = Path(__file__).with_name("pipeline_runner.py")

_READ_BY_CLIENT = ("LIMIT", "WIDTH", "CHARSET", "SHOW_TUPLE_COUNT")
"""Variables without prefix that the client's display settings read; a word in ``LIMIT`` stops its import."""

_CA_VARIABLE = "AWS_CA_BUNDLE"

SILENT_SECONDS = 1800.0
"""How long the pipeline's Python may say nothing: a module declares its tables, and the demo computes."""

_environment = threading.RLock()


@dataclass(frozen=True)
class StoreKeys:
    """The pair that opens a store.

    Attributes:
        access_key: Access key id.
        secret_key: Secret access key.
    """

    access_key: str
    secret_key: Secret


def store_settings(store: Store, endpoint: str) -> dict[str, Any]:
    """Say where a store is in the client's words.

    Args:
        store: The store.
        endpoint: URL of the S3 server, with scheme.

    Returns:
        A ``stores.<name>`` block without keys, as ``datajoint.json`` takes it. ``secure`` is always named,
        because the client assumes TLS.
    """
    url = urlsplit(endpoint)
    settings: dict[str, Any] = {
        "protocol": store.protocol,
        "endpoint": url.netloc,
        "bucket": store.bucket,
        "location": store.location,
        "secure": url.scheme != "http",
    }
    if store.hash_prefix != "_hash":
        settings["hash_prefix"] = store.hash_prefix
    if store.schema_prefix != "_schema":
        settings["schema_prefix"] = store.schema_prefix
    return settings


def opened(settings: Mapping[str, Any], keys: StoreKeys) -> dict[str, Any]:
    """Add the keys to a store's settings; for memory and pipes, never for a file others read."""
    return {**settings, "access_key": keys.access_key, "secret_key": keys.secret_key.reveal()}


def opened_stores(
    stores: Mapping[str, Store], endpoint: str, keys: Callable[[str], StoreKeys]
) -> dict[str, dict[str, Any]]:
    """Return the settings of all stores with their keys: what :func:`connect` and :func:`run_pipeline` take.

    Args:
        stores: The project's stores.
        endpoint: URL of the S3 server, with scheme.
        keys: Returns the keys for a store's name.
    """
    return {name: opened(store_settings(store, endpoint), keys(name)) for name, store in stores.items()}


def tls_settings(mysql: MysqlConnection) -> dict[str, Any]:
    """Return the client's ``use_tls``: only a mapping with ``ca`` makes it encrypt *and* verify."""
    ca = str(mysql.ca) if mysql.ca else ssl.get_default_verify_paths().cafile
    # A way to the server ends here under another name than its certificate has.
    return {"ca": ca or _bundled_authorities()} | ({} if mysql.through is None else {"check_hostname": False})


def _bundled_authorities() -> str:
    import botocore.httpsession

    return str(botocore.httpsession.where())


@contextlib.contextmanager
def _own_settings() -> Iterator[Any]:
    """Import the client with nothing of the caller's environment or directory in its settings."""
    with _environment, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hidden = {name: os.environ.pop(name) for name in list(os.environ) if _is_read_by_client(name)}
        os.environ["DJ_IGNORE_CONFIG_FILE"] = "true"
        try:
            import datajoint

            logger = logging.getLogger("datajoint")
            logger.handlers = [logging.NullHandler()]
            logger.propagate = False
            yield datajoint
        finally:
            del os.environ["DJ_IGNORE_CONFIG_FILE"]
            os.environ.update(hidden)


def _is_read_by_client(name: str) -> bool:
    return name.startswith("DJ_") or name in _READ_BY_CLIENT


@contextlib.contextmanager
def trusting(ca: Path | None) -> Iterator[None]:
    """Let clients verify the object store against an authority; the client itself takes none.

    Args:
        ca: PEM file of the authority; ``None`` changes nothing.

    Yields:
        While ``AWS_CA_BUNDLE``, which the client's S3 library reads, names it.
    """
    before = os.environ.get(_CA_VARIABLE)
    if ca is not None:
        os.environ[_CA_VARIABLE] = str(ca)
    try:
        yield
    finally:
        if ca is not None:
            os.environ.pop(_CA_VARIABLE)
        if before is not None:
            os.environ[_CA_VARIABLE] = before


@contextlib.contextmanager
def connect(mysql: MysqlConnection, stores: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Any]:
    """Open an isolated client; several identities may be open at once, in several threads too.

    Args:
        mysql: The server and the account.
        stores: Store settings with keys, by the name the pipeline uses.

    Yields:
        A ``datajoint.Instance``. Its ``repr(config)`` shows the keys: do not log it.

    Raises:
        ServerUnavailableError: The server does not answer, or its certificate does not verify.
        AccessDeniedError: The server refuses the account.
    """
    password, tls = mysql.password.reveal(), tls_settings(mysql)
    host, port = mysql.address
    with explained(f"connecting to {mysql.host}:{mysql.port} as {mysql.user}"), _own_settings() as client:
        settings = {"safemode": False, "stores": dict(stores or {})}
        instance = client.Instance(host, mysql.user, password, port=port, use_tls=tls, **settings)
    try:
        yield instance
    finally:
        instance.connection.close()


def missing_job_tables(tables: Sequence[TableName]) -> tuple[TableName, ...]:
    """Name the job tables that imported and computed tables lack.

    Args:
        tables: All tables of some schemas, job tables included.

    Returns:
        The imported and computed tables without a job table.
    """
    there = set(tables)
    return tuple(
        table
        for table in tables
        if table.tier in (Tier.IMPORTED, Tier.COMPUTED)
        and TableName(table.schema, job_table_of(table.table)) not in there
    )


def create_job_tables(
    instance: Any,  # noqa: ANN401  the client has no types
    tables: Sequence[TableName],
    done: Callable[[TableName], None] = lambda table: None,
) -> tuple[TableName, ...]:
    """Create job tables without the pipeline's code, from what the database tells.

    Args:
        instance: A client opened as an account that may create tables in these schemas.
        tables: The imported and computed tables.
        done: Called after each job table that is there.

    Returns:
        Tables that cannot have one: nothing of their primary key comes from a parent.

    Raises:
        ClientError: A job table could not be created.
    """
    from datajoint.jobs import Job

    without = []
    for schema in sorted({table.schema for table in tables}):
        with explained(f"reading schema {schema}"):
            instance.Schema(schema, create_schema=False, create_tables=False)
    for table in tables:
        with explained(f"creating the job table of {table}"):
            target = instance.FreeTable(f"`{table.schema}`.`{table.table}`")
            if not _has_parent_key(instance, target):
                without.append(table)
                continue
            job = Job(target)
            if not job.is_declared:
                job.declare()
        done(table)
    return tuple(without)


def _has_parent_key(instance: Any, target: Any) -> bool:  # noqa: ANN401  the client has no types
    instance.connection.dependencies.load()
    return bool(target.parents(primary=True))


@dataclass(frozen=True)
class Reached:
    """A table that a cascade reaches.

    Attributes:
        table: The table.
        rows: How many of its rows.
        named: By attribute, how many of these rows hold which of the names that were looked for.
    """

    table: TableName
    rows: int
    named: Mapping[str, Mapping[str, int]]


def cascade(
    instance: Any,  # noqa: ANN401  the client has no types
    table: TableName,
    where: Mapping[str, str],
    names: Sequence[str],
) -> tuple[Reached, ...]:
    """Count the rows that deleting from a table would reach, the way the client's own delete finds them.

    Args:
        instance: A client opened as an account that sees the whole pipeline.
        table: The table.
        where: Values of its attributes that the rows concerned have; all rows when empty.
        names: Names of people to look for in the rows.

    Returns:
        The table, then those that depend on it, parents before children.

    Raises:
        UsageError: ``E_UNKNOWN`` for an attribute that the table does not have.
        ClientError: The table is not there.
    """
    from datajoint import Diagram

    with explained(f"reading {table}"):
        instance.Schema(table.schema, create_schema=False, create_tables=False)
        start = instance.FreeTable(f"`{table.schema}`.`{table.table}`")
        attributes = list(start.heading.names)
    for attribute in where:
        # The client takes a restriction to attributes that are not there for no restriction at all.
        if attribute not in attributes:
            raise UsageError(
                f"{table} has no attribute {attribute!r}",
                code="E_UNKNOWN",
                hint=advice(attribute, attributes, what="attributes"),
            )
    with explained(f"counting what depends on {table}"):
        found = Diagram.cascade(start & dict(where) if where else start)
        return tuple(_reached(part, names) for part in found)


def _reached(part: Any, names: Sequence[str]) -> Reached:  # noqa: ANN401  the client has no types
    """Count the rows of one table, and those that name somebody."""
    import datajoint

    schema, table = (name.strip("`") for name in part.full_table_name.split("`.`"))
    rows, named = len(part), {}
    texts = [a.name for a in part.heading.attributes.values() if a.type.startswith(("varchar", "char"))]
    for text in texts if rows and names else ():
        groups = datajoint.U(text).aggr(part & [{text: name} for name in names], rows="count(*)")
        found = {row[text]: row["rows"] for row in groups.to_dicts()}
        if found:
            named[text] = found
    return Reached(TableName(schema, table), rows, named)


def run_pipeline(
    source: Path,
    mysql: MysqlConnection,
    stores: Mapping[str, Mapping[str, Any]],
    *,
    modules: Sequence[str] = (),
    run: str | None = None,
    heard: Callable[[str], None] = lambda module: None,
) -> None:
    """Import a pipeline's modules, which declares their tables, and run one of them.

    Args:
        source: The folder that holds the package.
        mysql: The server and the account the pipeline shall connect as.
        stores: Store settings with keys, by the name the pipeline uses.
        modules: Modules to import, parents before children.
        run: A module to run as ``python -m`` would.
        heard: Called with each module that was imported.

    Raises:
        ClientError: The pipeline's code failed; ``where`` is the file and line.
        ServerUnavailableError: A server could not be reached.
        AccessDeniedError: A server refused the account or the keys.
    """
    host, port = mysql.address
    database = {"host": host, "port": port, "user": mysql.user, "tls": tls_settings(mysql)}
    job = {
        "path": str(source.resolve()),
        "database": {**database, "password": mysql.password.reveal()},
        "stores": {name: dict(settings) for name, settings in stores.items()},
        "modules": list(modules),
        "run": run,
    }
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            [_python_for(source), str(RUNNER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=_environment_for_pipeline(),
            cwd=source,
        )
        try:
            _converse(process, json.dumps(job), heard)
        finally:
            reap(process)
        if process.returncode != 0:
            said.seek(0)
            raise _runner_failed(process.returncode, said.read())


def _environment_for_pipeline() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not _is_read_by_client(name)}
    ours = {"DJ_IGNORE_CONFIG_FILE": "true", "DJ_LOG_STREAM": "stderr", "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | ours


def _python_for(source: Path) -> str:
    """Return the pipeline's own Python where it has one: its dependencies are installed there."""
    for folder in (source, *source.resolve().parents[:1]):
        own = folder / ".venv" / "bin" / "python"
        if own.exists():
            return str(own)
    return sys.executable


def _converse(process: subprocess.Popen[str], job: str, heard: Callable[[str], None]) -> None:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101  both are pipes
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(job)
    last = "it began"
    try:
        for line in _lines(process.stdout.fileno()):
            answer = json.loads(line)
            if answer["event"] == "error":
                raise explain_remote(answer)
            last = f"it imported {answer['module']}"
            heard(answer["module"])
        process.wait(SILENT_SECONDS)
    except (TimeoutError, subprocess.TimeoutExpired):
        raise ClientError(
            f"the pipeline's Python was not heard of for {SILENT_SECONDS:.0f} s after {last}, and was ended",
            hint="import the package by hand with the same Python; if it waits for the database, "
            "`SHOW PROCESSLIST` there tells for what",
        ) from None


def _lines(handle: int) -> Iterator[bytes]:
    """Yield lines as they come; a :class:`TimeoutError` when none does for too long."""
    rest = b""
    while select.select([handle], [], [], SILENT_SECONDS)[0]:
        data = os.read(handle, 1 << 16)
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        if not data:
            return
    raise TimeoutError


def _runner_failed(status: int, said: str) -> ClientError:
    last = [line for line in said.splitlines() if line.strip()][-1:]
    reason = f": {last[0].strip()}" if last else ""
    ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return ClientError(
        f"the pipeline's Python {ended}{reason}", hint="import the package by hand with the same Python"
    )
