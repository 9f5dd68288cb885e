"""Whether an environment can be made in the cloud, asked before anything is: each failure with its fix."""

from __future__ import annotations

import enum
import importlib.util
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from djops.errors import AccessDeniedError, DjopsError
from djops.model.nearest import advice
from djops.model.project import Environment, Project
from djops.services.cloud_cost import required_environment
from djops.systems import tools
from djops.systems.aws import Aws, AwsRefusedError, Identity
from djops.systems.cloud_needs import STATE, QuotaNeed, load_needs
from djops.systems.pulumi_cli import OLDEST
from djops.systems.stacks import stack_names

_AT_ONCE = 60
"""Actions of one simulation: a request is limited in length, not in number."""


class State(enum.StrEnum):
    """What came of one question."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "not judged"


@dataclass(frozen=True)
class CheckRow:
    """One thing that was looked at.

    Attributes:
        what: What.
        state: What came of it.
        found: What was found.
        fix: What to do; empty where nothing is.
    """

    what: str
    state: State
    found: str
    fix: str = ""


@dataclass(frozen=True)
class CloudCheck:
    """Everything that was looked at.

    Attributes:
        environment: The environment.
        region: Its region.
        rows: What was found.
    """

    environment: str
    region: str
    rows: tuple[CheckRow, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is known to be wrong."""
        return not any(row.state is State.WRONG for row in self.rows)


NOT_ASKED = (
    "conditions in policies that hang on a request's own details, resource policies, and whether AWS has "
    "machines of these kinds left today are not judged"
)
"""What an answer without findings does not say."""


def check(project: Project, environment: str | None = None) -> CloudCheck:
    """Look for everything that would keep an environment from being made; changes nothing.

    Args:
        project: The project.
        environment: Name of an ``aws`` environment; ``None`` for the only one.

    Raises:
        UsageError: ``E_ENVIRONMENT`` or ``E_TARGET`` where there is no such environment in the cloud.
        ConfigError: ``E_AWS_PROFILE`` for a profile there is none of.
    """
    name = required_environment(project, environment)
    looked = _Check(
        project, name, Aws(project.environments[name].region or "", project.environments[name].profile)
    )
    return CloudCheck(name, looked.aws.region, tuple(looked.rows()))


def parts_of(project: Project, env: Environment) -> frozenset[str]:
    """Name the parts of a set-up that an environment asks for, as ``stacks/needs.yaml`` calls them.

    Args:
        project: The project.
        env: An ``aws`` environment.
    """
    made = {store.bucket for store in project.stores.values()} - {
        name for name, one in env.buckets.items() if one.existing
    }
    asked = {
        "machines": True,
        "network": env.existing.network is None,
        "database": env.existing.database is None,
        "secrets": env.openbao is not None,
        "buckets": bool(made),
        "lock": any(one.lock_days for name, one in env.buckets.items() if name in made),
        "audit": env.audit,
        "budget": env.budget is not None,
        "workers": env.image is not None,
        "gpus": any(one.gpus for one in env.workers.values()),
        STATE: env.state.backend.startswith("s3://") or env.state.secrets.startswith("awskms://"),
    }
    return frozenset(part for part, is_made in asked.items() if is_made)


