"""The place of Pulumi's state in AWS: a bucket and a key, made in steps that can be done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from djops.compile.cloud_state import state_policy
from djops.errors import AccessDeniedError, DjopsError, NotManagedError, UsageError
from djops.model.editing import SetValue
from djops.model.project import Environment, Project
from djops.plan.s3_changes import BLOCKS, same_policy
from djops.services import project as projects
from djops.services.cloud_cost import required_environment
from djops.services.project import Edited
from djops.systems.aws import Aws
from djops.systems.paths import lab_directory
from djops.systems.progress import Progress

ALIAS = "alias/djops-state"
"""The state's key, for all projects of an account and region."""

_PURPOSE = ("djops:purpose", "pulumi-state")


@dataclass(frozen=True)
class SetupStep:
    """One step, which does nothing where it was done before.

    Attributes:
        what: What it is about.
        does: What it does.
        there: Whether that is so already.
    """

    what: str
    does: str
    there: bool


@dataclass(frozen=True)
class Setup:
    """Where Pulumi's state shall be, and what that takes.

    Attributes:
        environment: The environment.
        region: AWS region.
        account: Id of the AWS account.
        bucket: The bucket.
        key: The key's alias.
        steps: What is to be done, in order.
        edited: The change of ``djops.yaml``.
    """

    environment: str
    region: str
    account: str
    bucket: str
    key: str
    steps: tuple[SetupStep, ...]
    edited: Edited
    place: _Place = field(repr=False)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return all(step.there for step in self.steps) and not self.edited.changed


def prepare(project_file: Path, environment: str | None = None, bucket: str | None = None) -> Setup:
    """Look what is there of the place of an environment's state, and plan the rest; changes nothing.

    Args:
        project_file: The ``djops.yaml``.
        environment: An ``aws`` environment; ``None`` for the only one.
        bucket: Name of the bucket; otherwise as in ``djops.yaml``, or one made of account and region.

    Raises:
        UsageError: ``E_TARGET`` or ``E_ENVIRONMENT`` without such an environment, ``E_STATE`` when its state
            lies elsewhere already.
        NotManagedError: ``E_UNMANAGED`` when the bucket is another's.
        DjopsError: As :meth:`djops.systems.aws.Aws.ask`.
    """
    project = projects.load_project(project_file)
    name = required_environment(project, environment)
    env = project.environments[name]
    aws = Aws(env.region or "", env.profile)
    me = aws.identity()
    _must_be(env, me.account)
    known = env.state.backend.removeprefix("s3://") if env.state.backend.startswith("s3://") else ""
    chosen = bucket or known.partition("/")[0] or f"djops-state-{me.account}-{aws.region}"
    alias = env.state.secrets.removeprefix("awskms://")
    place = _Place(aws, chosen, alias if alias.startswith("alias/") else ALIAS)
    backend = known if known.partition("/")[0] == chosen else chosen
    wanted = {"backend": f"s3://{backend}", "secrets": f"awskms://{place.alias}"}
    _nothing_left_behind(project, name, env, wanted["backend"])
    edited = projects.edit(project_file, lambda _: _edits(name, env, wanted))
    steps = tuple(SetupStep(one.what, one.does, one.there()) for one in place.steps())
    return Setup(name, aws.region, me.account, chosen, place.alias, steps, edited, place)


def carry_out(setup: Setup, project_file: Path, progress: Progress) -> int:
    """Do what is not done; afterwards ``djops.yaml`` names the place.

    Args:
        setup: From :func:`prepare`.
        project_file: The ``djops.yaml``.
        progress: Hears about each step.

    Returns:
        How many steps were done.

    Raises:
        DjopsError: A step failed; what was done stands, and the next run goes on from there.
    """
    done = 0
    for step in setup.place.steps():
        if step.there():
            continue
        with progress.step(f"{step.what}: {step.does}"):
            try:
                step.make()
            except DjopsError as error:
                error.hint = f"{error.hint or 'mend that'}; then run this again: it goes on from here"
                raise
        done += 1
    projects.save(setup.edited, project_file)
    return done


