"""A real LDAP server: Debian's slapd in a private prefix, on a port of this machine, with TLS."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from djops.systems import debian
from djops.systems.ports import free_ports

PACKAGES = ("slapd", "ldap-utils", "-perl", "-perl-base", "-debconf", "-adduser", "-psmisc", "-passwd")
SUITES = ("bookworm", "trixie", "sid")
BASE = "dc=example,dc=org"
ADMIN, PASSWORD = f"cn=admin,{BASE}", "of-the-directory-in-a-test"

_CONFIGURATION = """\
include {prefix}/etc/ldap/schema/core.schema
include {prefix}/etc/ldap/schema/cosine.schema
include {prefix}/etc/ldap/schema/nis.schema
include {prefix}/etc/ldap/schema/inetorgperson.schema
pidfile {state}/slapd.pid
modulepath {prefix}/usr/lib/ldap
moduleload back_mdb
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw {password}
directory {state}/data
"""

PEOPLE = """\
dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: uid=nina,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: nina
cn: Nina
sn: N
mail: nina@example.org

dn: uid=omar,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: omar
cn: Omar
sn: O

dn: cn=rats,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: rats
member: uid=omar,ou=people,dc=example,dc=org
member: uid=nina,ou=people,dc=example,dc=org
member: cn=printer,ou=devices,dc=example,dc=org

dn: cn=posix (old),ou=groups,dc=example,dc=org
objectClass: posixGroup
cn: posix (old)
gidNumber: 100
memberUid: nina
memberUid: gone

dn: cn=nobody,ou=groups,dc=example,dc=org
objectClass: posixGroup
cn: nobody
gidNumber: 101
"""


@contextlib.contextmanager
def slapd(state: Path, certificate: Path, key: Path) -> Iterator[str]:
    """Run a directory with some people and groups.

    Args:
        state: A directory of its own.
        certificate: PEM file of its certificate, for 127.0.0.1.
        key: PEM file of the key.

    Yields:
        Its ``ldaps://`` URL.
    """
    prefix = debian.install("slapd", PACKAGES, SUITES, _Quiet()).path
    (state / "data").mkdir(parents=True)
    told = {"prefix": prefix, "state": state, "certificate": certificate, "key": key}
    text = _CONFIGURATION.format(**told, base=BASE, admin=ADMIN, password=PASSWORD)
    (state / "slapd.conf").write_text(text)
    (port,) = free_ports(1)
    url = f"ldaps://127.0.0.1:{port}"
    program = debian.loader_command(prefix, "usr/sbin/slapd")
    with (state / "log").open("w") as log:
        process = subprocess.Popen(
            [*program, "-f", state / "slapd.conf", "-h", url, "-d", "0"], stdout=log, stderr=log
        )
    try:
        _wait(process, port, state / "log")
        _fill(url, certificate)
        yield url
    finally:
        process.terminate()
        process.wait(10)


class _Quiet:
    def note(self, text: str) -> None:
        """Say nothing."""


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 90
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"slapd: {log.read_text()}") from None
            time.sleep(0.05)


def _fill(url: str, certificate: Path) -> None:
    import ssl

    import ldap3

    server = ldap3.Server(url, tls=ldap3.Tls(validate=ssl.CERT_NONE))
    with ldap3.Connection(server, ADMIN, PASSWORD) as connection:
        for block in PEOPLE.strip().split("\n\n"):
            pairs = [line.split(": ", 1) for line in block.splitlines()]
            attributes: dict[str, list[str]] = {}
            for name, value in pairs[1:]:
                attributes.setdefault(name, []).append(value)
            assert connection.add(pairs[0][1], attributes=attributes), connection.result  # type: ignore[no-untyped-call]
