"""Pulumi's own engine in the place of the stand-in: the same questions, the same answers.

Programs run in this process, through the Automation API; the state lies in a file. Where nobody built the
engine the tests take the stand-in (``tests/support/engine``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pulumi import automation
from pulumi.automation.errors import CommandError
from pulumi.automation.events import EngineEvent, StepEventMetadata

from tests.support.engine import DeploymentError, Result, Step
from tests.support.engine.state import ResourceState, State

# Parts of a replacement as the stand-in tells them; the engine's own summary of both is left out.
_OPERATIONS = {
    "same": "same",
    "create": "create",
    "update": "update",
    "delete": "delete",
    "create-replacement": "replace",
    "delete-replaced": "delete",
}
_STATE = frozenset(ResourceState.__dataclass_fields__)


class RealEngine:
    """One stack on Pulumi's own engine.

    Args:
        program: What declares its resources.
        folder: Where its state and its settings lie.
        config: The stack's configuration, keys with their namespace.
        stack: Its name.
        project: The project's name.
    """

    def __init__(
        self,
        program: Callable[[], None],
        folder: Path,
        config: Mapping[str, str] | None = None,
        stack: str = "production",
        project: str = "djops",
    ) -> None:
        self.file = folder / "state" / ".pulumi" / "stacks" / project / f"{stack}.json"
        (folder / "state").mkdir(parents=True)
        settings = automation.ProjectSettings(
            name=project, runtime="python", backend=automation.ProjectBackend(f"file://{folder / 'state'}")
        )
        options = automation.LocalWorkspaceOptions(
            work_dir=str(folder),
            env_vars={"PULUMI_CONFIG_PASSPHRASE": "of no account"},
            project_settings=settings,
        )
        self._stack = automation.create_or_select_stack(
            stack_name=stack, project_name=project, program=program, opts=options
        )
        if config:
            self._stack.set_all_config({key: automation.ConfigValue(one) for key, one in config.items()})

    def preview(self) -> Result:
        """Say what an update would do."""
        heard = _Heard()
        try:
            heard.ask(lambda: self._stack.preview(on_event=heard, color="never"))
        except DeploymentError as error:
            # As djops does: on a busy machine program and engine lose each other.
            if "Resource monitor has terminated" not in str(error) or "protect" in str(error):
                raise
            heard = _Heard()
            heard.ask(lambda: self._stack.preview(on_event=heard, color="never"))
        return Result(tuple(heard.steps), {})

    def up(self, preview_first: bool = False) -> Result:
        """Make the stack what its program says; see the stand-in."""
        if preview_first:
            self.preview()
        heard = _Heard()
        done = heard.ask(lambda: self._stack.up(on_event=heard, color="never", suppress_outputs=True))
        return Result(tuple(heard.steps), {name: one.value for name, one in done.outputs.items()})

    def refresh(self) -> Result:
        """Read what is there into the state; see the stand-in."""
        heard = _Heard()
        heard.ask(lambda: self._stack.refresh(on_event=heard, color="never"))
        return Result(tuple(heard.found), {})

    def destroy(self, exclude_protected: bool = False) -> Result:
        """Delete everything; see the stand-in."""
        if not exclude_protected:
            # As on the command line: without looking first, the engine goes as far as it gets.
            looked = _Heard()
            looked.ask(lambda: self._stack.preview_destroy(on_event=looked, color="never"))
        heard = _Heard()
        heard.ask(
            lambda: self._stack.destroy(on_event=heard, color="never", exclude_protected=exclude_protected)
        )
        return Result(tuple(heard.steps), {}, tuple(one.urn for one in self.state().resources))

    def unprotect(self) -> None:
        """Take the protection off everything."""
        workspace = self._stack.workspace
        command = ["state", "unprotect", "--all", "--yes", "--stack", self._stack.name]
        workspace.pulumi_command.run(command, workspace.work_dir, workspace.env_vars)

    def state(self) -> State:
        """Read the state file; without one there is nothing yet."""
        if not self.file.exists():
            return State()
        latest = json.loads(self.file.read_text(encoding="utf-8"))["checkpoint"].get("latest") or {}
        known = [
            {"custom": False} | {key: value for key, value in one.items() if key in _STATE}
            for one in latest.get("resources") or ()
        ]
        resources = [ResourceState(**one) for one in known]
        return State(resources, latest.get("pending_operations") or [])


class _Heard:
    """What the engine tells of one run."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.found: list[Step] = []
        self.errors: list[str] = []
        self._refreshing: set[str] = set()

    def ask(self, run: Callable[[], Any]) -> Any:
        """Have the engine do something.

        Raises:
            DeploymentError: With all errors that it told.
        """
        try:
            return run()
        except CommandError as error:
            raise DeploymentError("; ".join(self.errors) or str(error)) from None

    def __call__(self, event: EngineEvent) -> None:
        if event.resource_pre_event is not None:
            self._step(event.resource_pre_event.metadata)
        if event.res_outputs_event is not None:
            self._seen(event.res_outputs_event.metadata)
        told = event.diagnostic_event
        if told is not None and told.severity == "error":
            self.errors.append(f"{told.urn}: {' '.join(told.message.split())}")

    def _step(self, told: StepEventMetadata) -> None:
        operation = str(getattr(told.op, "value", told.op))
        if operation == "refresh":
            self._refreshing.add(told.urn)
        elif operation in _OPERATIONS and told.urn not in self._refreshing:
            kept = operation == "delete" and told.old is not None and told.old.retain_on_delete
            changed = tuple(sorted(told.diffs or ())) if operation == "update" else ()
            self.steps.append(Step("retain" if kept else _OPERATIONS[operation], told.urn, changed))

    def _seen(self, told: StepEventMetadata) -> None:
        """How looking at a resource ended is told with the operation that the finding is like."""
        if told.urn not in self._refreshing:
            return
        before = dict(told.old.outputs or {}) if told.old is not None else {}
        if told.new is None:
            self.found.append(Step("delete", told.urn))
            return
        after = dict(told.new.outputs or {})
        changed = tuple(sorted(key for key in {*before, *after} if before.get(key) != after.get(key)))
        if changed:
            self.found.append(Step("update", told.urn, changed))
