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
