"""What every part of the project file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Data that does not change once it was read, and takes no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
