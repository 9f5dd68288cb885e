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


@dataclass(frozen=True)
class Parts:
    """What a stack makes of all that it could: what is there already costs it nothing.

    Attributes:
        network: A VPC with its NAT gateway.
        database: The database.
        secrets: The secrets server.
        buckets: How many buckets.
        worker_classes: How many classes of workers.
        gpus: Whether one of them has GPUs.
    """

    network: bool = True
    database: bool = True
    secrets: bool = True
    buckets: int = 1
    worker_classes: int = 1
    gpus: bool = True


WHOLE = Parts()


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


def estimate(
    size: Size, table: PriceTable, use: Use | None = None, parts: Parts = WHOLE
) -> tuple[CostLine, ...]:
    """Return what a month costs, line by line.

    Args:
        size: The size.
        table: The prices.
        use: What is used; the size's own assumption when not given. Stored objects are for all buckets
            together, hours of workers for all classes.
        parts: What is made.
    """
    used = use or size.use
    rows = [*_steady(size, table.hours, parts), *_used(used, parts)]
    return tuple(_line(table, *row) for row in rows if row[2])


_Row = tuple[str, str, float, bool]


def _steady(size: Size, hours: int, parts: Parts) -> list[_Row]:
    """Return what is paid for without any use: what, its price, how much, and that it is so."""
    copies = (2 if size.multi_az else 1) * parts.database
    replicas = int(size.read_replica and parts.database)
    workers = parts.worker_classes > 0
    disks = _DISK_GB["gate"] + _DISK_GB["secrets"] * parts.secrets
    return [
        ("database", f"rds.{size.database_class}", hours * copies, True),
        ("database storage", "rds.gp3", size.storage_gib * copies, True),
        ("read replica", f"rds.{size.database_class}", hours * replicas, True),
        ("read replica's storage", "rds.gp3", size.storage_gib * replicas, True),
        ("secrets server", f"ec2.{size.secrets_type}", hours * parts.secrets, True),
        ("gate", f"ec2.{GATE_TYPE}", hours, True),
        ("disks of both" if parts.secrets else "its disk", "ebs.gp3", disks, True),
        ("NAT gateway", "vpc.nat", hours * parts.network, True),
        ("its public address", "vpc.public-address", hours * parts.network, True),
        ("keys", "kms.key", 2, True),
        ("secrets", "secretsmanager.secret", parts.database + parts.secrets + workers, True),
        ("alarms of the workers", "cloudwatch.alarm", 2 * parts.worker_classes, True),
    ]


def _used(used: Use, parts: Parts) -> list[_Row]:
    """Return what is paid for by use."""
    hours = used.worker_hours if parts.worker_classes else 0
    gpu_hours = used.gpu_hours if parts.worker_classes and parts.gpus else 0
    return [
        ("traffic through NAT", "vpc.nat.traffic", used.traffic_gb * parts.network, False),
        ("objects", "s3.standard", used.objects_gb if parts.buckets else 0, False),
        ("workers, cores", "fargate.cpu.spot", hours, False),
        ("workers, memory", "fargate.memory.spot", hours * 4, False),
        ("GPU workers", "ec2.g4dn.xlarge.spot", gpu_hours, False),
        ("logs", "cloudwatch.logs", used.logs_gb, False),
    ]


def monthly(lines: tuple[CostLine, ...], steady_only: bool = False) -> Decimal:
    """Add the lines up."""
    return sum((line.usd for line in lines if line.steady or not steady_only), Decimal(0))


def without_use(size: Size, table: PriceTable, parts: Parts = WHOLE) -> Decimal:
    """Return what a month costs when nobody uses it."""
    nothing = replace(size.use, objects_gb=0, worker_hours=0, gpu_hours=0, traffic_gb=0, logs_gb=0)
    return monthly(estimate(size, table, nothing, parts))


def _line(table: PriceTable, what: str, price: str, quantity: float, steady: bool) -> CostLine:
    count = Decimal(str(quantity))
    usd = (count * table.usd[price]).quantize(_CENT, ROUND_HALF_UP)
    return CostLine(what, price, count, usd, steady)
