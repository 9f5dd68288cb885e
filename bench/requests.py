"""Records what a plan asks the servers, and asks the same again without djops' thinking.

``python -m bench.requests record DJOPS_YAML FILE`` and then ``replay DJOPS_YAML FILE``; ``record-grant``
writes down what a ``djops grant`` sends. The file holds statements, calls and paths, and no secret:
connections are opened from the lab's own files.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

READERS = 8


def record(project_file: Path, work: Callable[[Path], object] | None = None) -> dict[str, list[Any]]:
    """Make a plan, or do something else, and write down every request.

    Args:
        project_file: The ``djops.yaml`` of a lab that is up.
        work: What to do instead of a plan.

    Returns:
        SQL statements, S3 calls and paths on the secrets server, in order.
    """
    import botocore.client
    import pymysql.cursors
    import requests

    seen: dict[str, list[Any]] = {"sql": [], "s3": [], "http": []}
    execute, call = pymysql.cursors.Cursor.execute, botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]
    request = requests.Session.request

    def note_sql(cursor: Any, query: str, args: Any = None) -> int:
        seen["sql"].append(cursor.mogrify(query, args))
        return execute(cursor, query, args)

    def note_call(client: Any, name: str, parameters: Any) -> Any:
        seen["s3"].append([client.meta.service_model.service_name, name, parameters])
        return call(client, name, parameters)

    def note_request(session: Any, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        seen["http"].append([method, "/" + url.split("/", 3)[3]])
        return request(session, method, url, *args, **kwargs)

    with (
        mock.patch.object(pymysql.cursors.Cursor, "execute", note_sql),
        mock.patch.object(botocore.client.BaseClient, "_make_api_call", note_call),
        mock.patch.object(requests.Session, "request", note_request),
    ):
        (work or plan)(project_file)
    seen["http"] = [one for one in seen["http"] if "login" not in one[1]]
    return seen


def plan(project_file: Path) -> None:
    """Make a plan."""
    from djops.services import access, project

    with access.opened(project.load(project_file)) as (servers, wanted):
        access.make_plan(servers, wanted)


def grant(project_file: Path) -> None:
    """Grant something and take it back; only the first is of use to whoever records."""
    from click.testing import CliRunner

    from djops.cli.grant import command

    done = CliRunner().invoke(command, [*GRANT, "--yes", "-C", str(project_file.parent)])
    if done.exit_code:
        raise SystemExit(done.output)


GRANT = ("person0003", "viewer", "lab_part_00")


def replay(project_file: Path, seen: dict[str, list[Any]]) -> None:
    """Ask everything again, the three servers at once."""
    from djops.services.site import open_site

    site = open_site(project_file)
    with ThreadPoolExecutor(3) as pool:
        asked = [
            pool.submit(ask_mysql, site.mysql, seen["sql"]),
            pool.submit(ask_s3, site.s3, seen["s3"]),
            pool.submit(ask_secrets, site.secrets, seen["http"]),
        ]
        for one in asked:
            one.result(600)


def ask_mysql(connection: Any, statements: Sequence[str]) -> None:
    """Send SQL and take all rows."""
    import pymysql

    options = {"host": connection.host, "port": connection.port, "user": connection.user}
    server = pymysql.connect(**options, password=connection.password.reveal(), ssl_ca=str(connection.ca))
    with server, server.cursor() as cursor:
        for statement in statements:
            with contextlib.suppress(pymysql.MySQLError):
                cursor.execute(statement)
                cursor.fetchall()


def ask_s3(connection: Any, calls: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
    """Send S3 and IAM calls, several at once."""
    import boto3
    import botocore.exceptions
    from botocore.config import Config

    session = boto3.session.Session(
        connection.access_key, connection.secret_key.reveal(), region_name="us-east-1"
    )
    config = Config(max_pool_connections=READERS, s3={"addressing_style": "path"})
    options = {"endpoint_url": connection.admin_endpoint, "verify": str(connection.ca), "config": config}
    clients: dict[str, Any] = {name: session.client(name, **options) for name in ("iam", "s3")}

    def send(one: tuple[str, str, dict[str, Any]]) -> None:
        service, name, parameters = one
        try:
            clients[service]._make_api_call(name, parameters)
        except botocore.exceptions.ClientError:
            return  # the plan was told no as well

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(send, calls))


def ask_secrets(connection: Any, requests_made: Sequence[tuple[str, str]]) -> None:
    """Send HTTP requests to the secrets server."""
    import requests

    session = requests.Session()
    session.verify = str(connection.ca)
    session.trust_env = False
    login = {"role_id": connection.role_id, "secret_id": connection.secret_id.reveal()}
    answer = session.post(f"{connection.address}/v1/auth/approle/login", json=login).json()
    session.headers["X-Vault-Token"] = answer["auth"]["client_token"]
    for method, path in requests_made:
        # Without a body the server refuses what would change something, which takes as long.
        session.request(method, f"{connection.address}{path}")


def main() -> None:
    """Record or replay."""
    what, project_file, file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if what.startswith("record"):
        file.write_text(json.dumps(record(project_file, grant if what == "record-grant" else None)))
    else:
        replay(project_file, json.loads(file.read_text()))


if __name__ == "__main__":
    main()
