"""The lab as a whole: up, down and everything that may happen in between."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from djops.errors import DjopsError, LockedError, ManyErrors, StartError, UsageError
from djops.model.project import Project
from djops.services import lab as labs
from djops.services.site import choose_environment
from djops.systems.local import labfile
from djops.systems.lock import locked
from djops.systems.paths import lab_directory, server_account
from tests.conftest import LabUnderTest
from tests.support.labs import data_home, kill_all, processes_of

NAMES = ["mysql", "s3", "secrets"]
DAEMONS = {"mysqld", "ceph-mon", "ceph-osd", "radosgw", "bao"}


def project_called(name: str, **environments: str) -> Project:
    targets = environments or {"local": "local"}
    return Project.model_validate(
        {
            "version": 1,
            "project": name,
            "pipeline": {"package": "p"},
            "environments": {key: {"target": target} for key, target in targets.items()},
            "stores": {"main": {"bucket": f"{name}-data"}},
        }
    )


PROJECT = project_called("unlucky")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A lab that bad things happen to; every test leaves it up."""
    with data_home():
        up = labs.up(PROJECT)
        yield up.directory
        labs.down(PROJECT, purge=True)
        assert processes_of(up.directory) == []
        kill_all(up.directory)


def everything(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Return what djops itself keeps of a lab, but its journal: mode and content of each file."""
    return {
        str(path.relative_to(directory)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for folder in (directory, directory / "secrets", directory / "tls")
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith("journal")
    }


def pids(directory: Path) -> dict[str, int]:
    """Return the process id of each daemon, by the program's name."""
    found: dict[str, int] = {}
    for process in processes_of(directory):
        (name,) = {Path(argument).name for argument in process.arguments} & DAEMONS
        assert name not in found, f"two of {name}"
        found[name] = process.pid
    return found


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}/stat").exists():
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_servers_are_healthy(directory: Path) -> None:
    status = labs.status(PROJECT)
    assert [server.name for server in status.servers] == NAMES
    assert status.healthy
    for server in status.servers:
        assert server.running
        assert server.endpoint
        assert re.fullmatch(r"\d+\.\d+\.\d+", server.version or "")
        assert server.problem is None


def test_up_twice_changes_nothing(directory: Path) -> None:
    before, running = everything(directory), pids(directory)
    again = labs.up(PROJECT)
    assert not again.changed
    assert (everything(directory), pids(directory)) == (before, running)
    assert set(running) == DAEMONS


def test_servers_run_as_their_account_and_own_their_data_only(directory: Path) -> None:
    account = server_account()
    for pid in pids(directory).values():
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{account.uid}\t{account.uid}\t{account.uid}" in status
    assert stat.S_IMODE((directory / "secrets").stat().st_mode) == 0o700
    assert (directory / "secrets").stat().st_uid == os.geteuid()
    assert stat.S_IMODE((directory / "tls" / "ca.key").stat().st_mode) == 0o600
    for name in ("mysql", "ceph", "openbao"):
        state = (directory / name).stat()
        assert (stat.S_IMODE(state.st_mode), state.st_uid) == (0o700, account.uid)


def test_servers_listen_on_loopback_only(directory: Path) -> None:
    ours = set(pids(directory).values())
    sockets = {
        str(entry.readlink())[8:-1]
        for pid in ours
        for entry in Path(f"/proc/{pid}/fd").iterdir()
        if str(entry.readlink()).startswith("socket:[")
    }
    listening = [
        fields[1].partition(":")[0]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and fields[9] in sockets
    ]
    assert listening
    assert set(listening) == {"0100007F"}


def test_no_secret_is_in_a_command_line_or_a_log(directory: Path) -> None:
    import json

    secrets = [
        value
        for path in (directory / "secrets").glob("*.json")
        for key, value in json.loads(path.read_text()).items()
        if key in ("password", "secret_key", "secret_id")
    ]
    assert len(secrets) >= 3  # the roots' are in the secrets server alone
    texts = [" ".join(process.arguments) for process in processes_of(directory)]
    texts += [path.read_text(errors="replace") for path in directory.rglob("*.log")]
    assert not [secret for secret in secrets for text in texts if secret in text]


