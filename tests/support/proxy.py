"""A TCP relay that can fall silent as a network does: nothing arrives any more, and nobody is told."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator


class Proxy:
    """Relays connections to one address while it is told to.

    Args:
        host: Where to.
        port: Where to.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._cut = threading.Event()
        self._closed = threading.Event()
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Forward nothing any more, in either direction; connections stay open on both sides."""
        self._cut.set()

    def mend(self) -> None:
        """Forward again what arrives from now on."""
        self._cut.clear()

    def close(self) -> None:
        """End everything."""
        self._closed.set()
        for link in (self._listener, *self._links):
            with contextlib.suppress(OSError):
                link.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                inside, _ = self._listener.accept()
                outside = socket.create_connection(self._target)
            except OSError:
                return
            self._links += [inside, outside]
            threading.Thread(target=self._relay, args=(inside, outside), daemon=True).start()

    def _relay(self, inside: socket.socket, outside: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError, ValueError):
            selector.register(inside, selectors.EVENT_READ, outside)
            selector.register(outside, selectors.EVENT_READ, inside)
            while not self._closed.is_set():
                if self._cut.is_set():
                    self._closed.wait(0.02)
                    continue
                for key, _ in selector.select(0.02):
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if self._cut.is_set():
                        break
                    if not data:
                        inside.close()
                        outside.close()
                        return
                    key.data.sendall(data)


@contextlib.contextmanager
def proxied(host: str, port: int) -> Iterator[Proxy]:
    """Run a relay while the context lasts.

    Args:
        host: Where to.
        port: Where to.
    """
    made = Proxy(host, port)
    try:
        yield made
    finally:
        made.close()
