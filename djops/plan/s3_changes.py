"""Changes to an S3 server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from djops.compile.packing import allows, atoms, listed, without
from djops.compile.s3 import POLICY_NAME, Bucket, Document, IamUser, tls_only
from djops.plan.change import Change, Phase, Risk, Told
from djops.plan.operations import AwsCall, KeepKey, MarkSecret, Operation, StorePassword

KEY_FACT = "s3_access_key"
"""Beside a secret: the id of the access key that is kept there."""

STORES_FACT = "s3_stores"
"""Beside a secret: the stores that the kept key is filed under."""

ADOPTED_FACT = "s3_adopted_keys"
"""Beside a secret: ids of keys from before djops took the user over, which hold for the time being."""

ROTATED_FACT = "s3_rotated_keys"
"""Beside a secret: ids of keys from before a rotation, which hold for the time being."""

BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def canonical(document: Document | None) -> str:
    """Write a policy so that equal policies give equal text."""
    return "" if document is None else json.dumps(document, sort_keys=True, separators=(",", ":"))


def same_policy(one: Document | None, other: Document | None) -> bool:
    """Tell whether two policies of a bucket say the same, however the server has written them down.

    AWS gives a list of one back as its only member, and ``"*"`` for ``{"AWS": "*"}``.

    Args:
        one: A policy; ``None`` for none.
        other: Another.
    """
    return (one is None) == (other is None) and _said(one) == _said(other)


def _said(document: Document | None) -> list[str]:
    statements = [one for one in listed((document or {}).get("Statement")) if isinstance(one, Mapping)]
    told = [{key: _usual(value) for key, value in one.items() if key != "Sid"} for one in statements]
    return sorted(json.dumps(one, sort_keys=True) for one in told)


def _usual(value: Any) -> Any:  # noqa: ANN401  plain data
    if isinstance(value, Mapping):
        inner = {key: _usual(one) for key, one in value.items()}
        return ["*"] if inner == {"AWS": ["*"]} else inner
    return sorted({str(one).lower() if isinstance(one, bool) else str(one) for one in listed(value)})


def policy_risk(before: Document | None, after: Document | None) -> Risk:
    """Tell whether replacing one policy by another opens or only closes.

    Args:
        before: The policy in force.
        after: The policy to come.

    Returns:
        ``NARROWS`` when nothing is opened, ``WIDENS`` otherwise.
    """
    if before is None:  # as for everybody of a new project
        return Risk.WIDENS if allows(after) else Risk.NARROWS
    opens = atoms(after, "Allow") - atoms(before, "Allow") or atoms(before, "Deny") - atoms(after, "Deny")
    return Risk.WIDENS if opens else Risk.NARROWS


def taken_out(found: Document, before: Document, after: Document) -> Document:
    """Take out of a policy what another one loses, and nothing else.

    Args:
        found: The policy in force, which may hold more or less than ``before``.
        before: A policy.
        after: The same with fewer permissions.

    Returns:
        ``found`` without the permissions that ``before`` has and ``after`` has not; what a condition of an
        unknown form limits stays as it is.
    """
    return without(found, atoms(before, "Allow") - atoms(after, "Allow"))


_OURS = frozenset({
    "s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket",
    "s3:PutObject",
})  # fmt: skip
_ON_BUCKETS = frozenset({"s3:GetBucketLocation", "s3:ListBucket"})


def _as_ours(statement: object) -> bool:
    """Tell whether a statement has the form of those that djops writes."""
    if not isinstance(statement, Mapping):
        return False
    names, actions = statement.keys() - {"Condition"}, set(map(str, listed(statement.get("Action"))))
    if names != {"Effect", "Action", "Resource"}:
        return False
    if statement["Effect"] == "Deny":
        return actions == {"s3:CreateBucket"}
    whole = [one for one in listed(statement["Resource"]) if not str(one).endswith("/*") or one == "*"]
    return actions <= (_ON_BUCKETS if whole else _OURS) and ("Condition" in statement) == (
        "s3:ListBucket" in actions
    )


def _told(statement: object) -> str:
    """Say what a statement of somebody else's says, in a few words."""
    if not isinstance(statement, Mapping):
        return "what is no statement"
    parts = [str(statement.get("Effect"))]
    for key in ("Action", "NotAction", "Resource", "NotResource"):
        if key in statement:
            some = [str(one) for one in listed(statement[key])]
            more = f" and {len(some) - 2} more" if len(some) > 2 else ""
            word = {"NotAction": "all but ", "Resource": "on ", "NotResource": "on all but "}.get(key, "")
            parts.append(word + ", ".join(some[:2]) + more)
    return " ".join(parts)


