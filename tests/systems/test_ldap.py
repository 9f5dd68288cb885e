"""Groups of a real LDAP directory: who is in them, and what is told when it cannot be asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from djops.errors import DjopsError
from djops.services import onboarding
from djops.systems import ldap
from djops.systems.connections import Secret
from djops.systems.ldap import Directory, LdapPerson
from djops.systems.local.openbao import OpenBaoServer
from djops.systems.ports import free_ports
from tests.support.repository import HEAD, repository
from tests.support.slapd import ADMIN, BASE, PASSWORD, slapd

NINA, OMAR = LdapPerson("nina", "nina@example.org"), LdapPerson("omar", None)


@pytest.fixture(scope="module")
def directory(openbao: OpenBaoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    lab = openbao.lab
    with slapd(tmp_path_factory.mktemp("slapd"), lab.certificate, lab.key) as url:
        yield Directory(url, f"ou=people,{BASE}", "uid", f"ou=groups,{BASE}", ADMIN, Secret(PASSWORD), lab.ca)


@pytest.mark.parametrize(
    ("group", "expected"), [("rats", (NINA, OMAR)), ("posix (old)", (NINA,)), ("nobody", ())]
)
def test_who_is_in_a_group(directory: Directory, group: str, expected: tuple[LdapPerson, ...]) -> None:
    assert ldap.members(directory, group) == expected


@pytest.mark.parametrize(
    ("change", "group", "code"),
    [
        ({}, "mice", "E_UNKNOWN_GROUP"),
        ({}, "*", "E_UNKNOWN_GROUP"),
        ({}, "rats)(cn=*", "E_UNKNOWN_GROUP"),
        ({"bind_password": Secret("wrong")}, "rats", "E_DENIED"),
        ({"ca": None}, "rats", "E_SERVER"),
        ({"url": f"ldaps://127.0.0.1:{free_ports(1)[0]}"}, "rats", "E_SERVER"),
    ],
)
def test_what_is_told_when_it_cannot_be_asked(
    directory: Directory, change: dict[str, object], group: str, code: str
) -> None:
    with pytest.raises(DjopsError) as caught:
        ldap.members(replace(directory, **change), group)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert PASSWORD not in str(caught.value)


def test_a_group_as_the_project_file_names_the_directory(directory: Directory, tmp_path: Path) -> None:
    assert directory.ca is not None
    (tmp_path / "ldap-password").write_text(PASSWORD)
    (tmp_path / "ldap-password").chmod(0o600)
    (tmp_path / "ca.pem").write_text(directory.ca.read_text())
    login = (
        f"{{method: ldap, url: '{directory.url}', ca: ca.pem, bind_dn: '{ADMIN}', "
        f"bind_password: {{file: ldap-password}}, user_dn: 'ou=people,{BASE}', group_dn: 'ou=groups,{BASE}'}}"
    )
    head = HEAD.replace("{target: local}", f"{{target: local, login: {login}}}")
    file = repository(tmp_path / "with", head=head)
    for name in ("ldap-password", "ca.pem"):
        (tmp_path / name).rename(file.parent / name)
    found = onboarding.from_group(file, None, "rats", ())
    assert [(one.name, one.email) for one in found] == [("nina", "nina@example.org"), ("omar", None)]
    with pytest.raises(DjopsError) as caught:
        onboarding.from_group(file, None, "nobody", ())
    assert caught.value.code == "E_UNKNOWN_GROUP"
    with pytest.raises(DjopsError) as caught:
        onboarding.from_group(repository(tmp_path / "without"), None, "rats", ())
    assert caught.value.code == "E_NO_DIRECTORY"
