"""The plans that the matrix goes through, from ``cases.yaml``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from djops.model.project import Project
from djops.plan.operations import AwsCall, Operation, VaultCall

FILE = Path(__file__).with_name("cases.yaml")
DAY = dt.date(2035, 1, 1)
"""The day on which grants are judged where a case does not say; no server's own clock is near it."""

ByHand = str | Operation
"""What somebody did who does not know djops: SQL as root, or another request."""


@dataclass(frozen=True)
class Side:
    """What is wanted before a plan, or after it.

    Attributes:
        people: The people's roles, each with what it is given on.
        teams: The teams, as the project file has them.
        stores: Names of stores besides the project's own.
        main: Whether there is the project's own.
        services: The services, each with its roles and, if djops does not keep them, its credentials.
        today: The day on which grants are judged.
    """

    people: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    teams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stores: Sequence[str] = ()
    main: bool = True
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    today: dt.date = DAY

    def project(self, own: Project, everybody: Mapping[str, Mapping[str, Any]]) -> Project:
        """Return a project with these people in the place of its own.

        Args:
            own: The project.
            everybody: People who are there in every case.
        """
        people = {name: {"grants": _grants(held)} for name, held in {**everybody, **self.people}.items()}
        teams = {
            name: {"members": team["members"], "grants": _grants(team["grants"])}
            for name, team in self.teams.items()
        }
        services = {name: {**told, "grants": _grants(told["grants"])} for name, told in self.services.items()}
        data = own.model_dump() | {"people": people, "teams": teams, "services": services}
        main = data["stores"]["main"]
        own_stores = {"main": main} if self.main else {}
        data["stores"] = own_stores | {name: main | {"location": name} for name in self.stores}
        return Project.model_validate(data)


@dataclass(frozen=True)
class Case:
    """A plan: what is wanted before it and after it.

    Attributes:
        name: Its name.
        before: What the servers are brought to first.
        after: What the plan brings them to.
        everybody: People who are there before and after, with the same roles.
        by_hand: What is done to the servers before the plan.
        renews: Which half of a renewal of credentials the plan is, if any.
        touches: Who of everybody may lose something for a moment.
    """

    name: str
    before: Side
    after: Side
    everybody: Mapping[str, Mapping[str, Any]]
    by_hand: Sequence[ByHand] = ()
    renews: Literal["begin", "finish", ""] = ""
    touches: Sequence[str] = ()

    @property
    def services(self) -> tuple[str, ...]:
        """The services that are there before or after."""
        return tuple(sorted({*self.before.services, *self.after.services}))

    @property
    def principals(self) -> tuple[str, ...]:
        """Everybody who is there before or after, services included."""
        return tuple(sorted({*self.everybody, *self.before.people, *self.after.people, *self.services}))

    @property
    def concerned(self) -> tuple[str, ...]:
        """Everybody whom the plan is about."""
        return tuple(name for name in self.principals if name not in self.everybody or name in self.touches)

    def path(self, project: str, name: str) -> str:
        """Return where somebody's credentials are kept, also of those who are gone.

        Args:
            project: Name of the project.
            name: A person or service.
        """
        return f"{project}/{'services' if name in self.services else 'people'}/{name}"


def load(project: str) -> Mapping[str, Case]:
    """Read the cases.

    Args:
        project: Name of the project, for paths on the secrets server.
    """
    data = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {
        name: Case(
            name,
            Side(**told["before"]),
            Side(**told["after"]),
            data["everybody"],
            tuple(_by_hand(step, project) for step in told.get("by_hand", ())),
            told.get("renews", ""),
            tuple(told.get("touches", ())),
        )
        for name, told in data["cases"].items()
    }


def _grants(held: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        {"role": role, **(where if isinstance(where, Mapping) else {"on": where})}
        for role, where in held.items()
    ]


def _by_hand(step: Mapping[str, Any], project: str) -> ByHand:
    step = _filled(step, project)
    if "sql" in step:
        return str(step["sql"])
    if "iam" in step:
        return AwsCall("iam", step["iam"], step["with"])
    return VaultCall(step["secrets"], step["path"], step.get("body"))


def _filled(part: Any, project: str) -> Any:  # noqa: ANN401
    """Put the project's name where a step has ``{project}``."""
    if isinstance(part, Mapping):
        return {name: _filled(value, project) for name, value in part.items()}
    if isinstance(part, list):
        return [_filled(value, project) for value in part]
    return part.replace("{project}", project) if isinstance(part, str) else part
