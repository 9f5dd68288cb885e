"""Preview, update, refresh and destroy of one stack, with its state in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.automation._server import LanguageServer
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    language_pb2,
    provider_pb2,
    provider_pb2_grpc,
    resource_pb2,
    resource_pb2_grpc,
)

from tests.support.engine.deployment import Deployment, Step, StepError
from tests.support.engine.state import ResourceState, State, read_state, write_state
from tests.support.engine.wire import to_python, to_struct


class DeploymentError(Exception):
    """The deployment failed; what had been done is in the state."""


@dataclass(frozen=True)
class Result:
    """What a run did, or would do.

    Attributes:
        steps: In the order in which they were taken.
        outputs: The stack's outputs.
        kept: URNs that a destruction left in the state.
    """

    steps: tuple[Step, ...]
    outputs: Mapping[str, Any]
    kept: tuple[str, ...] = ()

    def count(self) -> dict[str, int]:
        """Return how many steps of each operation there are, without those that change nothing."""
        found = Counter(step.operation for step in self.steps)
        found.pop("same", None)
        return dict(found)

    def names(self, operation: str) -> list[str]:
        return [step.name for step in self.steps if step.operation == operation]


class Engine:
    """One stack.

    Args:
        program: What declares its resources.
        provider: Address of the provider.
        state: The state file.
        config: The stack's configuration, keys with their namespace.
        stack: Its name.
        project: The project's name.
    """

    def __init__(
        self,
        program: Callable[[], None],
        provider: str,
        state: Path,
        config: Mapping[str, str] | None = None,
        stack: str = "production",
        project: str = "djops",
    ) -> None:
        self.program, self.file, self.config = program, state, dict(config or {})
        self.provider_address = provider
        self.stack, self.project = stack, project
        channel = grpc.insecure_channel(provider, options=_GRPC_CHANNEL_OPTIONS)
        self.provider = provider_pb2_grpc.ResourceProviderStub(channel)

    def preview(self) -> Result:
        """Say what an update would do."""
        return self._run(preview=True)

    def up(self, preview_first: bool = False) -> Result:
        """Make the stack what its program says.

        Args:
            preview_first: Do nothing when a preview fails, as ``pulumi up`` does; it takes twice the time.
        """
        if preview_first:
            self.preview()
        return self._run(preview=False)

    def state(self) -> State:
        return read_state(self.file)

    def refresh(self) -> Result:
        """Read what is there into the state.

        Returns:
            ``update`` for what had changed behind the engine's back, ``delete`` for what is gone.
        """
        state, steps = self.state(), []
        state.pending = []
        self._configure(state)
        for one in list(state.resources):
            if not one.custom or one.type.startswith("pulumi:providers:"):
                continue
            read = self.provider.Read(
                provider_pb2.ReadRequest(
                    id=one.id,
                    urn=one.urn,
                    type=one.type,
                    properties=to_struct(one.outputs),
                    inputs=to_struct(one.inputs),
                )
            )
            found = to_python(read.properties)
            if not read.id:
                state.resources.remove(one)
                steps.append(Step("delete", one.urn))
            elif found != one.outputs:
                changed = sorted(
                    key for key in {*found, *one.outputs} if found.get(key) != one.outputs.get(key)
                )
                one.outputs = found
                steps.append(Step("update", one.urn, tuple(changed)))
        self._save(state)
        return Result(tuple(steps), {})

    def destroy(self, exclude_protected: bool = False) -> Result:
        """Delete everything, last made first.

        Args:
            exclude_protected: Leave what is protected, and what that needs.

        Raises:
            DeploymentError: When something is protected, before anything is deleted; or when a step fails.
        """
        state = self.state()
        protected = [one for one in state.resources if one.protect]
        if protected and not exclude_protected:
            raise DeploymentError(f"{protected[0].urn} cannot be deleted because it is protected")
        kept = _needed(state, protected)
        self._configure(state)
        deployment = self._deployment(state, preview=False)
        try:
            for one in reversed(list(state.resources)):
                if one.urn not in kept:
                    deployment.delete(one)
        except StepError as error:
            raise DeploymentError(str(error)) from None
        return Result(tuple(deployment.steps), {}, tuple(one.urn for one in state.resources))

    def unprotect(self) -> None:
        """Take the protection off everything, as ``pulumi state unprotect --all`` does."""
        state = self.state()
        for one in state.resources:
            one.protect = False
        self._save(state)

    def _configure(self, state: State) -> None:
        for one in state.resources:
            if one.type.startswith("pulumi:providers:"):
                self.provider.Configure(provider_pb2.ConfigureRequest(args=to_struct(one.inputs)))

    def _save(self, state: State) -> None:
        write_state(self.file, self.stack, state)

    def _deployment(self, state: State, preview: bool) -> Deployment:
        return Deployment(self.stack, self.project, state, self.provider, preview, lambda: self._save(state))

    def _run(self, preview: bool) -> Result:
        state = self.state()
        deployment = self._deployment(state, preview)
        with _served(deployment) as address:
            request = language_pb2.RunRequest(
                project=self.project,
                stack=self.stack,
                config=self.config,
                dryRun=preview,
                parallel=4,
                monitor_address=address,
                args=[address],
            )
            failed = _ran(LanguageServer(self.program), request)
        if deployment.errors or failed:
            raise DeploymentError("; ".join(deployment.errors) or failed)
        try:
            deployment.finish()
        except StepError as error:
            raise DeploymentError(str(error)) from None
        return Result(tuple(deployment.steps), deployment.outputs)


def _ran(runtime: LanguageServer, request: Any) -> str:
    """Run a program; returns what it failed of, nothing when it did not."""
    try:
        return str(runtime.Run(request, None).error)  # type: ignore[no-untyped-call]
    except Exception as error:
        # What still waits for the step that failed ends in its own way.
        return f"{type(error).__name__}: {error}"


def _needed(state: State, protected: list[ResourceState]) -> set[str]:
    """Return the URNs of resources and of everything that they need, directly or not."""
    known = {one.urn: one for one in state.resources}
    found: set[str] = set()
    waiting = [one.urn for one in protected]
    while waiting:
        urn = waiting.pop()
        if urn in known and urn not in found:
            found.add(urn)
            one = known[urn]
            waiting += [one.parent, *one.dependencies, one.provider.rpartition("::")[0]]
    return found


class _Monitor(resource_pb2_grpc.ResourceMonitorServicer, engine_pb2_grpc.EngineServicer):
    """The services that a program calls."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def GetDeploymentInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return resource_pb2.DeploymentInfo(
            supportedFeatures=[resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS]
        )

    def SupportsFeature(self, request: Any, context: grpc.ServicerContext) -> Any:
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id == "aliasSpecs")

    def RegisterResource(self, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            made = self.deployment.register(request)
        except StepError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return resource_pb2.RegisterResourceResponse(
            urn=made.urn, id=made.id, object=to_struct(made.outputs if made.custom else {})
        )

    def RegisterResourceOutputs(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.urn.split("::")[2] == "pulumi:pulumi:Stack":
            self.deployment.outputs = to_python(request.outputs)
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        asked = provider_pb2.InvokeRequest(tok=request.tok, args=request.args)
        answer = self.deployment.provider.Invoke(asked)
        return resource_pb2.ResourceInvokeResponse(
            **{"return": getattr(answer, "return")}, failures=answer.failures
        )

    def SignalAndWaitForShutdown(self, request: Any, context: grpc.ServicerContext) -> Any:
        return empty_pb2.Empty()

    def Log(self, request: Any, context: grpc.ServicerContext) -> Any:
        return empty_pb2.Empty()

    def GetRootResource(self, request: Any, context: grpc.ServicerContext) -> Any:
        return engine_pb2.GetRootResourceResponse()

    def SetRootResource(self, request: Any, context: grpc.ServicerContext) -> Any:
        return engine_pb2.SetRootResourceResponse()


@contextmanager
def _served(deployment: Deployment) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(max_workers=16), options=_GRPC_CHANNEL_OPTIONS)
    monitor = _Monitor(deployment)
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, server)
    engine_pb2_grpc.add_EngineServicer_to_server(monitor, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        with suppress(Exception):
            server.stop(0).wait(60)
