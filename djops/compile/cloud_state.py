"""What protects the bucket that Pulumi keeps its state in."""

from __future__ import annotations

from djops.compile.packing import VERSION, Document
from djops.compile.s3 import tls_only

KEEP = ("s3:DeleteBucket", "s3:DeleteObjectVersion")
"""What nobody may do there: every state that ever was can be had back."""


def state_policy(bucket: str) -> Document:
    """Return the policy of the state's bucket: TLS only, and old versions stay, whoever asks.

    An administrator who must can take the policy away first; nobody does so by mistake.

    Args:
        bucket: Its name.
    """
    keep = {
        "Sid": "Keep",
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": list(KEEP),
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    return {"Version": VERSION, "Statement": [*tls_only(bucket)["Statement"], keep]}
