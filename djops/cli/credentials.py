"""``djops credentials``."""

from __future__ import annotations

from pathlib import Path

import click

from djops.cli import common


@click.command()
@click.argument("who")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory to write into; made when it does not exist.",
)
@click.option("--force", is_flag=True, help="Replace other settings or somebody else's secrets.")
@click.option("--reason", metavar="TEXT", default="", help="Why; stands in the journal.")
@common.options
def command(out: common.Output, who: str, directory: Path, force: bool, reason: str) -> None:
    """Write the files that WHO's DataJoint client reads.

    These are datajoint.json (where the servers are) and .secrets/ (account and keys, from the secrets
    server), readable by their owner only. The client finds them when it is started in that directory or
    below.
    """
    from djops.services import credentials
    from djops.services.site import open_site

    site = open_site(out.project_file, out.environment)
    written = credentials.write(site, who, directory, force=force, reason=reason)
    shown = [str(path.relative_to(directory)) for path in written.files]
    data = {
        "who": written.principal,
        "directory": written.directory.resolve(),
        "files": shown,
        "changed": [str(path.relative_to(directory)) for path in written.changed],
    }
    how = f"start the client there: cd {directory} && python -c 'import datajoint as dj; print(dj.conn())'"
    done = "written" if written.changed else "already there"
    out.emit(data, "\n".join([*(f"{directory / name}" for name in shown), f"{done} for {who}; {how}"]))
    own = site.project.services.get(who)
    if own is not None and own.credentials.type != "kept":
        out.remark(f"its database credentials come from the secrets server: `djops secrets approle {who}`")
