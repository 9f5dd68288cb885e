"""The same people on the same schemas by what is used today: Ansible, and a GRANT for each cell by a script.

Ansible is fetched into an environment of its own beside djops' other programs, for the bench only. It looks
at one account after the other, so it is given fewer people: its time grows with them.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pymysql

from bench import consortium, ldap2pg
from bench.access import _mysql_side, _send, pairs
from bench.consortium import Consortium
from bench.plan import ROUNDS
from bench.timing import Pair, timed
from djops.compile.s3 import S3State
from djops.compile.secrets_state import SecretsState
from djops.compile.sql import quote_account, quote_identifier, schema_pattern
from djops.services import access
from djops.services.servers import Servers
from djops.systems.paths import roots

PEOPLE = int(os.environ.get("DJOPS_BENCH_PEER_PEOPLE", "100"))
ANSIBLE_PEOPLE = 20
"""How many of them Ansible is given: it takes seconds for each."""

SCHEMAS = 50
PLAYBOOK = """\
- hosts: localhost
  gather_facts: false
  tasks:
    - community.mysql.mysql_user:
        name: "{{ item.name }}"
        host: "%"
        plugin: caching_sha2_password
        plugin_auth_string: "{{ item.password }}"
        update_password: on_create
        tls_requires: {SSL: ""}
        priv: "{{ item.priv }}"
        login_host: "{{ login.host }}"
        login_port: "{{ login.port }}"
        login_user: "{{ login.user }}"
        login_password: "{{ login.password }}"
        ca_cert: "{{ login.ca }}"
        column_case_sensitive: true
      loop: "{{ people }}"
      loop_control: {label: "{{ item.name }}"}
    """


def measure(place: Path) -> Iterator[Pair | str]:
    """Measure the same access by each of them, one after the other on one server.

    Args:
        place: An empty directory on the disk that labs live on.
    """
    with consortium.running(place, PEOPLE, SCHEMAS) as found, found.servers() as servers:
        wanted = found.wanted()
        compiled = access.compile_all(wanted, "local", wanted.graph, consortium.tables(wanted))
        cells = list(pairs(wanted, compiled))
        yield f"side by side, {found.size}, {len(cells):,} pairs, seconds, database only:"
        yield _line("djops", _djops(servers, wanted))
        yield _line("one GRANT for each pair by pymysql", _script(servers, cells))
        try:
            yield from _ansible_lines(found, servers, cells)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            yield f"  Ansible community.mysql.mysql_user: {error}"
    known = ldap2pg.available()
    if known:
        beside = place / "postgresql"
        beside.mkdir(mode=0o755)
        yield _line("ldap2pg on PostgreSQL, another engine", ldap2pg.measure(beside, wanted, *known))


def _line(name: str, took: tuple[float, float]) -> str:
    return f"  {name}: from empty {took[0]:.2f}, again with nothing to do {took[1]:.2f}"


def _djops(servers: Servers, wanted: access.Wanted) -> tuple[float, float]:
    graph, inventory = servers.mysql.read_pipeline(wanted.graph.schemas)
    took: list[tuple[float, float]] = []
    for _ in range(ROUNDS):

        def apply() -> None:
            whole = access.whole_graph(wanted.graph, graph)
            compiled = access.compile_all(wanted, "local", whole, inventory)
            nothing = SecretsState({}, {})
            there = access.Found(servers.mysql.read_state(), graph, inventory, S3State(), nothing)
            plan = access.plan_of(servers, wanted, access.Standing(compiled, there))
            passwords: dict[str, str] = {}
            changes = [change for change in plan.changes if change.system == "mysql"]
            consortium.statements(changes, passwords)
            _send(servers, changes, passwords)

        took.append((timed(apply), timed(lambda: _mysql_side(servers, wanted))))
        consortium.empty_database(servers)
    return statistics.median(one[0] for one in took), statistics.median(one[1] for one in took)


def _script(servers: Servers, cells: Sequence[tuple[str, str, frozenset[str]]]) -> tuple[float, float]:
    """A script that knows no state does everything again."""
    link = servers.site.mysql
    people = list(dict.fromkeys(person for person, _, _ in cells))

    def run() -> None:
        options: dict[str, Any] = {"host": link.host, "port": link.port, "user": link.user}
        server = pymysql.connect(**options, password=link.password.reveal(), ssl_ca=str(link.ca))
        with server, server.cursor() as cursor:
            for person in people:
                account = quote_account(person, "%").replace("%", "%%")  # as the driver wants it
                cursor.execute(
                    f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY %s REQUIRE SSL", ("x" * 24,)
                )
            for person, schema, names in cells:
                target = quote_identifier(schema_pattern(schema, escape=True))
                cursor.execute(
                    f"GRANT {', '.join(sorted(names))} ON {target}.* TO {quote_account(person, '%')}"
                )

    took: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        took.append((timed(run), timed(run)))
        _drop(servers, people)
    return statistics.median(one[0] for one in took), statistics.median(one[1] for one in took)


def _drop(servers: Servers, people: Sequence[str]) -> None:
    servers.mysql.query("DROP USER " + ", ".join(quote_account(person, "%") for person in people))


def _ansible_lines(
    found: Consortium, servers: Servers, cells: Sequence[tuple[str, str, frozenset[str]]]
) -> Iterator[str]:
    """Measure some of the people, and say what all would take if each took as long as these."""
    people = list(dict.fromkeys(person for person, _, _ in cells))
    few, some = people[:1], people[:ANSIBLE_PEOPLE]
    start = _ansible(found, servers, [one for one in cells if one[0] in few])
    took = _ansible(found, servers, [one for one in cells if one[0] in some])
    yield _line(f"Ansible community.mysql.mysql_user, {len(some)} of the people, one round", took)
    each = [(all_of - one) / max(1, len(some) - 1) for all_of, one in zip(took, start, strict=True)]
    first, again = (one + rest * (len(people) - 1) for one, rest in zip(start, each, strict=True))
    yield _line(f"the same for all {len(people)}, extrapolated, not measured", (first, again))


def _ansible(
    found: Consortium, servers: Servers, cells: Sequence[tuple[str, str, frozenset[str]]]
) -> tuple[float, float]:
    """Run a playbook twice; one round, since it takes minutes.

    As the administrator: the module reads columns of ``mysql.user`` that djops' own account may not see.
    With the plugin named: for a ``password`` alone it asks for SHA1(), which MySQL 9
    no longer has, and so fails with error 1046.
    """
    program, link = _installed(), servers.site.mysql_root
    assert link
    held: dict[str, dict[str, str]] = {}
    for person, schema, names in cells:
        held.setdefault(person, {})[f"{schema_pattern(schema, escape=True)}.*"] = ",".join(sorted(names))
    login = {
        "host": link.host,
        "port": link.port,
        "user": link.user,
        "password": link.password.reveal(),
        "ca": str(link.ca),
    }
    people = [{"name": name, "password": "x" * 24, "priv": priv} for name, priv in held.items()]
    variables, playbook = found.directory / "people.json", found.directory / "people.yaml"
    with os.fdopen(os.open(variables, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"login": login, "people": people}, file)
    playbook.write_text(PLAYBOOK)
    command = [str(program), "-i", "localhost,", "-c", "local", "-e", f"@{variables}"]
    interpreter = program.parent / "python"
    command += ["-e", f"ansible_python_interpreter={interpreter}", str(playbook)]
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_HOME": str(found.directory)}
    took = timed(lambda: _run(command, environment)), timed(lambda: _run(command, environment))
    _drop(servers, list(held))
    return took


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        messages = sorted(set(re.findall(r'"msg": "([^"]*)"', done.stdout)))
        raise RuntimeError(f"it failed: {'; '.join(messages) or 'it does not say why'}")


def _installed() -> Path:
    """Return ``ansible-playbook`` in an environment of its own, made once."""
    given = os.environ.get("DJOPS_BENCH_ANSIBLE")
    if given:
        return Path(given)
    home = roots().cache / "bench" / "ansible"
    program = home / "bin" / "ansible-playbook"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "-q", "ansible", "pymysql"], check=True)
    return program
