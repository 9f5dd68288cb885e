"""Real servers with a small pipeline on them, brought to wherever a case begins, and looked at closely."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crash import machines
from crash.cases import ByHand, Case, Side
from crash.machines import Machine
from crash.points import SYSTEMS, MakePlan, through
from djops.compile.machines import engine_config
from djops.compile.mysql_manager import SCHEMA_PRIVILEGES
from djops.compile.mysql_state import AccountId, MysqlCatalog
from djops.compile.secrets_state import SecretsState
from djops.compile.vault import DATABASE
from djops.errors import StartError
from djops.model.graph import PipelineGraph
from djops.plan.change import Plan
from djops.proof.iam_state import CatalogUser
from djops.services import access, evidence, rotation
from djops.services import lab as labs
from djops.services.access import Servers, Wanted
from djops.services.evidence import Evidence
from djops.services.site import Site, open_site
from djops.systems.connections import Secret
from djops.systems.mysql import Mysql
from djops.systems.probes import S3Probe
from djops.systems.vault import StoredSecret
from tests.support.leases import drops
from tests.support.wire import Wires

UPSTREAM: Mapping[str, Sequence[str]] = {
    "mice": (),
    "mice_ephys": ("mice",),
    "mice_imaging": ("mice",),
    "mice_papers": ("mice_ephys", "mice_imaging"),
}
TABLES: Mapping[str, Sequence[str]] = {
    "mice": ("mouse",),
    "mice_ephys": ("#probe", "_recording"),
    "mice_imaging": ("_scan", "__segment"),
    "mice_papers": ("figure",),
}
GRAPH = PipelineGraph(
    schemas=frozenset(UPSTREAM),
    extra={schema: frozenset(above) for schema, above in UPSTREAM.items()},
)
STRANGER = "other_lab"
"""A schema and an account of somebody else on the same database server."""


_STARTS, _NO_ROOM = 10, "io_setup() failed"
"""How often a start is tried while other programs of the machine have all its asynchronous I/O."""


@dataclass(frozen=True)
class Seen:
    """Everything the servers hold at one moment.

    Attributes:
        evidence: What their catalogs mean, for everybody whom a case is about.
        secrets: What the secrets server holds, without secrets.
        kept: The credentials kept for each person and service.
        passwords: Accounts that have a password, as root sees it.
        settings: Services' log-ins, what the database engine makes for them, and how it reaches MySQL.
        procedures: The stored procedures that the engine may call.
    """

    evidence: Evidence
    secrets: SecretsState
    kept: Mapping[str, StoredSecret]
    passwords: frozenset[str]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    procedures: Mapping[str, str] = field(default_factory=dict)

    def is_kept(self, name: str) -> bool:
        """Tell whether somebody has a database password that djops is to keep."""
        project = self.evidence.wanted.project
        engine = name in project.services and project.services[name].credentials.type != "kept"
        return name in project.principals and not engine

    @property
    def mysql(self) -> MysqlCatalog:
        """What the database holds."""
        return self.evidence.mysql.catalog

    @property
    def users(self) -> Mapping[str, CatalogUser]:
        """The users of the object store."""
        return self.evidence.s3.catalog.users if self.evidence.s3 is not None else {}


class Stage:
    """A lab with the pipeline on it.

    Args:
        project_file: The project file of a lab that is up.
        wires: The lines to its servers.
    """

    def __init__(self, project_file: Path, wires: Wires) -> None:
        self.site = open_site(project_file)
        self.wires = wires
        self._probes: dict[tuple[str, str], S3Probe] = {}
        self._observer = Servers(self.site)
        # Where clients are kept, the processes that are hit later on have them from here.
        Servers(through(self.site, wires)).close()

    def wanted(self, case: Case, side: Side) -> Wanted:
        """Return what is wanted on one side of a case."""
        return Wanted.of(side.project(self.site.project, case.everybody), GRAPH, side.today)

    def at(self, wanted: Wanted) -> Site:
        """Return the site with what is wanted in the place of its own project."""
        return replace(self.site, project=wanted.project)

    @contextlib.contextmanager
    def changing(self, wanted: Wanted) -> Iterator[Servers]:
        """Connect as a fresh djops does, with the locks that an apply holds."""
        with Servers(self.at(wanted)) as servers, servers.changing("apply", 10):
            yield servers

    def bring_to(self, wanted: Wanted) -> Plan:
        """Make a plan and carry it out; returns what is left to do, which should be nothing."""
        with self.changing(wanted) as servers:
            access.apply(servers, access.make_plan(servers, wanted))
            return access.make_plan(servers, wanted)

    @contextlib.contextmanager
    def set_up(self, case: Case) -> Iterator[Mapping[str, Machine]]:
        """Bring the servers to where a case begins; yields its services, each logged in."""
        before = self.wanted(case, case.before)
        with contextlib.ExitStack() as stack:
            with self.changing(before) as servers:
                access.apply(servers, access.make_plan(servers, before))
                started = {
                    name: machines.start(servers, before.project, name) for name in case.before.services
                }
            for machine in started.values():
                stack.callback(machine.session.close)
            self._as_it_begins(case, before)
            yield started

    def _as_it_begins(self, case: Case, before: Wanted) -> None:
        if any(isinstance(step, str) and "IDENTIFIED" in step for step in case.by_hand):
            time.sleep(1.1)  # the server tells in whole seconds when a password was changed
        self.by_hand(case.by_hand)
        if case.renews == "finish":
            with self.changing(before) as servers:
                access.apply(servers, rotation.begin(servers, before, case.concerned))

    def plan_of(self, case: Case) -> MakePlan:
        """Return what makes the plan of a case."""
        halves: Mapping[str, MakePlan] = {
            "begin": lambda servers, wanted: rotation.begin(servers, wanted, case.concerned),
            "finish": lambda servers, wanted: rotation.finish(servers, wanted, case.concerned),
        }
        return halves.get(case.renews, access.make_plan)

    def carry_out(self, case: Case, wanted: Wanted) -> None:
        """Carry out a case's plan, or what is left of it; a renewal that it begins is finished as well."""
        with self.changing(wanted) as servers:
            access.apply(servers, self.plan_of(case)(servers, wanted))
            if case.renews:
                access.apply(servers, rotation.finish(servers, wanted, case.concerned))

    def by_hand(self, steps: Sequence[ByHand]) -> None:
        """Do as somebody would who does not know djops."""
        with Servers(self.site) as servers:
            for step in steps:
                if isinstance(step, str):
                    self.as_root(step)
                else:
                    access.execute(servers, step)

    def as_root(self, *statements: str) -> None:
        """Run SQL as the database's root."""
        assert self.site.mysql_root is not None
        with Mysql(self.site.mysql_root) as root:
            for statement in statements:
                root.query(statement)

    def see(self, case: Case, wanted: Wanted) -> Seen:
        """Look at everything.

        Args:
            case: The case, for everybody whom it is about.
            wanted: What the project file wants at this time.
        """
        servers, project = self.observer(wanted), wanted.project
        found, secrets = evidence.gather(servers, wanted), servers.secrets.state(project.project)
        host = project.environments[self.site.environment].host_pattern
        return Seen(
            evidence=replace(found, accounts={name: AccountId(name, host) for name in case.principals}),
            secrets=secrets,
            kept=self.kept(case),
            passwords=self._with_password(),
            settings=self._settings(servers, secrets) if case.services else {},
            procedures=servers.mysql.procedures() if case.services else {},
        )

    def _settings(self, servers: Servers, secrets: SecretsState) -> Mapping[str, Mapping[str, Any]]:
        path = f"{DATABASE}/config/{engine_config(self.site.project.project)}"
        connection = servers.secrets.request("GET", path)
        found = {**(secrets.settings or {}), **({path: connection["data"]} if connection else {})}
        # When a password was renewed last is another thing each time.
        return {
            path: {name: value for name, value in settings.items() if not name.startswith("last_")}
            for path, settings in found.items()
        }

    def kept(self, case: Case) -> Mapping[str, StoredSecret]:
        """Read the credentials that are kept for everybody whom a case is about."""
        project, secrets = self.site.project.project, self._observer.secrets
        stored = {name: secrets.read_secret(case.path(project, name)) for name in case.principals}
        return {name: one for name, one in stored.items() if one is not None}

    def observer(self, wanted: Wanted) -> Servers:
        """Return connections that only look."""
        self._observer.mysql.close()  # whatever happened to it
        self._observer.site = self.at(wanted)
        return self._observer

    def _with_password(self) -> frozenset[str]:
        assert self.site.mysql_root is not None
        with Mysql(self.site.mysql_root) as root:
            rows = root.query("SELECT User FROM mysql.user WHERE authentication_string <> ''")
        return frozenset(str(user) for (user,) in rows)

    def as_person(self, key: str, secret: str) -> S3Probe:
        """Return the object store as somebody with a key."""
        if (key, secret) not in self._probes:
            connection = replace(self.site.s3, access_key=key, secret_key=Secret(secret))
            self._probes[key, secret] = S3Probe(connection)
        return self._probes[key, secret]

    def start_again(self) -> None:
        """Bring back what was killed, as `djops up` does, and open all lines."""
        self.wires.heal()
        for _ in range(_STARTS):
            try:
                labs.up(self.site.project, self.site.environment)
                return
            except StartError as error:
                if _NO_ROOM not in error.message:
                    raise
                time.sleep(5)


