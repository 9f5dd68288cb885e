"""Managed policies that Ceph knows by AWS's names; it keeps no others, and shows no documents."""

from __future__ import annotations

from collections.abc import Mapping

from djops.compile.s3 import Document

_PREFIX = "arn:aws:iam::aws:policy/"


def _allow(*actions: str) -> Document:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


CEPH_MANAGED: Mapping[str, Document] = {
    f"{_PREFIX}AmazonS3FullAccess": _allow("s3:*"),
    f"{_PREFIX}AmazonS3ReadOnlyAccess": _allow("s3:Get*", "s3:List*", "s3:Describe*"),
    f"{_PREFIX}AmazonSNSFullAccess": _allow("sns:*"),
    f"{_PREFIX}AmazonSNSReadOnlyAccess": _allow("sns:GetTopicAttributes", "sns:List*"),
    f"{_PREFIX}IAMFullAccess": _allow("iam:*"),
    f"{_PREFIX}IAMReadOnlyAccess": _allow("iam:Get*", "iam:List*"),
}
"""What each allows on S3, IAM and SNS (20.2.4)."""