def policy_summary(document: Document | None) -> str:
    """Say in a few words what a policy of ours opens, and what stands in it that is not ours.

    Args:
        document: The policy; ``None`` for none.
    """
    if document is None:
        return ""
    read: set[str] = set()
    write: set[str] = set()
    foreign: list[Any] = []
    for statement in listed(document.get("Statement")):
        if not _as_ours(statement):
            foreign.append(statement)
        elif statement["Effect"] == "Allow":
            target = write if "s3:PutObject" in listed(statement["Action"]) else read
            paths = (str(resource).split("/") for resource in listed(statement["Resource"]))
            target.update(path[-2] for path in paths if len(path) > 1)
    parts = [f"get {', '.join(sorted(read))}"] if read else []
    parts += [f"get and put {', '.join(sorted(write))}"] if write else []
    parts += [_told(statement) for statement in foreign[:2]]
    parts += [f"{len(foreign) - 2} more statements that are not djops'"] if len(foreign) > 2 else []
    return "; ".join(parts) or "no objects"


class S3Change(Change):
    """A change to the S3 server."""

    system = "s3"


@dataclass(frozen=True, kw_only=True)
class CreatePrincipal(S3Change):
    """Make an IAM user below the project's path.

    Attributes:
        boundary: ARN of its permissions boundary; empty for none.
    """

    name: str
    path: str
    boundary: str = ""

    def _tell(self) -> Told:
        return Told(f"user {self.name}", "", "created", Risk.KEEPS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        """Return one CreateUser."""
        bound = {"PermissionsBoundary": self.boundary} if self.boundary else {}
        return (AwsCall("iam", "CreateUser", {"UserName": self.name, "Path": self.path, **bound}),)

    def reverse(self) -> Change:
        """Return the deletion."""
        user = IamUser(boundary=self.boundary)
        return DeletePrincipal(name=self.name, path=self.path, user=user, why=self.why)


@dataclass(frozen=True, kw_only=True)
class SetBoundary(S3Change):
    """Give a user its permissions boundary, without which djops' key may not give it any right.

    Attributes:
        found: ARN of the boundary that it has; empty for none.
        wanted: ARN of the one that it shall have; empty for none.
    """

    name: str
    found: str
    wanted: str

    def _tell(self) -> Told:
        risk = Risk.WIDENS if self.found else Risk.NARROWS
        # First, whatever it does: until then the server lets djops narrow nothing either.
        return Told(f"boundary of {self.name}", self.found, self.wanted, risk, Phase.ADOPT)

    def operations(self) -> tuple[Operation, ...]:
        """Return one PutUserPermissionsBoundary or DeleteUserPermissionsBoundary."""
        who = {"UserName": self.name}
        if not self.wanted:
            return (AwsCall("iam", "DeleteUserPermissionsBoundary", who, missing_is_done=True),)
        put = {**who, "PermissionsBoundary": self.wanted}
        return (AwsCall("iam", "PutUserPermissionsBoundary", put),)

    def reverse(self) -> Change:
        """Return the way back, which an administrator alone may go."""
        return SetBoundary(name=self.name, found=self.wanted, wanted=self.found, why=self.why)


@dataclass(frozen=True, kw_only=True)
class DeletePrincipal(S3Change):
    """Delete an IAM user with its keys, policies and memberships; keys go first."""

    name: str
    path: str
    user: IamUser

    def _tell(self) -> Told:
        return Told(f"user {self.name}", "there", "", Risk.DESTROYS, Phase.NARROW)

    def operations(self) -> tuple[Operation, ...]:
        """Return the deletions, each of which may find its work done."""

        def call(action: str, **parameters: str) -> AwsCall:
            return AwsCall("iam", action, {"UserName": self.name, **parameters}, missing_is_done=True)

        return (
            *(call("DeleteAccessKey", AccessKeyId=key) for key in self.user.keys),
            *(call("DeleteUserPolicy", PolicyName=name) for name in self.user.policies),
            *(call("DetachUserPolicy", PolicyArn=arn) for arn in self.user.attached),
            *(call("RemoveUserFromGroup", GroupName=group) for group in self.user.groups),
            call("DeleteUser"),
        )

    def reverse(self) -> Change:
        """Return the creation."""
        return CreatePrincipal(name=self.name, path=self.path, boundary=self.user.boundary, why=self.why)


@dataclass(frozen=True, kw_only=True)
class PutPolicy(S3Change):
    """Replace, make or remove one inline policy of a user, in one atomic request.

    Attributes:
        moved: Whether other policies hold by then what goes, so that it is done last.
    """

    name: str
    policy: str
    found: Document | None
    wanted: Document | None
    moved: bool = False

    def _tell(self) -> Told:
        before = policy_summary(self.found) if self.policy == POLICY_NAME else ("there" if self.found else "")
        after = policy_summary(self.wanted)
        after += " (its text was changed)" if after and after == before else ""
        return Told(f"policy {self.policy} of {self.name}", before, after, *self._effect)

    @cached_property
    def _effect(self) -> tuple[Risk, Phase]:
        if self.moved:
            return Risk.KEEPS, Phase.CLEAN
        risk = policy_risk(self.found, self.wanted)
        # A policy that is not there yet belongs behind the user it is for, even when it opens nothing.
        return risk, Phase.NARROW if risk is Risk.NARROWS and self.found is not None else Phase.WIDEN

    @property
    def phase(self) -> Phase:
        """When it is carried out; thousands are put in order before any is told."""
        return self._effect[1]

    def operations(self) -> tuple[Operation, ...]:
        """Return one PutUserPolicy or DeleteUserPolicy."""
        names = {"UserName": self.name, "PolicyName": self.policy}
        if self.wanted is None:
            return (AwsCall("iam", "DeleteUserPolicy", names, missing_is_done=True),)
        return (AwsCall("iam", "PutUserPolicy", {**names, "PolicyDocument": canonical(self.wanted)}),)

    def reverse(self) -> Change:
        """Return the opposite."""
        return PutPolicy(
            name=self.name, policy=self.policy, found=self.wanted, wanted=self.found, why=self.why
        )


@dataclass(frozen=True, kw_only=True)
class Detach(S3Change):
    """Take a managed policy or a group away from a user."""

    name: str
    policy_arn: str = ""
    group: str = ""

    def _tell(self) -> Told:
        return Told(
            f"user {self.name}",
            f"policy {self.policy_arn}" if self.policy_arn else f"member of group {self.group}",
            "",
            Risk.NARROWS,
            Phase.NARROW,
        )

    def operations(self) -> tuple[Operation, ...]:
        """Return one request."""
        if self.policy_arn:
            parameters = {"UserName": self.name, "PolicyArn": self.policy_arn}
            return (AwsCall("iam", "DetachUserPolicy", parameters, missing_is_done=True),)
        parameters = {"UserName": self.name, "GroupName": self.group}
        return (AwsCall("iam", "RemoveUserFromGroup", parameters, missing_is_done=True),)

    def reverse(self) -> Change:
        """Return the opposite."""
        return Attach(name=self.name, policy_arn=self.policy_arn, group=self.group, why=self.why)


@dataclass(frozen=True, kw_only=True)
class Attach(S3Change):
    """Give a managed policy of the user's own; or a group back, as the reverse of :class:`Detach`."""

    name: str
    policy_arn: str = ""
    group: str = ""

    def _tell(self) -> Told:
        return Told(
            f"user {self.name}",
            "",
            f"policy {self.policy_arn}" if self.policy_arn else f"member of group {self.group}",
            Risk.WIDENS,
            Phase.WIDEN,
        )

    def operations(self) -> tuple[Operation, ...]:
        """Return one request."""
        if self.policy_arn:
            parameters = {"UserName": self.name, "PolicyArn": self.policy_arn}
            return (AwsCall("iam", "AttachUserPolicy", parameters),)
        return (AwsCall("iam", "AddUserToGroup", {"UserName": self.name, "GroupName": self.group}),)

    def reverse(self) -> Change:
        """Return the opposite."""
        return Detach(name=self.name, policy_arn=self.policy_arn, group=self.group, why=self.why)


@dataclass(frozen=True, kw_only=True)
class CreateKey(S3Change):
    """Make an access key and keep it in the secrets server, which alone hands it out."""

    name: str
    keep: KeepKey

    def _tell(self) -> Told:
        return Told(
            f"access key of {self.name}", "", f"created, kept at {self.keep.path}", Risk.KEEPS, Phase.JOIN
        )

    def operations(self) -> tuple[Operation, ...]:
        """Return one CreateAccessKey, whose answer is kept at once."""
        return (AwsCall("iam", "CreateAccessKey", {"UserName": self.name}, keep_key=self.keep),)

    def reverse(self) -> Change:
        """Return the deletion of whichever key is kept."""
        return DeleteKey(name=self.name, key="", keep=self.keep, why=self.why)


@dataclass(frozen=True, kw_only=True)
class DeleteKey(S3Change):
    """Delete an access key that is not the one kept in the secrets server."""

    name: str
    key: str
    keep: KeepKey

    def _tell(self) -> Told:
        return Told(f"access key of {self.name}", self.key or "the kept key", "", Risk.NARROWS, Phase.NARROW)

    def operations(self) -> tuple[Operation, ...]:
        """Return one DeleteAccessKey, or the note that no key is kept any more."""
        if not self.key:
            return (MarkSecret(self.keep.path, {KEY_FACT: ""}),)
        parameters = {"UserName": self.name, "AccessKeyId": self.key}
        return (AwsCall("iam", "DeleteAccessKey", parameters, missing_is_done=True),)

    def reverse(self) -> Change:
        """Return the creation of another key: a deleted one cannot be had back."""
        return CreateKey(name=self.name, keep=self.keep, why=self.why)


def adopted_keys(facts: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ids of keys that hold for the time being.

    Args:
        facts: What is recorded beside a secret.
    """
    return tuple(key for key in facts.get(ADOPTED_FACT, "").split(",") if key)


def held_keys(facts: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ids of keys that hold beside the one that is handed out.

    Args:
        facts: What is recorded beside a secret.
    """
    return (*adopted_keys(facts), *(key for key in facts.get(ROTATED_FACT, "").split(",") if key))


@dataclass(frozen=True, kw_only=True)
class AdoptUser(S3Change):
    """Bring an IAM user that djops did not make below the project's path; its keys hold for a while.

    It comes before the account of the same name is taken over, by which a run cut short is known.

    Attributes:
        path: Where it is; the same as ``to`` once an administrator has moved it.
    """

    name: str
    path: str
    to: str
    user: IamUser
    keep: KeepKey

    def _tell(self) -> Told:
        before, after = f"at {self.path}", f"at {self.to}"
        if self.path == self.to:
            before, after = "not made by djops", "taken over"
        return Told(f"user {self.name}", before, after, Risk.KEEPS, Phase.ADOPT)

    def operations(self) -> tuple[Operation, ...]:
        """Note the keys first, lest they be taken for somebody else's and deleted."""
        move = {"UserName": self.name, "NewPath": self.to}
        noted = (
            StorePassword(self.keep.path, self.name),
            MarkSecret(self.keep.path, {ADOPTED_FACT: ",".join(sorted(self.user.keys))}),
        )
        if self.path == self.to:
            return noted
        return (*noted, AwsCall("iam", "UpdateUser", move, as_administrator=True))

    def reverse(self) -> Change:
        """Return the way back."""
        return AdoptUser(
            name=self.name, path=self.to, to=self.path, user=self.user, keep=self.keep, why=self.why
        )


@dataclass(frozen=True, kw_only=True)
class ForgetKeys(S3Change):
    """Note that no key from before the take-over holds any more."""

    name: str
    keys: tuple[str, ...]
    keep: KeepKey

    def _tell(self) -> Told:
        return Told(f"keys of {self.name} from before", ", ".join(self.keys), "", Risk.KEEPS, Phase.CLEAN)

    def operations(self) -> tuple[Operation, ...]:
        """Return one note."""
        return (MarkSecret(self.keep.path, {ADOPTED_FACT: ""}),)

    def reverse(self) -> Change:
        """Return itself: deleted keys cannot be had back."""
        return self


@dataclass(frozen=True, kw_only=True)
class ProtectBucket(S3Change):
    """Bring back what protects a bucket: versioning, public-access blocks, its policy or none."""

    name: str
    found: Bucket
    wanted: Bucket

    def _tell(self) -> Told:
        opens = (
            (self.found.versioned and not self.wanted.versioned)
            or (self.found.blocks_public and not self.wanted.blocks_public)
            or _opens(self.found.policy, self.wanted.policy)
        )
        risk, phase = (Risk.WIDENS, Phase.WIDEN) if opens else (Risk.NARROWS, Phase.NARROW)
        before, after = _protection(self.name, self.found), _protection(self.name, self.wanted)
        return Told(f"bucket {self.name}", before, after, risk, phase)

    def operations(self) -> tuple[Operation, ...]:
        """Return the requests for what differs."""
        calls: list[Operation] = []
        bucket = {"Bucket": self.name}
        if self.found.blocks_public != self.wanted.blocks_public:
            blocks = dict.fromkeys(BLOCKS, self.wanted.blocks_public)
            body = {**bucket, "PublicAccessBlockConfiguration": blocks}
            calls.append(AwsCall("s3", "PutPublicAccessBlock", body))
        if not same_policy(self.found.policy, self.wanted.policy):
            if self.wanted.policy is None:
                calls.append(AwsCall("s3", "DeleteBucketPolicy", bucket, missing_is_done=True))
            else:
                body = {**bucket, "Policy": canonical(self.wanted.policy)}
                calls.append(AwsCall("s3", "PutBucketPolicy", body))
        if self.found.versioned != self.wanted.versioned:
            status = "Enabled" if self.wanted.versioned else "Suspended"
            body = {**bucket, "VersioningConfiguration": {"Status": status}}
            calls.append(AwsCall("s3", "PutBucketVersioning", body))
        return tuple(calls)

    def reverse(self) -> Change:
        """Return the opposite."""
        return ProtectBucket(name=self.name, found=self.wanted, wanted=self.found, why=self.why)


def _opens(found: Document | None, wanted: Document | None) -> bool:
    if same_policy(found, wanted):
        return False
    return allows(wanted) or policy_risk(found, wanted) is Risk.WIDENS


def same_protection(one: Bucket, other: Bucket) -> bool:
    """Tell whether two buckets are protected in the same way.

    Args:
        one: A bucket.
        other: Another.
    """
    flags = (one.versioned, one.blocks_public) == (other.versioned, other.blocks_public)
    return flags and same_policy(one.policy, other.policy)


def _protection(name: str, bucket: Bucket) -> str:
    policy = "no bucket policy" if bucket.policy is None else "a bucket policy"
    return ", ".join(
        (
            "versioned" if bucket.versioned else "not versioned",
            "public access blocked" if bucket.blocks_public else "public access not blocked",
            "TLS only" if same_policy(bucket.policy, tls_only(name)) else policy,
        )
    )
