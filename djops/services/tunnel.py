"""A way to the private servers of an environment in the cloud, through its gate."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from djops.errors import DjopsError, UsageError
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
    env = project.environments[name]
    ssm.plugin()
    aws = Aws(env.region or "", env.profile)
    gate, host, there = _known(project.project, name, server) or _asked(aws, project.project, name, server)
    wanted = Forwarding(gate, host, there, _local_port(server, port))
    directory = lab_directory(project.project, name)
    with (
        ssm.forwarded(aws, wanted, env.profile) as child,
        cloudfile.tunnel_noted(directory, server, wanted.local_port),
    ):
        yield Tunnel(name, server, gate, host, there, ports.HOST, wanted.local_port, child.wait)


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
