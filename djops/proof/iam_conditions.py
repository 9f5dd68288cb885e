"""Conditions of policy statements, with three answers: they hold, they do not, or it cannot be told.

AWS and Ceph 20.2.4 differ where a key is absent: AWS lets negated operators hold then, Ceph does not,
so that a ``Deny`` with ``StringNotLike`` catches less on Ceph. All of this was measured on Ceph and
follows AWS's documentation for AWS.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from djops.proof.iam_patterns import Dialect, Lookup, PatternSet, variables_in
from djops.proof.iam_values import c_moment, c_truth, inside, moment, network, number, truth

Matches = Callable[[str], bool]

_OPERATOR = re.compile(r"(?:(ForAllValues|ForAnyValue):)?(.+?)(IfExists)?")
_STRINGS = {
    "StringEquals": "equals",
    "StringEqualsIgnoreCase": "folded",
    "StringLike": "like",
    "ArnEquals": "arn",
    "ArnLike": "arn",
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
}
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}
_CEPH_MANY = ("StringEquals", "StringEqualsIgnoreCase", "StringLike")
_ARN_COLONS = 5


@dataclass(frozen=True)
class Environment:
    """What is known about a request.

    Attributes:
        values: The values of each key: none when it is known to be absent, ``None`` when it cannot be told.
        rest: The same for every key that is not among them.
        dialect: Whose reading of policies applies.
    """

    values: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    rest: tuple[str, ...] | None = None
    dialect: Dialect = "aws"

    def of(self, key: str) -> tuple[str, ...] | None:
        """Return the values of a key, ``None`` when it cannot be told."""
        return self.values.get(key if self.dialect == "ceph" else key.lower(), self.rest)

    def variable(self, key: str) -> str | None:
        """Return the value of a policy variable, ``None`` when it has none."""
        values = self.of(key)
        return values[0] if values else None


@dataclass(frozen=True)
class Condition:
    """One operator with one key and its values.

    Attributes:
        operator: As written, with quantifier and ``IfExists``.
        key: The condition key.
        values: The values it is compared with.
        variables: Whether the policy's language version has variables.
    """

    operator: str
    key: str
    values: tuple[str, ...]
    variables: bool = True

    def __str__(self) -> str:
        return f"{self.operator} {self.key} {', '.join(self.values)}"

    def holds(self, environment: Environment) -> bool | None:
        """Tell whether the condition holds, ``None`` when that cannot be told."""
        parsed = parse_operator(self.operator, environment.dialect)
        if parsed is None or (not self.values and environment.dialect == "aws"):
            return None
        have = environment.of(self.key)
        if have is None:
            return None
        return (_ceph if environment.dialect == "ceph" else _aws)(self, parsed, have, environment)


@dataclass(frozen=True)
class Operator:
    """A condition operator in its parts.

    Attributes:
        base: Its positive form: ``StringLike`` for ``ForAnyValue:StringNotLikeIfExists``.
        negated: Whether it is a ``Not`` of that form.
        quantifier: ``ForAllValues``, ``ForAnyValue`` or nothing.
        if_exists: Whether an absent key satisfies it.
    """

    base: str
    negated: bool
    quantifier: str
    if_exists: bool


def parse_operator(text: str, dialect: Dialect) -> Operator | None:
    """Take an operator apart; ``None`` for one that the server does not know."""
    found = _OPERATOR.fullmatch(text)
    if found is None:
        return None
    quantifier, name, if_exists = found.group(1) or "", found.group(2), bool(found.group(3))
    base = _NEGATED.get(name, name)
    order = base.removeprefix("Numeric").removeprefix("Date")
    known = base in _STRINGS or base in ("Bool", "IpAddress", "Null") or (order != base and order in _ORDERS)
    if not known or (dialect == "ceph" and quantifier and name not in _CEPH_MANY):
        return None
    return Operator(base, name in _NEGATED, quantifier, if_exists)


def _aws(it: Condition, parsed: Operator, have: Sequence[str], environment: Environment) -> bool | None:
    if parsed.base == "Null":
        wanted = [truth(value) for value in it.values]
        return None if None in wanted else (not have) in wanted
    if not have:
        if parsed.quantifier == "ForAnyValue":
            return parsed.if_exists
        return parsed.if_exists or parsed.negated or parsed.quantifier == "ForAllValues"
    matches = _matcher(it, parsed, environment)
    if matches is None:
        return None
    hits = [matches(value) for value in have]
    if parsed.quantifier == "ForAllValues":
        return not any(hits) if parsed.negated else all(hits)
    if parsed.quantifier == "ForAnyValue":
        return not all(hits) if parsed.negated else any(hits)
    return any(hits) is not parsed.negated


def _ceph(it: Condition, parsed: Operator, have: Sequence[str], environment: Environment) -> bool | None:
    if parsed.base == "Null":
        return (not have) in [c_truth(value) for value in it.values]
    if not have:
        return parsed.if_exists or parsed.quantifier == "ForAllValues"
    if parsed.base in _STRINGS:
        values = it.values
        if any(value.startswith("$") for value in values):
            # The whole value is one variable, and the last one counts for all.
            values = environment.of(values[-1][2:-1]) or ()
        matches = _strings(_STRINGS[parsed.base], values, "ceph")
    else:
        # Of several values only the first is looked at, and what is no number or date satisfies nothing.
        have = have[:1]
        if _converter(parsed.base, "ceph")(have[0]) is None:
            return False
        matches = _typed(it, parsed, "ceph")
    hits = [matches(value) for value in have]
    if parsed.quantifier == "ForAllValues":
        return all(hits)
    return any(hits) is not parsed.negated


def _matcher(it: Condition, parsed: Operator, environment: Environment) -> Matches | None:
    """Return what tells whether one value of the request matches any value of the condition, on AWS."""
    if parsed.base not in _STRINGS:
        convert = _converter(parsed.base, "aws")
        return None if None in map(convert, it.values) else _typed(it, parsed, "aws")
    names = [name for value in it.values for name in variables_in(value)] if it.variables else []
    if any(environment.of(name) is None for name in names):
        return None
    if any("${" in value for value in it.values) and it.variables:
        return _compare_strings(_STRINGS[parsed.base], it.values, "aws", environment.variable)
    return _strings(_STRINGS[parsed.base], it.values, "aws")


def _typed(it: Condition, parsed: Operator, dialect: Dialect) -> Matches:
    convert = _converter(parsed.base, dialect)
    wanted = [value for value in map(convert, it.values) if value is not None]
    order = _ORDERS.get(parsed.base.removeprefix("Numeric").removeprefix("Date"), operator.eq)
    compare = inside if parsed.base == "IpAddress" else order

    def matches(text: str) -> bool:
        value = convert(text)
        return value is not None and any(compare(value, other) for other in wanted)

    return matches


def _converter(base: str, dialect: Dialect) -> Callable[[str], Any]:
    if base == "Bool":
        return c_truth if dialect == "ceph" else truth
    if base == "IpAddress":
        return network
    if base.startswith("Numeric"):
        return number
    return c_moment if dialect == "ceph" else moment


@functools.lru_cache(maxsize=4096)
def _strings(how: str, values: tuple[str, ...], dialect: Dialect) -> Matches:
    """Prepare what many decisions ask."""
    return _compare_strings(how, values, dialect, None)


def _compare_strings(how: str, values: Sequence[str], dialect: Dialect, lookup: Lookup | None) -> Matches:
    """Return what tells whether a text matches any value."""
    if how == "like":
        like = PatternSet(values, dialect, lookup)
        return lambda text: like.first(text) is not None
    if how == "arn":
        arns = [value.split(":") for value in values]
        return lambda text: any(_arn_like(arn, text.split(":"), dialect, lookup) for arn in arns)
    # What is no pattern is still subject to variables.
    exact = set(values if lookup is None else _resolved(values, lookup))
    if how == "equals":
        return lambda text: text in exact
    folded = {_fold(value, dialect) for value in exact}
    return lambda text: _fold(text, dialect) in folded


def _resolved(values: Sequence[str], lookup: Lookup) -> list[str]:
    found = []
    for value in values:
        parts = [_variable(part, lookup) for part in re.split(r"(\$\{[^}]*\})", value)]
        if None not in parts:
            found.append("".join(part for part in parts if part is not None))
    return found


def _variable(part: str, lookup: Lookup) -> str | None:
    if not (part.startswith("${") and part.endswith("}")):
        return part
    name, comma, default = part[2:-1].partition(",")
    if name in ("*", "?", "$"):
        return name
    value = lookup(name.strip())
    return default.strip().strip("'") if value is None and comma else value


def _fold(text: str, dialect: Dialect) -> str:
    return text.casefold() if dialect == "aws" else re.sub("[A-Z]", lambda found: found[0].lower(), text)


def _arn_like(pattern: Sequence[str], arn: Sequence[str], dialect: Dialect, lookup: Lookup | None) -> bool:
    """Compare part by part; what follows the fifth colon is one part on AWS, and none on Ceph."""
    if dialect == "aws":
        pattern = [*pattern[:_ARN_COLONS], ":".join(pattern[_ARN_COLONS:])]
        arn = [*arn[:_ARN_COLONS], ":".join(arn[_ARN_COLONS:])]
    elif len(arn) != _ARN_COLONS + 1:
        return False
    return len(pattern) == len(arn) and all(
        PatternSet([part], dialect, lookup).first(text) is not None
        for part, text in zip(pattern, arn, strict=True)
    )
