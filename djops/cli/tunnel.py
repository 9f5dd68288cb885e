"""``djops tunnel``."""

from __future__ import annotations

import contextlib

import click

from djops.cli import common


@click.command()
@click.argument("server", metavar="[mysql|secrets]", type=click.Choice(["mysql", "secrets"]), default="mysql")
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help="The port on this machine.")
@common.options
def command(out: common.Output, server: str, port: int | None) -> None:
    """Forward a port of this machine to a private server in the cloud, until Ctrl-C.

    It goes through the environment's gate by AWS Systems Manager: no port is open to the outside, and AWS
    records who opened it. Amazon's session-manager-plugin must be on PATH. The server's certificate has its
    own name: whoever verifies names must give that one.

    Exit status: 0 ended by Ctrl-C or by itself, 1 error.
    """
    from djops.services import tunnel

    named: tunnel.Server = "secrets" if server == "secrets" else "mysql"
    with tunnel.opened(out.project_file, out.environment, named, port) as way:
        here = f"{way.local_host}:{way.local_port}"
        data = {
            "environment": way.environment,
            "server": way.server,
            "gate": way.gate,
            "host": way.host,
            "port": way.port,
            "local_host": way.local_host,
            "local_port": way.local_port,
        }
        # Ended by whoever opened it: that is how it is meant to end.
        with contextlib.suppress(KeyboardInterrupt):
            out.emit(data, f"{here} leads to {way.host}:{way.port} through {way.gate}; Ctrl-C ends it")
            way.wait()
