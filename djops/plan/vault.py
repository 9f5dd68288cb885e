"""Differences between two states of the secrets server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from djops.compile.mysql_state import AccountId
from djops.compile.secrets_state import SecretsState
from djops.compile.vault import DATABASE, LOGINS, MOUNT
from djops.plan.change import Change, Phase, Risk, Told
from djops.plan.operations import ConnectEngine, Operation, VaultCall


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


@dataclass(frozen=True, kw_only=True)
class WriteSettings(VaultChange):
    """Make, change or remove a service's log-in, or what the database engine makes for it.

    With what is removed end the accounts that the engine made.
    """

    path: str
    found: Mapping[str, Any] | None
    wanted: Mapping[str, Any] | None

    def _tell(self) -> Told:
        differing = ", ".join(_differing(self.wanted or {}, self.found or {}))
        narrows = self.wanted is None or self._gives_too_much
        return Told(
            f"{_title(self.path)} {self.path.rpartition('/')[2]}",
            "" if self.found is None else f"other {differing}" if self.wanted is not None else "there",
            "" if self.wanted is None else "as djops.yaml says",
            Risk.NARROWS if narrows else Risk.WIDENS,
            Phase.NARROW if narrows else Phase.CLEAN,
        )

    @property
    def _gives_too_much(self) -> bool:
        """Whether somebody added policies to a log-in: they go before anything else is done."""
        gives, should = (set((side or {}).get(_POLICIES) or ()) for side in (self.found, self.wanted))
        return bool(gives - should)

    def operations(self) -> tuple[Operation, ...]:
        """Return one request; before the end of what makes accounts, the end of those it made."""
        if self.wanted is not None:
            return (VaultCall("POST", self.path, self.wanted),)
        gone = VaultCall("DELETE", self.path)
        if not self.path.startswith(f"{DATABASE}/roles/"):
            return (gone,)
        leases = f"{DATABASE}/creds/{self.path.rpartition('/')[2]}"
        return VaultCall("PUT", f"sys/leases/revoke-force/{leases}"), gone

    def reverse(self) -> Change:
        """Return the opposite."""
        return WriteSettings(path=self.path, found=self.wanted, wanted=self.found, why=self.why)


@dataclass(frozen=True, kw_only=True)
class ConnectDatabase(VaultChange):
    """Tell the database engine how to reach MySQL, with a password that only the secrets server knows."""

    name: str
    found: Mapping[str, Any] | None
    wanted: Mapping[str, Any]

    def _tell(self) -> Told:
        differing = ", ".join(_differing(self.wanted, self.found or {})) or "password"
        before = "" if self.found is None else f"other {differing}"
        return Told(f"database engine {self.name}", before, "connected", Risk.KEEPS, Phase.WIDEN)

    def operations(self) -> tuple[Operation, ...]:
        """Return one connection."""
        return (ConnectEngine(self.name, AccountId(str(self.wanted["username"])), self.wanted),)

    def reverse(self) -> Change:
        """Return itself: passwords are not taken back."""
        return self


@dataclass(frozen=True, kw_only=True)
class RenewStatic(VaultChange):
    """Have the database engine renew a password before its time; the one before holds until the next time."""

    name: str

    def _tell(self) -> Told:
        after = "a new one, and the old one until the next rotation"
        return Told(f"password of {self.name}", "one password", after, Risk.KEEPS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        """Return one request."""
        return (VaultCall("POST", f"{DATABASE}/rotate-role/{self.name}"),)

    def reverse(self) -> Change:
        """Return itself: passwords are not taken back."""
        return self


_POLICIES = "token_policies"


def _title(path: str) -> str:
    return "log-in of" if path.startswith("auth/") else "database engine: role"


def _differing(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the settings that are not as they should be; the server adds others."""
    return tuple(name for name, value in wanted.items() if _plain(found.get(name)) != _plain(value))


def _plain(value: object) -> object:
    """Write a setting in one way: servers show an empty list as nothing, and one address without its mask."""
    if value is None or isinstance(value, list | tuple):
        return sorted(str(one).removesuffix("/32").removesuffix("/128") for one in value or ())
    return value


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
    return changes + _settings_changes(wanted, found)


def _settings_changes(wanted: SecretsState, found: SecretsState) -> list[Change]:
    changes: list[Change] = []
    wants, has = wanted.settings or {}, found.settings
    # A secrets server that was set up before services had log-ins there: `kept` credentials need none.
    for path in () if has is None else sorted(wants.keys() | has.keys()):
        should, does = _should(wanted, path), (has or {}).get(path)
        if should is None:
            changes.append(
                WriteSettings(path=path, found=does, wanted=None, why=("it is not in the project file",))
            )
        elif does is None or _differing(should, does):
            why = ("each logs in by itself",) if path.startswith("auth/") else ("its `credentials:`",)
            changes.append(WriteSettings(path=path, found=does, wanted=should, why=why))
    return changes


def _should(wanted: SecretsState, path: str) -> Mapping[str, Any] | None:
    """Return what settings should be; a person's log-in, which only she makes, is to give her own policy."""
    place, _, name = path.rpartition("/")
    if place == LOGINS and name in wanted.policies:
        return {_POLICIES: [name]}
    return (wanted.settings or {}).get(path)


def connect_database(
    name: str, wanted: Mapping[str, Any], found: Mapping[str, Any] | None, *, in_force: bool
) -> list[Change]:
    """Compare how the database engine reaches MySQL with how it should.

    Args:
        name: Under which the engine knows the database.
        wanted: Its settings, but for the password.
        found: What the server says; ``None`` for nothing.
        in_force: Whether nobody changed the password of its account.

    Returns:
        One change or none.
    """
    there = {**(found or {}), **((found or {}).get("connection_details") or {})}
    if found is not None and in_force and not _differing(wanted, there):
        return []
    why = ("services get their credentials from it",)
    return [ConnectDatabase(name=name, found=None if found is None else there, wanted=wanted, why=why)]
