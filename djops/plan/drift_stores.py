"""Drift in the object store and in the secrets server by name."""

from __future__ import annotations

from djops.compile.s3 import POLICY_NAME
from djops.plan.change import Change, Plan
from djops.plan.drift_kinds import Book, DriftKind, Sight
from djops.plan.rotation import RetireKey
from djops.plan.s3_changes import (
    Attach,
    CreateKey,
    CreatePrincipal,
    DeleteKey,
    DeletePrincipal,
    Detach,
    ProtectBucket,
    PutPolicy,
    SetBoundary,
    canonical,
    same_policy,
)
from djops.plan.s3_managed import DropManagedPolicy, PutManagedPolicy, policy_name
from djops.plan.vault import ConnectDatabase, ForgetSecret, WritePolicy, WriteSettings


def name_s3(plan: Plan, sight: Sight, book: Book) -> None:
    """Name the plan's changes of the object store.

    Args:
        plan: The plan.
        sight: What else is known.
        book: Takes what is found.
    """
    changes = [change for change in plan.changes if change.system == "s3"]
    made = {change.name for change in changes if isinstance(change, CreatePrincipal)}
    remade = {change.name for change in changes if isinstance(change, CreateKey)}
    lost = {name for name, path in sight.secret_of.items() if path not in sight.secrets.secrets}
    for change in sorted(changes, key=lambda change: not isinstance(change, CreatePrincipal)):
        name = getattr(change, "name", "")
        if name in made and not isinstance(change, CreatePrincipal):
            book.follow(change, [name])
        elif isinstance(change, CreateKey | DeleteKey) and name in lost:
            book.add(DriftKind.LOST_CREDENTIALS, "secrets", name, "none kept", change)
        elif isinstance(change, CreateKey | DeleteKey) and name in remade:
            book.add(DriftKind.LOST_KEY, "s3", name, "the kept key cannot be used", change)
        else:
            _name_one(change, sight, book)


def _name_one(change: Change, sight: Sight, book: Book) -> None:
    match change:
        case CreatePrincipal(name=name):
            book.add(DriftKind.USER_GONE, "s3", name, "it is not there", change)
        case DeletePrincipal(name=name):
            book.add(DriftKind.USER_LEFT, "s3", name, "it stands not in djops.yaml", change)
        case DeleteKey(name=name, key=key):
            book.add(DriftKind.EXTRA_KEY, "s3", name, f"key {key}", change)
        case RetireKey(name=name, key=key):
            book.add(DriftKind.EXTRA_KEY, "s3", name, f"key {key}: {change.why[0]}", change)
        case Detach(name=name, group="", policy_arn=arn):
            book.add(DriftKind.EXTRA_POLICY, "s3", name, f"policy {arn}", change)
        case Detach(name=name, group=group):
            book.add(DriftKind.FOREIGN_GROUP, "s3", name, f"member of {group}", change)
        case SetBoundary(name=name, found=found):
            book.add(DriftKind.BOUNDARY, "s3", name, found or "none", change)
        case PutPolicy():
            _name_policy(change, sight, book)
        case PutManagedPolicy(name=name, found=None) | Attach(name=name):
            book.add(DriftKind.MISSING_POLICY, "s3", name, "no policy", change)
        case PutManagedPolicy(name=name):
            book.add(DriftKind.EDITED_POLICY, "s3", name, change.before, change)
        case DropManagedPolicy(arn=arn):
            book.add(DriftKind.EXTRA_POLICY, "s3", policy_name(arn), f"policy {arn}", change)
        case ProtectBucket():
            _name_bucket(change, book)
        case _:
            book.add(DriftKind.OTHER, "s3", change.object, change.describe(), change)


def _name_policy(change: PutPolicy, sight: Sight, book: Book) -> None:
    before, _ = sight.ended.policies.get(change.name, (None, None))
    if change.policy != POLICY_NAME:
        book.add(DriftKind.EXTRA_POLICY, "s3", change.name, f"policy {change.policy}", change)
    elif change.found is None:
        book.add(DriftKind.MISSING_POLICY, "s3", change.name, "no policy", change)
    elif before is not None and canonical(change.found) == canonical(before):
        book.add(DriftKind.EXPIRED, "s3", change.name, change.before, change)
    else:
        book.add(DriftKind.EDITED_POLICY, "s3", change.name, change.before, change)


def _name_bucket(change: ProtectBucket, book: Book) -> None:
    found, wanted = change.found, change.wanted
    if not same_policy(found.policy, wanted.policy):
        text = "it has a policy of its own" if found.policy else "requests without TLS are not refused"
        book.add(DriftKind.BUCKET_POLICY, "s3", change.name, text, change)
    if found.blocks_public != wanted.blocks_public:
        book.add(DriftKind.BUCKET_PUBLIC, "s3", change.name, "public access is not blocked", change)
    if found.versioned != wanted.versioned:
        book.add(DriftKind.BUCKET_VERSIONS, "s3", change.name, "overwritten objects are lost", change)


def name_secrets(plan: Plan, book: Book) -> None:
    """Name the plan's changes of the secrets server.

    Args:
        plan: The plan.
        book: Takes what is found.
    """
    for change in plan.changes:
        match change:
            case WritePolicy(name=name, found=None):
                book.add(DriftKind.SECRETS_POLICY_GONE, "secrets", name, "it is not there", change)
            case WritePolicy(name=name, wanted=None):
                book.add(DriftKind.SECRETS_POLICY_EXTRA, "secrets", name, "it belongs to nobody", change)
            case WritePolicy(name=name):
                book.add(DriftKind.SECRETS_POLICY, "secrets", name, "other text", change)
            case ForgetSecret(path=path):
                book.add(DriftKind.LEFTOVER_CREDENTIALS, "secrets", path, "still kept", change)
            case WriteSettings(path=path):
                kind = DriftKind.SERVICE_LOGIN if path.startswith("auth/") else DriftKind.ENGINE
                book.add(kind, "secrets", path.rpartition("/")[2], change.before or "it is not there", change)
            case ConnectDatabase(name=name):
                book.add(DriftKind.ENGINE, "secrets", name, change.before or "not connected", change)
