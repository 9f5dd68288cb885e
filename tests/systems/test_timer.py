"""The systemd timer for `djops expire`: its units, and who asks systemd for what."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from djops.systems import timer
from tests.conftest import LabUnderTest
from tests.support.cli import djops


@pytest.fixture
def odd_place(lab: LabUnderTest, tmp_path: Path) -> Path:
    place = tmp_path / 'odd 100% $HOME "x"'
    place.mkdir()
    (place / "djops.yaml").write_text(lab.project_file.read_text())
    (place / "src").symlink_to(lab.repository / "src")
    return place


@dataclass(frozen=True)
class Machine:
    """Where units are put, with a systemctl that only writes down what it is asked."""

    programs: Path
    folder: Path
    words: str

    @property
    def env(self) -> dict[str, str]:
        units = {"SYSTEMD_UNIT_PATH": str(self.programs / "units"), "XDG_CONFIG_HOME": str(self.programs)}
        return {"PATH": f"{self.programs}:/usr/bin:/bin", **units}

    @property
    def service(self) -> Path:
        return self.folder / "djops-expire-demo_lab-local.service"

    @property
    def asked(self) -> list[str]:
        return (self.programs / "asked").read_text().splitlines()


def machine_at(base: Path, *, root: bool) -> Machine:
    (base / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> "{base}/asked"\n')
    (base / "systemctl").chmod(0o755)
    return Machine(base, base / ("units" if root else "systemd/user"), "" if root else "--user ")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return machine_at(tmp_path, root=os.geteuid() == 0)


def test_the_timer_runs_the_very_command(lab: LabUnderTest, odd_place: Path, machine: Machine) -> None:
    done = djops("expire", "--install-timer", "--json", cwd=odd_place, env=machine.env)
    assert done.status == 0, done.stderr
    assert done.answer["data"]["timer"]["active"] is True
    enabled = "enable --now djops-expire-demo_lab-local.timer"
    assert machine.asked == [f"{machine.words}daemon-reload", f"{machine.words}{enabled}"]
    service = machine.service
    assert service.stat().st_mode & 0o077 == 0
    (line,) = [line for line in service.read_text().splitlines() if line.startswith("ExecStart=")]
    words = shlex.split(line.removeprefix("ExecStart=").replace("%%", "%").replace("$$", "$"))
    assert subprocess.run(words, cwd="/", check=False).returncode == 0
    assert faults(service, service.with_suffix(".timer")) == ""
    removed = djops("expire", "--remove-timer", cwd=odd_place, env=machine.env)
    assert removed.status == 0
    assert not list(service.parent.iterdir())
    disabled = "disable --now djops-expire-demo_lab-local.timer"
    assert machine.asked[2:] == [f"{machine.words}{disabled}", f"{machine.words}daemon-reload"]


@pytest.mark.parametrize("root", [True, False])
def test_root_installs_the_machines_and_others_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, root: bool
) -> None:
    machine = machine_at(tmp_path, root=root)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    for name, value in machine.env.items():
        monkeypatch.setenv(name, value)
    done = timer.install("demo_lab", "local", tmp_path)
    assert (done.active, done.machine, done.files[0]) == (True, root, machine.service)
    assert [line.startswith("--user ") for line in machine.asked] == [not root, not root]
    assert ("User=root" in machine.service.read_text()) == root
    assert faults(*done.files) == ""
    assert timer.remove("demo_lab", "local").files == done.files
    assert timer.remove("demo_lab", "local").files == ()


def faults(*units: Path) -> str:
    """Return what systemd says of unit files, where it is installed; it need not run."""
    if shutil.which("systemd-analyze") is None:
        return ""
    command = ["systemd-analyze", "verify", "--man=no", *map(str, units)]
    # The units that every unit waits for are found where they always are.
    env = {name: value for name, value in os.environ.items() if name != "SYSTEMD_UNIT_PATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    return done.stderr


def test_faults_of_units_are_seen(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    (tmp_path / "x.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    (tmp_path / "x.timer").write_text("[Timer]\nOnCalendar=hourly at two\n")
    assert "x.timer" in faults(tmp_path / "x.timer")


def test_up_installs_the_timer(lab: LabUnderTest, machine: Machine) -> None:
    plain = djops("up", "--json", cwd=lab.repository, env=machine.env)
    assert plain.status == 0, plain.stderr
    assert not machine.folder.exists()
    done = djops("up", "--timer", "--json", cwd=lab.repository, env=machine.env)
    assert done.status == 0, done.stderr
    assert machine.service.exists()
    assert done.answer["data"]["timer"]["files"][0] == str(machine.service)
    assert done.answer["data"]["servers"]


def test_without_systemd_the_timer_says_what_is_left_to_do(odd_place: Path, machine: Machine) -> None:
    (machine.programs / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    done = djops("expire", "--install-timer", cwd=odd_place, env=machine.env)
    assert done.status == 0, done.stderr
    assert "systemd does not run" in done.stdout
    crontab = done.stdout.splitlines()[-1]
    assert crontab.startswith("  2 * * * *  ")
    command = crontab.removeprefix("  2 * * * *  ").replace("\\%", "%")
    ran = subprocess.run(["sh", "-c", f"{command} --json"], capture_output=True, check=False, cwd="/")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["data"]["done"] == 0
