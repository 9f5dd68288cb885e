"""What Pulumi's engine tells, in djops' words; the engine itself runs in tests/services/test_cloud.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pulumi.automation import CommandResult
from pulumi.automation.errors import CommandError
from pulumi.automation.events import EngineEvent

from djops.plan.cloud import Fate, Refusal
from djops.systems import pulumi
from djops.systems.pulumi import Event

URN = "urn:pulumi:p.e::djops::djops:cloud:ObjectStore${}::{}"
BUCKET, INSTANCE = "aws:s3/bucket:Bucket", "aws:ec2/instance:Instance"


def step(kind: str, operation: str, token: str, name: str, **more: Any) -> EngineEvent:
    """An event as the engine writes it: ``resourcePreEvent``, ``resOutputsEvent`` or ``resOpFailedEvent``."""
    told = {"op": operation, "urn": URN.format(token, name), "type": token, "provider": "", **more}
    return EngineEvent.from_json({"sequence": 1, "timestamp": 0, kind: {"metadata": told}})


def state(**more: Any) -> dict[str, Any]:
    return {"type": "", "urn": "", "id": "", "parent": "", "provider": "", **more}


def error(message: str, urn: str = "") -> EngineEvent:
    told = {"message": message, "color": "never", "severity": "error", "urn": urn}
    return EngineEvent.from_json({"sequence": 1, "timestamp": 0, "diagnosticEvent": told})


def heard(*events: EngineEvent) -> tuple[pulumi._Heard, list[Event]]:
    told: list[Event] = []
    listener = pulumi._Heard(told.append)
    for event in events:
        listener(event)
    return listener, told


def test_the_parts_of_a_replacement_are_one_row_and_two_steps() -> None:
    listener, told = heard(
        step("resourcePreEvent", "create-replacement", INSTANCE, "gate", new=state(inputs={"a": 2})),
        step("resOutputsEvent", "create-replacement", INSTANCE, "gate", new=state(inputs={"a": 2})),
        step("resourcePreEvent", "replace", INSTANCE, "gate", keys=["ami"], diffs=["ami", "tags"],
             old=state(inputs={"a": 1}), new=state(inputs={"a": 2})),
        step("resourcePreEvent", "delete-replaced", INSTANCE, "gate", old=state(inputs={"a": 1})),
        step("resOpFailedEvent", "delete-replaced", INSTANCE, "gate", old=state(inputs={"a": 1})),
    )  # fmt: skip
    (row,) = listener.planned()
    assert (row.fate, row.changed, row.before, row.after) == (Fate.REPLACE, ("ami",), {"a": 1}, {"a": 2})
    assert [(one.step.fate, one.state) for one in told] == [
        (Fate.CREATE, "begun"),
        (Fate.CREATE, "done"),
        (Fate.DELETE, "begun"),
        (Fate.DELETE, "failed"),
    ]


def test_what_is_retained_is_only_forgotten() -> None:
    old = state(inputs={"bucket": "b"}, retainOnDelete=True, protect=False)
    listener, _ = heard(step("resourcePreEvent", "delete", BUCKET, "b", old=old))
    assert [one.fate for one in listener.planned()] == [Fate.FORGET]


def test_what_a_refresh_finds_is_no_step_of_the_plan() -> None:
    before, after = state(outputs={"x": 1, "y": 1}), state(outputs={"x": 2, "y": 1})
    listener, _ = heard(
        step("resourcePreEvent", "refresh", BUCKET, "b", old=before),
        step("resOutputsEvent", "update", BUCKET, "b", old=before, new=after),
        step("resourcePreEvent", "refresh", INSTANCE, "gone", old=before),
        step("resOutputsEvent", "delete", INSTANCE, "gone", old=before),
    )
    assert listener.planned() == []
    assert [(one.name, one.fate, one.changed) for one in listener.seen()] == [
        ("b", Fate.CHANGE, ("x",)),
        ("gone", Fate.DELETE, ()),
    ]


@pytest.mark.parametrize(
    ("words", "fate"),
    [
        ('unable to replace resource "{}"\nas it is currently marked for protection.', Fate.REPLACE),
        ('Preview failed: resource "{}" cannot be deleted\nbecause it is protected.', Fate.DELETE),
    ],
)
def test_refusals_and_errors_name_the_resource(words: str, fate: Fate) -> None:
    urn = URN.format(BUCKET, "b")
    listener, _ = heard(error(words.format(urn)), error("preview failed"))
    assert listener.refusals() == (Refusal(urn, fate),)
    listener, _ = heard(error("VpcLimitExceeded: five", urn), error("update failed"))
    assert listener.refusals() == () and listener.errors() == ["b: VpcLimitExceeded: five"]


@pytest.mark.parametrize(
    ("first", "asked"),
    [
        ("Resource monitor has terminated, shutting down", 2),
        ("VpcLimitExceeded; Resource monitor has terminated", 1),
    ],
)
def test_a_preview_whose_line_was_cut_is_asked_for_again(
    first: str, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    class Cut:
        def preview(self, on_event: pulumi._Heard, **_: object) -> None:
            calls.append(on_event)
            if len(calls) == 1:
                on_event(error(first))
                raise CommandError(CommandResult("", first, 255))

    place = pulumi.Workplace("p.e", tmp_path, "file:///x", "passphrase", {})
    monkeypatch.setattr(pulumi.PulumiStack, "_opened", lambda _: Cut())
    if asked == 2:
        assert pulumi.PulumiStack(place).preview() == pulumi.Previewed(())
    else:
        with pytest.raises(pulumi.EngineError, match=first):
            pulumi.PulumiStack(place).preview()
    assert len(calls) == asked


def test_configuration_replaces_only_its_own_part(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.p.e.yaml"
    file.write_text("encryptionsalt: v1:abc\nconfig: {old: x}\n")
    place = pulumi.Workplace("lab/p.e", tmp_path, "file:///x", "passphrase", {"djops:size": "small"})
    pulumi._write_config(place)
    assert file.read_text() == "config:\n  djops:size: small\nencryptionsalt: v1:abc\n"
    assert file.stat().st_mode & 0o777 == 0o600
