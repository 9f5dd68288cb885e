"""People's own log-ins to the secrets server, with a password that they choose and nobody else knows."""

from __future__ import annotations

from djops.compile.login import TOKEN
from djops.compile.vault import LOGINS, policy_name
from djops.errors import AccessDeniedError, UsageError
from djops.services.access import Servers, Wanted
from djops.services.journal import Cause, note
from djops.services.welcome import require_person
from djops.systems.connections import Secret

SHORTEST = 12
"""Characters of a password that a person may choose; the server slows nobody down who guesses."""


def set_login(servers: Servers, wanted: Wanted, who: str, password: Secret, reason: str = "") -> None:
    """Give somebody a log-in that opens her own secrets, or another password for it.

    Args:
        servers: The servers; the caller holds :meth:`Servers.changing`.
        wanted: The project.
        who: The person.
        password: What she chose.
        reason: Why, for the journal.

    Raises:
        DjopsError: ``E_NO_PRINCIPAL`` when there is no such person.
        UsageError: ``E_WEAK`` when the password is too short, or holds her name.
        AccessDeniedError: ``E_NO_LOGIN`` where djops may not make log-ins.
    """
    require_person(wanted, who)
    chosen, policy = password.reveal(), policy_name(wanted.project.project, who)
    if len(chosen) < SHORTEST or who.lower() in chosen.lower():
        raise UsageError(
            "the password is too easy", code="E_WEAK", hint=f"{SHORTEST} characters or more, without the name"
        )
    settings = {**TOKEN, "token_no_default_policy": True, "token_policies": [policy]}
    try:
        servers.secrets.request("POST", f"{LOGINS}/{policy}", {**settings, "password": chosen})
    except AccessDeniedError as error:
        raise AccessDeniedError(
            "djops may not make log-ins on this secrets server",
            where=error.where,
            code="E_NO_LOGIN",
            hint="a server that djops set up has them from its first day; elsewhere see `djops config login`",
        ) from None
    note(servers.journal, Cause("secrets login", reason), who=who)
