"""Objects that the DataJoint client does not handle, as one identity reaches them: raw files and garbage."""

from __future__ import annotations

from collections.abc import Sequence

from djops.errors import ClientError
from djops.plan.operations import AwsCall
from djops.systems.s3 import S3

Place = tuple[str, str]
"""A bucket and a key prefix in it."""


class RawFiles:
    """Raw files of a scratch schema, and objects that no row of it refers to.

    Args:
        server: The object store, as the identity.
        inboxes: Where raw files are delivered.
        sections: Where the client keeps what rows refer to.
    """

    def __init__(self, server: S3, inboxes: Sequence[Place], sections: Sequence[Place]) -> None:
        self._server = server
        self._inboxes = tuple(inboxes)
        self._sections = tuple(sections)

    def deliver(self, number: int) -> None:
        """Put a raw file into every inbox, and get it back.

        Raises:
            AccessDeniedError: The store refuses.
            ClientError: ``E_CLIENT`` when something else comes back.
        """
        for place in self._inboxes:
            self._put(place, number)
        for bucket, key in self._keys(self._inboxes, number):
            body = self._server.call(AwsCall("s3", "GetObject", {"Bucket": bucket, "Key": key}))["Body"]
            if body.read() != _content(number):
                raise ClientError(f"{key} comes back with other content")

    def arrived(self, number: int) -> bool:
        """Whether the raw file is in every inbox."""
        return all(self._is_there(*key) for key in self._keys(self._inboxes, number))

    def litter(self, number: int) -> None:
        """Put an object that no row refers to into every section."""
        for place in self._sections:
            self._put(place, number)

    def collect(self, number: int) -> None:
        """Remove that object.

        Raises:
            AccessDeniedError: The store refuses.
        """
        for bucket, key in self._keys(self._sections, number):
            self._server.call(AwsCall("s3", "DeleteObject", {"Bucket": bucket, "Key": key}))

    def collected(self, number: int) -> bool:
        """Whether that object is gone from every section."""
        return not any(self._is_there(*key) for key in self._keys(self._sections, number))

    def _put(self, place: Place, number: int) -> None:
        ((bucket, key),) = self._keys([place], number)
        there = {"Bucket": bucket, "Key": key, "Body": _content(number)}
        self._server.call(AwsCall("s3", "PutObject", there))

    def _is_there(self, bucket: str, key: str) -> bool:
        answer = self._server.call(AwsCall("s3", "ListObjectsV2", {"Bucket": bucket, "Prefix": key}))
        return any(one["Key"] == key for one in answer.get("Contents", ()))

    def _keys(self, places: Sequence[Place], number: int) -> list[tuple[str, str]]:
        return [(bucket, f"{prefix}raw-{number:04}") for bucket, prefix in places]


def _content(number: int) -> bytes:
    return f"raw file {number}".encode()
