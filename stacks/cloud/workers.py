"""The workers: ECS tasks that populate, as many as the job queue is deep, none when it is empty."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_aws as aws

from cloud import policies
from cloud.capacity import fargate_strategy, gpu_capacity

_PINNED = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
DRAIN_SECONDS = 120
"""AWS warns two minutes before it takes a spot machine back: so long may a worker finish its job."""


@dataclass(frozen=True)
class WorkerClass:
    """Workers of one kind.

    Attributes:
        name: Short name, part of the names in AWS.
        command: What a worker runs.
        cpu: CPU units, 1024 for one core.
        memory_mib: Memory.
        gpus: Above 0 the workers run on EC2 machines with GPUs, made and removed with the queue.
        gpu_instance_type: Of such machines.
        maximum: Most workers at once.
        spot: On spare capacity, cheaper and at times taken back.
        read: Key prefixes that may be read, with their closing slash, by bucket.
        write: Key prefixes that may be written, likewise.
    """

    name: str
    command: tuple[str, ...]
    cpu: int = 1024
    memory_mib: int = 4096
    gpus: int = 0
    gpu_instance_type: str = "g4dn.xlarge"
    maximum: int = 4
    spot: bool = True
    read: Mapping[str, Sequence[str]] = field(default_factory=dict)
    write: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """The container image that workers run.

    Attributes:
        reference: With its digest, ``registry/name@sha256:...``: what was tested is what runs.
        commit: The pipeline's git commit that it was built from.
        repository_arn: Its ECR repository; ``None`` for one that needs no log-in.
    """

    reference: str
    commit: str
    repository_arn: str | None = None

    def __post_init__(self) -> None:
        if not _PINNED.fullmatch(self.reference):
            raise ValueError(f"the image {self.reference!r} is not pinned: write name@sha256:DIGEST")
        if not _COMMIT.fullmatch(self.commit):
            raise ValueError(f"the image's commit {self.commit!r} is not a whole git commit id")


@dataclass(frozen=True)
class WorkersArgs:
    """The workers of one project and stage.

    Attributes:
        account: AWS account id.
        region: AWS region.
        prefix: First part of names, ``djops/PROJECT/ENVIRONMENT``.
        image: What they run.
        classes: Their kinds.
        subnet_ids: Private subnets.
        security_group_id: The group of role ``workers``.
        key_arn: KMS key for logs and disks.
        environment: Environment variables, none secret.
        meter_command: Counts waiting jobs and puts them to CloudWatch, every five minutes; empty where
            something else does.
        log_days: How long logs are kept.
    """

    account: str
    region: str
    prefix: str
    image: Image
    classes: Sequence[WorkerClass]
    subnet_ids: Sequence[pulumi.Input[str]]
    security_group_id: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    environment: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    meter_command: tuple[str, ...] = ()
    log_days: int = 90


class Workers(pulumi.ComponentResource):
    """An ECS cluster with one service per class.

    Outputs: ``cluster_arn``, ``service_arns``, ``log_group_arn``, ``secret`` (ARN: whoever sets up the access
    layer puts the workers' ``user`` and ``password`` there).
    """

    def __init__(self, name: str, args: WorkersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("djops:cloud:Workers", name, None, opts)
        self.mine, self.args = pulumi.ResourceOptions(parent=self), args
        self.cluster = aws.ecs.Cluster(
            "workers",
            name=args.prefix.replace("/", "-"),
            settings=[{"name": "containerInsights", "value": "enabled"}],
            opts=self.mine,
        )
        self.logs = aws.cloudwatch.LogGroup(
            "workers",
            name=f"/{args.prefix}/workers",
            retention_in_days=args.log_days,
            kms_key_id=args.key_arn,
            opts=self.mine,
        )
        self.login = aws.secretsmanager.Secret(
            "workers-login",
            name=f"{args.prefix}/workers-login",
            description="user and password of the pipeline's workers",
            # It can be given anew; a name that waits for its deletion would be in the way of the next `up`.
            recovery_window_in_days=0,
            opts=self.mine,
        )
        self.starter = self._starter()
        gpu = {one.name: self._gpu(one) for one in args.classes if one.gpus}
        providers = aws.ecs.ClusterCapacityProviders(
            "workers",
            cluster_name=self.cluster.name,
            capacity_providers=["FARGATE", "FARGATE_SPOT", *gpu.values()],
            opts=self.mine,
        )
        self.services = [self._service(one, gpu.get(one.name), providers) for one in args.classes]
        if args.meter_command:
            self._meter()
        self.cluster_arn, self.log_group_arn, self.secret = self.cluster.arn, self.logs.arn, self.login.arn
        self.service_arns = [service.arn for service in self.services]
        self.register_outputs({"cluster_arn": self.cluster_arn, "secret": self.secret})

    def _gpu(self, kind: WorkerClass) -> pulumi.Output[str]:
        args = self.args
        return gpu_capacity(
            self, kind, self.cluster.name, args.subnet_ids, args.security_group_id, args.key_arn
        )

    def _role(self, name: str, service: str, policy: pulumi.Input[policies.Document]) -> aws.iam.Role:
        trust = json.dumps(policies.trust(service, self.args.account))
        role = aws.iam.Role(name, assume_role_policy=trust, opts=self.mine)
        written = pulumi.Output.from_input(policy).apply(json.dumps)
        aws.iam.RolePolicy(name, role=role.name, policy=written, opts=self.mine)
        return role

    def _starter(self) -> aws.iam.Role:
        repository = self.args.image.repository_arn
        may = pulumi.Output.all(self.logs.arn, self.login.arn).apply(
            lambda known: policies.task_start(repository, known[0], known[1])
        )
        return self._role("task-start", "ecs-tasks.amazonaws.com", may)

    def _task(self, kind: WorkerClass, role: aws.iam.Role) -> aws.ecs.TaskDefinition:
        on_ec2 = kind.gpus > 0
        written = pulumi.Output.all(
            self.logs.name, self.login.arn, pulumi.Output.from_input(self.args.environment)
        )
        return aws.ecs.TaskDefinition(
            kind.name,
            family=f"{self.args.prefix.replace('/', '-')}-{kind.name}",
            requires_compatibilities=["EC2" if on_ec2 else "FARGATE"],
            network_mode="awsvpc",
            cpu=str(kind.cpu),
            memory=str(kind.memory_mib),
            execution_role_arn=self.starter.arn,
            task_role_arn=role.arn,
            container_definitions=written.apply(lambda known: json.dumps([self._container(kind, *known)])),
            tags={"commit": self.args.image.commit},
            opts=self.mine,
        )

    def _container(
        self, kind: WorkerClass, log_group: str, secret: str, environment: Mapping[str, str]
    ) -> dict[str, Any]:
        known = {**environment, "DJOPS_PIPELINE_COMMIT": self.args.image.commit}
        return {
            "name": kind.name,
            "image": self.args.image.reference,
            "command": list(kind.command),
            "essential": True,
            "readonlyRootFilesystem": False,
            # SIGTERM comes first; a worker ends its job and takes no other.
            "stopTimeout": DRAIN_SECONDS,
            "environment": [{"name": key, "value": known[key]} for key in sorted(known)],
            "secrets": [
                {"name": "DJ_USER", "valueFrom": f"{secret}:user::"},
                {"name": "DJ_PASS", "valueFrom": f"{secret}:password::"},
            ],
            "resourceRequirements": [{"type": "GPU", "value": str(kind.gpus)}] if kind.gpus else [],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": log_group,
                    "awslogs-region": self.args.region,
                    "awslogs-stream-prefix": kind.name,
                },
            },
        }

    def _service(
        self, kind: WorkerClass, gpu: pulumi.Output[str] | None, providers: pulumi.Resource
    ) -> aws.ecs.Service:
        role = self._role(
            f"worker-{kind.name}", "ecs-tasks.amazonaws.com", policies.worker(kind.read, kind.write)
        )
        where: list[Any] = fargate_strategy(kind.spot)
        if gpu is not None:
            where = [{"capacity_provider": gpu, "weight": 1}]
        service = aws.ecs.Service(
            kind.name,
            name=kind.name,
            cluster=self.cluster.arn,
            task_definition=self._task(kind, role).arn,
            desired_count=0,
            capacity_provider_strategies=where,
            network_configuration=aws.ecs.ServiceNetworkConfigurationArgs(
                subnets=list(self.args.subnet_ids),
                security_groups=[self.args.security_group_id],
                assign_public_ip=False,
            ),
            deployment_circuit_breaker={"enable": True, "rollback": True},
            propagate_tags="SERVICE",
            # How many run is the queue's business, not Pulumi's.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[providers], ignore_changes=["desiredCount"]),
        )
        self._scaling(kind, service)
        return service

    def _scaling(self, kind: WorkerClass, service: aws.ecs.Service) -> None:
        """Add workers while jobs wait; take all away when none has waited for a quarter of an hour."""
        dimension = "ecs:service:DesiredCount"
        target = aws.appautoscaling.Target(
            kind.name,
            min_capacity=0,
            max_capacity=kind.maximum,
            resource_id=pulumi.Output.concat("service/", self.cluster.name, "/", service.name),
            scalable_dimension=dimension,
            service_namespace="ecs",
            opts=self.mine,
        )
        # Lower bounds are counted from the alarm's threshold, which is 1.
        more = [(0, 9, 1), (9, 99, max(1, kind.maximum // 2)), (99, None, kind.maximum)]
        self._rule(kind, target, "more", more, "GreaterThanOrEqualToThreshold", 1)
        self._rule(kind, target, "none", [(None, 0, 0)], "LessThanThreshold", 3)

    def _rule(
        self,
        kind: WorkerClass,
        target: aws.appautoscaling.Target,
        name: str,
        steps: Sequence[tuple[int | None, int | None, int]],
        comparison: str,
        periods: int,
    ) -> None:
        policy = aws.appautoscaling.Policy(
            f"{kind.name}-{name}",
            policy_type="StepScaling",
            resource_id=target.resource_id,
            scalable_dimension=target.scalable_dimension,
            service_namespace=target.service_namespace,
            step_scaling_policy_configuration=aws.appautoscaling.PolicyStepScalingPolicyConfigurationArgs(
                adjustment_type="ExactCapacity",
                cooldown=60,
                metric_aggregation_type="Maximum",
                step_adjustments=[_step(*step) for step in steps],
            ),
            opts=self.mine,
        )
        aws.cloudwatch.MetricAlarm(
            f"{kind.name}-{name}",
            namespace=self.args.prefix,
            metric_name="JobsWaiting",
            dimensions={"WorkerClass": kind.name},
            statistic="Maximum",
            period=300,
            evaluation_periods=periods,
            comparison_operator=comparison,
            threshold=1,
            # A silent meter is no reason to start or to stop anything.
            treat_missing_data="ignore",
            alarm_actions=[policy.arn],
            opts=self.mine,
        )

    def _meter(self) -> None:
        """Start the queue's meter every five minutes: with no worker running, nobody else would look."""
        args = self.args
        kind = WorkerClass("meter", args.meter_command, cpu=256, memory_mib=512)
        role = self._role("meter", "ecs-tasks.amazonaws.com", policies.meter(args.prefix))
        task = self._task(kind, role)
        family = (
            f"arn:aws:ecs:{args.region}:{args.account}:task-definition/{args.prefix.replace('/', '-')}-meter"
        )
        may = pulumi.Output.all(self.cluster.arn, role.arn, self.starter.arn).apply(
            lambda known: policies.meter_schedule(family, known[0], known[1:])
        )
        scheduler = self._role("meter-schedule", "scheduler.amazonaws.com", may)
        aws.scheduler.Schedule(
            "meter",
            schedule_expression="rate(5 minutes)",
            flexible_time_window={"mode": "OFF"},
            target={
                "arn": self.cluster.arn,
                "role_arn": scheduler.arn,
                "retry_policy": {"maximum_retry_attempts": 0},
                "ecs_parameters": {
                    "task_definition_arn": task.arn,
                    "launch_type": "FARGATE",
                    "network_configuration": {
                        "subnets": list(args.subnet_ids),
                        "security_groups": [args.security_group_id],
                        "assign_public_ip": False,
                    },
                },
            },
            opts=self.mine,
        )


def _step(lower: int | None, upper: int | None, count: int) -> Any:  # noqa: ANN401
    bounds = {"metric_interval_lower_bound": lower, "metric_interval_upper_bound": upper}
    return {key: str(value) for key, value in bounds.items() if value is not None} | {
        "scaling_adjustment": count
    }
