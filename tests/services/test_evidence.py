"""What evidence is made of, without servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from djops.services import evidence
from djops.services.site import Site
from djops.systems.connections import MysqlConnection, S3Connection, Secret, SecretsConnection
from tests.support.projects import project

SITE = Site(
    project({}),
    Path("djops.yaml"),
    "local",
    project({}).environments["local"],
    MysqlConnection("db", 3306, "djops", Secret("")),
    S3Connection("https://s3.example.org", "https://s3.example.org", "key", Secret("")),
    SecretsConnection("https://vault.example.org", "role", Secret("")),
    None,
    Path("lab"),
)


@pytest.mark.parametrize(
    ("endpoint", "clear"),
    [
        ("https://s3.example.org", {}),
        ("http://127.0.0.1:9000", {}),
        ("http://[::1]:9000", {}),
        ("http://s3.example.org", {"the object store": "http://s3.example.org"}),
    ],
)
def test_what_crosses_a_network_without_tls(endpoint: str, clear: dict[str, str]) -> None:
    assert evidence.in_clear(replace(SITE, s3=replace(SITE.s3, endpoint=endpoint))) == clear


@pytest.mark.parametrize(
    ("endpoint", "dialect"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "aws"),
        ("https://amazonaws.com.example.org", "ceph"),
        ("https://127.0.0.1:1", "ceph"),
    ],
)
def test_whose_reading_of_policies(endpoint: str, dialect: str) -> None:
    assert evidence.dialect_of(replace(SITE, s3=replace(SITE.s3, admin_endpoint=endpoint))) == dialect


def test_no_look_at_hashes_on_a_server_that_djops_does_not_run() -> None:
    assert evidence.look_at_passwords(SITE) is None
