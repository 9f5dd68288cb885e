"""Pulumi: the only code that talks to its Automation API.

The programs in ``stacks/`` run inside of this process ("inline"), so that Pulumi needs no environment of
Python's of its own; the engine is Pulumi's command line, found on PATH or installed by the Automation API.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from djops.compile.cloud import PROGRAM
from djops.errors import DjopsError, LockedError
from djops.plan.cloud import Fate, Refusal, StackStep
from djops.systems.files import write_private
from djops.systems.paths import private_directory
from djops.systems.pulumi_cli import automation_api, command_line
from djops.systems.stacks import use_stacks

if TYPE_CHECKING:
    from pulumi import automation
    from pulumi.automation.events import EngineEvent, StepEventMetadata

_EMPTY_WORDS = ("update failed", "preview failed", "destroy failed")
"""What the engine says of every failure besides the reason."""

_HUNG_UP = "Resource monitor has terminated"
"""What the SDK says when its line to the engine is cut."""

_TYPES_KEPT = ("pulumi:pulumi:Stack",)

_FATES: Mapping[str, Fate] = {
    "same": Fate.KEEP,
    "create": Fate.CREATE,
    "import": Fate.CREATE,
    "update": Fate.CHANGE,
    "replace": Fate.REPLACE,
    "delete": Fate.DELETE,
}
"""The engine's operations; ``create-replacement`` and ``delete-replaced`` are parts of a ``replace``."""

_PARTS: Mapping[str, Fate] = {"create-replacement": Fate.CREATE, "delete-replaced": Fate.DELETE}


class EngineError(DjopsError):
    """Pulumi, or AWS through it, refused or failed."""

    code = "E_PULUMI"


@dataclass(frozen=True)
class Event:
    """What the engine tells while it works.

    Attributes:
        step: The step it is about.
        state: ``begun``, ``done`` or ``failed``.
    """

    step: StackStep
    state: str


Hear = Callable[[Event], None]


def _nobody(event: Event) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class Previewed:
    """What an update would do.

    Attributes:
        steps: Its steps.
        refused: What the engine does not do because it is protected; then the steps may not be all.
    """

    steps: tuple[StackStep, ...]
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class Known:
    """A resource that Pulumi knows of.

    Attributes:
        urn: Its name for the engine.
        type: Its type.
        id: Its name in AWS.
        inputs: What was asked for.
        protected: Whether the engine refuses to delete it.
        retained: Whether deleting it only makes Pulumi forget it.
        parent: What it is a part of.
        needs: What must be there as long as it is.
    """

    urn: str
    type: str
    id: str
    inputs: Mapping[str, Any] = field(repr=False)
    protected: bool
    retained: bool
    parent: str = ""
    needs: tuple[str, ...] = ()

    def step(self, fate: Fate) -> StackStep:
        """Return a step on this resource."""
        return StackStep(fate, self.urn, self.type, before=self.inputs, protected=self.protected)


class Stack(Protocol):
    """What services ask of a stack: the real one below, or a stand-in."""

    def preview(self, *, refresh: bool = False) -> Previewed:
        """Say what an update would do; changes nothing. ``refresh`` looks at AWS first."""

    def up(self, hear: Hear = _nobody, *, refresh: bool = False) -> Mapping[str, Any]:
        """Make everything as the program says, and return the stack's outputs."""

    def drift(self) -> tuple[StackStep, ...]:
        """Say what differs in AWS from what Pulumi knows; changes nothing."""

    def destroy(self, hear: Hear = _nobody) -> None:
        """Take down all that is not protected, and that nothing protected needs."""

    def resources(self) -> tuple[Known, ...]:
        """Return what Pulumi knows of; nothing when the stack was never made."""

    def outputs(self) -> Mapping[str, Any]:
        """Return the stack's outputs; nothing when it was never made."""

    def unprotected(self, urns: Iterable[str]) -> contextlib.AbstractContextManager[Callable[[], None]]:
        """Take the protection off resources; it comes back at the end unless the function was called."""


@dataclass(frozen=True)
class Workplace:
    """Where and how a stack is worked on.

    Attributes:
        stack: Its name, with the organisation in front for Pulumi Cloud.
        directory: djops' own directory of the environment's Pulumi files.
        backend: URL of the state's place.
        secrets_provider: What encrypts secrets in the state.
        config: The stack's configuration, none secret.
        variables: Environment variables for Pulumi: region and profile.
    """

    stack: str
    directory: Path
    backend: str
    secrets_provider: str
    config: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)


