"""An estimate of what an environment costs, as text and as data."""

from __future__ import annotations

from decimal import Decimal

from djops.report.table import table
from djops.services.cloud_cost import Cost


def cost_text(found: Cost) -> str:
    """Lay an estimate out: what it rests on, its rows, the sizes.

    Args:
        found: The estimate.
    """
    whose = f"{found.environment}, size {found.size}" if found.environment else f"a new set-up, {found.size}"
    rows = [
        (one.what, f"{one.quantity:,}", one.unit, f"{one.price:f}", f"{one.usd:,.2f}", _when(one.steady))
        for one in found.rows
    ]
    chosen = found.sizes[found.size]
    rows += [
        ("a month without use", "", "", "", f"{chosen.without_use:,.2f}", ""),
        ("a month in use", "", "", "", f"{chosen.in_use:,.2f}", ""),
    ]
    sizes = [
        (name, f"{one.without_use:,.2f}", f"{one.in_use:,.2f}", "chosen" if name == found.size else "")
        for name, one in found.sizes.items()
    ]
    return "\n".join(
        [
            f"ESTIMATE of what {whose} costs in a month, in US dollars",
            "",
            table(("what", "quantity", "unit", "price", "USD", ""), rows, right=(1, 3, 4)),
            "",
            table(("size", "without use", "in use", ""), sizes, right=(1, 2)),
            "",
            f"In use assumes {found.assumes}.",
            f"Prices of {found.priced_for}, {found.date}: {found.source}. No taxes, no discounts.",
            *_elsewhere(found),
        ]
    )


def _when(steady: bool) -> str:
    return "" if steady else "by use"


def _elsewhere(found: Cost) -> list[str]:
    if found.region in (None, found.priced_for):
        return []
    return [f"Prices differ between regions; {found.region} has others."]


def cost_data(found: Cost) -> dict[str, object]:
    """Return an estimate as plain data, amounts as text with their cents.

    Args:
        found: The estimate.
    """
    return {
        "environment": found.environment,
        "region": found.region,
        "size": found.size,
        "estimate": True,
        "currency": "USD",
        "rows": [
            {
                "what": one.what,
                "quantity": str(one.quantity),
                "unit": one.unit,
                "price": f"{one.price:f}",
                "usd": _cents(one.usd),
                "steady": one.steady,
            }
            for one in found.rows
        ],
        "without_use": _cents(found.sizes[found.size].without_use),
        "in_use": _cents(found.sizes[found.size].in_use),
        "sizes": {
            name: {"without_use": _cents(one.without_use), "in_use": _cents(one.in_use)}
            for name, one in found.sizes.items()
        },
        "assumes": found.assumes,
        "prices": {"region": found.priced_for, "date": found.date, "source": found.source},
    }


def _cents(amount: Decimal) -> str:
    return f"{amount:.2f}"
