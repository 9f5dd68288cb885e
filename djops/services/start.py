"""The first ``djops.yaml`` of a pipeline that exists."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djops.errors import ConfigError, PipelineError, UsageError
from djops.model import loading
from djops.model.checking import reserved_schema
from djops.model.findings import Finding
from djops.model.nearest import advice
from djops.model.project import Project
from djops.model.source import SourceReading, read_source
from djops.systems import projectfile, sources

LAYOUTS = ("src", ".")
"""Folders in which a repository keeps its package, the more usual one first."""
_MAX_SETTINGS = 1 << 20
_STORE_KEYS = ("bucket", "location", "hash_prefix", "schema_prefix")


@dataclass(frozen=True)
class Started:
    """A project file that was written.

    Attributes:
        file: The file.
        text: Its content.
        project: What it says.
        findings: What could not be read, and what was left out.
    """

    file: Path
    text: str
    project: Project
    findings: tuple[Finding, ...]


def init(
    directory: Path,
    *,
    package: str | None = None,
    name: str | None = None,
    bucket: str | None = None,
    force: bool = False,
) -> Started:
    """Write ``djops.yaml`` for an existing pipeline package.

    Args:
        directory: The repository's root.
        package: The package's importable name; the only one with schemas unless given.
        name: The project's name; as ``pyproject.toml`` or the folder says unless given.
        bucket: Bucket of stores that the code uses and ``datajoint.json`` does not tell of.
        force: Whether to replace a file that is there.

    Returns:
        What was written.

    Raises:
        ConfigError: ``E_EXISTS`` when there is a project file, ``E_BAD_NAME`` for a name that is not allowed.
        PipelineError: There is no package with schemas, or it does not parse.
        UsageError: ``E_PACKAGE`` when it is not clear which package is meant.
    """
    file = directory / projectfile.NAME
    if file.exists() and not force:
        raise ConfigError(
            "there is a project file already",
            where=projectfile.shown(file),
            code="E_EXISTS",
            hint="change it by hand, or replace it with --force",
        )
    path, package, reading = _pipeline(directory, package)
    project_name = name or _project_name(directory)
    findings = list(reading.findings)
    stores = _stores(directory, findings)
    for store in sorted({use.store for use in reading.codecs if use.store}):
        fallback = {"bucket": bucket or _bucket(project_name), "location": package.partition(".")[0]}
        stores.setdefault(store, fallback)
    text = _text(project_name, package, path, stores, reading)
    project, _ = loading.load(text, projectfile.shown(file))
    projectfile.write(file, text)
    return Started(file, text, project, tuple(findings))


# -- the package -------------------------------------------------------------------------------------


def _pipeline(directory: Path, package: str | None) -> tuple[str, str, SourceReading]:
    """Find the package, and read it."""
    if package is not None:
        for layout in LAYOUTS:
            root = directory / layout
            whole = root.joinpath(*package.split("."))
            if whole.is_dir() or whole.with_suffix(".py").is_file():
                return layout, package, read_source(sources.read_package(root, package))
        names = [one for layout in LAYOUTS for one in sources.packages_in(directory / layout)]
        raise PipelineError(
            f"there is no package {package!r} in {projectfile.shown(directory)} or its folder src",
            code="E_NO_PACKAGE",
            hint=advice(package, names, what="packages"),
        )
    found = [
        (layout, name, reading)
        for layout in LAYOUTS
        for name in sources.packages_in(directory / layout)
        if (reading := read_source(sources.read_package(directory / layout, name))) and _has_schemas(reading)
    ]
    if not found:
        raise PipelineError(
            "there is no package with DataJoint schemas here",
            where=projectfile.shown(directory),
            code="E_NO_PACKAGE",
            hint="go to the repository's root, or name the package with --package; "
            "`djops demo` makes an example",
        )
    if len(found) > 1:
        raise UsageError(
            f"several packages have DataJoint schemas: {', '.join(name for _, name, _ in found)}",
            code="E_PACKAGE",
            hint=f"name one with --package: --package {found[0][1]}",
        )
    return found[0]


def _has_schemas(reading: SourceReading) -> bool:
    return bool(reading.graph.schemas) or any(one.code == "W_UNREAD_SCHEMA" for one in reading.findings)


# -- names -------------------------------------------------------------------------------------------


def _project_name(directory: Path) -> str:
    """Make a project name of what ``pyproject.toml`` or the folder is called."""
    called = directory.resolve().name
    file = directory / "pyproject.toml"
    if file.is_file():
        try:
            declared = tomllib.loads(projectfile.read_text(file, _MAX_SETTINGS)).get("project", {})
            called = str(declared.get("name", called)) if isinstance(declared, dict) else called
        except (tomllib.TOMLDecodeError, ConfigError):
            pass
    name = re.sub(r"[^a-z0-9_]+", "_", called.lower()).strip("_")[:31]
    return name if name[:1].isalpha() else f"lab_{name}"[:31].rstrip("_")


def _bucket(project: str) -> str:
    return f"{project.replace('_', '-').strip('-')}-data"


# -- stores ------------------------------------------------------------------------------------------


def _stores(directory: Path, findings: list[Finding]) -> dict[str, dict[str, str]]:
    """Read the S3 stores of ``datajoint.json``; what else it has, keys above all, stays where it is."""
    file = directory / "datajoint.json"
    if not file.is_file():
        return {}
    where = projectfile.shown(file)
    try:
        settings = json.loads(projectfile.read_text(file, _MAX_SETTINGS))
        entries = settings.get("stores", {})
    except (ValueError, ConfigError, AttributeError, RecursionError):
        findings.append(
            Finding("W_SETTINGS", "the client's settings cannot be read", where, "mend or remove the file")
        )
        return {}
    found: dict[str, dict[str, str]] = {}
    for name, entry in entries.items() if isinstance(entries, Mapping) else ():
        if not isinstance(entry, Mapping):
            continue
        if entry.get("protocol") != "s3" or not isinstance(entry.get("bucket"), str):
            message = f"the store {name!r} is not S3, so that djops gives no rights on it"
            findings.append(Finding("W_STORE_LEFT_OUT", message, where, "move its data to S3", "info"))
            continue
        found[name] = {key: entry[key] for key in _STORE_KEYS if isinstance(entry.get(key), str)}
        if "location" in found[name]:
            found[name]["location"] = found[name]["location"].strip("/")
        if "access_key" in entry or "secret_key" in entry:
            message = f"datajoint.json holds the keys of the store {name!r}"
            hint = "take them out and replace them: `djops credentials` writes each person's own"
            findings.append(Finding("W_SECRET", message, where, hint))
    return found


# -- the text ----------------------------------------------------------------------------------------


def _text(
    name: str, package: str, path: str, stores: Mapping[str, Mapping[str, str]], reading: SourceReading
) -> str:
    """Write the file's content."""
    lines = [
        "# The project file: what runs where, and who may do what. djops reads it; `djops grant`,",
        "# `djops revoke` and `djops users` edit it. Nothing secret belongs in here.",
        "version: 1",
        f"project: {_flow(name)}",
        f"pipeline: {_flow({'package': package, 'path': path})}",
        "",
        "# `local` starts real servers on this machine; `existing` uses servers that are there.",
        "environments:",
        "  local: {target: local}",
        "",
        "# Object stores by the name the code uses in <blob@name>.",
        *_section("stores", {one: {"protocol": "s3", **entry} for one, entry in stores.items()}),
        "",
        "# What cannot be read from the code. Developers may only be given schemas in development.",
        *_section("schemas", {one: {"stage": "production"} for one in _in_order(reading)}),
        *_to_fill_in(reading),
        "",
        "# People and what they may do: `djops users add alice`, `djops grant alice viewer ephys`.",
        "people: {}",
        "",
        "# Accounts for machines, such as the workers of a cluster, look just like people.",
        "services: {}",
    ]
    return "\n".join(lines) + "\n"


def _in_order(reading: SourceReading) -> tuple[str, ...]:
    graph = reading.graph
    names = graph.order if graph.cycle is None else tuple(sorted(graph.schemas))
    return tuple(name for name in names if name in graph.schemas and reserved_schema(name) is None)


def _section(key: str, entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not entries:
        return [f"{key}: {{}}"]
    return [f"{key}:", *(f"  {_flow({name: entry})[1:-1]}" for name, entry in entries.items())]


def _to_fill_in(reading: SourceReading) -> list[str]:
    """Write, as comments, what somebody has to name because the code computes it."""
    missing = [one for one in reading.findings if one.code == "W_UNREAD_SCHEMA" and one.hint is not None]
    lines: list[str] = []
    for one in missing:
        lines.append(f"  # {one.where}: {one.message}")
        lines.append(f"  # {one.hint}")
    return lines


def _flow(value: object) -> str:
    """Write a value in one line of YAML; JSON is YAML, and names rarely need its quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z_.][A-Za-z0-9_./-]*", text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"}