def _edits(name: str, env: Environment, wanted: Mapping[str, str]) -> list[SetValue]:
    where = ("environments", name, "state")
    if "state" not in env.model_fields_set:
        return [SetValue(where, dict(wanted))]
    known = {"backend": env.state.backend, "secrets": env.state.secrets}
    return [SetValue((*where, key), value) for key, value in wanted.items() if known[key] != value]


def _must_be(env: Environment, account: str) -> None:
    if env.account is not None and env.account != account:
        raise UsageError(
            f"these credentials are of account {account}, and djops.yaml says {env.account}",
            code="E_AWS_ACCOUNT",
            hint="log in to the other account, or name its `profile:`; nothing was changed",
        )


def _nothing_left_behind(project: Project, name: str, env: Environment, backend: str) -> None:
    """Refuse to move a state that is in use: Pulumi would make everything a second time.

    Raises:
        UsageError: ``E_STATE`` when there is one.
    """
    here = lab_directory(project.project, name)
    in_file = env.state.backend == "file" and any(here.glob("**/state/.pulumi/stacks/**/*.json"))
    if in_file or (env.state.backend not in ("file", backend)):
        raise UsageError(
            f"the state of {name!r} lies elsewhere already: {env.state.backend}",
            where=str(here) if in_file else None,
            code="E_STATE",
            hint="move it with `pulumi stack export` and `pulumi stack import`, then write the new place "
            "into djops.yaml; nothing was changed",
        )


@dataclass(frozen=True)
class _Step:
    what: str
    does: str
    there: Callable[[], bool]
    make: Callable[[], object]


