"""The project as a whole: its file, its pipeline, and what is to be said about them."""

from __future__ import annotations

from pathlib import Path

from djops.model import loading
from djops.model.project import Project
from djops.systems import projectfile


def load_project(project_file: Path) -> Project:
    """Read the project file alone, without the pipeline's source.

    Args:
        project_file: The ``djops.yaml``.

    Returns:
        The project, well formed; that its names mean something is what :func:`load` sees to.

    Raises:
        ConfigError: One thing is wrong with the file; ManyErrors: several.
    """
    project, _ = loading.load(projectfile.read(project_file), projectfile.shown(project_file))
    return project
