"""Buckets for stores: made once, versioned, and closed to the public."""

from __future__ import annotations

from djops.compile.s3 import Bucket
from djops.plan.operations import AwsCall
from djops.plan.s3_changes import ProtectBucket
from djops.systems.connections import S3Connection
from djops.systems.s3 import S3


def ensure_bucket(connection: S3Connection, bucket: str) -> bool:
    """Make sure that a bucket is there, keeps old versions and cannot be published. Idempotent.

    Without the public-access block whoever may put an object could publish it by an ACL header;
    without versioning whoever may put one could destroy it by putting another.

    Args:
        connection: The server, as an identity that may make buckets.
        bucket: The bucket's name.

    Returns:
        Whether anything was changed.

    Raises:
        AccessDeniedError: ``E_DENIED`` when the identity may not, or somebody else owns the bucket.
        ServerUnavailableError: ``E_SERVER`` when the server does not answer.
        ApplyError: ``E_APPLY`` when the server says no for another reason.
    """
    server = S3(connection)
    found = server.bucket(bucket)
    if found is None:
        server.call(AwsCall("s3", "CreateBucket", {"Bucket": bucket}))
        found = Bucket(versioned=False, blocks_public=False)
    # A bucket policy that somebody made is for `djops plan` to show, not for this to remove.
    wanted = Bucket(policy=found.policy)
    protect = ProtectBucket(name=bucket, found=found, wanted=wanted, why=())
    for operation in protect.operations():
        if isinstance(operation, AwsCall):
            server.call(operation)
    return found != wanted
