"""Port forwarding through AWS Systems Manager, by Amazon's own plugin.

The plugin is started as Amazon's command line starts it (the ``ssm start-session`` of aws-cli 2), which then
need not be there: the session's token is handed over in the environment, never on the command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from djops.errors import DjopsError, InstallError, ServerUnavailableError
from djops.systems import tools
from djops.systems.aws import Aws
from djops.systems.ports import HOST, answers

PLUGIN = "session-manager-plugin"
DOCUMENT = "AWS-StartPortForwardingSessionToRemoteHost"
_OLDEST = (1, 2, 498)
"""Since then the plugin takes a session's token from the environment."""
_VARIABLE = "AWS_SSM_START_SESSION_RESPONSE"
_LISTENS = b"Waiting for connections"
_PATIENCE = 60.0
"""Seconds until the plugin must listen."""


@dataclass(frozen=True)
class Forwarding:
    """A port of this machine that leads to another's.

    Attributes:
        gate: The instance that it goes through.
        host: Where it leads.
        port: The port there.
        local_port: The port here, on the loopback interface.
    """

    gate: str
    host: str
    port: int
    local_port: int


def plugin() -> Path:
    """Find Amazon's plugin on PATH.

    Raises:
        InstallError: ``E_NO_PLUGIN`` when it is not there, or too old to keep the session's token private.
    """
    hint = "install it: AWS's page is called `Install the Session Manager plugin for the AWS CLI`"
    found = shutil.which(PLUGIN)
    if found is None:
        raise InstallError(f"there is no {PLUGIN} on PATH", code="E_NO_PLUGIN", hint=hint)
    said = re.search(r"(\d+)\.(\d+)\.(\d+)", tools.output([found, "--version"]))
    if said is None or tuple(int(part) for part in said.groups()) < _OLDEST:
        version, oldest = said[0] if said else "unknown", ".".join(str(part) for part in _OLDEST)
        raise InstallError(
            f"the {PLUGIN} on PATH is of version {version}; it takes {oldest} or newer",
            where=found,
            code="E_NO_PLUGIN",
            hint=hint,
        )
    return Path(found)


@contextlib.contextmanager
def forwarded(aws: Aws, wanted: Forwarding, profile: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Forward a port while the context is open; the session ends with it.

    Args:
        aws: The account.
        wanted: What leads where.
        profile: The profile of the AWS configuration, which the plugin is told.

    Yields:
        The plugin's process, once the port here takes connections.

    Raises:
        InstallError: ``E_NO_PLUGIN`` as :func:`plugin`.
        ServerUnavailableError: ``E_TUNNEL`` when the plugin ends or does not listen.
        DjopsError: As :meth:`djops.systems.aws.Aws.ask`.
    """
    program = plugin()
    parameters = {
        "host": [wanted.host],
        "portNumber": [str(wanted.port)],
        "localPortNumber": [str(wanted.local_port)],
    }
    asked = {"Target": wanted.gate, "DocumentName": DOCUMENT, "Parameters": parameters}
    session = aws.ask("ssm", "StartSession", **asked)
    handed = {key: session[key] for key in ("SessionId", "TokenValue", "StreamUrl")}
    # An empty endpoint is the region's own.
    command = [str(program), _VARIABLE, aws.region, "StartSession", profile or "", json.dumps(asked), ""]
    try:
        with tempfile.TemporaryFile() as told:
            child = subprocess.Popen(
                command,
                env={**os.environ, _VARIABLE: json.dumps(handed)},
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                # Ctrl-C is for djops, which then ends the plugin and the session.
                start_new_session=True,
            )
            try:
                _wait(child, wanted, told)
                yield child
            finally:
                _end(child)
    finally:
        with contextlib.suppress(DjopsError):
            aws.ask("ssm", "TerminateSession", SessionId=session["SessionId"])


def _wait(child: subprocess.Popen[bytes], wanted: Forwarding, told: IO[bytes]) -> None:
    """Wait until the port takes connections, as the plugin says, or as is seen where it says it otherwise."""
    began = time.monotonic()
    while child.poll() is None and (waited := time.monotonic() - began) < _PATIENCE:
        # Each connection goes through to the server, which may count those that say nothing.
        if _LISTENS in _said(told) or (waited > _PATIENCE / 4 and answers(wanted.local_port)):
            return
        time.sleep(0.1)
    words = _said(told).decode(errors="replace").strip().splitlines()
    state = "does not listen" if child.poll() is None else f"ended with status {child.returncode}"
    raise ServerUnavailableError(
        f"{PLUGIN} {state}: {words[-1] if words else 'it said nothing'}",
        where=f"{HOST}:{wanted.local_port}",
        code="E_TUNNEL",
        hint=f"see that the gate {wanted.gate} runs and that nobody listens on that port",
    )


def _said(told: IO[bytes]) -> bytes:
    # Plugin and reader share the file's offset, which reading must not move.
    return os.pread(told.fileno(), 4000, 0)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the plugin with all it started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)
