"""The network: private subnets in two zones, one security group per role, no way in from outside."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

MYSQL, VAULT, HTTPS = 3306, 8200, 443


@dataclass(frozen=True)
class ExistingNetwork:
    """A VPC that is already there; it must reach S3, and its subnets must lie in two zones.

    Attributes:
        vpc_id: The VPC.
        subnet_ids: At least two private subnets in different zones.
    """

    vpc_id: str
    subnet_ids: tuple[str, ...]


@dataclass(frozen=True)
class NetworkArgs:
    """What the network looks like.

    Attributes:
        region: AWS region.
        cidr: Address range of the VPC, at least a /20.
        existing: Use this VPC and only add security groups.
    """

    region: str
    cidr: str = "10.40.0.0/16"
    existing: ExistingNetwork | None = None


class Network(pulumi.ComponentResource):
    """A VPC, or security groups in one that exists.

    Outputs: ``vpc_id``, ``subnet_ids`` (private), and the ids of the groups ``database``, ``secrets``,
    ``workers`` and ``gate``. Nothing accepts a connection except: the database from workers, gate and
    secrets server, the secrets server from workers and gate.
    """

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("djops:cloud:Network", name, None, opts)
        self.mine = pulumi.ResourceOptions(parent=self)
        self.vpc_id: pulumi.Input[str]
        self.subnet_ids: list[pulumi.Input[str]]
        if args.existing is None:
            self._make_vpc(args)
        else:
            self.vpc_id, self.subnet_ids = args.existing.vpc_id, list(args.existing.subnet_ids)
        self.groups = {role: self._group(role) for role in ("database", "secrets", "workers", "gate")}
        self._connect("workers", "database", MYSQL)
        self._connect("gate", "database", MYSQL)
        self._connect("secrets", "database", MYSQL)
        self._connect("workers", "secrets", VAULT)
        self._connect("gate", "secrets", VAULT)
        for role in ("workers", "secrets", "gate"):
            self._let_out(role)
        self.register_outputs({"vpc_id": self.vpc_id, "subnet_ids": self.subnet_ids})

    def _make_vpc(self, args: NetworkArgs) -> None:
        # Five equal parts of the range: two private, one public for the NAT gateway alone; two stay free.
        parts = list(ipaddress.ip_network(args.cidr).subnets(prefixlen_diff=4))
        zones = aws.get_availability_zones_output(
            state="available", opts=pulumi.InvokeOutputOptions(parent=self)
        ).names
        vpc = aws.ec2.Vpc(
            "vpc", cidr_block=args.cidr, enable_dns_hostnames=True, enable_dns_support=True, opts=self.mine
        )
        # The group that AWS makes by itself lets its members talk; nobody shall use it.
        aws.ec2.DefaultSecurityGroup("unused", vpc_id=vpc.id, ingress=[], egress=[], opts=self.mine)
        private = [
            aws.ec2.Subnet(
                f"private-{at}",
                vpc_id=vpc.id,
                cidr_block=str(parts[at]),
                availability_zone=zones[at],
                map_public_ip_on_launch=False,
                opts=self.mine,
            )
            for at in range(2)
        ]
        table = self._way_out(vpc, str(parts[2]), zones[0])
        for at, subnet in enumerate(private):
            aws.ec2.RouteTableAssociation(
                f"private-{at}", subnet_id=subnet.id, route_table_id=table.id, opts=self.mine
            )
        aws.ec2.VpcEndpoint(
            "s3",
            vpc_id=vpc.id,
            service_name=f"com.amazonaws.{args.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id],
            opts=self.mine,
        )
        self.vpc_id, self.subnet_ids = vpc.id, [subnet.id for subnet in private]

    def _way_out(self, vpc: aws.ec2.Vpc, cidr: str, zone: pulumi.Input[str]) -> aws.ec2.RouteTable:
        """Make the NAT gateway, which lets instances fetch images and packages and lets nothing in."""
        internet = aws.ec2.InternetGateway("internet", vpc_id=vpc.id, opts=self.mine)
        public = aws.ec2.Subnet(
            "public",
            vpc_id=vpc.id,
            cidr_block=cidr,
            availability_zone=zone,
            map_public_ip_on_launch=False,
            opts=self.mine,
        )
        outside = aws.ec2.RouteTable(
            "public", vpc_id=vpc.id, routes=[_default(gateway_id=internet.id)], opts=self.mine
        )
        aws.ec2.RouteTableAssociation(
            "public", subnet_id=public.id, route_table_id=outside.id, opts=self.mine
        )
        address = aws.ec2.Eip("nat", domain="vpc", opts=self.mine)
        nat = aws.ec2.NatGateway(
            "nat",
            subnet_id=public.id,
            allocation_id=address.id,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[internet]),
        )
        return aws.ec2.RouteTable(
            "private", vpc_id=vpc.id, routes=[_default(nat_gateway_id=nat.id)], opts=self.mine
        )

    def _group(self, role: str) -> aws.ec2.SecurityGroup:
        return aws.ec2.SecurityGroup(
            role, description=f"djops: {role}", vpc_id=self.vpc_id, tags={"Name": role}, opts=self.mine
        )

    def _connect(self, source: str, target: str, port: int) -> None:
        name = f"{source}-to-{target}"
        groups, between = self.groups, _tcp(port)
        aws.vpc.SecurityGroupIngressRule(
            name,
            security_group_id=groups[target].id,
            referenced_security_group_id=groups[source].id,
            opts=self.mine,
            **between,
        )
        aws.vpc.SecurityGroupEgressRule(
            name,
            security_group_id=groups[source].id,
            referenced_security_group_id=groups[target].id,
            opts=self.mine,
            **between,
        )

    def _let_out(self, role: str) -> None:
        aws.vpc.SecurityGroupEgressRule(
            f"{role}-to-https",
            security_group_id=self.groups[role].id,
            cidr_ipv4="0.0.0.0/0",
            opts=self.mine,
            **_tcp(HTTPS),
        )


def _default(**gateway: pulumi.Input[str]) -> aws.ec2.RouteTableRouteArgs:
    return aws.ec2.RouteTableRouteArgs(cidr_block="0.0.0.0/0", **gateway)


def _tcp(port: int) -> dict[str, Any]:
    return {"from_port": port, "to_port": port, "ip_protocol": "tcp"}
