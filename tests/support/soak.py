"""The whole loop on real servers: a random laboratory, all deciders, random mischief, its names, mending."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from djops.compile.mysql_manager import SCHEMA_PRIVILEGES
from djops.compile.sql import quote_identifier, schema_pattern
from djops.errors import DjopsError
from djops.model.graph import PipelineGraph
from djops.model.project import Project
from djops.plan.drift_kinds import Drift
from djops.services import access, verify
from djops.services.access import Servers, Wanted
from djops.services.site import open_site
from djops.services.verify import Verdict
from djops.systems.mysql import Mysql
from tests.support.ground import Ground
from tests.support.mischief import Mischief, Scene, mischief
from tests.support.soak_worlds import DAY, Laboratory, laboratory


@dataclass
class Figures:
    """What was compared.

    Attributes:
        laboratories: Loops.
        cells: Cells compared after an apply, by system.
        reader: Questions that the catalogs' readers answered.
        probe: Questions that the servers answered.
        drifted: Questions on which reader and servers were compared while something was drifted.
        drift: Things done by hand.
    """

    laboratories: int = 0
    cells: Counter[str] = field(default_factory=Counter)
    reader: int = 0
    probe: int = 0
    drifted: int = 0
    drift: int = 0

    def add(self, verdict: Verdict) -> None:
        """Count what a verification compared."""
        for system, count in verdict.counts.items():
            self.cells[system] += count.cells
            self.reader += count.questions
            self.probe += count.probes

    def __str__(self) -> str:
        cells = ", ".join(f"{number} in {system}" for system, number in sorted(self.cells.items()))
        return (
            f"{self.laboratories} laboratories; cells: {cells}; {self.reader} answers of readers, "
            f"{self.probe} of servers, {self.drifted} of servers that had drifted; "
            f"{self.drift} things done by hand"
        )


def loop(project_file: Path, seed: int, figures: Figures, *, most: int = 12, mischiefs: int = 12) -> None:
    """Make a laboratory, compare, do mischief, name it, mend it and compare again.

    Args:
        project_file: A project whose servers are up; they are left as they were.
        seed: The same seed does the same.
        figures: Takes what was compared.
        most: Schemas at most.
        mischiefs: Things done by hand at most.

    Raises:
        AssertionError: Something is not as it should be.
    """
    site = open_site(project_file)
    made = laboratory(seed, site.project, most)
    with _standing(project_file, made) as ground:
        before = _holdings(ground)
        try:
            ground.apply()
            _all_agree(ground, figures)
            _go_astray(ground, made, figures, random.Random(-seed - 1), mischiefs)
        finally:
            _end(ground)
        assert _holdings(ground) == before, "something is left"
    figures.laboratories += 1


@contextlib.contextmanager
def _standing(project_file: Path, made: Laboratory) -> Iterator[Ground]:
    site = open_site(project_file)
    assert site.mysql_root is not None
    assert made.project is not None
    with Servers(replace(site, project=made.project)) as servers, Mysql(site.mysql_root) as root:
        ground = Ground(servers, root, made.graph, Wanted.of(made.project, made.graph, DAY))
        try:
            for statement in made.statements:
                root.query(statement)
            yield ground
        finally:
            # Children go before the parents that their foreign keys name.
            for schema in (*made.own, *reversed(made.order)):
                root.query(f"DROP DATABASE IF EXISTS {quote_identifier(schema)}")
                _forget(root, schema)


def _forget(root: Mysql, schema: str) -> None:
    rights, pattern = ", ".join(SCHEMA_PRIVILEGES), quote_identifier(schema_pattern(schema))
    root.query(f"REVOKE IF EXISTS {rights}, GRANT OPTION ON {pattern}.* FROM 'djops'@'%'")


def _holdings(ground: Ground) -> tuple[object, ...]:
    """Return who and what there is on the servers besides the laboratory's schemas."""
    servers, project = ground.servers, ground.wanted.project.project
    secrets = servers.secrets.state(project)
    return (
        {*ground.root.query("SELECT User, Host FROM mysql.user")},
        {*ground.root.query("SHOW DATABASES")},
        {user["UserName"] for user in ground.s3_root.listed("ListUsers", "Users")},
        {group["GroupName"] for group in ground.s3_root.listed("ListGroups", "Groups")},
        secrets.policies.keys(),
        secrets.secrets.keys(),
        ground.root.query("SELECT @@mandatory_roles"),
    )


