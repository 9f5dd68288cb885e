"""Project files with an environment in the cloud."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

OPENBAO = {"url": "https://packages.invalid/openbao-2.7.2.aarch64.rpm", "sha256": "ab" * 32}


def write_project(folder: Path, bucket: str = "demo-raw", **production: Any) -> Path:
    """Write a ``djops.yaml`` with a local environment and one in the cloud; returns the file."""
    cloud = {"target": "aws", "region": "eu-central-1", "openbao": OPENBAO, **production}
    data = {
        "version": 1,
        "project": "demo_lab",
        "pipeline": {"package": "demo"},
        "environments": {"local": {"target": "local"}, "production": cloud},
        "stores": {"main": {"bucket": bucket, "location": "demo"}},
    }
    file = folder / "djops.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return file


def demo_in(folder: Path, environment: str = "") -> Path:
    """Copy the demo pipeline's repository, with lines for environments added; returns its ``djops.yaml``."""
    repository = folder / "demo-lab"
    with resources.as_file(resources.files("djops") / "demo_pipeline") as shipped:
        shutil.copytree(shipped, repository)
    file = repository / "djops.yaml"
    local = "  local: {target: local}\n"
    text = file.read_text()
    assert local in text
    file.write_text(text.replace(local, local + environment))
    return file


PRODUCTION = f"""\
  # where the lab really works
  production:
    target: aws
    region: eu-central-1  # Frankfurt
    openbao: {{url: {OPENBAO["url"]}, sha256: {OPENBAO["sha256"]}}}
"""
