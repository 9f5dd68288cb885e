"""The lab's own certificate authority, and the one certificate its servers share.

The certificate that MySQL makes for itself names no address, so a client that verifies would refuse it
on 127.0.0.1; this one names every address the servers listen on.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from djops.systems.files import write_private
from djops.systems.paths import Account

_CA_DAYS = 3650
_SERVER_DAYS = 820
_RENEW_BEFORE = dt.timedelta(days=30)
_NAMES = ("localhost",)
_ADDRESSES = ("127.0.0.1", "::1")


@dataclass(frozen=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure(directory: Path, lab: str, account: Account, *, now: dt.datetime | None = None) -> bool:
    """Make sure that authority and certificate are there, belong together and are valid today.

    Args:
        directory: Where ``ca.pem``, ``ca.key``, ``server.pem`` and ``server.key`` lie; it exists.
        lab: Name of the lab, part of the authority's name.
        account: Whom the servers run as; gets ``server.key``.
        now: Today, for tests.

    Returns:
        Whether anything was made anew: servers that run must then be started again.

    Raises:
        DiskFullError: ``E_DISK`` when there is no room.
    """
    today = now or dt.datetime.now(dt.UTC)
    authority = _load(directory / "ca.pem", directory / "ca.key")
    made = False
    if authority is None or not _valid(authority.certificate, today):
        authority = _make_authority(lab, today)
        _write(directory / "ca.key", _pem_key(authority.key), None, 0o600)
        _write(directory / "ca.pem", _pem(authority.certificate), None, 0o644)
        made = True
    server = _load(directory / "server.pem", directory / "server.key")
    if server is None or not _valid(server.certificate, today) or not _signed_by(server, authority):
        server = _make_server(authority, today)
        # The key first: a certificate without its key is seen as missing, so this is made again.
        _write(directory / "server.key", _pem_key(server.key), account, 0o600)
        _write(directory / "server.pem", _pem(server.certificate), account, 0o644)
        made = True
    return made


def _load(certificate: Path, key: Path) -> _Pair | None:
    """Load a certificate with its key; ``None`` when one is missing, damaged or not the other's."""
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != loaded.public_key():
        return None
    return _Pair(loaded, private)


def _valid(certificate: x509.Certificate, today: dt.datetime) -> bool:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins <= today < ends - _RENEW_BEFORE


def _signed_by(server: _Pair, authority: _Pair) -> bool:
    try:
        server.certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _make_authority(lab: str, today: dt.datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # The date keeps a renewed authority apart from the one before in clients that hold both.
    name = _name(f"djops {lab}"[:50] + f" {today:%Y%m%d%H%M}")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, name, key, today, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _make_server(authority: _Pair, today: dt.datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in _NAMES]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in _ADDRESSES]
    issuer = authority.certificate
    days = min(_SERVER_DAYS, (issuer.not_valid_after_utc - today).days)
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_name(_NAMES[0]), issuer.subject, key, today, days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_key, critical=False)
    )
    return _Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, today: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=days))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, owner: Account | None, mode: int) -> None:
    write_private(path, content, owner=owner, mode=mode)