@contextlib.contextmanager
def staged(project_file: Path) -> Iterator[Stage]:
    """Put the pipeline onto a lab that is up, and leave the lab as it was found.

    Args:
        project_file: The lab's project file.
    """
    site = open_site(project_file)
    assert site.mysql_root is not None
    ports = {"mysql": site.mysql.port}
    for name, url in (("s3", site.s3.admin_endpoint), ("secrets", site.secrets.address)):
        ports[name] = int(url.rpartition(":")[2].strip("/"))
    assert set(ports) == set(SYSTEMS)
    with Wires(ports) as wires:
        stage = Stage(project_file, wires)
        try:
            stage.as_root(*_made())
            yield stage
        finally:
            wires.heal()
            labs.up(site.project, site.environment)
            stage.bring_to(Wanted.of(Side().project(site.project, {}), GRAPH))
            stage.as_root(*_removed(site.project.project))


def _made() -> Iterator[str]:
    for schema, tables in TABLES.items():
        yield f"CREATE DATABASE IF NOT EXISTS {schema}"
        yield from (
            f"CREATE TABLE IF NOT EXISTS {schema}.`{table}` (x INT PRIMARY KEY, y INT)" for table in tables
        )
    yield f"CREATE DATABASE IF NOT EXISTS {STRANGER}"
    yield f"CREATE USER IF NOT EXISTS {STRANGER} IDENTIFIED BY '{STRANGER}!7' REQUIRE SSL"
    yield f"GRANT SELECT ON `other\\_lab`.* TO {STRANGER}"


def _removed(project: str) -> Iterator[str]:
    yield from drops(project)
    yield f"DROP USER IF EXISTS {STRANGER}"
    for schema in (STRANGER, *reversed(list(UPSTREAM))):
        yield f"DROP DATABASE IF EXISTS {schema}"
    rights = ", ".join(SCHEMA_PRIVILEGES)
    for schema in UPSTREAM:
        pattern = schema.replace("_", "\\_")
        yield f"REVOKE IF EXISTS {rights}, GRANT OPTION ON `{pattern}`.* FROM 'djops'@'%'"
