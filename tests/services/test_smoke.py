"""The smoke test on real servers: it agrees, it notices, and it leaves nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from djops.compile.mysql_state import MysqlState
from djops.errors import ClientError, LockedError, UsageError
from djops.model.roles import Capability, Limits
from djops.plan.operations import AwsCall
from djops.services import smoke, trial
from djops.services.access import Servers
from djops.services.site import Site, open_site
from djops.systems.limits import check_limits
from djops.systems.progress import Silent
from djops.systems.resources import load_roles
from djops.systems.s3 import S3
from tests.conftest import LabUnderTest
from tests.support.cli import wait_until_it_minds_signals


@pytest.fixture(scope="module")
def site(lab: LabUnderTest) -> Site:
    return open_site(lab.project_file)


@dataclass(frozen=True)
class Holdings:
    """Everything on the servers that a smoke test might leave."""

    mysql: MysqlState
    schemas: frozenset[str]
    objects: frozenset[str]
    users: frozenset[str]
    policies: frozenset[str]
    secrets: frozenset[str]
    records: frozenset[str]


def _holdings(site: Site) -> Holdings:
    assert site.s3_root is not None
    as_root = S3(site.s3_root)
    with Servers(site) as servers:
        versions = servers.s3.call(AwsCall("s3", "ListObjectVersions", {"Bucket": "my-lab-data"}))
        users = as_root.call(AwsCall("iam", "ListUsers", {}))["Users"]
        listed = [*versions.get("Versions", ()), *versions.get("DeleteMarkers", ())]
        return Holdings(
            mysql=servers.mysql.read_state(),
            schemas=frozenset(row[0] for row in servers.mysql.query("SHOW DATABASES")),
            objects=frozenset(item["Key"] for item in listed if "smoke" in item["Key"]),
            users=frozenset(user["UserName"] for user in users),
            policies=frozenset(servers.secrets.read_policies()),
            secrets=frozenset(_secrets(servers)),
            records=frozenset(path.name for path in (site.lab / "smoke").glob("*")),
        )


def _secrets(servers: Servers) -> Iterator[str]:
    """Name what there is; the journal's own notes stay, as it does."""
    for project in servers.secrets.list_secrets(""):
        yield from (
            f"{project}{name}" for name in servers.secrets.list_secrets(project) if name != "journal/"
        )


@pytest.fixture(scope="module")
def before(site: Site) -> Holdings:
    return _holdings(site)


@pytest.fixture(autouse=True)
def _nothing_stays(site: Site, before: Holdings) -> Iterator[None]:
    yield
    assert _holdings(site) == before


def test_every_role_can_do_what_the_model_says_and_no_more(site: Site) -> None:
    report = smoke.run(site)
    assert [cell for cell in report.cells if not cell.agrees] == []
    roles = load_roles().roles
    assert {(cell.role, cell.action) for cell in report.cells} == {
        (role, action.name) for role in roles for action in smoke.ACTIONS
    }
    # Otherwise nothing would have been tried.
    assert {cell.seen for cell in report.cells} == {"works", "denied"}


def test_one_role_can_be_tried_alone(site: Site) -> None:
    report = smoke.run(site, "viewer")
    seen = {cell.action: cell.seen for cell in report.cells if cell.role == "viewer"}
    assert len(seen) == len(report.cells)
    assert {name for name, outcome in seen.items() if outcome == "works"} == {"connect", "limits", "read"}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(connections=2), "opens 3 connections at once, and may have 2"),
        (Limits(statement_seconds=30), "may take 0 milliseconds, not 30000"),
        (Limits(rows=1000), "rows, not 1000"),
    ],
)
def test_a_limit_that_is_not_in_force_is_noticed(site: Site, limits: Limits, said: str) -> None:
    with pytest.raises(ClientError, match=said):
        check_limits(site.mysql, limits, guarded=True)
    check_limits(site.mysql, Limits(), guarded=True)


def test_an_unknown_role_is_refused_with_the_nearest_name(site: Site) -> None:
    with pytest.raises(UsageError) as caught:
        smoke.run(site, "viewr")
    assert "'viewer'" in (caught.value.hint or "")


def test_a_right_that_is_not_enforced_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe that analysts cannot insert, which they can, and that they can delete, which they cannot."""
    analyst = load_roles().roles["analyst"]
    target = analyst.target - {Capability.INSERT} | {Capability.DELETE}
    believed = analyst.model_copy(update={"target": target})
    attempt = smoke._attempt

    def misled(action, number, role, model, client, admin):  # type: ignore[no-untyped-def]
        return attempt(action, number, role, believed, client, admin)

    monkeypatch.setattr(smoke, "_attempt", misled)
    report = smoke.run(site, "analyst")
    wrong = {cell.action: (cell.expected, cell.seen) for cell in report.cells if not cell.agrees}
    assert wrong == {
        "insert": ("denied", "works"),
        "populate": ("denied", "works"),
        "delete": ("works", "denied"),
    }
    assert not report.agrees


def test_a_failure_in_the_middle_leaves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise OSError("in the middle")

    monkeypatch.setattr(smoke, "_attempt", fails)
    with pytest.raises(OSError, match="in the middle"):
        smoke.run(site)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(site: Site, number: signal.Signals) -> None:
    for seconds in (1.0, 2.0):
        process = _started(site)
        wait_until_it_minds_signals(process.pid)
        time.sleep(seconds)
        process.send_signal(number)
        told = _ended(process)
        assert process.returncode in (0, 128 + number), told


def test_what_a_killed_test_left_is_removed_by_the_next(site: Site) -> None:
    killed = 0
    for _ in range(3):
        process = _started(site)
        time.sleep(random.uniform(1.0, 4.0))
        process.kill()
        _ended(process)
        killed += process.returncode == -signal.SIGKILL
    report = smoke.run(site, "viewer")
    assert report.agrees
    assert killed


def test_a_test_that_is_under_way_is_no_remain(site: Site) -> None:
    with trial.recorded(site) as current:
        assert trial.remove_remains(site, Silent(), 10) == ()
        trial.remove(site, current, 10)


def test_two_at_once_do_not_disturb_each_other(site: Site) -> None:
    first, second = _started(site, "viewer"), _started(site, "analyst")
    told = _ended(first), _ended(second)
    assert (first.returncode, second.returncode) == (0, 0), told


def test_a_lock_that_stays_held_is_told(site: Site) -> None:
    with Servers(site) as servers, servers.changing("a test", 0), pytest.raises(LockedError):
        smoke.run(site, "viewer", lock_wait=0)


def _started(site: Site, role: str | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "djops.cli.main", "smoke", "-q", "-C", str(site.project_file.parent)]
    command += [] if role is None else ["--as", role]
    both = subprocess.STDOUT
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=both, text=True, cwd=Path(os.sep))


def _ended(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=300)[0]
