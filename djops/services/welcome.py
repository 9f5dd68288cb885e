"""A welcome for somebody new: what she may do, where the servers are, and a link that gives her secrets once.

Nothing here is secret but the link. The page, the file beside it and the authority's certificate may be sent
by mail; whoever has the link first gets the secrets, so that it goes another way.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djops.compile.login import login_path
from djops.compile.rights import Rights, compile_rights, is_expired
from djops.compile.vault import MOUNT, policy_name, secret_path
from djops.errors import AccessDeniedError, DjopsError
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import Tier
from djops.services import access, credentials
from djops.services.access import Servers, Wanted
from djops.services.journal import note
from djops.services.site import Site
from djops.systems import links
from djops.systems.resources import load_words
from djops.systems.vault import Secrets, Wrapped

ACCESSOR, MADE, UNTIL = "welcome_accessor", "welcome_made", "welcome_until"
"""Facts beside a person's secret: the newest link's accessor, when it was made, when it ends."""

FILE = "djops-welcome.json"
AUTHORITY = "ca.pem"

_TIERS = (Tier.MANUAL, Tier.IMPORTED, Tier.COMPUTED, Tier.LOOKUP)
"""In the order in which a first query looks for a table: rows are most likely in the first."""


@dataclass(frozen=True)
class Held:
    """A line of the project file, in plain words.

    Attributes:
        role: The role.
        summary: What its holders do.
        on: The schemas.
        until: Last day, where it ends.
        reason: Why it was given.
    """

    role: str
    summary: str
    on: tuple[str, ...]
    until: dt.date | None
    reason: str | None


@dataclass(frozen=True)
class SchemaWords:
    """What somebody may do with one schema, in plain words.

    Attributes:
        name: The schema.
        level: The strongest of it, in two or three words.
        style: ``work``, ``read`` or ``closed``.
        can: Everything she can.
        cannot: What she cannot and might try.
    """

    name: str
    level: str
    style: str
    can: tuple[str, ...]
    cannot: tuple[str, ...]


@dataclass(frozen=True)
class Welcome:
    """What a welcome page tells.

    Attributes:
        who: Account name.
        project: The project.
        held: Her roles.
        schemas: All schemas, parents before children.
        graph: The pipeline.
        bundle: What her machine needs, for :data:`FILE`; nothing secret.
        authority: PEM text of the authority that the servers' certificates come from, where it is not a
            public one.
        query: A first query, lines of Python.
        table: The table that it asks.
        until: When the link ends.
    """

    who: str
    project: str
    held: tuple[Held, ...]
    schemas: tuple[SchemaWords, ...]
    graph: PipelineGraph
    bundle: Mapping[str, Any]
    authority: str | None
    query: tuple[str, ...]
    table: str | None
    until: dt.datetime


@dataclass(frozen=True)
class Issued:
    """A welcome with its link.

    Attributes:
        welcome: What the page tells.
        link: The link, to be given another way than the page.
    """

    welcome: Welcome
    link: Wrapped


def issue(servers: Servers, wanted: Wanted, names: Sequence[str], seconds: int) -> tuple[Issued, ...]:
    """Make welcomes for people whose accounts are there; links made for them earlier end.

    Args:
        servers: The servers; the caller holds :meth:`Servers.changing`.
        wanted: The project, the pipeline and the roles.
        names: The people.
        seconds: How long the links are good for.

    Returns:
        The welcomes, in the order of the names.

    Raises:
        DjopsError: ``E_NO_CREDENTIALS`` when somebody's account was not made yet.
    """
    live, _ = servers.mysql.read_pipeline(wanted.graph.schemas)
    graph = access.whole_graph(wanted.graph, live)
    rights = compile_rights(wanted.project, graph, wanted.roles, wanted.today)
    made = []
    for name in names:
        path = secret_path(wanted.project, name)
        end_link(servers.secrets, path)
        link = servers.secrets.wrap_secret(path, seconds)
        until = moment(link.made) + dt.timedelta(seconds=link.seconds)
        facts = {ACCESSOR: link.accessor, MADE: link.made, UNTIL: until.isoformat(timespec="seconds")}
        _note(servers.secrets, path, facts)
        note(servers.journal, servers.cause, welcomed=name, link_until=facts[UNTIL])
        made.append(Issued(tell(servers, wanted, graph, rights, name, link), link))
    return tuple(made)


def moment(text: str) -> dt.datetime:
    """Read a server's time, which has more digits than Python takes."""
    whole = text.rstrip("Z").partition(".")[0]
    return dt.datetime.fromisoformat(whole).replace(tzinfo=dt.UTC)


