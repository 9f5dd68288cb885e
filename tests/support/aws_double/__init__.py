"""A stand-in for Pulumi's AWS provider: it speaks the provider protocol, and keeps its resources in moto.

It knows the types that the stacks use, the inputs that they set, and which of these make a new resource
necessary. Where it cannot follow AWS is told in `docs/cloud.md`.
"""

from tests.support.aws_double.provider import AwsDouble, served

__all__ = ["AwsDouble", "served"]
