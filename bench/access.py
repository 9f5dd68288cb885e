"""What it takes to bring a consortium's access onto the servers, each figure beside what cannot be avoided.

Everything runs in one process, on connections that are open already, unless a line says otherwise.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from bench import consortium
from bench.consortium import Consortium
from bench.plan import ROUNDS, compared, schema_name
from bench.requests import replay
from bench.timing import Pair, in_turns, run, timed
from bench.up import djops
from djops.compile.mysql import (
    DATA_PRIVILEGES,
    JOB_PRIVILEGES,
    SCHEMA_PRIVILEGES,
    Inventory,
    compile_mysql,
)
from djops.compile.rights import compile_rights
from djops.compile.s3 import S3State
from djops.compile.secrets_state import SecretsState
from djops.compile.sql import quote_account, quote_identifier, schema_pattern
from djops.model import loading
from djops.plan.change import Change, Plan, in_order
from djops.plan.mysql import diff_mysql
from djops.plan.mysql_changes import CreateAccount
from djops.plan.operations import AwsCall, KeepKey
from djops.plan.s3 import diff_s3
from djops.services import access, applying, project, verify
from djops.services.crew import Outcome
from djops.services.journal import Record
from djops.services.servers import Servers

FEW = min(ROUNDS, 3)
"""Rounds of what takes minutes at full size."""

MEMORY = 120
"""Megabytes that a plan may take."""

PRINCIPALS = 500
READERS = 8


def compiling(found: Consortium) -> Pair:
    """Compile and plan from empty, against parsing the project file as djops does.

    Args:
        found: The consortium; no server is asked.
    """
    text, wanted = found.project_file.read_text(), found.wanted()
    gc.collect()
    gc.freeze()  # what the bench itself holds is nobody's cost
    seconds, floor = in_turns(
        lambda: consortium.plan_from_empty(wanted), lambda: loading.load(text, "djops.yaml"), ROUNDS
    )
    gc.unfreeze()
    return Pair(f"compile and plan from empty, {found.size}", "parse the YAML", seconds, floor, 3.0)


def from_empty(servers: Servers, wanted: access.Wanted) -> tuple[access.Compiled, list[Change]]:
    """Compile, and list what the database needs.

    Args:
        servers: The servers; only the database is asked.
        wanted: What is wanted.
    """
    graph, inventory = servers.mysql.read_pipeline(wanted.graph.schemas)
    whole = access.whole_graph(wanted.graph, graph)
    compiled = access.compile_all(wanted, "local", whole, inventory)
    nothing = access.Found(servers.mysql.read_state(), graph, inventory, S3State(), SecretsState({}, {}))
    plan = access.plan_of(servers, wanted, access.Standing(compiled, nothing))
    return compiled, [change for change in plan.changes if change.system == "mysql"]


def writing(
    found: Consortium, servers: Servers, wanted: access.Wanted, rounds_of: int = ROUNDS
) -> list[Pair | str]:
    """Send the database's part of a plan from empty, against the mysql client.

    Args:
        found: The consortium.
        servers: Its servers, with nobody's rights; they are brought back to that.
        wanted: What is wanted.
        rounds_of: How often.
    """
    compiled, changes = from_empty(servers, wanted)
    passwords: dict[str, str] = {}
    ready = consortium.statements(changes, passwords)
    same = _script(found.directory / "same.sql", (text for _, text in ready))
    cells = _script(found.directory / "cells.sql", one_by_one(wanted, compiled, ready))
    journal: list[float] = []
    rounds: list[tuple[float, ...]] = []
    for _ in range(rounds_of):
        took = []
        for work in (
            lambda: journal.append(_send(servers, changes, passwords)),
            lambda: consortium.pipe(servers, same),
            lambda: consortium.pipe(servers, cells),
        ):
            took.append(timed(work))
            consortium.empty_database(servers)
        rounds.append(tuple(took))
    ours, client, direct = ([one[which] for one in rounds] for which in range(3))
    name = f"apply from empty to MySQL, {found.size}: {len(ready):,} statements"
    count = sum(1 for _ in cells.read_text().splitlines())
    share = statistics.median(one / whole for one, whole in zip(journal, ours, strict=True))
    return [
        Pair(name, "the same through the mysql client", ours, client, 1.3),
        Pair(name, f"a GRANT for each person and schema: {count:,} statements", ours, direct, 0.6),
        f"{name}: the journal's rows for {len(changes):,} changes took {share:.0%} of that",
    ]


def removing(found: Consortium, servers: Servers, wanted: access.Wanted) -> Pair:
    """Drop people with all that they hold, against a statement for each through the mysql client.

    Args:
        found: The consortium.
        servers: Its servers, with nobody's rights; they are brought back to that.
        wanted: What is wanted.
    """
    changes = from_empty(servers, wanted)[1]
    everything = consortium.statements(changes, {})
    making = _script(found.directory / "same.sql", (text for _, text in everything))
    gone = [one.reverse() for one in changes if isinstance(one, CreateAccount)][:PRINCIPALS]
    singly = (str(one) for change in gone for one in change.operations())
    script = _script(found.directory / "gone.sql", singly)
    seconds, floor = list[float](), list[float]()
    for _ in range(FEW):
        for times, work in (
            (seconds, lambda: _send(servers, gone, {})),
            (floor, lambda: consortium.pipe(servers, script)),
        ):
            consortium.pipe(servers, making)
            times.append(timed(work))
            consortium.empty_database(servers)
    return Pair(f"drop {len(gone)} of {found.size}", "a DROP USER for each", seconds, floor, 0.6)


def _script(path: Path, texts: Iterable[str]) -> Path:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{text};\n" for text in texts)
    return path


def _send(servers: Servers, changes: Sequence[Change], passwords: Mapping[str, str]) -> float:
    """Send the SQL of changes as an apply does: under the lock, and each change in the journal.

    Returns:
        The seconds that the journal took.
    """
    for path, password in passwords.items():
        servers.remember(path, "database.password", password)
    with servers.changing("djops bench", 30):
        record = Record(servers.journal, Plan(tuple(changes)), servers.cause, "")
        recorded = timed(record.begin)
        for statement, numbers in consortium.pieces(changes):
            applying.execute(servers, statement)
            for number in numbers:
                record.finished(number)
            recorded += timed(record.pause)
        outcome = Outcome(done=[*range(len(changes))])
        return recorded + timed(lambda: record.end(outcome))


def one_by_one(
    wanted: access.Wanted, compiled: access.Compiled, ready: list[tuple[Any, str]]
) -> Iterable[str]:
    """Yield what gives the same people the same schemas without roles: a GRANT for each pair.

    Args:
        wanted: What is wanted.
        compiled: The same, compiled.
        ready: The statements of djops, whose accounts are made alike.
    """
    yield from _accounts(ready)
    for principal, schema, privileges in pairs(wanted, compiled):
        names = ", ".join(sorted(privileges))
        target = quote_identifier(schema_pattern(schema, escape=True))
        yield f"GRANT {names} ON {target}.* TO {quote_account(principal, '%')}"


def _accounts(ready: list[tuple[Any, str]]) -> Iterable[str]:
    """Yield the statements that make people's accounts, for which the server works at each password."""
    return (text for _, text in ready if text.startswith("CREATE USER") and " IDENTIFIED " in text)


