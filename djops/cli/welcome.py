"""``djops welcome``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from djops.cli import common

if TYPE_CHECKING:
    from djops.services.arriving import Arrived
    from djops.systems.connections import Secret


@click.command()
@click.argument("link", required=False, metavar="[-|FILE]")
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    default=".",
    show_default=True,
    metavar="DIR",
    help="Directory of the files that came with the welcome page.",
)
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    metavar="DIR",
    help="Directory to write into; made when it does not exist.",
)
@click.option("--login", is_flag=True, help="Log in with your password for the secrets server; no link.")
@click.option("--token", is_flag=True, help="What is read is a token of the secrets server, no link.")
@click.option("--force", is_flag=True, help="Replace other settings or somebody else's secrets.")
@common.options
def command(
    out: common.Output,
    link: str | None,
    page: Path,
    directory: Path,
    login: bool,
    token: bool,
    force: bool,
) -> None:
    """Turn the link of a welcome page into the files that the DataJoint client reads.

    For the new person, on her own machine; it needs no djops.yaml. The link is asked for on the terminal,
    or read from standard input (-) or from a FILE; it cannot stand in the command line, which others may
    read. Then database and store are tried through the client, and a first query is shown.

    Where the lab has log-ins to the secrets server, --login asks for that password instead, and may be
    repeated whenever secrets were replaced; `bao login -method=oidc -token-only | djops welcome --token -`
    does the same with OIDC.

    Exit status: 0 done, 1 error, 2 the files are written, and something does not work yet.
    """
    from djops.services import arriving

    bundle = arriving.read_bundle(page)
    word = "password for the secrets server" if login else "token" if token else "link"
    work = arriving.log_in if login else arriving.with_token if token else arriving.arrive
    arrived = work(bundle, _read(link, word), directory, force=force)
    works = arrived.view.failure is None and not arrived.view.store_failures
    told = "" if login or token else "; the link is used up"
    out.emit(_data(arrived, directory), lambda: _text(arrived, directory, told), findings=not works)


def _read(source: str | None, word: str) -> Secret:
    from djops.errors import UsageError
    from djops.services.arriving import refuse_token
    from djops.systems.connections import Secret

    if source is not None and source != "-":
        refuse_token(source)
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageError(f"the {word} cannot be read: {reason}", where=source) from None
    elif source == "-" or not sys.stdin.isatty():
        text = sys.stdin.readline()
    else:
        text = click.prompt(f"Your {word} (it is not shown)", hide_input=True, err=True)
    if not text.strip():
        raise UsageError(f"there is no {word}", hint="a link is the line of letters that came another way")
    return Secret(text.strip())


def _data(arrived: Arrived, directory: Path) -> dict[str, object]:
    view = arrived.view
    return {
        "who": arrived.bundle.who,
        "directory": directory.resolve(),
        "files": [str(path.relative_to(directory)) for path in arrived.written.files],
        "database": {"works": view.failure is None, "tls": view.tls, "schemas": list(view.schemas)},
        "stores": {name: name not in view.store_failures for name in (*view.stores, *view.store_failures)},
        "failures": [view.failure, *view.store_failures.values()] if view.failure else
        list(view.store_failures.values()),
        "query": list(arrived.query),
    }  # fmt: skip


def _text(arrived: Arrived, directory: Path, told: str) -> str:
    view, lines = arrived.view, [str(path) for path in arrived.written.files]
    lines += [f"written for {arrived.bundle.who}{told}", ""]
    if view.failure is not None:
        lines += [f"database  does not work yet: {view.failure.text}"]
    else:
        sees = ", ".join(view.schemas) or "no schema yet"
        lines += [f"database  works, {view.tls or 'WITHOUT TLS'}; you see {sees}"]
    lines += [f"store     {name} works" for name in view.stores]
    lines += [f"store     {name} does not work yet: {one.kind}" for name, one in view.store_failures.items()]
    if view.failure is None and arrived.query:
        lines += ["", f"A first query, with python in {directory}:", *(f"  {line}" for line in arrived.query)]
    if view.failure is not None or view.store_failures:
        lines += ["", f"`djops doctor` in {directory} looks for the reason"]
    return "\n".join(lines)
