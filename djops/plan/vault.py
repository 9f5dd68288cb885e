"""Differences between two states of the secrets server."""

from __future__ import annotations

from dataclasses import dataclass

from djops.compile.secrets_state import SecretsState
from djops.compile.vault import MOUNT
from djops.plan.change import Change, Phase, Risk, Told
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

    def _tell(self) -> Told:
        return Told(
            f"policy {self.name}",
            "" if self.found is None else "other text" if self.wanted is not None else "there",
            "" if self.wanted is None else "reads its own credentials only",
            Risk.WIDENS if self.found is None else Risk.NARROWS,
            Phase.WIDEN if self.found is None else Phase.NARROW,
        )

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

    def _tell(self) -> Told:
        return Told(f"credentials at {self.path}", "kept", "", Risk.DESTROYS, Phase.CLEAN)

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
