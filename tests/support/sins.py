"""A server prepared badly by hand, in the ways in which laboratories do it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from djops.errors import DjopsError
from djops.plan.operations import AwsCall
from djops.plan.s3_changes import BLOCKS
from djops.services.site import Site
from djops.systems.mysql import Mysql
from djops.systems.s3 import S3

BUCKET = "my-lab-data"
OPEN = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
PUBLIC = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "EverybodyReads",
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
        }
    ],
}


@dataclass(frozen=True)
class Sin:
    """Something done badly, and what it must be found by.

    Attributes:
        theorem: Code of the theorem that it violates.
        who: The principal that the violation must be about.
        row: What must stand among the violation's rows.
        sql: What root does on the database.
        undo: What takes it back.
        s3: What root does on the object store.
        mended: Who takes it back when everybody who can be is taken over: djops, or an administrator
            who is told of it.
    """

    theorem: str
    who: str | None
    row: str
    sql: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    s3: tuple[AwsCall, ...] = field(default=())
    mended: Literal["djops", "administrator"] = "djops"


def _iam(action: str, **parameters: Any) -> AwsCall:
    return AwsCall("iam", action, parameters)


def _s3(action: str, **parameters: Any) -> AwsCall:
    return AwsCall("s3", action, {"Bucket": BUCKET, **parameters})


def _user(name: str, clauses: str = "IDENTIFIED BY 'a Long one, 4 tests' REQUIRE SSL") -> str:
    return f"CREATE USER {name} {clauses}"


SINS: Mapping[str, Sin] = {
    "everybody reads everything, hashes of passwords included": Sin(
        "T_WILDCARD",
        "guest",
        "GRANT SELECT ON `%`.* TO 'guest'@'%'",
        (_user("guest"), "GRANT SELECT ON `%`.* TO guest"),
        ("DROP USER guest",),
    ),
    "an underscore is a wildcard": Sin(
        "T_WILDCARD",
        "eve",
        "GRANT INSERT, SELECT ON `lab_data`.* TO 'eve'@'%'",
        (
            _user("eve"),
            "CREATE DATABASE lab_data",
            "CREATE DATABASE labXdata",
            "GRANT SELECT, INSERT ON `lab_data`.* TO eve",
        ),
        ("DROP USER eve", "DROP DATABASE lab_data", "DROP DATABASE labXdata"),
        mended="administrator",
    ),
    "the answer to every refusal is ALL ON *.*": Sin(
        "T_EVERYTHING",
        "max",
        "ON *.* TO 'max'@'%' WITH GRANT OPTION",
        (_user("max"), "GRANT ALL PRIVILEGES ON *.* TO max WITH GRANT OPTION"),
        ("DROP USER max",),
        mended="administrator",
    ),
    "an account for anybody": Sin(
        "T_ANONYMOUS",
        "",
        "CREATE USER ''@'10.9.8.7'",
        (_user("''@'10.9.8.7'"),),
        ("DROP USER ''@'10.9.8.7'",),
        mended="administrator",
    ),
    "a password crosses the network": Sin(
        "T_TLS",
        "plain",
        "ALTER USER 'plain'@'%' REQUIRE NONE",
        (
            _user("plain", "IDENTIFIED BY 'a Long one, 4 tests'"),
            "GRANT SELECT ON session.* TO plain",
            "SET GLOBAL require_secure_transport = OFF",
        ),
        ("SET GLOBAL require_secure_transport = ON", "DROP USER plain"),
    ),
    "a right besides the roles": Sin(
        "T_CLOSURE",
        "vera",
        "vera: SELECT on `lab\\_\\%``",
        ("GRANT SELECT ON `lab\\_\\%``'\"ü`.* TO vera",),
        ("REVOKE SELECT ON `lab\\_\\%``'\"ü`.* FROM vera",),
    ),
    "a right on a single table besides the roles": Sin(
        "T_CLOSURE",
        "nemo",
        "nemo: INSERT on `ephys`.`manual`",
        ("GRANT INSERT ON ephys.manual TO nemo",),
        ("REVOKE INSERT ON ephys.manual FROM nemo",),
    ),
    "an account that nobody wrote down": Sin(
        "T_CLOSURE",
        "alumna",
        "alumna: SELECT on `imaging`.*",
        (_user("alumna"), "GRANT SELECT ON `imaging`.* TO alumna"),
        ("DROP USER alumna",),
    ),
    "everything on a schema, to be passed on": Sin(
        "T_CLOSURE",
        "boss",
        "boss: DROP on `ephys`.*",
        (_user("boss"), "GRANT ALL ON `ephys`.* TO boss WITH GRANT OPTION"),
        ("DROP USER boss",),
    ),
    "a single column": Sin(
        "T_CLOSURE",
        "colin",
        "colin: UPDATE (`y`) on `ephys`.`manual`",
        (
            _user("colin"),
            "GRANT SELECT ON ephys.* TO colin",
            "GRANT UPDATE (y) ON ephys.manual TO colin",
        ),
        ("DROP USER colin",),
    ),
    "a role of somebody else's making": Sin(
        "T_CLOSURE",
        "member",
        "member <- dj_user: INSERT on `session`.*",
        (
            "CREATE ROLE dj_user",
            "GRANT SELECT, INSERT ON session.* TO dj_user",
            _user("member"),
            "GRANT dj_user TO member",
            "SET DEFAULT ROLE dj_user TO member",
        ),
        ("DROP USER member", "DROP ROLE dj_user"),
    ),
    "a second account for some hosts": Sin(
        "T_CLOSURE",
        "vera",
        "vera@10.9.%: INSERT on `session`.*",
        (_user("vera@'10.9.%'"), "GRANT SELECT, INSERT ON session.* TO vera@'10.9.%'"),
        ("DROP USER vera@'10.9.%'",),
        mended="administrator",
    ),
    "whoever comes from elsewhere is somebody else": Sin(
        "T_CLOSURE",
        "nomad",
        "nomad@10.9.%: SELECT on `session`.*",
        (_user("nomad@'10.9.%'"), "GRANT SELECT ON session.* TO nomad@'10.9.%'"),
        ("DROP USER nomad@'10.9.%'", "DROP USER nomad"),
    ),
    "the server's files are open": Sin(
        "T_EVERYTHING",
        "filer",
        "GRANT FILE, PROCESS ON *.* TO 'filer'@'%'",
        (_user("filer"), "GRANT FILE, PROCESS ON *.* TO filer", "GRANT SELECT ON session.* TO filer"),
        ("DROP USER filer",),
    ),
    "root from everywhere": Sin(
        "T_EVERYTHING",
        "root",
        "ON *.* TO 'root'@'10.9.%' WITH GRANT OPTION",
        (_user("root@'10.9.%'"), "GRANT ALL PRIVILEGES ON *.* TO root@'10.9.%' WITH GRANT OPTION"),
        ("DROP USER root@'10.9.%'",),
        mended="administrator",
    ),
    "every schema that begins so, those to come included": Sin(
        "T_WILDCARD",
        "prefix",
        "GRANT INSERT, SELECT ON `ephy%`.* TO 'prefix'@'%'",
        (_user("prefix"), "GRANT SELECT, INSERT ON `ephy%`.* TO prefix"),
        ("DROP USER prefix",),
    ),
    "rows without objects": Sin(
        "T_READ_GET",
        "reader",
        "reader: SELECT on `session`.*",
        (_user("reader"), "GRANT SELECT ON `session`.* TO reader"),
        ("DROP USER reader",),
    ),
    "new rows without objects": Sin(
        "T_INSERT_PUT",
        "writer",
        "writer: INSERT on `session`.*",
        (_user("writer"), "GRANT SELECT, INSERT ON `session`.* TO writer"),
        ("DROP USER writer",),
    ),
    "a grant outlives its schema": Sin(
        "T_LEFTOVER",
        "old",
        "GRANT INSERT, SELECT ON `trial`.* TO 'old'@'%'",
        (
            _user("old"),
            "CREATE DATABASE trial",
            "GRANT SELECT, INSERT ON `trial`.* TO old",
            "DROP DATABASE trial",
        ),
        ("DROP USER old",),
        mended="administrator",
    ),
    "a grant outlives its table": Sin(
        "T_LEFTOVER",
        "older",
        "GRANT DELETE ON `ephys`.`dropped` TO 'older'@'%'",
        (
            _user("older"),
            "CREATE TABLE ephys.dropped (x INT PRIMARY KEY)",
            "GRANT DELETE ON ephys.dropped TO older",
            "DROP TABLE ephys.dropped",
        ),
        ("DROP USER older",),
    ),
    "the password that everybody gets at first": Sin(
        "T_PASSWORD",
        "novice",
        "CREATE USER 'novice'@'%'",
        (_user("novice", "IDENTIFIED BY 'temppass' REQUIRE SSL"), "GRANT SELECT ON session.* TO novice"),
        ("DROP USER novice",),
    ),
    "the password of a published script": Sin(
        "T_PASSWORD",
        "sharing",
        "CREATE USER 'sharing'@'%'",
        (_user("sharing", "IDENTIFIED BY 'Data_$haring' REQUIRE SSL"), "GRANT SELECT ON ephys.* TO sharing"),
        ("DROP USER sharing",),
    ),
    "one password for two": Sin(
        "T_PASSWORD",
        "twin",
        "CREATE USER 'twin'@'%'",
        (
            _user("twin", "IDENTIFIED BY 'twins, both of them'"),
            "SET @same = (SELECT HEX(authentication_string) FROM mysql.user WHERE User = 'twin')",
            "SET @same = CONCAT('CREATE USER other_twin IDENTIFIED WITH caching_sha2_password AS 0x', @same)",
            "PREPARE same FROM @same",
            "EXECUTE same",
            "ALTER USER other_twin REQUIRE SSL",
            "GRANT SELECT ON session.* TO twin",
            "GRANT SELECT ON session.* TO other_twin",
        ),
        ("DROP USER twin", "DROP USER other_twin"),
    ),
    "no password at all": Sin(
        "T_PASSWORD",
        "nopass",
        "CREATE USER 'nopass'@'%'",
        (_user("nopass", "REQUIRE SSL"), "GRANT SELECT ON session.* TO nopass"),
        ("DROP USER nopass",),
    ),
    "one key for the whole laboratory": Sin(
        "T_REMOVE",
        "lab",
        "policy everything of lab, statement 1: Allow s3:* on *",
        s3=(
            _iam("CreateUser", UserName="lab"),
            _iam("PutUserPolicy", UserName="lab", PolicyName="everything", PolicyDocument=json.dumps(OPEN)),
            _iam("CreateAccessKey", UserName="lab"),
        ),
        mended="administrator",
    ),
    "objects without rows": Sin(
        "T_READ_GET",
        "lab",
        "policy everything of lab, statement 1: Allow s3:* on *",
        mended="administrator",
    ),
    "new objects without rows": Sin(
        "T_INSERT_PUT",
        "lab",
        "policy everything of lab, statement 1: Allow s3:* on *",
        mended="administrator",
    ),
    "a user of the store for somebody, with every right": Sin(
        "T_REMOVE",
        "member",
        "policy everything of member, statement 1: Allow s3:* on *",
        s3=(
            _iam("CreateUser", UserName="member"),
            _iam(
                "PutUserPolicy", UserName="member", PolicyName="everything", PolicyDocument=json.dumps(OPEN)
            ),
            _iam("CreateAccessKey", UserName="member"),
        ),
    ),
    "a bucket for the whole world": Sin(
        "T_PUBLIC",
        "anybody",
        "policy of bucket my-lab-data, statement 1 (EverybodyReads): Allow s3:GetObject",
        s3=(
            _s3(
                "PutPublicAccessBlock",
                PublicAccessBlockConfiguration=dict.fromkeys(BLOCKS, False),
            ),
            _s3("PutBucketPolicy", Policy=json.dumps(PUBLIC)),
            _s3("PutBucketAcl", ACL="public-read-write"),
        ),
    ),
    "whoever comes may remove": Sin("T_REMOVE", "anybody", "access control list of bucket my-lab-data"),
}
"""What is done, under the words that somebody would say of it."""


def s3_root(site: Site) -> S3:
    assert site.s3_root is not None
    return S3(site.s3_root)


@contextlib.contextmanager
def committed(site: Site) -> Iterator[None]:
    """Commit all sins, and take them back in the end."""
    assert site.mysql_root is not None
    store = s3_root(site)
    with Mysql(site.mysql_root) as root:
        try:
            for sin in SINS.values():
                for statement in sin.sql:
                    root.query(statement)
                for call in sin.s3:
                    store.call(call)
            yield
        finally:
            for sin in SINS.values():
                undo(root, sin)
            _close(store)


def undo(root: Mysql, sin: Sin) -> None:
    """Take a sin on the database back, as far as it is still there."""
    for statement in sin.undo:
        with contextlib.suppress(DjopsError):
            root.query(statement)


def _close(store: S3) -> None:
    every = dict.fromkeys(BLOCKS, True)
    store.call(_s3("PutBucketAcl", ACL="private"))
    store.call(AwsCall("s3", "DeleteBucketPolicy", {"Bucket": BUCKET}, missing_is_done=True))
    store.call(_s3("PutPublicAccessBlock", PublicAccessBlockConfiguration=every))
    for name in ("lab", "member"):
        with contextlib.suppress(DjopsError):
            remove_user(store, name)


def remove_user(store: S3, name: str) -> None:
    """Remove an IAM user, its keys and its policies."""
    for key in store.call(_iam("ListAccessKeys", UserName=name))["AccessKeyMetadata"]:
        store.call(_iam("DeleteAccessKey", UserName=name, AccessKeyId=key["AccessKeyId"]))
    for policy in store.call(_iam("ListUserPolicies", UserName=name))["PolicyNames"]:
        store.call(_iam("DeleteUserPolicy", UserName=name, PolicyName=policy))
    store.call(_iam("DeleteUser", UserName=name))
