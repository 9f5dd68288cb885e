"""What somebody does by hand who does not know djops, at random, and the drift that it must be called."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from djops.compile.mysql_state import AccountId, Held, MysqlCatalog, Scope
from djops.compile.s3 import POLICY_NAME, iam_path
from djops.compile.sql import quote_account, quote_identifier, schema_pattern
from djops.compile.vault import policy_name, secret_path
from djops.model.graph import TableName
from djops.model.names import LINEAGE_TABLE, Tier
from djops.plan.drift_kinds import DriftKind
from djops.plan.mysql_changes import event_name
from djops.plan.operations import AwsCall, MarkSecret, VaultCall
from djops.plan.s3_changes import BLOCKS, DeletePrincipal
from tests.support.ground import Ground, Step

K = DriftKind
Named = tuple[DriftKind, str]

_SPARE = ("CREATE VIEW", "SHOW VIEW", "TRIGGER", "LOCK TABLES", "EVENT", "EXECUTE", "CREATE ROUTINE")
"""Privileges that no role gives."""
_DATA = ("INSERT", "UPDATE", "DELETE")
_ALL = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
_OPEN = json.dumps({"Version": "2012-10-17", "Statement": [_ALL]})
_READS_ALL = {"policy": 'path "*" { capabilities = ["read"] }'}
_MANAGED = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
_STRANGER = "'sk stranger'"
_PASSWORD = "'mine, 4 the Tests'"


@dataclass(frozen=True)
class Mischief:
    """Something that somebody does by hand.

    Attributes:
        about: Who and what it touches; nothing else may touch the same at the same time.
        steps: How it is done.
        called: What it must be called: of each set one.
        undo: What takes away what djops leaves alone.
        may: What else may follow from it.
    """

    about: frozenset[str]
    steps: tuple[Step, ...]
    called: tuple[frozenset[Named], ...]
    undo: tuple[Step, ...] = ()
    may: frozenset[Named] = frozenset()


def _by(*steps: Step, about: Sequence[object], named: Sequence[Named], **more: Any) -> Mischief:
    return Mischief(
        frozenset(map(str, about)), steps, tuple(frozenset({name}) for name in named), **more
    )  # fmt: skip


@dataclass
class Scene:
    """Servers as they should be, on which something is done.

    Attributes:
        ground: The servers.
        chance: Where everything comes from.
        catalog: What the database says.
        tables: The tables that exist, each with those that it references.
    """

    ground: Ground
    chance: random.Random
    catalog: MysqlCatalog
    tables: dict[TableName, tuple[TableName, ...]]
    project: str = field(init=False)

    def __post_init__(self) -> None:
        self.project = self.ground.wanted.project.project
        ours = sorted(self.catalog.managed(self.project))
        self.roles = [name for name in ours if self.catalog.accounts[name].kind == "role"]
        self.people = [name for name in ours if name not in self.roles]
        self.schemas = sorted({table.schema for table in self.tables})

    def one(self, of: Sequence[Any]) -> Any:
        """Choose one; there must be some."""
        if not of:
            raise LookupError
        return self.chance.choice(of)

    def anybody(self) -> AccountId:
        """Choose a role, a person or a service."""
        chosen: AccountId = self.one(self.roles if self.roles and self.chance.random() < 0.5 else self.people)
        return chosen

    def held(self, grantee: AccountId, scope: Scope) -> frozenset[str]:
        """Return what somebody holds on something."""
        return self.catalog.privileges.get(Held(grantee, scope), frozenset())

    def members(self, role: AccountId) -> set[str]:
        """Name all who hold a role, also through others, and what it holds itself."""
        found, todo = {str(role)}, [role]
        while todo:
            name = todo.pop()
            new = [edge.member for edge in self.catalog.edges if edge.role == name]
            todo += [one for one in new if str(one) not in found]
            found |= {str(one) for one in new}
        return found


def mischief(scene: Scene, most: int) -> list[Mischief]:
    """Choose some things to do that have nothing to do with each other.

    Args:
        scene: The servers.
        most: How many at most.
    """
    chosen: list[Mischief] = []
    touched: set[str] = set()
    for make in scene.chance.sample(MAKERS, len(MAKERS)):
        try:
            made = make(scene)
        except LookupError:
            continue
        if len(chosen) < most and not made.about & touched:
            chosen.append(made)
            touched |= made.about
    return chosen


# The database: privileges


def _to(name: AccountId) -> str:
    return f"TO {quote_account(*name)}"


def _from(name: AccountId) -> str:
    return f"FROM {quote_account(*name)}"


def _table(table: TableName) -> str:
    return f"{quote_identifier(table.schema)}.{quote_identifier(table.table)}"


def _on(schema: str) -> str:
    return f"ON {quote_identifier(schema_pattern(schema))}.*"


def schema_for_role(scene: Scene) -> Mischief:
    role, schema = scene.one(scene.roles), scene.one(scene.schemas)
    held = scene.held(role, Scope(schema_pattern(schema)))
    more = scene.one(sorted({*_SPARE, *_DATA, "SELECT", "DROP"} - held))
    return _by(f"GRANT {more} {_on(schema)} {_to(role)}", about=[role], named=[(K.EXTRA_GRANT, str(role))])


def schema_for_person(scene: Scene) -> Mischief:
    who, schema = scene.one(scene.people), scene.one((*scene.schemas, "mysql", "sk gone"))
    what = scene.one(("SELECT", "INSERT, DELETE", "ALL"))
    return _by(f"GRANT {what} {_on(schema)} {_to(who)}", about=[who], named=[(K.DIRECT_GRANT, str(who))])


def table_for_somebody(scene: Scene) -> Mischief:
    who, table = scene.anybody(), scene.one(sorted(scene.tables))
    held = scene.held(who, Scope(table.schema, table.table))
    what = scene.one(sorted({"SELECT", *_DATA, "TRIGGER", "ALTER"} - held))
    return _by(f"GRANT {what} ON {_table(table)} {_to(who)}", about=[who, table],
               named=[(K.TABLE_GRANT, str(who))])  # fmt: skip


def column_for_somebody(scene: Scene) -> Mischief:
    who, table = scene.anybody(), scene.one(sorted(scene.tables))
    held = scene.held(who, Scope(table.schema, table.table, "v"))
    what = scene.one(sorted({"SELECT", "INSERT", "UPDATE"} - held))
    return _by(f"GRANT {what} (v) ON {_table(table)} {_to(who)}", about=[who, table],
               named=[(K.COLUMN_GRANT, str(who))])  # fmt: skip


def routine_for_somebody(scene: Scene) -> Mischief:
    who, schema = scene.anybody(), scene.one(scene.schemas)
    name = f"{quote_identifier(schema)}.`sk'p`"
    return _by(
        f"CREATE PROCEDURE {name}() SELECT 1", f"GRANT EXECUTE ON PROCEDURE {name} {_to(who)}",
        about=[who], named=[(K.ROUTINE_GRANT, str(who))], undo=(f"DROP PROCEDURE {name}",),
    )  # fmt: skip


def power_for_somebody(scene: Scene) -> Mischief:
    who = scene.anybody()
    what = scene.one(("SELECT ON *.*", "FILE ON *.*", "CONNECTION_ADMIN ON *.*", "ROLE_ADMIN ON *.*",
                      "PROCESS, RELOAD ON *.*", "ALL ON *.*", "XA_RECOVER_ADMIN ON *.*"))  # fmt: skip
    option = scene.one(("", " WITH GRANT OPTION"))
    return _by(f"GRANT {what} {_to(who)}{option}", about=[who], named=[(K.SERVER_PRIVILEGE, str(who))])


def privilege_lost(scene: Scene) -> Mischief:
    own = [held for held in sorted(scene.catalog.privileges) if held.grantee in scene.roles]
    held = scene.one(own)
    scope, what = held.scope, scene.one(sorted(scene.catalog.privileges[held]))
    name = quote_identifier(scope.pattern)
    on = f"{name}.{quote_identifier(scope.table)}" if scope.table else f"{name}.*"
    column = f" ({quote_identifier(scope.column)})" if scope.column else ""
    table = TableName(*scope[:2])
    # The only one who may write a table: that is no other than a table that nobody has ever seen.
    alike = {(K.MISSING_GRANT, str(held.grantee)), (K.NEW_TABLE, str(table)), (K.NEW_SCHEMA, scope.pattern)}
    return Mischief(
        frozenset({str(held.grantee), str(table)}), (f"REVOKE {what}{column} ON {on} {_from(held.grantee)}",),
        (frozenset(alike if scope.table else {(K.MISSING_GRANT, str(held.grantee))}),),
    )  # fmt: skip


def passes_on(scene: Scene) -> Mischief:
    held = scene.one([held for held in sorted(scene.catalog.privileges) if held.grantee in scene.roles])
    name = quote_identifier(held.scope.pattern)
    on = f"{name}.{quote_identifier(held.scope.table)}" if held.scope.table else f"{name}.*"
    return _by(f"GRANT USAGE ON {on} {_to(held.grantee)} WITH GRANT OPTION",
               about=[held.grantee, TableName(*held.scope[:2])],
               named=[(K.GRANT_OPTION, str(held.grantee))])  # fmt: skip


def twin_spelling(scene: Scene) -> Mischief:
    schema = scene.one([name for name in scene.schemas if schema_pattern(name) != name])
    who = scene.anybody()
    return _by(f"GRANT {scene.one(('SELECT', 'INSERT', 'ALL'))} ON {quote_identifier(schema)}.* {_to(who)}",
               about=[who], named=[(K.SPELLING, str(who))])  # fmt: skip


def wildcard(scene: Scene) -> Mischief:
    graph = scene.ground.graph
    pattern, who = (
        scene.one([one for one in ("%", "sk%", "s_%", r"sk\_%") if one not in graph.schemas]),
        scene.anybody(),
    )
    return _by(f"GRANT SELECT ON `{pattern}`.* {_to(who)}", about=[who], named=[(K.WILDCARD, str(who))])


# The database: roles


def role_taken(scene: Scene) -> Mischief:
    role, member = scene.one([edge for edge in sorted(scene.catalog.edges) if edge.role in scene.roles])
    return _by(f"REVOKE {quote_account(*role)} {_from(member)}", about=[role, member],
               named=[(K.MISSING_ROLE, str(member))])  # fmt: skip


def role_added(scene: Scene) -> Mischief:
    role, member = scene.one(scene.roles), scene.one(scene.people)
    if any(edge == (role, member) for edge in scene.catalog.edges):
        raise LookupError
    return _by(f"GRANT {quote_account(*role)} {_to(member)}", about=[role, member],
               named=[(K.EXTRA_ROLE, str(member))])  # fmt: skip


def role_in_role(scene: Scene) -> Mischief:
    role, member = scene.one(scene.roles), scene.one(scene.roles)
    if (role, member) in scene.catalog.edges or str(role) in scene.members(member):
        raise LookupError
    return _by(f"GRANT {quote_account(*role)} {_to(member)}", about=[role, member],
               named=[(K.EXTRA_ROLE, str(member))])  # fmt: skip


def level_changed(scene: Scene) -> Mischief:
    edge = scene.one([edge for edge in sorted(scene.catalog.defaults) if edge.member in scene.people])
    schema = edge.role.user.rpartition(":")[0]
    others = [role for role in scene.roles if role.user.rpartition(":")[0] == schema and role != edge.role
              and (role, edge.member) not in scene.catalog.edges]  # fmt: skip
    other = scene.one(others)
    return _by(
        f"REVOKE {quote_account(*edge.role)} {_from(edge.member)}",
        f"GRANT {quote_account(*other)} {_to(edge.member)}",
        about=[edge.role, other, edge.member], named=[(K.WRONG_LEVEL, str(edge.member))],
    )  # fmt: skip


def person_as_role(scene: Scene) -> Mischief:
    who, other = scene.one(scene.people), scene.one(scene.people)
    if who == other:
        raise LookupError
    return _by(f"GRANT {quote_account(*other)} {_to(who)}", about=[who, other],
               named=[(K.EXTRA_ROLE, str(who))])  # fmt: skip


def strong_account_as_role(scene: Scene) -> Mischief:
    who, role = scene.one(scene.people), scene.one(("djops", "root@localhost"))
    return _by(f"GRANT {role} {_to(who)}", about=[who], named=[(K.FOREIGN_ROLE, str(who))])


def strangers_role(scene: Scene) -> Mischief:
    who = scene.anybody()
    return _by(
        f"CREATE ROLE {_STRANGER}", f"GRANT {_STRANGER} {_to(who)}",
        about=[who, "stranger"], named=[(K.FOREIGN_ROLE, str(who))], undo=(f"DROP ROLE {_STRANGER}",),
    )  # fmt: skip


def role_for_stranger(scene: Scene) -> Mischief:
    role = scene.one(scene.roles)
    return _by(
        f"CREATE USER {_STRANGER} IDENTIFIED BY {_PASSWORD} REQUIRE SSL",
        f"GRANT {quote_account(*role)} TO {_STRANGER}",
        about=[role, "stranger"], named=[(K.GIVEN_AWAY, "sk stranger")], undo=(f"DROP USER {_STRANGER}",),
    )  # fmt: skip


def passes_role_on(scene: Scene) -> Mischief:
    edge = scene.one(sorted(edge for edge, admin in scene.catalog.edges.items()
                            if edge.role in scene.roles and not admin))  # fmt: skip
    return _by(f"GRANT {quote_account(*edge.role)} {_to(edge.member)} WITH ADMIN OPTION",
               about=edge, named=[(K.ADMIN_OPTION, str(edge.member))])  # fmt: skip


def passes_role_no_longer(scene: Scene) -> Mischief:
    edge = scene.one(sorted(edge for edge, admin in scene.catalog.edges.items()
                            if edge.role in scene.roles and admin))  # fmt: skip
    role, member = quote_account(*edge.role), edge.member
    return _by(f"REVOKE {role} {_from(member)}", f"GRANT {role} {_to(member)}",
               about=edge, named=[(K.ADMIN_OPTION, str(member))])  # fmt: skip


def roles_asleep(scene: Scene) -> Mischief:
    who = scene.one(sorted({edge.member for edge in scene.catalog.defaults} & {*scene.people}))
    roles = [str(edge.role) for edge in scene.catalog.defaults if edge.member == who]
    return _by(f"SET DEFAULT ROLE NONE {_to(who)}", about=[who, *roles], named=[(K.NOT_DEFAULT, str(who))])


def role_for_everybody(scene: Scene) -> Mischief:
    return _by(
        f"CREATE ROLE {_STRANGER}", "SET GLOBAL mandatory_roles = '`sk stranger`'",
        about=["stranger", "mandatory"], named=[(K.MANDATORY_ROLE, "sk stranger")],
        undo=("RESET PERSIST mandatory_roles", "SET GLOBAL mandatory_roles = ''", f"DROP ROLE {_STRANGER}"),
    )  # fmt: skip


def acts_as_another(scene: Scene) -> Mischief:
    who, other = scene.one(scene.people), scene.one(scene.people)
    if who == other:
        raise LookupError
    return _by(f"GRANT PROXY ON {quote_account(*other)} {_to(who)}", about=[who, other],
               named=[(K.PROXY, str(who))])  # fmt: skip


def role_dropped(scene: Scene) -> Mischief:
    role = scene.one(scene.roles)
    below = {str(edge.role) for edge in scene.catalog.edges if edge.member == role}
    tables = {str(TableName(*held.scope[:2])) for held in scene.catalog.privileges if held.grantee == role}
    return _by(f"DROP ROLE {quote_account(*role)}", about=[*scene.members(role), *below, *tables],
               named=[(K.ROLE_GONE, str(role))])  # fmt: skip


def role_left(scene: Scene) -> Mischief:
    mark = json.dumps({"djops": {"project": scene.project, "kind": "role"}})
    return _by(
        "CREATE ROLE 'sk:old'", f"ALTER USER 'sk:old' ATTRIBUTE '{mark}'",
        about=["sk:old"], named=[(K.ROLE_LEFT, "sk:old")], undo=("DROP ROLE IF EXISTS 'sk:old'",),
    )  # fmt: skip


# The database: accounts


def account_dropped(scene: Scene) -> Mischief:
    who = scene.one(scene.people)
    roles = [str(edge.role) for edge in scene.catalog.edges if edge.member == who]
    return _by(f"DROP USER {quote_account(*who)}", about=[who, *roles], named=[(K.ACCOUNT_GONE, str(who))])


def account_renamed(scene: Scene) -> Mischief:
    who = scene.one(scene.people)
    roles = [str(edge.role) for edge in scene.catalog.edges if edge.member == who]
    return _by(
        f"RENAME USER {quote_account(*who)} TO 'sk other'", about=[who, *roles],
        named=[(K.ACCOUNT_GONE, str(who)), (K.ACCOUNT_LEFT, "sk other")],
        undo=("DROP USER IF EXISTS 'sk other'",),
    )  # fmt: skip


def account_left(scene: Scene) -> Mischief:
    mark = json.dumps({"djops": {"project": scene.project, "kind": scene.one(("person", "service"))}})
    return _by(f"CREATE USER 'sk cleo' ATTRIBUTE '{mark}'", about=["sk cleo"],
               named=[(K.ACCOUNT_LEFT, "sk cleo")], undo=("DROP USER IF EXISTS 'sk cleo'",))  # fmt: skip


def nameless_account(scene: Scene) -> Mischief:
    return _by("CREATE USER ''@'10.9.8.7'", about=["nameless"], named=[(K.ANONYMOUS, "''@10.9.8.7")],
               undo=("DROP USER IF EXISTS ''@'10.9.8.7'",))  # fmt: skip


def namesake(scene: Scene) -> Mischief:
    who, host = scene.one(scene.people), scene.one(("10.9.8.7", "10.9.%", "localhost"))
    return _by(f"CREATE USER {quote_account(who.user, host)}", about=[who],
               named=[(K.SHADOW, str(AccountId(who.user, host)))],
               undo=(f"DROP USER IF EXISTS {quote_account(who.user, host)}",))  # fmt: skip


def _alter(kind: DriftKind, clauses: Sequence[str], *, role: bool = False) -> Callable[[Scene], Mischief]:
    def altered(scene: Scene) -> Mischief:
        who = scene.one(scene.roles if role else scene.people)
        text = f"ALTER USER {quote_account(*who)} {scene.one(clauses)}"
        return _by(text, about=[who], named=[(kind, str(who))])

    return altered


def second_password(scene: Scene) -> Mischief:
    who = scene.one(scene.people)
    text = f"ALTER USER {quote_account(*who)} IDENTIFIED BY {_PASSWORD} RETAIN CURRENT PASSWORD"
    return _by(text, about=[who], named=[(K.AUTHENTICATION, str(who)), (K.SECOND_PASSWORD, str(who))])


# The database: tables and events


def table_declared(scene: Scene) -> Mischief:
    rows = [
        held for held in scene.catalog.privileges if held.grantee in scene.roles and not held.scope.column
    ]
    granted = {TableName(*held.scope[:2]) for held in rows} & scene.tables.keys()
    like = scene.one([table for table in sorted(granted) if table.tier.holds_data and table.master is None])
    prefix = like.table[: len(like.table) - len(like.table.lstrip("#_"))]
    new = TableName(like.schema, f"{prefix}later")
    return _by(f"CREATE TABLE {_table(new)} (k INT PRIMARY KEY)", about=[new],
               named=[(K.NEW_TABLE, str(new))], undo=(f"DROP TABLE IF EXISTS {_table(new)}",))  # fmt: skip


def table_dropped(scene: Scene) -> Mischief:
    below = {parent for above in scene.tables.values() for parent in above}
    table = scene.one(
        [one for one in sorted(scene.tables) if one not in below and one.table != LINEAGE_TABLE]
    )
    holders = {
        held.grantee for held in scene.catalog.privileges if held.scope[:2] == (table.schema, table.table)
    }
    job = [(K.NO_JOB_TABLE, str(master)) for master in scene.tables
           if master.schema == table.schema and table.table == "~~" + master.table.lstrip("_")
           and master.tier in (Tier.IMPORTED, Tier.COMPUTED)]  # fmt: skip
    return _by(
        f"DROP TABLE {_table(table)}", about=[*holders, table, *(name for _, name in job)],
        named=[*((K.DROPPED_TABLE, str(name)) for name in holders), *job],
    )  # fmt: skip


def event_changed(scene: Scene) -> Mischief:
    name = scene.one(sorted(scene.catalog.events or {}))
    change = scene.one((f"DROP EVENT {event_name(name)}", f"ALTER EVENT {event_name(name)} DISABLE",
                        f"ALTER EVENT {event_name(name)} ON SCHEDULE AT '2039-01-01'",
                        f"ALTER EVENT {event_name(name)} DO SELECT 1"))  # fmt: skip
    return _by(change, about=[f"event {name}"], named=[(K.EVENT, name)])


# The object store


def _iam(action: str, **parameters: object) -> AwsCall:
    return AwsCall("iam", action, parameters)


def _user(scene: Scene) -> str:
    name: str = scene.one(scene.people).user
    return name


def user_dropped(scene: Scene) -> Mischief:
    name, path = _user(scene), iam_path(scene.project)

    def drop(ground: Ground) -> None:
        change = DeletePrincipal(name=name, path=path, user=ground.servers.s3.user(name), why=())
        ground.by_hand(change.operations())

    return _by(drop, about=[f"s3 {name}"], named=[(K.USER_GONE, name)])


def user_left(scene: Scene) -> Mischief:
    return _by(_iam("CreateUser", UserName="sk-cleo", Path=iam_path(scene.project)), about=["s3 sk-cleo"],
               named=[(K.USER_LEFT, "sk-cleo")])  # fmt: skip


def group_joined(scene: Scene) -> Mischief:
    name = _user(scene)
    return _by(
        lambda ground: ground.s3_root.call(_iam("CreateGroup", GroupName="sk-strangers")),
        lambda ground: ground.s3_root.call(_iam("PutGroupPolicy", GroupName="sk-strangers",
                                                PolicyName="open", PolicyDocument=_OPEN)),
        lambda ground: ground.s3_root.call(_iam("AddUserToGroup", GroupName="sk-strangers", UserName=name)),
        about=[f"s3 {name}"], named=[(K.FOREIGN_GROUP, name)],
        undo=(lambda ground: ground.s3_root.call(_iam("DeleteGroupPolicy", GroupName="sk-strangers",
                                                      PolicyName="open")),
              lambda ground: ground.s3_root.call(_iam("DeleteGroup", GroupName="sk-strangers")),),
    )  # fmt: skip


def policy_attached(scene: Scene) -> Mischief:
    name = _user(scene)
    return _by(_iam("AttachUserPolicy", UserName=name, PolicyArn=_MANAGED), about=[f"s3 {name}"],
               named=[(K.EXTRA_POLICY, name)])  # fmt: skip


def policy_added(scene: Scene) -> Mischief:
    name = _user(scene)
    return _by(_iam("PutUserPolicy", UserName=name, PolicyName="more", PolicyDocument=_OPEN),
               about=[f"s3 {name}"], named=[(K.EXTRA_POLICY, name)])  # fmt: skip


def policy_lost(scene: Scene) -> Mischief:
    name = _user(scene)
    return _by(_iam("DeleteUserPolicy", UserName=name, PolicyName=POLICY_NAME), about=[f"s3 {name}"],
               named=[(K.MISSING_POLICY, name)])  # fmt: skip


def policy_edited(scene: Scene) -> Mischief:
    name = _user(scene)
    document = json.loads(json.dumps(scene.ground.servers.s3.user(name).policies[POLICY_NAME]))
    statements = document["Statement"]
    one = scene.one(statements)
    match scene.one(("drop", "deny", "action", "resource", "condition", "open", "alone", "not")):
        case "alone":
            statements = _ALL
        case "not":
            statements.append({"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::x"})
        case "drop":
            statements.remove(one)
        case "deny":
            one["Effect"] = {"Allow": "Deny", "Deny": "Allow"}[one["Effect"]]
        case "action":
            one["Action"] = [*one["Action"], "s3:DeleteObjectVersion"]
        case "resource":
            one["Resource"] = [f"{text}x" for text in one["Resource"]]
        case "condition":
            one["Condition"] = {"StringLike": {"s3:prefix": ["*"]}}
        case _:
            statements.append(_ALL)
    # A policy without a statement cannot be kept.
    document["Statement"] = statements or [_ALL]
    text = json.dumps(document)
    return _by(_iam("PutUserPolicy", UserName=name, PolicyName=POLICY_NAME, PolicyDocument=text),
               about=[f"s3 {name}"], named=[(K.EDITED_POLICY, name)])  # fmt: skip


def key_added(scene: Scene) -> Mischief:
    name = _user(scene)
    return _by(_iam("CreateAccessKey", UserName=name), about=[f"s3 {name}"], named=[(K.EXTRA_KEY, name)])


def key_lost(scene: Scene) -> Mischief:
    name = _user(scene)
    (key,) = scene.ground.servers.s3.user(name).keys
    which = {"UserName": name, "AccessKeyId": key}
    call = scene.one((_iam("DeleteAccessKey", **which), _iam("UpdateAccessKey", **which, Status="Inactive")))
    return _by(call, about=[f"s3 {name}"], named=[(K.LOST_KEY, name)])


def bucket_changed(scene: Scene) -> Mischief:
    bucket = scene.one(sorted(store.bucket for store in scene.ground.wanted.project.stores.values()))
    somebody = {"AWS": f"arn:aws:iam:::user{iam_path(scene.project)}{_user(scene)}"}
    where = f"arn:aws:s3:::{bucket}/*"
    opens = {"Effect": "Allow", "Principal": somebody, "Action": "s3:GetObject", "Resource": where}
    policy = {"Version": "2012-10-17", "Statement": [opens]}
    off = {**dict.fromkeys(BLOCKS, True), scene.one(BLOCKS): False}
    kind, action, parameters = scene.one((
        (K.BUCKET_POLICY, "PutBucketPolicy", {"Policy": json.dumps(policy)}),
        (K.BUCKET_PUBLIC, "PutPublicAccessBlock", {"PublicAccessBlockConfiguration": off}),
        (K.BUCKET_VERSIONS, "PutBucketVersioning", {"VersioningConfiguration": {"Status": "Suspended"}}),
    ))  # fmt: skip
    return _by(AwsCall("s3", action, {"Bucket": bucket, **parameters}), about=[f"bucket {bucket}"],
               named=[(kind, bucket)])  # fmt: skip


# The secrets server


def _secret(scene: Scene) -> tuple[AccountId, str]:
    who = scene.one(scene.people)
    return who, secret_path(scene.ground.wanted.project, who.user)


def credentials_lost(scene: Scene) -> Mischief:
    who, path = _secret(scene)
    return _by(VaultCall("DELETE", f"djops/metadata/{path}"), about=[who, f"s3 {who.user}"],
               named=[(K.LOST_CREDENTIALS, who.user)])  # fmt: skip


def credentials_unfinished(scene: Scene) -> Mischief:
    who, path = _secret(scene)
    return _by(MarkSecret(path, {"database_state": "pending"}), about=[who],
               named=[(K.UNFINISHED, who.user)])  # fmt: skip


def credentials_left(scene: Scene) -> Mischief:
    path = f"{scene.project}/{scene.one(('people', 'services'))}/sk-cleo"
    return _by(VaultCall("POST", f"djops/data/{path}", {"data": {"x": "y"}}), about=[path],
               named=[(K.LEFTOVER_CREDENTIALS, path)])  # fmt: skip


def _secrets_policy(
    kind: DriftKind, method: Literal["PUT", "DELETE"], body: Any
) -> Callable[[Scene], Mischief]:
    def changed(scene: Scene) -> Mischief:
        who = "sk-cleo" if kind is K.SECRETS_POLICY_EXTRA else _user(scene)
        name = policy_name(scene.project, who)
        return _by(VaultCall(method, f"sys/policies/acl/{name}", body), about=[name], named=[(kind, name)])

    return changed


MAKERS: tuple[Callable[[Scene], Mischief], ...] = (
    schema_for_role, schema_for_person, table_for_somebody, column_for_somebody, routine_for_somebody,
    power_for_somebody, privilege_lost, passes_on, twin_spelling, wildcard, role_taken, role_added,
    role_in_role, level_changed, person_as_role, strong_account_as_role, strangers_role, role_for_stranger,
    passes_role_on, passes_role_no_longer, roles_asleep, role_for_everybody, acts_as_another, role_dropped,
    role_left, account_dropped, account_renamed, account_left, nameless_account, namesake,
    _alter(K.UNLOCKED, ["ACCOUNT UNLOCK"], role=True),
    _alter(K.LOCKED, ["ACCOUNT LOCK", "REQUIRE X509", "REQUIRE SUBJECT '/CN=sk'"]),
    _alter(K.NO_TLS, ["REQUIRE NONE"]),
    _alter(K.LIMIT, ["WITH MAX_USER_CONNECTIONS 7"]),
    _alter(K.MARK, ["""ATTRIBUTE '{"djops": {"kind": "role"}}'"""]),
    _alter(K.AUTHENTICATION, [f"IDENTIFIED BY {_PASSWORD}", "PASSWORD EXPIRE",
                              f"IDENTIFIED WITH sha256_password BY {_PASSWORD}"]),
    second_password, table_declared, table_dropped, event_changed,
    user_dropped, user_left, group_joined, policy_attached, policy_added, policy_lost, policy_edited,
    key_added, key_lost, bucket_changed,
    credentials_lost, credentials_unfinished, credentials_left,
    _secrets_policy(K.SECRETS_POLICY, "PUT", _READS_ALL),
    _secrets_policy(K.SECRETS_POLICY_EXTRA, "PUT", _READS_ALL),
    _secrets_policy(K.SECRETS_POLICY_GONE, "DELETE", None),
)  # fmt: skip


def expected(done: Sequence[Mischief]) -> Iterator[Named]:
    """Yield everything that drift may be called after some mischief."""
    for one in done:
        for names in one.called:
            yield from names
        yield from one.may
