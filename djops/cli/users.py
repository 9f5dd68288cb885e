"""``djops users``."""

from __future__ import annotations

import dataclasses

import click

from djops.cli import common


@click.group(cls=common.Group)
def command() -> None:
    """Add, list, show and remove people and services."""


@command.command("add")
@click.argument("name")
@click.option("--email", metavar="ADDRESS", help="How to reach the person.")
@click.option("--service", is_flag=True, help="It is a service, not a person.")
@common.changing
def add(out: common.Output, name: str, email: str | None, service: bool) -> None:
    """Add NAME, without rights yet, in djops.yaml and on all servers.

    Exit status: 0 done, 1 error.
    """
    from djops.cli import editing
    from djops.services import people

    editing.carry_out(out, people.adding(out.project_file, name, email, service=service), f"adding {name}")


@command.command("remove")
@click.argument("name")
@common.changing
def remove(out: common.Output, name: str) -> None:
    """Remove NAME with account, keys and credentials; rows and objects stay.

    Exit status: 0 done, 1 error.
    """
    from djops.cli import editing
    from djops.services import people

    editing.carry_out(out, people.removing(out.project_file, name), f"removing {name}")


@command.command("list")
@common.options
def show_all(out: common.Output) -> None:
    """List people and services with their grants.

    Exit status: 0 done, 1 error.
    """
    from djops.report.table import table
    from djops.services import people, project

    found = people.people(project.load(out.project_file))
    rows = [(p.name, p.kind, p.email, "; ".join(p.grants) or "nothing") for p in found]
    out.emit(
        {"users": [dataclasses.asdict(person) for person in found]},
        lambda: table(("name", "kind", "e-mail", "has"), rows),
    )


@command.command("show")
@click.argument("name")
@common.options
def show_one(out: common.Output, name: str) -> None:
    """Show what NAME has and what it may do, schema by schema.

    Exit status: 0 done, 1 error.
    """
    from djops.model.editing import section_of
    from djops.report.table import table
    from djops.services import people, project

    loaded = project.load(out.project_file)
    section_of(loaded.project, name)
    person = next(person for person in people.people(loaded) if person.name == name)
    head = [("name", person.name), ("kind", person.kind), ("e-mail", person.email)]
    head += [("has", grant) for grant in person.grants]
    rights = table(("schema", "may"), [(schema, ", ".join(may)) for schema, may in person.rights.items()])
    out.emit({"user": dataclasses.asdict(person)}, f"{table((), head)}\n\n{rights}")
