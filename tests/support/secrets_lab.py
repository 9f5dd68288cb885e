"""A directory, an authority and ports: what a secrets server needs of a lab, and nothing more."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from djops.systems import tls
from djops.systems.local.openbao import OpenBaoServer
from djops.systems.local.server import Lab
from djops.systems.paths import private_directory, server_account
from djops.systems.ports import free_ports


@contextlib.contextmanager
def bare_lab() -> Iterator[Lab]:
    """Make a lab without servers, and remove it in the end."""
    # Not pytest's directory: nobody but the caller can enter that, and servers have an account of their own.
    base = Path(tempfile.mkdtemp(prefix="djops-test-"))
    try:
        base.chmod(0o755)
        directory = base / "lab"
        (directory / "tls").mkdir(parents=True, mode=0o755)
        account = server_account()
        private_directory(directory / "secrets")
        tls.ensure(directory / "tls", "test", account)
        ports = dict(zip(OpenBaoServer.port_names, free_ports(len(OpenBaoServer.port_names)), strict=True))
        yield Lab(directory, "test", "local", account, ports)
    finally:
        shutil.rmtree(base)


@contextlib.contextmanager
def stopped_in_the_end(lab: Lab) -> Iterator[OpenBaoServer]:
    """Give a server that does not run yet, and see that it does not run afterwards."""
    server = OpenBaoServer(lab)
    try:
        yield server
    finally:
        server.stop()


def up(server: OpenBaoServer, seconds: float = 120) -> float:
    """Do what `djops up` does for one server, and return how many seconds it took."""
    began = time.monotonic()
    server.initialise()
    server.start()
    while not server.ready():
        if time.monotonic() - began > seconds or not server.running():
            raise AssertionError("not ready:\n" + server.log.read_text()[-3000:])
        time.sleep(0.02)
    server.bootstrap()
    return time.monotonic() - began
