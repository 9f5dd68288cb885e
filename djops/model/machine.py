"""How a service comes by its credentials: its log-in at the secrets server, and who keeps its password."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = r"[1-9][0-9]{0,5}[smhd]"


def _as_seconds(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str) and re.fullmatch(_DURATION, value):
        return int(value[:-1]) * _SECONDS[value[-1]]
    raise ValueError("a duration is a number with s, m, h or d behind it, like 90d")


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _as_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError("a network is written like 10.1.0.0/16, an address like 10.1.2.3/32") from None


Duration = Annotated[
    int,
    BeforeValidator(
        _as_seconds, json_schema_input_type=int | Annotated[str, Field(pattern=f"^{_DURATION}$")]
    ),
]
"""Seconds; ``90d`` stands for 90 days."""

_Network = Annotated[str, AfterValidator(_as_network)]
_Networks = Annotated[
    tuple[_Network, ...], BeforeValidator(_as_tuple, json_schema_input_type=str | tuple[str, ...])
]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AppRole(_Settings):
    """How a service logs in to the secrets server.

    Attributes:
        bound_cidrs: Networks it may log in from; unless given, this machine in a local lab, any elsewhere.
        secret_id_ttl: How long a secret id that was handed out is good for.
        secret_id_num_uses: How often it may be used to log in; 0 for any number.
        token_ttl: How long a log-in is good for, unless it is renewed.
        token_max_ttl: How long at most, renewed or not.
    """

    bound_cidrs: _Networks | None = None
    secret_id_ttl: Duration = 90 * 86400
    secret_id_num_uses: int = Field(default=0, ge=0, le=1_000_000)
    token_ttl: Duration = 3600
    token_max_ttl: Duration = 86400

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.token_max_ttl < self.token_ttl:
            raise ValueError("token_max_ttl is shorter than token_ttl")
        return self


class MachineCredentials(_Settings):
    """Who makes and keeps a service's database password.

    Attributes:
        type: ``kept`` (djops makes one, which `djops rotate` renews), ``static`` (the secrets server renews
            it on a schedule) or ``dynamic`` (the secrets server makes an account for each lease).
        default_ttl: Dynamic: how long a lease is, unless it is renewed.
        max_ttl: Dynamic: how long at most, renewed or not.
        rotation_period: Static: how often the password is renewed; the one before holds until the next time.
    """

    type: Literal["kept", "static", "dynamic"] = "kept"
    default_ttl: Duration = 3600
    max_ttl: Duration = 86400
    rotation_period: Duration = 30 * 86400

    @model_validator(mode="after")
    def _fits(self) -> Self:
        belongs = {"default_ttl": "dynamic", "max_ttl": "dynamic", "rotation_period": "static"}
        stray = [name for name in sorted(self.model_fields_set) if belongs.get(name, self.type) != self.type]
        if stray:
            raise ValueError(f"{stray[0]} is for {belongs[stray[0]]} credentials, and these are {self.type}")
        if self.max_ttl < self.default_ttl:
            raise ValueError("max_ttl is shorter than default_ttl")
        return self


def as_credentials(value: object) -> object:
    """Take the type alone for the whole: ``credentials: dynamic``."""
    return {"type": value} if isinstance(value, str) else value
