"""Some points of the crash matrix, and whether it sees what must not be; ``make crash`` tries all points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crash import cases, matrix
from crash.points import Kind, Point, System, When, numbered, points
from crash.stage import Stage, staged
from crash.watch import Moment
from tests.conftest import LabUnderTest


@dataclass
class Rehearsed:
    """The servers, and the cases that were gone through without a crash."""

    stage: Stage
    known: dict[str, matrix.Rehearsal] = field(default_factory=dict)

    def case(self, name: str) -> matrix.Rehearsal:
        if name not in self.known:
            case = cases.load(self.stage.site.project.project)[name]
            self.known[name] = matrix.rehearse(self.stage, case)
            assert self.known[name].found.violations == []
        return self.known[name]


@pytest.fixture(scope="module")
def rehearsed(lab: LabUnderTest) -> Iterator[Rehearsed]:
    with staged(lab.project_file) as stage:
        yield Rehearsed(stage)


POINTS: list[tuple[str, Kind, System, str, int, When]] = [
    # A password that is kept and not in force, in force and not noted; a key that is made and not kept.
    ("new person", "djops", "secrets", "POST djops/data/", 1, "before"),
    ("new person", "kill", "mysql", "CREATE USER 'cid'", 0, "unanswered"),
    ("new person", "cut", "s3", "CreateAccessKey", 0, "unanswered"),
    ("new person", "blip", "s3", "CreateAccessKey", 0, "unanswered"),
    ("new person", "hole", "secrets", "POST djops/data/", 0, "unanswered"),
    # Rights that are taken away, and sessions that still use them.
    ("revoke", "djops", "mysql", "end all sessions", 0, "before"),
    ("revoke", "kill", "s3", "PutUserPolicy", 0, "before"),
    ("swap", "kill", "mysql", "REVOKE", 0, "unanswered"),
    # What somebody else has changed.
    ("credentials made anew", "kill", "secrets", "POST djops/metadata/", 0, "unanswered"),
    ("credentials made anew", "twice", "mysql", "ALTER USER 'ada'", 0, "before"),
]


def named(
    rehearsal: matrix.Rehearsal, kind: Kind, system: System, text: str, again: int, when: When
) -> Point:
    requests = rehearsal.run.requests
    fitting = [r for _, r in numbered(requests) if r.system == system and r.text.startswith(text)]
    (found,) = [p for p in points(requests, kind) if p.request == fitting[again] and p.when == when]
    return found


@pytest.mark.parametrize(
    ("case", "kind", "system", "text", "again", "when"), POINTS, ids=[" ".join(map(str, p)) for p in POINTS]
)
def test_a_crash_is_mended_by_the_next_apply(
    rehearsed: Rehearsed, case: str, kind: Kind, system: System, text: str, again: int, when: When
) -> None:
    rehearsal = rehearsed.case(case)
    point = named(rehearsal, kind, system, text, again, when)
    found = matrix.hit(rehearsed.stage, rehearsal, point)
    assert found.violations == []
    assert found.cells > 100
    assert found.probes > 50


PLANTED = {
    "GRANT SELECT ON mice_papers.* TO ada": "ada may SELECT on mice_papers.*, which neither",
    "GRANT SELECT ON mice_papers.* TO eve": "eve may SELECT on mice_papers.*, which neither",
    "REVOKE 'mice_imaging:viewer' FROM eve": "eve, whom the plan is not about, may not SELECT",
    "ALTER USER ada REQUIRE NONE": "ada may log in without TLS",
    "ALTER USER ada IDENTIFIED BY ''": "ada has no password",
    "ALTER USER 'mice_ephys:viewer' ACCOUNT UNLOCK": "role mice_ephys:viewer is not locked",
    "GRANT INSERT ON other_lab.* TO other_lab": "rights of strangers changed",
}


def test_the_matrix_sees_what_must_not_be(rehearsed: Rehearsed) -> None:
    watch = rehearsed.case("revoke").watch
    stage, case = rehearsed.stage, watch.case
    wanted = stage.wanted(case, case.after)
    stage.bring_to(wanted)

    def moment() -> Moment:
        return watch.memory.moment(stage.see(case, wanted))

    assert watch.at_the_end(moment(), wanted).violations == []
    stage.as_root(*PLANTED)
    try:
        found = "\n".join(watch.between(moment(), "now").violations)
        for statement, seen in PLANTED.items():
            assert seen in found, statement
    finally:
        stage.as_root("REVOKE IF EXISTS INSERT ON other_lab.* FROM other_lab")
        stage.bring_to(wanted)


def test_the_matrix_sees_credentials_that_do_not_work(rehearsed: Rehearsed) -> None:
    watch = rehearsed.case("revoke").watch
    stage, case = rehearsed.stage, watch.case
    wanted = stage.wanted(case, case.after)
    stage.bring_to(wanted)
    seen = stage.see(case, wanted)
    one, other = seen.kept["ada"], seen.kept["eve"]
    changed = {
        **seen.kept,
        "ada": type(one)({**one.fields, **other.fields, "stores.main.access_key": "NONE"}, 1),
    }
    lying = Moment(type(seen)(seen.evidence, seen.secrets, changed, seen.passwords), watch.new.rights)
    found = "\n".join(watch.between(lying, "now").violations)
    assert "the password kept for ada counts as in force, but does not work" in found
    assert "the key kept for ada counts as valid, but does not work" in found


def test_all_cases_are_plans() -> None:
    """The file's names and roles are checked by whoever runs it; this finds what nobody runs."""
    known = cases.load("demo_lab")
    assert {"grant", "revoke", "move", "new person", "person removed", "expiry", "team"} <= set(known)
    for case in known.values():
        assert case.concerned, case.name
        assert case.before != case.after or case.by_hand or case.renews, case.name
    assert Path(cases.FILE).exists()
