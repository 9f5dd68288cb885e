"""What the database engine has in MySQL, for tests that leave a lab as they found it."""

from __future__ import annotations

from djops.compile.machines import LEASES, PROCEDURES, SWEEP, engine_account
from djops.compile.mysql_manager import EVENT_SCHEMA
from djops.compile.sql import quote_account


def drops(project: str) -> tuple[str, ...]:
    """Return the SQL that removes it; nobody may have a lease any more.

    Args:
        project: Name of the project.
    """
    there = {
        "USER": [quote_account(*engine_account(project))],
        "EVENT": [f"{EVENT_SCHEMA}.{SWEEP}"],
        "TABLE": [f"{EVENT_SCHEMA}.{LEASES}"],
        "PROCEDURE": [f"{EVENT_SCHEMA}.{name}" for name in (*PROCEDURES, SWEEP)],
    }
    return tuple(f"DROP {what} IF EXISTS {name}" for what, names in there.items() for name in names)
