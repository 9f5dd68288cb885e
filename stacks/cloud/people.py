"""People's groups: who may tunnel to the servers, and who may run the workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from cloud import policies


@dataclass(frozen=True)
class PeopleArgs:
    """Groups with their policies; who belongs to them is the account's business.

    Attributes:
        project: The project's name, part of the IAM path.
        environment: The stage, part of the groups' names.
        may: Policy documents by group.
    """

    project: str
    environment: str
    may: Mapping[str, pulumi.Input[policies.Document]]


class People(pulumi.ComponentResource):
    """IAM groups. Outputs: ``names``."""

    def __init__(self, name: str, args: PeopleArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("djops:cloud:People", name, None, opts)
        mine = pulumi.ResourceOptions(parent=self)
        self.names = []
        for group, may in args.may.items():
            made = aws.iam.Group(
                group,
                name=f"{args.project}-{args.environment}-{group}",
                path=f"/djops-system/{args.project}/",
                opts=mine,
            )
            written = pulumi.Output.from_input(may).apply(json.dumps)
            aws.iam.GroupPolicy(group, name="djops", group=made.name, policy=written, opts=mine)
            self.names.append(made.name)
        self.register_outputs({"names": self.names})