def _note(secrets: Secrets, path: str, facts: Mapping[str, str]) -> None:
    known = secrets.read_metadata(path)
    secrets.write_metadata(path, {**(known.facts if known else {}), **facts})


def end_link(secrets: Secrets, path: str) -> bool:
    """End the newest link to a secret, used or not.

    Args:
        secrets: The secrets server.
        path: The secret's path below the mount.

    Returns:
        Whether it is certain that no link is good: ``False`` where djops may not end it.
    """
    known = secrets.read_metadata(path)
    accessor = known.facts.get(ACCESSOR) if known else None
    if accessor:
        try:
            secrets.revoke_accessor(accessor)
        except AccessDeniedError:
            return False
    return True


def tell(
    servers: Servers, wanted: Wanted, graph: PipelineGraph, rights: Rights, name: str, link: Wrapped
) -> Welcome:
    """Gather what a welcome page tells.

    Args:
        servers: The servers.
        wanted: The project, the roles and the day.
        graph: The pipeline.
        rights: The compiled rights.
        name: The person.
        link: Her link.
    """
    site, may = servers.site, _by_schema(rights, graph, name)
    authority = None if site.secrets.ca is None else site.secrets.ca.read_text(encoding="ascii")
    until = moment(link.made) + dt.timedelta(seconds=link.seconds)
    table = first_table(graph, may)
    bundle = {
        "djops": 1,
        "project": wanted.project.project,
        "environment": site.environment,
        "who": name,
        "address": site.secrets.address,
        "authority": AUTHORITY if authority else None,
        "path": f"{MOUNT}/data/{secret_path(wanted.project, name)}",
        "made": link.made,
        "until": until.isoformat(timespec="seconds"),
        "login": _login(site, policy_name(wanted.project.project, name)),
        "settings": credentials.shared_settings(site),
        "secrets": list(credentials.secret_names(wanted.project)),
        "rights": {schema: sorted(held) for schema, held in may.items()},
        "table": None if table is None else {"schema": table.schema, "table": table.table},
    }
    return Welcome(
        name,
        wanted.project.project,
        tuple(_held(wanted, name)),
        tuple(in_words(schema, may[schema]) for schema in graph.order),
        graph,
        bundle,
        authority,
        () if table is None else first_query(graph, table),
        None if table is None else str(table),
        until,
    )


def _login(site: Site, own: str) -> dict[str, str] | None:
    """Say how she logs in by herself; a server that djops set up has its own way, the method's usual."""
    login, env = site.env.login, site.env
    djops_made_it = env.target == "local" or (env.target == "aws" and env.secrets is None)
    if login is None or login.method != "userpass" or not djops_made_it:
        return None if login is None else {"method": login.method, "path": login_path(login)}
    return {"method": login.method, "path": login.method, "user": own}