class PulumiStack:
    """A stack of the programs in ``stacks/``, worked on by Pulumi's own engine.

    Args:
        place: Where and how.
    """

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._stack: automation.Stack | None = None

    def preview(self, *, refresh: bool = False) -> Previewed:
        """Say what an update would do; see :class:`Stack`.

        Raises:
            EngineError: The program or AWS refuses.
        """
        try:
            return self._previewed(refresh)
        except EngineError as error:
            if not all(_HUNG_UP in told for told in error.message.split("; ")):
                raise
            # On a machine that is very busy the two lose each other; nothing was changed, so ask again.
            return self._previewed(refresh)

    def _previewed(self, refresh: bool) -> Previewed:
        heard = _Heard()
        try:
            with self._explained(heard):
                self._opened().preview(on_event=heard, color="never", refresh=refresh)
        except EngineError:
            refused = heard.refusals()
            if not refused:
                raise
            return Previewed(tuple(heard.planned()), refused)
        return Previewed(tuple(heard.planned()))

    def up(self, hear: Hear = _nobody, *, refresh: bool = False) -> Mapping[str, Any]:
        """Make everything as the program says; what a broken update left is gone on from.

        Raises:
            EngineError: Something failed; what was made is known, and the next update goes on from there.
            LockedError: Somebody else is at work on the stack.
        """
        heard = _Heard(hear)
        with self._explained(heard):
            done = self._opened().up(on_event=heard, color="never", suppress_outputs=True, refresh=refresh)
        return _told(done.outputs)

    def drift(self) -> tuple[StackStep, ...]:
        """Say what differs in AWS from what Pulumi knows; see :class:`Stack`."""
        heard = _Heard()
        with self._explained(heard):
            self._opened().preview_refresh(on_event=heard, color="never")
        return tuple(step for step in heard.seen() if step.fate is not Fate.KEEP)

    def destroy(self, hear: Hear = _nobody) -> None:
        """Take down all that is not protected; see :class:`Stack`.

        Raises:
            EngineError: Something failed; the next call goes on from there.
        """
        heard = _Heard(hear)
        with self._explained(heard):
            self._opened().destroy(
                on_event=heard, color="never", exclude_protected=True, suppress_outputs=True
            )

    def resources(self) -> tuple[Known, ...]:
        """Return what Pulumi knows of; see :class:`Stack`."""
        # The Automation API's own way decrypts all secrets, which nobody here needs.
        deployment = json.loads(self._run("stack", "export")).get("deployment") or {}
        return tuple(_known(one) for one in deployment.get("resources") or () if not one.get("delete"))

    def outputs(self) -> Mapping[str, Any]:
        """Return the stack's outputs; see :class:`Stack`."""
        with self._explained():
            return _told(self._opened().outputs())

    @contextlib.contextmanager
    def unprotected(self, urns: Iterable[str]) -> Iterator[Callable[[], None]]:
        """Take the protection off resources for a while; see :class:`Stack`."""
        names, keep = tuple(urns), True

        def done() -> None:
            nonlocal keep
            keep = False

        if not names:
            yield done
            return
        self._run("state", "unprotect", *names, "--yes")
        try:
            yield done
        finally:
            if keep:
                self._protect(names)

    def _protect(self, urns: Iterable[str]) -> None:
        """Put the protection back; what is gone after a failure in the middle needs none any more."""
        there = {one.urn for one in self.resources()}
        again = [urn for urn in urns if urn in there]
        if again:
            self._run("state", "protect", *again, "--yes")

    def _run(self, *arguments: str) -> str:
        stack = self._opened()
        with self._explained():
            return self._asked(stack, *arguments)

    def _asked(self, stack: automation.Stack, *arguments: str) -> str:
        done = stack.workspace.pulumi_command.run(
            [*arguments, "--stack", stack.name], str(self._place.directory), stack.workspace.env_vars
        )
        return done.stdout

    def _opened(self) -> automation.Stack:
        if self._stack is None:
            place = self._place
            private_directory(place.directory)
            _write_config(place)
            with self._explained():
                stack = self._made()
                if not _LOCKS_UP & _read_config(place).keys() and place.backend != PULUMI_CLOUD:
                    stack = self._with_its_keys(stack)
            self._stack = stack
        return self._stack

    def _explained(self, heard: _Heard | None = None) -> contextlib.AbstractContextManager[None]:
        return _explained(heard, self._place)

    def _made(self) -> automation.Stack:
        api, place = automation_api(), self._place
        options = api.LocalWorkspaceOptions(
            work_dir=str(place.directory),
            env_vars={"PULUMI_SKIP_UPDATE_CHECK": "true", **place.variables},
            secrets_provider=place.secrets_provider,
            project_settings=api.ProjectSettings(
                name=PROGRAM, runtime="python", backend=api.ProjectBackend(place.backend)
            ),
            pulumi_command=command_line(),
        )
        made: automation.Stack = api.create_or_select_stack(
            stack_name=place.stack, project_name=PROGRAM, program=run_program, opts=options
        )
        return made

    def _with_its_keys(self, stack: automation.Stack) -> automation.Stack:
        """Tell Pulumi here what another machine encrypts the state with: it looks for that beside the config.

        A stack that never had anything in it is made again, with keys of this machine's making.
        """
        deployment = json.loads(self._asked(stack, "stack", "export")).get("deployment") or {}
        known = deployment.get("secrets_providers") or {}
        if not known and not deployment.get("resources"):
            stack.workspace.remove_stack(stack.name)
            _write_config(self._place)
            return self._made()
        about = known.get("state") or {}
        if known.get("type") == "cloud":
            kept = {"secretsprovider": about["url"], "encryptedkey": about["encryptedkey"]}
        else:
            kept = {"encryptionsalt": about["salt"]}
        _write_config(self._place, kept)
        return stack


