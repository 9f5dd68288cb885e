"""From one packing of a user's rights to another: step by step, never wider than either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djops.compile.packing import Atom, atoms
from djops.compile.s3 import POLICY_NAME, S3State, compile_s3
from djops.plan.change import Change, Phase, Risk, in_order
from djops.plan.expiry import Ended, expire_s3
from djops.plan.operations import AwsCall, KeepKey
from djops.plan.s3 import diff_s3
from djops.plan.s3_changes import KEY_FACT, CreateKey, PutPolicy
from djops.plan.s3_managed import DropManagedPolicy, PutManagedPolicy
from tests.support.iam_simulated import ACCOUNT, VERSIONS, SimulatedIam
from tests.support.projects import compiled, pipeline, project

NAMES = [f"lab_{number:02}_{'x' * 40}" for number in range(40)]
KEEPS = {"alice": KeepKey("lab/people/alice", ("main",)), "bob": KeepKey("lab/people/bob", ("main",))}

RIGHTS = st.fixed_dictionaries(
    {
        "viewer": st.sets(st.sampled_from(NAMES), max_size=40),
        "analyst": st.sets(st.sampled_from(NAMES), max_size=20),
    }
)


def wanted_of(held: Mapping[str, Iterable[str]], other: Mapping[str, Iterable[str]] | None = None) -> S3State:
    def grants(of: Mapping[str, Iterable[str]]) -> list[dict[str, object]]:
        return [{"role": role, "on": sorted(on)} for role, on in of.items() if on]

    people = {"alice": grants(held), **({"bob": grants(other)} if other is not None else {})}
    wanted = project(people)
    rights, _ = compiled(wanted, pipeline({name: [] for name in NAMES}))
    state = compile_s3(wanted, rights, ACCOUNT)
    return S3State(state.users, {}, state.managed, ACCOUNT)


def changes_to(iam: SimulatedIam, wanted: S3State) -> list[Change]:
    changes = diff_s3("lab", wanted, iam.state(), KEEPS, {name: {KEY_FACT: ""} for name in KEEPS}, {})
    return list(in_order([change for change in changes if not isinstance(change, CreateKey)]))


def carry_out(iam: SimulatedIam, change: Change) -> None:
    for operation in change.operations():
        assert isinstance(operation, AwsCall)
        iam.call(operation)


def lab_with(held: Mapping[str, Iterable[str]]) -> SimulatedIam:
    iam = SimulatedIam()
    for change in changes_to(iam, wanted_of(held)):
        carry_out(iam, change)
    return iam


@settings(max_examples=60, deadline=None)
@given(old=RIGHTS, new=RIGHTS)
def test_never_wider_than_the_larger_of_old_and_new(
    old: Mapping[str, set[str]], new: Mapping[str, set[str]]
) -> None:
    iam, wanted = lab_with(old), wanted_of(new)
    before, after = iam.allowed("alice"), atoms(wanted.opens("alice"), "Allow")
    for change in changes_to(iam, wanted):
        held = iam.allowed("alice")
        carry_out(iam, change)
        now = iam.allowed("alice")
        assert now <= before or now <= after
        if change.risk is Risk.KEEPS:
            assert now == held
        if before <= after:
            assert now >= before, "nothing running is cut off"
    assert iam.allowed("alice") == after
    assert not changes_to(iam, wanted)
    assert all(len(versions) <= VERSIONS for versions in iam.managed.values())


@pytest.mark.parametrize("start", [3, 12, 20, 30])
@pytest.mark.parametrize("step", [1, 2, -1])
def test_who_gets_more_never_misses_anything_meanwhile(start: int, step: int) -> None:
    iam, wanted = lab_with({"viewer": NAMES[::step][:start]}), wanted_of({"viewer": NAMES})
    before = iam.allowed("alice")
    for change in changes_to(iam, wanted):
        if isinstance(change, PutPolicy):
            assert change.phase is Phase.CLEAN, "other policies hold by then what was in it"
        carry_out(iam, change)
        assert iam.allowed("alice") >= before
    assert not changes_to(iam, wanted)


@settings(max_examples=30, deadline=None)
@given(old=RIGHTS, new=RIGHTS, stop=st.integers(0, 30))
def test_a_plan_cut_short_is_finished_by_the_next(
    old: Mapping[str, set[str]], new: Mapping[str, set[str]], stop: int
) -> None:
    iam, wanted = lab_with(old), wanted_of(new)
    before, after = iam.allowed("alice"), atoms(wanted.opens("alice"), "Allow")
    operations = [one for change in changes_to(iam, wanted) for one in change.operations()]
    for operation in operations[:stop]:
        assert isinstance(operation, AwsCall)
        iam.call(operation)
        assert iam.allowed("alice") <= before or iam.allowed("alice") <= after
    for change in changes_to(iam, wanted):
        carry_out(iam, change)
        assert iam.allowed("alice") <= before or iam.allowed("alice") <= after
    assert not changes_to(iam, wanted)


def test_many_changes_keep_to_five_versions() -> None:
    iam = lab_with({"viewer": NAMES})
    for number in range(12):
        wanted = wanted_of({"viewer": NAMES[number:], "analyst": NAMES[: number // 2]})
        for change in changes_to(iam, wanted):
            carry_out(iam, change)
    assert not changes_to(iam, wanted)


def test_who_leaves_takes_the_policies_along() -> None:
    iam = lab_with({"viewer": NAMES})
    wanted = wanted_of({"viewer": NAMES}, {"viewer": NAMES})
    for change in changes_to(iam, wanted):
        carry_out(iam, change)
    assert any("lab-bob" in arn for arn in iam.managed)
    wanted = wanted_of({"viewer": NAMES})
    for change in changes_to(iam, wanted):
        carry_out(iam, change)
    assert "bob" not in iam.inline and not any("lab-bob" in arn for arn in iam.managed)
    assert not changes_to(iam, wanted)


def test_a_policy_of_hers_in_another_hand_is_taken_away() -> None:
    iam, wanted = lab_with({"viewer": NAMES}), wanted_of({"viewer": NAMES}, {"viewer": NAMES[:1]})
    for change in changes_to(iam, wanted):
        carry_out(iam, change)
    iam.AttachUserPolicy("bob", next(iter(iam.managed)))
    changes = changes_to(iam, wanted)
    assert [change.risk for change in changes] == [Risk.NARROWS]
    carry_out(iam, changes[0])
    assert not changes_to(iam, wanted)


def test_what_was_edited_by_hand_is_taken_out_first() -> None:
    iam, wanted = lab_with({"viewer": NAMES}), wanted_of({"viewer": NAMES})
    arn = next(iter(iam.managed))
    document = iam.managed[arn][iam.default[arn]]
    document["Statement"].append({"Effect": "Allow", "NotAction": ["iam:*"], "Resource": ["*"]})
    first, *_ = changes_to(iam, wanted)
    assert isinstance(first, PutManagedPolicy) and first.step == "narrow" and first.risk is Risk.NARROWS
    carry_out(iam, first)
    assert not changes_to(iam, wanted)


def test_what_ended_goes_from_every_policy_and_nothing_comes_back() -> None:
    always, today = wanted_of({"viewer": NAMES, "analyst": NAMES[:9]}), wanted_of({"viewer": NAMES[5:]})
    iam = lab_with({"viewer": NAMES, "analyst": NAMES[:9]})
    before = iam.allowed("alice")
    ended = Ended(policies={"alice": (always.opens("alice"), today.opens("alice"))})
    changes = expire_s3(ended, iam.state())
    assert changes and {change.risk for change in changes} == {Risk.NARROWS}
    for change in changes:
        carry_out(iam, change)
    assert iam.allowed("alice") == before & atoms(today.opens("alice"), "Allow")
    assert expire_s3(ended, iam.state()) == []


def test_a_change_can_be_taken_back() -> None:
    iam, wanted = lab_with({"viewer": NAMES[:3]}), wanted_of({"viewer": NAMES})
    before: dict[str, frozenset[Atom]] = {"alice": iam.allowed("alice")}
    changes = changes_to(iam, wanted)
    assert {type(change).__name__ for change in changes} == {"PutManagedPolicy", "Attach", "PutPolicy"}
    for change in changes:
        carry_out(iam, change)
    assert iam.allowed("alice") > before["alice"]
    for change in reversed(changes):
        carry_out(iam, change.reverse())
    assert iam.allowed("alice") == before["alice"] and not iam.managed
    assert POLICY_NAME in iam.inline["alice"]


def test_a_drop_tells_what_it_is_about() -> None:
    iam = lab_with({"viewer": NAMES})
    changes = changes_to(iam, wanted_of({"viewer": NAMES[:1]}))
    dropped = [change for change in changes if isinstance(change, DropManagedPolicy)]
    assert [change.object for change in dropped] == [
        f"managed policy djops-lab-alice-{n + 1}" for n in range(len(iam.managed))
    ]
