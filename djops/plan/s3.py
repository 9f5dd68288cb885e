"""Differences between two S3 states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from djops.compile.s3 import IamUser, S3State, iam_path
from djops.plan.change import Change
from djops.plan.operations import KeepKey
from djops.plan.s3_changes import (
    KEY_FACT,
    STORES_FACT,
    CreateKey,
    CreatePrincipal,
    DeleteKey,
    DeletePrincipal,
    Detach,
    ProtectBucket,
    PutPolicy,
    SetBoundary,
    canonical,
    held_keys,
    same_protection,
)
from djops.plan.s3_managed import ONE_POLICY, orphans, repack

NO_GROUPS = ("djops puts nobody into groups",)

BOUND = ("nobody whom djops makes may ever do more than that",)


def diff_s3(
    project: str,
    wanted: S3State,
    found: S3State,
    keeps: Mapping[str, KeepKey],
    facts: Mapping[str, Mapping[str, str]],
    why: Mapping[str, tuple[str, ...]],
) -> list[Change]:
    """Compare what the S3 server should hold with what it holds.

    Args:
        project: Whose IAM path is managed.
        wanted: What should be there.
        found: What is there.
        keeps: Where each user's key is to be kept.
        facts: What is recorded beside each user's secret.
        why: Reasons for each user's rights.

    Returns:
        The changes, unordered.
    """
    changes: list[Change] = []
    for name, user in found.users.items():
        if name not in wanted.users:
            reason = ("it is not in the project file",)
            changes.append(DeletePrincipal(name=name, path=iam_path(project), user=user, why=reason))
    for name, user in wanted.users.items():
        there = found.users.get(name)
        reasons = why.get(name) or ("it has no grant",)
        if there is None:
            made = CreatePrincipal(name=name, path=iam_path(project), boundary=user.boundary, why=reasons)
            changes.append(made)
            there = IamUser(boundary=user.boundary)
        elif user.boundary and user.boundary != there.boundary:
            changes.append(SetBoundary(name=name, found=there.boundary, wanted=user.boundary, why=BOUND))
        if user.attached or found.managed.keys() & set(there.attached):
            changes += repack(name, wanted, found, reasons)
            changes += [Detach(name=name, group=one, why=NO_GROUPS) for one in there.groups]
        else:
            changes += _policy_changes(name, user, there, reasons)
        changes += _key_changes(name, there, keeps[name], facts.get(name, {}))
    changes += orphans(wanted, found)
    for name, bucket in wanted.buckets.items():
        actual = found.buckets.get(name)
        if actual is not None and not same_protection(actual, bucket):
            changes.append(
                ProtectBucket(name=name, found=actual, wanted=bucket, why=("its protection was changed",))
            )
    return changes


def _policy_changes(name: str, wanted: IamUser, found: IamUser, reasons: tuple[str, ...]) -> Iterable[Change]:
    for policy in sorted(wanted.policies.keys() | found.policies.keys()):
        should, does = wanted.policies.get(policy), found.policies.get(policy)
        if should is None or does is None or canonical(should) != canonical(does):
            why = reasons if should is not None else ONE_POLICY
            yield PutPolicy(name=name, policy=policy, found=does, wanted=should, why=why)
    for arn in found.attached:
        yield Detach(name=name, policy_arn=arn, why=ONE_POLICY)
    for group in found.groups:
        yield Detach(name=name, group=group, why=NO_GROUPS)


def _key_changes(name: str, found: IamUser, keep: KeepKey, facts: Mapping[str, str]) -> Iterable[Change]:
    kept = facts.get(KEY_FACT, "")
    filed = facts.get(STORES_FACT, "") == ",".join(keep.stores)
    usable = found.keys.get(kept, False) and filed
    for key in (key for key in found.keys if key not in held_keys(facts)):
        if key != kept or not usable:
            yield DeleteKey(
                name=name, key=key, keep=keep, why=("only the key kept in the secrets server is valid",)
            )
    if not usable:
        yield CreateKey(name=name, keep=keep, why=("the client needs a key for the store",))