def _by_schema(rights: Rights, graph: PipelineGraph, name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {schema: set() for schema in graph.order}
    for right in rights.by_principal[name]:
        found[right.schema].add(str(right.capability))
    return found


def _held(wanted: Wanted, name: str) -> Iterator[Held]:
    for _, grant in wanted.project.grants_of(name):
        if not is_expired(grant, wanted.today):
            summary = wanted.roles.roles[grant.role].summary
            yield Held(grant.role, summary, grant.on, grant.until, grant.reason)


def in_words(schema: str, held: set[str]) -> SchemaWords:
    """Say what capabilities on a schema mean.

    Args:
        schema: The schema.
        held: Names of capabilities.
    """
    words = load_words()
    can = tuple(text for name, text in words.can.items() if name in held)
    level = ["closed to you", *(text for name, text in words.level.items() if name in held)][-1]
    cannot = tuple(words.can[name] for name in words.refused if name not in held)
    if not held:
        cannot = ("see anything of it",)
    style = "closed" if not held else "read" if held <= {"read", "reference"} else "work"
    return SchemaWords(schema, level, style, can, cannot)


def first_table(graph: PipelineGraph, may: Mapping[str, set[str]]) -> TableName | None:
    """Choose the table for a first query: of the schema in which most may be done, or above it.

    Args:
        graph: The pipeline.
        may: Names of capabilities by schema.
    """
    # Of equals the one furthest down: a role is given there, and only reads what is above.
    readable = [schema for schema in reversed(graph.order) if "read" in may[schema]]
    for schema in sorted(readable, key=lambda one: -len(may[one])):
        for tier in _TIERS:
            for table in graph.tables_of(schema):
                if table.tier is tier and table.master is None:
                    return table
    return None


def first_query(graph: PipelineGraph, table: TableName) -> tuple[str, ...]:
    """Write a first query, which works without the pipeline's code.

    Args:
        graph: The pipeline.
        table: What it asks for.
    """
    name = graph.classes.get(table, "").rpartition(".")[2] or _class_name(table.table)
    variable = table.schema if table.schema.isidentifier() else "schema"
    return (
        "import datajoint as dj",
        f'{variable} = dj.VirtualModule("{variable}", "{table.schema}")',
        f"print({variable}.{name}())",
    )


def _class_name(table: str) -> str:
    return "".join(part.capitalize() for part in table.lstrip("_#~").split("_"))


@dataclass(frozen=True)
class LinkState:
    """What has become of somebody's newest link.

    Attributes:
        who: Account name.
        made: When it was made.
        until: When it ends or ended.
        state: ``unused``, ``used``, ``ended``, or ``unknown`` where djops may not ask.
        opened: When and from where it was used, as far as the secrets server's own log tells.
        refused: When and from where it was tried after that, or after its end.
    """

    who: str
    made: str
    until: str
    state: str
    opened: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def alarming(self) -> bool:
        """Whether somebody should look into it: two came with one link."""
        return bool(self.refused) and self.state != "ended"


def link_states(servers: Servers, wanted: Wanted) -> tuple[LinkState, ...]:
    """Tell what has become of everybody's newest link.

    The secrets server itself only knows whether a link is still good. Where djops runs the server, its log
    has who used it, and who came too late.

    Args:
        servers: The servers.
        wanted: The project.

    Raises:
        ServerUnavailableError: The secrets server does not answer.
    """
    now = dt.datetime.now(dt.UTC)
    facts = servers.secrets.state(wanted.project.project).secrets
    found = []
    for name in wanted.project.people:
        about = facts.get(secret_path(wanted.project, name), {})
        if ACCESSOR in about:
            found.append(_link_state(servers, name, about, now))
    return tuple(found)


def _link_state(servers: Servers, name: str, about: Mapping[str, str], now: dt.datetime) -> LinkState:
    made, until = about.get(MADE, ""), about.get(UNTIL, "")
    events = list(_events(servers, made))
    opened = tuple(f"{at} from {address}" for at, address, what in events if what == "opened")
    refused = tuple(f"{at} from {address}" for at, address, what in events if what == "refused")
    try:
        there = servers.secrets.lookup_accessor(about[ACCESSOR]) is not None
    except AccessDeniedError:
        state = "used" if opened else "unknown"
    else:
        over = until and dt.datetime.fromisoformat(until) <= now
        state = "unused" if there else "used" if opened or not over else "ended"
    return LinkState(name, made, until, state, opened, refused)


def _events(servers: Servers, made: str) -> Iterator[tuple[str, str, str]]:
    log = audit_log(servers)
    if log is None or not made:
        return
    try:
        yield from links.events(log, made)
    except OSError:
        return


def audit_log(servers: Servers) -> Path | None:
    """Return the secrets server's own log where djops runs the server, else ``None``."""
    if servers.site.env.target != "local":
        return None
    return servers.site.lab / "openbao" / "audit.log"


def require_person(wanted: Wanted, name: str) -> None:
    """Refuse somebody who is no person of the project.

    Raises:
        DjopsError: ``E_NO_PRINCIPAL`` with the nearest name.
    """
    credentials.require_principal(wanted.project, name)
    if name not in wanted.project.people:
        raise DjopsError(
            f"{name!r} is a service; a welcome is for people",
            code="E_NO_PRINCIPAL",
            hint=f"`djops credentials {name} --to DIRECTORY` writes a service's files",
        )
