"""A way to the private servers of an environment in the cloud, through its gate."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from djops.errors import DjopsError, ServerUnavailableError, UsageError
from djops.model.project import Project
from djops.services.cloud_cost import required_environment
from djops.services.project import load_project
from djops.systems import cloudfile, ports, ssm
from djops.systems.aws import Aws
from djops.systems.paths import lab_directory
from djops.systems.ssm import Forwarding
from djops.systems.stacks import stack_names

Server = Literal["mysql", "secrets"]
_USUAL = {"mysql": 13306, "secrets": 18200}
"""The port here where none is named and nobody else has it: the same every time is easier to remember."""


@dataclass(frozen=True)
class Tunnel:
    """A way that is open.

    Attributes:
        environment: The environment.
        server: ``mysql`` or ``secrets``.
        gate: The instance that it goes through.
        host: The server's own name, which its certificate has.
        port: Its port.
        local_host: Where it is here.
        local_port: Its port here.
        wait: Waits until it ends by itself.
    """

    environment: str
    server: Server
    gate: str
    host: str
    port: int
    local_host: str
    local_port: int
    wait: Callable[[], object] = field(repr=False)


@contextlib.contextmanager
def opened(
    project_file: Path, environment: str | None = None, server: Server = "mysql", port: int | None = None
) -> Iterator[Tunnel]:
    """Open a way to a server; it is closed with the context.

    Args:
        project_file: The ``djops.yaml``.
        environment: An ``aws`` environment; ``None`` for the only one.
        server: Which server.
        port: The port on this machine; a usual or a free one when not given.

    Yields:
        The way.

    Raises:
        UsageError: ``E_TARGET``, ``E_ENVIRONMENT``; ``E_PORT`` when somebody listens on the port.
        InstallError: ``E_NO_PLUGIN`` without Amazon's plugin.
        DjopsError: ``E_NOT_UP`` when there is no gate.
    """
    project = load_project(project_file)
    name = required_environment(project, environment, hint="servers of other targets are reached directly")
    ssm.plugin()
    with (
        _opened(project, name, server, lambda: _local_port(server, port)) as way,
        cloudfile.tunnel_noted(lab_directory(project.project, name), server, way.local_port),
    ):
        yield way


@contextlib.contextmanager
def _opened(project: Project, name: str, server: Server, local: Callable[[], int]) -> Iterator[Tunnel]:
    env = project.environments[name]
    aws = Aws(env.region or "", env.profile)
    gate, host, there = _known(project.project, name, server) or _asked(aws, project.project, name, server)
    wanted = Forwarding(gate, host, there, local())
    with ssm.forwarded(aws, wanted, env.profile) as child:
        yield Tunnel(name, server, gate, host, there, ports.HOST, wanted.local_port, child.wait)


_HELD = contextlib.ExitStack()
"""The ways that this run of djops opened for itself."""


def reach(project: Project, name: str) -> Mapping[str, ServerUnavailableError]:
    """See to it that this run of djops reaches the private servers of an environment.

    A way that `djops tunnel` holds open is taken; where this machine is in their network, none is needed;
    otherwise one is opened for this run, until :func:`let_go`.

    Args:
        project: The project.
        name: Name of an ``aws`` environment.

    Returns:
        By server, ``mysql`` or ``secrets``, ``E_TUNNEL`` with the reason why no way leads there: to be raised
        by whoever needs that server.
    """
    directory, missing = lab_directory(project.project, name), dict[str, ServerUnavailableError]()
    known = cloudfile.read(directory)
    if known is None or not known.gate:
        return missing
    servers: tuple[Server, ...] = ("mysql",)
    # Somebody else's secrets server is where djops.yaml says.
    servers += ("secrets",) if project.environments[name].secrets is None else ()
    there = cloudfile.tunnelled(directory)
    for server in (one for one in servers if one not in there):
        place = _known(project.project, name, server)
        if place is None or _answers_here(*place[1:]):
            continue
        try:
            ssm.plugin()
            way = _HELD.enter_context(_opened(project, name, server, lambda: ports.free_ports(1)[0]))
            _HELD.enter_context(cloudfile.tunnel_held(directory, server, way.local_port))
        except DjopsError as error:
            missing[server] = _no_way(place, error)
    return missing


def _no_way(place: _Place, error: DjopsError) -> ServerUnavailableError:
    _, host, port = place
    return ServerUnavailableError(
        f"it is in a private network, and no way leads there: {error.message}",
        where=f"{host}:{port}",
        code="E_TUNNEL",
        hint=error.hint or "see what `djops tunnel` says",
    )


def let_go() -> None:
    """Close the ways that this run of djops opened for itself."""
    _HELD.close()


atexit.register(let_go)


_DIRECTLY_SECONDS = 3.0
"""How long a server in this machine's own network may take to be asked whether it is there."""

_ANSWERED: set[tuple[str, int]] = set()


def _answers_here(host: str, port: int) -> bool:
    """Tell whether a server is reached without a tunnel, as within its network; asked once in a run."""
    if (host, port) not in _ANSWERED and ports.answers(port, _DIRECTLY_SECONDS, host):
        _ANSWERED.add((host, port))
    return (host, port) in _ANSWERED


def _local_port(server: Server, port: int | None) -> int:
    if port is None:
        usual = _USUAL[server]
        return usual if ports.is_free(usual) else ports.free_ports(1)[0]
    if not ports.is_free(port):
        holder = ports.holder(port)
        raise UsageError(
            f"port {port} of this machine is taken" + (f" by {holder}" if holder else ""),
            code="E_PORT",
            hint="name another one with --port, or none",
        )
    return port


_Place = tuple[str, str, int]


def _known(project: str, environment: str, server: Server) -> _Place | None:
    """Return gate, host and port as `djops up` wrote them down on this machine."""
    file = cloudfile.read(lab_directory(project, environment))
    if file is None or not file.gate:
        return None
    if server == "mysql":
        return file.gate, file.mysql_host, file.mysql_port
    return file.gate, *_split(file.secrets_address)


def _asked(aws: Aws, project: str, environment: str, server: Server) -> _Place:
    """Ask AWS, by the tags that the stacks give to everything.

    Raises:
        DjopsError: ``E_NOT_UP`` when there is no gate that runs, or no such server.
    """
    found = {role: _machine(aws, project, environment, role) for role in ("gate", "secrets")}
    gate = found["gate"]
    stack = stack_names(project, environment).stack
    if gate is not None and server == "mysql":
        database = aws.find("rds", "DescribeDBInstances", DBInstanceIdentifier=stack)
        if database is not None and (where := database["DBInstances"][0].get("Endpoint")):
            return gate["InstanceId"], where["Address"], int(where["Port"])
    if gate is not None and server == "secrets" and (machine := found["secrets"]):
        return gate["InstanceId"], machine["PrivateDnsName"], 8200
    raise DjopsError(
        f"AWS shows no {'gate' if gate is None else server} of {project!r}, {environment!r}, in {aws.region}",
        where="aws",
        code="E_NOT_UP",
        hint="bring it up with `djops up`, or see whether these credentials are of the right account",
    )


def _machine(aws: Aws, project: str, environment: str, role: str) -> Mapping[str, Any] | None:
    tags = {"Name": f"djops-{role}", "djops:project": project, "djops:environment": environment}
    filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]
    filters.append({"Name": "instance-state-name", "Values": ["running"]})
    found = aws.listed("ec2", "DescribeInstances", "Reservations", Filters=filters)
    return next((machine for one in found for machine in one["Instances"]), None)


def _split(address: str) -> tuple[str, int]:
    url = urlsplit(address)
    return url.hostname or "", url.port or 443
