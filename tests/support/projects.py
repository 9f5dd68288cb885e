"""Projects, pipelines and people for tests: fixed ones, and strategies that make up any."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from djops.compile.mysql import Inventory, compile_mysql
from djops.compile.mysql_state import MysqlState
from djops.compile.rights import Rights, compile_rights
from djops.model.graph import PipelineGraph, TableName
from djops.model.project import Project, Sandboxes
from djops.model.roles import DATA_TIERS, Capability, RoleModel
from djops.systems.resources import load_roles

TODAY = dt.date(2030, 1, 15)
TABLES = (
    "#lookup",
    "manual",
    "manual__part",
    "_imported",
    "__computed",
    "~lineage",
    "~~imported",
    "~~computed",
)

SCHEMA_NAMES = st.one_of(
    st.sampled_from(
        ["ephys", "lab_ephys", "labXephys", "lab%", "a`b", "it's", "back\\slash", "x" * 64, "x" * 63 + "y"]
    ),
    st.text(
        st.characters(
            min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc"], exclude_characters="/.*?$[]\\:"
        ),
        min_size=1,
        max_size=64,
    ),
).filter(lambda name: len(name) + sum(name.count(mark) for mark in "_%\\") <= 64)

STORABLE_NAMES = SCHEMA_NAMES.filter(lambda name: not set(name) & set("\\[]:"))
"""Names that S3 policies take as they are, on every server."""


def project(
    people: Mapping[str, Sequence[Mapping[str, Any]]],
    development: Sequence[str] = (),
    roles: Mapping[str, Mapping[str, Any]] | None = None,
    bucket: str = "lab-data",
) -> Project:
    return Project.model_validate(
        {
            "version": 1,
            "project": "lab",
            "pipeline": {"package": "pipeline"},
            "environments": {"local": {"target": "local"}},
            "stores": {"main": {"bucket": bucket, "location": "proj"}},
            "schemas": {name: {"stage": "development"} for name in development},
            "people": {name: {"grants": list(grants)} for name, grants in people.items()},
            "roles": dict(roles or {}),
        }
    )


def pipeline(upstream: Mapping[str, Sequence[str]], tables: Sequence[str] = TABLES) -> PipelineGraph:
    return PipelineGraph(
        schemas=frozenset(upstream),
        tables=frozenset(TableName(schema, table) for schema in upstream for table in tables),
        extra={schema: frozenset(above) for schema, above in upstream.items()},
    )


DEMO = {
    "subject": [],
    "session": ["subject"],
    "ephys": ["session"],
    "imaging": ["session"],
    "analysis": ["ephys", "imaging"],
}


@st.composite
def pipelines(draw: st.DrawFn, schema_names: st.SearchStrategy[str] = SCHEMA_NAMES) -> PipelineGraph:
    names = draw(st.lists(schema_names, min_size=2, max_size=6, unique_by=str.casefold))
    above = {
        n: draw(st.lists(st.sampled_from(names[:i]), unique=True, max_size=3)) if i else []
        for i, n in enumerate(names)
    }
    return pipeline(above, draw(st.sampled_from([TABLES, TABLES[:5], ()])))


CAPABILITIES = st.frozensets(st.sampled_from(sorted(Capability)), max_size=3).map(
    lambda found: found | {Capability.READ} if found else found
)


ELSEWHERE = CAPABILITIES.map(lambda found: found - {Capability.GRANT})
"""Roles are passed on for their own schema only."""


@st.composite
def own_roles(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Roles of a project's own: any capabilities anywhere."""
    role = st.fixed_dictionaries(
        {
            "target": CAPABILITIES,
            "upstream": ELSEWHERE,
            "downstream": ELSEWHERE,
            "cascade": ELSEWHERE,
            "tiers": st.frozensets(st.sampled_from(sorted(DATA_TIERS))),
        }
    )
    return draw(
        st.dictionaries(st.sampled_from(["own-one", "own-two"]), role.map(_that_passes_on), max_size=2)
    )


def _that_passes_on(role: dict[str, Any]) -> dict[str, Any]:
    """Let a role that passes others on read what they read."""
    read = {Capability.READ} if Capability.GRANT in role["target"] else set()
    return role | {"upstream": role["upstream"] | read}


@st.composite
def peoples(draw: st.DrawFn, graph: PipelineGraph) -> Project:
    own = draw(own_roles())
    shipped = load_roles().roles
    schemas = sorted(graph.schemas)
    grant = st.builds(
        lambda role, on, cascade: {
            "role": role,
            "on": ["all"] if role in shipped and shipped[role].project_wide else on,
            "cascade": cascade,
        },
        st.sampled_from([*sorted(shipped), *sorted(own)]),
        st.lists(st.sampled_from(schemas), min_size=1, max_size=3, unique=True),
        st.booleans(),
    )
    people = draw(
        st.dictionaries(st.sampled_from(["alice", "bob", "carol", "dan"]), st.lists(grant, max_size=3))
    )
    found = project(people, draw(st.lists(st.sampled_from(schemas), unique=True)), own)
    roles = draw(st.lists(st.sampled_from([*sorted(shipped), *sorted(own)]), max_size=2, unique=True))
    return found.model_copy(update={"sandboxes": Sandboxes(roles=tuple(roles))}) if roles else found


def compiled(
    wanted: Project, graph: PipelineGraph, roles: RoleModel | None = None
) -> tuple[Rights, MysqlState]:
    model = roles or load_roles().with_custom(wanted.roles)
    rights = compile_rights(wanted, graph, model, TODAY)
    return rights, compile_mysql(wanted, "%", rights, graph, model, Inventory(graph.tables))
