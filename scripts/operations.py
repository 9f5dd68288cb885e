"""What every role may do with the real client on real servers: each operation tried by each role.

Three scratch schemas in a row (up, mid, down) and a throw-away principal for each role, which it is given on
the one in the middle, come about the way that people's rights come about. Everything is removed in the end.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from djops.compile.s3 import schema_prefixes
from djops.compile.vault import secret_path
from djops.model.graph import PipelineGraph, TableName
from djops.model.project import Grant, Project, SchemaEntry, Service
from djops.model.roles import Role
from djops.plan.operations import AwsCall
from djops.services import access, trial
from djops.services.schemas import administrator_stores
from djops.services.site import Site
from djops.services.trial import Trial
from djops.systems import datajoint
from djops.systems.client_errors import is_denial
from djops.systems.connections import Secret
from djops.systems.resources import load_error_texts, load_roles

Outcome = Literal["works", "denied", "nothing", "harm", "failed"]
"""``nothing``: no complaint, and nothing happened; ``harm``: denied, and something happened all the same."""

PLACES = ("up", "mid", "down")
LOCK_WAIT = 30.0


@dataclass(frozen=True)
class Operation:
    """Something that is tried.

    Attributes:
        name: Its name in the table, in the client's words.
        attempt: Does it as the principal with this number; ``False`` says that nothing came of it.
        happened: Whether it had its effect, as the administrator sees it.
        prepare: Puts in place what it needs, as the administrator.
        clean: Takes away what would be in the way of others, as the administrator.
        harmed: Whether something else happened that a refusal should have kept from happening.
    """

    name: str
    attempt: Callable[[Pipeline, int], bool | None]
    happened: Callable[[Pipeline, int], bool] = lambda admin, number: True
    prepare: Callable[[Pipeline, int], object] = lambda admin, number: None
    clean: Callable[[Pipeline, int], object] = lambda admin, number: None
    harmed: Callable[[Pipeline, int], bool] = lambda admin, number: False


@dataclass(frozen=True)
class Cell:
    """One attempt.

    Attributes:
        role: Who tried.
        operation: What was tried.
        outcome: What came of it.
        text: What the client said, without names that differ from run to run.
        error: The catalogue's name of that text; ``None`` for one that it does not have.
    """

    role: str
    operation: str
    outcome: Outcome
    text: str = ""
    error: str | None = None


class Pipeline:
    """The three schemas as one identity sees them; tables are bound when they are first asked for.

    Args:
        instance: A client.
        schemas: The schemas' names by place.
        store: The store to put objects into.
        objects: Lists the objects of the schema in the middle.
        create: Whether this identity makes schemas and tables.
    """

    def __init__(
        self,
        instance: Any,  # noqa: ANN401  the client has no types
        schemas: Mapping[str, str],
        store: str,
        objects: Callable[[], frozenset[str]],
        *,
        create: bool = False,
    ) -> None:
        self.instance = instance
        self.schemas = schemas
        self.store = store
        self.objects = objects
        self.create = create
        self.garbage: dict[int, frozenset[str]] = {}
        self.numbers = itertools.count()
        self._tables: dict[str, Any] = {}

    def schema(self, place: str, **flags: bool) -> Any:  # noqa: ANN401
        """Open a schema; without flags as somebody does who makes nothing."""
        wanted = flags or {"create_schema": self.create, "create_tables": self.create}
        return self.instance.Schema(self.schemas[place], **wanted)

    def table(self, name: str) -> Any:  # noqa: ANN401
        """Return a table's class, bound to this identity."""
        if name not in self._tables:
            place = next(place for place, names in _DEFINITIONS.items() if name in names)
            self._tables[name] = self.bound(name, self.schema(place))
        return self._tables[name]

    def bound(self, name: str, schema: Any, **members: object) -> Any:  # noqa: ANN401
        """Bind a fresh class of a table to a schema, whatever was bound before."""
        made = _class(name, self, members)
        schema(made, context=self._context(name))
        return made

    def _context(self, name: str) -> dict[str, Any]:
        definition = _definition(name, self.store)
        return {parent: self.table(parent) for parent in re.findall(r"-> (\w+)", definition)}

    def free(self, place: str, table: str) -> Any:  # noqa: ANN401
        """Return a table by its SQL name, without its class."""
        return self.instance.FreeTable(f"`{self.schemas[place]}`.`{table}`")

    def sql(self, text: str) -> Any:  # noqa: ANN401
        """Run a statement; the places in braces stand for the schemas."""
        return self.instance.connection.query(text.format(**{n: f"`{s}`" for n, s in self.schemas.items()}))

    def count(self, text: str) -> int:
        """Return the number that a query counts."""
        return int(self.sql(f"SELECT COUNT(*) FROM {text}").fetchone()[0])

    def has_table(self, place: str, table: str) -> bool:
        """Whether a table is there."""
        return bool(self.sql(f"SHOW TABLES FROM {{{place}}} LIKE '{table}'").fetchone())

    def drop(self, place: str, table: str) -> None:
        """Drop a table and its lineage, as far as there are any."""
        self.sql(f"DROP TABLE IF EXISTS {{{place}}}.`{table}`")
        self.sql(f"DELETE FROM {{{place}}}.`~lineage` WHERE table_name = '{table}'")

    def add_session(self, number: int, session: int) -> None:
        """Insert a session with an object of its own."""
        import numpy

        raw = numpy.arange(8) + 1000 * number + session
        row = {"animal": number, "session": session, "note": "new", "raw": raw}
        self.table("Session").insert1(row)

    def add_recording(self, number: int, session: int) -> None:
        """Insert a session and what is recorded in it."""
        self.add_session(number, session)
        _record(self.table("Recording"), {"animal": number, "session": session})

    def remove_session(self, number: int, session: int) -> None:
        """Delete a session and everything that came of it."""
        (self.table("Session") & {"animal": number, "session": session}).delete()

    def has(self, table: str, number: int, session: int, **facts: object) -> bool:
        """Whether a row of a session is there."""
        return bool(self.table(table) & {"animal": number, "session": session, **facts})


_DEFINITIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "up": {"Animal": ("Manual", "animal : int32\n---\nname : varchar(16)")},
    "mid": {
        "Method": ("Lookup", "method : varchar(16)"),
        "Session": (
            "Manual",
            "-> Animal\nsession : int32\n---\nnote : varchar(16)\nraw : <blob@STORE>",
        ),
        "Recording": ("Imported", "-> Session\n---\ntrace : <blob@STORE>"),
        "Stats": ("Computed", "-> Recording\n---\ntotal : float64"),
        "Timed": ("Computed", "-> Recording\n---\nvalue : int32"),
        "Unqueued": ("Computed", "-> Recording\n---\nvalue : int32"),
    },
    "down": {"Report": ("Computed", "-> Stats\n---\nvalue : int32")},
}
_PART = "-> master\nchannel : int32"


def _definition(name: str, store: str) -> str:
    found = next(names[name] for names in _DEFINITIONS.values() if name in names)
    return found[1].replace("STORE", store)


def _class(name: str, pipeline: Pipeline, members: Mapping[str, object]) -> Any:  # noqa: ANN401
    """Make a class afresh: a class belongs to the identity it was first bound to."""
    import datajoint as client

    tier = next(names[name][0] for names in _DEFINITIONS.values() if name in names)
    own: dict[str, object] = {"definition": _definition(name, pipeline.store)}
    if name == "Method":
        own["contents"] = [{"method": "first"}]
    elif name == "Recording":
        own["make"] = _record
        own["Channel"] = type("Channel", (client.Part,), {"definition": _PART})
    elif tier == "Computed":
        own["make"] = _total if name == "Stats" else _value
    return type(name, (getattr(client, tier),), {**own, **members})


