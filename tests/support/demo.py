"""The demo in the lab that tests share, and what its people can really do with the files djops gives them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from djops.compile.rights import Rights, compile_rights
from djops.compile.sql import quote_identifier
from djops.services import access, demo
from djops.services.access import Servers, Wanted
from djops.services.demo import Demo
from djops.services.project import load
from djops.services.schemas import administrator_stores
from djops.services.site import Site, open_site
from djops.systems import datajoint
from tests.conftest import LabUnderTest

SCHEMAS = ("subject", "session", "ephys", "imaging", "analysis")


@dataclass(frozen=True)
class DemoUnderTest:
    """A demo that is up."""

    result: Demo
    site: Site
    wanted: Wanted
    rights: Rights

    @property
    def source(self) -> Path:
        return self.site.project_file.parent / "src"


@contextlib.contextmanager
def demo_in(lab: LabUnderTest, directory: Path) -> Iterator[DemoUnderTest]:
    """Make the demo on the shared lab's servers, and leave them as bare as they were."""
    repository = directory / lab.repository.name  # the project is named after it, and so is its lab
    result = demo.run(repository)
    loaded = load(repository / "djops.yaml")
    wanted = Wanted.of(loaded.project, loaded.graph)
    rights = compile_rights(loaded.project, loaded.graph, wanted.roles, wanted.today)
    site = open_site(repository / "djops.yaml")
    try:
        yield DemoUnderTest(result, site, wanted, rights)
    finally:
        bare(site, wanted)


def bare(site: Site, wanted: Wanted) -> None:
    nobody = wanted.project.model_copy(update={"people": {}, "services": {}})
    with Servers(replace(site, project=nobody)) as servers, servers.changing("test", 10):
        access.apply(servers, access.make_plan(servers, replace(wanted, project=nobody)))
        for schema in reversed(wanted.graph.order):
            servers.mysql.query(f"DROP DATABASE IF EXISTS {quote_identifier(schema)}")


def run_client(directory: Path, source: Path, code: Sequence[str], stdin: str = "") -> str:
    """Run Python with the ordinary client, as somebody would who was given ``directory``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DJ_")}
    environment["PYTHONPATH"] = f"{source}{os.pathsep}{Path(__file__).parents[2]}"
    environment |= {"DJ_LOG_STREAM": "stderr", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *code], cwd=directory, env=environment, input=stdin, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Material:
    """Rows for one person to work on, which nobody else touches."""

    person: str
    number: int

    def session(self, month: int) -> dict[str, Any]:
        return {"subject_id": "mouse01", "session_date": date(2027, month, 10 + self.number).isoformat()}

    @property
    def pending(self) -> dict[str, Any]:
        return self.session(1)

    @property
    def empty(self) -> dict[str, Any]:
        return self.session(2)

    @property
    def doomed(self) -> dict[str, Any]:
        return self.session(3)

    @property
    def childless(self) -> dict[str, Any]:
        return self.session(4)

    def prepare(self, client: Any) -> None:
        """Put the rows in, as the administrator."""
        sessions = (self.pending, self.empty, self.doomed, self.childless)
        _table(client, "subject.subject").insert1({"subject_id": f"doomed_{self.person}", **MOUSE})
        _table(client, "session.session").insert({**key, "experimenter": "alice"} for key in sessions)
        for key in (self.pending, self.doomed):
            _table(client, "ephys._recording").insert1({**key, **RECORDING})
            _table(client, "imaging._scan").insert1({**key, **scan(self.number)})
        trace = {"channel": 0, "trace": np.zeros(6000, dtype=np.float32)}
        _table(client, "ephys._recording__channel").insert1({**self.pending, **trace})
        _table(client, "analysis.#window").insert1({"window": f"doomed_{self.person}"[:16], "max_lag": 0.3})

    def tasks(self) -> dict[str, dict[str, Any]]:
        """What is tried on each schema, as JSON for :mod:`tests.support.client_matrix`."""
        me = self.person
        return {
            "subject": {
                "table": "subject",
                "insert": {"subject_id": f"new_{me}", **MOUSE},
                "update": {"subject_id": "mouse01", "sex": "M"},
                "delete": {"subject_id": f"doomed_{me}"},
            },
            "session": {
                "table": "session",
                "insert": {**self.session(5), "experimenter": "carol"},
                "update": {**self.pending, "experimenter": "carol"},
                "delete": self.childless,
            },
            "ephys": {
                "table": "_recording",
                "objects": ["header"],
                "insert": {**self.empty, **RECORDING},
                "update": {**self.pending, "sampling_rate": 1000.0 + self.number},
                "delete": self.doomed,
                "populate": ["Spikes", self.pending],
            },
            "imaging": {
                "table": "_scan",
                "objects": ["frames"],
                "insert": {**self.empty, "frame_rate": 10.0, "frames": 100 + self.number},
                "update": {**self.pending, "frame_rate": 11.0 + self.number},
                "delete": self.doomed,
                "populate": ["Fluorescence", self.pending],
            },
            "analysis": {
                "table": "#window",
                "insert": {"window": f"new_{me}", "max_lag": 0.2},
                "update": {"window": "wide", "max_lag": 1.0 + self.number / 10},
                "delete": {"window": f"doomed_{me}"[:16]},
                "populate": ["MultiModalAnalysis", {**self.pending, "window": "narrow"}],
            },
        }


MOUSE = {"species": "mus musculus", "sex": "F", "date_of_birth": "2026-01-01"}
RECORDING = {"probe_type": "tetrode", "sampling_rate": 1000.0, "header": {"made by": "a test"}}


def scan(seed: int) -> dict[str, Any]:
    return {"frame_rate": 10.0, "frames": np.random.default_rng(seed).normal(size=(60, 24, 24))}


def _table(client: Any, name: str) -> Any:
    schema, table = name.split(".")
    return client.FreeTable(f"`{schema}`.`{table}`")


@contextlib.contextmanager
def administrator(site: Site) -> Iterator[Any]:
    with datajoint.connect(site.mysql, administrator_stores(site)) as client:
        yield client


def try_everything(directory: Path, source: Path, material: Material) -> Mapping[str, Mapping[str, str]]:
    """Try every action on every schema as the person whose files are in ``directory``."""
    script = Path(__file__).with_name("client_matrix.py")
    task = json.dumps({"person": material.person, "schemas": material.tasks()})
    answer: dict[str, dict[str, str]] = json.loads(run_client(directory, source, [str(script)], task))
    return answer
