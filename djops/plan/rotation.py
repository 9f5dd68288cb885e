"""Changes that renew credentials without cutting anybody off: for a while the old ones hold as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from djops.compile.mysql_state import Account, AccountId
from djops.compile.sql import quote_account, quote_string
from djops.plan.change import Change, Phase, Risk, Told
from djops.plan.mysql_changes import MysqlChange, SetPassword
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


def _mark(rotating: bool | None) -> str:
    return f"ATTRIBUTE {quote_string(json.dumps({'djops': {'rotating': rotating}}))}"


@dataclass(frozen=True, kw_only=True)
class RotatePassword(MysqlChange):
    """Put a new password in force beside the present one.

    The new one is kept before it is sent, and handed out only after the server took it: whatever ends
    djops in between, the password that is handed out is in force.
    """

    name: AccountId
    account: Account
    secret: str

    def _tell(self) -> Told:
        after = "a new password, and the old one for now"
        return Told(f"account {self.name}", "one password", after, Risk.KEEPS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        """Keep, set with a mark in the same statement, hand out, note."""
        head = f"ALTER USER {quote_account(*self.name)} IDENTIFIED WITH {self.account.plugin} BY "
        tail = f" RETAIN CURRENT PASSWORD {_mark(True)}"
        return (
            StorePassword(self.secret, self.name.user, NEXT_FIELD),
            Sql((head, SecretRef(self.secret, NEXT_FIELD), tail)),
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
        return (Sql((f"ALTER USER {quote_account(*self.name)} DISCARD OLD PASSWORD {_mark(None)}",)),)

    def reverse(self) -> Change:
        """Return itself: a discarded password cannot be had back."""
        return self


@dataclass(frozen=True, kw_only=True)
class RotateKey(S3Change):
    """Make a second access key, and hand it out; the first one goes on working."""

    name: str
    key: str
    keep: KeepKey

    def _tell(self) -> Told:
        after = f"a new key, and {self.key} for now"
        return Told(f"access key of {self.name}", self.key, after, Risk.KEEPS, Phase.JOIN)

    def operations(self) -> tuple[Operation, ...]:
        """Note the first key, lest it be taken for somebody else's; then make and keep the second."""
        return (
            MarkSecret(self.keep.path, {ROTATED_FACT: self.key}),
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
