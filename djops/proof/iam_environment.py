"""Which condition keys a request carries, on AWS and on Ceph.

What describes the request itself, such as ``s3:prefix``, is absent when the caller does not name it.
What depends on the circumstances, such as the time or the address, cannot be told then. Ceph 20.2.4
sets a fixed list of keys and no others, whatever is sent (read from the gateway and measured).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from djops.proof.iam_conditions import Environment
from djops.proof.iam_patterns import Dialect
from djops.proof.iam_values import moment

Context = Mapping[str, str | Sequence[str]]
"""Values of a request's condition keys; a key with an empty list of values is known to be absent."""

CIRCUMSTANCES = ("aws:CurrentTime", "aws:EpochTime", "aws:Referer", "aws:SourceIp", "aws:UserAgent")
"""Keys that Ceph takes from the circumstances of a request."""

TRANSPORT = "aws:SecureTransport"
"""Set by Ceph for requests over TLS only, never to ``false``."""

REQUEST_KEYS = (
    "s3:prefix",
    "s3:delimiter",
    "s3:max-keys",
    "s3:x-amz-acl",
    "s3:x-amz-copy-source",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:x-amz-metadata-directive",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-server-side-encryption-customer-algorithm",
)
"""Keys that Ceph takes from the request itself."""

_TAGS = ("s3:ExistingObjectTag/", "s3:ResourceTag/", "s3:RequestObjectTag/", "aws:ResourceTag/")
_CEPH_OWN = ("aws:username", "aws:PrincipalType", "sts:authentication", "rgw:subuser")

# What AWS's list of condition keys for S3 has besides.
_AWS_REQUEST_KEYS = (
    *REQUEST_KEYS,
    "s3:versionid",
    "s3:x-amz-storage-class",
    "s3:x-amz-object-ownership",
    "s3:x-amz-website-redirect-location",
    "s3:x-amz-content-sha256",
    "s3:if-match",
    "s3:if-none-match",
    "s3:object-lock-mode",
    "s3:object-lock-legal-hold",
    "s3:locationconstraint",
)
# Never there for a user with long-term keys of its own.
_AWS_ABSENT = (
    "aws:multifactorauthpresent",
    "aws:multifactorauthage",
    "aws:tokenissuetime",
    "aws:federatedprovider",
    "aws:sourceidentity",
    "aws:principalservicename",
    "aws:principalservicenameslist",
)


@dataclass(frozen=True)
class Who:
    """Whoever asks.

    Attributes:
        name: The user's name; empty for somebody without a key.
        arn: The user's full name.
        user_id: The server's own id of the user.
    """

    name: str = ""
    arn: str = ""
    user_id: str = ""

    @property
    def account(self) -> str:
        """The id of the account the user belongs to."""
        parts = self.arn.split(":")
        return parts[4] if len(parts) > 4 else ""


def environment(dialect: Dialect, who: Who, action: str, context: Context) -> Environment:
    """Work out what a server would know about a request.

    Args:
        dialect: The kind of server.
        who: Whoever asks.
        action: The action, which decides what the server adds by itself.
        context: What is known about the request.

    Returns:
        The values of all condition keys.
    """
    given = {key: (value,) if isinstance(value, str) else tuple(value) for key, value in context.items()}
    return _ceph(who, action.lower(), given) if dialect == "ceph" else _aws(who, given)


def is_known_to_ceph(key: str) -> bool:
    """Whether Ceph ever sets a condition key for a user with a key of its own."""
    return key in (*CIRCUMSTANCES, *REQUEST_KEYS, *_CEPH_OWN, TRANSPORT) or key.startswith(_TAGS)


def _ceph(who: Who, action: str, given: Mapping[str, tuple[str, ...]]) -> Environment:
    values: dict[str, tuple[str, ...] | None] = dict.fromkeys((*CIRCUMSTANCES, TRANSPORT))
    values.update({key: value for key, value in given.items() if is_known_to_ceph(key)})
    for key in ("s3:prefix", "s3:delimiter", TRANSPORT):
        if values.get(key) in (("",), ("false",)):
            values[key] = ()
    values.update(_times(given))
    if action in ("s3:listbucket", "s3:listbucketversions"):
        values.setdefault("s3:max-keys", ("1000",))
    if action == "s3:putobject":
        values.setdefault("s3:x-amz-acl", ("",))
    # An account's user is known by its id, not by its name.
    values["aws:username"] = (who.user_id,) if who.name else ("anonymous",)
    values |= {"aws:PrincipalType": ("User",), "sts:authentication": ("false",), "rgw:subuser": ("",)}
    return Environment(values, (), "ceph")


def _times(given: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...] | None]:
    """Spell the time as Ceph does: ``aws:CurrentTime`` as seconds, ``aws:EpochTime`` as a date."""
    told = given.get("aws:CurrentTime") or given.get("aws:EpochTime") or ("",)
    seconds = moment(told[0])
    if seconds is None:
        return {"aws:CurrentTime": None, "aws:EpochTime": None}
    date = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"aws:CurrentTime": (str(int(seconds)),), "aws:EpochTime": (date,)}


def _aws(who: Who, given: Mapping[str, tuple[str, ...]]) -> Environment:
    values: dict[str, tuple[str, ...] | None] = dict.fromkeys((*_AWS_REQUEST_KEYS, *_AWS_ABSENT), ())
    named = (who.name,) if who.name else ()
    values |= {
        "aws:username": named,
        "aws:userid": (who.user_id or None,) if who.name else ("anonymous",),  # type: ignore[dict-item]
        "aws:principalarn": (who.arn,) if named else (),
        "aws:principalaccount": (who.account,) if named else (),
        "aws:principaltype": ("User",) if named else ("Anonymous",),
        "aws:principalisawsservice": ("false",),
    }
    values.update({key.lower(): value for key, value in given.items()})
    for one, other in (("aws:currenttime", "aws:epochtime"), ("aws:epochtime", "aws:currenttime")):
        if values.get(one) and other not in values:
            values[other] = values[one]
    return Environment(values, None, "aws")