class _Check:
    """One look at an account.

    Args:
        project: The project.
        name: The environment.
        aws: The account.
    """

    def __init__(self, project: Project, name: str, aws: Aws) -> None:
        self.project, self.name, self.aws = project, name, aws
        self.env = project.environments[name]
        self.parts = parts_of(project, self.env)
        named = stack_names(project.project, name)
        self.stack, self.manager = named.stack, named.manager

    def rows(self) -> Iterator[CheckRow]:
        yield from _tools()
        try:
            me = self.aws.identity()
        except DjopsError as error:
            yield _failed("credentials", error)
            return
        yield CheckRow("credentials", State.OK, me.arn)
        yield self._account(me)
        region = self._region()
        yield region
        if region.state is State.WRONG:
            return
        yield from self._permissions(me)
        yield from self._quotas()
        yield from self._names(me)
        yield from self._state()

    def _account(self, me: Identity) -> CheckRow:
        if self.env.account is None:
            hint = (
                f"write `account: '{me.account}'` into djops.yaml, so that nobody works in another by mistake"
            )
            return CheckRow("account", State.OK, me.account, hint)
        if self.env.account != me.account:
            found = f"these credentials are of {me.account}, and djops.yaml says {self.env.account}"
            return CheckRow(
                "account", State.WRONG, found, "log in to the other account, or name its `profile:`"
            )
        return CheckRow("account", State.OK, me.account)

    def _region(self) -> CheckRow:
        region = self.aws.region
        known = self.aws.regions()
        if region not in known:
            return CheckRow(
                "region", State.WRONG, f"AWS has no {region}", advice(region, known, what="regions")
            )
        try:
            zones = self.aws.ask("ec2", "DescribeAvailabilityZones").get("AvailabilityZones", [])
        except AccessDeniedError as error:
            fix = f"enable {region} for the account, or allow ec2:DescribeAvailabilityZones"
            return CheckRow("region", State.WRONG, error.message, fix)
        except DjopsError as error:
            return _failed("region", error)
        if len(zones) < 2:
            return CheckRow(
                "region", State.WRONG, f"{region} shows {len(zones)} zones", "take another region"
            )
        return CheckRow("region", State.OK, f"{region}, {len(zones)} zones")

    # -- permissions ----------------------------------------------------------------------------------

    def _permissions(self, me: Identity) -> Iterator[CheckRow]:
        if me.is_root:
            found = "these are the account's root credentials, which nothing limits"
            yield CheckRow("permissions", State.UNKNOWN, found, "work as a user or role with a policy")
            return
        names = {
            "project": self.project.project,
            "environment": self.name,
            "account": me.account,
            "region": self.aws.region,
            "manager": self.manager,
            "bucket": next((store.bucket for store in self.project.stores.values()), f"{self.stack}-x"),
            "state": self._state_bucket(me),
            "me": me.arn.rpartition("/")[2],
        }
        needs = load_needs()
        needed = _joined(needs.actions(self.parts, names), self._state_needs(), self._existing_needs())
        at_init = {} if STATE in self.parts else needs.state(names)
        try:
            source = self._source(me)
            denied, later = (
                {place: self._denied(source, place, actions) for place, actions in asked.items()}
                for asked in (needed, at_init)
            )
        except DjopsError as error:
            fix = f"allow iam:SimulatePrincipalPolicy (for a role iam:GetRole as well) to {me.arn}"
            yield CheckRow("permissions", State.UNKNOWN, error.message, fix)
            return
        yield from _by_service(needed, denied, me.arn)
        if at_init:
            yield _for_init(at_init, later, me.arn)

    def _state_bucket(self, me: Identity) -> str:
        """Return where Pulumi's state is or, before `djops cloud init`, where that would put it."""
        backend = self.env.state.backend.removeprefix("s3://")
        there = backend != self.env.state.backend
        return backend.partition("/")[0] if there else f"djops-state-{me.account}-{self.aws.region}"

    def _existing_needs(self) -> Mapping[str, tuple[str, ...]]:
        """Return what the access layer reads of a database that was there before."""
        database = self.env.existing.database
        return {database.admin_secret: ("secretsmanager:GetSecretValue",)} if database else {}

    def _state_needs(self) -> Mapping[str, tuple[str, ...]]:
        """Return what Pulumi does where its state is: it writes states and locks, and takes locks away."""
        backend = self.env.state.backend.removeprefix("s3://")
        if backend == self.env.state.backend:
            return {}
        objects = ("s3:DeleteObject", "s3:GetObject", "s3:PutObject")
        bucket = f"arn:aws:s3:::{backend.partition('/')[0]}"
        return {
            bucket: ("s3:ListBucket",),
            f"arn:aws:s3:::{backend}/.pulumi/stacks/djops/{self.project.project}.{self.name}.json": objects,
        }

    def _source(self, me: Identity) -> str:
        """Return the ARN whose policies count: that of the role itself, which a session's ARN hides."""
        if me.role is None:
            return me.arn
        return str(self.aws.ask("iam", "GetRole", RoleName=me.role)["Role"]["Arn"])

    def _denied(self, source: str, resource: str, actions: Sequence[str]) -> Mapping[str, str]:
        """Return the actions that are refused, each with the reason."""
        denied: dict[str, str] = {}
        for start in range(0, len(actions), _AT_ONCE):
            results = self.aws.listed(
                "iam",
                "SimulatePrincipalPolicy",
                "EvaluationResults",
                PolicySourceArn=source,
                ActionNames=list(actions[start : start + _AT_ONCE]),
                ResourceArns=[resource],
            )
            for one in results:
                if one["EvalDecision"] != "allowed":
                    denied[one["EvalActionName"]] = _reason(one)
        return denied

    # -- quotas ---------------------------------------------------------------------------------------

    def _quotas(self) -> Iterator[CheckRow]:
        for need in load_needs().quotas:
            if need.part in self.parts:
                yield self._quota(need)

    def _quota(self, need: QuotaNeed) -> CheckRow:
        what, takes = f"quota: {need.what}", self._cores() if need.takes is None else need.takes
        try:
            found = self.aws.find(
                "service-quotas", "GetServiceQuota", ServiceCode=need.service, QuotaCode=need.code
            )
            used = _USED[need.code](self.aws) if need.code in _USED else None
        except DjopsError as error:
            return CheckRow(
                what, State.UNKNOWN, error.message, "allow servicequotas:GetServiceQuota and the listing"
            )
        if found is None:
            return CheckRow(what, State.UNKNOWN, f"AWS tells nothing of {need.code} here")
        room = float(found["Quota"]["Value"])
        in_use = "what is in use is not known" if used is None else f"{used:g} in use"
        text = f"{room:g} in all, {in_use}, a new set-up takes {takes:g}"
        if (used or 0) + takes <= room:
            return CheckRow(what, State.OK, text)
        if self._there():
            return CheckRow(what, State.OK, f"{text}; this set-up is there already")
        ask = f"--service-code {need.service} --quota-code {need.code} --region {self.aws.region}"
        ask = f"aws service-quotas request-service-quota-increase {ask}"
        return CheckRow(what, State.WRONG, text, f"{ask} --desired-value {(used or 0) + takes:g}")

    def _cores(self) -> float:
        """Return how many cores the workers may take on Fargate at most."""
        return sum(one.maximum * one.cpu / 1024 for one in self.env.workers.values() if not one.gpus)

    def _there(self) -> bool:
        """Tell whether the set-up was made before, so that it takes no more room."""
        found = self.aws.find("iam", "GetUser", UserName=self.manager)
        return found is not None and self._is_ours(found["User"].get("Tags", []))

    # -- names ----------------------------------------------------------------------------------------

    def _names(self, me: Identity) -> Iterator[CheckRow]:
        there = {name for name, one in self.env.buckets.items() if one.existing}
        stores = list(dict.fromkeys(store.bucket for store in self.project.stores.values()))
        for name in stores:
            yield self._existing_bucket(name) if name in there else self._bucket(name)
        if "buckets" in self.parts:
            yield self._bucket(f"{self.stack}-{me.account}-logs", named_by_djops=True)
        if "database" in self.parts:
            asking = {"DBInstanceIdentifier": self.stack}
            yield self._name(
                f"database {self.stack}",
                lambda: self.aws.find("rds", "DescribeDBInstances", **asking),
                lambda found: found["DBInstances"][0].get("TagList", []),
            )
        yield self._name(
            f"IAM user {self.manager}",
            lambda: self.aws.find("iam", "GetUser", UserName=self.manager),
            lambda found: found["User"].get("Tags", []),
        )
        yield from self._others(me)

    def _others(self, me: Identity) -> Iterator[CheckRow]:
        """Look for other environments of the project in this account, which has people's users only once."""
        for name, env in self.project.environments.items():
            if env.target != "aws" or name == self.name or env.account not in (None, me.account):
                continue
            what, user = f"environment {name}", stack_names(self.project.project, name).manager
            try:
                there = self.aws.find("iam", "GetUser", UserName=user) is not None
            except DjopsError as error:
                yield CheckRow(what, State.UNKNOWN, error.message)
                continue
            if not there:
                yield CheckRow(what, State.OK, "not in this account")
                continue
            found = "in this account too: both would write the rights of people's IAM users"
            fix = "give each environment an account of its own, and write it down as its `account:`"
            yield CheckRow(what, State.WRONG, found, fix)

    def _name(
        self,
        what: str,
        find: Callable[[], Mapping[str, Any] | None],
        tags: Callable[[Mapping[str, Any]], list[dict[str, str]]],
    ) -> CheckRow:
        try:
            found = find()
        except DjopsError as error:
            return CheckRow(what, State.UNKNOWN, error.message)
        if found is None:
            return CheckRow(what, State.OK, "the name is free")
        if self._is_ours(tags(found)):
            return CheckRow(what, State.OK, "made by this environment before")
        fix = "give the project or the environment another name, or use another account"
        return CheckRow(what, State.WRONG, "the name is taken in this account", fix)

    def _bucket(self, name: str, *, named_by_djops: bool = False) -> CheckRow:
        what = f"bucket {name}"
        try:
            if self.aws.find("s3", "HeadBucket", Bucket=name) is None:
                return CheckRow(what, State.OK, "the name is free")
            tags = self.aws.find("s3", "GetBucketTagging", Bucket=name) or {}
        except AccessDeniedError:
            fix = "no two accounts have a bucket of one name: take another in `stores:`"
            return CheckRow(what, State.WRONG, "the bucket is there, and it is somebody else's", fix)
        except AwsRefusedError as error:
            return CheckRow(what, State.UNKNOWN, error.message)
        if self._is_ours(tags.get("TagSet", [])):
            return CheckRow(what, State.OK, "made by this environment before")
        fix = f"to use it as it is, write `buckets: {{{name}: {{existing: true}}}}`; otherwise name another"
        if named_by_djops:
            fix = "give the project or the environment another name"
        return CheckRow(what, State.WRONG, "a bucket of this account that this environment did not make", fix)

    def _existing_bucket(self, name: str) -> CheckRow:
        what = f"bucket {name}"
        try:
            found = self.aws.find("s3", "HeadBucket", Bucket=name)
        except DjopsError as error:
            return CheckRow(what, State.WRONG, error.message, "have its owner allow you to use it")
        if found is None:
            fix = "take `existing: true` away to have it made, or mend its name in `stores:`"
            return CheckRow(what, State.WRONG, "djops.yaml says that it is there, and it is not", fix)
        return CheckRow(what, State.OK, "there, as djops.yaml says")

    def _is_ours(self, tags: Sequence[Mapping[str, str]]) -> bool:
        known = {one["Key"]: one["Value"] for one in tags}
        mine = (self.project.project, self.name)
        return (known.get("djops:project"), known.get("djops:environment")) == mine

    # -- Pulumi's state -------------------------------------------------------------------------------

    def _state(self) -> Iterator[CheckRow]:
        backend, secrets = self.env.state.backend, self.env.state.secrets
        fix = "`djops cloud init` makes both"
        if backend.startswith("s3://"):
            bucket = backend.removeprefix("s3://").partition("/")[0]
            yield self._needed(f"state bucket {bucket}", "s3", "HeadBucket", fix, Bucket=bucket)
        else:
            found = "on this machine alone" if backend == "file" else "Pulumi Cloud"
            yield CheckRow("state", State.OK, found, fix if backend == "file" else "")
        if secrets.startswith("awskms://"):
            key = secrets.removeprefix("awskms://").partition("?")[0]
            yield self._needed(f"state key {key}", "kms", "DescribeKey", fix, KeyId=key)

    def _needed(self, what: str, service: str, action: str, fix: str, **parameters: str) -> CheckRow:
        try:
            found = self.aws.find(service, action, **parameters)
        except DjopsError as error:
            return CheckRow(what, State.WRONG, error.message, error.hint or fix)
        if found is None:
            return CheckRow(what, State.WRONG, "it is not there", fix)
        return CheckRow(what, State.OK, "there")


