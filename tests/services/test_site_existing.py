"""A project whose servers are there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from djops.errors import DjopsError
from djops.services.site import open_site

PROJECT = """\
version: 1
project: my_lab
pipeline: {package: my_pipeline}
environments:
  lab:
    target: existing
    mysql:
      host: db.example.org
      user: djops
      password: {file: mysql.secret}
    s3: {endpoint: "https://s3.example.org", access_key: {env: LAB_KEY}, secret_key: {env: LAB_KEY}}
    secrets: {address: "https://bao.example.org", role_id: {env: LAB_KEY}, secret_id: {env: LAB_KEY}}
stores:
  main: {bucket: my-lab-data, location: my_pipeline}
"""


@pytest.fixture
def project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DJOPS_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LAB_KEY", "a-key")
    (tmp_path / "djops.yaml").write_text(PROJECT)
    (tmp_path / "mysql.secret").write_text("password\n")
    (tmp_path / "mysql.secret").chmod(0o600)
    return tmp_path / "djops.yaml"


def test_a_site_of_existing_servers(project_file: Path) -> None:
    site = open_site(project_file)
    assert (site.environment, site.mysql.host, site.mysql_root) == ("lab", "db.example.org", None)
    assert site.secrets.address == "https://bao.example.org"
    assert site.lab.is_dir()
    assert site.lab.stat().st_mode & 0o077 == 0


def test_an_error_about_a_credential_names_its_line(project_file: Path) -> None:
    (project_file.parent / "mysql.secret").chmod(0o644)
    with pytest.raises(DjopsError) as error:
        open_site(project_file)
    assert (error.value.code, error.value.where) == ("E_MODE", f"{project_file}:10")
