"""An environment in the cloud: what Pulumi would do to it, and having it done."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from djops.compile.cloud import stack_config, stack_name
from djops.errors import DjopsError, UsageError
from djops.model.project import Environment, Project
from djops.plan.cloud import (
    CloudPlan,
    Fate,
    Prices,
    Refusal,
    StackStep,
    cloud_plan,
    is_aws,
    monthly_usd,
    require_no_loss,
)
from djops.services.site import choose_environment
from djops.systems import cloudfile, journal, passwords
from djops.systems.files import write_private
from djops.systems.lock import locked
from djops.systems.paths import lab_directory, private_directory
from djops.systems.progress import Progress, Silent
from djops.systems.pulumi import (
    PULUMI_CLOUD,
    Event,
    Known,
    PulumiStack,
    Stack,
    Workplace,
    environment_variables,
)
from djops.systems.stacks import use_stacks

PASSPHRASE = "pulumi-passphrase"  # noqa: S105  the name of a file
"""The file that encrypts secrets in the state, among djops' own secrets."""

open_stack: Callable[[Workplace], Stack] = PulumiStack
"""What works on a stack; tests put a stand-in for the engine here."""


@dataclass(frozen=True)
class Cloud:
    """An environment in the cloud, and what works on it.

    Attributes:
        project: The project.
        environment: Name of the environment.
        env: The environment.
        directory: Where djops keeps what it knows of it.
        stack: Its stack.
        prices: What AWS asks.
    """

    project: Project
    environment: str
    env: Environment
    directory: Path
    stack: Stack
    prices: Prices

    @property
    def command(self) -> str:
        """How the environment is named on the command line."""
        return f"--env {self.environment}"


@dataclass
class Prepared:
    """A plan that may be carried out while :func:`prepared` is open.

    Attributes:
        cloud: Whose.
        plan: What would happen.
        settle: To be called once it has happened.
        refresh: Whether what somebody changed in AWS was taken into account.
    """

    cloud: Cloud
    plan: CloudPlan
    settle: Callable[[], None]
    refresh: bool = False


@dataclass(frozen=True)
class CloudUp:
    """What became of an update.

    Attributes:
        plan: What was carried out.
        outputs: The stack's outputs; none is secret.
        seconds: How long it took.
    """

    plan: CloudPlan
    outputs: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Remaining:
    """Something that stays in AWS.

    Attributes:
        label: What it is called.
        id: Its name in AWS.
        usd: What it costs a month without use; US dollars.
        protected: Whether it is data, rather than something that data needs.
    """

    label: str
    id: str
    usd: Decimal
    protected: bool


@dataclass(frozen=True)
class CloudDown:
    """What became of taking an environment down.

    Attributes:
        removed: What is gone.
        remaining: What stays.
        seconds: How long it took.
    """

    removed: tuple[str, ...]
    remaining: tuple[Remaining, ...]
    seconds: float = field(default=0.0)

    @property
    def usd(self) -> Decimal:
        """What a month costs from now on, without use; US dollars."""
        return sum((one.usd for one in self.remaining), Decimal(0))


def is_cloud(project: Project, environment: str | None) -> bool:
    """Tell whether the environment meant is one that Pulumi makes.

    Args:
        project: The project.
        environment: What the user named.
    """
    return project.environments[choose_environment(project, environment)].target == "aws"


def open_cloud(project: Project, environment: str | None) -> Cloud:
    """Open an environment's stack; nothing is asked of AWS yet.

    Args:
        project: The project.
        environment: Name of an environment with the target ``aws``.

    Raises:
        UsageError: ``E_ENVIRONMENT``, or ``E_TARGET`` for another target.
    """
    name = choose_environment(project, environment)
    env = project.environments[name]
    if env.target != "aws":
        raise UsageError(f"{name!r} says `target: {env.target}`, not `aws`", code="E_TARGET")
    directory = private_directory(lab_directory(project.project, name))
    return Cloud(
        project, name, env, directory, open_stack(workplace(project, name, directory)), price_table()
    )


