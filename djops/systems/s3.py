"""The S3 server and its IAM API, through botocore: boto3 adds nothing that is needed here."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions
import botocore.parsers
import botocore.session
from botocore import xform_name
from botocore.config import Config
from botocore.handlers import json_decode_policies

from djops.compile.packing import limits_of
from djops.compile.s3 import Bucket, IamUser, S3State, iam_path
from djops.errors import AccessDeniedError, ApplyError, DjopsError, ServerUnavailableError
from djops.plan.operations import AwsCall
from djops.plan.s3_changes import BLOCKS
from djops.proof.iam_state import IamCatalog
from djops.systems import s3_catalog, s3_details
from djops.systems.connections import S3Connection
from djops.systems.tls_errors import tls_error

READERS = 8
"""Requests under way at once when state is read."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

_GONE = {
    "NoSuchEntity",
    "NoSuchKey",
    "NoSuchBucketPolicy",
    "NoSuchPublicAccessBlockConfiguration",
    "NoSuchBucket",
    "OwnershipControlsNotFoundError",
}
_UNSUPPORTED = {"MethodNotAllowed", "NotImplemented", "InvalidAction"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "403"}
_PERMISSIONS = {
    "DeleteObjects": "s3:DeleteObject and s3:DeleteObjectVersion",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "ListObjectVersions": "s3:ListBucketVersions",
    "PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
}
"""Where a permission is not called as the action that needs it (AWS service authorization reference)."""

_BAD_KEY = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
}


class KeyRefusedError(AccessDeniedError):
    """The server does not know the key, or knows it as inactive."""


_NOT_TWICE = ("CreateAccessKey", "CreateUser")
"""What does more when it is done again: a second key that nobody keeps, a user that is there already."""

_NEVER_SENT = (botocore.exceptions.EndpointConnectionError, botocore.exceptions.ConnectTimeoutError)


def _give_up(caught_exception: Exception | None = None, **_: object) -> None:
    """Keep the client library from sending again what the server may have done: its answer was lost."""
    if caught_exception is not None and not isinstance(caught_exception, _NEVER_SENT):
        raise caught_exception


