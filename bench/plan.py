"""A ``djops plan`` that finds nothing, at 1,000 people and 50 schemas, against reading the catalog.

The floor sends the very requests that the plan sends to the three servers, as they were recorded, from a
program that does nothing else: the same SQL through the same driver, the same calls through the same S3
library, the same HTTP requests, with as many at once. It loads no project, compiles no rights and compares
nothing. Both are timed as programs, from their start to their end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from bench.timing import Pair, in_turns
from bench.up import djops, purge

ROUNDS = int(os.environ.get("DJOPS_BENCH_ROUNDS", "5"))
PEOPLE = int(os.environ.get("DJOPS_BENCH_PEOPLE", "1000"))
SCHEMAS = int(os.environ.get("DJOPS_BENCH_SCHEMAS", "50"))
PROJECT = "djops_bench"
ROLES = ("viewer", "analyst", "operator", "viewer", "developer")

MODULE = '''\
import datajoint as dj
{imports}
schema = dj.Schema("{schema}")


@schema
class Session(dj.Manual):
    definition = """
    session : int32{parent}
    ---
    note : varchar(255)
    """


@schema
class Recording(dj.Imported):
    definition = """
    -> Session
    ---
    data : <blob@main>
    """

    class Channel(dj.Part):
        definition = """
        -> master
        channel : int32
        """


@schema
class Result(dj.Computed):
    definition = """
    -> Recording
    ---
    value : float64
    """
'''

TABLES = """\
CREATE DATABASE `{schema}`;
CREATE TABLE `{schema}`.`session` (session int PRIMARY KEY, up int, note varchar(255){parent});
CREATE TABLE `{schema}`.`_recording` (session int PRIMARY KEY, data json,
  FOREIGN KEY (session) REFERENCES `{schema}`.`session` (session));
CREATE TABLE `{schema}`.`_recording__channel` (session int, channel int, PRIMARY KEY (session, channel),
  FOREIGN KEY (session) REFERENCES `{schema}`.`_recording` (session));
CREATE TABLE `{schema}`.`__result` (session int PRIMARY KEY, value double,
  FOREIGN KEY (session) REFERENCES `{schema}`.`_recording` (session));
CREATE TABLE `{schema}`.`~lineage` (id int PRIMARY KEY);
CREATE TABLE `{schema}`.`~~recording` (session int PRIMARY KEY);
CREATE TABLE `{schema}`.`~~result` (session int PRIMARY KEY)
"""


def schema_name(number: int) -> str:
    """Return the name of a schema."""
    return f"lab_part_{number:02}"


def parent_of(number: int) -> int | None:
    """Return the schema that a schema depends on: chains of five."""
    return number - 1 if number % 5 else None


def write_project(
    project: Path, people: int = PEOPLE, schemas: int = SCHEMAS, *, location: str = "lab"
) -> None:
    """Write a pipeline and its project file.

    Args:
        project: Where to.
        people: How many people, each with three grants.
        schemas: How many schemas, in chains of five.
        location: The store's location.
    """
    package = project / "src" / "lab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for number in range(schemas):
        above = parent_of(number)
        imports = "" if above is None else f"from lab import part_{above:02}\n"
        parent = "" if above is None else f"\n    ---\n    -> part_{above:02}.Session.proj(up='session')"
        text = MODULE.format(imports=imports, schema=schema_name(number), parent=parent)
        text = text.replace("\n    ---\n    note", "\n    note") if parent else text
        (package / f"part_{number:02}.py").write_text(text)
    content = {
        "version": 1,
        "project": PROJECT,
        "pipeline": {"package": "lab"},
        "environments": {"local": {"target": "local"}},
        "stores": {"main": {"protocol": "s3", "bucket": "djops-bench", "location": location}},
        "schemas": {schema_name(number): {"stage": "development"} for number in range(0, schemas, 7)},
        "people": {f"person{number:04}": {"grants": grants_of(number, schemas)} for number in range(people)},
    }
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(content, Dumper=dumper, sort_keys=False, default_flow_style=False)
    (project / "djops.yaml").write_text(text)


def grants_of(number: int, schemas: int) -> list[dict[str, object]]:
    """Return what one person holds: three roles, each on a schema of its own."""
    role = ROLES[number % len(ROLES)]
    # Developers work on schemas in development only: every seventh is.
    first = [(number * 7 + step * 11) % schemas for step in range(2)]
    if role == "developer":
        first = [one // 7 * 7 for one in first]
    other = next(one for step in range(3) if (one := (number * 3 + step) % schemas) not in first)
    roles = [(role, one) for one in dict.fromkeys(first)] + [("viewer", other)]
    return [{"role": name, "on": schema_name(one)} for name, one in roles]


def make_tables(project: Path, schemas: int = SCHEMAS) -> None:
    """Declare the pipeline by hand, as the administrator.

    Args:
        project: Where the project file is.
        schemas: How many schemas there are.
    """
    from djops.services.site import open_site
    from djops.systems.local.mysql import grant_manager
    from djops.systems.mysql import Mysql

    site = open_site(project / "djops.yaml")
    assert site.mysql_root
    grant_manager(site.mysql_root, [schema_name(number) for number in range(schemas)])
    with Mysql(site.mysql) as mysql:
        for number in range(schemas):
            above = parent_of(number)
            parent = (
                ""
                if above is None
                else f", FOREIGN KEY (up) REFERENCES `{schema_name(above)}`.`session` (session)"
            )
            for statement in TABLES.format(schema=schema_name(number), parent=parent).split(";\n"):
                mysql.query(statement)


def measure(place: Path) -> Pair:
    """Time both, in turns.

    Args:
        place: An empty directory on the disk that labs live on.
    """
    project = place / "project"
    environment = {**os.environ, "DJOPS_DATA_HOME": str(place / "data")}
    os.environ["DJOPS_DATA_HOME"] = environment["DJOPS_DATA_HOME"]
    write_project(project)
    djops(project, environment, "up")
    try:
        make_tables(project)
        djops(project, environment, "apply", "--yes")
        return compared(project, environment, f"{PEOPLE:,} x {SCHEMAS}")
    finally:
        purge(project, environment)


def compared(project: Path, environment: Mapping[str, str], size: str) -> Pair:
    """Time both where everything is applied.

    Args:
        project: The folder of the project file.
        environment: Tells djops where the lab is.
        size: How large it is, for people.
    """
    recorded = project / "requests.json"
    replay = [sys.executable, "-m", "bench.requests"]
    subprocess.run([*replay, "record", str(project / "djops.yaml"), str(recorded)], check=True)
    seconds, floor = in_turns(
        lambda: require_nothing(djops(project, environment, "plan")),
        lambda: subprocess.run([*replay, "replay", str(project / "djops.yaml"), str(recorded)], check=True),
        ROUNDS,
    )
    return Pair(f"djops plan that finds nothing, {size}", "the same reads alone", seconds, floor, 3.0)


def require_nothing(data: dict[str, str]) -> None:
    """Fail when a plan is not empty."""
    if data["changes"]:
        raise SystemExit(f"the plan is not empty: {data['changes'][:3]}")
