"""What leaves the project file with somebody, and what somebody else takes over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from djops.model.editing import Edit, Remove, SetValue, grant_data, section_of
from djops.model.project import Grant, Project
from djops.model.yamltree import Path, parse


def written_teams(text: str, path: str) -> Mapping[str, Any]:
    """Read the teams as a project file writes them.

    Args:
        text: The project file's text.
        path: The file, for people.

    Raises:
        ConfigError: ``E_YAML`` when it is no YAML.
    """
    return parse(text, path).data.get("teams") or {}


def removal(project: Project, name: str, teams: Mapping[str, Any]) -> list[Edit]:
    """Take somebody out of the project file: her own entry, and her place in teams.

    Args:
        project: The project.
        name: The account name.
        teams: From :func:`written_teams`; each a name, a list of names, or a mapping with ``members``.

    Returns:
        The edits.

    Raises:
        UsageError: ``E_UNKNOWN_PRINCIPAL``.
    """
    edits: list[Edit] = [Remove((section_of(project, name), name))]
    for team, written in teams.items():
        place: Path = ("teams", team)
        members = written
        if isinstance(written, Mapping):
            place, members = (*place, "members"), written.get("members")
        if members == name:
            edits.append(SetValue(place, []))
        elif isinstance(members, list):
            # The last first, so that the numbers of the others stay.
            edits += [Remove((*place, n)) for n in range(len(members) - 1, -1, -1) if members[n] == name]
    return edits


def former_entry(project: Project, name: str) -> Mapping[str, Any]:
    """Return what the project file says of somebody, for the record.

    Args:
        project: The project.
        name: The account name.
    """
    principal = project.principals[name]
    entry: dict[str, Any] = {"section": section_of(project, name), "email": principal.email}
    entry["grants"] = [_plain(grant) for grant in principal.grants]
    entry["teams"] = [team for team, about in project.teams.items() if name in about.members]
    return entry


def _plain(grant: Grant) -> dict[str, Any]:
    data = grant_data(grant)
    return {**data, "until": str(data["until"])} if "until" in data else data
