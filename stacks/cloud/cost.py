"""What a size costs in a month: quantities times a price table; an estimate, never a bill."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import yaml

from cloud.sizes import GATE_TYPE, Size, Use

PRICES = Path(__file__).resolve().parents[1] / "prices.yaml"
_CENT = Decimal("0.01")
_DISK_GB = {"gate": 8, "secrets": 8 + 10}


@dataclass(frozen=True)
class PriceTable:
    """Prices with where they come from.

    Attributes:
        region: Where they hold.
        date: When they were written down.
        source: Who says so.
        hours: Hours of a month.
        usd: Price of one unit, by name.
        unit: Its unit, by name.
    """

    region: str
    date: dt.date
    source: str
    hours: int
    usd: Mapping[str, Decimal]
    unit: Mapping[str, str]


@dataclass(frozen=True)
class CostLine:
    """One row of an estimate.

    Attributes:
        what: What is paid for.
        price: Its name in the price table.
        quantity: How many units a month.
        usd: What they cost, to the cent.
        steady: Whether it is paid without any use.
    """

    what: str
    price: str
    quantity: Decimal
    usd: Decimal
    steady: bool


def price_table(file: Path = PRICES) -> PriceTable:
    """Read the price table.

    Raises:
        ValueError: When an entry has no positive price or no unit.
    """
    read: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    entries = read["prices"].items()
    usd = {name: Decimal(str(entry["usd"])) for name, entry in entries}
    wrong = [name for name, price in usd.items() if price <= 0]
    if wrong:
        raise ValueError(f"{file.name}: {wrong[0]} has no positive price")
    unit = {name: str(entry["per"]) for name, entry in entries}
    return PriceTable(read["region"], read["date"], read["source"], int(read["hours_per_month"]), usd, unit)


def estimate(size: Size, table: PriceTable, use: Use | None = None, buckets: int = 1) -> tuple[CostLine, ...]:
    """Return what a month costs, line by line.

    Args:
        size: The size.
        table: The prices.
        use: What is used; the size's own assumption when not given.
        buckets: Buckets made; each size of stored objects is for all of them together.
    """
    used, hours = use or size.use, table.hours
    copies = 2 if size.multi_az else 1
    replicas = 1 if size.read_replica else 0
    rows: list[tuple[str, str, float, bool]] = [
        ("database", f"rds.{size.database_class}", hours * copies, True),
        ("database storage", "rds.gp3", size.storage_gib * copies, True),
        ("read replica", f"rds.{size.database_class}", hours * replicas, True),
        ("read replica's storage", "rds.gp3", size.storage_gib * replicas, True),
        ("secrets server", f"ec2.{size.secrets_type}", hours, True),
        ("gate", f"ec2.{GATE_TYPE}", hours, True),
        ("disks of both", "ebs.gp3", sum(_DISK_GB.values()), True),
        ("NAT gateway", "vpc.nat", hours, True),
        ("its public address", "vpc.public-address", hours, True),
        ("keys", "kms.key", 2, True),
        ("secrets", "secretsmanager.secret", 3, True),
        ("alarms of one worker class", "cloudwatch.alarm", 2, True),
        ("traffic through NAT", "vpc.nat.traffic", used.traffic_gb, False),
        ("objects", "s3.standard", used.objects_gb if buckets else 0, False),
        ("workers, cores", "fargate.cpu.spot", used.worker_hours, False),
        ("workers, memory", "fargate.memory.spot", used.worker_hours * 4, False),
        ("GPU workers", "ec2.g4dn.xlarge.spot", used.gpu_hours, False),
        ("logs", "cloudwatch.logs", used.logs_gb, False),
    ]
    return tuple(_line(table, *row) for row in rows if row[2])


def monthly(lines: tuple[CostLine, ...], steady_only: bool = False) -> Decimal:
    """Add the lines up."""
    return sum((line.usd for line in lines if line.steady or not steady_only), Decimal(0))


def without_use(size: Size, table: PriceTable) -> Decimal:
    """Return what a month costs when nobody uses it."""
    nothing = replace(size.use, objects_gb=0, worker_hours=0, gpu_hours=0, traffic_gb=0, logs_gb=0)
    return monthly(estimate(size, table, nothing))


def _line(table: PriceTable, what: str, price: str, quantity: float, steady: bool) -> CostLine:
    count = Decimal(str(quantity))
    usd = (count * table.usd[price]).quantize(_CENT, ROUND_HALF_UP)
    return CostLine(what, price, count, usd, steady)
