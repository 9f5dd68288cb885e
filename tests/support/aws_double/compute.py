"""ECS, its machines, and what scales them."""

from __future__ import annotations

import json

from tests.support.aws_double.kinds import Kind, Props, kind, pascal


@kind("aws:ecs/cluster:Cluster", named="name")
class Cluster(Kind):
    def create(self, p: Props) -> str:
        return str(self.client("ecs").create_cluster(clusterName=p["name"])["cluster"]["clusterArn"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("ecs").describe_clusters(clusters=[id_])["clusters"]
        return {"arn": id_} if found and found[0]["status"] != "INACTIVE" else None

    def delete(self, id_: str, p: Props) -> None:
        self.client("ecs").delete_cluster(cluster=id_)


@kind("aws:ecs/capacityProvider:CapacityProvider", named="name")
class CapacityProvider(Kind):
    def create(self, p: Props) -> str:
        asked = p["autoScalingGroupProvider"]
        made = self.client("ecs").create_capacity_provider(
            name=p["name"], autoScalingGroupProvider={"autoScalingGroupArn": asked["autoScalingGroupArn"]}
        )
        return str(made["capacityProvider"]["capacityProviderArn"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("ecs").describe_capacity_providers(capacityProviders=[p["name"]])
        return {"arn": id_} if found["capacityProviders"] else None

    def delete(self, id_: str, p: Props) -> None:
        self.client("ecs").delete_capacity_provider(capacityProvider=p["name"])


@kind("aws:ecs/clusterCapacityProviders:ClusterCapacityProviders", replace="clusterName")
class ClusterCapacityProviders(Kind):
    def _put(self, cluster: str, providers: list[str]) -> None:
        self.client("ecs").put_cluster_capacity_providers(
            cluster=cluster, capacityProviders=providers, defaultCapacityProviderStrategy=[]
        )

    def create(self, p: Props) -> str:
        self._put(p["clusterName"], p["capacityProviders"])
        return str(p["clusterName"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("ecs").describe_clusters(clusters=[id_])["clusters"]
        return {} if found and found[0]["status"] != "INACTIVE" else None

    def update(self, id_: str, p: Props, old: Props) -> None:
        self._put(id_, p["capacityProviders"])

    def delete(self, id_: str, p: Props) -> None:
        self._put(id_, [])


@kind(
    "aws:ecs/taskDefinition:TaskDefinition",
    replace="family containerDefinitions cpu memory taskRoleArn executionRoleArn "
    "requiresCompatibilities networkMode",
)
class TaskDefinition(Kind):
    def create(self, p: Props) -> str:
        made = self.client("ecs").register_task_definition(
            family=p["family"], containerDefinitions=json.loads(p["containerDefinitions"]), cpu=p["cpu"],
            memory=p["memory"], taskRoleArn=p["taskRoleArn"], executionRoleArn=p["executionRoleArn"],
            requiresCompatibilities=p["requiresCompatibilities"], networkMode=p["networkMode"],
        )  # fmt: skip
        return str(made["taskDefinition"]["taskDefinitionArn"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("ecs").describe_task_definition(taskDefinition=id_)["taskDefinition"]
        return {"arn": id_, "revision": found["revision"]} if found["status"] == "ACTIVE" else None

    def update(self, id_: str, p: Props, old: Props) -> None:
        """Only tags change without a new revision."""

    def delete(self, id_: str, p: Props) -> None:
        self.client("ecs").deregister_task_definition(taskDefinition=id_)


@kind("aws:ecs/service:Service", replace="name cluster")
class Service(Kind):
    def create(self, p: Props) -> str:
        made = self.client("ecs").create_service(
            cluster=p["cluster"], serviceName=p["name"], taskDefinition=p["taskDefinition"],
            desiredCount=p["desiredCount"],
        )  # fmt: skip
        return str(made["service"]["serviceArn"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("ecs").describe_services(cluster=p["cluster"], services=[p["name"]])["services"]
        if not found or found[0]["status"] == "INACTIVE":
            return None
        return {
            "arn": id_,
            "desiredCount": found[0]["desiredCount"],
            "taskDefinition": found[0]["taskDefinition"],
        }

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.client("ecs").update_service(
            cluster=p["cluster"],
            service=p["name"],
            taskDefinition=p["taskDefinition"],
            desiredCount=p["desiredCount"],
        )

    def delete(self, id_: str, p: Props) -> None:
        self.client("ecs").delete_service(cluster=p["cluster"], service=p["name"], force=True)


@kind("aws:appautoscaling/target:Target", replace="resourceId scalableDimension serviceNamespace")
class Target(Kind):
    def _names(self, p: Props) -> Props:
        return pascal({key: p[key] for key in ("resourceId", "scalableDimension", "serviceNamespace")})  # type: ignore[no-any-return]

    def create(self, p: Props) -> str:
        self.update("", p, {})
        return str(p["resourceId"])

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.client("application-autoscaling").register_scalable_target(
            MinCapacity=p["minCapacity"], MaxCapacity=p["maxCapacity"], **self._names(p)
        )

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace=p["serviceNamespace"], ResourceIds=[p["resourceId"]]
        )["ScalableTargets"]
        return (
            {"minCapacity": found[0]["MinCapacity"], "maxCapacity": found[0]["MaxCapacity"]}
            if found
            else None
        )

    def delete(self, id_: str, p: Props) -> None:
        self.client("application-autoscaling").deregister_scalable_target(**self._names(p))


@kind(
    "aws:appautoscaling/policy:Policy", named="name", replace="resourceId scalableDimension serviceNamespace"
)
class Policy(Target):
    def update(self, id_: str, p: Props, old: Props) -> None:
        asked = json.loads(json.dumps(p["stepScalingPolicyConfiguration"]))
        for step in asked["stepAdjustments"]:
            for key in ("metricIntervalLowerBound", "metricIntervalUpperBound"):
                if key in step:
                    step[key] = float(step[key])
        self.client("application-autoscaling").put_scaling_policy(
            PolicyName=p["name"], PolicyType=p["policyType"], StepScalingPolicyConfiguration=pascal(asked),
            **self._names(p),
        )  # fmt: skip

    def create(self, p: Props) -> str:
        self.update("", p, {})
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("application-autoscaling").describe_scaling_policies(
            ServiceNamespace=p["serviceNamespace"], ResourceId=p["resourceId"]
        )["ScalingPolicies"]
        mine = [one for one in found if one["PolicyName"] == id_]
        return {"arn": mine[0]["PolicyARN"]} if mine else None

    def delete(self, id_: str, p: Props) -> None:
        self.client("application-autoscaling").delete_scaling_policy(PolicyName=id_, **self._names(p))


@kind("aws:cloudwatch/metricAlarm:MetricAlarm", named="name")
class MetricAlarm(Kind):
    def create(self, p: Props) -> str:
        self.update(p["name"], p, {})
        return str(p["name"])

    def update(self, id_: str, p: Props, old: Props) -> None:
        direct = (
            "namespace", "metricName", "statistic", "period", "evaluationPeriods", "comparisonOperator",
            "threshold", "treatMissingData", "alarmActions",
        )  # fmt: skip
        dimensions = [{"Name": key, "Value": value} for key, value in p["dimensions"].items()]
        asked = pascal({key: p[key] for key in direct})
        self.client("cloudwatch").put_metric_alarm(AlarmName=id_, Dimensions=dimensions, **asked)

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("cloudwatch").describe_alarms(AlarmNames=[id_])["MetricAlarms"]
        return (
            {"arn": found[0]["AlarmArn"], "treatMissingData": found[0]["TreatMissingData"]} if found else None
        )

    def delete(self, id_: str, p: Props) -> None:
        self.client("cloudwatch").delete_alarms(AlarmNames=[id_])


@kind("aws:autoscaling/group:Group", named="name")
class AutoscalingGroup(Kind):
    def create(self, p: Props) -> str:
        launch = p["mixedInstancesPolicy"]["launchTemplate"]["launchTemplateSpecification"]
        self.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=p["name"], MinSize=p["minSize"], MaxSize=p["maxSize"],
            LaunchTemplate={"LaunchTemplateId": launch["launchTemplateId"], "Version": "$Latest"},
            VPCZoneIdentifier=",".join(p["vpcZoneIdentifiers"]),
        )  # fmt: skip
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[id_])
        groups = found["AutoScalingGroups"]
        return {"arn": groups[0]["AutoScalingGroupARN"], "maxSize": groups[0]["MaxSize"]} if groups else None

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.client("autoscaling").update_auto_scaling_group(
            AutoScalingGroupName=id_, MinSize=p["minSize"], MaxSize=p["maxSize"]
        )

    def delete(self, id_: str, p: Props) -> None:
        self.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=id_, ForceDelete=True)


@kind("aws:scheduler/schedule:Schedule", named="name")
class Schedule(Kind):
    def create(self, p: Props) -> str:
        self.client("scheduler").create_schedule(
            Name=p["name"],
            ScheduleExpression=p["scheduleExpression"],
            FlexibleTimeWindow=pascal(p["flexibleTimeWindow"]),
            Target={"Arn": p["target"]["arn"], "RoleArn": p["target"]["roleArn"]},
        )
        return str(p["name"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.client("scheduler").get_schedule(Name=id_)
        return {"scheduleExpression": found["ScheduleExpression"]}

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.client("scheduler").update_schedule(
            Name=id_,
            ScheduleExpression=p["scheduleExpression"],
            FlexibleTimeWindow=pascal(p["flexibleTimeWindow"]),
            Target={"Arn": p["target"]["arn"], "RoleArn": p["target"]["roleArn"]},
        )

    def delete(self, id_: str, p: Props) -> None:
        self.client("scheduler").delete_schedule(Name=id_)