def _record(self: Any, key: dict[str, Any]) -> None:  # noqa: ANN401
    import numpy

    self.insert1({**key, "trace": numpy.arange(4) + key["session"]}, allow_direct_insert=True)
    self.Channel.insert(({**key, "channel": channel} for channel in range(2)), allow_direct_insert=True)


def _total(self: Any, key: dict[str, Any]) -> None:  # noqa: ANN401
    self.insert1({**key, "total": 1.0}, allow_direct_insert=True)


def _value(self: Any, key: dict[str, Any]) -> None:  # noqa: ANN401
    self.insert1({**key, "value": 1}, allow_direct_insert=True)


# The sessions that every principal finds, each for one operation.
READ, ALONE, PARENT, ABOVE, THERE, OLD, CHANGED, FRESH, QUEUED, LEAF, NEW, LOST = range(1, 13)


def furnish(admin: Pipeline, count: int) -> None:
    """Declare everything, and put in what each of the principals will work on."""
    for name in (name for names in _DEFINITIONS.values() for name in names):
        with _job_metadata(admin, on=name == "Timed"):
            admin.table(name)
    for number in range(count):
        admin.table("Animal").insert1({"animal": number, "name": "mouse"})
        admin.table("Animal").insert1({"animal": 100 + number, "name": "childless"})
        for session in (ALONE, THERE, OLD, CHANGED, FRESH, LEAF):
            admin.add_session(number, session)
        for session in (READ, PARENT, ABOVE):
            admin.add_recording(number, session)
    admin.table("Stats").populate()
    admin.table("Report").populate("session <> " + str(PARENT))
    _make_job_tables(admin)


@contextlib.contextmanager
def _job_metadata(admin: Pipeline, *, on: bool) -> Iterator[None]:
    settings = admin.instance.config.jobs
    before, settings.add_job_metadata = settings.add_job_metadata, on
    try:
        yield
    finally:
        settings.add_job_metadata = before


def _furnish_table(admin: Pipeline, place: str, name: str, definition: str, *parents: Any) -> Any:  # noqa: ANN401
    """Declare a table that one principal will try to alter or to drop; schema-wide rights reach it."""
    import datajoint as client

    made = type(name, (client.Manual,), {"definition": definition})
    admin.schema(place)(made, context={parent.__name__: parent for parent in parents})
    return made


def _furnish_pair(admin: Pipeline, number: int) -> None:
    base = _furnish_table(admin, "up", f"Base{number}", "base : int32")
    _furnish_table(admin, "mid", f"Child{number}", f"-> Base{number}", base)


def _remove_pair(admin: Pipeline, number: int) -> None:
    admin.drop("mid", f"child{number}")
    admin.drop("up", f"base{number}")


def _make_job_tables(admin: Pipeline) -> None:
    """Make the job tables that djops makes, of all tables but one."""
    names = [TableName(admin.schemas["mid"], name) for name in ("_recording", "__stats", "__timed")]
    datajoint.create_job_tables(admin.instance, names)


def _insert_again(client: Pipeline, number: int) -> None:
    import numpy

    row = {"animal": number, "session": THERE, "note": "again", "raw": numpy.arange(3)}
    client.table("Session").insert1(row, skip_duplicates=True)


def _replace(client: Pipeline, number: int) -> None:
    import numpy

    row = {"animal": number, "session": OLD, "note": "replaced", "raw": numpy.arange(3) + number}
    client.table("Session").insert1(row, replace=True)


def _fetch(client: Pipeline, number: int) -> bool:
    row = (client.table("Session") & {"animal": number, "session": READ}).fetch1()
    return int(row["raw"][0]) == 1000 * number + READ


def _join(client: Pipeline, number: int) -> bool:
    joined = client.table("Session") * client.table("Animal") & {"animal": number, "session": READ}
    return bool(joined.to_dicts()[0]["name"] == "mouse")