def pairs(wanted: access.Wanted, compiled: access.Compiled) -> Iterable[tuple[str, str, frozenset[str]]]:
    """Yield every person and schema with the privileges that the person has there somewhere.

    Args:
        wanted: What is wanted.
        compiled: The same, compiled.
    """
    tables = (SCHEMA_PRIVILEGES, DATA_PRIVILEGES, JOB_PRIVILEGES)
    for principal in wanted.project.principals:
        found: dict[str, set[str]] = {}
        for right in compiled.rights.by_principal.get(principal, ()):
            for table in tables:
                found.setdefault(right.schema, set()).update(table.get(right.capability, ()))
        yield from ((principal, schema, frozenset(names)) for schema, names in found.items() if names)


def unchanged(found: Consortium, servers: Servers, wanted: access.Wanted) -> Pair:
    """Find that the database needs nothing, against reading its catalog.

    Args:
        found: The consortium, applied.
        servers: Its servers.
        wanted: What is wanted.
    """
    asked: list[tuple[str, Any]] = []
    query = servers.mysql.query

    def note(statement: str, parameters: Any = ()) -> Any:
        asked.append((statement, parameters))
        return query(statement, parameters)

    with mock.patch.object(servers.mysql, "query", note):
        _mysql_side(servers, wanted)
    seconds, floor = in_turns(
        lambda: _mysql_side(servers, wanted), lambda: [query(*one) for one in asked], ROUNDS
    )
    name = f"plan that finds nothing, MySQL's part, {found.size}"
    return Pair(name, f"its {len(asked)} reads alone", seconds, floor, 3.0)


