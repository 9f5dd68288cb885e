"""The lock over machines, on a real database: named, freed when its holder dies, noticed when it is lost."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from djops.errors import DjopsError, LockedError
from djops.model.graph import PipelineGraph
from djops.plan.change import Plan
from djops.plan.operations import VaultCall
from djops.services import access, applying
from djops.services.servers import Servers
from djops.services.site import Site, open_site
from djops.systems import lock
from djops.systems.lock import Lease
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest
from tests.services.test_crew import Doing
from tests.support.proxy import proxied

HOLD = """
import sys, time
from pathlib import Path
from djops.services.site import open_site
from djops.systems.lock import Lease
lease = Lease(open_site(Path(sys.argv[1])).mysql, "djops:test", "djops apply")
# The server takes a moment to see that whoever held it last was killed.
lease.acquire(120)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def site(lab: LabUnderTest) -> Site:
    return open_site(lab.project_file)


@contextlib.contextmanager
def held_elsewhere(lab: LabUnderTest) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(lab.project_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other
        other.kill()


@contextlib.contextmanager
def leased(site: Site, wait: float = 10) -> Iterator[Lease]:
    lease = Lease(site.mysql, "djops:test", "djops test")
    lease.acquire(wait)
    try:
        yield lease
    finally:
        with Mysql(site.mysql) as mysql:
            lease.release(mysql.end_session)


def test_the_holder_is_named_wherever_it_is(lab: LabUnderTest, site: Site) -> None:
    with held_elsewhere(lab) as other:
        time.sleep(0.1)
        with pytest.raises(LockedError) as caught, leased(site, 0):
            pytest.fail("two hold it")
        text = str(caught.value)
        assert f"`djops apply`, process {other.pid} of " in text
        assert f" on {socket.gethostname()}, for " in text


def test_a_killed_holder_holds_it_no_more(lab: LabUnderTest, site: Site) -> None:
    told: list[str] = []
    with held_elsewhere(lab) as other:
        threading.Timer(0.3, other.send_signal, (signal.SIGKILL,)).start()
        lease = Lease(site.mysql, "djops:test", "djops test")
        lease.acquire(120, told.append)
    with Mysql(site.mysql) as mysql:
        lease.release(mysql.end_session)
    assert all("`djops apply`" in text or "just ended" in text for text in told)


def test_it_is_free_at_once_when_it_is_let_go_of(site: Site) -> None:
    for _ in range(3):
        began = time.monotonic()
        with leased(site):
            pass
        assert time.monotonic() - began < 10


def test_a_quiet_holder_keeps_it(site: Site) -> None:
    with leased(site) as lease:
        time.sleep(2.5)
        lease.require()
        with pytest.raises(LockedError), leased(site, 0):
            pytest.fail("two hold it")


def test_whoever_waits_is_told_for_whom(lab: LabUnderTest, site: Site) -> None:
    told: list[str] = []
    with held_elsewhere(lab), pytest.raises(LockedError):
        Lease(site.mysql, "djops:test", "djops test").acquire(1.5, told.append)
    assert told
    assert "s left" in told[-1]


def test_an_ended_connection_is_noticed_before_anything_is_sent(site: Site) -> None:
    with leased(site) as lease, Mysql(site.mysql) as mysql:
        mysql.end_session(lease._session)
        deadline = time.monotonic() + 60
        with pytest.raises(LockedError) as caught:
            while time.monotonic() < deadline:
                lease.require()
                time.sleep(0.02)
    assert caught.value.code == "E_LOCK_LOST"


def test_a_cut_network_ends_both_the_lock_and_the_holder(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent any more before the database gives the lock to another."""
    monkeypatch.setattr(lock, "LEASE_SECONDS", 4)
    monkeypatch.setattr(lock, "FRESH_SECONDS", 2.0)
    with proxied(site.mysql.host, site.mysql.port) as proxy:
        cut_off = Lease(replace(site.mysql, port=proxy.port), "djops:test", "djops test")
        cut_off.acquire(60)
        proxy.cut()
        other = Lease(site.mysql, "djops:test", "djops other")
        free = threading.Event()

        def wait() -> None:
            other.acquire(120)
            free.set()

        threading.Thread(target=wait, daemon=True).start()
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                cut_off.require()
            except LockedError as error:
                assert error.code == "E_LOCK_LOST"
                break
            assert not free.is_set(), "two hold it"
            time.sleep(0.02)
        else:
            pytest.fail("the cut is not noticed")
        assert free.wait(120)
        with Mysql(site.mysql) as mysql:
            other.release(mysql.end_session)


def test_an_apply_that_lost_the_lock_sends_nothing_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    real = applying.execute

    def note(servers: Servers, operation: VaultCall) -> None:
        real(servers, operation)
        sent.append(operation)
        with Mysql(site.mysql) as mysql:
            assert servers._lease is not None
            mysql.end_session(servers._lease._session)
        time.sleep(0.5)

    monkeypatch.setattr(applying, "execute", note)
    calls = [VaultCall("DELETE", "sys/policies/acl/djops-demo_lab-nobody")] * 3
    plan = Plan(tuple(Doing(why=(), sends=(call,)) for call in calls))
    with Servers(site) as servers, pytest.raises(DjopsError) as caught, servers.changing("test", 10):
        access.apply(servers, plan)
    assert caught.value.code == "E_LOCK_LOST"
    assert len(sent) == 1
    assert "1 of 3 changes were carried out" in caught.value.message


def test_a_statement_of_a_djops_that_died_is_over_before_another_begins(site: Site) -> None:
    with Mysql(site.mysql) as dead:
        dead.query("SELECT GET_LOCK('djops!demo_lab', 0)")
        session = dead.query("SELECT CONNECTION_ID()")[0][0]
        with Servers(site) as servers, servers.changing("test", 10):
            rows = servers.mysql.query(
                "SELECT id FROM information_schema.processlist WHERE id = %s", (session,)
            )
            assert not rows


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_apply_says_what_was_done_and_goes_on(
    lab: LabUnderTest, site: Site, number: signal.Signals
) -> None:
    """The real program, stopped in the middle of an apply from empty."""
    from tests.services.test_apply import Place

    place = Place(site)
    place.bring_to({})
    command = [sys.executable, "-c", SLOWLY, "apply", "-y", "-C", str(lab.repository)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "a change is sent" in line:
                break
        process.send_signal(number)
        said = process.stderr.read()
        status = process.wait(120)
    assert status == 128 + number
    assert "djops was interrupted; " in said
    assert "changes were carried out" in said
    with Servers(site) as servers:
        *_, last = [entry for entry in servers.journal.read() if entry.event != "done"]
        assert last.event == "interrupted"
        plan = access.make_plan(servers, access.Wanted.of(site.project, place_graph(lab)))
        assert not plan.is_empty
    place.bring_to({})


SLOWLY = """
import sys, time
from djops.services import applying
real = applying.execute
def slow(servers, operation):
    print("a change is sent", file=sys.stderr, flush=True)
    time.sleep(0.05)
    real(servers, operation)
applying.execute = slow
from djops.cli.main import main
sys.argv[0] = "djops"
main()
"""


def place_graph(lab: LabUnderTest) -> PipelineGraph:
    from djops.services import project

    return project.load(lab.project_file).graph
