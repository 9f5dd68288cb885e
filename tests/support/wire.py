"""A line to a server that can be cut: a TCP proxy in a process of its own, steered while a test runs.

The modes of a line, besides ``open``:

``cut``              every connection is reset, new ones too
``blip``             every connection is reset, once; new ones go through
``unanswered``       what is asked reaches the server; its answer does not come back, then ``cut``
``unanswered-blip``  the same, then ``open``
``hole``             bytes vanish in both directions, and no connection ends
``unanswered-hole``  what is asked reaches the server; its answer vanishes, then ``hole``
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

HOST = "127.0.0.1"
_HEADER, _DATA, _HANDSHAKE = 5, 23, 2
_AFTER = {"unanswered": "cut", "unanswered-blip": "open", "unanswered-hole": "hole"}
MODES = ("open", "cut", "blip", "hole", *_AFTER)


class Wires:
    """Lines to servers, each a port of its own; use it as a context manager.

    A forked child may steer them as well, as long as its parent does not at the same time.

    Args:
        targets: Port of each server on the loopback interface, by name.
    """

    def __init__(self, targets: Mapping[str, int]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.wire", json.dumps(dict(targets))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=Path(__file__).parents[2],
        )
        self.ports: Mapping[str, int] = self._answer()

    def __enter__(self) -> Wires:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait(120)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def set(self, name: str, mode: str) -> None:
        """Bring a line into a mode; it is in it when this returns."""
        self._tell("set", name, mode)

    def heal(self) -> None:
        """Open all lines, with new connections only."""
        for name in self.ports:
            self._tell("set", name, "blip")

    def hit(self, name: str) -> bool:
        """Tell whether an answer was lost since the mode was set."""
        return bool(self._tell("hit", name))

    def _tell(self, *words: str) -> object:
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), (json.dumps(words) + "\n").encode())
        return self._answer()

    def _answer(self) -> dict[str, int]:
        assert self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            more = os.read(self.process.stdout.fileno(), 4096)
            assert more, "the proxy ended"
            line += more
        found: dict[str, int] = json.loads(line)
        return found


class _Line:
    """One server's line."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.mode = "open"
        self.hit = False
        self.pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        # An answer is told from a handshake: by connections that were there before, or by what was asked.
        self.armed: set[asyncio.StreamWriter] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "cut":
            _reset(writer)
            return
        try:
            there, onward = await asyncio.open_connection(HOST, self.port)
        except OSError:
            _reset(writer)
            return
        self.pairs[writer] = onward
        try:
            await asyncio.gather(self._asked(reader, writer, onward), self._answered(there, writer))
        finally:
            self.pairs.pop(writer, None)
            _reset(writer)
            _reset(onward)

    async def _asked(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, onward: asyncio.StreamWriter
    ) -> None:
        records = _Records()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if records.add(data) >= _HANDSHAKE:
                    self.armed.add(writer)
                if self.mode != "hole":
                    onward.write(data)
                    await onward.drain()
        # Where bytes vanish, the server does not hear of the end of a connection either.
        if self.mode != "hole":
            _close(onward)

    async def _answered(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await there.read(65536):
                if self.mode in _AFTER and writer in self.armed:
                    self.hit, self.mode = True, _AFTER[self.mode]
                    if self.mode == "cut":
                        self.reset(_close)
                    elif self.mode == "open":
                        return _reset(writer)
                if self.mode != "hole":
                    writer.write(data)
                    await writer.drain()
        return _close(writer)

    def reset(self, end: Callable[[asyncio.StreamWriter], None]) -> None:
        for writer, onward in list(self.pairs.items()):
            _reset(writer)
            end(onward)

    def set(self, mode: str) -> None:
        self.mode, self.hit, self.armed = mode, False, set(self.pairs)
        if mode in ("cut", "blip"):
            self.reset(_reset)
        if mode == "blip":
            self.mode = "open"


class _Records:
    """Counts the records of TLS with data, of which the first ends the handshake."""

    def __init__(self) -> None:
        self._rest, self._count = b"", 0

    def add(self, data: bytes) -> int:
        self._rest += data
        while len(self._rest) >= _HEADER:
            kind, length = self._rest[0], int.from_bytes(self._rest[3:_HEADER], "big")
            if len(self._rest) < _HEADER + length:
                break
            self._rest = self._rest[_HEADER + length :]
            self._count += kind == _DATA
        return self._count


def _close(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        end = writer.get_extra_info("socket")
        if end is not None and end.fileno() >= 0:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _serve(targets: Mapping[str, int]) -> None:
    lines = {name: _Line(port) for name, port in targets.items()}
    ports = {}
    for name, line in lines.items():
        server = await asyncio.start_server(line.accept, HOST, 0)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while command := await commands.readline():
        verb, name, *rest = json.loads(command)
        if verb == "set":
            lines[name].set(rest[0])
            await asyncio.sleep(0)
        print(json.dumps(lines[name].hit), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
