"""Runs README's tour line by line, and writes what every command answered under it.

Usage: ``.venv/bin/python scripts/tour.py`` rewrites README.md; ``tests/test_tour.py`` only compares.

Every ```` ```console ```` block belongs to the tour. A line that begins with ``$ `` is typed; the lines
below it, up to the next one, are its answer. ``make up`` is played by the commands it runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(?<=```console\n).*?(?=```\n)", re.DOTALL)
END = "--end-of-answer--"

VARYING = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b\d+\.\d+\.\d+\b"), "VERSION"),
    (re.compile(r"\S+/labs/"), "DATA/labs/"),
    (re.compile(r"\S*\.venv/bin/python3?\b"), "PYTHON"),
    (re.compile(r" +"), " "),
)
"""What differs from run to run and from machine to machine, and what stands for it in a comparison."""


@dataclass
class Turn:
    """A command and its answer.

    Attributes:
        typed: The command.
        answer: The lines it answered.
    """

    typed: str
    answer: list[str]

    def comparable(self) -> list[str]:
        """Return the answer without what varies."""
        lines = self.answer
        for pattern, instead in VARYING:
            lines = [pattern.sub(instead, line) for line in lines]
        return [line.rstrip() for line in lines]


def turns(text: str) -> list[Turn]:
    """Read all turns of a text with console blocks."""
    found: list[Turn] = []
    for block in BLOCK.findall(text):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Turn(line[2:], []))
            else:
                found[-1].answer.append(line)
    return found


def play(commands: list[str], place: Path, environment: Mapping[str, str]) -> list[Turn]:
    """Type commands into one shell, in a directory that looks like a clone.

    Args:
        commands: What to type.
        place: An empty directory.
        environment: Variables of the shell.

    Returns:
        The commands with their answers; progress is left out.
    """
    (place / ".venv").symlink_to(Path(sys.executable).parent.parent)
    script = "\n".join(f"{instead(command)}\necho {END}" for command in commands)
    done = subprocess.run(
        ["bash", "-u"], input=script, cwd=place, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    answers = done.stdout.split(f"{END}\n")
    return [Turn(command, list(shown(answer))) for command, answer in zip(commands, answers, strict=False)]


def instead(command: str) -> str:
    """Return what is run for a command: the clone's Python is there already."""
    return ".venv/bin/djops demo" if command == "make up" else command


def shown(answer: str) -> Iterator[str]:
    """Yield the lines of an answer that are its result."""
    for line in answer.splitlines():
        if not re.match(r"(ok|\.\.\.) +\d+(\.\d)? s  ", line):
            yield line


def environment_in(place: Path) -> dict[str, str]:
    """Return the variables for a tour that leaves the user's own labs alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJ_", "PYTHON"))}
    return {**kept, "DJOPS_DATA_HOME": str(place / "data"), "DJ_LOG_LEVEL": "WARNING"}


def rewrite(text: str, played: list[Turn]) -> str:
    """Return a text with every answer renewed."""
    left = iter(played)

    def renew(match: re.Match[str]) -> str:
        count = sum(line.startswith("$ ") for line in match[0].splitlines())
        lines = [
            line for _ in range(count) for turn in [next(left)] for line in (f"$ {turn.typed}", *turn.answer)
        ]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    return BLOCK.sub(renew, text)


def main() -> None:
    """Play the tour and write it down."""
    text = README.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="djops-tour-") as name:
        place = Path(name)
        place.chmod(0o711)
        clone = place / "clone"
        clone.mkdir()
        played = play([turn.typed for turn in turns(text)], clone, environment_in(place))
        remove = [".venv/bin/djops", "down", "--purge", "--yes", "--project", "demo_lab", "-C", "demo-lab"]
        subprocess.run(remove, cwd=clone, env=environment_in(place), check=False)
    new = rewrite(text, played).replace(str(place / "data"), "/home/ann/.local/share/djops")
    new = new.replace(f"{Path(sys.executable).parent}/", "../../.venv/bin/")
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