class _Place:
    """The bucket and the key, asked for and made.

    Args:
        aws: The account.
        bucket: The bucket's name.
        alias: The key's alias.
    """

    def __init__(self, aws: Aws, bucket: str, alias: str) -> None:
        self.aws, self.bucket, self.alias = aws, bucket, alias

    def steps(self) -> Iterator[_Step]:
        """Yield the steps in the order in which they need each other."""
        key, bucket = f"key {self.alias}", f"bucket {self.bucket}"
        yield _Step(key, "make it", lambda: self._key() is not None, self._make_key)
        yield _Step(key, "renew it every year", self._is_renewed, self._renew)
        yield _Step(key, "give it its alias", lambda: self._by_alias() is not None, self._name_key)
        yield _Step(bucket, "make it", self._bucket_is_there, self._make_bucket)
        yield _Step(bucket, "tag it", lambda: self._is_tagged(), self._tag)
        yield _Step(bucket, "keep every version", self._is_versioned, self._version)
        yield _Step(bucket, "encrypt with the key", self._is_encrypted, self._encrypt)
        yield _Step(bucket, "block the public", self._is_closed, self._close)
        yield _Step(bucket, "TLS only, nothing is lost", self._is_protected, self._protect)

    def _s3(self, action: str, **parameters: Any) -> Any:  # noqa: ANN401  plain data
        return self.aws.ask("s3", action, Bucket=self.bucket, **parameters)

    def _find(self, action: str) -> Any:  # noqa: ANN401  plain data
        return self.aws.find("s3", action, Bucket=self.bucket) or {}

    # -- the key --------------------------------------------------------------------------------------

    def _by_alias(self) -> str | None:
        found = self.aws.find("kms", "DescribeKey", KeyId=self.alias)
        if found is None:
            return None
        about = found["KeyMetadata"]
        if about["KeyState"] == "PendingDeletion":
            raise NotManagedError(
                f"the key of {self.alias} is about to be deleted",
                where="kms",
                hint=f"take it back: aws kms cancel-key-deletion --key-id {about['KeyId']}",
            )
        return str(about["KeyId"])

    def _key(self) -> str | None:
        """Return the key's id; one that a run before this one made, and did not name, counts."""
        return self._by_alias() or next(self._unnamed(), None)

    def _unnamed(self) -> Iterator[str]:
        for one in self.aws.listed("kms", "ListKeys", "Keys"):
            try:
                tags = self.aws.ask("kms", "ListResourceTags", KeyId=one["KeyId"]).get("Tags", [])
            except AccessDeniedError:  # a key whose policy leaves administrators out
                continue
            if {"TagKey": _PURPOSE[0], "TagValue": _PURPOSE[1]} in tags:
                about = self.aws.ask("kms", "DescribeKey", KeyId=one["KeyId"])["KeyMetadata"]
                if about["KeyState"] == "Enabled":
                    yield str(one["KeyId"])

    def _id(self) -> str:
        key = self._key()
        if key is None:
            raise DjopsError("the key of the state is gone again", where="kms", code="E_AWS")
        return key

    def _make_key(self) -> None:
        tag = {"TagKey": _PURPOSE[0], "TagValue": _PURPOSE[1]}
        self.aws.ask("kms", "CreateKey", Description="djops: Pulumi's state", Tags=[tag])

    def _is_renewed(self) -> bool:
        key = self._key()
        return key is not None and bool(
            self.aws.ask("kms", "GetKeyRotationStatus", KeyId=key)["KeyRotationEnabled"]
        )

    def _renew(self) -> None:
        self.aws.ask("kms", "EnableKeyRotation", KeyId=self._id())

    def _name_key(self) -> None:
        self.aws.ask("kms", "CreateAlias", AliasName=self.alias, TargetKeyId=self._id())

    # -- the bucket -----------------------------------------------------------------------------------

    def _bucket_is_there(self) -> bool:
        """Tell whether the bucket is there and may be used: it is tagged, or somebody's who made it just now.

        Raises:
            NotManagedError: ``E_UNMANAGED`` when it is another's, or holds something else.
        """
        hint = "name another one with --bucket; nothing was changed"
        try:
            if self.aws.find("s3", "HeadBucket", Bucket=self.bucket) is None:
                return False
        except AccessDeniedError:
            raise NotManagedError(
                f"the bucket {self.bucket} is somebody else's", where="s3", hint=hint
            ) from None
        if not self._is_tagged() and self._s3("ListObjectsV2", MaxKeys=1).get("KeyCount"):
            raise NotManagedError(
                f"the bucket {self.bucket} holds something that djops did not put there",
                where="s3",
                hint=hint,
            )
        return True

    def _make_bucket(self) -> None:
        where = {"CreateBucketConfiguration": {"LocationConstraint": self.aws.region}}
        self._s3("CreateBucket", **({} if self.aws.region == "us-east-1" else where))

    def _is_tagged(self) -> bool:
        tags = self._find("GetBucketTagging").get("TagSet", [])
        return {"Key": _PURPOSE[0], "Value": _PURPOSE[1]} in tags

    def _tag(self) -> None:
        kept = self._find("GetBucketTagging").get("TagSet", [])
        self._s3("PutBucketTagging", Tagging={"TagSet": [*kept, {"Key": _PURPOSE[0], "Value": _PURPOSE[1]}]})

    def _is_versioned(self) -> bool:
        return bool(self._find("GetBucketVersioning").get("Status") == "Enabled")

    def _version(self) -> None:
        self._s3("PutBucketVersioning", VersioningConfiguration={"Status": "Enabled"})

    def _is_encrypted(self) -> bool:
        found = self._find("GetBucketEncryption").get("ServerSideEncryptionConfiguration", {})
        by = [one.get("ApplyServerSideEncryptionByDefault", {}) for one in found.get("Rules", [])]
        key = self._key() or "none"
        return any(
            one.get("SSEAlgorithm") == "aws:kms" and key in one.get("KMSMasterKeyID", "") for one in by
        )

    def _encrypt(self) -> None:
        arn = self.aws.ask("kms", "DescribeKey", KeyId=self._id())["KeyMetadata"]["Arn"]
        by = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": arn}
        rule = {"ApplyServerSideEncryptionByDefault": by, "BucketKeyEnabled": True}
        self._s3("PutBucketEncryption", ServerSideEncryptionConfiguration={"Rules": [rule]})

    def _is_closed(self) -> bool:
        found = self._find("GetPublicAccessBlock").get("PublicAccessBlockConfiguration", {})
        return all(found.get(block) for block in BLOCKS)

    def _close(self) -> None:
        self._s3("PutPublicAccessBlock", PublicAccessBlockConfiguration=dict.fromkeys(BLOCKS, True))

    def _is_protected(self) -> bool:
        found = self._find("GetBucketPolicy").get("Policy")
        return same_policy(json.loads(found) if found else None, state_policy(self.bucket))

    def _protect(self) -> None:
        self._s3("PutBucketPolicy", Policy=json.dumps(state_policy(self.bucket)))
