"""Tells what a DataJoint client in this directory reads and reaches, in a process of its own.

Started by path with the client's Python, so it imports nothing of djops; the answer goes to standard output
as one JSON object without anything secret. ``argv[1]`` names a schema whose objects may be listed, if any.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # the directory of this file, where a module is called datajoint too

import contextlib
import json
import warnings
from typing import Any


def main() -> None:
    """Look and answer."""
    answer: dict[str, Any] = {"database": None, "stores": {}, "error": None, "store_errors": {}}
    warnings.simplefilter("ignore")
    try:
        import datajoint as dj

        answer["version"] = dj.__version__
        connection = dj.conn()
        answer["database"] = _database(connection)
        answer["schemas"] = sorted(dj.list_schemas())
    except Exception as error:  # whatever a client raises is the answer
        answer["error"] = _told(error)
    else:
        for name in dj.config.stores:
            if name not in ("default", "filepath_default"):
                try:
                    answer["stores"][name] = _store(dj, name, sys.argv[1] if len(sys.argv) > 1 else None)
                except Exception as error:
                    answer["store_errors"][name] = _told(error)
    sys.stdout.write(json.dumps(answer) + "\n")


def _told(error: Exception) -> dict[str, Any]:
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    return {"kind": type(error).__name__, "number": number, "text": " ".join(str(error).split())[:300]}


def _database(connection: Any) -> dict[str, Any]:  # noqa: ANN401  the client has no types
    def ask(query: str) -> Any:  # noqa: ANN401
        return connection.query(query.replace("%", "%%")).fetchall()

    account, server, version = ask("SELECT CURRENT_USER(), @@hostname, @@version")[0]
    roles = str(ask("SELECT CURRENT_ROLE()")[0][0])
    named = [] if roles == "NONE" else sorted(role for role in roles.split(","))
    using = f" USING {', '.join(named)}" if named else ""
    cipher = ask("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]
    tls = ask("SHOW SESSION STATUS LIKE 'Ssl_version'")[0][1]
    return {
        "account": account,
        "server": server,
        "version": version,
        "roles": named,
        "tls": tls if cipher else "",
        "grants": [row[0] for row in ask(f"SHOW GRANTS FOR CURRENT_USER(){using}")],
    }


def _store(dj: Any, name: str, schema: str | None) -> dict[str, Any]:  # noqa: ANN401  the client has no types
    from datajoint.storage import StorageBackend

    spec = dj.config.get_store_spec(name)
    place = {"endpoint": spec.get("endpoint"), "bucket": spec.get("bucket"), "listed": None}
    if schema is not None:
        backend = StorageBackend(spec)
        prefix = spec.get("hash_prefix", "_hash")
        path = "/".join(part for part in (spec["bucket"], spec.get("location"), prefix, schema, "") if part)
        with contextlib.suppress(FileNotFoundError):  # nothing there yet, and she was allowed to look
            backend.fs.ls(path, refresh=True)
        place["listed"] = schema
    return place


if __name__ == "__main__":
    main()
