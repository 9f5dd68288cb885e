"""The settings of a stack, typed; read from Pulumi's configuration, or made by whoever calls `provision`."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pulumi

from cloud.database import ExistingDatabase
from cloud.names import stack_name
from cloud.network import ExistingNetwork
from cloud.object_store import BucketArgs
from cloud.secrets_server import OpenBaoRelease
from cloud.sizes import SIZES, Size
from cloud.workers import Image, WorkerClass

T = TypeVar("T")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


class SettingsError(ValueError):
    """The configuration says something that cannot be: what, and what would do."""


@dataclass(frozen=True)
class Existing:
    """What is there already and is used instead of being made.

    Attributes:
        network: A VPC.
        database: A MySQL server.
        secrets_address: URL of an OpenBao or Vault.
    """

    network: ExistingNetwork | None = None
    database: ExistingDatabase | None = None
    secrets_address: str | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that one stack is told.

    Attributes:
        project: The project's name, as in ``djops.yaml``.
        environment: The stage, for example ``production``.
        region: AWS region.
        size: How large.
        buckets: The buckets of the stores.
        openbao: Which OpenBao to install; not needed with an existing one.
        image: What workers run; without it there are none.
        workers: Their classes.
        worker_environment: Their environment variables, none secret.
        meter_command: See :class:`cloud.workers.WorkersArgs`.
        audit: Record log-ins, statements and requests for objects.
        budget_usd: Monthly budget; 0 for no alarm.
        budget_emails: Who is told.
        cidr: Address range of the VPC.
        existing: What is there already.
    """

    project: str
    environment: str
    region: str
    size: Size
    buckets: tuple[BucketArgs, ...]
    openbao: OpenBaoRelease | None = None
    image: Image | None = None
    workers: tuple[WorkerClass, ...] = ()
    worker_environment: Mapping[str, str] = field(default_factory=dict)
    meter_command: tuple[str, ...] = ()
    audit: bool = False
    budget_usd: int = 0
    budget_emails: tuple[str, ...] = ()
    cidr: str = "10.40.0.0/16"
    existing: Existing = field(default_factory=Existing)

    def __post_init__(self) -> None:
        for value in (self.project, self.environment):
            if not _NAME.fullmatch(value):
                raise SettingsError(
                    f"{value!r} is no name: a small letter, then small letters, digits, _ and -"
                )
        if self.openbao is None and self.existing.secrets_address is None:
            raise SettingsError(
                "say which OpenBao to install (openbao), or where one is (existing.secretsAddress)"
            )
        if self.workers and self.image is None:
            raise SettingsError("workers need an image with its digest and commit (image)")
        if self.budget_usd and not self.budget_emails:
            raise SettingsError("a budget needs somebody to tell (budgetEmails)")

    @property
    def name(self) -> str:
        """The stack's name in AWS, where only letters, digits and hyphens are allowed."""
        return stack_name(self.project, self.environment)


def settings_from(config: pulumi.Config, stack: str) -> Settings:
    """Read the settings from Pulumi's configuration, whose keys are written as ``camelCase``.

    Args:
        config: The project's configuration.
        stack: Name of the stack, which is the environment when none is named.

    Raises:
        SettingsError: For a value that cannot be.
    """
    workers = _list(config, "workers")
    return Settings(
        project=config.require("project"),
        environment=config.get("environment") or stack,
        region=pulumi.Config("aws").require("region"),
        size=size_named(config.get("size") or "small"),
        buckets=tuple(_typed(BucketArgs, one, "buckets") for one in _list(config, "buckets")),
        openbao=_optional(OpenBaoRelease, config.get_object("openbao"), "openbao"),
        image=_optional(Image, config.get_object("image"), "image"),
        workers=tuple(_typed(WorkerClass, one, "workers") for one in workers),
        worker_environment=config.get_object("workerEnvironment") or {},
        meter_command=tuple(_list(config, "meterCommand")),
        audit=config.get_bool("audit") or False,
        budget_usd=config.get_int("budgetUsd") or 0,
        budget_emails=tuple(_list(config, "budgetEmails")),
        cidr=config.get("cidr") or "10.40.0.0/16",
        existing=_existing(config.get_object("existing") or {}),
    )


def size_named(name: str) -> Size:
    """Return a size by its name.

    Raises:
        SettingsError: When there is none.
    """
    if name not in SIZES:
        raise SettingsError(f"there is no size {name!r}: {', '.join(SIZES)}")
    return SIZES[name]


def _existing(value: Mapping[str, Any]) -> Existing:
    return Existing(
        network=_optional(ExistingNetwork, value.get("network"), "existing.network"),
        database=_optional(ExistingDatabase, value.get("database"), "existing.database"),
        secrets_address=value.get("secretsAddress"),
    )


def _list(config: pulumi.Config, key: str) -> list[Any]:
    value = config.get_object(key) or []
    if not isinstance(value, list):
        raise SettingsError(f"{key} is a list")
    return value


def _optional(kind: type[T], value: Mapping[str, Any] | None, where: str) -> T | None:
    return None if value is None else _typed(kind, value, where)


def _typed(kind: type[T], value: Mapping[str, Any], where: str) -> T:
    """Make a typed value of one that was written in ``camelCase``."""
    known = {_camel(one.name): one.name for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise SettingsError(f"{where} has no setting {key!r}: {hint}")
    try:
        return kind(
            **{known[key]: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
        )
    except TypeError as error:
        raise SettingsError(f"{where}: {error}") from None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
