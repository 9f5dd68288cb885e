"""Project files with an environment in the cloud."""

from __future__ import annotations

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
