"""One preview or update: each registration becomes a step; what nobody registered goes at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, resource_pb2

from tests.support.engine.state import ResourceState, State
from tests.support.engine.wire import to_python, to_struct
from tests.support.urns import aliases_of, urn_of


@dataclass(frozen=True)
class Step:
    """What happens to one resource.

    Attributes:
        operation: ``same``, ``create``, ``update``, ``replace``, ``delete`` or ``retain``.
        urn: Whose.
        changed: Names of inputs that differ.
        inputs: What is asked for; empty for what goes.
    """

    operation: str
    urn: str
    changed: tuple[str, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.urn.rpartition("::")[2]


class StepError(Exception):
    """A step that cannot be taken, or that the provider refused."""


class Deployment:
    """The engine's side of one run of the program.

    Args:
        stack: Name of the stack.
        project: Name of the project.
        state: What is there; changed by an update, left alone by a preview.
        provider: The provider of all resources.
        preview: Whether nothing may change.
        save: Called after every change of the state.
    """

    def __init__(
        self,
        stack: str,
        project: str,
        state: State,
        provider: provider_pb2_grpc.ResourceProviderStub,
        preview: bool,
        save: Callable[[], None],
    ) -> None:
        self.stack, self.project, self.state, self.provider = stack, project, state, provider
        self.preview, self.save = preview, save
        self.steps: list[Step] = []
        self.made: dict[str, ResourceState] = {}
        self.replaced: list[ResourceState] = []
        self.aliases: dict[str, tuple[str, ...]] = {}
        self.outputs: dict[str, Any] = {}
        self.errors: list[str] = []
        self._one = threading.Lock()

    def register(self, request: resource_pb2.RegisterResourceRequest) -> ResourceState:
        """Take the step that a registration asks for.

        Raises:
            StepError: When it is refused or fails.
        """
        with self._one:
            if self.errors:
                raise StepError("stopped, because another step failed")
            urn = urn_of(self.stack, self.project, request.parent, request.type, request.name)
            if urn in self.made:
                self._refuse(f"duplicate resource URN {urn}")
            self.aliases[urn] = aliases_of(
                self.stack, self.project, request, self.aliases.get(request.parent, ())
            )
            old = self.state.current((urn, *self.aliases[urn]))
            wanted = ResourceState(
                urn,
                request.type,
                request.custom,
                inputs=self._ignoring(to_python(request.object), old, request.ignoreChanges),
                parent=request.parent,
                dependencies=sorted(request.dependencies),
                provider=request.provider,
                protect=request.protect,
                retainOnDelete=request.retainOnDelete,
            )
            made = self._step(old, wanted, request)
            self.made[urn] = made
            self._put(old, made)
            return made

    def finish(self) -> None:
        """Delete what was replaced and what the program no longer declares, last made first."""
        gone = [one for one in self.state.resources if not one.delete and not self._declared(one)]
        left_over = [one for one in self.state.resources if one.delete and one not in self.replaced]
        for one in reversed([*left_over, *self.replaced, *gone]):
            self.delete(one)

    def delete(self, one: ResourceState, forced: bool = False) -> None:
        """Delete a resource, or only forget it.

        Raises:
            StepError: When it is protected, or the provider fails.
        """
        if one.protect and not forced and not one.delete:
            self._refuse(f"resource {one.urn} cannot be deleted because it is protected")
        self.steps.append(Step("retain" if one.retainOnDelete else "delete", one.urn))
        if self.preview:
            return
        if one.custom and not one.retainOnDelete and not one.type.startswith("pulumi:providers:"):
            request = provider_pb2.DeleteRequest(
                id=one.id, urn=one.urn, type=one.type, properties=to_struct(one.outputs)
            )
            self._ask(one.urn, "deleting", lambda: self.provider.Delete(request))
        self.state.resources.remove(one)
        self.save()

    def _declared(self, one: ResourceState) -> bool:
        return one.urn in self.made

    def _ignoring(
        self, inputs: dict[str, Any], old: ResourceState | None, ignored: Iterable[str]
    ) -> dict[str, Any]:
        if old is None:
            return inputs
        for key in ignored:
            inputs.pop(key, None)
            if key in old.inputs:
                inputs[key] = old.inputs[key]
        return inputs

    def _step(
        self, old: ResourceState | None, wanted: ResourceState, request: resource_pb2.RegisterResourceRequest
    ) -> ResourceState:
        if not wanted.custom or wanted.type.startswith("pulumi:providers:"):
            return self._of_the_engine(old, wanted)
        checked = self._check(old, wanted)
        if old is None:
            return self._create(checked, "create")
        difference = self._diff(old, checked, request)
        if difference.replaces:
            if old.protect:
                self._refuse(f"unable to replace resource {old.urn}: it is protected")
            changed = tuple(sorted(difference.replaces))
            if request.deleteBeforeReplace or difference.deleteBeforeReplace:
                self.delete(old)
            else:
                self._wait_for_deletion(old)
            return self._create(checked, "replace", changed)
        if difference.changes == provider_pb2.DiffResponse.DIFF_SOME:
            return self._update(old, checked, tuple(sorted(difference.diffs)))
        self.steps.append(Step("same", checked.urn, inputs=checked.inputs))
        checked.id, checked.outputs, checked.inputs = old.id, old.outputs, checked.inputs
        return checked

    def _of_the_engine(self, old: ResourceState | None, wanted: ResourceState) -> ResourceState:
        """Components and providers: nothing outside changes with them."""
        if wanted.custom:
            wanted.id = old.id if old else "provider-1"
            wanted.outputs = dict(wanted.inputs)
        changed = old is not None and old.inputs != wanted.inputs
        self.steps.append(Step("create" if old is None else "update" if changed else "same", wanted.urn))
        if wanted.custom:
            self._ask(wanted.urn, "configuring", lambda: self._configure(wanted))
        return wanted

    def _configure(self, wanted: ResourceState) -> None:
        self.provider.Configure(provider_pb2.ConfigureRequest(args=to_struct(wanted.inputs)))

    def _check(self, old: ResourceState | None, wanted: ResourceState) -> ResourceState:
        request = provider_pb2.CheckRequest(
            urn=wanted.urn,
            type=wanted.type,
            name=wanted.urn.rpartition("::")[2],
            olds=to_struct(old.inputs if old else {}),
            news=to_struct(wanted.inputs),
        )
        answer = self._ask(wanted.urn, "checking", lambda: self.provider.Check(request))
        for failure in answer.failures:
            self._refuse(f"{wanted.urn}: {failure.property}: {failure.reason}")
        wanted.inputs = to_python(answer.inputs)
        return wanted

    def _diff(
        self, old: ResourceState, wanted: ResourceState, request: resource_pb2.RegisterResourceRequest
    ) -> provider_pb2.DiffResponse:
        asked = provider_pb2.DiffRequest(
            id=old.id,
            urn=wanted.urn,
            type=wanted.type,
            olds=to_struct(old.outputs),
            old_inputs=to_struct(old.inputs),
            news=to_struct(wanted.inputs),
            ignoreChanges=list(request.ignoreChanges),
        )
        answer: provider_pb2.DiffResponse = self._ask(
            wanted.urn, "comparing", lambda: self.provider.Diff(asked)
        )
        return answer

    def _create(self, wanted: ResourceState, operation: str, changed: tuple[str, ...] = ()) -> ResourceState:
        self.steps.append(Step(operation, wanted.urn, changed, wanted.inputs))
        request = provider_pb2.CreateRequest(
            urn=wanted.urn,
            type=wanted.type,
            name=wanted.urn.rpartition("::")[2],
            properties=to_struct(wanted.inputs),
            preview=self.preview,
        )
        if not self.preview:
            self.state.pending.append(
                {"type": "creating", "resource": {"urn": wanted.urn, "type": wanted.type}}
            )
            self.save()
        try:
            answer = self._ask(wanted.urn, "creating", lambda: self.provider.Create(request))
        finally:
            # A step that ended, well or not, is no longer under way; only a crash leaves it written.
            self.state.pending = [one for one in self.state.pending if one["resource"]["urn"] != wanted.urn]
            if not self.preview:
                self.save()
        wanted.id, wanted.outputs = answer.id, to_python(answer.properties)
        return wanted

    def _update(self, old: ResourceState, wanted: ResourceState, changed: tuple[str, ...]) -> ResourceState:
        self.steps.append(Step("update", wanted.urn, changed, wanted.inputs))
        request = provider_pb2.UpdateRequest(
            id=old.id,
            urn=wanted.urn,
            type=wanted.type,
            olds=to_struct(old.outputs),
            old_inputs=to_struct(old.inputs),
            news=to_struct(wanted.inputs),
            preview=self.preview,
        )
        answer = self._ask(wanted.urn, "updating", lambda: self.provider.Update(request))
        wanted.id, wanted.outputs = old.id, to_python(answer.properties)
        return wanted

    def _wait_for_deletion(self, old: ResourceState) -> None:
        self.replaced.append(old)
        if not self.preview:
            old.delete = True

    def _put(self, old: ResourceState | None, made: ResourceState) -> None:
        """Put what was made where the order of making stays right: at the end of what this run has made."""
        if self.preview:
            return
        resources = self.state.resources
        if old in resources and old is not None and not old.delete:
            resources.remove(old)
        before = [at for at, one in enumerate(resources) if one.urn in self.made and not one.delete]
        resources.insert(before[-1] + 1 if before else 0, made)
        self.save()

    def _ask(self, urn: str, doing: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except grpc.RpcError as error:
            details = error.details() if isinstance(error, grpc.Call) else str(error)
            self._refuse(f"{doing} {urn}: {details}")

    def _refuse(self, message: str) -> None:
        self.errors.append(message)
        raise StepError(message)