@pytest.mark.parametrize("victim", sorted(DAEMONS))
def test_up_after_a_server_was_killed(victim: str, directory: Path) -> None:
    before, running = everything(directory), pids(directory)
    os.kill(running[victim], signal.SIGKILL)
    wait_until_gone(running[victim])
    down = [server.name for server in labs.status(PROJECT).servers if not server.healthy]
    name = {"mysqld": "mysql", "bao": "secrets"}.get(victim, "s3")
    assert down == [name] or (down == [] and victim in ("ceph-mon", "ceph-osd"))
    again = labs.up(PROJECT)
    assert [server.name for server in again.servers if server.started] == [name]
    assert labs.status(PROJECT).healthy
    assert everything(directory) == before
    now = pids(directory)
    assert set(now) == DAEMONS
    assert {key: pid for key, pid in now.items() if key in ("mysqld", "bao") and key != victim} == {
        key: pid for key, pid in running.items() if key in ("mysqld", "bao") and key != victim
    }


def test_up_after_all_were_killed(directory: Path) -> None:
    before = everything(directory)
    for pid in pids(directory).values():
        os.kill(pid, signal.SIGKILL)
        wait_until_gone(pid)
    status = labs.status(PROJECT)
    assert [server.healthy for server in status.servers] == [False] * 3
    for server in status.servers:
        assert f"tail -n 100 {server.log}" in (server.problem or "")
    labs.up(PROJECT)
    assert labs.status(PROJECT).healthy
    assert everything(directory) == before


def test_down_stops_what_was_started_and_keeps_the_data(directory: Path) -> None:
    before = everything(directory)
    bystander = subprocess.Popen(["sleep", "60"])
    done = labs.down(PROJECT)
    assert (done.stopped, done.removed) == (("MySQL", "Ceph S3", "OpenBao"), False)
    assert processes_of(directory) == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait(120)
    assert labs.down(PROJECT).stopped == ()
    assert everything(directory) == before
    labs.up(PROJECT)
    assert everything(directory) == before


def test_a_server_that_does_not_come_up_says_why(directory: Path) -> None:
    labs.down(PROJECT)
    data = directory / "mysql" / "data"
    hidden = data.with_name("hidden")
    data.rename(hidden)
    data.mkdir()
    if os.geteuid() == 0:
        shutil.chown(data, server_account().name)
    try:
        with pytest.raises(StartError) as caught:
            labs.up(PROJECT)
    finally:
        shutil.rmtree(data)
        hidden.rename(data)
    error = caught.value
    log = directory / "mysql" / "mysqld.log"
    assert error.code == "E_START"
    assert re.match(r"MySQL ended after \d+\.\d s; the last lines of its log:\n", error.message)
    assert "[ERROR]" in error.message
    assert error.hint == f"see more with `tail -n 100 {log}`"
    labs.up(PROJECT)
    assert labs.status(PROJECT).healthy


def test_taken_ports_name_who_holds_them_all_at_once(directory: Path) -> None:
    labs.down(PROJECT)
    file = labfile.read(directory)
    assert file is not None
    taken = [file.ports[name] for name in NAMES]
    with contextlib.ExitStack() as held:
        for port in taken:
            held.enter_context(socket.create_server(("127.0.0.1", port)))
        with pytest.raises(ManyErrors) as caught:
            labs.up(PROJECT)
        assert not any(server.healthy for server in labs.status(PROJECT).servers)
    for port, error in zip(taken, caught.value.flatten(), strict=True):
        assert (error.code, error.where) == ("E_PORT", f"127.0.0.1:{port}")
        assert f"process {os.getpid()} (" in error.message
    labs.up(PROJECT)
    assert labs.status(PROJECT).healthy


def test_a_hung_server_is_waited_for_and_then_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = pids(directory)["bao"]
    monkeypatch.setattr(labs, "READY_SECONDS", 1.0)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StartError, match=r"OpenBao did not answer after \d"):
            labs.up(PROJECT)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_two_at_once(directory: Path) -> None:
    with locked(directory / "lock", "apply"):
        with pytest.raises(LockedError, match=f"`djops apply`, process {os.getpid()}"):
            labs.up(PROJECT)
        with pytest.raises(LockedError):
            labs.down(PROJECT)
        assert labs.status(PROJECT).healthy, "looking needs no lock"
    results: list[labs.LabUp] = []
    threads = [
        threading.Thread(target=lambda: results.append(labs.up(PROJECT, lock_wait=30))) for _ in range(2)
    ]
    labs.down(PROJECT)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert sorted(result.changed for result in results) == [False, True]


