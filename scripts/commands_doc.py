"""Writes what the command line knows about itself into docs/commands.md.

Usage: ``.venv/bin/python scripts/commands_doc.py [--check]``

Only the parts between ``<!-- command: NAME -->`` and ``<!-- end -->`` are written; whatever stands
between the parts is kept. Parts of new commands are added, those of vanished ones removed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from djops.cli.common import group, load
from djops.cli.main import TOPICS

DOCUMENT = Path(__file__).parent.parent / "docs" / "commands.md"
PART = re.compile(r"<!-- command: (?P<name>[a-z ]+) -->\n.*?<!-- end -->\n", re.DOTALL)

SHARED = {"project_dir", "environment", "as_json", "quiet", "yes", "lock_wait", "help"}
"""Options that many commands have; described once, at the head of the page."""

TWO = {
    "status": "a server is not healthy",
    "graph": "code and database disagree",
    "validate": "nothing is wrong, but something asks for attention",
    "schemas list": "a table lacks its grants or its job table",
    "cloud check": "something is wrong",
    "plan": "the servers differ from `djops.yaml`",
    "can": "the answer is no",
    "adopt": "somebody could be adopted, and nothing was changed",
    "onboard": "with `--check`: a link was tried after it had been used",
    "offboard": "something is pending",
    "whoami": "the database or a store cannot be used",
    "doctor": "something is wrong",
    "welcome": "the files are written, and something does not work yet",
    "expire": "with `--dry-run`: something would be revoked",
    "audit": "with `--exit-code`: something asks for attention",
    "secrets audit": "something asks for attention",
    "drift": "something on the servers is not as `djops.yaml` says",
    "verify": "the deciders differ, or a theorem does not hold",
    "explain": "not allowed, or an error's text that is not known",
    "log": "with `--verify`: the journal is not whole",
    "smoke": "a role may do something other than it should",
}
"""What exit status 2 means, for the commands that give it."""

OWN = {"connect": "0: the program ended well; 1: djops could not run it; otherwise the program's own status."}
"""What the exit statuses mean where they mean something else."""


def leaves(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that can be run, with its full name."""
    if isinstance(command, click.Group):
        for sub, below in command.commands.items():
            yield from leaves(f"{name} {sub}", below)
    else:
        yield name, command


def commands() -> dict[str, click.Command]:
    """Return every command that can be run, in the overview's order."""
    return {name: leaf for _, rows in TOPICS for top, _, _ in rows for name, leaf in leaves(top, load(top))}


def exits(name: str) -> str:
    """Return the line about exit statuses of one command."""
    if name in OWN:
        return OWN[name]
    return "0: done; 1: error" + (f"; 2: {TWO[name]}." if name in TWO else ".")


def part(name: str, command: click.Command) -> str:
    """Return the generated part of one command."""
    context = _context(name, command)
    usage = " ".join(["djops", name, *command.collect_usage_pieces(context)])
    lines = [f"<!-- command: {name} -->", f"### djops {name}", "", "```", usage, "```", ""]
    lines += ["\n\n".join(_paragraphs(command))]
    own = [row for row in map(_row, command.params) if row is not None]
    lines += ["", "| Option | Meaning |", "| --- | --- |", *own] if own else []
    shared = [f"`{param.opts[-1]}`" for param in command.params if param.name in SHARED]
    lines += ["", f"And {', '.join(shared)}."] if shared else []
    return "\n".join([*lines, "", f"Exit status {exits(name)}", "<!-- end -->", ""])


def _context(name: str, command: click.Command) -> click.Context:
    return click.Context(command, info_name=name, parent=click.Context(group, info_name="djops"))


def _paragraphs(command: click.Command) -> Iterator[str]:
    """Yield the help's paragraphs; those that click must not rewrap (marked for that) as code."""
    for block in (command.help or "").split("\f")[0].split("\n\n"):
        if block.strip().startswith("\b"):
            yield f"```\n{block.strip()[1:].strip(chr(10))}\n```"
        else:
            yield " ".join(block.split())


def _row(param: click.Parameter) -> str | None:
    if not isinstance(param, click.Option) or param.name in SHARED or param.hidden:
        return None
    names = ", ".join([*param.opts, *param.secondary_opts])
    value = "" if param.is_flag else f" {param.make_metavar(click.Context(group))}"
    meaning = (param.help or "").replace("|", "\\|")
    return f"| `{names}{value}` | {meaning} |"


def render(current: str) -> str:
    """Return the page with every part renewed.

    Args:
        current: The page as it is.

    Returns:
        The page as it should be.
    """
    known = commands()
    seen: set[str] = set()

    def renew(match: re.Match[str]) -> str:
        seen.add(match["name"])
        return part(match["name"], known[match["name"]]) if match["name"] in known else ""

    text = PART.sub(renew, current)
    for name, command in known.items():
        if name not in seen:
            text = text.rstrip("\n") + "\n\n" + part(name, command)
    return text


def main() -> None:
    """Write the page, or with ``--check`` only tell whether it is up to date."""
    current = DOCUMENT.read_text(encoding="utf-8")
    wanted = render(current)
    if current == wanted:
        return
    if "--check" in sys.argv:
        sys.exit("docs/commands.md is out of date: run .venv/bin/python scripts/commands_doc.py")
    DOCUMENT.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