def _virtual(client: Pipeline, number: int) -> bool:
    import datajoint

    name = client.schemas["mid"]
    module = datajoint.VirtualModule("virtual", name, connection=client.instance.connection)
    return len(module.Session & {"animal": number, "session": READ}) == 1


def _bind_by_default(client: Pipeline, number: int) -> None:
    schema = client.schema("mid", create_schema=True, create_tables=True)
    for name in _DEFINITIONS["mid"]:
        client.bound(name, schema)


def _bind_grown_lookup(client: Pipeline, number: int) -> None:
    contents = [{"method": "first"}, {"method": f"new {number}"}]
    client.bound("Method", client.schema("mid", create_schema=False, create_tables=False), contents=contents)


def _collects(client: Pipeline, number: int, *, dry_run: bool) -> bool:
    import datajoint

    collector = datajoint.gc.GarbageCollector(client.schema("mid"), store=client.store)
    collector.backend.fs.invalidate_cache()  # it remembers what it listed for as long as the process lives
    found = collector.collect(dry_run=dry_run)
    return bool(found["hash_paths_orphaned"])


def _leave_garbage(admin: Pipeline, number: int) -> None:
    """Leave an object that no row refers to, unlike any before, or it would be stored only once."""
    before, session = admin.objects(), LOST + next(admin.numbers)
    admin.add_session(number, session)
    admin.garbage[number] = admin.objects() - before
    admin.remove_session(number, session)


def _declare(client: Pipeline, number: int, definition: str, parents: Sequence[str]) -> None:
    import datajoint as client_library

    name = f"Made{number}"
    made = type(name, (client_library.Manual,), {"definition": definition})
    context = {parent: client.table(parent) for parent in parents}
    client.schema("mid", create_schema=False, create_tables=True)(made, context=context)


def _alter(client: Pipeline, number: int) -> None:
    import datajoint as client_library

    name = f"Alter{number}"
    made = type(name, (client_library.Manual,), {"definition": "key : int32\n---\nadded = null : int32"})
    client.schema("mid")(made, context={})
    made().alter(prompt=False)


def _create_schema(client: Pipeline, number: int) -> None:
    client.instance.Schema(f"{client.schemas['mid']}_{number}")


def _connect(client: Pipeline, number: int) -> None:
    client.instance.connection.query("SELECT 1")


def _bind(client: Pipeline, number: int) -> None:
    for name in _DEFINITIONS["mid"]:
        client.table(name)