def test_a_clock_in_the_past_is_no_hindrance(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is not valid yet: it is made anew, and the servers take it."""
    import datetime as dt

    from djops.systems import tls

    ensure, then = tls.ensure, dt.datetime.now(dt.UTC) - dt.timedelta(days=20)
    monkeypatch.setattr(tls, "ensure", lambda *arguments: ensure(*arguments, now=then))
    before = everything(directory)
    again = labs.up(PROJECT)
    assert again.changed
    assert labs.status(PROJECT).healthy
    assert everything(directory)["tls/ca.pem"] != before["tls/ca.pem"]


def test_a_damaged_state_file_is_told(directory: Path) -> None:
    path = directory / "lab.json"
    before = path.read_bytes()
    try:
        for content in (
            b"{",
            b"[]",
            b'{"project": "unlucky"}',
            b'{"project":"a","environment":"b","ports":{"x":"y"}}',
        ):
            path.write_bytes(content)
            for action in (labs.up, labs.down, labs.status):
                with pytest.raises(DjopsError) as caught:
                    action(PROJECT)
                assert (caught.value.code, caught.value.where) == ("E_STATE", str(path))
    finally:
        path.write_bytes(before)


UP = """
import sys
from djops.services import lab
from tests.services.test_lab import project_called
print("begins", flush=True)
lab.up(project_called(sys.argv[1]))
"""


def test_up_killed_at_any_moment_is_finished_by_the_next() -> None:
    """The first ``up`` of a lab is killed again and again, a bit later each time."""
    project = project_called("restless")
    directory = lab_directory("restless", "local")
    root = Path(__file__).parents[2]
    try:
        for delay in (0.05, 0.2, 0.5, 0.9, 1.4, 2.0, 2.7, 3.5):
            victim = subprocess.Popen(
                [sys.executable, "-c", UP, "restless"], stdout=subprocess.PIPE, cwd=root, text=True
            )
            assert victim.stdout is not None
            assert victim.stdout.readline() == "begins\n"
            time.sleep(delay)
            victim.kill()
            victim.wait(120)
            victim.stdout.close()
        labs.up(project)
        assert labs.status(project).healthy
        assert set(pids(directory)) == DAEMONS
        before = everything(directory)
        assert not labs.up(project).changed
        assert everything(directory) == before
        assert not list(directory.rglob("*.new"))
    finally:
        labs.down(project, purge=True)
        kill_all(directory)
    assert not directory.exists()


PROGRAM = """
import sys
from djops.cli import main
from djops.services import lab
for name in ("up", "down"):
    def telling(*arguments, work=getattr(lab, name), **options):
        print("begins", flush=True)
        return work(*arguments, **options)
    setattr(lab, name, telling)
sys.argv[0] = "djops"
main.main()
"""


def test_what_interrupts_up_and_down_leaves_what_the_next_command_understands(tmp_path: Path) -> None:
    """The real program, stopped by Ctrl-C and as a system that shuts down does it, a bit later each time."""
    project = project_called("hasty")
    (tmp_path / "djops.yaml").write_text(json.dumps(project.model_dump(mode="json", exclude_none=True)))
    directory = lab_directory("hasty", "local")

    def stopped(command: str, number: signal.Signals, delay: float) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, command, "-C", tmp_path],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(delay)
        process.send_signal(number)
        said, _ = process.communicate(timeout=120)
        # Where the signal finds Python itself ending, all was said and done.
        assert process.returncode in (0, 128 + number, -number), said
        assert "Traceback" not in said
        if process.returncode > 0:
            assert "djops was interrupted" in said
        # Nobody holds the lock any more, and whatever runs can be told.
        labs.status(project)

    try:
        for delay, number in ((0.2, signal.SIGINT), (0.7, signal.SIGTERM), (1.4, signal.SIGINT)):
            stopped("up", number, delay)
        labs.up(project)
        assert labs.status(project).healthy
        for delay, number in ((0, signal.SIGTERM), (0.1, signal.SIGINT), (0.3, signal.SIGTERM)):
            stopped("down", number, delay)
        labs.down(project)
        assert processes_of(directory) == []
        labs.up(project)
        assert labs.status(project).healthy
    finally:
        labs.down(project, purge=True)
        kill_all(directory)


class TestPurge:
    """Removing a lab, and nothing else."""

    @pytest.fixture
    def place(self) -> Iterator[Path]:
        """The directory of a lab that never ran, with what a real one holds."""
        directory = lab_directory("doomed", "local")
        labfile.make_directories(directory, server_account())
        labfile.write(directory, labfile.LabFile("doomed", "local", dict.fromkeys(self.ports(), 1)))
        (directory / "mysql").mkdir()
        yield directory
        shutil.rmtree(directory.parent, ignore_errors=True)

    @staticmethod
    def ports() -> list[str]:
        return [name for make in labs.server_classes() for name in make.port_names]

    def test_links_are_not_followed(self, place: Path, tmp_path: Path) -> None:
        (tmp_path / "precious").write_text("x")
        (place / "mysql" / "link").symlink_to(tmp_path)
        (place / "link").symlink_to(tmp_path / "precious")
        assert labs.down(project_called("doomed"), purge=True).removed
        assert (tmp_path / "precious").read_text() == "x"
        assert not place.exists()

    def test_a_directory_that_is_a_link_is_refused(self, place: Path, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        shutil.copytree(place, elsewhere)
        shutil.rmtree(place)
        place.symlink_to(elsewhere)
        with pytest.raises(DjopsError, match="symbolic link") as caught:
            labs.down(project_called("doomed"), purge=True)
        assert caught.value.code == "E_STATE"
        assert (elsewhere / "lab.json").exists()

    def test_a_directory_that_is_no_lab_is_refused(self, place: Path) -> None:
        (place / "lab.json").unlink()
        (place / "thesis.tex").touch()
        with pytest.raises(DjopsError, match=r"no lab\.json"):
            labs.down(project_called("doomed"), purge=True)
        assert (place / "thesis.tex").exists()

    def test_another_projects_lab_is_refused(self, place: Path) -> None:
        labfile.write(place, labfile.LabFile("other", "local", dict.fromkeys(self.ports(), 1)))
        with pytest.raises(DjopsError, match="it says that it is 'other'"):
            labs.down(project_called("doomed"), purge=True)
        assert place.exists()

    def test_what_a_killed_purge_left_goes_with_the_next(self, place: Path) -> None:
        leftover = place.with_name(".purged-local-1")
        (leftover / "mysql").mkdir(parents=True)
        labs.down(project_called("doomed"), purge=True)
        assert not leftover.exists()

    def test_a_lab_that_never_was(self) -> None:
        assert not labs.down(project_called("nobody"), purge=True).removed


class TestEnvironment:
    """Which environment is meant."""

    def test_the_only_one(self) -> None:
        assert choose_environment(project_called("p", here="local"), None) == "here"

    def test_local_of_several(self) -> None:
        assert choose_environment(project_called("p", local="local", lab="local"), None) == "local"

    def test_several_without_local(self) -> None:
        with pytest.raises(UsageError) as caught:
            choose_environment(project_called("p", a="local", b="local"), None)
        assert (caught.value.code, caught.value.hint) == ("E_ENVIRONMENT", "name one with --env: a, b")

    def test_an_unknown_one(self) -> None:
        with pytest.raises(UsageError, match="'locl'") as caught:
            choose_environment(project_called("p", local="local", prod="local"), "locl")
        assert caught.value.hint == "did you mean 'local'?"

    @pytest.mark.parametrize("action", [labs.up, labs.down, labs.status])
    def test_servers_of_others_are_left_alone(self, action: object) -> None:
        assert callable(action)
        with pytest.raises(UsageError) as caught:
            action(project_called("p", prod="aws"))
        assert caught.value.code == "E_TARGET"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another account")
def test_a_data_home_that_the_servers_cannot_enter_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("DJOPS_DATA_HOME", str(tmp_path))
    with pytest.raises(DjopsError) as caught:
        labs.up(project_called("p"))
    assert caught.value.code == "E_DATA_HOME"
    assert "chmod o+x" in (caught.value.hint or "")


def test_a_full_disk_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labs, "_FRESH_BYTES", 1 << 60)
    with pytest.raises(DjopsError) as caught:
        labs.up(project_called("huge"))
    assert caught.value.code == "E_DISK"
    assert labs.down(project_called("huge"), purge=True).removed


def test_the_shared_lab_is_up(lab: LabUnderTest) -> None:
    assert lab.project_file.exists()
    assert (lab.directory / "lab.json").exists()
