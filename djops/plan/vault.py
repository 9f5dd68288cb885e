"""Differences between two states of the secrets server."""

from __future__ import annotations

from dataclasses import dataclass

from djops.compile.secrets_state import SecretsState
from djops.compile.vault import MOUNT
from djops.plan.change import Change, Phase, Risk
from djops.plan.operations import Operation, VaultCall


class VaultChange(Change):
    """A change to the secrets server."""

    system = "secrets"


@dataclass(frozen=True, kw_only=True)
class WritePolicy(VaultChange):
    """Make, replace or remove a policy."""

    name: str
    found: str | None
    wanted: str | None

    @property
    def object(self) -> str:
        """The policy."""
        return f"policy {self.name}"

    @property
    def before(self) -> str:
        """Whether it exists."""
        return "" if self.found is None else "other text" if self.wanted is not None else "there"

    @property
    def after(self) -> str:
        """What it opens."""
        return "" if self.wanted is None else "reads its own credentials only"

    @property
    def risk(self) -> Risk:
        """Removing closes; a changed one may have opened anything, so putting it right closes."""
        return Risk.WIDENS if self.found is None else Risk.NARROWS

    @property
    def phase(self) -> Phase:
        """According to the risk."""
        return Phase.WIDEN if self.found is None else Phase.NARROW

    def operations(self) -> tuple[Operation, ...]:
        """Return one request."""
        path = f"sys/policies/acl/{self.name}"
        if self.wanted is None:
            return (VaultCall("DELETE", path),)
        return (VaultCall("PUT", path, {"policy": self.wanted}),)

    def reverse(self) -> Change:
        """Return the opposite."""
        return WritePolicy(name=self.name, found=self.wanted, wanted=self.found, why=self.why)


@dataclass(frozen=True, kw_only=True)
class ForgetSecret(VaultChange):
    """Destroy the credentials of somebody who is gone, with all their versions."""

    path: str

    @property
    def object(self) -> str:
        """The secret's path."""
        return f"credentials at {self.path}"

    @property
    def before(self) -> str:
        """That they exist."""
        return "kept"

    @property
    def after(self) -> str:
        """Nothing."""
        return ""

    @property
    def risk(self) -> Risk:
        """They cannot be had back."""
        return Risk.DESTROYS

    @property
    def phase(self) -> Phase:
        """Last, when nothing uses them any more."""
        return Phase.CLEAN

    def operations(self) -> tuple[Operation, ...]:
        """Return one deletion of all versions."""
        return (VaultCall("DELETE", f"{MOUNT}/metadata/{self.path}"),)

    def reverse(self) -> Change:
        """Return itself: destroyed credentials are made anew when they are needed."""
        return self


def diff_vault(wanted: SecretsState, found: SecretsState) -> list[Change]:
    """Compare what the secrets server should hold with what it holds.

    Args:
        wanted: What should be there.
        found: What is there, of the project's own only.

    Returns:
        The changes, unordered. Missing credentials are made by the changes that put them in force.
    """
    changes: list[Change] = []
    for name in sorted(wanted.policies.keys() | found.policies.keys()):
        should, does = wanted.policies.get(name), found.policies.get(name)
        if should != does:
            why = (
                "it is not in the project file"
                if should is None
                else "each principal reads its own credentials"
            )
            changes.append(WritePolicy(name=name, found=does, wanted=should, why=(why,)))
    for path in sorted(found.secrets.keys() - wanted.secrets.keys()):
        changes.append(ForgetSecret(path=path, why=("it is not in the project file",)))
    return changes