def run_program() -> None:
    """Run the stacks' program with the settings of the stack that is being worked on."""
    import pulumi

    use_stacks()
    settings, program = importlib.import_module("cloud.settings"), importlib.import_module("cloud.program")
    program.provision(settings.settings_from(pulumi.Config(PROGRAM), pulumi.get_stack()))


PULUMI_CLOUD = "https://api.pulumi.com"
"""Pulumi's own service, which keeps stacks' keys itself."""

_LOCKS_UP = {"secretsprovider", "encryptedkey", "encryptionsalt"}
"""Where a stack's settings say what encrypts its state."""


def _config_file(place: Workplace) -> Path:
    return place.directory / f"Pulumi.{place.stack.rpartition('/')[2]}.yaml"


def _read_config(place: Workplace) -> dict[str, Any]:
    file = _config_file(place)
    return (yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None) or {}


def _write_config(place: Workplace, more: Mapping[str, str] | None = None) -> None:
    """Write the stack's configuration, and leave what else Pulumi keeps in the same file."""
    kept = _read_config(place)
    wanted = {**kept, **(more or {}), "config": dict(place.config)}
    if wanted != kept:
        write_private(_config_file(place), yaml.safe_dump(wanted, sort_keys=True))


# -- what the engine tells ---------------------------------------------------------------------------------


class _Heard:
    """The events of one run, put in djops' own words."""

    def __init__(self, hear: Hear = _nobody) -> None:
        self._hear = hear
        self._steps: dict[str, StackStep] = {}
        self._found: dict[str, StackStep] = {}
        self._looked_at: set[str] = set()
        self._errors: list[tuple[str, str]] = []
        self._guard = threading.Lock()

    def __call__(self, event: EngineEvent) -> None:
        with self._guard:
            for told, state in (
                (event.resource_pre_event, "begun"),
                (event.res_outputs_event, "done"),
                (event.res_op_failed_event, "failed"),
            ):
                if told is not None:
                    self._step(told.metadata, state)
            if event.diagnostic_event is not None and event.diagnostic_event.severity == "error":
                self._errors.append((event.diagnostic_event.urn or "", event.diagnostic_event.message))

    def _step(self, told: StepEventMetadata, state: str) -> None:
        operation = str(getattr(told.op, "value", told.op))
        fate = _FATES.get(operation)
        if operation == "refresh":
            self._looked_at.add(told.urn)
        elif told.urn in self._looked_at and state != "begun":
            # How looking at AWS ended is told with the operation that the finding is like.
            self._looked_at.discard(told.urn)
            self._found[told.urn] = _refreshed(told)
            return
        if told.type in _TYPES_KEPT or (fate is None and operation not in _PARTS):
            return
        step = _step(told, fate or _PARTS[operation])
        if fate is not None:
            # A replacement is one row, whatever its parts are called.
            self._steps.setdefault(told.urn, step)
            if fate is Fate.REPLACE:
                self._steps[told.urn] = step
        if operation != "replace":
            self._hear(Event(step, state))

    def planned(self) -> list[StackStep]:
        """Return the steps of a preview or update."""
        return list(self._steps.values())

    def seen(self) -> list[StackStep]:
        """Return what a refresh found."""
        return list(self._found.values())

    def refusals(self) -> tuple[Refusal, ...]:
        """Return what was refused because it is protected."""
        found: dict[str, Refusal] = {}
        for urn, message in self._errors:
            if "protect" in message:
                named = urn or next(
                    (word.strip("\"'") for word in message.split() if "urn:pulumi:" in word), ""
                )
                fate = Fate.REPLACE if "replace" in message.partition("urn:")[0] else Fate.DELETE
                if named and named.split("::")[2] not in _TYPES_KEPT:
                    found[named] = Refusal(named, fate)
        return tuple(found.values())

    def errors(self) -> list[str]:
        """Return what went wrong, in the engine's words, each with the resource's name."""
        told = [(urn.rpartition("::")[2], text.strip()) for urn, text in self._errors]
        lines = [f"{name}: {text}" if name else text for name, text in told if text not in _EMPTY_WORDS]
        return list(dict.fromkeys(lines))


