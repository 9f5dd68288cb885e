"""Some points of the crash matrix, and whether it sees what must not be; ``make crash`` tries all points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from crash import cases, matrix
from crash.points import Kind, Point, System, When, numbered, points
from crash.stage import Stage, staged
from crash.watch import Moment
from djops.plan.operations import VaultCall
from djops.services.access import Wanted
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
    # What was leased to a service that goes.
    ("services removed", "kill", "secrets", "PUT sys/leases/", 0, "before"),
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
    assert found.probes > 5


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


PLANTED_FOR_SERVICES = {
    "GRANT SELECT ON mice_papers.* TO `{lease}`": "a lease of cluster holds more than cluster",
    "ALTER USER `{lease}` REQUIRE NONE": "{lease} may log in without TLS",
    "CREATE USER `v-cluster-x` IDENTIFIED BY 'x' REQUIRE SSL ATTRIBUTE "
    '\'{"djops": {"project": "demo_lab", "kind": "lease"}}\'': "v-cluster-x is marked as a lease, and nobody",
    "ALTER USER feeder IDENTIFIED BY 'x'": "what feeder was given does not work any more",
    "DROP USER cluster": "a lease of cluster is open, which is gone",
    "DROP PROCEDURE djops.end_lease": "procedures: end_lease is neither the old nor the new one",
    "CREATE DEFINER = 'djops'@'%' PROCEDURE djops.end_lease() SELECT 1": "procedures: end_lease is neither",
}


def test_the_matrix_sees_what_services_must_not_have(rehearsed: Rehearsed) -> None:
    stage, watch = rehearsed.stage, rehearsed.case("services removed").watch
    case, project = watch.case, rehearsed.stage.site.project.project
    before, after = stage.wanted(case, case.before), stage.wanted(case, case.after)

    def moment(wanted: Wanted) -> Moment:
        return watch.memory.moment(stage.see(case, wanted))

    with stage.set_up(case) as machines:
        look = replace(watch, machines=machines)
        assert look.between(moment(before), "now").violations == []
        ended = "\n".join(look.at_the_end(moment(after), after).violations)
        assert "cluster, which is gone, may log in to the secrets server" in ended
        assert f"cluster, which is gone, may read djops-database/creds/djops-{project}-cluster" in ended
        lease = machines["cluster"].user
        role = f"auth/approle/role/djops-{project}-feeder"
        stage.as_root(*(one.replace("{lease}", lease) for one in PLANTED_FOR_SERVICES))
        stage.by_hand([VaultCall("POST", role, {"token_policies": [f"djops-{project}-eve"]})])
        try:
            found = "\n".join(look.between(moment(before), "now").violations)
            for statement, seen in PLANTED_FOR_SERVICES.items():
                assert seen.replace("{lease}", lease) in found, statement
            assert f"settings: {role} is neither the old nor the new one" in found
        finally:
            stage.bring_to(after)


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
