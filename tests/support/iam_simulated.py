"""An IAM API in memory, as strict as AWS about sizes, versions and what is still in use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from djops.compile.packing import AWS, Atom, atoms, size, whole
from djops.compile.s3 import IamUser, ManagedPolicy, S3State
from djops.plan.operations import AwsCall

ACCOUNT = "123456789012"
VERSIONS = 5


@dataclass
class SimulatedIam:
    """Users and policies of one account; every call asserts what AWS refuses."""

    inline: dict[str, dict[str, Any]] = field(default_factory=dict)
    attached: dict[str, list[str]] = field(default_factory=dict)
    managed: dict[str, dict[str, Any]] = field(default_factory=dict)
    default: dict[str, str] = field(default_factory=dict)
    made: int = 0

    def call(self, operation: AwsCall) -> None:
        getattr(self, operation.action)(**operation.parameters)

    def state(self) -> S3State:
        users = {
            name: IamUser(dict(own), attached=tuple(self.attached[name])) for name, own in self.inline.items()
        }
        managed = {
            arn: ManagedPolicy(
                versions[self.default[arn]],
                self.default[arn],
                tuple(version for version in versions if version != self.default[arn]),
            )
            for arn, versions in self.managed.items()
        }
        return S3State(users, {}, managed, ACCOUNT)

    def allowed(self, name: str) -> frozenset[Atom]:
        documents = [self.managed[arn][self.default[arn]] for arn in self.attached.get(name, ())]
        return atoms(whole([*self.inline.get(name, {}).values(), *documents]), "Allow")

    def CreateUser(self, UserName: str, Path: str) -> None:
        self.inline[UserName], self.attached[UserName] = {}, []

    def DeleteUser(self, UserName: str) -> None:
        assert not self.inline[UserName] and not self.attached[UserName]
        del self.inline[UserName], self.attached[UserName]

    def PutUserPolicy(self, UserName: str, PolicyName: str, PolicyDocument: str) -> None:
        self.inline[UserName][PolicyName] = json.loads(PolicyDocument)
        assert sum(size(document) for document in self.inline[UserName].values()) <= AWS.inline

    def DeleteUserPolicy(self, UserName: str, PolicyName: str) -> None:
        self.inline[UserName].pop(PolicyName, None)

    def CreatePolicy(self, PolicyName: str, Path: str, PolicyDocument: str) -> None:
        arn = f"arn:aws:iam::{ACCOUNT}:policy{Path}{PolicyName}"
        assert arn not in self.managed
        self.managed[arn] = {}
        self._version(arn, PolicyDocument)

    def CreatePolicyVersion(self, PolicyArn: str, PolicyDocument: str, SetAsDefault: bool) -> None:
        assert SetAsDefault and len(self.managed[PolicyArn]) < VERSIONS
        self._version(PolicyArn, PolicyDocument)

    def _version(self, arn: str, text: str) -> None:
        self.made += 1
        document: Mapping[str, Any] = json.loads(text)
        assert size(document) <= AWS.managed and document["Statement"]
        self.default[arn] = f"v{self.made}"
        self.managed[arn][self.default[arn]] = document

    def DeletePolicyVersion(self, PolicyArn: str, VersionId: str) -> None:
        assert VersionId != self.default[PolicyArn]
        self.managed[PolicyArn].pop(VersionId, None)

    def DeletePolicy(self, PolicyArn: str) -> None:
        assert len(self.managed[PolicyArn]) == 1
        assert not any(PolicyArn in arns for arns in self.attached.values())
        del self.managed[PolicyArn], self.default[PolicyArn]

    def AttachUserPolicy(self, UserName: str, PolicyArn: str) -> None:
        assert PolicyArn in self.managed and len(self.attached[UserName]) < AWS.attached
        self.attached[UserName].append(PolicyArn)

    def DetachUserPolicy(self, UserName: str, PolicyArn: str) -> None:
        if PolicyArn in self.attached[UserName]:
            self.attached[UserName].remove(PolicyArn)
