"""Repositories of small pipelines for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

HEAD = """\
version: 1
project: my_lab
pipeline: {package: pipe, path: src}
environments: {local: {target: local}}
stores:
  main: {bucket: my-lab-data, location: pipe}
"""

SESSION = """\
import datajoint as dj
schema = dj.Schema("session")

@schema
class Session(dj.Manual):
    definition = "session : int32"
"""

EPHYS = """\
import datajoint as dj
from . import session
schema = dj.Schema("ephys")

@schema
class Recording(dj.Imported):
    definition = '''
    -> session.Session
    ---
    trace : <blob@main>
    '''
"""


def repository(
    folder: Path, yaml: str = "", head: str = HEAD, modules: Mapping[str, str] | None = None
) -> Path:
    """Write a repository with two schemas, or with other modules, and return its project file."""
    package = folder / "src" / "pipe"
    package.mkdir(parents=True)
    for name, text in {"__init__": "", **(modules or {"session": SESSION, "ephys": EPHYS})}.items():
        (package / f"{name}.py").write_text(text)
    file = folder / "djops.yaml"
    file.write_text(head + yaml)
    return file
