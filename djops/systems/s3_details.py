"""Users and managed policies of a whole account in one request, where the server has it as AWS does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from djops.compile.s3 import IamUser, ManagedPolicy
from djops.systems.s3_catalog import as_document

if TYPE_CHECKING:
    from djops.systems.s3 import S3

_KINDS = {"Filter": ["User", "LocalManagedPolicy"]}


@dataclass(frozen=True)
class AccountDetails:
    """What one account holds below a path.

    Attributes:
        users: Users with all but their keys, by name.
        managed: Managed policies, by ARN.
    """

    users: Mapping[str, IamUser]
    managed: Mapping[str, ManagedPolicy]


def read(server: S3, path: str) -> AccountDetails | None:
    """Read the users and managed policies below a path.

    Args:
        server: The server.
        path: The IAM path.

    Returns:
        What is there; ``None`` when the server does not know the request.

    Raises:
        DjopsError: As :meth:`S3.call`.
    """
    first = server.ask("iam", "GetAccountAuthorizationDetails", None, **_KINDS)
    if first is None:
        return None
    users: dict[str, IamUser] = {}
    managed: dict[str, ManagedPolicy] = {}
    for page in _pages(server, first):
        for user in page.get("UserDetailList", ()):
            if user["Path"] == path:
                users[user["UserName"]] = _user(user)
        for policy in page.get("Policies", ()):
            if policy["Path"] == path:
                managed[policy["Arn"]] = _managed(policy["PolicyVersionList"])
    return AccountDetails(users, managed)


def _pages(server: S3, page: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield page
    while page.get("IsTruncated"):
        page = server.ask("iam", "GetAccountAuthorizationDetails", {}, **_KINDS, Marker=page["Marker"])
        yield page


def _user(found: Mapping[str, Any]) -> IamUser:
    return IamUser(
        policies={one["PolicyName"]: as_document(one["PolicyDocument"]) for one in found["UserPolicyList"]},
        attached=tuple(one["PolicyArn"] for one in found["AttachedManagedPolicies"]),
        groups=tuple(found["GroupList"]),
        boundary=str(found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")),
    )


def _managed(versions: Iterable[Mapping[str, Any]]) -> ManagedPolicy:
    oldest = sorted(versions, key=lambda one: int(one["VersionId"].removeprefix("v")))
    default = next(one for one in oldest if one["IsDefaultVersion"])
    others = tuple(one["VersionId"] for one in oldest if one is not default)
    return ManagedPolicy(as_document(default["Document"]), default["VersionId"], others)
