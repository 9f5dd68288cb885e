"""Welcome links on the real secrets server: good once, and what the server remembers of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from djops.errors import DjopsError, ServerUnavailableError
from djops.systems.connections import Secret
from djops.systems.links import LinkServer, events
from djops.systems.local.openbao import OpenBaoServer, connection
from djops.systems.ports import free_ports
from djops.systems.vault import Secrets, Wrapped

NINA = "lt/people/nina"
FIELDS = {"database.user": "nina", "database.password": "only-for-this-test-4711"}


@pytest.fixture
def wrapped(secrets: Secrets) -> Iterator[Wrapped]:
    secrets.write_secret(NINA, FIELDS, 0)
    yield secrets.wrap_secret(NINA, 3600)
    secrets.delete_secret_completely(NINA)


@pytest.fixture
def server(openbao: OpenBaoServer) -> LinkServer:
    return LinkServer(connection(openbao.lab).address, openbao.lab.ca)


def test_a_link_gives_the_secret_once(secrets: Secrets, wrapped: Wrapped, server: LinkServer) -> None:
    seen = server.look(wrapped.token)
    assert (seen.path, seen.made, seen.seconds) == (f"djops/data/{NINA}", wrapped.made, 3600)
    assert secrets.lookup_accessor(wrapped.accessor) is not None
    assert server.open(wrapped.token) == FIELDS
    for again in (server.look, server.open):
        with pytest.raises(DjopsError) as caught:
            again(wrapped.token)
        assert caught.value.code == "E_LINK_USED"
    until = time.monotonic() + 60
    while secrets.lookup_accessor(wrapped.accessor) is not None:
        assert time.monotonic() < until, "the token was used up and is still there"


def test_it_outlives_the_session_that_made_it(openbao: OpenBaoServer, server: LinkServer) -> None:
    with Secrets(connection(openbao.lab)) as session:
        session.write_secret(NINA, FIELDS, 0)
        made = session.wrap_secret(NINA, 3600)
    assert server.open(made.token) == FIELDS
    with Secrets(connection(openbao.lab)) as session:
        session.delete_secret_completely(NINA)


def test_a_link_that_was_opened_and_wrapped_again_shows_it(
    secrets: Secrets, wrapped: Wrapped, server: LinkServer
) -> None:
    stolen = server.open(wrapped.token)
    answer = secrets._exchange("POST", "sys/wrapping/wrap", {"data": dict(stolen)}, wrap=3600) or {}
    assert server.look(Secret(answer["wrap_info"]["token"])).path == "sys/wrapping/wrap"


def test_a_revoked_link_is_not_good(secrets: Secrets, wrapped: Wrapped, server: LinkServer) -> None:
    secrets.revoke_accessor(wrapped.accessor)
    secrets.revoke_accessor("of-no-token")
    with pytest.raises(DjopsError) as caught:
        server.open(wrapped.token)
    assert caught.value.code == "E_LINK_USED"


def test_the_audit_log_tells_who_opened_it_and_who_came_too_late(
    openbao: OpenBaoServer, wrapped: Wrapped, server: LinkServer
) -> None:
    assert list(events(openbao.audit_log, wrapped.made)) == []
    server.open(wrapped.token)
    with pytest.raises(DjopsError):
        server.open(wrapped.token)
    with pytest.raises(DjopsError):
        server.open(Secret("s.of-somebody-else"))
    seen = list(events(openbao.audit_log, wrapped.made))
    assert [(address, what) for _, address, what in seen] == [
        ("127.0.0.1", "opened"),
        ("127.0.0.1", "refused"),
    ]
    assert wrapped.token.reveal() not in openbao.audit_log.read_text()


def test_there_is_no_link_to_nothing(secrets: Secrets) -> None:
    with pytest.raises(DjopsError) as caught:
        secrets.wrap_secret("lt/people/nobody", 60)
    assert caught.value.code == "E_NO_CREDENTIALS"


def test_the_tokens_of_a_person_are_found_by_their_policy(secrets: Secrets) -> None:
    token = secrets.mint_token(["djops-lt-nina"], 60)
    try:
        seen = [secrets.lookup_accessor(accessor) for accessor in secrets.accessors()]
        assert sum("djops-lt-nina" in one["policies"] for one in seen if one) == 1
    finally:
        secrets.revoke_token(token)


@pytest.mark.parametrize("text", ["s.nothing", "", "s.ümläut", "two words"])
def test_what_is_no_link_is_told_without_showing_it(server: LinkServer, text: str) -> None:
    with pytest.raises(DjopsError) as caught:
        server.open(Secret(text))
    assert not text or text not in str(caught.value)


def test_a_server_that_is_gone_uses_nothing_up(wrapped: Wrapped, server: LinkServer) -> None:
    gone = replace(server, address=f"https://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(ServerUnavailableError) as caught:
        gone.open(wrapped.token)
    assert "not used" in (caught.value.hint or "")
    assert server.open(wrapped.token) == FIELDS


def test_another_authority_is_refused(wrapped: Wrapped, server: LinkServer) -> None:
    with pytest.raises(ServerUnavailableError) as caught:
        replace(server, ca=None).open(wrapped.token)
    assert caught.value.code == "E_TLS"
    assert server.open(wrapped.token) == FIELDS


def test_a_log_with_broken_lines_is_read(tmp_path: Path) -> None:
    made = "2026-11-21T15:00:00.030913681Z"
    about = {"token": "hmac-sha256:b59e", "creation_time": made}
    lines = [
        json.dumps({"type": "response", "response": {"wrap_info": about}}),
        '{"hmac-sha256:b59e sys/wrapping/unwrap',
        json.dumps(
            {"type": "request", "time": "t", "error": "no", "request": {
                "path": "sys/wrapping/unwrap", "client_token": "hmac-sha256:b59e", "remote_address": "::1"}}
        ),
    ]  # fmt: skip
    (tmp_path / "audit.log").write_text("\n".join(lines))
    assert list(events(tmp_path / "audit.log", made)) == [("t", "::1", "refused")]
