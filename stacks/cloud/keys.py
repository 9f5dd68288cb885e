"""The KMS keys: one for data at rest, one that unseals the secrets server."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from cloud import policies


@dataclass(frozen=True)
class KeysArgs:
    """Where the keys are.

    Attributes:
        account: AWS account id.
        region: AWS region.
    """

    account: str
    region: str


class Keys(pulumi.ComponentResource):
    """Two keys that AWS renews every year; without them data and secrets are lost, so they are kept.

    Outputs: ``data_arn``, ``unseal_arn``.
    """

    def __init__(self, name: str, args: KeysArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("djops:cloud:Keys", name, None, opts)
        self.data_arn = self._key("data", policies.data_key(args.account, args.region))
        self.unseal_arn = self._key("unseal", policies.unseal_key(args.account))
        self.register_outputs({"data_arn": self.data_arn, "unseal_arn": self.unseal_arn})

    def _key(self, name: str, policy: policies.Document) -> pulumi.Output[str]:
        key = aws.kms.Key(
            name,
            description=f"djops: {name}",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            policy=json.dumps(policy),
            opts=pulumi.ResourceOptions(parent=self, protect=True, retain_on_delete=True),
        )
        return key.arn