def _mysql_side(servers: Servers, wanted: access.Wanted) -> None:
    state = access.read_database(servers, wanted.graph.schemas)
    graph, inventory = servers.mysql.read_pipeline(wanted.graph.schemas)
    whole = access.whole_graph(wanted.graph, graph)
    rights = compile_rights(wanted.project, whole, wanted.roles, wanted.today)
    should = compile_mysql(wanted.project, "%", rights, whole, wanted.roles, inventory)
    reasons = access._reasons(wanted.project, rights, state)
    changes = diff_mysql(wanted.project.project, should, state, reasons, lambda _: True, lambda _: True)
    if changes:
        raise SystemExit(f"the plan is not empty: {changes[0].describe()}")


def storing(found: Consortium, servers: Servers, wanted: access.Wanted) -> Pair:
    """Give people their users, policies and keys in the object store, against boto3 with as many threads.

    Args:
        found: The consortium.
        servers: Its servers; the object store has nobody, and is brought back to that.
        wanted: What is wanted.
    """
    compiled = access.compile_all(wanted, "local", wanted.graph, Inventory())
    names = list(compiled.s3.users)[:PRINCIPALS]
    some = S3State({name: compiled.s3.users[name] for name in names})
    keeps = {name: KeepKey(f"{wanted.project.project}/people/{name}", ("main",)) for name in names}
    changes = diff_s3(wanted.project.project, some, S3State(), keeps, {}, {})
    plan = Plan(in_order(changes))
    calls = [one for change in plan.changes for one in change.operations() if isinstance(one, AwsCall)]
    by_user = {n: [one for one in calls if one.parameters["UserName"] == n] for n in names}
    seconds, floor = [], []
    for _ in range(FEW):
        with servers.changing("djops bench", 30):
            seconds.append(timed(lambda: applying.apply(servers, plan)))
        _empty_store(servers, names)
        floor.append(timed(lambda: _boto(servers, by_user, keeps)))
        _empty_store(servers, names)
    name = f"{len(names)} users, policies and keys from empty, with their keeping"
    return Pair(name, "the same requests by boto3, 8 threads", seconds, floor, 1.2)


def _boto(servers: Servers, by_user: Mapping[str, list[AwsCall]], keeps: Mapping[str, KeepKey]) -> None:
    """Send the same requests: three to the store and four to the secrets server for each person."""
    import boto3
    import requests
    from botocore.config import Config

    link, vault = servers.site.s3, servers.site.secrets
    session = boto3.session.Session(link.access_key, link.secret_key.reveal(), region_name=link.region)
    config = Config(max_pool_connections=READERS)
    iam: Any = session.client("iam", endpoint_url=link.admin_endpoint, verify=str(link.ca), config=config)
    login = {"role_id": vault.role_id, "secret_id": vault.secret_id.reveal()}
    web = requests.Session()
    web.verify, web.trust_env = str(vault.ca), False
    web.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=READERS))
    answer = web.post(f"{vault.address}/v1/auth/approle/login", json=login).json()
    web.headers["X-Vault-Token"] = answer["auth"]["client_token"]

    def one(name: str) -> None:
        for call in by_user[name]:
            answered = iam._make_api_call(call.action, call.parameters)
        fields = {"stores.main.secret_key": answered["AccessKey"]["SecretAccessKey"]}
        data, beside = (
            f"{vault.address}/v1/djops/{kind}/{keeps[name].path}" for kind in ("data", "metadata")
        )
        web.get(data)
        web.post(data, json={"data": fields})
        web.get(beside)
        web.post(beside, json={"custom_metadata": {"s3_access_key": "x"}})

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(one, by_user))


def _empty_store(servers: Servers, names: Iterable[str]) -> None:
    def gone(name: str) -> None:
        who = {"UserName": name}
        for key in servers.s3.user(name, grouped=False).keys:
            servers.s3.call(AwsCall("iam", "DeleteAccessKey", {**who, "AccessKeyId": key}))
        policy = {**who, "PolicyName": "djops"}
        servers.s3.call(AwsCall("iam", "DeleteUserPolicy", policy, missing_is_done=True))
        servers.s3.call(AwsCall("iam", "DeleteUser", who, missing_is_done=True))
        path = f"{servers.site.project.project}/people/{name}"
        servers.secrets.delete_secret_completely(path)

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(gone, names))


