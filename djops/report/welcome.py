"""A welcome as one page, in HTML and in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from djops.report.drawing import Mark, schema_drawing
from djops.report.pages import templates
from djops.services.welcome import FILE, Issued, LinkState, Welcome

PAGES = ("welcome.html", "welcome.md")


def pages(welcome: Welcome) -> Mapping[str, str]:
    """Write everything that a new person is sent, by file name; nothing of it is secret.

    Args:
        welcome: What the page tells.
    """
    files = {name: page(welcome, name) for name in PAGES}
    files[FILE] = json.dumps(welcome.bundle, indent=2) + "\n"
    if welcome.authority is not None:
        files[str(welcome.bundle["authority"])] = welcome.authority
    return files


def page(welcome: Welcome, name: str) -> str:
    """Write the page.

    Args:
        welcome: What it tells.
        name: One of :data:`PAGES`.
    """
    return (
        templates()
        .get_template(f"{name}.j2")
        .render(
            welcome=welcome,
            drawing=drawing(welcome),
            database=welcome.bundle["settings"]["database"],
            stores=[name for name in welcome.bundle["settings"].get("stores", {}) if name != "default"],
            bundle=welcome.bundle,
            file=FILE,
            curl=curl_lines(welcome),
            unpack=unpack_lines(welcome),
        )
    )


def drawing(welcome: Welcome) -> str:
    """Draw the pipeline with her schemas marked."""
    words = {one.name: one for one in welcome.schemas}
    title = f"The pipeline of {welcome.project}, and what {welcome.who} does with each schema"
    return schema_drawing(welcome.graph, lambda name: Mark(words[name].style, words[name].level), title)


def curl_lines(welcome: Welcome) -> tuple[str, ...]:
    """Write how the link is used without djops; the link is typed, and in no command line."""
    trust = f" --cacert {welcome.bundle['authority']}" if welcome.bundle["authority"] else ""
    ask = f"curl -sS{trust} --config - -X POST {welcome.bundle['address']}/v1/sys/wrapping"
    give = 'printf \'header = "X-Vault-Token: %s"\\n\' "$LINK" |'
    return (
        "umask 077",
        "read -rs -p 'link: ' LINK; echo",
        f"{give} {ask}/lookup",
        f"{give} {ask}/unwrap -o answer.json; unset LINK",
    )


def unpack_lines(welcome: Welcome) -> tuple[str, ...]:
    """Write the Python that puts the answer where the client reads it."""
    return (
        "import json, os, pathlib",
        f'about = json.loads(pathlib.Path("{FILE}").read_text())',
        'fields = json.loads(pathlib.Path("answer.json").read_text())["data"]["data"]',
        'pathlib.Path("datajoint.json").write_text(json.dumps(about["settings"], indent=2))',
        'os.makedirs(".secrets", mode=0o700, exist_ok=True)',
        'for name in about["secrets"]:',
        '    handle = os.open(f".secrets/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)',
        "    os.write(handle, fields[name].encode())",
        "    os.close(handle)",
        'os.remove("answer.json")',
    )


def issued_data(issued: Issued, folder: str, kept: str | None) -> dict[str, Any]:
    """Return a welcome for JSON, without its link.

    Args:
        issued: The welcome.
        folder: Where the pages are.
        kept: The file that holds the link, if one does.
    """
    welcome = issued.welcome
    return {
        "who": welcome.who,
        "pages": folder,
        "link_file": kept,
        "until": welcome.until,
        "can": {one.name: one.level for one in welcome.schemas},
    }


def link_data(state: LinkState) -> dict[str, Any]:
    """Return what became of a link, for JSON."""
    return {
        "who": state.who,
        "state": state.state,
        "made": state.made,
        "until": state.until,
        "opened": list(state.opened),
        "refused": list(state.refused),
        "alarming": state.alarming,
    }
