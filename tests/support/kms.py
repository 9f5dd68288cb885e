"""AWS's key service for a program that is no part of the tests' process: what it asks is answered by moto."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

_BYTES = ("CiphertextBlob", "Plaintext")


@contextmanager
def served(kms: Any, asked: list[str]) -> Iterator[str]:
    """Serve ``Encrypt`` and ``Decrypt`` on the loopback interface; yields the URL.

    Args:
        kms: A client of boto3 for moto.
        asked: Hears of each request, by its name.
    """

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = self.headers["X-Amz-Target"].rpartition(".")[2]
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(question)
            ask = {"Encrypt": kms.encrypt, "Decrypt": kms.decrypt}[question]
            known = {key: base64.b64decode(one) if key in _BYTES else one for key, one in body.items()}
            found = {key: one for key, one in ask(**known).items() if key != "ResponseMetadata"}
            told = {
                key: base64.b64encode(one).decode() if key in _BYTES else one for key, one in found.items()
            }
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=30)