def proving(found: Consortium, servers: Servers, wanted: access.Wanted) -> Pair:
    """Ask both catalogs about every cell, against a plan.

    Args:
        found: The consortium, applied.
        servers: Its servers.
        wanted: What is wanted.
    """
    seconds, floor = in_turns(
        lambda: verify.verify(servers, wanted, None, verify.STATIC),
        lambda: access.make_plan(servers, wanted),
        FEW,
    )
    cells = verify.verify(servers, wanted, None, verify.STATIC).counts
    count = sum(one.cells for one in cells.values())
    return Pair(f"verify --static, {count:,} cells, {found.size}", "plan", seconds, floor, 3.0)


def granting(found: Consortium) -> Pair:
    """Run ``djops grant`` as a program, against its own statements and requests sent raw.

    The interpreter's own start is taken off djops' side. What the floor cannot do twice, such as adding
    the same row to the journal, the server refuses, which takes as long.

    Args:
        found: The consortium, applied.
    """
    recorded = found.directory / "grant.json"
    here = [sys.executable, "-m", "bench.requests"]
    subprocess.run([*here, "record-grant", str(found.project_file), str(recorded)], check=True)
    seen = json.loads(recorded.read_text())
    nothing = statistics.median(timed(lambda: run([sys.executable, "-c", "pass"])) for _ in range(ROUNDS))
    seconds, floor = [], []
    for number in range(FEW):
        who = f"person{number + 7:04}"
        what = (who, "viewer", found_schema(found, who), "--yes")
        work = functools.partial(djops, found.directory, os.environ)
        seconds.append(timed(functools.partial(work, "grant", *what)) - nothing)
        floor.append(timed(lambda: replay(found.project_file, seen)))
        work("revoke", *what)
    count = sum(len(one) for one in seen.values())
    name = f"djops grant from end to end without Python's start, {found.size}"
    return Pair(name, f"its {count:,} statements and requests, raw", seconds, floor, 3.0)


def found_schema(found: Consortium, who: str) -> str:
    """Return a schema on which somebody has no grant.

    Args:
        found: The consortium.
        who: The person.
    """
    project_now = project.load(found.project_file).project
    held = {name for grant in project_now.people[who].grants for name in grant.on}
    return next(name for number in range(found.schemas) if (name := schema_name(number)) not in held)


def memory(found: Consortium) -> int:
    """Return the most memory that ``djops plan`` takes, in bytes.

    Args:
        found: The consortium.
    """
    command = [str(Path(sys.executable).parent / "djops"), "plan", "--json", "-C", str(found.directory)]
    # By way of a small program: a child begins with the memory of the program that starts it.
    script = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
    script += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=True
    )
    return int(done.stdout) * 1024


def measure(place: Path, people: int, schemas: int) -> Iterator[Pair | str]:
    """Measure everything at one size.

    Args:
        place: An empty directory on the disk that labs live on.
        people: How many people.
        schemas: How many schemas.

    Returns:
        The pairs as they are measured, and a sentence on the memory that a plan takes.
    """
    with consortium.running(place, people, schemas) as found:
        wanted = found.wanted()
        yield compiling(found)
        with found.servers() as servers:
            yield from writing(found, servers, wanted)
            yield removing(found, servers, wanted)
            yield storing(found, servers, wanted)
        djops(found.directory, os.environ, "apply", "--yes")
        yield compared(found.directory, os.environ, found.size)
        with found.servers() as servers:
            yield unchanged(found, servers, wanted)
            yield proving(found, servers, wanted)
        used = memory(found) / 1e6
        verdict = "met" if used <= MEMORY else "MISSED"
        yield f"memory of djops plan, {found.size}: {used:.0f} MB; goal {MEMORY} MB: {verdict}"
        yield granting(found)


def large(place: Path, people: int = 5_000, schemas: int = 200) -> Iterator[Pair | str]:
    """Measure the database's part in a large consortium: one round of what changes it, the store left empty.

    Args:
        place: An empty directory on the disk that labs live on.
        people: How many people.
        schemas: How many schemas.
    """
    with consortium.running(place, people, schemas) as found, found.servers() as servers:
        wanted = found.wanted()
        yield compiling(found)
        yield from writing(found, servers, wanted, 1)
        _, changes = from_empty(servers, wanted)
        passwords: dict[str, str] = {}
        consortium.statements(changes, passwords)
        _send(servers, changes, passwords)
        yield unchanged(found, servers, wanted)
