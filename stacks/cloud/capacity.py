"""Where workers run: Fargate, on spare capacity or not, and EC2 machines with GPUs that come and go."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws as aws

from cloud import policies

if TYPE_CHECKING:
    from cloud.workers import WorkerClass, Workers

GPU_IMAGE = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
ECS_INSTANCE = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"


def fargate_strategy(spot: bool) -> list[dict[str, Any]]:
    """Return where CPU workers run: nine of ten on spare capacity, or all on ordinary capacity."""
    ordinary = {"capacity_provider": "FARGATE", "weight": 1}
    # The tenth makes progress when there is no spare capacity.
    return [{"capacity_provider": "FARGATE_SPOT", "weight": 9}, ordinary] if spot else [ordinary]


def gpu_capacity(
    parent: Workers,
    kind: WorkerClass,
    cluster: pulumi.Output[str],
    subnet_ids: Sequence[pulumi.Input[str]],
    security_group_id: pulumi.Input[str],
    key_arn: pulumi.Input[str],
) -> pulumi.Output[str]:
    """Make machines with GPUs for one class of workers, none of them until a task waits.

    Returns:
        The name of the ECS capacity provider.
    """
    mine = pulumi.ResourceOptions(parent=parent)
    name = f"gpu-{kind.name}"
    template = _template(name, parent, cluster, security_group_id, key_arn)
    group = aws.autoscaling.Group(
        name,
        min_size=0,
        max_size=kind.maximum,
        vpc_zone_identifiers=list(subnet_ids),
        capacity_rebalance=kind.spot,
        protect_from_scale_in=False,
        mixed_instances_policy={
            "instances_distribution": {
                "on_demand_base_capacity": 0,
                "on_demand_percentage_above_base_capacity": 0 if kind.spot else 100,
                "spot_allocation_strategy": "price-capacity-optimized",
            },
            "launch_template": {
                "launch_template_specification": {"launch_template_id": template.id, "version": "$Latest"},
                "overrides": [{"instance_type": kind.gpu_instance_type}],
            },
        },
        # Tags that the provider gives to everything do not reach machines that the group starts.
        tags=[{"key": "Name", "value": f"djops-{name}", "propagate_at_launch": True}],
        opts=pulumi.ResourceOptions(parent=parent, ignore_changes=["desiredCapacity"]),
    )
    provider = aws.ecs.CapacityProvider(
        name,
        auto_scaling_group_provider={
            "auto_scaling_group_arn": group.arn,
            "managed_scaling": {"status": "ENABLED", "target_capacity": 100},
            "managed_draining": "ENABLED",
        },
        opts=mine,
    )
    return provider.name


def _template(
    name: str,
    parent: Workers,
    cluster: pulumi.Output[str],
    security_group_id: pulumi.Input[str],
    key_arn: pulumi.Input[str],
) -> aws.ec2.LaunchTemplate:
    mine = pulumi.ResourceOptions(parent=parent)
    trust = json.dumps(policies.trust("ec2.amazonaws.com", parent.args.account))
    role = aws.iam.Role(name, assume_role_policy=trust, opts=mine)
    aws.iam.RolePolicyAttachment(name, role=role.name, policy_arn=ECS_INSTANCE, opts=mine)
    profile = aws.iam.InstanceProfile(name, role=role.name, opts=mine)
    return aws.ec2.LaunchTemplate(
        name,
        image_id=aws.ssm.get_parameter_output(
            name=GPU_IMAGE, opts=pulumi.InvokeOutputOptions(parent=parent)
        ).value,
        iam_instance_profile={"arn": profile.arn},
        vpc_security_group_ids=[security_group_id],
        # Hop limit 1: a worker's container cannot take its machine's role.
        metadata_options={
            "http_tokens": "required",
            "http_endpoint": "enabled",
            "http_put_response_hop_limit": 1,
        },
        block_device_mappings=[
            {
                "device_name": "/dev/xvda",
                "ebs": {"encrypted": "true", "kms_key_id": key_arn, "volume_size": 60, "volume_type": "gp3"},
            }
        ],
        user_data=cluster.apply(_join),
        update_default_version=True,
        opts=mine,
    )


def _join(cluster: str) -> str:
    """Return what a machine runs at its start: join the cluster, and drain when spot takes it back."""
    settings = [
        f"ECS_CLUSTER={cluster}",
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true",
        "ECS_ENABLE_GPU_SUPPORT=true",
        "ECS_AWSVPC_BLOCK_IMDS=true",
        "ECS_CONTAINER_STOP_TIMEOUT=120s",
    ]
    lines = ["#!/bin/bash", *(f"echo {line} >>/etc/ecs/ecs.config" for line in settings)]
    return base64.b64encode("\n".join(lines).encode()).decode()
