"""Try to break djops on real servers, with new random seeds until the time is over.

    python scripts/soak.py [--seconds N] [--seed N] [PART...]

Parts, in turn; each seed is printed and can be played again:
    loop   random laboratories: apply, compare model, catalogs and servers on every cell, change things by
           hand, name all of it, mend it, compare again
    mysql  the reader of MySQL's catalog against the server: random accounts, every cell asked of both
    iam    the reader of IAM policies against the server: random policies, every request sent
Exit status: 0 nothing was found, 1 something was.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from djops.services import lab as labs
from djops.services.project import load_project
from tests.support.iam_oracle import Oracle, Tally, root_of
from tests.support.iam_worlds import Policies
from tests.support.labs import data_home, kill_all
from tests.support.mysql_oracle import worlds
from tests.support.mysql_recorded import asked, disagreements
from tests.support.soak import Figures, loop

Part = Callable[[int], None]


def main(arguments: Sequence[str]) -> int:
    """Go on until the time is over, and tell what was compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long to go on")
    parser.add_argument("--seed", type=int, help="play one seed and no other")
    parser.add_argument("parts", nargs="*", choices=["loop", "mysql", "iam", []], metavar="PART")
    chosen = parser.parse_args(arguments)
    names = chosen.parts or ["loop", "mysql", "iam"]
    first = random.randrange(10**6) if chosen.seed is None else chosen.seed
    # Whoever ends it early is told the figures, and no server stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _lab() as project_file:
        parts = _Parts(project_file)
        try:
            return _go_on({name: getattr(parts, name) for name in names}, first, chosen)
        finally:
            parts.tell()


def _go_on(parts: Mapping[str, Part], seed: int, chosen: argparse.Namespace) -> int:
    end, found = time.monotonic() + chosen.seconds, False
    while True:
        for name, part in parts.items():
            began = time.monotonic()
            try:
                part(seed)
                outcome = "agreed"
            except Exception:
                traceback.print_exc()
                outcome, found = "FAILED", True
            print(f"{name} --seed {seed}: {outcome} after {time.monotonic() - began:.1f} s", flush=True)
        seed += 1
        if chosen.seed is not None or time.monotonic() > end:
            return int(found)


@contextlib.contextmanager
def _lab() -> Iterator[Path]:
    """Bring up a lab of its own, away from the user's."""
    with data_home() as base:
        repository = base / "demo-lab"
        with resources.as_file(resources.files("djops") / "demo_pipeline") as shipped:
            shutil.copytree(shipped, repository)
        project_file = repository / "djops.yaml"
        project = load_project(project_file)
        try:
            labs.up(project, "local")
            yield project_file
            labs.down(project, "local", purge=True)
        finally:
            kill_all(base)


BATCH = 8
"""Worlds of one seed that share what is made for them."""


class _Parts:
    """What is compared, and how much of it so far."""

    def __init__(self, project_file: Path) -> None:
        self.project_file = project_file
        self.figures, self.tally = Figures(), Tally()
        self.cells = {False: 0, True: 0}

    def loop(self, seed: int) -> None:
        loop(self.project_file, seed, self.figures)

    def mysql(self, seed: int) -> None:
        with worlds(self.project_file) as world:
            for number, literal in itertools.product(range(seed * BATCH, (seed + 1) * BATCH), (False, True)):
                case = asked(world, number, literal=literal)
                wrong = disagreements(case)
                assert not wrong, "\n".join([*world.done, *wrong[:5], f"{len(wrong)} in all"])
                self.cells[literal] += sum(len(said) for _, said in case.answers.values())

    def iam(self, seed: int) -> None:
        tally = self.tally
        with contextlib.closing(Oracle(root_of(self.project_file), "iam-soak")) as oracle:
            for number in range(seed * BATCH, (seed + 1) * BATCH):
                oracle.install(Policies(number, oracle.names).world())
                oracle.compare(tally)
                wrong, tally.wrong = tally.wrong, []
                assert not wrong, "\n".join([f"world {number}:", *wrong[:20]])

    def tell(self) -> None:
        tally, literal = self.tally, self.cells[True]
        print(f"loop: {self.figures}")
        print(f"mysql: {sum(self.cells.values())} cells, {literal} of them with partial revokes")
        print(f"iam: {tally.cells} requests, {tally.allowed} allowed, {tally.undecided} undecided")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