def _end(ground: Ground) -> None:
    """Take all accounts away; the schemas follow."""
    nobody: dict[str, object] = {
        "people": {},
        "services": {},
        "teams": {},
        "groups": {},
        "roles": {},
        "schemas": {},
    }
    nobody["sandboxes"] = None
    project = Project.model_validate(ground.wanted.project.model_dump() | nobody)
    ground.servers.site = replace(ground.servers.site, project=project)
    ground.wanted = Wanted.of(project, PipelineGraph(ground.graph.schemas), DAY)
    ground.apply()


def _all_agree(ground: Ground, figures: Figures) -> None:
    """All deciders agree on all cells, and nothing is left to do."""
    verdict = verify.verify(ground.servers, ground.wanted)
    figures.add(verdict)
    assert not verdict.disagreements, _lines(verdict.disagreements)
    assert not verdict.violations, _lines(verdict.violations)
    assert not verdict.unknown, _lines(verdict.unknown)
    assert not verdict.notes, _lines(verdict.notes)
    again = access.make_plan(ground.servers, ground.wanted)
    assert again.is_empty, _lines(change.describe() for change in again.changes)
    left = ground.look()
    assert not left, _lines(left)


def _lines(what: object) -> str:
    return "\n".join(map(str, what if isinstance(what, Iterator) else [*what]))  # type: ignore[misc]


def _go_astray(
    ground: Ground, made: Laboratory, figures: Figures, chance: random.Random, mischiefs: int
) -> None:
    """Do mischief, see that all of it is named, mend it, and see that nothing is left of it."""
    scene = Scene(ground, chance, ground.root.read_catalog(), dict(made.tables))
    chosen = mischief(scene, chance.randint(1, mischiefs))
    done: list[Mischief] = []
    try:
        # The server tells in whole seconds when a password was changed.
        time.sleep(1.1)
        for one in chosen:
            done.append(one)
            ground.by_hand(one.steps)
        found = ground.look()
        _is_named(done, found)
        figures.drift += len(done)
        _reader_and_server_agree(ground, figures)
        ground.mend(found)
        left = ground.look()
        assert not left, f"{_lines(done)}\nleft:\n{_lines(left)}"
    finally:
        for one in done:
            for step in one.undo:
                with contextlib.suppress(DjopsError):
                    ground.by_hand([step])
    # Of what somebody made and djops leaves alone nothing is left now.
    ground.apply()
    _all_agree(ground, figures)


def _is_named(done: list[Mischief], found: tuple[Drift, ...]) -> None:
    """Everything that was done has a name, and nothing else has."""
    names = {(one.kind, one.object) for one in found}
    told = f"{_lines(done)}\nfound:\n{_lines(found)}"
    for one in done:
        for possible in one.called:
            assert possible & names, f"not named: {sorted(possible)}\nof {one}\n{told}"
    meant = {name for one in done for possible in one.called for name in possible}
    meant |= {name for one in done for name in one.may}
    assert names <= meant, f"nobody did {sorted(names - meant)}\n{told}"


def _reader_and_server_agree(ground: Ground, figures: Figures) -> None:
    """Whatever was done, the catalogs mean what the servers do."""
    verdict = verify.verify(ground.servers, ground.wanted)
    wrong = [
        one
        for one in verdict.disagreements
        if None not in (one.reader, one.probe) and one.reader != one.probe
    ]
    assert not wrong, _lines(wrong)
    figures.drifted += sum(count.probes for count in verdict.counts.values())