def workplace(project: Project, name: str, directory: Path) -> Workplace:
    """Say where and how Pulumi works on an environment.

    Args:
        project: The project.
        name: Name of the environment.
        directory: The environment's directory of djops' own state.
    """
    env = project.environments[name]
    state, region = env.state, env.region or ""
    stack = stack_name(project.project, name)
    variables = environment_variables(region, env.profile)
    if state.secrets == "passphrase" and "PULUMI_CONFIG_PASSPHRASE" not in os.environ:
        variables["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(_passphrase(directory))
    own = state.secrets.startswith("awskms://")
    return Workplace(
        stack=f"{state.organization}/{stack}" if state.organization else stack,
        directory=private_directory(directory / "pulumi"),
        backend=_backend(env, directory),
        # AWS' older SDK, which is the default here, knows not all ways to log in.
        secrets_provider=f"{state.secrets}?region={region}&awssdk=v2" if own else state.secrets,
        config=stack_config(project, name),
        variables=variables,
    )


def _backend(env: Environment, directory: Path) -> str:
    backend = env.state.backend
    if backend == "file":
        return f"file://{private_directory(directory / 'state')}"
    if backend == "cloud":
        return PULUMI_CLOUD
    profile = f"&profile={env.profile}" if env.profile else ""
    return f"{backend}?region={env.region}&awssdk=v2{profile}"


def _passphrase(directory: Path) -> Path:
    file = private_directory(directory / "secrets") / PASSPHRASE
    if not file.exists():
        write_private(file, passwords.generate())
    return file


def price_table() -> Prices:
    """Read the shipped price table."""
    use_stacks()
    from cloud import cost

    table = cost.price_table()
    return Prices(table.usd, table.hours, f"{table.region}, {table.date}")


@contextlib.contextmanager
def prepared(
    cloud: Cloud,
    allowed: Collection[str] = (),
    *,
    refresh: bool = False,
    progress: Progress | None = None,
    lock_wait: float = 0,
) -> Iterator[Prepared]:
    """Ask Pulumi what it would do, and hold the environment's lock until the answer was acted upon.

    Args:
        cloud: The environment.
        allowed: What may be lost: labels of resources, as ``--allow-data-loss`` names them.
        refresh: Take into account what somebody changed in AWS, which is not looked at otherwise.
        progress: Hears about each step.
        lock_wait: Seconds to wait for another djops.

    Raises:
        DataLossError: ``E_DATA_LOSS`` when data would go that ``allowed`` does not name.
        EngineError: Pulumi, or AWS, refuses.
        LockedError: ``E_LOCKED`` naming who works on the environment.
    """
    told = progress or Silent()
    with locked(cloud.directory / "lock", f"up {cloud.command}", lock_wait), contextlib.ExitStack() as held:
        with told.step("Asking Pulumi what it would do") as step:
            settle = _unprotect(cloud, allowed, held)
            seen = cloud.stack.preview(refresh=refresh)
            plan = cloud_plan(seen.steps, cloud.prices)
            step.note(_counted(plan))
        require_no_loss(plan, _as_it_ends(cloud, seen.refused), allowed, command=f"djops up {cloud.command}")
        yield Prepared(cloud, plan, settle, refresh)


def _as_it_ends(cloud: Cloud, refused: tuple[Refusal, ...]) -> list[Refusal]:
    """Tell what would be deleted from what Pulumi would only forget."""
    retained = {one.urn for one in cloud.stack.resources() if one.retained} if refused else set()
    return [
        replace(one, fate=Fate.FORGET) if one.fate is Fate.DELETE and one.urn in retained else one
        for one in refused
    ]


def _unprotect(cloud: Cloud, allowed: Collection[str], held: contextlib.ExitStack) -> Callable[[], None]:
    if not allowed:
        return lambda: None
    named = [one for one in cloud.stack.resources() if one.step(Fate.KEEP).whole in allowed and one.protected]
    return held.enter_context(cloud.stack.unprotected([one.urn for one in named]))


def up(ready: Prepared, *, progress: Progress | None = None, reason: str = "") -> CloudUp:
    """Carry a plan out, and note where everything is.

    Args:
        ready: The plan.
        progress: Hears about each resource.
        reason: Why, for the journal.

    Returns:
        What was done.

    Raises:
        EngineError: Something failed; the next call goes on from there.
    """
    cloud, began = ready.cloud, time.monotonic()
    if ready.plan.is_empty and (known := cloudfile.read(cloud.directory)) is not None:
        outputs = cloud.stack.outputs()
        # What another machine brought up since has outputs that this one does not know yet.
        if known != (there := cloudfile.from_outputs(outputs, cloud.env.region or "")):
            cloudfile.write(cloud.directory, there)
        return CloudUp(ready.plan, outputs, time.monotonic() - began)
    with _shown(progress or Silent()) as hear:
        outputs = cloud.stack.up(hear, refresh=ready.refresh)
    ready.settle()
    cloudfile.write(cloud.directory, cloudfile.from_outputs(outputs, cloud.env.region or ""))
    counted = {fate: str(count) for fate, count in ready.plan.count().items() if count and fate != "keep"}
    journal.record(cloud.directory, "up", reason=reason, **counted)
    return CloudUp(ready.plan, outputs, time.monotonic() - began)


def down_plan(cloud: Cloud) -> tuple[tuple[StackStep, ...], tuple[Remaining, ...]]:
    """Tell what taking an environment down would remove, and what stays with its price.

    Args:
        cloud: The environment.
    """
    known = [one for one in cloud.stack.resources() if is_aws(one.type)]
    kept = _needed(cloud.stack.resources())
    going = tuple(one.step(Fate.DELETE) for one in known if one.urn not in kept)
    return going, _staying((one for one in known if one.urn in kept), cloud.prices)


def _needed(resources: tuple[Known, ...]) -> frozenset[str]:
    """Return what is protected, and everything that it needs."""
    known = {one.urn: one for one in resources}
    waiting, found = [one.urn for one in resources if one.protected], set[str]()
    while waiting:
        urn = waiting.pop()
        if urn in known and urn not in found:
            found.add(urn)
            waiting += [known[urn].parent, *known[urn].needs]
    return frozenset(found)


def _staying(resources: Iterable[Known], prices: Prices) -> tuple[Remaining, ...]:
    """Return what stays, what costs most first."""
    return tuple(
        sorted((_remaining(one, prices) for one in resources), key=lambda one: (-one.usd, one.label))
    )


def _remaining(one: Known, prices: Prices) -> Remaining:
    return Remaining(
        one.step(Fate.KEEP).label, one.id, monthly_usd(one.type, one.inputs, prices), one.protected
    )


def down(
    cloud: Cloud, *, progress: Progress | None = None, lock_wait: float = 0, reason: str = ""
) -> CloudDown:
    """Take down everything but data and what it needs.

    Args:
        cloud: The environment.
        progress: Hears about each resource.
        lock_wait: Seconds to wait for another djops.
        reason: Why, for the journal.

    Returns:
        What is gone, what remains, and what that costs.

    Raises:
        EngineError: Something failed; the next call goes on from there.
    """
    began = time.monotonic()
    with locked(cloud.directory / "lock", f"down {cloud.command}", lock_wait):
        before = {one.urn: one.step(Fate.DELETE).label for one in cloud.stack.resources() if is_aws(one.type)}
        with _shown(progress or Silent()) as hear:
            cloud.stack.destroy(hear)
        after = [one for one in cloud.stack.resources() if is_aws(one.type)]
        gone = tuple(label for urn, label in before.items() if urn not in {one.urn for one in after})
        if gone:
            journal.record(cloud.directory, "down", reason=reason, removed=str(len(gone)))
    return CloudDown(gone, _staying(after, cloud.prices), time.monotonic() - began)


def drift(cloud: Cloud) -> tuple[StackStep, ...]:
    """Tell what somebody changed in AWS behind Pulumi's back; changes nothing.

    Args:
        cloud: The environment.
    """
    return tuple(step for step in cloud.stack.drift() if step.is_ours)


def _counted(plan: CloudPlan) -> str:
    told = [f"{count} to {fate}" for fate, count in plan.count().items() if count and fate != "keep"]
    return ", ".join(told) or "nothing"


_DOING = {
    Fate.CREATE: "Making",
    Fate.CHANGE: "Changing",
    Fate.REPLACE: "Replacing",
    Fate.DELETE: "Removing",
    Fate.FORGET: "Giving up",
}


@contextlib.contextmanager
def _shown(progress: Progress) -> Iterator[Callable[[Event], None]]:
    """Turn the engine's events into steps, each with its own elapsed time."""
    under_way: dict[tuple[str, Fate], contextlib.ExitStack] = {}

    def hear(event: Event) -> None:
        step = event.step
        key = (step.urn, step.fate)
        if step.fate is Fate.KEEP or not step.is_ours:
            return
        if event.state == "begun":
            under_way[key] = contextlib.ExitStack()
            under_way[key].enter_context(progress.step(f"{_DOING[step.fate]} {step.kind} {step.name}"))
        elif key in under_way:
            _end(under_way.pop(key), failed=event.state == "failed")

    try:
        yield hear
    finally:
        for left in under_way.values():
            _end(left, failed=True)


def _end(step: contextlib.ExitStack, *, failed: bool) -> None:
    if not failed:
        step.close()
        return
    # The step ends as failed; what the engine said of it is told once, at the end.
    with contextlib.suppress(DjopsError), step:
        raise DjopsError("it failed")
