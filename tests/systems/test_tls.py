"""The lab's authority and certificate."""

from __future__ import annotations

import datetime as dt
import shutil
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from djops.systems import tls
from djops.systems.paths import server_account

ACCOUNT = server_account()
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    assert tls.ensure(tmp_path, "lab/local", ACCOUNT)
    return tmp_path


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_second_time_changes_nothing(made: Path) -> None:
    before = content(made)
    assert not tls.ensure(made, "lab/local", ACCOUNT)
    assert content(made) == before


def test_keys_are_private(made: Path) -> None:
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((made / name).stat().st_mode) == 0o600
    assert (made / "server.key").stat().st_uid == ACCOUNT.uid


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "::1"])
def test_a_verifying_client_accepts_every_address(name: str, made: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made / "server.pem", made / "server.key")
    client = ssl.create_default_context(cafile=str(made / "ca.pem"))
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    left, right = socket.socketpair()
    thread = threading.Thread(target=lambda: server.wrap_socket(left, server_side=True).close())
    thread.start()
    with client.wrap_socket(right, server_hostname=name) as connection:
        assert connection.version() == "TLSv1.3"
    thread.join(120)


def test_another_labs_authority_is_not_enough(made: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    tls.ensure(other, "lab/local", ACCOUNT)
    shutil.copy(other / "server.pem", made)
    shutil.copy(other / "server.key", made)
    assert tls.ensure(made, "lab/local", ACCOUNT)
    issued = x509.load_pem_x509_certificate((made / "server.pem").read_bytes())
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate((made / "ca.pem").read_bytes()))


@pytest.mark.parametrize("lost", ["ca.pem", "ca.key", "server.pem", "server.key"])
@pytest.mark.parametrize("how", ["gone", "garbage", "empty"])
def test_what_is_lost_is_made_again(lost: str, how: str, made: Path) -> None:
    before = content(made)
    if how == "gone":
        (made / lost).unlink()
    else:
        (made / lost).write_bytes(b"garbage" if how == "garbage" else b"")
    assert tls.ensure(made, "lab/local", ACCOUNT)
    assert not tls.ensure(made, "lab/local", ACCOUNT)
    assert (content(made)["ca.pem"] == before["ca.pem"]) == lost.startswith("server"), (
        "clients know the authority"
    )


@pytest.mark.parametrize(
    ("days", "authority_anew", "anew"),
    [(0, False, False), (780, False, False), (800, False, True), (3630, True, True), (-2, True, True)],
    ids=["today", "still good", "certificate near its end", "authority near its end", "clock in the past"],
)
def test_renewal(days: int, authority_anew: bool, anew: bool, made: Path) -> None:
    before = content(made)
    then = NOW + dt.timedelta(days=days)
    assert tls.ensure(made, "lab/local", ACCOUNT, now=then) == anew
    assert (content(made)["ca.pem"] != before["ca.pem"]) == authority_anew
    assert not tls.ensure(made, "lab/local", ACCOUNT, now=then)


def test_a_long_name_of_a_lab_is_no_hindrance(tmp_path: Path) -> None:
    assert tls.ensure(tmp_path, "x" * 200, ACCOUNT)
