"""What Pulumi would do to an environment's servers, as a plan: row by row, with what it costs.

Steps come from the engine (:mod:`djops.systems.pulumi`); nothing here knows Pulumi's own types.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from djops.errors import DjopsError
from djops.model.nearest import advice

_CENT = Decimal("0.01")

_ROOT_DISK = Decimal(8)
"""GB of a machine's own disk where nothing is said: what Amazon Linux's image has."""

DATA: Mapping[str, str] = {
    "aws:rds/instance:Instance": "the database",
    "aws:s3/bucket:Bucket": "objects",
    "aws:kms/key:Key": "the key without which encrypted data cannot be read",
    "aws:ebs/volume:Volume": "the secrets server's data",
    "aws:secretsmanager/secret:Secret": "a secret",
}
"""What is lost with a resource of these types."""

_HOLDERS: Mapping[str, str] = {"aws:s3": "s3.bucket", "aws:rds": "rds.instance"}
"""Where several resources of one name make a whole: what that is called."""


class Fate(enum.StrEnum):
    """What becomes of a resource."""

    CREATE = "create"
    CHANGE = "change"
    REPLACE = "replace"
    DELETE = "delete"
    FORGET = "forget"
    KEEP = "keep"


_ORDER = (Fate.DELETE, Fate.FORGET, Fate.REPLACE, Fate.CHANGE, Fate.CREATE, Fate.KEEP)


def is_aws(kind: str) -> bool:
    """Whether a type stands for something in AWS, not for a part of the program.

    Args:
        kind: The type, for example ``aws:rds/instance:Instance``.
    """
    return kind.startswith("aws:")


@dataclass(frozen=True)
class StackStep:
    """What the engine does, or would do, to one resource.

    Attributes:
        fate: What becomes of it.
        urn: Its name for the engine.
        type: Its type, for example ``aws:rds/instance:Instance``.
        changed: Names of the inputs that differ.
        before: Its inputs so far; empty when it is new.
        after: Its inputs from now on; empty when it goes.
        protected: Whether the engine refuses to delete it.
    """

    fate: Fate
    urn: str
    type: str
    changed: tuple[str, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict, repr=False)
    after: Mapping[str, Any] = field(default_factory=dict, repr=False)
    protected: bool = False

    @property
    def name(self) -> str:
        """The resource's name in the stack's programs."""
        return self.urn.rpartition("::")[2]

    @property
    def kind(self) -> str:
        """The type as people say it: ``rds instance``, ``s3 bucketPolicy``."""
        package, _, rest = self.type.partition(":")
        module, _, kind = rest.partition(":")
        return module.replace("/", " ") if package == "aws" else kind or package

    @property
    def label(self) -> str:
        """How it is named on the command line: ``database``, or with its kind where that is not enough."""
        return f"{self.kind.replace(' ', '.')}::{self.name}"

    @property
    def whole(self) -> str:
        """The label of what it is a part of: a bucket of several resources, a database with its subnets."""
        module = self.type.partition("/")[0]
        holder = _HOLDERS.get(module)
        return self.label if holder is None else f"{holder}::{self.name}"

    @property
    def is_ours(self) -> bool:
        """Whether it stands for something in AWS, not for a part of the program."""
        return is_aws(self.type)


@dataclass(frozen=True)
class Refusal:
    """A step that the engine refused because the resource is protected.

    Attributes:
        urn: The resource.
        fate: What would have become of it.
    """

    urn: str
    fate: Fate


@dataclass(frozen=True)
class CloudRow:
    """One row of the plan.

    Attributes:
        step: What happens to which resource.
        usd: What a month costs more, or less, without use; US dollars.
        loses: What is lost with it, for people; empty where nothing is.
    """

    step: StackStep
    usd: Decimal
    loses: str = ""

    def as_data(self) -> Mapping[str, Any]:
        """Return the row for JSON."""
        return {
            "resource": self.step.label,
            "type": self.step.type,
            "urn": self.step.urn,
            "fate": str(self.step.fate),
            "changed": list(self.step.changed),
            "usd_per_month": str(self.usd),
            "loses": self.loses or None,
        }


@dataclass(frozen=True)
class CloudPlan:
    """Everything that would happen to an environment's resources.

    Attributes:
        rows: What is in AWS, resources that go first and those that stay last.
        usd: What a month costs without use once it is carried out; US dollars.
        given_up: What a month costs of that which is given up and stays in AWS; US dollars.
    """

    rows: tuple[CloudRow, ...]
    usd: Decimal
    given_up: Decimal = Decimal(0)

    @property
    def is_empty(self) -> bool:
        """Whether everything is as it should be."""
        return all(row.step.fate is Fate.KEEP for row in self.rows)

    @property
    def difference(self) -> Decimal:
        """What a month costs more, or less; US dollars."""
        return sum((row.usd for row in self.rows), Decimal(0))

    def count(self) -> dict[str, int]:
        """Return how many resources have each fate."""
        return {str(fate): sum(row.step.fate is fate for row in self.rows) for fate in _ORDER}

    def as_data(self) -> dict[str, Any]:
        """Return the plan for JSON."""
        return {
            "changes": [row.as_data() for row in self.rows if row.step.fate is not Fate.KEEP],
            "summary": self.count(),
            "usd_per_month": {
                "difference": str(self.difference),
                "afterwards": str(self.usd),
                "given_up": str(self.given_up),
            },
        }


@dataclass(frozen=True)
class Prices:
    """What AWS asks, from ``stacks/prices.yaml``.

    Attributes:
        usd: Price of one unit, by name; US dollars.
        hours: Hours of a month.
        source: Date and source, for people.
    """

    usd: Mapping[str, Decimal]
    hours: int
    source: str = ""


def cloud_plan(steps: Iterable[StackStep], prices: Prices) -> CloudPlan:
    """Make a plan of what the engine would do.

    Args:
        steps: Its steps; those on parts of the program itself are left out.
        prices: What AWS asks.
    """
    rows = [_row(step, prices) for step in steps if step.is_ours]
    after = sum((monthly_usd(row.step.type, row.step.after, prices) for row in rows), Decimal(0))
    left = (row.step for row in rows if row.step.fate is Fate.FORGET)
    given_up = sum((monthly_usd(step.type, step.before, prices) for step in left), Decimal(0))
    return CloudPlan(tuple(sorted(rows, key=_place)), after, given_up)


def _place(row: CloudRow) -> tuple[int, Decimal, str]:
    return _ORDER.index(row.step.fate), -abs(row.usd), row.step.label


def _row(step: StackStep, prices: Prices) -> CloudRow:
    # What is forgotten stays in AWS, and so does its price; only Pulumi does not count it any more.
    after = step.before if step.fate is Fate.FORGET else step.after
    usd = monthly_usd(step.type, after, prices) - monthly_usd(step.type, step.before, prices)
    ends = step.fate in (Fate.DELETE, Fate.REPLACE)
    # Data counts whether it is protected or not: a run that was killed may have left the protection off.
    loses = DATA.get(step.type, "what it holds" if step.protected else "")
    return CloudRow(step, usd, loses if ends or step.fate is Fate.FORGET else "")


class DataLossError(DjopsError):
    """Something would be deleted or replaced that holds data."""

    code = "E_DATA_LOSS"


def require_no_loss(
    plan: CloudPlan, refused: Iterable[Refusal], allowed: Collection[str], *, command: str
) -> None:
    """Refuse a plan that deletes or replaces what holds data, unless somebody named it.

    Args:
        plan: The plan.
        refused: What the engine itself refused to do.
        allowed: What ``--allow-data-loss`` named: labels of resources.
        command: What the user runs, for the hint.

    Raises:
        DataLossError: ``E_DATA_LOSS`` naming every such resource, and why it would go.
        DjopsError: ``E_UNKNOWN_RESOURCE`` for a name that no such resource has.
    """
    rows = {row.step.whole: row.step for row in plan.rows if row.loses}
    rows |= {step.whole: step for step in map(_refused_step, refused)}
    for name in allowed:
        if name not in rows:
            message = f"--allow-data-loss names {name!r}, which this plan neither replaces nor deletes"
            raise DjopsError(message, code="E_UNKNOWN_RESOURCE", hint=advice(name, rows, what="resources"))
    lost = [step for whole, step in sorted(rows.items()) if whole not in allowed or _is_in_the_way(step)]
    if lost:
        told = "; ".join(f"{one.whole} would be {_ENDS[one.fate]}: {_why(one)}" for one in lost)
        raise DataLossError(
            f"this would lose data: {told}", hint=f"nothing was changed; {_ways(lost, command)}"
        )


_ONCE: Mapping[str, str] = {
    "s3.bucket": "name another bucket in `stores:`, and this one is given up instead",
    "rds.instance": "make another environment, and bring the data there",
}
"""What keeps its name in AWS, where nothing of these is ever deleted, so that no other can take its place."""


def _is_in_the_way(step: StackStep) -> bool:
    return step.fate is Fate.REPLACE and step.whole.partition("::")[0] in _ONCE


def _ways(lost: Iterable[StackStep], command: str) -> str:
    """Say what can be done: data that is given up stays in AWS; what stays there cannot be replaced."""
    stuck = [step.whole for step in lost if _is_in_the_way(step)]
    if stuck:
        other = "; ".join(dict.fromkeys(_ONCE[one.partition("::")[0]] for one in stuck))
        return f"undo the change in djops.yaml: {', '.join(stuck)} stays in AWS under its name; or {other}"
    options = " ".join(f"--allow-data-loss {one.whole}" for one in lost)
    return f"undo the change in djops.yaml, or accept the loss: `{command} {options}`"


_ENDS = {
    Fate.DELETE: "deleted",
    Fate.REPLACE: "replaced by an empty one",
    Fate.FORGET: "given up, and left in AWS",
}
_HELD = {f"{token.split(':')[1].replace('/', '.')}": words for token, words in DATA.items()}


def _why(step: StackStep) -> str:
    data = _HELD.get(step.whole.partition("::")[0])
    holds = f"it holds {data}" if data else "it is protected"
    if step.fate is Fate.REPLACE:
        what = (
            f"{', '.join(step.changed)} cannot be changed in place"
            if step.changed
            else "AWS cannot change it"
        )
        return f"{what}, and {holds}"
    return f"djops.yaml no longer asks for it, and {holds}"


def _refused_step(refusal: Refusal) -> StackStep:
    return StackStep(refusal.fate, refusal.urn, refusal.urn.split("::")[2].rpartition("$")[2], protected=True)


# -- what a resource costs without being used -------------------------------------------------------------


def monthly_usd(kind: str, inputs: Mapping[str, Any], prices: Prices) -> Decimal:
    """Estimate what one resource costs in a month when nobody uses it.

    Args:
        kind: Its type.
        inputs: Its inputs as the engine has them; empty for none.
        prices: What AWS asks.

    Returns:
        US dollars to the cent; 0 where only use costs, or where the table knows no price.
    """
    if not inputs:
        return Decimal(0)
    total = sum(
        (
            prices.usd.get(name, Decimal(0)) * quantity
            for name, quantity in _units(kind, inputs, prices.hours)
        ),
        Decimal(0),
    )
    return total.quantize(_CENT, ROUND_HALF_UP)


def _units(kind: str, inputs: Mapping[str, Any], hours: int) -> list[tuple[str, Decimal]]:
    """Return what is paid for: names in the price table, and how much of each."""
    hour = Decimal(hours)
    match kind:
        case "aws:rds/instance:Instance":
            copies = 2 if inputs.get("multiAz") else 1
            storage = _number(inputs.get("allocatedStorage"))
            return [(f"rds.{inputs.get('instanceClass')}", hour * copies), ("rds.gp3", storage * copies)]
        case "aws:ec2/instance:Instance":
            root = inputs.get("rootBlockDevice") or {}
            disk = _number(root.get("volumeSize") if isinstance(root, Mapping) else None) or _ROOT_DISK
            return [(f"ec2.{inputs.get('instanceType')}", hour), ("ebs.gp3", disk)]
        case "aws:ebs/volume:Volume":
            return [("ebs.gp3", _number(inputs.get("size")))]
        case "aws:ec2/natGateway:NatGateway":
            return [("vpc.nat", hour)]
        case "aws:ec2/eip:Eip":
            return [("vpc.public-address", hour)]
        case "aws:kms/key:Key":
            return [("kms.key", Decimal(1))]
        case "aws:secretsmanager/secret:Secret":
            return [("secretsmanager.secret", Decimal(1))]
        case "aws:cloudwatch/metricAlarm:MetricAlarm":
            return [("cloudwatch.alarm", Decimal(1))]
    return []


def _number(value: object) -> Decimal:
    return Decimal(str(value)) if isinstance(value, int | float) else Decimal(0)
