"""What protects the bucket that Pulumi keeps its state in."""

from __future__ import annotations

from djops.compile.packing import VERSION, Document
from djops.compile.s3 import refusal, tls_only

KEEP = ("s3:DeleteBucket", "s3:DeleteObjectVersion")
"""What nobody may do there: every state that ever was can be had back."""


def state_policy(bucket: str) -> Document:
    """Return the policy of the state's bucket: TLS only, and old versions stay, whoever asks.

    An administrator who must can take the policy away first; nobody does so by mistake.

    Args:
        bucket: Its name.
    """
    keep = refusal("Keep", bucket, list(KEEP))
    return {"Version": VERSION, "Statement": [*tls_only(bucket)["Statement"], keep]}
