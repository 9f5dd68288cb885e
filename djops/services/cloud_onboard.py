"""A first environment in the cloud, put together from answers and written into ``djops.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions

from djops.errors import DjopsError, UsageError
from djops.model.editing import SetValue
from djops.model.project import Project
from djops.services import cloud_cost
from djops.services import project as projects
from djops.services.cloud_cost import Cost, SizeCost
from djops.services.project import Edited
from djops.systems.aws import Aws


@dataclass(frozen=True)
class Answers:
    """What a newcomer says about an environment.

    Attributes:
        environment: Its name.
        region: AWS region.
        size: Its size.
        profile: Profile of the AWS configuration, if not the usual one.
        network: An existing VPC and its private subnets.
        database: An existing MySQL's host and the ARN of its administrator's secret.
        buckets: Buckets of the stores that are there already.
        openbao: URL and checksum of the OpenBao to install.
        secrets: Address of a Vault or OpenBao that is there, instead.
        budget: US dollars a month, and who is told; ``None`` for no alarm.
    """

    environment: str
    region: str
    size: str = "small"
    profile: str | None = None
    network: tuple[str, tuple[str, ...]] | None = None
    database: tuple[str, str] | None = None
    buckets: tuple[str, ...] = ()
    openbao: tuple[str, str] | None = None
    secrets: str | None = None
    budget: tuple[int, str] | None = None


@dataclass(frozen=True)
class Onboarding:
    """An environment that is put together and not written yet.

    Attributes:
        environment: Its name.
        settings: What is written.
        account: The AWS account, where credentials tell it.
        cost: What it costs a month.
        edited: The change of ``djops.yaml``.
    """

    environment: str
    settings: Mapping[str, Any]
    account: str | None
    cost: Cost
    edited: Edited


def usual_region() -> str | None:
    """Return the region that the AWS configuration names, if it does."""
    try:
        return boto3.Session().region_name
    except botocore.exceptions.BotoCoreError:
        return None


def size_costs() -> Mapping[str, SizeCost]:
    """Return what each size costs a month when everything is made."""
    from djops.model.cloud import CloudEnvironment

    return cloud_cost.estimate(CloudEnvironment()).sizes


def buckets(project: Project) -> tuple[str, ...]:
    """Return the buckets of a project's stores."""
    return tuple(dict.fromkeys(store.bucket for store in project.stores.values()))


def put_together(project_file: Path, answers: Answers) -> Onboarding:
    """Put an environment together and check it; nothing is written yet.

    Args:
        project_file: The ``djops.yaml``.
        answers: What is wanted.

    Raises:
        UsageError: ``E_ENVIRONMENT`` when there is one of that name; whatever the project file's check says.
    """
    project = projects.load_project(project_file)
    if answers.environment in project.environments:
        raise UsageError(
            f"there is an environment {answers.environment!r} already",
            code="E_ENVIRONMENT",
            hint="edit it in djops.yaml, or give another name with --name",
        )
    account = _account(answers)
    settings = _settings(answers, account)
    path = ("environments", answers.environment)
    edited = projects.edit(project_file, lambda _: [SetValue(path, settings)])
    cost = cloud_cost.cost(edited.loaded.project, answers.environment)
    return Onboarding(answers.environment, settings, account, cost, edited)


def _account(answers: Answers) -> str | None:
    """Ask AWS whose the credentials are; without any the account is left out."""
    try:
        return Aws(answers.region, answers.profile).identity().account
    except DjopsError:
        return None


def _settings(answers: Answers, account: str | None) -> dict[str, Any]:
    """Write the environment as ``djops.yaml`` has it; what is as usual is left out."""
    existing: dict[str, Any] = {}
    if answers.network is not None:
        vpc, subnets = answers.network
        existing["network"] = {"vpc_id": vpc, "subnet_ids": list(subnets)}
    if answers.database is not None:
        host, secret = answers.database
        existing["database"] = {"host": host, "admin_secret": secret}
    found: dict[str, Any] = {
        "target": "aws",
        "region": answers.region,
        "size": answers.size,
        "account": account,
        "profile": answers.profile,
        "existing": existing,
        "buckets": {name: {"existing": True} for name in answers.buckets},
    }
    if answers.openbao is not None:
        found["openbao"] = {"url": answers.openbao[0], "sha256": answers.openbao[1]}
    if answers.secrets is not None:
        found["secrets"] = {
            "address": answers.secrets,
            "role_id": {"env": "DJOPS_ROLE_ID"},
            "secret_id": {"env": "DJOPS_SECRET_ID"},
        }
    if answers.budget is not None:
        found["budget"] = {"usd": answers.budget[0], "emails": [answers.budget[1]]}
    return {key: value for key, value in found.items() if value}