def _vpcs(aws: Aws) -> float:
    return len(aws.listed("ec2", "DescribeVpcs", "Vpcs"))


def _addresses(aws: Aws) -> float:
    return len(aws.ask("ec2", "DescribeAddresses")["Addresses"])


def _databases(aws: Aws) -> float:
    return len(aws.listed("rds", "DescribeDBInstances", "DBInstances"))


_USED: Mapping[str, Callable[[Aws], float]] = {
    "L-F678F1CE": _vpcs,
    "L-0263D0A3": _addresses,
    "L-7B6409FD": _databases,
}
"""How much of a quota is in use, where that can be counted."""


def _tools() -> Iterator[CheckRow]:
    """Look at what must be on this machine."""
    missing = [name for name in ("pulumi", "pulumi_aws") if importlib.util.find_spec(name) is None]
    if missing:
        fix = 'pip install "djops[aws]"'
        yield CheckRow("Pulumi's SDK", State.WRONG, f"{', '.join(missing)} not installed", fix)
    else:
        yield CheckRow("Pulumi's SDK", State.OK, "installed")
    yield _pulumi()
    if shutil.which("session-manager-plugin"):
        yield CheckRow("session-manager-plugin", State.OK, "on PATH")
    else:
        fix = "install it for `djops tunnel`: AWS's page is called Install the Session Manager plugin"
        yield CheckRow("session-manager-plugin", State.UNKNOWN, "not on PATH; nothing else needs it", fix)


