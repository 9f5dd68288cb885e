"""`djops rotate` while a person's own client computes: nothing that runs is cut off."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from djops.services import credentials, rotation_use
from djops.systems.connections import Secret
from djops.systems.mysql import Mysql
from djops.systems.vault import Secrets
from tests.conftest import LabUnderTest
from tests.support.cli import Run, invoke
from tests.support.demo import DemoUnderTest, demo_in, run_client

WORKER = """
import sys
from my_pipeline import analysis

table = analysis.MultiModalAnalysis
make = table.make

def wait_and_make(self, key):
    print("making", flush=True)
    sys.stdin.readline()
    make(self, key)

table.make = wait_and_make
table().delete(prompt=False)
table.populate(reserve_jobs=True)
print("rows", len(table()), flush=True)
sys.stdin.readline()
print("rows", len(table()), flush=True)
"""
READER = """
from my_pipeline import analysis
print(len(analysis.MultiModalAnalysis().to_arrays("curve")))
"""


@pytest.fixture(scope="module")
def up(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUnderTest]:
    with demo_in(lab, tmp_path_factory.mktemp("here")) as found:
        yield found


def rotate(up: DemoUnderTest, *arguments: str) -> Run:
    return invoke("rotate", *arguments, "-C", str(up.site.project_file.parent))


def start_worker(directory: Path, source: Path) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DJ_")}
    environment = kept | {"PYTHONPATH": str(source), "DJ_LOG_STREAM": "stderr"}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER], cwd=directory, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def heard(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def go_on(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


def test_a_running_populate_outlives_a_rotation(up: DemoUnderTest, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    credentials.write(up.site, "carol", before)
    with start_worker(before, up.source) as worker:
        try:
            assert heard(worker) == "making"
            begun = rotate(up, "carol", "--yes", "--reason", "it leaked", "--json")
            assert begun.status == 0, begun.stdout
            assert begun.answer["data"]["applied"] == 2
            (under,) = begun.answer["data"]["under_way"]
            assert (under["who"], under["password"]) == ("carol", True)
            credentials.write(up.site, "carol", after)
            made = 0
            while heard(worker) == "making" if made else True:
                go_on(worker)
                made += 1
            # The same open session goes on when the password it was opened with is gone.
            refused = rotate(up, "carol", "--finish", "--yes")
            assert (refused.status, "E_IN_USE" in refused.stderr) == (1, True), refused.stderr
            assert "carol has a database session open" in refused.stderr
            finished = rotate(up, "carol", "--finish", "--force", "--yes")
            assert finished.status == 0, finished.stderr
            assert "loses the store now" in finished.stderr
            go_on(worker)
            assert heard(worker) == f"rows {made}"
            assert made > 1
        finally:
            worker.kill()
    assert int(run_client(after, up.source, ["-c", READER])) == made
    assert old_files_are_refused(before, up.source)
    assert rotate(up).stdout == "No rotation is under way.\n"
    assert invoke("plan", "-C", str(up.site.project_file.parent)).status == 0


def test_whoever_works_is_waited_for(up: DemoUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    with Secrets(up.site.secrets) as secrets:
        kept = secrets.read_secret(f"{up.site.project.project}/people/alice")
    assert kept is not None
    connection = replace(up.site.mysql, user="alice", password=Secret(kept.fields["database.password"]))
    session, looks = Mysql(connection), list[float]()

    def end_in_the_second_pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            session.close()
        time.sleep(0.2)  # the server takes a moment to see that somebody left

    monkeypatch.setattr(
        rotation_use, "time", SimpleNamespace(monotonic=time.monotonic, sleep=end_in_the_second_pause)
    )
    session.query("SELECT 1")
    assert rotate(up, "alice", "--yes").status == 0
    try:
        finished = rotate(up, "alice", "--finish", "--wait", "1h", "--yes")
    finally:
        session.close()
    assert finished.status == 0, finished.stderr
    assert len(looks) >= 2
    assert "E_IN_USE" not in finished.stderr
    assert rotate(up).stdout == "No rotation is under way.\n"


def old_files_are_refused(directory: Path, source: Path) -> bool:
    with pytest.raises(AssertionError, match="Access denied"):
        run_client(directory, source, ["-c", READER])
    return True


def test_what_cannot_be_meant_is_refused(up: DemoUnderTest) -> None:
    assert "E_USAGE" in rotate(up, "carol", "--all").stderr
    assert "E_USAGE" in rotate(up, "carol", "--force", "--yes").stderr
    assert "E_UNKNOWN_PRINCIPAL" in rotate(up, "carrol", "--yes").stderr
    assert "E_CONFIRM" in rotate(up, "alice").stderr
    assert rotate(up, "--all", "--finish").stdout.startswith("No rotation is under way.")
