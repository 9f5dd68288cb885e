"""Random policies of everything Ceph takes: users, groups, attached policies and policies of buckets."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

AGENT = "proof/1.0"
PREFIXES = ("a/", "ab/", "A/", "b/x/", "b/")
KEYS = ("a/1", "a/[1]", "ab/1", "A/1", "b/x/1", "b/c:d", "b/ü", "top")
MISSING = ("a/missing", "b/x/missing", "nothing")
GONE = "2001-01-01T00:00:00Z"
FAR = "2101-01-01T00:00:00Z"

_ACTIONS = (
    "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:ListBucketVersions",
    "s3:GetObjectVersion", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
    "s3:ListBucketMultipartUploads", "s3:GetBucketLocation", "s3:GetObjectAcl", "s3:GetObjectTagging",
    "s3:PutObjectTagging", "s3:GetBucketVersioning", "s3:CreateBucket",
)  # fmt: skip
_WIDE_ACTIONS = (
    "*", "s3:*", "s3:Get*", "s3:*Object", "S3:GETOBJECT", "s3:?etObject", "s3:[GP]*Object", "s3:[!D]*",
    "s3:List*", "*Bucket", "s3:\\GetObject", "s3:Put*", "s3:*Upload*", "s3:*Version*",
)  # fmt: skip
_KEY_PATTERNS = (
    "*", "a/*", "ab/*", "b/*", "b/x/*", "a/1", "?/1", "a?/*", "*/1", "[ab]/*", "[!a]/*", "[a-b]/?",
    "a/\\[1\\]",
    "*1", "A/*", "${user}/*", "b/c?d", "b/?", "b/??", "to\\p", "[!!-Z]/*", "a/[1]", "[z-a]/*", "a/[",
    "[]a]/*",
)  # fmt: skip
_PREFIX_VALUES = (
    "",
    "a/",
    "a/*",
    "a*",
    "b/",
    "b/*",
    "b/x/*",
    "[ab]/*",
    "A/",
    "?/",
    "*",
    "[[:upper:]]/*",
    "x${aws:username}",
)


@dataclass(frozen=True)
class Names:
    """Who and what there is in a world.

    Attributes:
        account: The account's id.
        path: The IAM path of its users.
        users: Names with ids.
        groups: Names of groups.
        buckets: Names of buckets.
    """

    account: str
    path: str
    users: dict[str, str]
    groups: tuple[str, ...]
    buckets: tuple[str, ...]


@dataclass
class World:
    """Policies for everybody.

    Attributes:
        users: For each user a policy document, or none.
        second: Another one.
        groups: For each group a policy document, or none.
        members: The groups of each user.
        attached: Managed policies by user or group.
        buckets: For each bucket a policy document, or none.
        acls: For each bucket a canned access control list.
        blocks: For each bucket the public-access blocks.
    """

    users: dict[str, Any] = field(default_factory=dict)
    second: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    attached: dict[str, str] = field(default_factory=dict)
    buckets: dict[str, Any] = field(default_factory=dict)
    acls: dict[str, str] = field(default_factory=dict)
    blocks: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Policies:
    """Makes random policies.

    Args:
        seed: Equal seeds make equal policies.
        names: Who and what there is.
    """

    def __init__(self, seed: int, names: Names) -> None:
        self.random = random.Random(seed)
        self.names = names

    def world(self) -> World:
        """Make policies for everybody."""
        names, made = self.names, World()
        made.users = {user: self._often(0.9, self.document) for user in names.users}
        made.second = {user: self._often(0.25, self.document) for user in names.users}
        made.groups = {group: self._often(0.7, self.document) for group in names.groups}
        made.members = {user: tuple(g for g in names.groups if self._chance(0.3)) for user in names.users}
        for holder in (*names.users, *names.groups):
            if self._chance(0.12):
                made.attached[holder] = self._one(
                    ("AmazonS3ReadOnlyAccess", "AmazonS3FullAccess", "IAMFullAccess")
                )
        made.buckets = {bucket: self._often(0.6, lambda: self.document(True)) for bucket in names.buckets}
        canned = ("private", "private", "public-read", "public-read-write", "authenticated-read")
        made.acls = {bucket: self._one(canned) for bucket in names.buckets}
        blocks = ((), (), ("IgnorePublicAcls",), ("RestrictPublicBuckets",), ("BlockPublicAcls",))
        made.blocks = {bucket: self._one(blocks) for bucket in names.buckets}
        return made

    def document(self, of_bucket: bool = False) -> dict[str, Any]:
        """Make one policy."""
        made: dict[str, Any] = {"Version": self._one(("2012-10-17", "2012-10-17", "2008-10-17"))}
        if not of_bucket and self._chance(0.15):
            made["Id"] = "one"
        if self._chance(0.5):
            listed = self._focused(of_bucket)
        else:
            listed = [self.statement(of_bucket) for _ in range(self.random.randint(1, 4))]
            if self._chance(0.1 if of_bucket else 0.4):
                listed.append(self._wide(of_bucket))
        made["Statement"] = listed[0] if len(listed) == 1 and self._chance(0.3) else listed
        return made

    def _wide(self, of_bucket: bool) -> dict[str, Any]:
        """Make a statement that allows nearly everything."""
        action, resource = self._one(("s3:*", "*")), self._one(("*", "*", self._resource()))
        whom = {"Principal": "*"} if of_bucket else {}
        return {"Effect": "Allow", "Action": action, "Resource": resource, **whom}

    def _focused(self, of_bucket: bool) -> list[dict[str, Any]]:
        """Make statements of which one part alone decides."""
        made: dict[str, Any] = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        kind = self._one(("condition",) * 3 + ("resource", "action"))
        if of_bucket:
            made["Principal"] = "*"
            kind = self._one((kind, "principal", "principal"))
        if kind == "condition":
            made["Condition"] = self._conditions()
        elif kind == "principal":
            self._name_principals(made)
        else:
            name = self._one(("", "", "Not")) + kind.capitalize()
            del made[kind.capitalize()]
            made[name] = self._actions() if kind == "action" else self._resources()
        if "NotPrincipal" in made or self._chance(0.4):
            return [made | {"Effect": "Deny"}, self._wide(of_bucket)]
        return [made]

    def statement(self, of_bucket: bool) -> dict[str, Any]:
        """Make one statement."""
        made: dict[str, Any] = {"Effect": "Allow" if self._chance(0.68) else "Deny"}
        if self._chance(0.2):
            made["Sid"] = "S1"
        kind = self._one(("Action",) * 9 + ("NotAction", "both"))
        if kind != "NotAction":
            made["Action"] = self._actions()
        if kind != "Action":
            made["NotAction"] = self._actions()
        kind = self._one(("Resource",) * 8 + ("NotResource", "NotResource", "both", "none"))
        if kind in ("Resource", "both"):
            made["Resource"] = self._resources()
        if kind in ("NotResource", "both"):
            made["NotResource"] = self._resources()
        if self._chance(0.4):
            made["Condition"] = self._conditions()
        if of_bucket or self._chance(0.03):
            self._name_principals(made)
        return made

    def _actions(self) -> Any:
        return self._some(lambda: self._one(_ACTIONS if self._chance(0.6) else _WIDE_ACTIONS))

    def _resources(self) -> Any:
        return self._some(self._resource, most=4)

    def _resource(self) -> str:
        bucket = self._one(self.names.buckets)
        pattern = self._one(_KEY_PATTERNS)
        whole = (
            "*",
            "arn:aws:s3:::*",
            f"arn:aws:s3:::{bucket[:-1]}?",
            f"arn:*:*:::{bucket}/*",
            f"arn:aws:s3:::{bucket}*",
        )
        kind = self.random.random()
        if kind < 0.3:
            return f"arn:aws:s3:::{bucket}"
        return f"arn:aws:s3:::{bucket}/{pattern}" if kind < 0.8 else self._one(whole)

    def _conditions(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for _ in range(self._one((1, 1, 1, 2))):
            operator, key, values = self._one(
                (
                    self._text,
                    self._text,
                    self._number,
                    self._date,
                    self._bool,
                    self._address,
                    self._null,
                    self._arn,
                )
            )()
            if self._chance(0.2) and operator != "Null":
                operator += "IfExists"
            made.setdefault(operator, {})[key] = values
        return made

    def _text(self) -> tuple[str, str, Any]:
        operator = self._one(
            (
                "StringEquals", "StringNotEquals", "StringLike", "StringLike", "StringLike", "StringNotLike",
                "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "ForAnyValue:StringEquals",
                "ForAllValues:StringEquals", "ForAnyValue:StringLike", "ForAllValues:StringLike",
                "ForAnyValue:StringEqualsIgnoreCase", "ForAllValues:StringEqualsIgnoreCase",
            )
        )  # fmt: skip
        user = self._one(tuple(self.names.users))
        known: Sequence[tuple[str, Sequence[str]]] = (
            *((("s3:prefix", _PREFIX_VALUES),) * 6),
            ("s3:delimiter", ("/", "", "*")),
            *((("aws:username", (user, self.names.users[user], "*", "${aws:username}", "anonymous")),) * 3),
            ("aws:UserAgent", ("proof*", "Proof*", AGENT, "x")),
            ("aws:Referer", ("*", "x")),
            ("aws:PrincipalType", ("User", "user", "Anonymous")),
            ("aws:PrincipalArn", (f"arn:aws:iam::{self.names.account}:user{self.names.path}{user}", "*")),
            ("S3:Prefix", ("a/*", "*")),
            ("s3:x-amz-acl", ("", "private", "bucket-owner-full-control", "*")),
            ("s3:max-keys", ("1000", "5", "*")),
            ("lab:nothing", ("*", "x")),
            ("s3:ExistingObjectTag/color", ("red", "*")),
            ("sts:authentication", ("false", "true")),
        )
        key, values = self._one(known)
        made = self._some(lambda: self._one(values), most=3)
        if isinstance(made, list) and any(value.startswith("$") for value in made) and len(made[-1]) < 3:
            # Ceph 20.2.4 takes the last value for the variable's name, and ends when it is too short.
            made.append("${aws:username}")
        return operator, key, made

    def _number(self) -> tuple[str, str, Any]:
        order = self._one(
            ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
        )
        key = self._one(("s3:max-keys", "s3:max-keys", "aws:EpochTime", "aws:CurrentTime", "s3:prefix"))
        return f"Numeric{order}", key, self._some(lambda: self._one(("5", "10", "1000", "x", 7, "1e3", "0")))

    def _date(self) -> tuple[str, str, Any]:
        order = self._one(
            ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
        )
        values = (
            GONE,
            FAR,
            "2101-01-01",
            "978307200",
            "4133980800",
            "x",
            "2001-01-01T00:00:00+01:00",
            "2101-02",
        )
        key = self._one(("aws:CurrentTime", "aws:CurrentTime", "aws:EpochTime", "s3:prefix"))
        return f"Date{order}", key, self._some(lambda: self._one(values))

    def _bool(self) -> tuple[str, str, Any]:
        key = self._one(
            ("aws:SecureTransport", "aws:SecureTransport", "aws:MultiFactorAuthPresent", "s3:prefix")
        )
        return "Bool", key, self._one(("true", "false", "False", "1", "0"))

    def _address(self) -> tuple[str, str, Any]:
        places = (
            "127.0.0.1",
            "127.0.0.0/8",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "127.0.0.1/32",
            "::1",
            "x",
            "127.0.0.2/31",
        )
        return (
            self._one(("IpAddress", "NotIpAddress")),
            self._one(("aws:SourceIp",) * 4 + ("aws:VpcSourceIp",)),
            self._some(lambda: self._one(places)),
        )

    def _null(self) -> tuple[str, str, Any]:
        keys = (
            "s3:prefix",
            "s3:prefix",
            "aws:SecureTransport",
            "aws:username",
            "aws:Referer",
            "s3:x-amz-acl",
            "x:y",
        )
        return "Null", self._one(keys), self._one(("true", "false"))

    def _arn(self) -> tuple[str, str, Any]:
        operator = self._one(("ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike"))
        key = self._one(("aws:PrincipalArn", "aws:SourceArn", "s3:prefix", "aws:Referer"))
        return (
            operator,
            key,
            self._some(lambda: f"arn:aws:iam::{self._one((self.names.account, '*'))}:user/*"),
        )

    def _name_principals(self, made: dict[str, Any]) -> None:
        user = self._one(tuple(self.names.users))
        here, path = f"arn:aws:iam::{self.names.account}", self.names.path
        forms = (
            "*", "*", {"AWS": "*"}, {"AWS": ["*"]}, {"AWS": f"{here}:root"}, {"AWS": self.names.account},
            {"AWS": f"{here}:user{path}{user}"}, {"AWS": f"{here}:user{path}{user}"},
            {"AWS": [f"{here}:user{path}{one}" for one in self.names.users if self._chance(0.5)] or "*"},
            {"AWS": f"{here}:user/{user}"}, {"AWS": f"{here}:user{path}*"},
            {"AWS": f"{here}:user{path}{user}:*"},
            {"AWS": self.names.users[user]}, {"AWS": f"arn:aws:iam:::user{path}{self.names.users[user]}"},
            {"AWS": f"{here}:role/some"}, {"Service": "logging.s3.amazonaws.com"},
            {"AWS": "RGW99999999999999999"},
        )  # fmt: skip
        kind = self._one(("Principal",) * 10 + ("NotPrincipal", "both", "none"))
        if kind == "Principal":
            made["Principal"] = self._one(forms)
        if kind == "both":
            # Ceph takes each kind of principal once in a statement.
            made["Principal"] = "*"
        if kind in ("NotPrincipal", "both"):
            made["NotPrincipal"] = self._one(forms[4:])
            made["Effect"] = "Deny"

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    def _often(self, share: float, make: Callable[[], Any]) -> Any:
        return make() if self._chance(share) else None

    def _one(self, choices: Sequence[Any]) -> Any:
        return choices[self.random.randrange(len(choices))]

    def _some(self, make: Callable[[], Any], most: int = 2) -> Any:
        made = [make() for _ in range(self.random.randint(1, most))]
        return made[0] if len(made) == 1 and self._chance(0.5) else made