OPERATIONS = (
    Operation("dj.conn()", _connect),
    Operation("import, nothing to declare, `create_tables=False`", _bind),
    Operation("import with the client's own settings", _bind_by_default),
    Operation("import when `Lookup.contents` has grown", _bind_grown_lookup,
              lambda a, n: bool(a.table("Method") & {"method": f"new {n}"}),
              clean=lambda a, n: a.sql("DELETE FROM {mid}.`#method` WHERE method <> 'first'")),
    Operation("dj.VirtualModule()", _virtual),
    Operation("fetch, with objects", _fetch),
    Operation("join with a table upstream", _join),
    Operation("fetch downstream", lambda c, n: len(c.table("Report")()) > 0),
    Operation("insert1() of a manual row, with an object", lambda c, n: c.add_session(n, NEW),
              lambda a, n: a.has("Session", n, NEW)),
    Operation("insert1() of a lookup row", lambda c, n: c.table("Method").insert1({"method": f"own {n}"}),
              lambda a, n: bool(a.table("Method") & {"method": f"own {n}"})),
    Operation("insert1() upstream",
              lambda c, n: c.table("Animal").insert1({"animal": 200 + n, "name": "new"}),
              lambda a, n: bool(a.table("Animal") & {"animal": 200 + n})),
    Operation("insert1(skip_duplicates=True)", _insert_again),
    Operation("insert1(replace=True)", _replace, lambda a, n: a.has("Session", n, OLD, note="replaced")),
    Operation("update1()",
              lambda c, n: c.table("Session").update1({"animal": n, "session": CHANGED, "note": "changed"}),
              lambda a, n: a.has("Session", n, CHANGED, note="changed")),
    Operation("populate()", lambda c, n: _populate(c, "Recording", {"animal": n, "session": FRESH}),
              lambda a, n: a.has("Recording", n, FRESH)),
    Operation("populate(reserve_jobs=True)", lambda c, n: _populate(c, "Stats", reserve_jobs=True),
              lambda a, n: a.has("Stats", n, QUEUED), lambda a, n: a.add_recording(n, QUEUED),
              lambda a, n: a.remove_session(n, QUEUED)),
    Operation("populate(reserve_jobs=True), no job table",
              lambda c, n: _populate(c, "Unqueued", {"animal": n, "session": READ}, reserve_jobs=True),
              lambda a, n: a.has("Unqueued", n, READ), clean=lambda a, n: a.drop("mid", "~~unqueued")),
    Operation("populate() where job metadata is kept",
              lambda c, n: _populate(c, "Timed", {"animal": n, "session": READ}),
              lambda a, n: a.count(f"{{mid}}.__timed WHERE animal = {n} AND _job_duration IS NOT NULL") == 1,
              harmed=lambda a, n: a.has("Timed", n, READ)),
    Operation("progress(), jobs.progress()",
              lambda c, n: all((c.table("Stats").progress()[1], c.table("Stats").jobs.progress()))),
    Operation("delete() of rows on which nothing depends",
              lambda c, n: _delete(c, "Session", n, ALONE), lambda a, n: not a.has("Session", n, ALONE)),
    Operation("delete() with rows below in the same schema",
              lambda c, n: _delete(c, "Session", n, PARENT), lambda a, n: not a.has("Session", n, PARENT)),
    Operation("delete() with rows below in a schema downstream",
              lambda c, n: _delete(c, "Session", n, ABOVE), lambda a, n: not a.has("Session", n, ABOVE)),
    Operation("delete_quick()",
              lambda c, n: (c.table("Session") & {"animal": n, "session": LEAF}).delete_quick(),
              lambda a, n: not a.has("Session", n, LEAF)),
    Operation("delete() upstream", lambda c, n: bool((c.table("Animal") & {"animal": 100 + n}).delete()),
              lambda a, n: not a.table("Animal") & {"animal": 100 + n}),
    Operation("declare a table", lambda c, n: _declare(c, n, "made : int32", ()),
              lambda a, n: a.has_table("mid", f"made{n}"), clean=lambda a, n: a.drop("mid", f"made{n}")),
    Operation("declare a table that refers upstream", lambda c, n: _declare(c, n, "-> Animal", ("Animal",)),
              lambda a, n: a.has_table("mid", f"made{n}"), clean=lambda a, n: a.drop("mid", f"made{n}")),
    Operation("alter()", _alter,
              lambda a, n: bool(a.sql(f"SHOW COLUMNS FROM {{mid}}.alter{n} LIKE 'added'").fetchone()),
              lambda a, n: _furnish_table(a, "mid", f"Alter{n}", "key : int32"),
              lambda a, n: a.drop("mid", f"alter{n}")),
    Operation("drop()", lambda c, n: c.free("mid", f"spare{n}").drop(),
              lambda a, n: not a.has_table("mid", f"spare{n}"),
              lambda a, n: _furnish_table(a, "mid", f"Spare{n}", "spare : int32"),
              lambda a, n: a.drop("mid", f"spare{n}")),
    Operation("drop() upstream, with a table here below", lambda c, n: c.free("up", f"base{n}").drop(),
              lambda a, n: not a.has_table("up", f"base{n}"), _furnish_pair, _remove_pair,
              harmed=lambda a, n: not a.has_table("mid", f"child{n}")),
    Operation("create a schema", _create_schema,
              lambda a, n: bool(a.sql(f"SHOW DATABASES LIKE '{a.schemas['mid']}\\_{n}'").fetchone()),
              clean=lambda a, n: a.sql(f"DROP DATABASE IF EXISTS `{a.schemas['mid']}_{n}`")),
    Operation("gc: look for garbage", lambda c, n: _collects(c, n, dry_run=True), prepare=_leave_garbage),
    Operation("gc: remove garbage", lambda c, n: _collects(c, n, dry_run=False),
              lambda a, n: not a.garbage[n] & a.objects(), prepare=_leave_garbage),
)  # fmt: skip


