"""The role model as typed data, from ``policies/roles.yaml``."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from djops.errors import ConfigError


class Capability(enum.StrEnum):
    """What a right lets its holder do on one schema."""

    READ = "read"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    JOBS = "jobs"
    DECLARE = "declare"
    REFERENCE = "reference"
    ALTER = "alter"
    DROP = "drop"
    GRANT = "grant"
    INBOX = "inbox"
    COLLECT = "collect"


_NEED_READ = frozenset(Capability) - {
    Capability.READ,
    Capability.REFERENCE,
    Capability.GRANT,
    Capability.INBOX,
}

DataTier = Literal["lookup", "manual", "imported", "computed"]
DATA_TIERS: frozenset[DataTier] = frozenset({"lookup", "manual", "imported", "computed"})
"""Tiers that rows are written to; a part belongs to its master's tier."""


class Limits(BaseModel):
    """What keeps an account from using the whole server.

    Attributes:
        connections: Database connections at once.
        statement_seconds: Seconds a SELECT may take; a guard that the account itself can lift.
        rows: Rows a SELECT returns at most; a guard that the account itself can lift.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    connections: int | None = Field(default=None, ge=1)
    statement_seconds: int | None = Field(default=None, ge=1)
    rows: int | None = Field(default=None, ge=1)


class Role(BaseModel):
    """One role: capabilities by where a schema lies relative to the one it is given for.

    Attributes:
        summary: What its holders do, for people.
        target: Capabilities on the schema itself.
        upstream: Capabilities on everything it depends on.
        downstream: Capabilities on everything that depends on it.
        cascade: Added downstream when a grant asks for ``cascade``.
        stages: Stages in which a schema may be given with this role.
        project_wide: Whether it is given on all schemas or on none.
        tiers: Tiers of tables in which it may insert, update and delete.
        holders: Whether people, services or both may hold it.
        extras: What it takes to use more of the client, such as ``skip_duplicates``.
        limits: What its holders' accounts are limited to.
        max_days: A grant of it must end within this many days.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: str = ""
    target: frozenset[Capability]
    upstream: frozenset[Capability] = frozenset()
    downstream: frozenset[Capability] = frozenset()
    cascade: frozenset[Capability] = frozenset()
    stages: frozenset[Literal["production", "development"]] = frozenset({"production", "development"})
    project_wide: bool = False
    tiers: frozenset[DataTier] = DATA_TIERS
    holders: frozenset[Literal["people", "services"]] = frozenset({"people", "services"})
    extras: frozenset[Literal["skip_duplicates"]] = frozenset()
    limits: Limits = Limits()
    max_days: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _reads_what_it_changes(self) -> Self:
        """The client reads a table's definition before it does anything with it, and asks before it puts."""
        for place in ("target", "upstream", "downstream", "cascade"):
            blind = getattr(self, place) & _NEED_READ
            if blind and Capability.READ not in getattr(self, place):
                raise ValueError(f"{place}: {', '.join(sorted(blind))} cannot be used without read")
        return self

    @model_validator(mode="after")
    def _passes_on_its_own(self) -> Self:
        """MySQL passes on whole roles, and a role on those schemas gives more than is held there."""
        for place in ("upstream", "downstream", "cascade"):
            if Capability.GRANT in getattr(self, place):
                raise ValueError(
                    f"{place}: grant is for `target` only; give the role on those schemas as well"
                )
        if Capability.GRANT in self.target and Capability.READ not in self.target & self.upstream:
            raise ValueError("target: grant passes nothing on without read, also upstream: roles give both")
        return self


SANDBOX_ROLE = "sandbox"
"""What the owner of a sandbox has there; no grant names it."""


class RoleModel(BaseModel):
    """All roles by name.

    Attributes:
        version: Version of the file's format.
        roles: The roles that a grant can name, weakest first.
        sandbox: What the owner of a sandbox has there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    roles: Mapping[str, Role] = Field(min_length=1)
    sandbox: Role = Role(target=frozenset({Capability.READ}))

    def role(self, name: str) -> Role:
        """Return a role, the one that only owners of sandboxes have included.

        Args:
            name: The role's name, which exists.
        """
        return self.sandbox if name == SANDBOX_ROLE else self.roles[name]

    def in_sandbox(self, name: str) -> frozenset[Capability]:
        """Return what a role gives on somebody's sandbox: all that its owner has, or reading, or nothing.

        Nothing between: there is no table by table in a sandbox, whose tables djops does not know.

        Args:
            name: The role's name, which exists.
        """
        target = self.role(name).target
        whole = target >= self.sandbox.target - {Capability.COLLECT}
        return target if whole else target & {Capability.READ}

    def reader(self) -> str | None:
        """Name the role that reads a schema and what is upstream of it and can do nothing else.

        Other roles are built on it, so that reading is granted in one place.

        Returns:
            Its name, or ``None`` when the model has no such role.
        """
        only_read = frozenset({Capability.READ})
        for name, role in self.roles.items():
            if role.target == only_read == role.upstream and not role.downstream:
                return name
        return None

    def with_custom(self, roles: Mapping[str, Role]) -> RoleModel:
        """Return this model with a project's own roles after the shipped ones.

        Args:
            roles: The project's own roles; a name that is taken keeps its shipped meaning.
        """
        return self.model_copy(update={"roles": {**roles, **self.roles}}) if roles else self


def role_model(data: Mapping[str, Any], file: str) -> RoleModel:
    """Check the role model's data.

    Args:
        data: What the YAML file holds.
        file: Its name, for messages.

    Returns:
        The role model.

    Raises:
        ConfigError: ``E_ROLES`` when the data is not a role model.
    """
    try:
        return RoleModel.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{place}: {first['msg']}",
            where=file,
            code="E_ROLES",
            hint="compare with the file that djops ships",
        ) from error