def _pulumi() -> CheckRow:
    what, fix = "Pulumi", "install it: https://www.pulumi.com/docs/install/"
    program = shutil.which("pulumi")
    if program is None:
        return CheckRow(what, State.UNKNOWN, "not on PATH; `djops up` then installs its own", fix)
    said = tools.output([program, "version"])
    found = re.search(r"v?(\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        return CheckRow(what, State.WRONG, f"{program} does not tell its version", fix)
    version = tuple(int(part) for part in found.groups())
    text = f"{'.'.join(found.groups())} at {program}"
    if version < OLDEST:
        oldest = ".".join(str(part) for part in OLDEST)
        return CheckRow(what, State.WRONG, f"{text}; it takes {oldest} or newer", fix)
    return CheckRow(what, State.OK, text)


def _failed(what: str, error: DjopsError) -> CheckRow:
    return CheckRow(what, State.WRONG, error.message, error.hint or "")


def _reason(result: Mapping[str, object]) -> str:
    """Say why an action is refused."""
    organisation = result.get("OrganizationsDecisionDetail")
    if isinstance(organisation, Mapping) and organisation.get("AllowedByOrganizations") is False:
        return "by a policy of the organisation"
    boundary = result.get("PermissionsBoundaryDecisionDetail")
    if isinstance(boundary, Mapping) and boundary.get("AllowedByPermissionsBoundary") is False:
        return "by a permissions boundary"
    if result["EvalDecision"] == "explicitDeny":
        return "by a policy that denies it"
    return "no policy allows it" + (" without a condition" if result.get("MissingContextValues") else "")


def _joined(*needs: Mapping[str, Sequence[str]]) -> Mapping[str, tuple[str, ...]]:
    """Put several needs together, in which a resource may stand more than once."""
    found: dict[str, set[str]] = {}
    for one in needs:
        for place, actions in one.items():
            found.setdefault(place, set()).update(actions)
    return {place: tuple(sorted(actions)) for place, actions in found.items()}


def _for_init(
    needed: Mapping[str, Sequence[str]], denied: Mapping[str, Mapping[str, str]], arn: str
) -> CheckRow:
    """Tell whether `djops cloud init` could be run; nothing else needs that while the state is elsewhere."""
    rows = list(_by_service(needed, denied, arn))
    wrong = [row.found for row in rows if row.state is State.WRONG]
    if not wrong:
        return CheckRow(
            "permissions: djops cloud init", State.OK, f"{sum(map(len, needed.values()))} allowed"
        )
    fix = f"for a state in AWS, have an administrator allow them to {arn}"
    return CheckRow("permissions: djops cloud init", State.UNKNOWN, "; ".join(wrong), fix)


def _by_service(
    needed: Mapping[str, Sequence[str]], denied: Mapping[str, Mapping[str, str]], arn: str
) -> Iterator[CheckRow]:
    """Put what was simulated together, one row for each service."""
    wanted: dict[str, set[tuple[str, str]]] = {}
    for resource, actions in needed.items():
        for action in actions:
            wanted.setdefault(action.partition(":")[0], set()).add((action, resource))
    for service, cells in sorted(wanted.items()):
        refused = sorted((action, place) for action, place in cells if action in denied[place])
        what = f"permissions: {service}"
        if not refused:
            yield CheckRow(what, State.OK, f"{len(cells)} allowed")
            continue
        told = [f"{action} on {place} ({denied[place][action]})" for action, place in refused]
        found = f"{len(refused)} of {len(cells)} refused: {'; '.join(told)}"
        yield CheckRow(what, State.WRONG, found, f"have an administrator allow them to {arn}")
