"""``djops config``."""

from __future__ import annotations

import json

import click

from djops.cli import common


@click.group(cls=common.Group)
def command() -> None:
    """Show what the project file may hold."""


@command.command()
@common.options
def schema(out: common.Output) -> None:
    """Print the JSON Schema of djops.yaml, for editors.

    An editor with a YAML language server uses it when the file's first line says where it is:
    `# yaml-language-server: $schema=djops.schema.json`.
    """
    from djops.model.loading import project_json_schema

    found = project_json_schema()
    out.emit({"schema": found}, lambda: json.dumps(found, indent=2, ensure_ascii=False))


@command.command()
@common.options
def login(out: common.Output) -> None:
    """Print what lets people log in to the secrets server by themselves, as `login:` says.

    The secrets server's administrator runs it once, with `bao` or, in its place, `vault`: it mounts the
    log-in method and writes one policy, which opens to each person her own secret. Nothing secret is in it.
    """
    from djops.compile.login import login_policy, login_script
    from djops.errors import ConfigError
    from djops.services.project import load_project
    from djops.services.site import choose_environment

    project = load_project(out.project_file)
    name = choose_environment(project, out.environment)
    method = project.environments[name].login
    if method is None:
        raise ConfigError(
            f"the environment {name!r} has no `login:`",
            where=str(out.project_file),
            hint="add `login: {method: userpass}`, or ldap or oidc; see docs/people.md",
        )
    script = login_script(project.project, method)
    out.emit({"method": method.method, "policy": login_policy(project.project), "script": script}, script)
