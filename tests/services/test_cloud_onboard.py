"""`djops cloud onboard`: the same environment from options and from answers on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from djops.services.project import load_project
from tests.support.aws_account import account
from tests.support.cli import PROGRAM, invoke
from tests.support.cloud import ACCOUNT
from tests.support.cloud_projects import OPENBAO, demo_in

PACKAGE = ("--openbao", OPENBAO["url"], "--openbao-sha256", OPENBAO["sha256"])


@pytest.fixture
def project_file(tmp_path: Path) -> Iterator[Path]:
    file = demo_in(tmp_path)
    with account(tmp_path):
        yield file


def onboard(file: Path, *options: str) -> Any:
    return invoke("cloud", "onboard", "-C", file.parent, "--json", *options)


def test_options_say_everything(project_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    before = project_file.read_text()
    options = [*PACKAGE, "--region", "eu-west-1", "--size", "medium", "--budget", "600", "--email", "a@b.org"]
    options += ["--vpc", "vpc-01", "--subnet", "subnet-01", "--subnet", "subnet-02"]
    options += ["--existing-bucket", "my-lab-data"]
    shown = onboard(project_file, *options)
    assert shown.answer["errors"][0]["code"] == "E_CONFIRM" and project_file.read_text() == before
    done = onboard(project_file, *options, "--yes")
    assert done.status == 0 and done.answer["data"]["written"] is True
    env = load_project(project_file).environments["production"]
    assert (env.target, env.region, env.size, env.account) == ("aws", "eu-west-1", "medium", ACCOUNT)
    assert env.existing.network is not None and env.existing.network.subnet_ids == ("subnet-01", "subnet-02")
    assert env.buckets["my-lab-data"].existing and env.budget is not None and env.budget.usd == 600
    kept = [line for line in project_file.read_text().splitlines() if line in before.splitlines()]
    assert kept == before.splitlines(), "comments and order stay"
    again = onboard(project_file, *options, "--yes")
    assert again.answer["errors"][0]["code"] == "E_ENVIRONMENT"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (PACKAGE, "--region"),
        (("--region", "eu-west-1"), "--openbao"),
        ((*PACKAGE, "--region", "eu-west-1", "--vpc", "vpc-01"), "--subnet"),
        ((*PACKAGE, "--region", "eu-west-1", "--budget", "5"), "--email"),
        ((*PACKAGE, "--region", "frankfurt"), "the name of an AWS region"),
        ((*PACKAGE, "--region", "eu-west-1", "--existing-bucket", "no-such"), "no store has this bucket"),
    ],
)
def test_without_a_terminal_nothing_is_asked(options: tuple[str, ...], told: str, project_file: Path) -> None:
    before = project_file.read_text()
    run = onboard(project_file, *options, "--yes")
    (error,) = run.answer["errors"]
    assert run.status == 1 and told in f"{error['message']} {error['hint']}"
    assert project_file.read_text() == before


def test_on_a_terminal_it_walks_through(tmp_path: Path) -> None:
    file = demo_in(tmp_path)
    answers = ["", "eu-central-1", "", "", OPENBAO["url"], OPENBAO["sha256"], "", "", "n", "", "y"]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    nothing = {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    master, slave = pty.openpty()
    try:
        os.write(master, "".join(f"{one}\n" for one in answers).encode())
        done = subprocess.run(
            [PROGRAM, "cloud", "onboard", "-C", file.parent],
            stdin=slave,
            stderr=slave,
            stdout=subprocess.PIPE,
            text=True,
            timeout=180,
            check=False,
            env={**variables, **nothing, "AWS_EC2_METADATA_DISABLED": "true"},
        )
        os.set_blocking(master, False)
        asked = os.read(master, 100_000).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 0, asked
    assert "Name of the environment [production]" in asked and "a month without use" in asked
    assert "Is the bucket my-lab-data there already? [y/N]" in asked
    assert "Estimated: $" in done.stdout and "djops cloud init --env production" in done.stdout
    env = load_project(file).environments["production"]
    assert (env.region, env.size, env.account, env.existing.network) == ("eu-central-1", "small", None, None)
