"""Statements of policies, read one by one as AWS or as Ceph reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from djops.proof.iam_conditions import Condition, Environment
from djops.proof.iam_environment import (
    CIRCUMSTANCES,
    REQUEST_KEYS,
    TRANSPORT,
    Context,
    Who,
    environment,
)
from djops.proof.iam_patterns import ArnSet, Dialect, PatternSet, variables_in

Effect = Literal["Allow", "Deny", "Unknown"]

_ELEMENTS = frozenset(
    [
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    ]
)
_ANYBODY = "*"
_OF_THE_REQUEST = frozenset(key.lower() for key in (*REQUEST_KEYS, *CIRCUMSTANCES, TRANSPORT))


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        action: As AWS documents it, such as ``s3:GetObject``.
        resource: The ARN of what it is asked on.
        who: Whoever asks.
        dialect: Whose reading of policies applies.
        context: What is known about the request besides.
    """

    action: str
    resource: str
    who: Who
    dialect: Dialect
    context: Context

    @cached_property
    def environment(self) -> Environment:
        """The values of all condition keys; most requests meet no condition."""
        return environment(self.dialect, self.who, self.action, self.context)


@dataclass(frozen=True)
class Reading:
    """What one statement says about a request.

    Attributes:
        effect: What it does when it applies.
        applies: Whether it does; ``None`` when that cannot be told.
        text: The statement, as far as it concerns the request.
    """

    effect: Effect
    applies: bool | None
    text: str


class ActionSet:
    """Action patterns of which one must match, in any case.

    Args:
        patterns: As written in a policy.
        dialect: Whose reading.
    """

    def __init__(self, patterns: Sequence[str], dialect: Dialect) -> None:
        self.patterns = tuple(patterns)
        # Ceph takes anything that begins with a star for everything.
        stars = (one for one in patterns if one == "*" or (dialect == "ceph" and one.startswith("*")))
        self._everything = next(stars, None)
        self._written = {pattern.lower(): pattern for pattern in patterns if ":" in pattern}
        self._patterns = PatternSet(self._written, dialect)
        self._known: dict[str, str | None] = {}

    def first(self, action: str) -> str | None:
        """Return a pattern that matches, as it was written, or ``None``."""
        if action not in self._known:
            self._known[action] = self._first(action)
        return self._known[action]

    def _first(self, action: str) -> str | None:
        if self._everything is not None:
            return self._everything
        found = self._patterns.first(action.lower())
        return None if found is None else self._written[found]


