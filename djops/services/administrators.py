"""Renewing what the local lab's administrators log in with: roots, djops' own accounts, its AppRole.

Both roots are kept in the secrets server alone afterwards, and fetched from there when something needs
them. What stays on the disk is what the lab cannot start or be looked at without: the accounts that djops
works as, its log-in at the secrets server, and the key that unseals this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djops.compile.s3_manager import MANAGER as S3_MANAGER
from djops.compile.sql import quote_account, quote_string
from djops.compile.vault_manager import RENEW_LOGIN
from djops.errors import AccessDeniedError, DjopsError
from djops.model.project import Project
from djops.plan.operations import AwsCall
from djops.services.site import local_lab, own_environment
from djops.systems import journal, passwords
from djops.systems.connections import MysqlConnection, Secret, SecretsConnection
from djops.systems.files import read_json, write_json
from djops.systems.local import ceph, ceph_access, mysql, openbao
from djops.systems.local.kept import KEPT, kept_path, secret_in
from djops.systems.local.server import Lab
from djops.systems.lock import locked
from djops.systems.mysql import Mysql, logs_in
from djops.systems.ports import HOST
from djops.systems.progress import Progress, Silent, Step
from djops.systems.s3 import S3
from djops.systems.vault import Secrets

_PASSWORD, _NEXT = "password", "password_next"
_ENDING = "ending"
"""In a file of credentials: those from before may hold still, as whoever was ending them was killed."""

IN_SECRETS = "the secrets server"


@dataclass(frozen=True)
class Renewed:
    """What became of one administrator's credential.

    Attributes:
        title: Whose it is.
        done: Whether it is a new one now.
        kept: Where it is kept.
        note: Why it is still the old one, or why it stays on the disk.
    """

    title: str
    done: bool
    kept: str
    note: str = ""


def rotate(
    project: Project,
    environment: str | None,
    *,
    lock_wait: float = 0,
    progress: Progress | None = None,
    reason: str = "",
) -> tuple[Renewed, ...]:
    """Renew the credentials of every administrator of a local lab, which must be up.

    New ones are in force and kept before old ones end; what a killed run left is finished by the next.

    Args:
        project: The project.
        environment: Name of a ``local`` environment; ``None`` means the only one, or ``local``.
        lock_wait: Seconds to wait for another djops.
        progress: Hears about each step.
        reason: Why, for the journal.

    Returns:
        What became of each.

    Raises:
        UsageError: ``E_TARGET`` when djops does not run this environment's servers.
        LockedError: ``E_LOCKED`` naming who works on the lab.
        DjopsError: ``E_NOT_UP``; or a server does not answer.
    """
    name = own_environment(project, environment)
    lab = local_lab(project, name)
    if lab is None:
        raise DjopsError("the lab was never brought up", code="E_NOT_UP", hint="bring it up with `djops up`")
    told, renewed = progress or Silent(), list[Renewed]()
    with (
        locked(lab.directory / "lock", "rotate --root", lock_wait),
        Secrets(openbao.connection(lab)) as session,
    ):
        for title, work in _WORK.items():
            with told.step(title) as step:
                renewed.append(work(lab, session, step))
        done = ", ".join(one.title for one in renewed if one.done)
        journal.record(lab.directory, "rotate --root", reason=reason, renewed=done)
    return tuple(renewed)


def put_away(lab: Lab, progress: Progress | None = None) -> tuple[Renewed, ...]:
    """Renew roots whose secrets lie on the disk, as after a first start, and keep them in the secrets server.

    Nothing is done when none does; nor when a root that was kept there is lost with the server, for what an
    import brings back is to find its place free.

    Args:
        lab: The lab, which is up; the caller holds its lock.
        progress: Hears about each step.

    Returns:
        What became of each.

    Raises:
        DjopsError: A server does not answer.
    """
    files = {name: read_json(lab.secrets / f"{name}.json") or {} for name in _ROOTS}
    lying = [name for name, kept in files.items() if KEPT not in kept or _ENDING in kept]
    if not lying:
        return ()
    elsewhere = [secret_in(lab, files[name], _ROOTS[name][1]) for name in files if name not in lying]
    if not all(mysql.can_be_had(secret) for secret in elsewhere):
        return ()
    told, renewed = progress or Silent(), list[Renewed]()
    with Secrets(openbao.connection(lab)) as session:
        for name in lying:
            title, _ = _ROOTS[name]
            with told.step(title) as step:
                renewed.append(_WORK[title](lab, session, step))
                step.note(f"renewed, and kept in {IN_SECRETS}")
    return tuple(renewed)


def _mysql_root(lab: Lab, session: Secrets, _step: Step) -> Renewed:
    file, path = lab.secrets / "mysql-root.json", kept_path(lab, "mysql-root")
    on_disk = read_json(file) or {}
    user = str(on_disk.get("user", "root"))
    stored = session.read_secret(path)
    fields = dict(stored.fields) if stored else {}

    def connection(password: str) -> MysqlConnection:
        return MysqlConnection(HOST, lab.ports["mysql"], user, Secret(password), lab.ca)

    account = quote_account(user, "localhost")
    new = fields.get(_NEXT, "")
    if not new or not logs_in(connection(new)):
        candidates = [fields.get(_PASSWORD, ""), str(on_disk.get(_PASSWORD, ""))]
        present = next((one for one in candidates if one and logs_in(connection(one))), None)
        if present is None:
            raise AccessDeniedError("MySQL takes none of the passwords that are kept for root", where=path)
        new = new or passwords.generate()
        # Kept before it is sent: whatever ends djops now, one of those that are kept gets in.
        session.merge_secret(path, {"user": user, _NEXT: new})
        _retain(connection(present), account, new)
    session.merge_secret(path, {_PASSWORD: new, _NEXT: None})
    # Marked until the old one has ended, which the next `up` or rotation sees to when this one is killed.
    write_json(file, {"user": user, KEPT: path, _ENDING: True})
    _discard(connection(new), account)
    write_json(file, {"user": user, KEPT: path})
    return Renewed("MySQL: root", True, IN_SECRETS)


def _mysql_manager(lab: Lab, _session: Secrets, _step: Step) -> Renewed:
    file, root = lab.secrets / "mysql-manager.json", mysql.root_connection(lab)
    if root is None:
        raise DjopsError("root's password is missing", where=str(lab.secrets), code="E_STATE")
    account, new = quote_account(mysql.MANAGER, "%"), passwords.generate()
    # When djops ends between these two, the one in the file holds still; and root mends whatever follows.
    _retain(root, account, new)
    write_json(file, {"user": mysql.MANAGER, _PASSWORD: new})
    _discard(root, account)
    note = "`djops status` must be able to ask MySQL while the secrets server is down"
    return Renewed("MySQL: djops' own account", True, _shown(file), note)


def _s3_root(lab: Lab, session: Secrets, step: Step) -> Renewed:
    file, path, server = lab.secrets / "s3-root.json", kept_path(lab, "s3-root"), ceph.CephServer(lab)
    server.install(step)
    key, secret, before = ceph_access.renew_root(file, server.administration)
    session.merge_secret(path, {"access_key": key, "secret_key": secret.reveal()})
    write_json(file, {"access_key": key, KEPT: path, _ENDING: True})
    for old in before:
        ceph_access.drop_root_key(old, server.administration)
    write_json(file, {"access_key": key, KEPT: path})
    note = "Ceph's own keyring, which it starts with, opens its accounts too: ceph/, mode 0600"
    return Renewed("Object store: root", True, IN_SECRETS, note)


def _s3_manager(lab: Lab, _session: Secrets, _step: Step) -> Renewed:
    file, root = lab.secrets / "s3-manager.json", ceph.root_connection(lab)
    if root is None:
        raise DjopsError("root's key is missing", where=str(lab.secrets), code="E_STATE")
    store, who = S3(root), {"UserName": S3_MANAGER}
    kept = str((read_json(file) or {}).get("access_key"))
    for lost in store.user(S3_MANAGER).keys.keys() - {kept}:
        _delete_key(store, who, lost)
    made: Mapping[str, Any] = store.call(AwsCall("iam", "CreateAccessKey", who))["AccessKey"]
    write_json(file, {"access_key": made["AccessKeyId"], "secret_key": made["SecretAccessKey"]})
    _delete_key(store, who, kept)
    return Renewed("Object store: djops' own user", True, _shown(file), "as above, for the object store")


def _approle(lab: Lab, session: Secrets, _step: Step) -> Renewed:
    file, title = openbao.credentials_file(lab), "OpenBao: djops' log-in"
    ids = read_json(file) or {}
    try:
        answer = session.request("POST", RENEW_LOGIN, {}) or {}
    except AccessDeniedError:
        note = "this lab was made before djops could renew its log-in; it is of the same worth"
        return Renewed(title, False, _shown(file), note)
    fresh, before = str(answer["data"]["secret_id"]), str(ids["secret_id"])
    login = SecretsConnection(openbao.connection(lab).address, str(ids["role_id"]), Secret(fresh), lab.ca)
    with Secrets(login) as again:
        again.login()
        write_json(file, {**ids, "secret_id": fresh})
        again.request("POST", f"{RENEW_LOGIN}/destroy", {"secret_id": before})
    return Renewed(title, True, _shown(file), "nothing opens the secrets server without it")


_ROOTS = {"mysql-root": ("MySQL: root", _PASSWORD), "s3-root": ("Object store: root", "secret_key")}
"""Files of the credentials that the secrets server alone keeps: whose they are, and the secret's field."""

_WORK: Mapping[str, Callable[[Lab, Secrets, Step], Renewed]] = {
    "MySQL: root": _mysql_root,
    "MySQL: djops' own account": _mysql_manager,
    "Object store: root": _s3_root,
    "Object store: djops' own user": _s3_manager,
    "OpenBao: djops' log-in": _approle,
}


def _retain(administrator: MysqlConnection, account: str, new: str) -> None:
    with Mysql(administrator) as server:
        server.query(f"ALTER USER {account} IDENTIFIED BY {quote_string(new)} RETAIN CURRENT PASSWORD")


def _discard(administrator: MysqlConnection, account: str) -> None:
    with Mysql(administrator) as server:
        server.query(f"ALTER USER {account} DISCARD OLD PASSWORD")


def _delete_key(store: S3, who: Mapping[str, str], key: str) -> None:
    store.call(AwsCall("iam", "DeleteAccessKey", {**who, "AccessKeyId": key}, missing_is_done=True))


def _shown(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"
