"""Requests to an S3 server for every action that a policy decides, signed and sent with little ado."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from djops.systems.connections import Secret
from tests.support.iam_worlds import AGENT, KEYS, MISSING

Context = Mapping[str, Any]

ALL_OF = ("a/1", "b/x/1", "b/ü")
"""Keys on which everything is tried."""

LISTS: tuple[dict[str, str], ...] = (
    {},
    {"prefix": "", "delimiter": "/"},
    {"prefix": "a/", "delimiter": "/"},
    {"prefix": "a/", "max-keys": "5"},
    {"prefix": "ab/", "max-keys": "1000"},
    {"prefix": "b/", "delimiter": "/", "max-keys": "7"},
    {"prefix": "b/x/"},
    {"prefix": "A/1"},
)


@dataclass(frozen=True)
class Ask:
    """One request, and the question that decides its answer.

    Attributes:
        method: HTTP method.
        key: Key of the object, empty for the bucket.
        action: The action that must be allowed.
        query: Query parameters.
        headers: Headers besides those of every request.
        body: What is sent.
        context: Condition keys of the request.
        missing: Whether the object is not there, so that the answer is 404 to those who may know that.
    """

    method: str
    key: str
    action: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    context: Context = field(default_factory=dict)
    missing: bool = False

    def __str__(self) -> str:
        query = "&".join(f"{key}={value}" for key, value in self.query.items())
        return f"{self.method} {self.key}?{query} ({self.action})"


def asks(versions: Mapping[str, str], upload: str, spare: str) -> Iterator[Ask]:
    """Yield every request.

    Args:
        versions: Version ids of the objects that are there.
        upload: A multipart upload of ``a/1`` that stays.
        spare: One of ``b/x/1`` to be aborted; empty for none.
    """
    for key in KEYS:
        yield Ask("GET", key, "s3:GetObject")
    for key in ALL_OF:
        yield from _object(key, versions[key])
    for key in MISSING:
        context = {"s3:prefix": key, "s3:max-keys": ()}
        yield Ask("HEAD", key, "s3:ListBucket", context=context, missing=True)
    for query in LISTS:
        context = {f"s3:{name}": value for name, value in query.items()}
        yield Ask("GET", "", "s3:ListBucket", {"list-type": "2", **query}, context=context)
    yield from _bucket()
    yield Ask("POST", "a/1", "s3:PutObject", {"uploads": ""}, context={"s3:x-amz-acl": ()})
    yield Ask("GET", "a/1", "s3:ListMultipartUploadParts", {"uploadId": upload})
    yield Ask("PUT", "a/1", "s3:PutObject", {"partNumber": "1", "uploadId": upload}, body=b"part")
    if spare:
        yield Ask("DELETE", "b/x/1", "s3:AbortMultipartUpload", {"uploadId": spare})


def _object(key: str, version: str) -> Iterator[Ask]:
    yield Ask("HEAD", key, "s3:GetObject")
    yield Ask("GET", key, "s3:GetObjectVersion", {"versionId": version})
    yield Ask("GET", key, "s3:GetObjectAcl", {"acl": ""})
    yield Ask("GET", key, "s3:GetObjectTagging", {"tagging": ""})
    yield Ask("PUT", f"{key}+", "s3:PutObject", body=b"new")
    acl = {"x-amz-acl": "bucket-owner-full-control"}
    context = {"s3:x-amz-acl": acl["x-amz-acl"]}
    yield Ask("PUT", f"{key}+", "s3:PutObject", headers=acl, body=b"new", context=context)
    yield Ask("DELETE", f"{key}-", "s3:DeleteObject")


def _bucket() -> Iterator[Ask]:
    yield Ask("HEAD", "", "s3:ListBucket", context={"s3:max-keys": ()})
    yield Ask("GET", "", "s3:GetBucketLocation", {"location": ""})
    yield Ask("GET", "", "s3:GetBucketVersioning", {"versioning": ""})
    yield Ask("GET", "", "s3:ListBucketMultipartUploads", {"uploads": ""})
    query = {"versions": "", "prefix": "a/"}
    yield Ask("GET", "", "s3:ListBucketVersions", query, context={"s3:prefix": "a/"})
    yield Ask("DELETE", "a/9", "s3:DeleteObjectVersion", {"versionId": "none"})


class Caller:
    """Somebody at an S3 server, over one connection.

    Args:
        endpoint: URL of the server, without TLS.
        key: Access key id, empty for somebody without one.
        secret: The secret key.
    """

    def __init__(self, endpoint: str, key: str = "", secret: Secret | None = None) -> None:
        self.host = urlsplit(endpoint).netloc
        self.key, self.secret = key, secret
        self._connection = http.client.HTTPConnection(self.host, timeout=30)

    def send(self, ask: Ask, bucket: str) -> str:
        """Send a request and say ``ok``, or the status that refused."""
        path = quote(f"/{bucket}/{ask.key}" if ask.key else f"/{bucket}", safe="/-_.~")
        query = "&".join(
            f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(ask.query.items())
        )
        headers = {
            "host": self.host,
            "user-agent": AGENT,
            "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
            **ask.headers,
        }
        if self.secret is not None:
            headers |= self._signed(ask.method, path, query, headers)
        target = f"{path}?{query}" if query else path
        self._connection.request(ask.method, target, ask.body or None, headers)
        answer = self._connection.getresponse()
        answer.read()
        return "ok" if answer.status < 300 else str(answer.status)

    def _signed(self, method: str, path: str, query: str, headers: dict[str, str]) -> dict[str, str]:
        """Return what proves who sends it: signature version 4."""
        now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = {key: value for key, value in headers.items() if key != "user-agent"} | {"x-amz-date": now}
        names = ";".join(sorted(signed))
        lines = "".join(f"{key}:{signed[key]}\n" for key in sorted(signed))
        asked = "\n".join((method, path, query, lines, names, headers["x-amz-content-sha256"]))
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        assert self.secret is not None
        key = f"AWS4{self.secret.reveal()}".encode()
        for part in (*scope.split("/"), text):
            key = hmac.digest(key, part.encode(), "sha256")
        proof = f"Credential={self.key}/{scope},SignedHeaders={names},Signature={key.hex()}"
        return {"x-amz-date": now, "authorization": f"AWS4-HMAC-SHA256 {proof}"}