class S3:
    """One S3 server, as one identity.

    Args:
        connection: Where it is, and with which key.
    """

    def __init__(self, connection: S3Connection) -> None:
        self.connection = connection
        self.where = f"s3 {connection.admin_endpoint}"
        config = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"max_attempts": 2, "mode": "standard"},
            s3={"addressing_style": "path"},
            max_pool_connections=READERS,
            proxies={} if urlsplit(connection.admin_endpoint).hostname in _LOOPBACK else None,
        )
        options: dict[str, Any] = {
            "config": config,
            "verify": str(connection.ca) if connection.ca else None,
            "aws_access_key_id": connection.access_key,
            "aws_secret_access_key": connection.secret_key.reveal(),
            "region_name": connection.region,
        }
        admin = connection.admin_endpoint
        self._endpoints = {"iam": connection.iam_endpoint or admin, "s3": admin}
        with _MAKING:
            self._clients: Mapping[str, Any] = {
                service: _session().create_client(service, endpoint_url=endpoint, **options)
                for service, endpoint in self._endpoints.items()
            }
        for action in _NOT_TWICE:
            self._clients["iam"].meta.events.register_first(f"needs-retry.iam.{action}", _give_up)
        # It takes what Ceph answers for URL-encoded, as AWS answers: "%20" in a name would become a space.
        self._clients["iam"].meta.events.unregister("after-call.iam", json_decode_policies)

    def call(self, operation: AwsCall) -> Mapping[str, Any]:
        """Send one request.

        Args:
            operation: The request.

        Returns:
            The answer.

        Raises:
            ServerUnavailableError: ``E_SERVER`` when the server cannot be reached.
            AccessDeniedError: ``E_DENIED`` when it refuses the key or the right.
            ApplyError: ``E_APPLY`` for anything else it says no to.
        """
        try:
            return self._send(operation)
        except botocore.exceptions.ClientError as error:
            if operation.missing_is_done and _code(error) in _GONE:
                return {}
            raise self._translated(error, operation) from None

    def _send(self, operation: AwsCall) -> Mapping[str, Any]:
        method: Callable[..., Mapping[str, Any]] = getattr(
            self._clients[operation.service], xform_name(operation.action)
        )
        try:
            return method(**operation.parameters)
        except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError) as error:
            where = f"s3 {self._endpoints[operation.service]}"
            raise tls_error(error, "the S3 server", where, self.connection.ca) or ServerUnavailableError(
                f"the S3 server does not answer: {type(error).__name__}",
                where=where,
                hint="look at `djops status`; the same command goes on once the server is back",
            ) from None
        except botocore.parsers.ResponseParserError:
            raise ServerUnavailableError(
                f"what answers there is no S3 server: its answer to {operation.action} makes no sense",
                where=f"s3 {self._endpoints[operation.service]}",
                hint="check host and port in djops.yaml",
            ) from None

    def _translated(self, error: botocore.exceptions.ClientError, operation: AwsCall) -> DjopsError:
        code, action = _code(error), operation.action
        text = error.response.get("Error", {}).get("Message") or code
        if code in _BAD_KEY:
            return KeyRefusedError(
                "the S3 server refused djops' access key",
                where=self.where,
                hint="check the key and its secret",
            )
        if code in _DENIED:
            return AccessDeniedError(
                f"the S3 server refused {action} to djops",
                where=self.where,
                hint=f"have its administrator allow {permission(operation)} to the user of key "
                f"{self.connection.access_key}; docs/existing-servers.md has the whole policy",
            )
        if operation.service == "iam" and code in _UNSUPPORTED:
            return ApplyError(
                f"the S3 server has no {action} ({code})",
                where=self.where,
                hint="djops needs the IAM API for users and their policies; see docs/existing-servers.md",
            )
        return ApplyError(f"{action}: {code}: {text}", where=self.where)

    def ask(self, service: str, action: str, default: Any, **parameters: Any) -> Any:  # noqa: ANN401
        """Ask for something that may not be there, or that the server may not know at all.

        Args:
            service: ``iam`` or ``s3``.
            action: Name of the action as AWS documents it.
            default: Answer when there is no such thing, or no such action.
            parameters: The action's parameters.

        Raises:
            DjopsError: As :meth:`call`.
        """
        try:
            return self._send(AwsCall(service, action, parameters))  # type: ignore[arg-type]
        except botocore.exceptions.ClientError as error:
            if _code(error) in _GONE | _UNSUPPORTED:
                return default
            raise self._translated(error, AwsCall(service, action, parameters)) from None  # type: ignore[arg-type]

    def read_state(self, project: str, buckets: Iterable[str]) -> S3State:
        """Read the project's users and buckets.

        Args:
            project: Users below its IAM path are read.
            buckets: The buckets of its stores; those that do not exist are left out.

        Returns:
            What the server holds.
        """
        found = self.listed("ListUsers", "Users", PathPrefix=iam_path(project))
        account = self._account(found)
        with ThreadPoolExecutor(READERS) as pool:
            looked = {name: pool.submit(self.bucket, name) for name in dict.fromkeys(buckets)}
            details = s3_details.read(self, iam_path(project)) if limits_of(account).managed else None
            if details is None:
                grouped = bool(self.ask("iam", "ListGroups", {}).get("Groups", True))
                read: Callable[[str], IamUser] = functools.partial(self.user, grouped=grouped)
            else:
                read = functools.partial(self._with_keys, details.users)
            names = [user["UserName"] for user in found]
            users = dict(zip(names, pool.map(read, names), strict=True))
            there = {name: bucket for name, one in looked.items() if (bucket := one.result()) is not None}
        return S3State(users, there, details.managed if details else {}, account)

    def _account(self, users: Sequence[Mapping[str, Any]]) -> str:
        """Return the id of the account that users belong to; without any, of djops' own."""
        me = {} if users else self.ask("iam", "GetUser", {}).get("User", {})
        parts = str((users[0] if users else me).get("Arn", "")).split(":")
        return parts[4] if len(parts) > 4 else ""

    def _with_keys(self, known: Mapping[str, IamUser], name: str) -> IamUser:
        return replace(known.get(name, IamUser()), keys=self._keys(name))

    def read_catalog(self, buckets: Iterable[str]) -> IamCatalog:
        """Read what the server holds about access, of every principal that can be read.

        Args:
            buckets: The buckets to look at; those that do not exist are left out.

        Returns:
            What the server shows; whatever djops may not read is named in it.

        Raises:
            DjopsError: As :meth:`call`, except that a refusal is no error.
        """
        return s3_catalog.read(self, buckets)

    def listed(self, action: str, member: str, optional: bool = False, **parameters: Any) -> list[Any]:  # noqa: ANN401
        """List what the IAM API gives page by page.

        Args:
            action: Name of the action.
            member: Where the answer has its list.
            optional: Whether the list is empty where there is no such thing or no such action.
            parameters: The action's parameters.

        Returns:
            Everything.

        Raises:
            DjopsError: As :meth:`call`.
        """
        found: list[Any] = []
        while True:
            answer = (
                self.ask("iam", action, {}, **parameters)
                if optional
                else self.call(AwsCall("iam", action, parameters))
            )
            found += answer.get(member, [])
            if not answer.get("IsTruncated"):
                return found
            parameters["Marker"] = answer["Marker"]

    def user(self, name: str, *, grouped: bool = True) -> IamUser:
        """Read one IAM user; one that does not exist looks like one without anything.

        Args:
            name: The user's name.
            grouped: Whether the server has any groups.
        """
        who = {"UserName": name}
        policies: dict[str, Any] = {}
        for policy in self.listed("ListUserPolicies", "PolicyNames", optional=True, **who):
            document = self.ask("iam", "GetUserPolicy", None, **who, PolicyName=policy)
            if document is not None:
                policies[policy] = s3_catalog.as_document(document["PolicyDocument"])
        attached = self.listed("ListAttachedUserPolicies", "AttachedPolicies", optional=True, **who)
        groups = self.listed("ListGroupsForUser", "Groups", optional=True, **who) if grouped else []
        return IamUser(
            policies=policies,
            keys=self._keys(name),
            attached=tuple(policy["PolicyArn"] for policy in attached),
            groups=tuple(group["GroupName"] for group in groups),
        )

    def _keys(self, name: str) -> Mapping[str, bool]:
        keys = self.listed("ListAccessKeys", "AccessKeyMetadata", optional=True, UserName=name)
        return {key["AccessKeyId"]: key.get("Status", "Active") == "Active" for key in keys}

    def bucket(self, name: str) -> Bucket | None:
        """Read how one bucket is protected.

        Args:
            name: The bucket.

        Returns:
            Its protection, or ``None`` when there is no such bucket.
        """
        versioning = self.ask("s3", "GetBucketVersioning", None, Bucket=name)
        if versioning is None:
            return None
        policy = self.ask("s3", "GetBucketPolicy", None, Bucket=name)
        return Bucket(
            versioned=versioning.get("Status") == "Enabled",
            blocks_public=self._blocks_public(name),
            policy=s3_catalog.as_document(policy["Policy"]) if policy else None,
        )

    def _blocks_public(self, name: str) -> bool:
        """Tell whether nothing more can be done against publishing: all blocks are on, or there are none."""
        operation = AwsCall("s3", "GetPublicAccessBlock", {"Bucket": name})
        try:
            configured = self._send(operation).get("PublicAccessBlockConfiguration", {})
        except botocore.exceptions.ClientError as error:
            if _code(error) in _GONE | _UNSUPPORTED:
                return _code(error) in _UNSUPPORTED
            raise self._translated(error, operation) from None
        return all(configured.get(block) for block in BLOCKS)