def _populate(client: Pipeline, table: str, *restrictions: object, **settings: object) -> None:
    client.table(table).populate(*restrictions, **settings)


def _delete(client: Pipeline, table: str, number: int, session: int) -> bool:
    return bool((client.table(table) & {"animal": number, "session": session}).delete())


@dataclass(frozen=True)
class Holder:
    """A role as somebody holds it.

    Attributes:
        title: Its name in the table.
        role: The role's name.
        model: What the role is, where the role model does not say.
        cascade: Whether it is given with ``cascade``.
    """

    title: str
    role: str
    model: Role | None = None
    cascade: bool = False


def holders() -> tuple[Holder, ...]:
    """Return every role of the role model, and the two ways to have more of one."""
    roles = load_roles().roles
    found = {name: Holder(name, name) for name in roles}
    more = roles["analyst"].model_copy(update={"extras": frozenset({"skip_duplicates"})})
    extra = {
        "analyst": Holder("analyst with skip_duplicates", "analyst_more", more),
        "operator": Holder("operator with cascade", "operator", cascade=True),
    }
    return tuple(one for name in found for one in (found[name], *([extra[name]] if name in extra else [])))


@dataclass
class Rehearsal:
    """One run.

    Attributes:
        site: The environment.
        who: The roles that try.
        trials: What is recorded of the three scratch schemas, so that a killed run leaves nothing.
    """

    site: Site
    who: Sequence[Holder]
    trials: Mapping[str, Trial] = field(default_factory=dict)

    @property
    def schemas(self) -> dict[str, str]:
        """The schemas' names by place."""
        return {place: one.schema for place, one in self.trials.items()}

    def principal(self, number: int) -> str:
        """Name a principal."""
        return f"smoke_{self.trials['mid'].token}_{number}"

    def wanted(self) -> tuple[Site, access.Wanted]:
        """Return the site with a project of the run's own, and what its servers should hold."""
        model = load_roles()
        services = {}
        for number, one in enumerate(self.who):
            wide = one.model is None and model.roles[one.role].project_wide
            on = ("all",) if wide else (self.schemas["mid"],)
            grant = Grant(role=one.role, on=on, cascade=one.cascade, reason="rehearsal")
            services[self.principal(number)] = Service(grants=(grant,))
        project = Project(
            version=1,
            project=self.trials["mid"].project,
            pipeline=self.site.project.pipeline,
            environments=self.site.project.environments,
            stores=self.site.project.stores,
            schemas={self.schemas["mid"]: SchemaEntry(stage="development")},
            services=services,
            roles={one.role: one.model for one in self.who if one.model is not None},
        )
        graph = PipelineGraph(schemas=frozenset(self.schemas.values()))
        return replace(self.site, project=project), access.Wanted.of(project, graph)


def run(site: Site, who: Sequence[Holder] | None = None) -> tuple[Cell, ...]:
    """Try every operation as every role, and remove what was made for it.

    Args:
        site: The environment.
        who: The roles; all without.

    Returns:
        What came of it, operation by operation.
    """
    rehearsal = Rehearsal(site, who or holders())
    with ExitStack() as stack:
        rehearsal.trials = {place: stack.enter_context(_removed_after(site)) for place in PLACES}
        return _rehearse(rehearsal)


@contextlib.contextmanager
def _removed_after(site: Site) -> Iterator[Trial]:
    with trial.recorded(site) as current:
        try:
            yield current
        finally:
            trial.remove(site, current, LOCK_WAIT)


