"""Statements that mean something else on Ceph than on AWS, and what no reader looked into."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from djops.proof.iam_buckets import acl_in_force
from djops.proof.iam_conditions import Condition, parse_operator
from djops.proof.iam_environment import TRANSPORT, is_known_to_ceph
from djops.proof.iam_patterns import ArnSet, Dialect
from djops.proof.iam_state import IamCatalog
from djops.proof.iam_statements import ActionSet, Statement

_ALWAYS_SET = ("aws:CurrentTime", "aws:EpochTime", "aws:SourceIp", "aws:username", "aws:PrincipalType")


@dataclass(frozen=True)
class IamWarning:
    """Something about a statement that its author may not know.

    Attributes:
        where: The statement, user or bucket.
        text: What about it.
        fails_open: Whether it lets through what it seems to refuse.
    """

    where: str
    text: str
    fails_open: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def warnings(
    catalog: IamCatalog, dialect: Dialect, own: Iterable[Statement], buckets: Iterable[Statement]
) -> Iterable[IamWarning]:
    """Yield everything worth a warning.

    Args:
        catalog: What the server holds.
        dialect: Whose reading of policies applies.
        own: Statements of users and groups.
        buckets: Statements of bucket policies.
    """
    yield from _unseen(catalog)
    for statement in own:
        if dialect == "ceph":
            yield from _on_ceph(statement)
            if statement.principals is not None or statement.not_principals is not None:
                yield IamWarning(statement.name, "Ceph does not look at whom a policy of a user names")
    for statement in buckets:
        if dialect == "ceph":
            yield from _on_ceph(statement)
            yield from _principals(statement)


def _unseen(catalog: IamCatalog) -> Iterable[IamWarning]:
    for role in catalog.roles:
        yield IamWarning(f"role {role}", "what those who may assume it can do is not looked into")
    for one in catalog.unread:
        yield IamWarning("S3 server", f"{one} cannot be read")
    for name, bucket in catalog.buckets.items():
        if acl_in_force(bucket):
            yield IamWarning(
                f"bucket {name}", "access control lists of its objects may open them to everybody", True
            )


def _on_ceph(statement: Statement) -> Iterable[IamWarning]:
    denies = statement.effect == "Deny"
    if statement.actions is None and statement.not_actions is not None:
        yield IamWarning(statement.name, "Ceph never applies a statement with NotAction", denies)
    for text in _strange_actions(statement.actions, statement.not_actions):
        yield IamWarning(statement.name, text, not denies)
    for text in _strange_arns(statement.resources, statement.not_resources):
        yield IamWarning(statement.name, text, denies)
    for condition in statement.conditions:
        for text in _strange_condition(condition):
            yield IamWarning(statement.name, f"{condition}: {text}", denies)


def _strange_actions(*sets: ActionSet | None) -> Iterable[str]:
    for pattern in (pattern for one in sets if one is not None for pattern in one.patterns):
        if pattern.startswith("*") and pattern != "*":
            yield f"Ceph takes {pattern} for every action"


def _strange_arns(*sets: ArnSet | None) -> Iterable[str]:
    for pattern in (pattern for one in sets if one is not None for pattern in one.patterns):
        yield from _strange_pattern(pattern)


def _strange_pattern(pattern: str) -> Iterable[str]:
    if "${" in pattern:
        yield f"Ceph puts nothing in the place of the variable in {pattern}"
    if "[" in pattern:
        yield f"Ceph reads [...] in {pattern} as a set of characters"
    if "\\" in pattern:
        yield f"Ceph reads a backslash in {pattern} as taking away the next character's meaning"


def _strange_condition(condition: Condition) -> Iterable[str]:
    parsed = parse_operator(condition.operator, "ceph")
    if parsed is None:
        yield "Ceph does not know the operator"
        return
    if _kills(condition):
        yield "Ceph's gateway ends when it evaluates this: the last value must be a whole variable"
    key, satisfied = condition.key, parsed.if_exists or parsed.quantifier == "ForAllValues"
    if key == TRANSPORT and "true" not in (value.lower() for value in condition.values):
        if parsed.base != "Null":
            yield "Ceph sets the key over TLS only and never to false; test with Null instead"
    elif key == "aws:username" and not all(value == "${aws:username}" for value in condition.values):
        yield "Ceph compares the user's id, not the name"
    elif not is_known_to_ceph(key):
        held = "as if the key were absent" if parsed.base == "Null" or satisfied else "so this never holds"
        yield f"Ceph never sets this key, {held}"
    elif parsed.negated and not satisfied and key not in (*_ALWAYS_SET, "s3:max-keys"):
        yield "Ceph does not let it hold for requests without the key, as AWS does"
    if key in ("s3:prefix", "s3:delimiter") and "" in condition.values:
        yield "Ceph takes an empty value for none"
    if key == "s3:max-keys":
        yield "Ceph sets this key to 1000 where the request names none"
    if key == "aws:EpochTime" and parsed.base.startswith("Numeric"):
        yield "Ceph writes this time as a date, which is no number"
    if parsed.base == "StringLike":
        for value in condition.values:
            yield from _strange_pattern(value)
    elif any("${" in value and not value.startswith("$") for value in condition.values):
        yield "Ceph puts nothing in the place of a variable within a text"


def _kills(condition: Condition) -> bool:
    """Whether Ceph 20.2.4 cuts a variable's name out of a last value that is too short for one."""
    values = condition.values
    return any(value.startswith("$") for value in values) and len(values[-1]) < len("${}")


def _principals(statement: Statement) -> Iterable[IamWarning]:
    denies = statement.effect == "Deny"
    for kind, text in (*(statement.principals or ()), *(statement.not_principals or ())):
        if kind == "AWS" and text != "*" and ("*" in text or "?" in text):
            yield IamWarning(statement.name, f"{text} names nobody: a principal has no wildcards", denies)
        elif kind not in ("AWS", "*"):
            yield IamWarning(statement.name, f"Ceph knows no {kind} {text}", denies)
    for text in _accounts(() if denies else statement.principals):
        yield IamWarning(statement.name, f"Ceph opens it to all users of account {text}", True)
    for text in _accounts(statement.not_principals):
        yield IamWarning(statement.name, f"Ceph spares all users of account {text}", denies)


def _accounts(principals: tuple[tuple[str, str], ...] | None) -> list[str]:
    named = [text for kind, text in principals or () if kind == "AWS"]
    return [text for text in named if text.endswith(":root") or text.isalnum()]
