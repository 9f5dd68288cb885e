"""The documents cannot fall behind the program."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from djops.cli.common import load
from djops.cli.main import COMMANDS
from scripts import commands_doc as script

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


LEAVES = script.commands()


def section(name: str) -> str:
    found = re.search(rf"^### djops {name}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/commands.md says nothing about `djops {name}`: run scripts/commands_doc.py"
    return found[1]


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_is_documented(name: str) -> None:
    text = section(name)
    assert re.search(r"^Exit status 0", text, re.MULTILINE)
    for param in LEAVES[name].params:
        if isinstance(param, click.Option) and not param.hidden and param.name != "help":
            assert f"`{param.opts[-1]}" in text or f", {param.opts[-1]}" in text, param.opts


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_and_option_has_help(name: str) -> None:
    command = LEAVES[name]
    assert command.help and len(command.help) > 10
    for param in command.params:
        if isinstance(param, click.Option) and param.name != "help":
            assert param.help, f"{name} {param.opts}"


def test_the_page_is_up_to_date() -> None:
    assert script.render(PAGE) == PAGE, "run .venv/bin/python scripts/commands_doc.py"


def test_the_page_documents_nothing_that_is_gone() -> None:
    assert set(re.findall(r"^### djops (.+)$", PAGE, re.MULTILINE)) == set(LEAVES)
    assert set(script.TWO) | set(script.OWN) <= set(LEAVES)


def test_the_page_keeps_what_is_written_by_hand() -> None:
    page = "head\n\n<!-- command: gone -->\nold\n<!-- end -->\nby hand\n"
    assert script.render(page).startswith("head\n\nby hand\n\n<!-- command: up -->\n")


def test_the_overview_s_lines_match_the_commands() -> None:
    for name, (_, line) in COMMANDS.items():
        assert line.endswith(".") and len(line) <= 70
        assert load(name).help


def test_the_map_names_every_folder_of_the_house() -> None:
    house = [ROOT / "djops", *sorted((ROOT / "djops").iterdir())]
    folders = [path for path in house if path.is_dir() and not path.name.startswith(("_", "."))]
    top = [path for path in sorted(ROOT.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    tracked = {"policies", "stacks", "docs", "scripts", "tests", "bench", "djops"}
    for path in [*folders, *(path for path in top if path.name in tracked)]:
        assert f"{path.relative_to(ROOT)}/" in README, f"README's map of the house lacks {path.name}/"


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda p: p.name
)
def test_commands_shown_exist(page: Path) -> None:
    shown = re.findall(r"(?:^\$ |`)(?:\S*/)?djops ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert not set(shown) - set(COMMANDS) - {"COMMAND"}
