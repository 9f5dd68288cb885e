"""What lies around the programs: the project file, what is installed, and the policy pack as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import yaml
from google.protobuf import empty_pb2
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from tests.support import pulumi_engine
from tests.support.cloud import PROJECT, Declared
from tests.support.engine.wire import to_struct

ROOT = Path(__file__).resolve().parents[2]


def test_the_project_file_points_at_the_programs() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
    assert project["name"] == PROJECT and project["runtime"]["name"] == "python"
    assert (ROOT / project["main"] / "__main__.py").is_file()


def test_the_same_versions_are_pinned_everywhere() -> None:
    lines = (ROOT / "stacks" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert len(pinned) == 2
    assert set(pinned) <= set((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="module")
def analyzer() -> Iterator[analyzer_pb2_grpc.AnalyzerStub]:
    """The policy pack as the engine starts it: a process that prints its port and speaks the protocol."""
    pack = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "policies" / "pack")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert pack.stdout is not None
        port = pack.stdout.readline().strip()
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=_GRPC_CHANNEL_OPTIONS) as channel:
            yield analyzer_pb2_grpc.AnalyzerStub(channel)
    finally:
        pack.kill()
        pack.wait(120)


def test_the_pack_tells_its_rules(analyzer: analyzer_pb2_grpc.AnalyzerStub) -> None:
    info = analyzer.GetAnalyzerInfo(empty_pb2.Empty())
    assert info.name == "djops-cloud"
    names = {policy.name for policy in info.policies}
    assert {"database-private", "no-way-in", "data-protected"} <= names
    assert {policy.enforcementLevel for policy in info.policies} == {analyzer_pb2.MANDATORY}


@pytest.mark.parametrize("public", [True, False])
def test_the_pack_refuses_over_the_protocol(
    public: bool, analyzer: analyzer_pb2_grpc.AnalyzerStub, whole: Declared
) -> None:
    database = whole.of("rds.Instance")["database"]
    answer = analyzer.Analyze(
        analyzer_pb2.AnalyzeRequest(
            type=database.type,
            urn=database.urn,
            name=database.name,
            properties=to_struct({**database.inputs, "publiclyAccessible": public}),
            options=analyzer_pb2.AnalyzerResourceOptions(protect=True),
        )
    )
    assert [found.policyName for found in answer.diagnostics] == (["database-private"] if public else [])


def test_the_engine_is_built_at_the_version_that_the_tests_look_for() -> None:
    script = (ROOT / "scripts" / "pulumi_engine.py").read_text(encoding="utf-8")
    assert f'VERSION = "{pulumi_engine.VERSION}"' in script
