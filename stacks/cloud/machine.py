"""What every small instance has in common: no way in but SSM, an encrypted disk, tokens for metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from cloud import policies

IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
"""AWS's own name for the newest Amazon Linux 2023; the SSM agent is in it."""

SSM = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"


@dataclass(frozen=True)
class MachineArgs:
    """One small instance.

    Attributes:
        account: AWS account id.
        instance_type: An arm64 type.
        subnet_id: A private subnet.
        security_group_id: The group of its role.
        key_arn: KMS key of its disk.
        policy: What it may do besides being reached through SSM.
        user_data: What it runs when it is made; a change replaces the instance.
    """

    account: str
    instance_type: str
    subnet_id: pulumi.Input[str]
    security_group_id: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    policy: pulumi.Input[policies.Document] | None = None
    user_data: pulumi.Input[str] | None = None


def machine(
    name: str, args: MachineArgs, parent: pulumi.Resource, depends_on: Sequence[pulumi.Resource] = ()
) -> aws.ec2.Instance:
    """Make an instance with a role of its own, reachable through SSM alone."""
    mine = pulumi.ResourceOptions(parent=parent)
    role = aws.iam.Role(
        name, assume_role_policy=json.dumps(policies.trust("ec2.amazonaws.com", args.account)), opts=mine
    )
    aws.iam.RolePolicyAttachment(f"{name}-ssm", role=role.name, policy_arn=SSM, opts=mine)
    if args.policy is not None:
        written = pulumi.Output.from_input(args.policy).apply(json.dumps)
        aws.iam.RolePolicy(name, role=role.name, policy=written, opts=mine)
    profile = aws.iam.InstanceProfile(name, role=role.name, opts=mine)
    return aws.ec2.Instance(
        name,
        ami=aws.ssm.get_parameter_output(name=IMAGE, opts=pulumi.InvokeOutputOptions(parent=parent)).value,
        instance_type=args.instance_type,
        subnet_id=args.subnet_id,
        vpc_security_group_ids=[args.security_group_id],
        associate_public_ip_address=False,
        iam_instance_profile=profile.name,
        metadata_options={
            "http_tokens": "required",
            "http_endpoint": "enabled",
            "http_put_response_hop_limit": 1,
        },
        root_block_device={"encrypted": True, "kms_key_id": args.key_arn, "volume_type": "gp3"},
        user_data=args.user_data,
        user_data_replace_on_change=True,
        tags={"Name": f"djops-{name}"},
        # A newer image is no reason to replace a running server.
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(depends_on), ignore_changes=["ami"]),
    )
