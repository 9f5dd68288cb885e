"""VPC, subnets, routes, groups and machines."""

from __future__ import annotations

from typing import Any

from tests.support.aws_double.kinds import Kind, Props, kind


class _Ec2(Kind):
    @property
    def ec2(self) -> Any:
        return self.client("ec2")


@kind("aws:ec2/vpc:Vpc", replace="cidrBlock")
class Vpc(_Ec2):
    def create(self, p: Props) -> str:
        made = self.ec2.create_vpc(CidrBlock=p["cidrBlock"], TagSpecifications=self.specification("vpc", p))
        id_: str = made["Vpc"]["VpcId"]
        self.update(id_, p, {})
        return id_

    def read(self, id_: str, p: Props) -> Props | None:
        (found,) = self.ec2.describe_vpcs(VpcIds=[id_])["Vpcs"]
        return {"cidrBlock": found["CidrBlock"], "arn": f"arn:aws:ec2:::vpc/{id_}"}

    def update(self, id_: str, p: Props, old: Props) -> None:
        for name in ("EnableDnsSupport", "EnableDnsHostnames"):
            value = {"Value": p[name[:1].lower() + name[1:]]}
            self.ec2.modify_vpc_attribute(VpcId=id_, **{name: value})

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.delete_vpc(VpcId=id_)


@kind("aws:ec2/subnet:Subnet", replace="vpcId cidrBlock availabilityZone")
class Subnet(_Ec2):
    def create(self, p: Props) -> str:
        made = self.ec2.create_subnet(
            VpcId=p["vpcId"], CidrBlock=p["cidrBlock"], AvailabilityZone=p["availabilityZone"],
            TagSpecifications=self.specification("subnet", p),
        )  # fmt: skip
        return str(made["Subnet"]["SubnetId"])

    def read(self, id_: str, p: Props) -> Props | None:
        (found,) = self.ec2.describe_subnets(SubnetIds=[id_])["Subnets"]
        return {
            "mapPublicIpOnLaunch": found["MapPublicIpOnLaunch"],
            "availabilityZone": found["AvailabilityZone"],
        }

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.ec2.modify_subnet_attribute(
            SubnetId=id_, MapPublicIpOnLaunch={"Value": p["mapPublicIpOnLaunch"]}
        )

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.delete_subnet(SubnetId=id_)


@kind("aws:ec2/internetGateway:InternetGateway", replace="vpcId")
class InternetGateway(_Ec2):
    def create(self, p: Props) -> str:
        id_: str = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=id_, VpcId=p["vpcId"])
        return id_

    def read(self, id_: str, p: Props) -> Props | None:
        self.ec2.describe_internet_gateways(InternetGatewayIds=[id_])
        return {}

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.detach_internet_gateway(InternetGatewayId=id_, VpcId=p["vpcId"])
        self.ec2.delete_internet_gateway(InternetGatewayId=id_)


@kind("aws:ec2/eip:Eip", replace="domain")
class Eip(_Ec2):
    def create(self, p: Props) -> str:
        return str(self.ec2.allocate_address(Domain=p["domain"])["AllocationId"])

    def read(self, id_: str, p: Props) -> Props | None:
        (found,) = self.ec2.describe_addresses(AllocationIds=[id_])["Addresses"]
        return {"publicIp": found["PublicIp"]}

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.release_address(AllocationId=id_)