def _rehearse(rehearsal: Rehearsal) -> tuple[Cell, ...]:
    site, wanted = rehearsal.wanted()
    with ExitStack() as stack:
        servers = stack.enter_context(access.Servers(site))
        admin_client = stack.enter_context(datajoint.connect(site.mysql, administrator_stores(site)))
        store = min(site.project.stores)

        def objects() -> frozenset[str]:
            return _objects(servers, store, rehearsal.schemas["mid"])

        admin = Pipeline(admin_client, rehearsal.schemas, store, objects, create=True)
        furnish(admin, len(rehearsal.who))
        with servers.changing("rehearsal", LOCK_WAIT):
            access.apply(servers, access.make_plan(servers, wanted))
        clients = [
            Pipeline(stack.enter_context(_client(servers, rehearsal.principal(number))),
                     rehearsal.schemas, store, objects)
            for number in range(len(rehearsal.who))
        ]  # fmt: skip
        return tuple(
            _attempt(rehearsal, operation, number, clients[number], admin)
            for operation, number in itertools.product(OPERATIONS, range(len(clients)))
        )


def _objects(servers: access.Servers, store: str, schema: str) -> frozenset[str]:
    place = servers.site.project.stores[store]
    keys: set[str] = set()
    for prefix in schema_prefixes(place, schema):
        asked = {"Bucket": place.bucket, "Prefix": prefix}
        answer = servers.s3.call(AwsCall("s3", "ListObjectsV2", asked))
        keys.update(item["Key"] for item in answer.get("Contents", ()))
    return frozenset(keys)


@contextlib.contextmanager
def _client(servers: access.Servers, name: str) -> Iterator[Any]:
    """Connect as a principal, with the credentials the principal would find."""
    site = servers.site
    stored = servers.secrets.read_secret(secret_path(site.project, name))
    fields = stored.fields if stored else {}

    def keys(store: str) -> datajoint.StoreKeys:
        secret = Secret(fields[f"stores.{store}.secret_key"])
        return datajoint.StoreKeys(fields[f"stores.{store}.access_key"], secret)

    stores = datajoint.opened_stores(site.project.stores, site.s3.endpoint, keys)
    mysql = replace(site.mysql, user=name, password=Secret(fields["database.password"]))
    with datajoint.connect(mysql, stores) as client:
        yield client


def _attempt(
    rehearsal: Rehearsal, operation: Operation, number: int, client: Pipeline, admin: Pipeline
) -> Cell:
    operation.prepare(admin, number)
    text, error = "", None
    try:
        came = operation.attempt(client, number)
        outcome: Outcome = "works" if came is not False else "nothing"
    except Exception as raised:  # whatever the client raises is the observation
        outcome = "denied" if _denied(raised) else "failed"
        reading = load_error_texts().read(f"{type(raised).__name__}: {raised}")
        text, error = _told(rehearsal, raised), reading.entry.id if reading else None
    if outcome == "works" and not operation.happened(admin, number):
        outcome = "nothing"
    elif outcome == "denied" and operation.harmed(admin, number):
        outcome = "harm"
    operation.clean(admin, number)
    return Cell(rehearsal.who[number].title, operation.name, outcome, text, error)


def _denied(error: BaseException) -> bool:
    reading = load_error_texts().read(str(error))
    return is_denial(error) or (reading is not None and reading.entry.id in ("drop-referenced", "parent-row"))


def _told(rehearsal: Rehearsal, error: BaseException) -> str:
    """Return what the client said, with the names of this run replaced by what they stand for."""
    text = " ".join(str(error.args[1] if len(error.args) > 1 else error).split())
    for place, name in rehearsal.schemas.items():
        text = text.replace(name, place)
    text = re.sub(r"'smoke_[0-9a-f]+_\d+'@'[^']*'", "'WHO'@'HOST'", text)
    text = re.sub(r"\b(made|spare|base|child|alter)\d+", r"\1", text)
    text = re.sub(r"\bmid_\d+", "new", text)
    return f"{type(error).__name__}: {text}"
