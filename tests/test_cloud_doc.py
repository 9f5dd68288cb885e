"""docs/cloud.md: its first steps are played, and each of its answers is one that a test compares."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import cloud_doc
from tests.support.aws_account import account, work_as
from tests.support.cli import invoke
from tests.support.cloud_page import shows
from tests.support.cloud_projects import OPENBAO, demo_in

PACKAGE = ("--openbao", OPENBAO["url"], "--openbao-sha256", OPENBAO["sha256"])


def test_the_first_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = demo_in(tmp_path).parent

    def answer(*typed: str, status: int = 0) -> str:
        run = invoke(*typed, "-C", folder)
        assert run.status == status, run.stderr
        return f"$ djops {' '.join(typed)}\n{run.stdout}"

    with account(tmp_path):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        shows("onboard", answer("cloud", "onboard", "--region", "eu-central-1", *PACKAGE, "--yes"))
        shows("init", answer("cloud", "init", "--yes"))
        shows("cost", answer("cost"))
        nearly = {"Effect": "Allow", "NotAction": ["rds:CreateDBInstance"], "Resource": "*"}
        work_as(monkeypatch, "ann", {"Version": "2012-10-17", "Statement": [nearly]})
        shows("check", answer("cloud", "check", status=2))


def test_every_part_is_compared_somewhere() -> None:
    tests = "".join((cloud_doc.ROOT / name).read_text(encoding="utf-8") for name in cloud_doc.TESTS)
    compared = set(re.findall(r"\bshows\(\s*\"([^\"]+)\"", tests))
    assert set(cloud_doc.names(cloud_doc.DOCUMENT.read_text(encoding="utf-8"))) == compared


def test_a_part_that_is_missing_is_told() -> None:
    with pytest.raises(LookupError, match="no place for 'plan'"):
        cloud_doc.replaced("# Cloud\n", "plan", "x")
    page = "a\n<!-- shown: plan -->\n```\nold\n```\n<!-- end -->\nb\n"
    assert cloud_doc.replaced(page, "plan", "i-00000000000000abc \n").splitlines()[3] == "i-0123456789abcdef0"