@dataclass(frozen=True)
class Statement:
    """One statement.

    Attributes:
        source: The policy it stands in and whom that is for, in words.
        number: Its place in the policy, counted from 1.
        sid: The name it gives itself.
        effect: ``Allow`` or ``Deny``; ``Unknown`` for a policy nobody can read.
        actions: ``Action``; ``None`` when there is none. Likewise the others.
        principals: ``Principal`` as pairs of kind and name; likewise its opposite.
        conditions: All of them must hold.
        variables: Whether the policy's language version has variables.
        dialect: Whose reading.
        puzzle: Why the statement cannot be understood, if so.
    """

    source: str
    number: int
    sid: str = ""
    effect: Effect = "Unknown"
    actions: ActionSet | None = None
    not_actions: ActionSet | None = None
    resources: ArnSet | None = None
    not_resources: ArnSet | None = None
    principals: tuple[tuple[str, str], ...] | None = None
    not_principals: tuple[tuple[str, str], ...] | None = None
    conditions: tuple[Condition, ...] = ()
    variables: bool = field(default=False, repr=False)
    dialect: Dialect = "aws"
    puzzle: str = ""

    @property
    def name(self) -> str:
        """The policy and the statement in it."""
        label = f"{self.source}, statement {self.number}"
        return f"{label} ({self.sid})" if self.sid else label

    def concerns(self, action: str) -> bool:
        """Tell whether the statement may say anything about an action, on whatever resource.

        Args:
            action: The action, such as ``s3:GetObject``.
        """
        return bool(self.puzzle) or self._action(action) is not None

    @property
    def impersonal(self) -> bool:
        """Whether what it says about a request hangs on nothing that differs between users."""
        sets = (one for one in (self.resources, self.not_resources) if one is not None)
        texts = [pattern for one in sets for pattern in one.patterns]
        texts += [value for condition in self.conditions for value in condition.values]
        keys = {condition.key.lower() for condition in self.conditions}
        return keys <= _OF_THE_REQUEST and not any("$" in text for text in texts)

    def read(self, request: Request, who: Who | None = None) -> Reading:
        """Tell what the statement says about a request.

        Args:
            request: The request.
            who: Whoever asks, for the policy of a bucket; ``None`` for a policy of a user.

        Returns:
            Whether it applies, and its text as far as it matters.
        """
        if self.puzzle:
            return Reading(self.effect, None, f"{self.name}: {self.puzzle}")
        action = self._action(request.action)
        if action is None:  # as it is with most: the rest takes longer
            return Reading(self.effect, False, self.name)
        unresolved = self.variables and self._unresolved(request)
        resource = "what cannot be told" if unresolved else self._resource(request)
        if resource is None:
            return Reading(self.effect, False, self.name)
        concerned = True if who is None else self.names(who)
        if concerned is False:
            return Reading(self.effect, False, self.name)
        held = [condition.holds(request.environment) for condition in self.conditions]
        applies = None if unresolved or None in (concerned, *held) else True
        text = f"{self.name}: {self.effect} {action} on {resource}"
        if self.conditions:
            text += f" if {' and '.join(map(str, self.conditions))}"
        return Reading(self.effect, False if False in held else applies, text)

    def _action(self, action: str) -> str | None:
        if self.actions is None:
            # Ceph parses NotAction and then lets it apply to nothing.
            if self.dialect == "ceph" or self.not_actions is None or self.not_actions.first(action):
                return None
            return f"all but {', '.join(self.not_actions.patterns)}"
        if self.not_actions is not None and self.not_actions.first(action):
            return None
        return self.actions.first(action)

    def _resource(self, request: Request) -> str | None:
        resources, not_resources = self.resources, self.not_resources
        if self.variables:
            resources, not_resources = (self._with(one, request) for one in (resources, not_resources))
        if resources is not None:
            return resources.first(request.resource)
        if not_resources is None or not_resources.first(request.resource) is not None:
            return None
        return f"all but {', '.join(not_resources.patterns)}"

    def _with(self, resources: ArnSet | None, request: Request) -> ArnSet | None:
        """Put the request's values into the variables."""
        if resources is None or not any(map(variables_in, resources.patterns)):
            return resources
        return ArnSet(resources.patterns, self.dialect, request.environment.variable)

    def _unresolved(self, request: Request) -> bool:
        """Whether the resources hang on a variable whose value cannot be told."""
        sets = (one for one in (self.resources, self.not_resources) if one is not None)
        names = {name for one in sets for pattern in one.patterns for name in variables_in(pattern)}
        return any(request.environment.of(name) is None for name in names)

    def names(self, who: Who) -> bool | None:
        """Tell whether the policy of a bucket means somebody; ``None`` when that cannot be told.

        Args:
            who: Whoever asks.
        """
        if self.principals is None and self.not_principals is None:
            return False
        named = _any(self._is(kind, text, who) for kind, text in self.principals or ())
        if self.principals is not None and named is not True:
            return named
        if self.not_principals is None:
            return True
        spared = _any(self._is(kind, text, who) for kind, text in self.not_principals)
        if spared and self.dialect == "aws" and self.effect == "Deny":
            # AWS documents that it may deny the user all the same unless the account is spared as well.
            return None if who.account not in [_account(text) for _, text in self.not_principals] else False
        return None if spared is None else not spared

    def _is(self, kind: str, text: str, who: Who) -> bool | None:
        """Tell whether a principal named in the policy is whoever asks."""
        if kind == _ANYBODY or (kind == "AWS" and text == "*"):
            return True
        if kind == "CanonicalUser" and self.dialect == "aws":
            return None if who.name else False
        if kind != "AWS" or not who.name:
            return False
        account = _account(text)
        if self.dialect == "ceph":
            return account == who.account if account is not None else text in _ceph_names(who)
        if account is not None:
            # The account may let its users; it does not let them by that.
            return self.effect == "Deny" and self.principals is not None and account == who.account
        return text in (who.arn, who.user_id)


