"""Where an apply is hit, and how: every request that changes something on a server is a point."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

from botocore.config import Config

from djops.compile.machines import engine_connection
from djops.errors import DjopsError
from djops.plan.change import Plan
from djops.plan.operations import AwsCall
from djops.services import access, machines
from djops.services import servers as servers_module
from djops.services.access import Servers, Wanted
from djops.services.site import Site
from djops.systems import mysql as mysql_module
from djops.systems import s3 as s3_module
from djops.systems.mysql import Mysql
from djops.systems.s3 import S3
from djops.systems.vault import Secrets
from tests.support.labs import kill_all
from tests.support.wire import Wires

System = Literal["mysql", "s3", "secrets"]
When = Literal["before", "unanswered", "after"]
Kind = Literal["djops", "twice", "kill", "cut", "blip", "hole"]

MakePlan = Callable[[Servers, Wanted], Plan]

SYSTEMS: tuple[System, ...] = ("mysql", "s3", "secrets")
KINDS: Mapping[Kind, str] = {
    "djops": "kill -9 of djops",
    "twice": "kill -9 of djops, and of the next",
    "kill": "kill -9 of the server",
    "cut": "network cut",
    "blip": "network cut for a moment",
    "hole": "network silent",
}
DIRECTORIES: Mapping[System, str] = {"mysql": "mysql", "s3": "ceph", "secrets": "openbao"}
SILENCE = 1
"""Seconds that djops waits for a silent server here, in the place of a minute or two."""

_UNANSWERED = {"blip": "unanswered-blip", "hole": "unanswered-hole"}
_READING = ("SELECT", "SHOW", "SET", "USE", "DO", "START", "COMMIT", "ROLLBACK", "KILL")
"""Statements that change nothing, or are a part of what passes by as a whole; as is the drop of a procedure
right before it is made anew."""


@dataclass(frozen=True)
class Request:
    """A request that changes something.

    Attributes:
        system: The server it is for.
        text: What it is, without secrets and what is new each time.
        again: How many such requests came before it.
    """

    system: System
    text: str
    again: int = 0

    def __str__(self) -> str:
        return f"{self.system}: {self.text}" + (f" (once more, {self.again})" if self.again else "")


ANY = Request("mysql", "any request")
"""Stands for whatever request comes at a point's number, counted over all servers."""


@dataclass(frozen=True)
class Point:
    """Where an apply is hit.

    Attributes:
        kind: How.
        number: Number of the request among those of the same server, from 0.
        request: At which request; what is hit is its server, or djops itself.
        when: Before it is sent; once the server has done it, before the answer is back; or after that.
    """

    kind: Kind
    number: int
    request: Request
    when: When

    @property
    def system(self) -> System:
        """The server that the request is for."""
        return self.request.system

    def __str__(self) -> str:
        named = f"--kind {self.kind} --system {self.system} --point {self.number} --when {self.when}"
        return f"{named} ({self.request.text})"


def numbered(requests: Sequence[Request]) -> list[tuple[int, Request]]:
    """Number the requests of each server.

    Args:
        requests: What a plan sends, in the order of one run. Changes go side by side, so that the order
            among servers, and among requests to servers that take several at once, is another each time.
    """
    found: list[tuple[int, Request]] = []
    for system in SYSTEMS:
        mine = [request for request in requests if request.system == system]
        found += enumerate(mine if system == "mysql" else sorted(mine, key=lambda one: (one.text, one.again)))
    return found


def points(requests: Sequence[Request], kind: Kind) -> list[Point]:
    """List the points of one kind.

    Args:
        requests: What the plan sends.
        kind: How it is hit.

    Returns:
        Points before each request and once the server has done it: for djops itself, when it has the answer;
        for servers, when the answer is on its way; and for both, after the last one of each server.
    """
    found = []
    for number, request in numbered(requests):
        last = sum(one.system == request.system for one in requests) == number + 1
        whens: list[When] = ["before"] if kind in ("djops", "twice") else ["before", "unanswered"]
        if kind in ("djops", "kill") and last:
            whens.append("after")
        found += [Point(kind, number, request, when) for when in whens]
    return found


