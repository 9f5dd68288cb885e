"""The two identities djops has on the lab's object store: the account's root, and its everyday user."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from djops.compile.s3 import POLICY_NAME
from djops.compile.s3_manager import MANAGER, MANAGER_PATH, manager_policy
from djops.errors import AccessDeniedError, DjopsError, StartError
from djops.plan.operations import AwsCall
from djops.plan.s3_changes import canonical
from djops.systems.connections import S3Connection, Secret
from djops.systems.files import read_json, write_json
from djops.systems.local.ceph_config import ACCOUNT_ID
from djops.systems.local.kept import secret_in
from djops.systems.local.server import Lab
from djops.systems.s3 import S3

Connect = Callable[[str, Secret], S3Connection]
Admin = Callable[..., "subprocess.CompletedProcess[str]"]

ROOT = "root"
_ACCOUNT_NAME = "lab"
_PATIENCE = 30.0
"""Seconds that the secrets server, which starts at the same time, has until root's key is needed."""


def ensure_root(file: Path, connect: Connect, admin: Admin, lab: Lab | None = None) -> S3Connection:
    """Make sure that the account, its root user and a key of it are there. Idempotent.

    Args:
        file: Where the key is kept.
        connect: Makes a connection out of a key.
        admin: Runs ``radosgw-admin`` with arguments.
        lab: The lab, whose secrets server may keep the key's secret.

    Returns:
        The connection as root.

    Raises:
        StartError: ``E_START`` when Ceph's own administration fails.
    """
    kept = read_json(file)
    secret = _kept_secret(kept, lab) if kept is not None else None
    if kept is not None and secret is not None:
        connection = connect(str(kept["access_key"]), secret)
        if _accepted(connection):
            return connection
    # In accounts, 0 lifts the limit on buckets and -1 forbids them; for users, -1 lifts it.
    limits = ("--max-users=-1", "--max-groups=-1", "--max-roles=-1", "--max-buckets=0", "--max-access-keys=4")
    account = f"--account-id={ACCOUNT_ID}"
    # Made first, and asked about when that fails: each question takes a fifth of a second of a first start.
    made = admin("account", "create", f"--account-name={_ACCOUNT_NAME}", account, *limits)
    if made.returncode != 0 and admin("account", "get", account).returncode != 0:
        _checked(made)
    user = admin("user", "info", f"--uid={ROOT}") if made.returncode != 0 else None
    if user is None or user.returncode != 0:
        options = (f"--display-name={ROOT}", account, "--account-root", "--gen-access-key", "--gen-secret")
        user = _checked(admin("user", "create", f"--uid={ROOT}", *options))
    elif not _first_key(user):
        user = _checked(admin("key", "create", f"--uid={ROOT}", "--gen-access-key", "--gen-secret"))
    access_key, secret_key = _first_key(user) or ("", "")
    write_json(file, {"access_key": access_key, "secret_key": secret_key})
    return connect(access_key, Secret(secret_key))


def ensure_manager(file: Path, root: S3Connection, project: str, buckets: Iterable[str]) -> None:
    """Make sure that djops' IAM user is there with its policy and the one key that is kept. Idempotent.

    Args:
        file: Where its key is kept.
        root: The connection as the account's root.
        project: The project, whose users it manages.
        buckets: The project's buckets.

    Raises:
        ApplyError: ``E_APPLY`` when the gateway says no.
    """
    server, who = S3(root), {"UserName": MANAGER}
    if server.ask("iam", "GetUser", None, **who) is None:
        server.call(AwsCall("iam", "CreateUser", {**who, "Path": MANAGER_PATH}))
    user, wanted = server.user(MANAGER), manager_policy(project, ACCOUNT_ID, buckets)
    if canonical(user.policies.get(POLICY_NAME)) != canonical(wanted):
        document = {"PolicyName": POLICY_NAME, "PolicyDocument": canonical(wanted)}
        server.call(AwsCall("iam", "PutUserPolicy", {**who, **document}))
    kept = (read_json(file) or {}).get("access_key")
    # A key whose secret was lost between its making and its keeping is of use to nobody.
    for key, active in user.keys.items():
        if key != kept or not active:
            gone = {**who, "AccessKeyId": key}
            server.call(AwsCall("iam", "DeleteAccessKey", gone, missing_is_done=True))
    if not user.keys.get(str(kept), False):
        made = server.call(AwsCall("iam", "CreateAccessKey", who))["AccessKey"]
        write_json(file, {"access_key": made["AccessKeyId"], "secret_key": made["SecretAccessKey"]})


def renew_root(file: Path, admin: Admin) -> tuple[str, Secret, tuple[str, ...]]:
    """Make another key of the account's root beside those that there are.

    Args:
        file: Where the present key's id is kept.
        admin: Runs ``radosgw-admin`` with arguments.

    Returns:
        The new key's id and secret, and the ids of all others.

    Raises:
        StartError: ``E_START`` when Ceph's own administration fails.
    """
    before = {str(key["access_key"]) for key in _keys(_checked(admin("user", "info", f"--uid={ROOT}")))}
    kept = (read_json(file) or {}).get("access_key")
    # What an earlier run made and did not come to keep is of no use, and there is room for four.
    for lost in before - {kept} if kept in before else ():
        drop_root_key(lost, admin)
    made = _checked(admin("key", "create", f"--uid={ROOT}", "--gen-access-key", "--gen-secret"))
    (new,) = [key for key in _keys(made) if key["access_key"] not in before]
    return str(new["access_key"]), Secret(str(new["secret_key"])), tuple(sorted(before))


def drop_root_key(key: str, admin: Admin) -> None:
    """Delete a key of the account's root.

    Args:
        key: Its id.
        admin: Runs ``radosgw-admin`` with arguments.
    """
    admin("key", "rm", f"--uid={ROOT}", f"--access-key={key}")


def _kept_secret(kept: Mapping[str, Any], lab: Lab | None) -> Secret | None:
    """Return the root's secret, ``None`` when it is lost: Ceph's own administration has it as well."""
    if lab is None:
        return Secret(str(kept["secret_key"]))
    secret = secret_in(lab, kept, "secret_key", _PATIENCE)
    try:
        secret.reveal()
    except DjopsError:
        return None
    return secret


def _accepted(connection: S3Connection) -> bool:
    """Tell whether the gateway knows a key."""
    try:
        S3(connection).ask("iam", "ListUsers", None, MaxItems=1)
    except AccessDeniedError:
        return False
    return True


def _checked(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    if done.returncode != 0:
        # Never its output: that is where keys are.
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise StartError(f"Ceph's accounts could not be made:\n{last}")
    return done


def _keys(user: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return list(json.loads(user.stdout).get("keys", ()))


def _first_key(user: subprocess.CompletedProcess[str]) -> tuple[str, str] | None:
    for key in _keys(user):
        if key.get("active", True):
            return str(key["access_key"]), str(key["secret_key"])
    return None
