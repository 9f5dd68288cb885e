"""The secrets server: OpenBao on one small instance, unsealed by KMS, its data on a disk that outlives it."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from pathlib import Path

import pulumi
import pulumi_aws as aws

from cloud import policies
from cloud.machine import MachineArgs, machine

_SET_UP = Path(__file__).with_name("openbao.sh")


@dataclass(frozen=True)
class OpenBaoRelease:
    """The program that is installed; its checksum is verified before it is run.

    Attributes:
        url: An rpm package for arm64.
        sha256: Its checksum.
    """

    url: str
    sha256: str

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or not set(self.sha256) <= set("0123456789abcdef"):
            raise ValueError("the OpenBao package's sha256 must be 64 hexadecimal digits")


@dataclass(frozen=True)
class SecretsServerArgs:
    """The secrets server.

    Attributes:
        machine: Its instance, without policy and set-up: those are made here.
        release: Which OpenBao.
        prefix: First part of the names of its Secrets Manager secret and SSM parameter.
        region: AWS region.
        zone: Availability zone of instance and disk.
        unseal_key_arn: KMS key that unseals it.
        disk_gib: Size of its data disk.
    """

    machine: MachineArgs
    release: OpenBaoRelease
    prefix: str
    region: str
    zone: pulumi.Input[str]
    unseal_key_arn: pulumi.Input[str]
    disk_gib: int = 10


class SecretsServer(pulumi.ComponentResource):
    """An OpenBao server.

    Outputs: ``address``; ``init_secret`` (ARN: root token and recovery key, which the server puts there
    once and cannot read); ``ca_parameter`` (name of the SSM parameter with its CA certificate).
    """

    def __init__(
        self, name: str, args: SecretsServerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("djops:cloud:SecretsServer", name, None, opts)
        kept = pulumi.ResourceOptions(parent=self, protect=True, retain_on_delete=True)
        account = args.machine.account
        self.ca_parameter = f"/{args.prefix}/secrets-ca"
        secret = aws.secretsmanager.Secret(
            "secrets-init",
            name=f"{args.prefix}/secrets-init",
            description="OpenBao's root token and recovery key",
            opts=kept,
        )
        disk = aws.ebs.Volume(
            "secrets-data",
            availability_zone=args.zone,
            size=args.disk_gib,
            type="gp3",
            encrypted=True,
            kms_key_id=args.machine.key_arn,
            opts=kept,
        )
        parameter = f"arn:aws:ssm:{args.region}:{account}:parameter{self.ca_parameter}"
        may = pulumi.Output.all(args.unseal_key_arn, secret.arn).apply(
            lambda known: policies.secrets_server(known[0], known[1], parameter)
        )
        set_up = pulumi.Output.all(args.unseal_key_arn, secret.arn).apply(
            lambda known: _set_up(args, known[0], known[1], self.ca_parameter)
        )
        instance = machine("secrets", replace(args.machine, policy=may, user_data=set_up), self)
        aws.ec2.VolumeAttachment(
            "secrets-data",
            device_name="/dev/sdf",
            volume_id=disk.id,
            instance_id=instance.id,
            # The disk must be free before a new instance takes it.
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.address = pulumi.Output.concat("https://", instance.private_dns, ":8200")
        self.init_secret = secret.arn
        self.register_outputs({"address": self.address, "init_secret": self.init_secret})


def _set_up(args: SecretsServerArgs, key: str, secret: str, parameter: str) -> str:
    """Fill the script in; it holds names and no secret."""
    return string.Template(_SET_UP.read_text(encoding="utf-8")).substitute(
        region=args.region,
        url=args.release.url,
        sha256=args.release.sha256,
        key=key,
        secret=secret,
        parameter=parameter,
    )