def _step(told: StepEventMetadata, fate: Fate) -> StackStep:
    old, new = told.old, told.new
    if fate is Fate.DELETE and old is not None and old.retain_on_delete:
        fate = Fate.FORGET
    before = dict(old.inputs or {}) if old is not None else {}
    after = dict(new.inputs or {}) if new is not None and fate not in (Fate.DELETE, Fate.FORGET) else {}
    changed = told.keys if fate is Fate.REPLACE and told.keys else told.diffs
    holder = old or new
    return StackStep(
        fate,
        told.urn,
        told.type,
        tuple(sorted(changed or ())),
        before,
        after,
        bool(holder and holder.protect),
    )


def _refreshed(told: StepEventMetadata) -> StackStep:
    """Compare what was known with what was found; what is gone has nothing new."""
    before = dict(told.old.outputs or {}) if told.old is not None else {}
    if told.new is None:
        return StackStep(Fate.DELETE, told.urn, told.type, before=before)
    after = dict(told.new.outputs or {})
    changed = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return StackStep(
        Fate.CHANGE if changed else Fate.KEEP, told.urn, told.type, tuple(changed), before, after
    )


def _told(outputs: Mapping[str, automation.OutputValue]) -> dict[str, Any]:
    """Return a stack's outputs; one that somebody made secret is shown as Pulumi shows it."""
    return {name: "[secret]" if output.secret else output.value for name, output in outputs.items()}


def _known(one: Mapping[str, Any]) -> Known:
    return Known(
        urn=str(one["urn"]),
        type=str(one["type"]),
        id=str(one.get("id", "")),
        inputs=one.get("inputs") or {},
        protected=bool(one.get("protect")),
        retained=bool(one.get("retainOnDelete")),
        parent=str(one.get("parent", "")),
        needs=(*one.get("dependencies", ()), str(one.get("provider", "")).rpartition("::")[0]),
    )


@contextlib.contextmanager
def _explained(heard: _Heard | None, place: Workplace) -> Iterator[None]:
    """Turn the Automation API's errors, which carry whole logs, into one that says what and where."""
    automation_api()
    from pulumi.automation.errors import CommandError, ConcurrentUpdateError

    try:
        yield
    except ConcurrentUpdateError:
        raise LockedError(
            "another update of this stack is under way, or was killed in the middle",
            where="pulumi",
            hint="wait for it to end; when nobody is at work any more, this takes its lock away: "
            f"cd {place.directory} && pulumi cancel --yes --stack {place.stack}",
        ) from None
    except CommandError as error:
        told = "; ".join(heard.errors() if heard is not None else []) or _last_words(str(error))
        raise EngineError(told, where="pulumi", hint=_advice(told)) from None


def _advice(text: str) -> str:
    if "passphrase" in text:
        return (
            "another machine's passphrase encrypts this state: set PULUMI_CONFIG_PASSPHRASE to it, or use a "
            "key of AWS, as `djops cloud init` does"
        )
    if "credential" in text.lower() or "ExpiredToken" in text:
        return "see that AWS credentials are there and not over: `djops cloud check`"
    return "once the cause is mended, the same command goes on from here"


def _last_words(text: str) -> str:
    """Return the last line of a log that says an error."""
    lines = [line.strip().removeprefix("stderr:").strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("error:").strip()


def environment_variables(region: str, profile: str | None) -> dict[str, str]:
    """Return what tells Pulumi and AWS' provider where to work.

    Args:
        region: AWS region.
        profile: A profile of the AWS configuration, or ``None`` for what the environment says.
    """
    found = {"AWS_REGION": region}
    if profile:
        found["AWS_PROFILE"] = profile
    elif "AWS_PROFILE" in os.environ:
        found["AWS_PROFILE"] = os.environ["AWS_PROFILE"]
    return found
