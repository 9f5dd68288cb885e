"""Drift by name: what each difference between servers and project file is, and what mends it."""

from __future__ import annotations

from djops.plan.change import Plan
from djops.plan.drift_kinds import Book, Drift, Sight
from djops.plan.drift_mysql import name_mysql
from djops.plan.drift_stores import name_s3, name_secrets


def name_drift(plan: Plan, sight: Sight) -> tuple[Drift, ...]:
    """Name everything that is not as it should be.

    Args:
        plan: The plan.
        sight: What else is known.

    Returns:
        What was found. Every change of the plan is part of something in it.
    """
    book = Book()
    name_mysql(plan, sight, book)
    name_s3(plan, sight, book)
    name_secrets(plan, book)
    return tuple(book)