@kind("aws:ec2/natGateway:NatGateway", replace="subnetId allocationId")
class NatGateway(_Ec2):
    def create(self, p: Props) -> str:
        made = self.ec2.create_nat_gateway(SubnetId=p["subnetId"], AllocationId=p["allocationId"])
        return str(made["NatGateway"]["NatGatewayId"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.ec2.describe_nat_gateways(NatGatewayIds=[id_])["NatGateways"]
        return {} if found and found[0]["State"] != "deleted" else None

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.delete_nat_gateway(NatGatewayId=id_)


@kind("aws:ec2/routeTable:RouteTable", replace="vpcId")
class RouteTable(_Ec2):
    def create(self, p: Props) -> str:
        id_: str = self.ec2.create_route_table(VpcId=p["vpcId"])["RouteTable"]["RouteTableId"]
        self.update(id_, p, {})
        return id_

    def read(self, id_: str, p: Props) -> Props | None:
        (found,) = self.ec2.describe_route_tables(RouteTableIds=[id_])["RouteTables"]
        keys = {"GatewayId": "gatewayId", "NatGatewayId": "natGatewayId"}
        routes = [
            {"cidrBlock": route["DestinationCidrBlock"]}
            | {to: route[key] for key, to in keys.items() if route.get(key)}
            for route in found["Routes"]
            if route.get("GatewayId") != "local" and "DestinationCidrBlock" in route
        ]
        return {"routes": routes}

    def update(self, id_: str, p: Props, old: Props) -> None:
        for route in p.get("routes", []):
            target = {key[:1].upper() + key[1:]: value for key, value in route.items() if key != "cidrBlock"}
            self.ec2.create_route(RouteTableId=id_, DestinationCidrBlock=route["cidrBlock"], **target)

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.delete_route_table(RouteTableId=id_)


@kind("aws:ec2/routeTableAssociation:RouteTableAssociation", replace="subnetId")
class RouteTableAssociation(_Ec2):
    def create(self, p: Props) -> str:
        made = self.ec2.associate_route_table(SubnetId=p["subnetId"], RouteTableId=p["routeTableId"])
        return str(made["AssociationId"])

    def read(self, id_: str, p: Props) -> Props | None:
        wanted = [{"Name": "association.route-table-association-id", "Values": [id_]}]
        found = self.ec2.describe_route_tables(Filters=wanted)["RouteTables"]
        return {"routeTableId": found[0]["RouteTableId"]} if found else None

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.disassociate_route_table(AssociationId=id_)


@kind("aws:ec2/vpcEndpoint:VpcEndpoint", replace="vpcId serviceName vpcEndpointType")
class VpcEndpoint(_Ec2):
    def create(self, p: Props) -> str:
        made = self.ec2.create_vpc_endpoint(
            VpcId=p["vpcId"], ServiceName=p["serviceName"], VpcEndpointType=p["vpcEndpointType"],
            RouteTableIds=p["routeTableIds"],
        )  # fmt: skip
        return str(made["VpcEndpoint"]["VpcEndpointId"])

    def read(self, id_: str, p: Props) -> Props | None:
        (found,) = self.ec2.describe_vpc_endpoints(VpcEndpointIds=[id_])["VpcEndpoints"]
        return {"routeTableIds": found["RouteTableIds"]} if found["State"].lower() != "deleted" else None

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.delete_vpc_endpoints(VpcEndpointIds=[id_])


@kind("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", replace="vpcId")
class DefaultSecurityGroup(_Ec2):
    """It is there already: making it means emptying it, and it cannot be removed."""

    def create(self, p: Props) -> str:
        wanted = [{"Name": "vpc-id", "Values": [p["vpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
        (found,) = self.ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]
        self._empty(found)
        return str(found["GroupId"])

    def _empty(self, found: Any) -> None:
        if found["IpPermissions"]:
            self.ec2.revoke_security_group_ingress(
                GroupId=found["GroupId"], IpPermissions=found["IpPermissions"]
            )
        if found["IpPermissionsEgress"]:
            self.ec2.revoke_security_group_egress(
                GroupId=found["GroupId"], IpPermissions=found["IpPermissionsEgress"]
            )

    def read(self, id_: str, p: Props) -> Props | None:
        (found,) = self.ec2.describe_security_groups(GroupIds=[id_])["SecurityGroups"]
        return {
            "ingress": [str(one) for one in found["IpPermissions"]],
            "egress": [str(one) for one in found["IpPermissionsEgress"]],
        }

    def update(self, id_: str, p: Props, old: Props) -> None:
        (found,) = self.ec2.describe_security_groups(GroupIds=[id_])["SecurityGroups"]
        self._empty(found)

    def delete(self, id_: str, p: Props) -> None:
        pass


@kind("aws:ec2/securityGroup:SecurityGroup", named="name", replace="vpcId description")
class SecurityGroup(_Ec2):
    def create(self, p: Props) -> str:
        made = self.ec2.create_security_group(
            GroupName=p["name"], Description=p["description"], VpcId=p["vpcId"],
            TagSpecifications=self.specification("security-group", p),
        )  # fmt: skip
        # AWS opens every new group outwards; the provider closes it.
        (found,) = self.ec2.describe_security_groups(GroupIds=[made["GroupId"]])["SecurityGroups"]
        self.ec2.revoke_security_group_egress(
            GroupId=made["GroupId"], IpPermissions=found["IpPermissionsEgress"]
        )
        return str(made["GroupId"])

    def read(self, id_: str, p: Props) -> Props | None:
        self.ec2.describe_security_groups(GroupIds=[id_])
        return {}

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.ec2.create_tags(Resources=[id_], Tags=self.tag_list(p))

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.delete_security_group(GroupId=id_)


class _Rule(_Ec2):
    way: str

    def create(self, p: Props) -> str:
        permission: Props = {"IpProtocol": p["ipProtocol"], "FromPort": p["fromPort"], "ToPort": p["toPort"]}
        if p.get("cidrIpv4"):
            permission["IpRanges"] = [{"CidrIp": p["cidrIpv4"]}]
        if p.get("referencedSecurityGroupId"):
            permission["UserIdGroupPairs"] = [{"GroupId": p["referencedSecurityGroupId"]}]
        call = getattr(self.ec2, f"authorize_security_group_{self.way}")
        made = call(GroupId=p["securityGroupId"], IpPermissions=[permission])
        return str(made["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def read(self, id_: str, p: Props) -> Props | None:
        group = [{"Name": "group-id", "Values": [p["securityGroupId"]]}]
        rules = self.ec2.describe_security_group_rules(Filters=group)["SecurityGroupRules"]
        return {} if any(rule["SecurityGroupRuleId"] == id_ for rule in rules) else None

    def delete(self, id_: str, p: Props) -> None:
        call = getattr(self.ec2, f"revoke_security_group_{self.way}")
        call(GroupId=p["securityGroupId"], SecurityGroupRuleIds=[id_])


_RULE = "securityGroupId cidrIpv4 referencedSecurityGroupId fromPort toPort ipProtocol"


@kind("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", replace=_RULE)
class IngressRule(_Rule):
    way = "ingress"


@kind("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule", replace=_RULE)
class EgressRule(_Rule):
    way = "egress"


@kind("aws:ec2/instance:Instance", replace="ami subnetId userData rootBlockDevice")
class Instance(_Ec2):
    def create(self, p: Props) -> str:
        (made,) = self.ec2.run_instances(
            ImageId=p["ami"], InstanceType=p["instanceType"], SubnetId=p["subnetId"], MinCount=1, MaxCount=1,
            SecurityGroupIds=p["vpcSecurityGroupIds"], UserData=p.get("userData", ""),
            IamInstanceProfile={"Name": p["iamInstanceProfile"]},
            TagSpecifications=self.specification("instance", p),
        )["Instances"]  # fmt: skip
        return str(made["InstanceId"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.ec2.describe_instances(InstanceIds=[id_])["Reservations"][0]["Instances"][0]
        if found["State"]["Name"] == "terminated":
            return None
        return {
            "instanceType": found["InstanceType"],
            "privateDns": found["PrivateDnsName"],
            "arn": f"arn:aws:ec2:::instance/{id_}",
        }

    def update(self, id_: str, p: Props, old: Props) -> None:
        self.ec2.stop_instances(InstanceIds=[id_])
        self.ec2.modify_instance_attribute(InstanceId=id_, InstanceType={"Value": p["instanceType"]})
        self.ec2.start_instances(InstanceIds=[id_])

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.terminate_instances(InstanceIds=[id_])


@kind("aws:ec2/launchTemplate:LaunchTemplate", named="name")
class LaunchTemplate(_Ec2):
    def create(self, p: Props) -> str:
        data = {"ImageId": p["imageId"], "UserData": p["userData"]}
        made = self.ec2.create_launch_template(LaunchTemplateName=p["name"], LaunchTemplateData=data)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def read(self, id_: str, p: Props) -> Props | None:
        found = self.ec2.describe_launch_templates(LaunchTemplateIds=[id_])["LaunchTemplates"]
        return {} if found else None

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.delete_launch_template(LaunchTemplateId=id_)


@kind("aws:ebs/volume:Volume", replace="availabilityZone encrypted kmsKeyId")
class Volume(_Ec2):
    def create(self, p: Props) -> str:
        made = self.ec2.create_volume(
            AvailabilityZone=p["availabilityZone"], Size=p["size"], Encrypted=p["encrypted"],
            KmsKeyId=p["kmsKeyId"], VolumeType=p["type"], TagSpecifications=self.specification("volume", p),
        )  # fmt: skip
        return str(made["VolumeId"])

    def read(self, id_: str, p: Props) -> Props | None:
        (found,) = self.ec2.describe_volumes(VolumeIds=[id_])["Volumes"]
        return {"size": found["Size"], "encrypted": found["Encrypted"]}

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.delete_volume(VolumeId=id_)


@kind("aws:ec2/volumeAttachment:VolumeAttachment", replace="volumeId instanceId deviceName")
class VolumeAttachment(_Ec2):
    def create(self, p: Props) -> str:
        self.ec2.attach_volume(Device=p["deviceName"], VolumeId=p["volumeId"], InstanceId=p["instanceId"])
        return f"vai-{p['volumeId']}"

    def read(self, id_: str, p: Props) -> Props | None:
        (found,) = self.ec2.describe_volumes(VolumeIds=[p["volumeId"]])["Volumes"]
        return {} if found["Attachments"] else None

    def delete(self, id_: str, p: Props) -> None:
        self.ec2.detach_volume(VolumeId=p["volumeId"], InstanceId=p["instanceId"])
