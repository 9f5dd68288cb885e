"""Ports: free ones, and who holds the others."""

from __future__ import annotations

import os
import socket

import pytest

from djops.errors import StartError
from djops.systems import ports


def listening() -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    return server


def test_free_ports_are_free_and_differ() -> None:
    found = ports.free_ports(5)
    assert len(set(found)) == 5
    assert all(ports.is_free(port) for port in found)


def test_free_ports_are_not_those_that_outgoing_connections_take() -> None:
    first, last = ports._outgoing_range()
    assert not [port for port in ports.free_ports(20) if first <= port <= last]


def test_promised_ports_are_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJOPS_PORTS", raising=False)
    first, last = ports._outgoing_range()
    few = [port for port in range(15000, 65536) if not first <= port <= last]
    wanted = few[100]
    assert ports.free_ports(1, avoid=set(few) - {wanted}) == [wanted]


def test_a_range_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ports._outgoing_range()[0] - 30
    monkeypatch.setenv("DJOPS_PORTS", f"{first}-{first + 9}")
    assert set(ports.free_ports(5)) <= set(range(first, first + 10))
    with pytest.raises(StartError, match="not enough free ports") as error:
        ports.free_ports(11)
    assert error.value.code == "E_PORT"


@pytest.mark.parametrize("wrong", ["x", "15000", "2-1", "0-9", "1-65536", "-1-5"])
def test_what_is_no_range(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("DJOPS_PORTS", wrong)
    with pytest.raises(StartError, match="no range of ports"):
        ports.free_ports(1)


def test_a_taken_port_has_a_holder() -> None:
    with listening() as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.answers(port)
        holder = ports.holder(port)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert f"process {os.getpid()} (" in str(holder)
    assert ports.is_free(port)
    assert not ports.answers(port)
    assert ports.holder(port) is None


def test_a_holder_on_every_address_is_found() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        holder = ports.holder(port)
        assert holder is not None
        assert holder.pid == os.getpid()