@dataclass
class Hit:
    """Counts the requests of this process, and hits at one of them.

    Attributes:
        point: Where; nowhere when ``None``.
        wires: The lines to the servers.
        lab: The lab's directory.
        requests: What was sent so far.
        reached: Whether the point was.
    """

    point: Point | None
    wires: Wires
    lab: Path
    requests: list[Request] = field(default_factory=list)
    reached: bool = False
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def around(self, system: System, text: str, send: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Send a request, hit before or after it if it is the one."""
        with self._guard:
            again = sum(one.system == system and one.text == text for one in self.requests)
            request = Request(system, text, again)
            self.requests.append(request)
            number = len(self.requests) - 1
        point = self.point
        if point is None or not (request == point.request or (point.request, point.number) == (ANY, number)):
            return send()
        self.reached = True
        self._before(point)
        try:
            return send()
        finally:
            self._after(point)

    def _before(self, point: Point) -> None:
        name = point.system
        if point.when == "unanswered":
            self.wires.set(name, _UNANSWERED.get(point.kind, "unanswered"))
        elif point.when == "before":
            match point.kind:
                case "djops" | "twice":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "kill":
                    kill_all(self.lab / DIRECTORIES[name])
                case _:
                    self.wires.set(name, point.kind)

    def _after(self, point: Point) -> None:
        if point.when == "unanswered":
            self.reached = self.wires.hit(point.system)
        if point.kind == "djops" and point.when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        if point.kind == "kill" and point.when != "before":
            kill_all(self.lab / DIRECTORIES[point.system])


_LONGEST = 300.0
"""Seconds after which a child is given up; an apply takes some."""


@dataclass(frozen=True)
class Run:
    """What became of an apply.

    Attributes:
        requests: The requests that it sent, as far as it lived to tell.
        changes: How many changes the plan had.
        operations: How many operations they had.
        error: What djops said, empty when all was done.
        crashed: A traceback, which nobody should ever see.
        reached: Whether the point was reached.
        done: Whether djops said that all was done.
    """

    requests: Sequence[Request] = ()
    changes: int = 0
    operations: int = 0
    error: str = ""
    crashed: str = ""
    reached: bool = False
    done: bool = False


def apply_in_child(
    site: Site, wanted: Wanted, wires: Wires, point: Point | None, make_plan: MakePlan = access.make_plan
) -> Run:
    """Make a plan and carry it out in a process of its own, hit at a point.

    Args:
        site: The environment.
        wanted: What is wanted.
        wires: The lines to the servers, which the child goes through.
        point: Where it is hit.
        make_plan: What makes the plan.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _live(site, wanted, Hit(point, wires, site.lab), writing, make_plan)
    os.close(writing)
    late = threading.Timer(_LONGEST, os.kill, (child, signal.SIGABRT))
    late.daemon = True
    late.start()
    try:
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
    finally:
        late.cancel()
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT:
        raise TimeoutError(f"an apply that is hit at {point} does not end within {_LONGEST:.0f} s")
    if os.WIFSIGNALED(status):
        return Run(reached=True)
    told = json.loads(said)
    return Run(**{**told, "requests": [Request(**one) for one in told["requests"]]})


def _live(site: Site, wanted: Wanted, hit: Hit, writing: int, make_plan: MakePlan) -> NoReturn:
    """Be the child: never returns into what the parent was doing."""
    told: dict[str, Any] = {}
    try:
        _watch(hit)
        _connected_past(site)
        if hit.point is not None and hit.point.kind == "hole":
            _impatient()
        with Servers(through(site, hit.wires)) as servers, servers.changing("apply", 5):
            plan = make_plan(servers, wanted)
            told["changes"] = len(plan.changes)
            told["operations"] = sum(len(change.operations()) for change in plan.changes)
            access.apply(servers, plan)
            told["done"] = True
    except DjopsError as error:
        told["error"] = str(error)
    except BaseException:
        told["crashed"] = traceback.format_exc()
    finally:
        told["reached"] = hit.reached
        told["requests"] = [vars(request) for request in hit.requests]
        os.write(writing, json.dumps(told).encode())
        sys.stderr.flush()
        os._exit(0)


def through(site: Site, wires: Wires) -> Site:
    """Return a site whose servers are reached through lines.

    Args:
        site: The site.
        wires: The lines.
    """

    def past(url: str, name: System) -> str:
        parts = urlsplit(url)
        return parts._replace(netloc=f"{parts.hostname}:{wires.ports[name]}").geturl()

    return replace(
        site,
        mysql=replace(site.mysql, port=wires.ports["mysql"]),
        mysql_root=site.mysql_root and replace(site.mysql_root, port=wires.ports["mysql"]),
        s3=replace(site.s3, admin_endpoint=past(site.s3.admin_endpoint, "s3")),
        secrets=replace(site.secrets, address=past(site.secrets.address, "secrets")),
    )


def _watch(hit: Hit) -> None:
    """Have every request that changes something pass by, in this process only."""

    def wrap(owner: type, name: str, system: System, tell: Callable[..., str]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def passing(self: object, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            text = tell(self, *arguments)
            if not text:
                return original(self, *arguments, **named)
            return hit.around(system, text, lambda: original(self, *arguments, **named))

        setattr(owner, name, passing)

    wrap(Mysql, "query", "mysql", _statement)
    wrap(Mysql, "end_sessions", "mysql", lambda _, user: _hidden(f"end all sessions of `{user}`"))
    wrap(S3, "_send", "s3", _call)
    wrap(Secrets, "_exchange", "secrets", _exchange)


# Each says what a request changes, nothing for one that only reads.


def _statement(server: Mysql, text: str, *_: object) -> str:
    first, second = (*text.lstrip("( ").upper().split(None, 2), "", "")[:2]
    if (first in _READING and second != "DEFAULT") or (first, second) == ("DROP", "PROCEDURE"):
        return ""
    if first in ("INSERT", "CREATE") and second != "USER":
        # How many rows there are hangs on what earlier runs could not add; procedures are long.
        return text.partition("(")[0].strip()
    return _hidden(text)


_PASSWORD = re.compile(r" BY '(?:[^'\\]|''|\\.)*'")
_NEW_EACH_TIME = re.compile(r"(?<=[`']v-)\w{1,13}-\w{16}|(?<=\"engine\": \")\d+")
"""The name of a leased account, and times."""


def _hidden(text: str) -> str:
    return _NEW_EACH_TIME.sub("...", _PASSWORD.sub(" BY '...'", text))


def _call(_server: S3, operation: AwsCall, *_: object) -> str:
    reads = operation.action.startswith(("Get", "List", "Head"))
    return "" if reads else f"{operation.action} {operation.parameters.get('UserName', '')}".rstrip()


def _exchange(_server: Secrets, method: str, path: str, *_: object) -> str:
    reads = method in ("GET", "LIST") or path.startswith(("auth/approle/login", "auth/token/"))
    return "" if reads else f"{method} {path}"


def _connected_past(site: Site) -> None:
    """Let the secrets server reach MySQL by itself, in this process's plans only."""

    def connection(project: str, host: str, _port: int, ca: str) -> Mapping[str, Any]:
        return engine_connection(project, host, site.mysql.port, ca)

    vars(machines).update(engine_connection=connection)


def _impatient() -> None:
    """Shorten, in this process only, how long djops waits for an answer."""

    def config(**options: Any) -> Config:  # noqa: ANN401
        return Config(**options | {"connect_timeout": SILENCE, "read_timeout": SILENCE})

    vars(mysql_module).update(CONNECT_SECONDS=SILENCE)
    Mysql.__init__.__defaults__ = (SILENCE,)
    vars(s3_module).update(Config=config)
    vars(servers_module).update(S3=S3)  # not one that was made before
    Secrets.__init__.__kwdefaults__.update(timeout=SILENCE)  # type: ignore[union-attr]
