"""`djops cost`: the stacks' estimate for what an environment says, as text and as JSON."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import invoke
from tests.support.cloud_projects import PRODUCTION, demo_in, write_project

GPU = {"command": ["work"], "gpus": 1}
IMAGE = {"reference": "demo@sha256:" + "12" * 32, "commit": "c0ffee" * 6 + "abcd"}
THERE: dict[str, Any] = {
    "network": {"vpc_id": "vpc-01", "subnet_ids": ["subnet-01", "subnet-02"]},
    "database": {"host": "db.invalid", "admin_secret": "arn:aws:secretsmanager:eu-central-1:1:secret:x"},
}
VAULT = {"address": "https://vault.invalid", "role_id": {"env": "A"}, "secret_id": {"env": "B"}}


def costs(folder: Path, *options: str, **production: Any) -> dict[str, Any]:
    write_project(folder, **production)
    run = invoke("cost", "-C", folder, "--json", *options)
    assert run.status == 0, run.stdout
    data = run.answer["data"]
    assert isinstance(data, dict)
    return data


def test_rows_add_up_to_the_totals_and_the_chosen_size(tmp_path: Path) -> None:
    data = costs(tmp_path, "--env", "production", size="large", image=IMAGE, workers={"gpu": GPU})
    rows = data["rows"]
    for row in rows:
        exact = Decimal(row["quantity"]) * Decimal(row["price"])
        assert abs(exact - Decimal(row["usd"])) <= Decimal("0.005"), row
    assert sum(Decimal(row["usd"]) for row in rows) == Decimal(data["in_use"])
    assert sum(Decimal(row["usd"]) for row in rows if row["steady"]) == Decimal(data["without_use"])
    assert data["sizes"]["large"] == {"without_use": data["without_use"], "in_use": data["in_use"]}
    totals = [Decimal(data["sizes"][size]["in_use"]) for size in ("small", "medium", "large")]
    assert totals == sorted(totals) and len(set(totals)) == 3
    assert data["estimate"] is True and data["prices"]["date"] == "2026-11-21"
    assert "not checked" in data["prices"]["source"]


@pytest.mark.parametrize(
    ("production", "gone"),
    [
        ({"existing": THERE}, {"database", "database storage", "NAT gateway", "its public address"}),
        ({"buckets": {"demo-raw": {"existing": True}}}, {"objects"}),
        ({"openbao": None, "secrets": VAULT}, {"secrets server"}),
    ],
    ids=["network and database", "bucket", "secrets"],
)
def test_what_is_there_already_is_not_counted(
    production: dict[str, Any], gone: set[str], tmp_path: Path
) -> None:
    before = {row["what"] for row in costs(tmp_path)["rows"]}
    after = {row["what"] for row in costs(tmp_path, **production)["rows"]}
    assert gone <= before and not gone & after


def test_it_says_that_it_is_an_estimate_and_from_when(tmp_path: Path) -> None:
    write_project(tmp_path)
    text = invoke("cost", "-C", tmp_path).stdout
    assert text.startswith("ESTIMATE of what production, size small costs")
    assert "Prices of us-east-1, 2026-11-21: " in text and "eu-central-1 has others" in text
    assert "worker" not in text, "none are asked for"


def test_the_page_shows_what_it_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cloud.md").read_text()
    said = invoke("cost", "-C", demo_in(tmp_path, PRODUCTION).parent).stdout
    assert f"$ djops cost\n{said}```" in page


def test_another_target_has_no_price(tmp_path: Path) -> None:
    write_project(tmp_path)
    run = invoke("cost", "-C", tmp_path, "--env", "local", "--json")
    assert run.status == 1 and run.answer["errors"][0]["code"] == "E_TARGET"


def test_without_an_environment_in_the_cloud_it_is_a_whole_new_one(tmp_path: Path) -> None:
    file = write_project(tmp_path)
    file.write_text(file.read_text().partition("  production:")[0] + "stores: {}\n")
    data = invoke("cost", "-C", tmp_path, "--json").answer["data"]
    assert data["environment"] is None and data["sizes"]["small"]["in_use"] == "130.27"
