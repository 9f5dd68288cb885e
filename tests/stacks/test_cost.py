"""The estimate is arithmetic over a table with a date and a source, and the docs say what it says."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from cloud.cost import WHOLE, Parts, estimate, monthly, price_table, without_use
from cloud.sizes import GATE_TYPE, SIZES

TABLE = price_table()


def test_the_table_says_where_it_is_from() -> None:
    assert TABLE.date <= dt.date(2030, 1, 1) and TABLE.region == "us-east-1" and TABLE.hours == 730
    assert "not checked" in TABLE.source
    assert set(TABLE.unit.values()) <= {"hour", "GB-month", "GB", "month"}


@pytest.mark.parametrize("name", SIZES)
def test_every_machine_of_a_size_has_a_price(name: str) -> None:
    size = SIZES[name]
    assert {f"rds.{size.database_class}", f"ec2.{size.secrets_type}", f"ec2.{GATE_TYPE}"} <= set(TABLE.usd)


@pytest.mark.parametrize("name", SIZES)
def test_lines_are_quantity_times_price_to_the_cent(name: str) -> None:
    lines = estimate(SIZES[name], TABLE)
    for line in lines:
        exact = line.quantity * TABLE.usd[line.price]
        assert abs(line.usd - exact) <= Decimal("0.005") and line.usd.as_tuple().exponent == -2
    assert monthly(lines) == sum(line.usd for line in lines)
    assert without_use(SIZES[name], TABLE) == monthly(lines, steady_only=True)


def test_small_by_hand() -> None:
    """Reckoned apart from the module: 730 hours of everything that runs, and what is stored."""
    hours = 0.065 + 0.0168 + 0.0042 + 0.045 + 0.005
    steady = 730 * hours + 50 * 0.115 + 26 * 0.08 + 2 * 1.0 + 3 * 0.4 + 2 * 0.1
    used = 50 * 0.045 + 500 * 0.023 + 200 * 0.0122 + 800 * 0.00134 + 5 * 0.5
    assert float(without_use(SIZES["small"], TABLE)) == pytest.approx(steady, abs=0.06)
    assert float(monthly(estimate(SIZES["small"], TABLE))) == pytest.approx(steady + used, abs=0.1)


def test_a_standby_doubles_and_a_replica_adds() -> None:
    lines = {name: {line.what: line for line in estimate(size, TABLE)} for name, size in SIZES.items()}
    assert lines["small"]["database"].quantity == 730
    assert lines["medium"]["database"].quantity == lines["large"]["database"].quantity == 1460
    assert "read replica" not in lines["medium"] and lines["large"]["read replica"].quantity == 730
    assert lines["medium"]["database storage"].quantity == 400


def test_what_is_there_already_costs_nothing() -> None:
    rows = {line.what for line in estimate(SIZES["large"], TABLE)}
    gone = {
        "network": {"NAT gateway", "its public address", "traffic through NAT"},
        "database": {"database", "database storage", "read replica", "read replica's storage"},
        "secrets": {"secrets server", "disks of both"},
        "buckets": {"objects"},
        "worker_classes": {"alarms of the workers", "workers, cores", "workers, memory", "GPU workers"},
        "gpus": {"GPU workers"},
    }
    for part, without in gone.items():
        left = {line.what for line in estimate(SIZES["large"], TABLE, parts=replace(WHOLE, **{part: False}))}
        assert rows - left == without, part
        assert left - rows <= {"its disk"}


def test_each_class_of_workers_has_two_alarms() -> None:
    lines = {line.what: line for line in estimate(SIZES["small"], TABLE, parts=Parts(worker_classes=3))}
    assert lines["alarms of the workers"].quantity == 6


def test_larger_is_dearer() -> None:
    totals = [monthly(estimate(size, TABLE)) for size in SIZES.values()]
    assert totals == sorted(totals) and len(set(totals)) == 3


def test_the_docs_name_what_the_sizes_cost() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "cloud.md").read_text(encoding="utf-8")
    for name, size in SIZES.items():
        idle, used = without_use(size, TABLE), monthly(estimate(size, TABLE))
        assert f"| {name} | {size.database_class} |" in page
        assert f"| ${idle:,.0f} | ${used:,.0f} |" in page, (name, idle, used)


def test_a_price_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(
        "region: r\ndate: 2026-01-01\nsource: s\nhours_per_month: 730\nprices: {a: {usd: 0, per: hour}}\n"
    )
    with pytest.raises(ValueError, match="a has no positive price"):
        price_table(file)
