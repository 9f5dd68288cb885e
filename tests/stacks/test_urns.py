"""A resource whose URN changes is deleted and made anew, a database too, unless it has an alias."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pulumi
import pulumi_aws as aws
import pytest
from cloud.settings import Settings, size_named

from tests.support.cloud import Declared, declared, lost, settings

REGISTRY = Path(__file__).parents[1] / "data" / "cloud_urns.txt"


def test_every_urn_is_as_it_was_or_has_an_alias() -> None:
    """To move or rename a resource give it `aliases`, and write its new URN in the place of the old one."""
    made = declared(settings(size=size_named("large")))
    known = set(REGISTRY.read_text(encoding="utf-8").split())
    missing = lost(known, made)
    assert not missing, f"these would be deleted and made anew: {sorted(missing)}"
    new = {one.urn for one in made.resources} - known
    assert not new, f"to be written into {REGISTRY.name}: {sorted(new)}"


class Store(pulumi.ComponentResource):
    def __init__(
        self, kind: str, bucket: str, mine: Sequence[pulumi.Alias], its: Sequence[pulumi.Alias]
    ) -> None:
        super().__init__(kind, "store", None, pulumi.ResourceOptions(aliases=list(mine)))
        aws.s3.Bucket(bucket, opts=pulumi.ResourceOptions(parent=self, aliases=list(its)))
        self.register_outputs({})


def _made(
    kind: str = "lab:Store",
    bucket: str = "raw",
    mine: Sequence[pulumi.Alias] = (),
    its: Sequence[pulumi.Alias] = (),
) -> Declared:
    def program(_: Settings) -> None:
        Store(kind, bucket, mine, its)

    return declared(program=program)


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({}, 0),
        ({"bucket": "data"}, 1),
        ({"bucket": "data", "its": [pulumi.Alias(name="raw")]}, 0),
        ({"kind": "lab:Vault"}, 2),
        ({"kind": "lab:Vault", "mine": [pulumi.Alias(type_="lab:Store")]}, 0),
    ],
    ids=["same", "renamed", "renamed with alias", "parent's type", "parent's type with alias"],
)
def test_a_rename_is_noticed_and_an_alias_counts(change: dict[str, object], gone: int) -> None:
    known = {one.urn for one in _made().resources}
    assert len(lost(known, _made(**change))) == gone  # type: ignore[arg-type]
