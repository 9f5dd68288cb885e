"""What an environment in the cloud costs in a month: an estimate from the shipped price table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from djops.errors import UsageError
from djops.model.cloud import SIZES, CloudEnvironment
from djops.model.project import Project
from djops.services.site import choose_environment
from djops.systems.stacks import use_stacks

if TYPE_CHECKING:
    from cloud.cost import Parts
    from cloud.sizes import Use


@dataclass(frozen=True)
class CostRow:
    """One row of the estimate.

    Attributes:
        what: What is paid for.
        quantity: How many units a month.
        unit: The unit, for example ``hour``.
        price: US dollars for one unit.
        usd: US dollars a month, to the cent.
        steady: Whether it is paid without any use.
    """

    what: str
    quantity: Decimal
    unit: str
    price: Decimal
    usd: Decimal
    steady: bool


@dataclass(frozen=True)
class SizeCost:
    """What one size costs in a month.

    Attributes:
        without_use: US dollars when nobody uses it.
        in_use: US dollars with the use that the size assumes.
    """

    without_use: Decimal
    in_use: Decimal


@dataclass(frozen=True)
class Cost:
    """An estimate, never a bill.

    Attributes:
        environment: Whose; ``None`` for a whole new set-up.
        region: Where the environment is, if it says so; prices are those of ``priced_for``.
        size: Its size.
        rows: What its size consists of.
        sizes: What each size would cost there.
        priced_for: Region of the price table.
        date: Day of the price table.
        source: Where its prices come from.
        assumes: The use that the size assumes, as words.
    """

    environment: str | None
    region: str | None
    size: str
    rows: tuple[CostRow, ...]
    sizes: Mapping[str, SizeCost]
    priced_for: str
    date: dt.date
    source: str
    assumes: str


def cost(project: Project, environment: str | None = None) -> Cost:
    """Estimate what an environment costs.

    Args:
        project: The project.
        environment: An ``aws`` environment; ``None`` for the only one, or without any a whole small set-up.

    Raises:
        UsageError: ``E_ENVIRONMENT`` for one there is none of, ``E_TARGET`` for one that is not in the cloud.
    """
    name = cloud_environment(project, environment)
    made = project.environments[name] if name else CloudEnvironment()
    return estimate(made, name, max(len({store.bucket for store in project.stores.values()}), 1))


def cloud_environment(project: Project, environment: str | None) -> str | None:
    """Return the environment meant: the one named, the only one in the cloud, or none where none is.

    Args:
        project: The project.
        environment: What the user named.

    Raises:
        UsageError: ``E_ENVIRONMENT`` for one there is none of, or several; ``E_TARGET`` for another target.
    """
    names = sorted(name for name, one in project.environments.items() if one.target == "aws")
    if environment is None:
        if len(names) > 1:
            raise UsageError(
                "the project has several environments in the cloud",
                code="E_ENVIRONMENT",
                hint=f"name one with --env: {', '.join(names)}",
            )
        return names[0] if names else None
    name = choose_environment(project, environment)
    if name not in names:
        target = project.environments[name].target
        raise UsageError(
            f"the environment {name!r} is not in the cloud: it says `target: {target}`",
            code="E_TARGET",
            hint=f"name one of these: {', '.join(names)}" if names else "`djops cloud onboard` writes one",
        )
    return name


def required_environment(
    project: Project, environment: str | None, hint: str = "`djops cloud onboard` writes one"
) -> str:
    """Return the environment meant, which must be in the cloud.

    Args:
        project: The project.
        environment: What the user named.
        hint: What to do where the project has none.

    Raises:
        UsageError: ``E_TARGET`` where there is none, and as :func:`cloud_environment`.
    """
    name = cloud_environment(project, environment)
    if name is None:
        raise UsageError("the project has no environment in the cloud", code="E_TARGET", hint=hint)
    return name


def estimate(env: CloudEnvironment, name: str | None = None, buckets: int = 1) -> Cost:
    """Estimate what an environment costs as it is written.

    Args:
        env: The environment.
        name: Its name.
        buckets: How many buckets the project's stores have.
    """
    use_stacks()
    from cloud import cost as prices
    from cloud.sizes import SIZES as KNOWN

    table, parts = prices.price_table(), _parts(env, name, buckets)
    lines = prices.estimate(KNOWN[env.size], table, parts=parts)
    sizes = {
        size: SizeCost(
            prices.without_use(KNOWN[size], table, parts),
            prices.monthly(prices.estimate(KNOWN[size], table, parts=parts)),
        )
        for size in SIZES
    }
    rows = tuple(
        CostRow(one.what, one.quantity, table.unit[one.price], table.usd[one.price], one.usd, one.steady)
        for one in lines
    )
    return Cost(
        name,
        env.region,
        env.size,
        rows,
        sizes,
        table.region,
        table.date,
        table.source,
        _assumed(KNOWN[env.size].use, parts),
    )


def _assumed(use: Use, parts: Parts) -> str:
    words = [
        (parts.buckets, f"{use.objects_gb:,} GB of objects"),
        (parts.worker_classes, f"{use.worker_hours:,} hours of workers"),
        (parts.worker_classes and parts.gpus and use.gpu_hours, f"{use.gpu_hours:,} hours of GPU workers"),
        (parts.network, f"{use.traffic_gb:,} GB of traffic"),
        (True, f"{use.logs_gb:,} GB of logs"),
    ]
    return ", ".join(text for counted, text in words if counted)


def _parts(env: CloudEnvironment, name: str | None, buckets: int) -> Parts:
    """Tell what would be made; without an environment that is everything."""
    from cloud.cost import WHOLE, Parts

    if name is None:
        return WHOLE
    there = sum(one.existing for one in env.buckets.values())
    return Parts(
        network=env.existing.network is None,
        database=env.existing.database is None,
        secrets=env.openbao is not None,
        buckets=buckets - there,
        worker_classes=len(env.workers),
        gpus=any(one.gpus for one in env.workers.values()),
    )
