"""Servers that answer, but not as they should."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from djops.systems import tls
from djops.systems.paths import server_account

LONG_AGO = dt.datetime.now(dt.UTC) - dt.timedelta(days=3 * 365)
_PROTOCOL_41, _SECURE, _PLUGINS, _TLS = 1 << 9, 1 << 15, 1 << 19, 1 << 11


def expired(directory: Path) -> ssl.SSLContext:
    """Make an authority that still holds, ``ca.pem``, and a certificate of it that does not."""
    directory.mkdir()
    tls.ensure(directory, "long ago", server_account(), now=LONG_AGO)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    return context


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Answer every connection to a port of the loopback interface; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                client.settimeout(5)
                serve(client)

        def loop() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(client,), daemon=True).start()

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def greet(client: socket.socket, context: ssl.SSLContext | None = None) -> None:
    """Begin as MySQL does, with TLS or without."""
    able = _PROTOCOL_41 | _SECURE | _PLUGINS | (_TLS if context else 0)
    salt = b"12345678", b"901234567890\0"
    greeting = b"\x0a8.4.6\0" + struct.pack("<I", 1) + salt[0] + b"\0"
    greeting += struct.pack("<HBHHB", able & 0xFFFF, 255, 2, able >> 16, 21) + bytes(10) + salt[1]
    greeting += b"caching_sha2_password\0"
    client.sendall(struct.pack("<I", len(greeting))[:3] + b"\0" + greeting)
    client.recv(36)
    if context:
        shake_hands(client, context)


def shake_hands(client: socket.socket, context: ssl.SSLContext) -> None:
    """Begin with TLS, and say nothing more."""
    with context.wrap_socket(client, server_side=True) as secured:
        secured.recv(1)


def speak_http(client: socket.socket) -> None:
    """Answer a request with a page."""
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 8\r\n\r\n<p>hi</p")
