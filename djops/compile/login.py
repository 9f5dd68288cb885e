"""How people log in to the secrets server, as what its administrator runs once.

One policy serves everybody: it opens the secret whose name is the name somebody logged in with. So nothing
is to be done there for single people, and djops' own AppRole needs no power over log-in methods.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from djops.compile.vault import MOUNT
from djops.model.project import CredentialSource, Login

TOKEN = {"token_ttl": "15m", "token_max_ttl": "1h", "token_no_default_policy": "true"}
"""What a log-in gives: long enough to fetch a secret."""

CALLBACKS = ("http://localhost:8250/oidc/callback", "http://127.0.0.1:8250/oidc/callback")
"""Where `bao login -method=oidc` and `vault login -method=oidc` listen."""


def login_policy(project: str) -> str:
    """Return the name of the policy; outside of ``djops-*``, which djops itself writes."""
    return f"login-{project}"


def login_path(login: Login) -> str:
    """Return where the method is mounted."""
    return login.path or login.method


def login_script(project: str, login: Login) -> str:
    """Write what the secrets server's administrator runs, with ``bao`` or, in its place, ``vault``.

    Args:
        project: Name of the project.
        login: How people log in.

    Returns:
        Lines of shell; secrets are read from files or variables when they run.
    """
    path, policy = login_path(login), login_policy(project)
    own = f"{MOUNT}/data/{project}/people/{{{{identity.entity.aliases.$ACCESSOR.name}}}}"
    lines = [
        f"bao auth enable -path={path} {login.method}",
        f"ACCESSOR=$(bao read -field=accessor sys/auth/{path})",
        f"bao policy write {policy} - <<END",
        f'path "{own}" {{ capabilities = ["read"] }}',
        "END",
    ]
    match login.method:
        case "ldap":
            lines += [_write(f"auth/{path}/config", _ldap(login) | {"token_policies": policy} | TOKEN)]
        case "oidc":
            lines += [_write(f"auth/{path}/config", _oidc(project, login))]
            lines += [
                _write(f"auth/{path}/role/{project}", _oidc_role(login) | {"token_policies": policy} | TOKEN)
            ]
        case "userpass":
            told = " ".join(f"{name}={value}" for name, value in ({"token_policies": policy} | TOKEN).items())
            lines += ["# for each person, who types her own password for it:"]
            write = f"bao write auth/{path}/users/NAME password=- {told}"
            lines += [f'# read -rs PASSWORD && printf %s "$PASSWORD" | {write}']
    return "\n".join(lines) + "\n"


def _write(path: str, settings: Mapping[str, str | None]) -> str:
    told = " \\\n    ".join(f"{name}={value}" for name, value in settings.items() if value is not None)
    return f"bao write {path} \\\n    {told}"


def _ldap(login: Login) -> dict[str, str | None]:
    return {
        "url": _quoted(login.url),
        "starttls": "true" if (login.url or "").startswith("ldap:") else None,
        "certificate": None if login.ca is None else f"@{shlex.quote(login.ca)}",
        "binddn": _quoted(login.bind_dn),
        "bindpass": _secret(login.bind_password),
        "userdn": _quoted(login.user_dn),
        "userattr": login.user_attr,
        "groupdn": _quoted(login.group_dn),
        # Or the name somebody logged in with would be in lower case, and not the account's.
        "case_sensitive_names": "true",
    }


def _oidc(project: str, login: Login) -> dict[str, str | None]:
    return {
        "oidc_discovery_url": _quoted(login.discovery_url),
        "oidc_client_id": _quoted(login.client_id),
        "oidc_client_secret": _secret(login.client_secret),
        "default_role": project,
    }


def _oidc_role(login: Login) -> dict[str, str | None]:
    return {
        "role_type": "oidc",
        "user_claim": login.user_claim,
        "oidc_scopes": "profile",
        "allowed_redirect_uris": ",".join(CALLBACKS),
    }


def _quoted(value: str | None) -> str | None:
    return None if value is None else shlex.quote(value)


def _secret(source: CredentialSource | None) -> str | None:
    if source is None:
        return None
    return f"@{shlex.quote(source.file)}" if source.file else f'"${source.env}"'
