"""A server prepared badly by hand: every sin is named; djops mends most, and tells who can mend the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from djops.model.editing import grant_data
from djops.model.project import Project
from djops.plan.drift_kinds import Drift
from djops.services import access, adoption, drift, verify
from djops.services.access import Servers
from djops.services.adoption import Survey
from djops.services.verify import Verdict
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest
from tests.support.bench import Bench, bench_in
from tests.support.projects import pipeline
from tests.support.sins import SINS, Sin, committed, remove_user, s3_root, undo

HOSTILE = "lab_%`'\"ü"
GRAPH = pipeline({"session": [], "ephys": ["session"], "imaging": ["session"], HOSTILE: ["ephys"]})
PEOPLE: dict[str, list[dict[str, Any]]] = {
    "vera": [{"role": "viewer", "on": "imaging"}],
    "erin": [{"role": "admin", "on": "all"}],
    "nemo": [],
}
"""Whom djops made; some of the sins concern them, and the others are everybody else's."""


@dataclass(frozen=True)
class Story:
    """What was found at each step."""

    sinful: Verdict
    drift: tuple[Drift, ...]
    survey: Survey
    after: Verdict
    after_drift: tuple[Drift, ...]
    after_survey: Survey
    clean: Verdict
    left: tuple[Drift, ...]


def named(verdict: Verdict, sin: Sin) -> bool:
    found = [one for one in verdict.violations if (one.theorem, one.who) == (sin.theorem, sin.who)]
    return any(sin.row in row for one in found for row in one.because)


def look(bench: Bench) -> tuple[Drift, ...]:
    with Servers(bench.site) as servers:
        return drift.look(servers, bench.wanted).drift


def survey_of(bench: Bench) -> Survey:
    with Servers(bench.site) as servers:
        return adoption.survey(servers, bench.wanted)


def take_over(bench: Bench, survey: Survey) -> None:
    data = bench.site.project.model_dump()
    for one in survey.proposals:
        data[one.section][one.name] = {"grants": [grant_data(grant) for grant in one.grants]}
    bench.site = replace(bench.site, project=Project.model_validate(data))
    with Servers(bench.site) as servers, servers.changing("test", 10):
        access.apply(servers, adoption.plan(servers, bench.wanted, survey.proposals))
        access.apply(servers, adoption.finishing(servers, bench.wanted))
        assert access.make_plan(servers, bench.wanted).is_empty


@pytest.fixture(scope="module")
def story(lab: LabUnderTest) -> Iterator[Story]:
    with bench_in(lab, GRAPH) as bench:
        bench.bring_to(people=PEOPLE)
        with committed(bench.site):
            sinful, before, survey = bench.verify(), look(bench), survey_of(bench)
            take_over(bench, survey)
            after, remedies, rest = bench.verify(), look(bench), survey_of(bench)
            assert bench.site.mysql_root is not None
            with Mysql(bench.site.mysql_root) as root:
                for sin in SINS.values():
                    if sin.mended == "administrator":
                        undo(root, sin)
            remove_user(s3_root(bench.site), "lab")
            clean = bench.verify(verify.BOTH)
            yield Story(sinful, before, survey, after, remedies, rest, clean, look(bench))


def test_every_sin_is_named(story: Story) -> None:
    assert [words for words, sin in SINS.items() if not named(story.sinful, sin)] == []


def test_djops_mends_what_is_its_to_mend(story: Story) -> None:
    there = {words for words, sin in SINS.items() if named(story.after, sin)}
    assert there == {words for words, sin in SINS.items() if sin.mended == "administrator"}


def test_the_rest_is_told_to_an_administrator(story: Story) -> None:
    told = {one.account.partition(",")[0].partition("@")[0] for one in story.after_survey.left}
    told |= {one.object for one in story.after_drift if one.remedy.startswith("database administrator: ")}
    assert {sin.who for sin in SINS.values() if sin.mended == "administrator"} <= told
    assert story.after_survey.proposals == ()


def test_then_all_three_deciders_agree(story: Story) -> None:
    counts = story.clean.counts
    cells = {system: count.cells for system, count in counts.items()}
    schemas = len(GRAPH.schemas)
    principals = len({*PEOPLE, *(one.name for one in story.survey.proposals)})
    told = f"{sum(cells.values())} cells compared: {counts}"
    assert story.clean.disagreements == (), told
    assert story.clean.violations == (), told
    assert story.clean.unknown == (), told
    assert cells == {"mysql": principals * (schemas * 11 + 1), "s3": principals * (schemas * 5 + 1)}, told
    assert min(count.probes for count in counts.values()) > 15 * principals * schemas, told
    assert story.left == (), told