def _ceph_names(who: Who) -> tuple[str, ...]:
    """Return how a bucket policy on Ceph can name a user: the path is a part of the name."""
    path = who.arn.rpartition("/")[0].partition(":user")[2]
    return who.arn, f"{who.arn}:*", f"arn:aws:iam:::user{path}/{who.user_id}"


def _any(answers: Iterable[bool | None]) -> bool | None:
    seen = set(answers)
    return True if True in seen else None if None in seen else False


def _account(principal: str) -> str | None:
    """Return the account that a principal stands for as a whole, ``None`` when for something else."""
    parts = principal.split(":", 5)
    if len(parts) == 1:
        return principal if "/" not in principal and not principal.startswith("AIDA") else None
    return parts[4] if parts[-1] == "root" else None


def statements(document: Any, source: str, dialect: Dialect) -> tuple[Statement, ...]:  # noqa: ANN401
    """Take a policy document apart.

    Args:
        document: The document; ``None`` when it could not be read.
        source: The policy and whom it is for, in words.
        dialect: Whose reading.

    Returns:
        Its statements; one that cannot be understood says so itself.
    """
    if document is None:
        return (Statement(source, 1, puzzle="it cannot be read", dialect=dialect),)
    if not isinstance(document, Mapping):
        return (Statement(source, 1, puzzle="it is no policy", dialect=dialect),)
    found = document.get("Statement", ())
    variables = dialect == "aws" and document.get("Version") == "2012-10-17"
    entries = [found] if isinstance(found, Mapping) else found
    return tuple(_statement(one, source, at, dialect, variables) for at, one in enumerate(entries, 1))


def _statement(entry: Any, source: str, at: int, dialect: Dialect, variables: bool) -> Statement:  # noqa: ANN401
    if not isinstance(entry, Mapping) or entry.keys() - _ELEMENTS:
        return Statement(source, at, puzzle="it has elements that are not understood", dialect=dialect)
    effect = entry.get("Effect")
    if effect not in ("Allow", "Deny"):
        return Statement(source, at, puzzle=f"its effect is {effect!r}", dialect=dialect)
    lookup = (lambda _: None) if variables else None

    def actions(key: str) -> ActionSet | None:
        return ActionSet(_texts(entry[key]), dialect) if key in entry else None

    def arns(key: str) -> ArnSet | None:
        return ArnSet(_texts(entry[key]), dialect, lookup) if key in entry else None

    try:
        return Statement(
            source, at, str(entry.get("Sid", "")), effect,
            actions("Action"), actions("NotAction"), arns("Resource"), arns("NotResource"),
            _principals(entry, "Principal"), _principals(entry, "NotPrincipal"),
            tuple(_conditions(entry.get("Condition", {}), variables)), variables, dialect,
        )  # fmt: skip
    except (ValueError, TypeError, AttributeError) as error:
        return Statement(source, at, effect=effect, puzzle=f"it is not understood: {error}", dialect=dialect)


def _texts(value: Any) -> list[str]:  # noqa: ANN401
    texts = [value] if isinstance(value, str) else list(value)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{value!r} is no list of texts")
    return texts


def _principals(entry: Mapping[str, Any], key: str) -> tuple[tuple[str, str], ...] | None:
    if key not in entry:
        return None
    value = entry[key]
    if isinstance(value, str):
        return ((value[:1], value),)
    return tuple((kind, text) for kind, names in value.items() for text in _texts(names))


def _conditions(block: Mapping[str, Any], variables: bool) -> Iterable[Condition]:
    for operator, keys in block.items():
        for key, values in keys.items():
            listed = values if isinstance(values, list) else [values]
            texts = (str(value).lower() if isinstance(value, bool) else str(value) for value in listed)
            yield Condition(operator, key, tuple(texts), variables)
