"""What an audit reads: all of it, or what can be had while a server is down, with a name for each gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from djops.errors import DjopsError, ServerUnavailableError
from djops.model.journal import Checked, Entry, Head, check
from djops.plan.drift_kinds import Drift
from djops.plan.operations import AwsCall
from djops.services import drift, evidence, log, secrets_audit, verify
from djops.services.access import Servers, Wanted
from djops.services.evidence import Evidence
from djops.services.journal import Journal
from djops.services.log import Verified
from djops.services.secrets_audit import SecretFinding
from djops.services.verify import Verdict
from djops.systems import journal as local

_LEFT_OUT: Mapping[str, str] = {
    "mysql": "accounts and rights of the database, everything that is compared with them, and the journal",
    "s3": "users, keys and policies of the object store, and everything that is compared with them",
    "secrets": "secrets, djops' policies there, and the heads of the journal that are noted there",
}
_NO_STORES = "the project has no stores"


@dataclass(frozen=True)
class Unread:
    """What a report lacks.

    Attributes:
        system: ``mysql``, ``s3`` or ``secrets``.
        what: What is missing for it.
        why: What the server, or its silence, came to.
    """

    system: str
    what: str
    why: str


@dataclass(frozen=True)
class Reading:
    """What the servers hold, as far as it could be read.

    Attributes:
        unread: What could not.
        found: Both catalogs; without the object store's where that is down; ``None`` without the database.
        drift: What is not as it should be; nothing unless all three could be read.
        verdict: What was compared.
    """

    unread: tuple[Unread, ...]
    found: Evidence | None
    drift: Sequence[Drift]
    verdict: Verdict

    @property
    def down(self) -> frozenset[str]:
        """The systems that could not be read."""
        return frozenset(one.system for one in self.unread)


def read(servers: Servers, wanted: Wanted) -> Reading:
    """Read and compare what can be.

    Args:
        servers: The servers.
        wanted: What the project file wants.

    Raises:
        DjopsError: A server answers, and refuses what djops needs.
    """
    unread = _unreachable(servers)
    down = {one.system for one in unread}
    if "mysql" in down:
        return Reading(unread, None, (), Verdict((), (), {}, {}, (), (), {}, ()))
    found = evidence.gather(servers, wanted, stores="s3" not in down)
    passwords = None if "secrets" in down else evidence.look_at_passwords(servers.site)
    verdict = verify.compare(found, verify.Choice(), verify.STATIC, None, passwords)
    if "s3" in down:
        reasons = (
            replace(one, reason="the object store could not be read") if one.reason == _NO_STORES else one
            for one in verdict.unknown
        )
        verdict = replace(verdict, unknown=tuple(reasons))
    differs = () if down else drift.look(servers, wanted).drift
    return Reading(unread, found, differs, verdict)


def _unreachable(servers: Servers) -> tuple[Unread, ...]:
    """Name the systems that do not answer."""
    probes: Mapping[str, Callable[[], object]] = {
        "mysql": servers.mysql.version,
        "s3": lambda: servers.s3.call(AwsCall("iam", "ListUsers", {"MaxItems": 1})),
        "secrets": servers.secrets.login,
    }
    found = []
    for system, probe in probes.items():
        try:
            probe()
        except ServerUnavailableError as error:
            found.append(Unread(system, _LEFT_OUT[system], error.message))
        except DjopsError:
            continue  # it answers: what it refuses is told by whoever needs it
    return tuple(found)


def journal(chain: Journal, state: Path) -> tuple[Sequence[Entry], Verified]:
    """Read the journal, and look whether it is whole.

    Args:
        chain: The journal.
        state: The directory of djops' own state for the environment.

    Returns:
        Its rows, none while the database is down; and whether they are whole, by themselves alone while the
        secrets server is.
    """
    try:
        with suppress(DjopsError):
            chain.catch_up()
        entries = list(chain.read())
    except ServerUnavailableError:
        return (), Verified("", Checked(0, Head(), (), 0), local.waiting(state), False)
    try:
        return entries, log.verify(chain, state)
    except ServerUnavailableError:
        return entries, Verified(chain.chain.where, check(entries), local.waiting(state), False)


def secrets(servers: Servers, wanted: Wanted) -> tuple[Sequence[SecretFinding], str]:
    """Judge the secrets; where djops may not read them, say why.

    Args:
        servers: The servers.
        wanted: What the project file wants.
    """
    try:
        return secrets_audit.audit(servers, wanted).findings, ""
    except DjopsError as error:
        return (), error.message
