"""The provider's side of the protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import boto3
import grpc
from google.protobuf import empty_pb2
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from tests.support.aws_double import compute, identity, network, storage
from tests.support.aws_double.kinds import KINDS, Kind, Props
from tests.support.engine.wire import UNKNOWN, has_unknown, to_python, to_struct

ALL = (compute, identity, network, storage)
Failing = dict[str, str]


class AwsDouble(provider_pb2_grpc.ResourceProviderServicer):
    """The provider.

    Attributes:
        fail: Messages of creations that are to fail, by the end of the URN: how a test breaks an update.
        calls: What was asked of it, as pairs of verb and name.
        asked: What it asked AWS for, as pairs of service and action.
    """

    def __init__(self) -> None:
        self.fail: Failing = {}
        self.calls: list[tuple[str, str]] = []
        self.asked: set[tuple[str, str]] = set()
        self.region, self.tags = "us-east-1", dict[str, str]()
        self._clients: dict[tuple[str, str], Any] = {}
        # moto is not made for several callers at once.
        self._one = threading.RLock()

    def client(self, service: str) -> Any:
        key = (service, self.region)
        if key not in self._clients:
            self._clients[key] = boto3.client(  # type: ignore[call-overload]
                service, region_name=self.region, aws_access_key_id="test", aws_secret_access_key="test"
            )
            events = self._clients[key].meta.events
            events.register("before-call", lambda model, **_: self.asked.add((service, model.name)))
        return self._clients[key]

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return plugin_pb2.PluginInfo(version="7.51.1")

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> Any:
        return provider_pb2.ProviderHandshakeResponse()

    def Attach(self, request: Any, context: grpc.ServicerContext) -> Any:
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: grpc.ServicerContext) -> Any:
        config = to_python(request.args)
        self.region = config.get("region", self.region)
        tags = config.get("defaultTags") or "{}"
        self.tags = (json.loads(tags) if isinstance(tags, str) else tags).get("tags", {})
        return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True)

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._one:
            args = to_python(request.args)
            answer = {} if has_unknown(args) else self._answer(request.tok.rpartition(":")[2], args)
            return provider_pb2.InvokeResponse(**{"return": to_struct(answer)})

    def _answer(self, question: str, args: Props) -> Props:
        if question == "getCallerIdentity":
            said = self.client("sts").get_caller_identity()
            return {
                "accountId": said["Account"],
                "arn": said["Arn"],
                "userId": said["UserId"],
                "id": said["Account"],
            }
        if question == "getAvailabilityZones":
            zones = self.client("ec2").describe_availability_zones()["AvailabilityZones"]
            return {"names": [zone["ZoneName"] for zone in zones], "id": self.region}
        if question == "getParameter":
            # moto knows AWS's public parameters of its own day only.
            return {"value": "ami-12c6146b", "name": args["name"], "id": args["name"]}
        if question == "getSubnet":
            (subnet,) = self.client("ec2").describe_subnets(SubnetIds=[args["id"]])["Subnets"]
            return {"availabilityZone": subnet["AvailabilityZone"], "id": args["id"]}
        raise NotImplementedError(f"the double has no answer to {question}")

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        inputs, kind = to_python(request.news), KINDS.get(request.type)
        if kind is None:
            failure = provider_pb2.CheckFailure(reason=f"the double does not know {request.type}")
            return provider_pb2.CheckResponse(failures=[failure])
        inputs = {key: value for key, value in inputs.items() if value is not None}
        if kind.named and kind.named not in inputs:
            before = to_python(request.olds).get(kind.named)
            inputs[kind.named] = (
                before or f"{request.name}-{hashlib.sha1(request.urn.encode()).hexdigest()[:7]}"
            )
        return provider_pb2.CheckResponse(inputs=to_struct(inputs))

    def Diff(self, request: Any, context: grpc.ServicerContext) -> Any:
        old, new = to_python(request.olds), to_python(request.news)
        asked = to_python(request.old_inputs)
        keys = set(new) | (set(asked) - set(new))
        changed = sorted(
            key for key in keys if old.get(key) != new.get(key) and not _same(old.get(key), new.get(key))
        )
        kind = KINDS[request.type]
        some = provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(
            changes=some,
            diffs=changed,
            replaces=[key for key in changed if key in kind.replace],
            deleteBeforeReplace=kind.delete_first,
        )

    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:
        inputs = to_python(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=to_struct(inputs))
        with self._one:
            self.calls.append(("create", request.name))
            for end, message in self.fail.items():
                if request.urn.endswith(end):
                    context.abort(grpc.StatusCode.UNKNOWN, message)
            kind = self._kind(request.type)
            id_ = self._try(context, lambda: kind.create(inputs))
            outputs = {**inputs, **(self._try(context, lambda: kind.find(id_, inputs)) or {})}
            return provider_pb2.CreateResponse(id=id_, properties=to_struct(outputs))

    def Read(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._one:
            known = to_python(request.properties)
            found = self._try(context, lambda: self._kind(request.type).find(request.id, known))
            if found is None:
                return provider_pb2.ReadResponse()
            return provider_pb2.ReadResponse(
                id=request.id, properties=to_struct({**known, **found}), inputs=request.inputs
            )

    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:
        old, new = to_python(request.olds), to_python(request.news)
        computed = {key: value for key, value in old.items() if key not in to_python(request.old_inputs)}
        if request.preview:
            return provider_pb2.UpdateResponse(properties=to_struct({**computed, **new}))
        with self._one:
            self.calls.append(("update", request.urn.rpartition("::")[2]))
            kind = self._kind(request.type)
            self._try(context, lambda: kind.update(request.id, new, old))
            found = self._try(context, lambda: kind.find(request.id, new)) or {}
            return provider_pb2.UpdateResponse(properties=to_struct({**computed, **new, **found}))

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._one:
            self.calls.append(("delete", request.urn.rpartition("::")[2]))
            kind, known = self._kind(request.type), to_python(request.properties)
            if self._try(context, lambda: kind.find(request.id, known)) is not None:
                self._try(context, lambda: kind.delete(request.id, known))
            return empty_pb2.Empty()

    def _kind(self, token: str) -> Kind:
        return KINDS[token](self.client, self.tags)

    def _try(self, context: grpc.ServicerContext, call: Any) -> Any:
        try:
            return call()
        except Exception as error:
            context.abort(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")


def _same(old: Any, new: Any) -> bool:
    """Documents that say the same, and numbers that are written as text."""
    if isinstance(old, str) and isinstance(new, str) and old[:1] in "{[" and new != UNKNOWN:
        try:
            return bool(json.loads(old) == json.loads(new))
        except ValueError:
            return False
    return False


@contextmanager
def served(double: AwsDouble) -> Iterator[str]:
    """Serve a provider on the loopback interface; yields its address."""
    server = grpc.server(ThreadPoolExecutor(max_workers=8), options=_GRPC_CHANNEL_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(double, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(60)
