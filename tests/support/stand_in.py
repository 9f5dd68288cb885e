"""A stack on the stand-in engine, in the place of Pulumi's own: what services ask of it is the same."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from djops.plan.cloud import Fate, Refusal, StackStep
from djops.systems.pulumi import EngineError, Event, Known, Previewed, Workplace, run_program
from tests.support.engine import DeploymentError, Engine, Result, Step
from tests.support.engine.state import ResourceState, write_state

FATES = {
    "same": Fate.KEEP,
    "create": Fate.CREATE,
    "update": Fate.CHANGE,
    "replace": Fate.REPLACE,
    "delete": Fate.DELETE,
    "retain": Fate.FORGET,
}


class StandIn:
    """A stack whose engine is the stand-in.

    Args:
        place: Where the stack is worked on; its state lies there.
        provider: Address of the provider.
    """

    def __init__(self, place: Workplace, provider: str) -> None:
        self.place = place
        self.engine = Engine(
            run_program, provider, place.directory / "state.json", place.config, place.stack, "djops"
        )
        self._outputs = place.directory / "outputs.json"

    def preview(self, *, refresh: bool = False) -> Previewed:
        if refresh:
            # The real engine refreshes a copy; here nobody looks at the state before the update.
            self.engine.refresh()
        try:
            return Previewed(self._steps(self.engine.preview()))
        except DeploymentError as error:
            refused = re.search(
                r"(replace |)(?:resource )?(urn:\S+?):? (?:cannot|it is protected)", str(error)
            )
            if refused is None:
                raise EngineError(str(error)) from None
            urn = refused[2].rstrip(":")
            return Previewed((), (Refusal(urn, Fate.REPLACE if "replace" in str(error) else Fate.DELETE),))

    def up(self, hear: Callable[[Event], None] = print, *, refresh: bool = False) -> Mapping[str, Any]:
        try:
            done = self.engine.up()
        except DeploymentError as error:
            raise EngineError(str(error), where="pulumi") from None
        for step in self._steps(done):
            hear(Event(step, "begun"))
            hear(Event(step, "done"))
        self._outputs.write_text(json.dumps(dict(done.outputs)))
        return dict(done.outputs)

    def drift(self) -> tuple[StackStep, ...]:
        before = self.engine.state()
        try:
            return self._steps(self.engine.refresh())
        finally:
            write_state(self.engine.file, self.engine.stack, before)

    def destroy(self, hear: Callable[[Event], None] = print) -> None:
        try:
            done = self.engine.destroy(exclude_protected=True)
        except DeploymentError as error:
            raise EngineError(str(error)) from None
        for step in self._steps(done):
            hear(Event(step, "begun"))
            hear(Event(step, "done"))

    def resources(self) -> tuple[Known, ...]:
        return tuple(_known(one) for one in self.engine.state().resources if not one.delete)

    def outputs(self) -> Mapping[str, Any]:
        found: dict[str, Any] = json.loads(self._outputs.read_text()) if self._outputs.exists() else {}
        return found

    @contextlib.contextmanager
    def unprotected(self, urns: Iterable[str]) -> Iterator[Callable[[], None]]:
        names, keep = tuple(urns), [True]
        self._protect(names, False)
        try:
            yield keep.clear
        finally:
            if keep:
                self._protect(names, True)

    def _protect(self, urns: Iterable[str], protect: bool) -> None:
        state = self.engine.state()
        for one in state.resources:
            if one.urn in set(urns):
                one.protect = protect
        write_state(self.engine.file, self.engine.stack, state)

    def _steps(self, done: Result) -> tuple[StackStep, ...]:
        known = {one.urn: one for one in self.engine.state().resources}
        return tuple(_step(step, known.get(step.urn)) for step in done.steps)


def _step(step: Step, known: ResourceState | None) -> StackStep:
    kind = step.urn.split("::")[2].rpartition("$")[2]
    return StackStep(
        FATES[step.operation],
        step.urn,
        kind,
        step.changed,
        known.inputs if known else {},
        step.inputs,
        bool(known and known.protect),
    )


def _known(one: ResourceState) -> Known:
    return Known(
        one.urn,
        one.type,
        one.id,
        one.inputs,
        one.protect,
        one.retainOnDelete,
        one.parent,
        (*one.dependencies, one.provider.rpartition("::")[0]),
    )
