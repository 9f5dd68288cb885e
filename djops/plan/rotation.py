"""Changes that renew credentials without cutting anybody off: for a while the old ones hold as well."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from djops.compile.mysql_state import Account, AccountId
from djops.compile.sql import quote_account
from djops.plan.change import Change, Phase, Risk, Told
from djops.plan.mysql_changes import STATE_FACT, MysqlChange, SetPassword, merged
from djops.plan.operations import (
    AwsCall,
    KeepKey,
    KeepNextPassword,
    MarkSecret,
    NotePassword,
    Operation,
    SecretRef,
    Sql,
    StorePassword,
)
from djops.plan.s3_changes import KEY_FACT, ROTATED_FACT, S3Change

NEXT_FIELD = "database.password_next"
"""Beside the password that is handed out: the one that is about to take its place."""

ROTATING = "rotating"
"""Value of the fact about the password's state from when the next one is kept until it is handed out."""

UNTIL_FACT = "rotated_until"
"""Day from which on a plan ends what a rotation left in force; none when only ``--finish`` ends it."""


@dataclass(frozen=True, kw_only=True)
class RotatePassword(MysqlChange):
    """Put a new password in force beside the present one.

    The new one is kept before it is sent, and handed out only after the server took it: whatever ends
    djops in between, the password that is handed out is in force.
    """

    name: AccountId
    account: Account
    secret: str
    until: str = ""

    def _tell(self) -> Told:
        after = f"a new password, and the old one {_for_now(self.until)}"
        return Told(f"account {self.name}", "one password", after, Risk.KEEPS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        """Note until when both hold, keep, set with a mark in the same statement, hand out, note."""
        head = f"{quote_account(*self.name)} IDENTIFIED WITH {self.account.plugin} BY "
        parts = (head, SecretRef(self.secret, NEXT_FIELD), " RETAIN CURRENT PASSWORD")
        return (
            MarkSecret(self.secret, {UNTIL_FACT: self.until}),
            StorePassword(self.secret, self.name.user, NEXT_FIELD),
            Sql(parts, frame=("ALTER USER ", f" {merged({'rotating': True})}")),
            KeepNextPassword(self.secret),
            NotePassword(self.secret, self.name),
        )

    def reverse(self) -> Change:
        """Return itself: passwords are not taken back."""
        return self


@dataclass(frozen=True, kw_only=True)
class HandOutPassword(SetPassword):
    """Hand out the new password that the server has taken already; only after a rotation was cut short."""

    def _tell(self) -> Told:
        after = "its new password handed out"
        return Told(f"account {self.name}", "its password was renewed", after, Risk.KEEPS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        """Hand out, note."""
        return KeepNextPassword(self.secret), NotePassword(self.secret, self.name)


@dataclass(frozen=True, kw_only=True)
class FinishRotation(MysqlChange):
    """End the validity of the password from before a rotation."""

    name: AccountId

    def _tell(self) -> Told:
        before = "the password from before is valid too"
        return Told(f"account {self.name}", before, "", Risk.NARROWS, Phase.NARROW)

    def operations(self) -> tuple[Operation, ...]:
        """Return one ALTER USER, which takes the mark off as well."""
        parts = (f"{quote_account(*self.name)} DISCARD OLD PASSWORD",)
        return (Sql(parts, frame=("ALTER USER ", f" {merged({'rotating': None})}")),)

    def reverse(self) -> Change:
        """Return itself: a discarded password cannot be had back."""
        return self


@dataclass(frozen=True, kw_only=True)
class RotateKey(S3Change):
    """Make a second access key, and hand it out; the first one goes on working."""

    name: str
    key: str
    keep: KeepKey
    until: str = ""

    def _tell(self) -> Told:
        after = f"a new key, and {self.key} {_for_now(self.until)}"
        return Told(f"access key of {self.name}", self.key, after, Risk.KEEPS, Phase.JOIN)

    def operations(self) -> tuple[Operation, ...]:
        """Note the first key, lest it be taken for somebody else's; then make and keep the second."""
        return (
            MarkSecret(self.keep.path, {ROTATED_FACT: self.key, UNTIL_FACT: self.until}),
            AwsCall("iam", "CreateAccessKey", {"UserName": self.name}, keep_key=self.keep),
        )

    def reverse(self) -> Change:
        """Return itself: a key is not taken back."""
        return self


@dataclass(frozen=True, kw_only=True)
class RetireKey(S3Change):
    """Delete the access key from before a rotation."""

    name: str
    key: str
    keep: KeepKey

    def _tell(self) -> Told:
        return Told(f"access key of {self.name}", f"{self.key}, from before", "", Risk.NARROWS, Phase.NARROW)

    def operations(self) -> tuple[Operation, ...]:
        """Delete it, then forget it."""
        parameters = {"UserName": self.name, "AccessKeyId": self.key}
        return (
            AwsCall("iam", "DeleteAccessKey", parameters, missing_is_done=True),
            MarkSecret(self.keep.path, {ROTATED_FACT: ""}),
        )

    def reverse(self) -> Change:
        """Return itself: a deleted key cannot be had back."""
        return self


def rotated_key(facts: Mapping[str, str]) -> str:
    """Return the id of the key from before a rotation, empty when there is none.

    Args:
        facts: What is recorded beside a secret.
    """
    before = facts.get(ROTATED_FACT, "")
    # Noted before the second key is made: when djops ended there, the first one is still the only one.
    return "" if before == facts.get(KEY_FACT) else before


def is_overdue(facts: Mapping[str, str], today: dt.date) -> bool:
    """Tell whether what a rotation left in force should have ended.

    Args:
        facts: What is recorded beside a secret.
        today: The day.
    """
    until = facts.get(UNTIL_FACT, "")
    # Days are written so that they sort as text; what is no day at all was not written by djops.
    return bool(until) and until <= today.isoformat()


def end_overdue(
    found: Mapping[AccountId, Account],
    facts: Mapping[AccountId, Mapping[str, str]],
    keeps: Mapping[str, KeepKey],
    today: dt.date,
) -> list[Change]:
    """Plan the end of what rotations left in force for longer than they were given.

    Args:
        found: The accounts that there are.
        facts: What is recorded beside the secret of each of the project's accounts.
        keeps: Where each principal's access key is kept.
        today: The day.

    Returns:
        The changes, unordered.
    """
    changes: list[Change] = []
    for name, beside in facts.items():
        if not is_overdue(beside, today):
            continue
        why = (f"its rotation was to end on {beside[UNTIL_FACT]}",)
        there = found.get(name)
        # While the next password is not handed out, the one from before is the one that is.
        if there is not None and there.rotating and beside.get(STATE_FACT) != ROTATING:
            changes.append(FinishRotation(name=name, why=why))
        key = rotated_key(beside)
        if key and name.user in keeps:
            changes.append(RetireKey(name=name.user, key=key, keep=keeps[name.user], why=why))
    return changes


def _for_now(until: str) -> str:
    return f"until {until}" if until else "for now"
