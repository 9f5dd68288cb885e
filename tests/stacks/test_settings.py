"""Pulumi's configuration becomes typed settings, or an error that says what would do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest
from cloud.settings import SettingsError, settings_from
from pulumi.runtime import set_all_config

from tests.support.cloud import settings

IMAGE = {"reference": "demo@sha256:" + "1" * 64, "commit": "a" * 40}
ENOUGH: dict[str, Any] = {
    "project": "demo_lab",
    "buckets": [{"name": "demo-raw", "lockDays": 30}],
    "existing": {"secretsAddress": "https://vault.example.org:8200"},
}


@pytest.fixture(autouse=True)
def _no_configuration_stays() -> Iterator[None]:
    yield
    set_all_config({})


def _read(**values: Any) -> Any:
    texts = {
        f"djops:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in (ENOUGH | values).items()
    }
    set_all_config({"aws:region": "eu-central-1", **texts})
    return settings_from(pulumi.Config("djops"), "staging")


def test_little_is_enough() -> None:
    read = _read()
    assert (read.project, read.environment, read.region, read.size.name) == (
        "demo_lab",
        "staging",
        "eu-central-1",
        "small",
    )
    assert read.name == "demo-lab-staging"
    assert (read.buckets[0].name, read.buckets[0].lock_days, read.buckets[0].existing) == (
        "demo-raw",
        30,
        False,
    )
    assert not read.audit and not read.workers


def test_everything_is_read() -> None:
    worker = {"name": "cpu", "command": ["work"], "memoryMib": 8192, "read": {"demo-raw": ["p/"]}}
    read = _read(
        environment="production",
        size="large",
        audit=True,
        image=IMAGE,
        workers=[worker],
        workerEnvironment={"DJ_STORES": "{}"},
        meterCommand=["meter"],
        budgetUsd=300,
        budgetEmails=["lab@example.org"],
        existing={
            "network": {"vpcId": "vpc-1", "subnetIds": ["a", "b"]},
            "database": {"host": "db", "adminSecret": "arn"},
            "secretsAddress": "https://v",
        },
    )
    assert read.environment == "production" and read.size.name == "large" and read.audit
    assert read.workers[0].command == ("work",) and read.workers[0].memory_mib == 8192
    assert read.workers[0].read == {"demo-raw": ["p/"]}
    assert read.existing.network.subnet_ids == ("a", "b") and read.existing.database.port == 3306
    assert read.budget_emails == ("lab@example.org",) and read.worker_environment == {"DJ_STORES": "{}"}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"size": "huge"}, "no size 'huge': small, medium, large"),
        ({"buckets": [{"name": "b", "lockdays": 3}]}, "did you mean lockDays"),
        ({"buckets": [{"tiering": True}]}, "missing 1 required positional argument: 'name'"),
        ({"existing": {}}, "existing.secretsAddress"),
        ({"workers": [{"name": "cpu", "command": ["w"]}]}, "need an image"),
        ({"budgetUsd": 5}, "somebody to tell"),
        ({"project": "Demo Lab"}, "is no name"),
        ({"buckets": {"name": "b"}}, "buckets is a list"),
    ],
)
def test_what_cannot_be_is_told(values: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        _read(**values)


def test_settings_and_arguments_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings().audit = False  # type: ignore[misc]
