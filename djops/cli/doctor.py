"""``djops doctor``."""

from __future__ import annotations

from pathlib import Path

import click

from djops.cli import common


@click.command()
@click.option(
    "--code",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Where the pipeline's code lies; otherwise the repository around.",
)
@common.options
def command(out: common.Output, code: Path | None) -> None:
    """Look for what is wrong with your own set-up, in the directory in which you start your client.

    Files that the client ignores, secrets that others can read or that stand in git's history, a connection
    without TLS, servers that cannot be reached, rights other than your welcome page says, codecs without a
    store's name in the code. It needs no djops.yaml, and changes nothing.

    Exit status: 0 nothing is wrong, 1 error, 2 findings.
    """
    from djops.report.findings import ask_attention, findings_data, findings_text
    from djops.services import checkup

    found = checkup.examine(out.directory, code)
    view = found.identity.view
    head = f"looked at {', '.join(found.looked)}"
    who = f"; you are {view.account}" if view.account else ""
    data = {"account": view.account or None, "looked": list(found.looked)}
    wrong = ask_attention(found.findings)
    text = findings_text(found.findings) or "nothing is wrong"
    out.emit({**data, "findings": findings_data(found.findings)}, f"{head}{who}\n{text}", findings=wrong)
