"""How DataJoint names tables in SQL, and what a name says about the table.

Source: the client's ``user_tables`` module (tier prefixes) and what 2.3.5 was seen to create:
``session`` manual, ``#species`` lookup, ``_recording`` imported, ``__stats`` computed,
``_recording__channel`` part, ``~~recording`` job table, ``~lineage`` hidden.
"""

from __future__ import annotations

import enum
import functools
import re


class Tier(enum.StrEnum):
    """What kind of table a name stands for."""

    LOOKUP = "lookup"
    MANUAL = "manual"
    IMPORTED = "imported"
    COMPUTED = "computed"
    PART = "part"
    JOB = "job"
    LINEAGE = "lineage"
    OTHER = "other"

    @property
    def holds_data(self) -> bool:
        """Whether scientists' rows live in it."""
        return self not in (Tier.JOB, Tier.LINEAGE, Tier.OTHER)


LINEAGE_TABLE = "~lineage"

_BASE = r"[a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)*"
_DATA_TABLE = re.compile(rf"(?P<prefix>#|__|_)?(?P<master>{_BASE})(?P<part>__{_BASE})?")
_BY_PREFIX = {None: Tier.MANUAL, "#": Tier.LOOKUP, "_": Tier.IMPORTED, "__": Tier.COMPUTED}


@functools.cache
def tier_of(table: str) -> Tier:
    """Tell the tier of a table from its SQL name.

    Args:
        table: The name as the database has it.

    Returns:
        The tier; ``OTHER`` for names that DataJoint would not give.
    """
    if table == LINEAGE_TABLE:
        return Tier.LINEAGE
    if table.startswith("~~"):
        return Tier.JOB
    match = _DATA_TABLE.fullmatch(table)
    if table.startswith("~") or match is None:
        return Tier.OTHER
    return Tier.PART if match["part"] else _BY_PREFIX[match["prefix"]]


@functools.cache
def master_of(table: str) -> str | None:
    """Name the master table of a part table.

    Args:
        table: The name as the database has it.

    Returns:
        The master's SQL name, or ``None`` when ``table`` is not a part.
    """
    match = _DATA_TABLE.fullmatch(table)
    if table.startswith("~") or match is None or not match["part"]:
        return None
    return f"{match['prefix'] or ''}{match['master']}"


def job_table_of(table: str) -> str:
    """Name the job table of an imported or computed table.

    Args:
        table: SQL name of the imported or computed table.

    Returns:
        ``~~`` and the name without its leading underscores, as the client builds it.
    """
    return "~~" + table.lstrip("_")


def snake_case(class_name: str) -> str:
    """Turn a class name into the table name DataJoint gives it, without the tier prefix.

    Args:
        class_name: A CamelCase class name.

    Returns:
        The snake_case name, for example ``MultiModalAnalysis`` gives ``multi_modal_analysis``.
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name.replace("_", "")).lower()


SANDBOX_END = "_*"
"""How a person's sandbox is written: ``dev_alice_*`` stands for every schema that begins with ``dev_alice_``.

No schema of a pipeline may end so.
"""


def is_sandbox(name: str) -> bool:
    """Tell whether a name stands for a sandbox: for schemas that a person makes without asking anybody."""
    return name.endswith(SANDBOX_END) and len(name) > len(SANDBOX_END)


def sandbox_stem(sandbox: str) -> str:
    """Return what the names of all schemas in a sandbox begin with, such as ``dev_alice_``."""
    return sandbox[:-1]
