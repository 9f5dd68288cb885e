"""ldap2pg on PostgreSQL: another engine, and a reconciler of the same kind; for orientation only.

Needs ``DJOPS_BENCH_LDAP2PG``, the command of ldap2pg 5, and PostgreSQL's programs where Debian has them.
The same people get the same levels on schemas of the same names, through one group role for each level.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bench.timing import timed
from djops.services import access
from djops.systems import ports

LEVELS: Mapping[str, tuple[str, ...]] = {
    "viewer": ("ro",),
    "analyst": ("ro", "rw"),
    "operator": ("ro", "rw"),
    "developer": ("ro", "rw", "ddl"),
}
PRIVILEGES = {
    "ro": ["__usage_on_schemas__", "__select_on_tables__"],
    "rw": ["__insert_on_tables__", "__update_on_tables__", "__delete_on_tables__"],
    "ddl": ["__create_on_schemas__"],
}
TABLES = ("session", "recording", "channel", "result", "lineage", "jobs1", "jobs2")


def available() -> tuple[list[str], Path] | None:
    """Return the command and where PostgreSQL's programs are, or ``None``."""
    command = os.environ.get("DJOPS_BENCH_LDAP2PG")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return (shlex.split(command), found[-1]) if command and found else None


def measure(place: Path, wanted: access.Wanted, command: list[str], programs: Path) -> tuple[float, float]:
    """Give everybody everything from empty, then once more with nothing to do.

    Args:
        place: An empty directory that others may enter.
        wanted: What is wanted.
        command: ldap2pg.
        programs: PostgreSQL's programs.
    """
    with _postgres(place, programs) as address:
        sql = [f"CREATE SCHEMA {schema};" for schema in sorted(wanted.graph.schemas)]
        sql += [f"CREATE TABLE {s}.{t} (a int);" for s in sorted(wanted.graph.schemas) for t in TABLES]
        client = [str(programs / "psql"), "-q", "-v", "ON_ERROR_STOP=1", address]
        subprocess.run(client, input="".join(sql), text=True, check=True)
        config = place / "ldap2pg.yml"
        config.write_text(yaml.safe_dump(_configuration(wanted)))
        environment = {**os.environ, "PGDSN": address}
        run = [*command, "--config", str(config), "--real"]

        def once() -> None:
            subprocess.run(run, env=environment, check=True, capture_output=True)

        took = timed(once), timed(once)
        ask = "SELECT COUNT(DISTINCT member) FROM pg_auth_members"
        members = subprocess.run([*client, "-tAc", ask], capture_output=True, text=True, check=True).stdout
        if int(members) < len(wanted.project.principals):
            raise SystemExit(f"ldap2pg gave only {members} people something")
        return took


def _configuration(wanted: access.Wanted) -> dict[str, Any]:
    rules: list[dict[str, Any]] = []
    held: dict[str, list[str]] = {}
    groups: dict[str, tuple[str, str]] = {}
    for name in wanted.project.principals:
        for _, grant in wanted.project.grants_of(name):
            for schema in wanted.project.meant(grant.on, wanted.graph.schemas):
                group = f"{schema}_{grant.role}"
                groups[group] = schema, grant.role
                held.setdefault(name, []).append(group)
    rules.append({"roles": [{"name": group, "options": "NOLOGIN"} for group in sorted(groups)]})
    rules.append(
        {"roles": [{"name": n, "options": "LOGIN", "parents": parents} for n, parents in held.items()]}
    )
    for group, (schema, role) in sorted(groups.items()):
        rules += [
            {"grant": {"privilege": one, "database": "postgres", "schema": schema, "role": group}}
            for one in LEVELS[role]
        ]
    return {
        "version": 5,
        "postgres": {
            "databases_query": ["postgres"],
            "schemas_query": sorted(wanted.graph.schemas),
            "roles_blacklist_query": ["postgres", "pg_*"],
        },
        "privileges": PRIVILEGES,
        "sync_map": rules,
    }


@contextmanager
def _postgres(place: Path, programs: Path) -> Iterator[str]:
    """Run a server of its own, as an account that is not root's."""
    data, port = place / "pg", ports.free_ports(1)[0]
    data.mkdir()
    account = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    if account:
        subprocess.run(["chown", "nobody:nogroup", str(data)], check=True)

    def run(*command: str) -> None:
        done = subprocess.run([*account, *command], capture_output=True, text=True, check=False, cwd=data)
        if done.returncode:
            raise SystemExit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")

    run(str(programs / "initdb"), "-U", "postgres", "-A", "trust", "-D", str(data / "data"))
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {data}"
    run(
        str(programs / "pg_ctl"),
        "-D",
        str(data / "data"),
        "-w",
        "-l",
        str(data / "log"),
        "-o",
        options,
        "start",
    )
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        run(str(programs / "pg_ctl"), "-D", str(data / "data"), "-m", "fast", "stop")