def key_is_refused(server: S3, bucket: str) -> bool:
    """Tell whether a server does not know a key, or knows it as inactive, whatever the key may do.

    Args:
        server: The server, with the key.
        bucket: A bucket to ask about.

    Raises:
        DjopsError: As :meth:`S3.call`, for anything but a refusal.
    """
    try:
        server.call(AwsCall("s3", "GetBucketLocation", {"Bucket": bucket}))
    except KeyRefusedError:
        return True
    except AccessDeniedError:
        return False
    return False


def permission(operation: AwsCall) -> str:
    """Name the permission that a request needs, and on what.

    Args:
        operation: The request.
    """
    name = _PERMISSIONS.get(operation.action, f"{operation.service}:{operation.action}")
    if operation.service == "s3":
        return f"{name} on arn:aws:s3:::{operation.parameters.get('Bucket', '*')}"
    user = operation.parameters.get("UserName")
    return f"{name} on {f'the user {user}' if user else 'all users'}"


_MAKING = threading.Lock()
"""Clients work in any thread; a session makes them in one at a time."""


@functools.cache
def _session() -> botocore.session.Session:
    """Return a session that knows nothing of the user's own AWS settings.

    There is one: to read the descriptions of the services takes longer than all requests of a plan.
    """
    nothing = (None, None, os.devnull, None)
    own = {"profile": (None, None, None, None), "config_file": nothing, "credentials_file": nothing}
    return botocore.session.Session(session_vars=own)


def _code(error: botocore.exceptions.ClientError) -> str:
    answer: Mapping[str, Any] = error.response
    # To an IAM action that it does not know, Ceph answers in the form of S3.
    return str(answer.get("Error", {}).get("Code") or answer.get("Code", ""))
