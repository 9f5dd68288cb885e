"""One lab with all three servers for the whole run, away from the user's own labs."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import Phase, settings

from djops.systems.paths import server_account
from tests.support import workers
from tests.support.labs import RUN, at_home, data_home
from tests.support.secret_search import SecretSearch, spelled_out, watching
from tests.support.stalls import Stalls

PROJECT_FILE = "djops.yaml"


# Whoever only wants to know that something fails does not wait for the smallest example.
settings.register_profile("hasty", phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure(config: pytest.Config) -> None:
    """Let a terminated run take its servers down, as an interrupted one does."""
    inputs: Mapping[str, Any] | None = getattr(config, "workerinput", None)

    def stop(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f"signal {number}")

    signal.signal(signal.SIGTERM, stop)
    # A shell starts what runs in the background with SIGINT ignored, and every child would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if inputs is not None:
        number = int(inputs["workerid"].removeprefix("gw"))
        os.environ["DJOPS_PORTS"] = workers.ports_of(number, inputs["workercount"])
    else:
        os.environ[RUN] = str(os.getpid())
        server_account()  # before several want to make it
    config.pluginmanager.register(Stalls(config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Say what ``-n auto`` means."""
    return workers.count()


def pytest_keyboard_interrupt() -> None:
    """Let nothing disturb whoever takes labs down: it may be told to more than once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "PYTEST_XDIST_WORKER" in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """However the run ends: wait for the others' servers to go down before the others are made to go."""
    if os.environ[RUN] == str(os.getpid()):
        workers.end(os.getpid())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, where several share the work."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: workers.rank(item.nodeid.partition("::")[0]))


@dataclass(frozen=True)
class LabUnderTest:
    """A copy of the demo pipeline's repository, with its lab up and nothing declared or granted yet.

    Attributes:
        project_file: Its ``djops.yaml``.
        directory: The lab's directory.
    """

    project_file: Path
    directory: Path

    @property
    def repository(self) -> Path:
        """The folder of the project file."""
        return self.project_file.parent


@pytest.fixture(scope="session", autouse=True)
def _labs_home() -> Iterator[Path]:
    """Keep every lab of the run in a directory of its own; fetched programs come from the usual cache."""
    with data_home() as base:
        yield base


@pytest.fixture(scope="session", autouse=True)
def secret_search(_labs_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretSearch]:
    """Look for secrets where none may be, during the whole run; what was found fails it in the end."""
    with watching(SecretSearch(spelled_out()), tmp_path_factory.getbasetemp()) as search:
        yield search
        search.look_at_home(_labs_home)
    assert not search.found, "secrets where none may be"


@pytest.fixture(scope="session")
def lab(_labs_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    """The lab that tests share; who takes a server down brings it up again."""
    from djops.services import lab as labs
    from djops.services.project import load_project

    repository = tmp_path_factory.mktemp("demo") / "demo-lab"
    with resources.as_file(resources.files("djops") / "demo_pipeline") as shipped:
        shutil.copytree(shipped, repository)
    project = load_project(repository / PROJECT_FILE)
    # Whoever asks for it first may have a home of their own, which ends before the run does.
    with at_home(_labs_home):
        up = labs.up(project, "local")
    yield LabUnderTest(repository / PROJECT_FILE, up.directory)
    with at_home(_labs_home):
        labs.down(project, "local", purge=True)
