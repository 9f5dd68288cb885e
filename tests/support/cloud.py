"""What the stacks declare, without an engine: every registration with its inputs and options."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pulumi
from pulumi.runtime import mocks as pulumi_mocks
from pulumi.runtime import rpc
from pulumi.runtime.proto import resource_pb2

from tests.support.urns import STACK_TYPE, aliases_of, urn_of

STACKS = Path(__file__).resolve().parents[2] / "stacks"
sys.path.insert(0, str(STACKS))

from cloud.object_store import BucketArgs  # noqa: E402
from cloud.program import provision  # noqa: E402
from cloud.secrets_server import OpenBaoRelease  # noqa: E402
from cloud.settings import Settings, size_named  # noqa: E402
from cloud.workers import Image, WorkerClass  # noqa: E402

ACCOUNT, REGION = "123456789012", "eu-central-1"
STACK, PROJECT = "production", "djops"

FOLDERS = {
    "read": ("demo/_hash/session/", "demo/_schema/session/"),
    "write": ("demo/_hash/ephys/", "demo/_schema/ephys/"),
}


def worker_class(name: str = "cpu", **other: Any) -> WorkerClass:
    may: dict[str, Any] = {"read": {"demo-raw": FOLDERS["read"]}, "write": {"demo-raw": FOLDERS["write"]}}
    return WorkerClass(name, ("python", "-m", "my_pipeline.work"), **may, **other)


def settings(**other: Any) -> Settings:
    """The settings of a whole stack, with what a test wants otherwise."""
    ordinary = Settings(
        project="demo_lab",
        environment="production",
        region=REGION,
        size=size_named("small"),
        buckets=(BucketArgs("demo-raw", tiering=True), BucketArgs("demo-locked", lock_days=30)),
        openbao=OpenBaoRelease("https://packages.invalid/openbao-2.7.2.aarch64.rpm", "ab" * 32),
        image=Image(
            f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/demo@sha256:" + "12" * 32,
            "c0ffee" * 6 + "abcd",
            f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/demo",
        ),
        workers=(worker_class(), worker_class("gpu", gpus=1)),
        meter_command=("python", "-m", "my_pipeline.meter"),
        audit=True,
        budget_usd=300,
        budget_emails=("lab@example.org",),
    )
    return dataclasses.replace(ordinary, **other)


@dataclass(frozen=True)
class Registered:
    """One resource as the program asked for it.

    Attributes:
        urn: As the engine would write it.
        type: For example ``aws:rds/instance:Instance``.
        name: Its logical name.
        inputs: Its inputs, with the engine's names.
        protect: Whether the engine must refuse to delete it.
        retain: Whether it stays when the stack goes.
        ignored: Inputs whose changes do not count.
        provider: Reference of its provider.
        delete_first: Whether a replacement waits for the deletion.
        aliases: URNs that it may have had before.
    """

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    protect: bool
    retain: bool
    ignored: tuple[str, ...]
    provider: str
    delete_first: bool
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Declared:
    """Everything that one run of the program registered.

    Attributes:
        resources: In the order of registration.
        outputs: The stack's outputs.
    """

    resources: tuple[Registered, ...]
    outputs: Mapping[str, Any]

    def of(self, kind: str) -> dict[str, Registered]:
        """Return the resources of one type by name, given without the package's repetitions."""
        return {one.name: one for one in self.resources if short(one.type) == kind}

    def aws(self) -> Iterator[Registered]:
        return (one for one in self.resources if one.type.startswith("aws:"))

    def documents(self, kind: str) -> dict[str, Any]:
        return {name: json.loads(one.inputs["policy"]) for name, one in self.of(kind).items()}


def lost(known: Iterable[str], made: Declared) -> set[str]:
    """Return the known URNs that the engine would take for removed: neither declared nor an alias."""
    kept = {one.urn for one in made.resources} | {alias for one in made.resources for alias in one.aliases}
    return set(known) - kept


def short(token: str) -> str:
    """``aws:rds/instance:Instance`` is ``rds.Instance``."""
    package, _, rest = token.partition(":")
    module, _, name = rest.partition(":")
    return f"{module.partition('/')[0]}.{name}" if package == "aws" else token


def known_answers(token: str) -> dict[str, Any]:
    """What AWS would say to the questions that the program asks."""
    answers: dict[str, dict[str, Any]] = {
        "aws:index/getCallerIdentity:getCallerIdentity": {
            "accountId": ACCOUNT,
            "arn": f"arn:aws:iam::{ACCOUNT}:user/ann",
            "id": ACCOUNT,
            "userId": "AIDA",
        },
        "aws:index/getAvailabilityZones:getAvailabilityZones": {
            "names": [f"{REGION}a", f"{REGION}b", f"{REGION}c"],
            "id": REGION,
            "zoneIds": [],
            "groupNames": [],
        },
        "aws:ssm/getParameter:getParameter": {"value": "ami-0123456789abcdef0", "name": "ami", "id": "ami"},
        "aws:ec2/getSubnet:getSubnet": {"availabilityZone": f"{REGION}a", "id": "subnet-1"},
    }
    return answers[token]


class _Answers(pulumi_mocks.Mocks):
    def new_resource(self, args: pulumi_mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        kind, state = short(args.typ), dict(args.inputs)
        name = state.get("name") or state.get("identifier") or state.get("bucket") or f"{args.name}-1a2b3c"
        state.setdefault("name", name)
        state["arn"] = f"arn:aws:{kind.partition('.')[0]}:{REGION}:{ACCOUNT}:{args.name}"
        if kind == "ec2.Instance":
            state["privateDns"] = f"{args.name}.{REGION}.compute.internal"
        if kind == "rds.Instance":
            state |= {"address": f"{name}.rds.invalid", "port": 3306}
            state["masterUserSecrets"] = [
                {"secretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds"}
            ]
        return f"{name}-id", state

    def call(self, args: pulumi_mocks.MockCallArgs) -> dict[str, Any]:  # type: ignore[override]
        return known_answers(args.token)


class _Monitor(pulumi_mocks.MockMonitor):
    """The SDK's monitor, which also keeps what the registrations say besides inputs."""

    def __init__(self) -> None:
        super().__init__(_Answers())
        self.seen: list[Registered] = []
        self.aliases: dict[str, tuple[str, ...]] = {}

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        return urn_of(STACK, PROJECT, parent, type_, name)

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> Any:
        answer: Any = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        before = aliases_of(STACK, PROJECT, request, self.aliases.get(request.parent, ()))
        self.aliases[answer.urn] = before
        self.seen.append(
            Registered(
                urn=answer.urn,
                type=request.type,
                name=request.name,
                inputs=rpc.deserialize_properties(request.object),
                protect=request.protect,
                retain=request.retainOnDelete,
                ignored=tuple(request.ignoreChanges),
                provider=request.provider,
                delete_first=request.deleteBeforeReplace,
                aliases=before,
            )
        )
        return answer


def declared(wanted: Settings | None = None, program: Callable[[Settings], None] = provision) -> Declared:
    """Run a program with nothing behind it."""
    monitor = _Monitor()
    outputs: dict[str, Any] = {}
    pulumi_mocks.set_mocks(monitor.mocks, project=PROJECT, stack=STACK, preview=False, monitor=monitor)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def run() -> Any:
        exported: dict[str, Any] = {}
        with mock.patch.object(pulumi, "export", exported.__setitem__):
            program(wanted or settings())
        return pulumi.Output.from_input(exported).apply(outputs.update)

    run()
    return Declared(tuple(one for one in monitor.seen if one.type != STACK_TYPE), outputs)
