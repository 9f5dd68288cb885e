"""``djops init``."""

from __future__ import annotations

from pathlib import Path

import click

from djops.cli import common


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--package", metavar="NAME", help="The pipeline's package; otherwise the one with schemas.")
@click.option("--name", metavar="NAME", help="Name of the project; otherwise as in pyproject.toml.")
@click.option("--bucket", metavar="NAME", help="Bucket of stores that datajoint.json does not tell of.")
@click.option("--force", is_flag=True, help="Replace a djops.yaml that is there.")
@common.options
def command(
    out: common.Output,
    directory: Path | None,
    package: str | None,
    name: str | None,
    bucket: str | None,
    force: bool,
) -> None:
    """Write djops.yaml for an existing pipeline package in DIRECTORY, or here.

    Schemas are read from the source, stores from datajoint.json; secrets are never copied.
    """
    from djops.report.findings import findings_data, findings_text
    from djops.services import start

    made = start.init(directory or out.directory, package=package, name=name, bucket=bucket, force=force)
    data = {
        "file": made.file,
        "project": made.project.project,
        "package": made.project.pipeline.package,
        "schemas": sorted(made.project.schemas),
        "stores": sorted(made.project.stores),
        "findings": findings_data(made.findings),
    }
    text = (
        f"wrote {made.file}: project {made.project.project}, "
        f"{len(made.project.schemas)} schemas, {len(made.project.stores)} stores\n"
        "next: `djops validate`, then `djops up`"
    )
    out.emit(data, text)
    out.remark(findings_text(made.findings))
