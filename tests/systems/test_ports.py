"""Ports: free ones, and who holds the others."""

from __future__ import annotations

import os
import socket

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


def test_promised_ports_are_avoided() -> None:
    first, last = ports._outgoing_range()
    few = [port for port in range(15000, 65536) if not first <= port <= last]
    wanted = few[100]
    assert ports.free_ports(1, avoid=set(few) - {wanted}) == [wanted]


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
