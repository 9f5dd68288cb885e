"""A lab's LDAP directory: who is in a group."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from djops.errors import AccessDeniedError, InstallError, ServerUnavailableError, UsageError
from djops.systems.connections import Secret

SECONDS = 15
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_KINDS = ("groupOfNames", "groupOfUniqueNames", "posixGroup", "group")
_MEMBERS = ("member", "uniqueMember", "memberUid")


@dataclass(frozen=True)
class Directory:
    """Where a directory is, and what it calls things.

    Attributes:
        url: ``ldaps://`` or ``ldap://``; the latter is encrypted with StartTLS but on this machine.
        user_dn: Below which people are.
        user_attr: The attribute that is the account's name.
        group_dn: Below which groups are.
        bind_dn: The account that searches; anonymous when ``None``.
        bind_password: Its password.
        ca: PEM file of the authority of the directory's certificate; ``None`` uses the system's.
    """

    url: str
    user_dn: str
    user_attr: str
    group_dn: str
    bind_dn: str | None = None
    bind_password: Secret | None = None
    ca: Path | None = None


@dataclass(frozen=True)
class LdapPerson:
    """Somebody in a directory.

    Attributes:
        name: The account's name.
        email: The first address, if any.
    """

    name: str
    email: str | None


def members(directory: Directory, group: str) -> tuple[LdapPerson, ...]:
    """List who is in a group, in alphabetical order.

    Args:
        directory: The directory.
        group: The group's common name.

    Returns:
        The people; members that are no people of ``user_dn`` are left out.

    Raises:
        UsageError: ``E_UNKNOWN_GROUP`` when there is no such group.
        AccessDeniedError: The directory refuses the account.
        ServerUnavailableError: It does not answer.
        InstallError: ``E_INSTALL`` when the library for it is missing.
    """
    try:
        import ldap3
        from ldap3.core.exceptions import LDAPException
    except ImportError:
        raise InstallError(
            "the library for LDAP is missing", hint="install djops with its extra: pip install 'djops[ldap]'"
        ) from None
    try:
        connection = _connected(ldap3, directory)
        try:
            found = {one.name: one for one in _people(ldap3, connection, directory, group)}
        finally:
            connection.unbind()
    except LDAPException as error:
        raise ServerUnavailableError(
            f"the directory does not answer: {type(error).__name__}",
            where=directory.url,
            hint="check `login:` in djops.yaml: the URL, and `ca:` where its certificate is not public",
        ) from None
    return tuple(found[name] for name in sorted(found))


def _connected(ldap3: Any, directory: Directory) -> Any:  # noqa: ANN401  the library has no types
    parts = urlsplit(directory.url)
    tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(directory.ca) if directory.ca else None)
    server = ldap3.Server(directory.url, tls=tls, connect_timeout=SECONDS, get_info=ldap3.NONE)
    password = directory.bind_password.reveal() if directory.bind_password else None
    connection = ldap3.Connection(
        server, user=directory.bind_dn, password=password, receive_timeout=SECONDS, read_only=True
    )
    connection.open()
    if parts.scheme == "ldap" and parts.hostname not in _LOOPBACK and not connection.start_tls():
        raise ServerUnavailableError(
            "the directory offers no TLS, and djops sends no password without it",
            where=directory.url,
            code="E_TLS",
        )
    if not connection.bind():
        raise AccessDeniedError(
            f"the directory refused {directory.bind_dn or 'an anonymous search'}: "
            f"{connection.result.get('description')}",
            where=directory.url,
            hint="check `bind_dn` and `bind_password` of `login:` in djops.yaml",
        )
    return connection


def _people(ldap3: Any, connection: Any, directory: Directory, group: str) -> Iterator[LdapPerson]:  # noqa: ANN401
    from ldap3.utils.conv import escape_filter_chars as quoted

    kinds = "".join(f"(objectClass={kind})" for kind in _KINDS)
    connection.search(
        directory.group_dn, f"(&(cn={quoted(group)})(|{kinds}))", ldap3.SUBTREE, attributes=list(_MEMBERS)
    )
    entries = [one for one in connection.response or () if one.get("type") == "searchResEntry"]
    if not entries:
        raise UsageError(
            f"the directory has no group {group!r} below {directory.group_dn}",
            where=directory.url,
            code="E_UNKNOWN_GROUP",
        )
    for entry in entries:
        held = entry["attributes"]
        for name in _listed(held.get("memberUid")):
            where = f"({directory.user_attr}={quoted(name)})"
            yield from _found(connection, directory, directory.user_dn, where, ldap3.SUBTREE)
        for dn in [*_listed(held.get("member")), *_listed(held.get("uniqueMember"))]:
            if dn.casefold().endswith(directory.user_dn.casefold()):
                yield from _found(connection, directory, dn, f"({directory.user_attr}=*)", ldap3.BASE)


def _found(
    connection: Any,  # noqa: ANN401
    directory: Directory,
    base: str,
    where: str,
    scope: str,
) -> Iterator[LdapPerson]:
    connection.search(base, where, scope, attributes=[directory.user_attr, "mail"])
    for one in connection.response or ():
        if one.get("type") == "searchResEntry":
            names = _listed(one["attributes"].get(directory.user_attr))
            emails = _listed(one["attributes"].get("mail"))
            if names:
                yield LdapPerson(names[0], emails[0] if emails else None)


def _listed(value: object) -> list[str]:
    if value is None or value == "":
        return []
    values = value if isinstance(value, list) else [value]
    return [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in values]
