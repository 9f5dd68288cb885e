"""Drift on real servers: each kind is made by hand, found under its own name, mended, and gone."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from djops.errors import DjopsError
from djops.plan.drift_kinds import MEANINGS, DriftKind
from djops.plan.operations import AwsCall, MarkSecret, VaultCall
from djops.plan.s3_changes import BLOCKS, DeletePrincipal
from tests.conftest import LabUnderTest
from tests.support.ground import Ground, Step, ground_of
from tests.support.projects import pipeline

GRAPH = pipeline({"drift_subject": [], "drift_ephys": ["drift_subject"], "drift_late": []}, ())
ANALYSES: dict[str, Any] = {"role": "analyst", "on": ["drift_ephys", "drift_late"]}
VIEWS: dict[str, Any] = {"role": "viewer", "on": "drift_subject"}
CHANGES: dict[str, Any] = {"role": "developer", "on": "drift_ephys"}
PEOPLE = {
    "dev": [CHANGES],
    "ada": [ANALYSES],
    "ann": [ANALYSES],
    "ben": [VIEWS],
    "bea": [VIEWS],
    "bix": [VIEWS],
}
TABLES = (
    "drift_subject.subject (k INT PRIMARY KEY)",
    "drift_ephys.`_imported` (k INT PRIMARY KEY, v INT, FOREIGN KEY (k) REFERENCES drift_subject.subject(k))",
    "drift_ephys.`~~imported` (k INT PRIMARY KEY)",
)


@pytest.fixture(scope="module")
def ground(lab: LabUnderTest) -> Iterator[Ground]:
    with ground_of(lab, GRAPH, TABLES) as made:
        made.people(PEOPLE)
        made.apply()
        yield made


@dataclass(frozen=True)
class Case:
    """Something that somebody does by hand."""

    kind: DriftKind
    of: str
    steps: tuple[Step, ...]
    undo: tuple[Step, ...]
    also: frozenset[DriftKind]


def case(
    kind: DriftKind, of: str, *steps: Step, undo: tuple[Step, ...] = (), also: Sequence[DriftKind] = ()
) -> Case:
    return Case(kind, of, steps, undo, frozenset(also))


def iam(action: str, **parameters: object) -> AwsCall:
    return AwsCall("iam", action, parameters)


K = DriftKind
OPEN = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
READS_ALL = {"policy": 'path "*" { capabilities = ["read"] }'}
VIEWER, ANALYST, BELOW = "'drift_ephys:viewer'", "'drift_ephys:analyst'", "'drift_subject:viewer'"
BUCKET, OURS = "my-lab-data", "/djops/demo_lab/"
READS_S3 = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"


def switch_key_off(ground: Ground, who: str) -> None:
    (key,) = ground.servers.s3.user(who).keys
    parameters = {"UserName": who, "AccessKeyId": key, "Status": "Inactive"}
    ground.servers.s3.call(AwsCall("iam", "UpdateAccessKey", parameters))


MYSQL = {
    "a higher privilege for a role": case(
        K.EXTRA_GRANT, "drift_ephys:viewer", rf"GRANT INSERT ON `drift\_ephys`.* TO {VIEWER}"
    ),
    "a lost privilege": case(
        K.MISSING_GRANT, "drift_ephys:viewer", rf"REVOKE SELECT ON `drift\_ephys`.* FROM {VIEWER}"
    ),
    "a lost privilege on a table": case(
        K.MISSING_GRANT,
        "drift_ephys:analyst",
        f"REVOKE UPDATE ON drift_ephys.`~~imported` FROM {ANALYST}",
    ),
    "a lost privilege on a table that is not there": case(
        K.MISSING_GRANT,
        "drift_ephys:developer",
        "REVOKE UPDATE ON drift_ephys.`~lineage` FROM 'drift_ephys:developer'",
    ),
    "a schema for a person": case(K.DIRECT_GRANT, "ben", r"GRANT SELECT ON `drift\_ephys`.* TO ben"),
    "everything on a schema": case(K.DIRECT_GRANT, "ben", r"GRANT ALL ON `drift\_ephys`.* TO ben"),
    "a schema outside": case(K.DIRECT_GRANT, "ben", r"GRANT SELECT ON `mysql`.* TO ben"),
    "a table": case(K.TABLE_GRANT, "ben", "GRANT DELETE ON drift_subject.subject TO ben"),
    "a table for a role": case(
        K.TABLE_GRANT, "drift_ephys:viewer", f"GRANT DELETE ON drift_ephys.`_imported` TO {VIEWER}"
    ),
    "a column": case(K.COLUMN_GRANT, "ben", "GRANT UPDATE (v) ON drift_ephys.`_imported` TO ben"),
    "a stored procedure": case(
        K.ROUTINE_GRANT,
        "ben",
        "CREATE PROCEDURE drift_subject.p() SELECT 1",
        "GRANT EXECUTE ON PROCEDURE drift_subject.p TO ben",
        undo=("DROP PROCEDURE drift_subject.p",),
    ),
    "a privilege on the server": case(K.SERVER_PRIVILEGE, "ben", "GRANT SELECT ON *.* TO ben"),
    "a dynamic privilege": case(K.SERVER_PRIVILEGE, "ada", "GRANT CONNECTION_ADMIN ON *.* TO ada"),
    "all power": case(K.SERVER_PRIVILEGE, "ada", "GRANT ALL ON *.* TO ada WITH GRANT OPTION"),
    "passing privileges on": case(
        K.GRANT_OPTION,
        "drift_ephys:viewer",
        rf"GRANT SELECT ON `drift\_ephys`.* TO {VIEWER} WITH GRANT OPTION",
    ),
    "a twin without escapes": case(
        K.SPELLING, "drift_ephys:viewer", f"GRANT SELECT ON `drift_ephys`.* TO {VIEWER}"
    ),
    "all schemas": case(K.WILDCARD, "ben", "GRANT SELECT ON `%`.* TO ben"),
    "another level": case(K.WRONG_LEVEL, "ada", f"REVOKE {ANALYST} FROM ada", f"GRANT {VIEWER} TO ada"),
    "another role": case(K.EXTRA_ROLE, "ben", f"GRANT {VIEWER} TO ben"),
    "a lost role": case(K.MISSING_ROLE, "ben", f"REVOKE {BELOW} FROM ben"),
    "a lost role of a role": case(K.MISSING_ROLE, "drift_ephys:viewer", f"REVOKE {BELOW} FROM {VIEWER}"),
    "a stranger's role": case(
        K.FOREIGN_ROLE,
        "ben",
        "CREATE ROLE strangers",
        "GRANT strangers TO ben",
        undo=("DROP ROLE strangers",),
    ),
    "a person as a role": case(
        K.FOREIGN_ROLE, "ben", "CREATE USER guest", "GRANT guest TO ben", undo=("DROP USER guest",)
    ),
    "root as a role": case(K.FOREIGN_ROLE, "ben", "GRANT root@localhost TO ben"),
    "a role for a stranger": case(
        K.GIVEN_AWAY, "guest", "CREATE USER guest", f"GRANT {VIEWER} TO guest", undo=("DROP USER guest",)
    ),
    "passing a role on": case(K.ADMIN_OPTION, "ada", f"GRANT {ANALYST} TO ada WITH ADMIN OPTION"),
    "a role that sleeps": case(K.NOT_DEFAULT, "ada", "SET DEFAULT ROLE NONE TO ada"),
    "a role for everybody": case(
        K.MANDATORY_ROLE,
        "strangers",
        "CREATE ROLE strangers",
        "SET GLOBAL mandatory_roles = 'strangers'",
        undo=("RESET PERSIST mandatory_roles", "DROP ROLE strangers"),
    ),
    "acting as somebody else": case(K.PROXY, "ben", "GRANT PROXY ON ada TO ben"),
    "a dropped role": case(K.ROLE_GONE, "drift_ephys:viewer", f"DROP ROLE {VIEWER}"),
    "a role that nobody needs": case(
        K.ROLE_LEFT,
        "drift_ephys:old",
        "CREATE ROLE 'drift_ephys:old'",
        """ALTER USER 'drift_ephys:old' ATTRIBUTE '{"djops": {"project": "demo_lab", "kind": "role"}}'""",
    ),
    "a dropped account": case(K.ACCOUNT_GONE, "ben", "DROP USER ben"),
    "an account with our mark": case(
        K.ACCOUNT_LEFT,
        "cleo",
        """CREATE USER cleo ATTRIBUTE '{"djops": {"project": "demo_lab", "kind": "person"}}'""",
    ),
    "an account without a name": case(K.ANONYMOUS, "''@localhost", "CREATE USER ''@localhost"),
    "a namesake": case(K.SHADOW, "ada@localhost", "CREATE USER ada@localhost"),
    "a role to log in to": case(K.UNLOCKED, "drift_ephys:viewer", f"ALTER USER {VIEWER} ACCOUNT UNLOCK"),
    "a locked person": case(K.LOCKED, "ada", "ALTER USER ada ACCOUNT LOCK"),
    "no TLS": case(K.NO_TLS, "ada", "ALTER USER ada REQUIRE NONE"),
    "a certificate to show": case(K.LOCKED, "ada", "ALTER USER ada REQUIRE SUBJECT '/CN=ada'"),
    "a limit": case(K.LIMIT, "ada", "ALTER USER ada WITH MAX_USER_CONNECTIONS 1"),
    "another kind of password": case(
        K.AUTHENTICATION, "ben", "ALTER USER ben IDENTIFIED WITH sha256_password BY 'mine'"
    ),
    "another password": case(K.AUTHENTICATION, "ben", "ALTER USER ben IDENTIFIED BY 'mine'"),
    "an expired password": case(K.AUTHENTICATION, "ben", "ALTER USER ben PASSWORD EXPIRE"),
    "another mark": case(K.MARK, "ben", """ALTER USER ben ATTRIBUTE '{"djops": {"kind": "service"}}'"""),
    "a second password": case(
        K.AUTHENTICATION,
        "ben",
        "ALTER USER ben IDENTIFIED BY 'mine' RETAIN CURRENT PASSWORD",
        also=[K.SECOND_PASSWORD],
    ),
    "a schema declared later": case(
        K.NEW_SCHEMA,
        "drift_late",
        "CREATE DATABASE drift_late",
        "CREATE TABLE drift_late.one (k INT PRIMARY KEY)",
        "CREATE TABLE drift_late.two (k INT PRIMARY KEY)",
        undo=("DROP DATABASE drift_late",),
    ),
    "a dropped table": case(
        K.DROPPED_TABLE,
        "drift_ephys:analyst",
        "CREATE TABLE drift_ephys.later (k INT PRIMARY KEY)",
        lambda ground: ground.apply(),
        "DROP TABLE drift_ephys.later",
    ),
    "a dropped job table": case(
        K.NO_JOB_TABLE,
        "drift_ephys._imported",
        "DROP TABLE drift_ephys.`~~imported`",
        also=[K.DROPPED_TABLE],
    ),
    "a table declared later": case(
        K.NEW_TABLE,
        "drift_ephys.later",
        "CREATE TABLE drift_ephys.later (k INT PRIMARY KEY)",
        undo=("DROP TABLE drift_ephys.later",),
    ),
}

OTHER = {
    "a dropped user": case(
        K.USER_GONE,
        "ben",
        lambda ground: ground.by_hand(
            DeletePrincipal(name="ben", path=OURS, user=ground.servers.s3.user("ben"), why=()).operations()
        ),
    ),
    "a group": case(
        K.FOREIGN_GROUP,
        "ben",
        lambda ground: ground.s3_root.call(iam("CreateGroup", GroupName="strangers")),
        lambda ground: ground.s3_root.call(iam("AddUserToGroup", GroupName="strangers", UserName="ben")),
        undo=(lambda ground: ground.s3_root.call(iam("DeleteGroup", GroupName="strangers")),),
    ),
    "a managed policy": case(
        K.EXTRA_POLICY, "ada", iam("AttachUserPolicy", UserName="ada", PolicyArn=READS_S3)
    ),
    "a key that was switched off": case(K.LOST_KEY, "ada", lambda ground: switch_key_off(ground, "ada")),
    "a public bucket": case(
        K.BUCKET_PUBLIC,
        BUCKET,
        AwsCall(
            "s3",
            "PutPublicAccessBlock",
            {"Bucket": BUCKET, "PublicAccessBlockConfiguration": dict.fromkeys(BLOCKS, False)},
        ),
    ),
    "credentials that were not finished": case(
        K.UNFINISHED, "ada", MarkSecret("demo_lab/people/ada", {"database_state": "pending"})
    ),
    "a user below our path": case(K.USER_LEFT, "cleo", iam("CreateUser", UserName="cleo", Path=OURS)),
    "an edited policy": case(
        K.EDITED_POLICY, "ada", iam("PutUserPolicy", UserName="ada", PolicyName="djops", PolicyDocument=OPEN)
    ),
    "a second policy": case(
        K.EXTRA_POLICY, "ada", iam("PutUserPolicy", UserName="ada", PolicyName="more", PolicyDocument=OPEN)
    ),
    "a lost policy": case(
        K.MISSING_POLICY, "ada", iam("DeleteUserPolicy", UserName="ada", PolicyName="djops")
    ),
    "another key": case(K.EXTRA_KEY, "ada", iam("CreateAccessKey", UserName="ada")),
    "an unversioned bucket": case(
        K.BUCKET_VERSIONS,
        BUCKET,
        AwsCall(
            "s3",
            "PutBucketVersioning",
            {"Bucket": BUCKET, "VersioningConfiguration": {"Status": "Suspended"}},
        ),
    ),
    "a bucket policy": case(
        K.BUCKET_POLICY,
        BUCKET,
        AwsCall(
            "s3",
            "PutBucketPolicy",
            {
                "Bucket": BUCKET,
                "Policy": '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":'
                f'"arn:aws:iam:::user/ada"}},"Action":"s3:GetObject","Resource":"arn:aws:s3:::{BUCKET}/*"}}]}}',
            },
        ),
    ),
    "lost credentials": case(
        K.LOST_CREDENTIALS, "ada", VaultCall("DELETE", "djops/metadata/demo_lab/people/ada")
    ),
    "credentials of nobody": case(
        K.LEFTOVER_CREDENTIALS,
        "demo_lab/people/cleo",
        VaultCall("POST", "djops/data/demo_lab/people/cleo", {"data": {"x": "y"}}),
    ),
    "an edited Vault policy": case(
        K.SECRETS_POLICY,
        "djops-demo_lab-ada",
        VaultCall("PUT", "sys/policies/acl/djops-demo_lab-ada", READS_ALL),
    ),
    "another Vault policy": case(
        K.SECRETS_POLICY_EXTRA,
        "djops-demo_lab-eve",
        VaultCall("PUT", "sys/policies/acl/djops-demo_lab-eve", READS_ALL),
    ),
    "a lost Vault policy": case(
        K.SECRETS_POLICY_GONE,
        "djops-demo_lab-ada",
        VaultCall("DELETE", "sys/policies/acl/djops-demo_lab-ada"),
    ),
}


# Things that have nothing to do with each other are done at the same time, each to somebody else.

ALIKE = {"ada": ("ada", "ann"), "ben": ("ben", "bea", "bix")}
"""Who may stand for whom: people with the same rights."""

APART = (
    "cleo",
    "guest",
    "strangers",
    "drift_late",
    "later",
    "`_imported",
    "~~imported",
    VIEWER,
    ANALYST,
    BELOW,
)
"""Words in statements that no two things done at the same time share."""


@dataclass(frozen=True)
class Done:
    """A case with who it is done to, and all that it touches."""

    name: str
    case: Case
    touches: frozenset[str]

    @property
    def alone(self) -> bool:
        """Whether nothing else may be done at the same time: it applies, or keeps djops from logging in."""
        return self.case.kind is K.ANONYMOUS or any(callable(step) for step in self.case.steps)


def with_somebody(name: str, case: Case, instead: Mapping[str, str]) -> Done:
    """Do a case to people of other names; where it is no statement, the names stay."""
    text = " ".join(step for step in case.steps if isinstance(step, str))
    if len([step for step in case.steps if isinstance(step, str)]) == len(case.steps):
        case = replace(
            case,
            of=exchanged(case.of, instead),
            steps=tuple(exchanged(str(step), instead) for step in case.steps),
        )
        text = " ".join(map(str, case.steps))
        people = {f"mysql {one}" for who in ALIKE.values() for one in who if re.search(rf"\b{one}\b", text)}
        return Done(name, case, frozenset({case.of, *people, *(word for word in APART if word in text)}))
    everywhere = {f"{system} {case.of}" for system in ("mysql", "s3", "secrets")}
    kept_twice = case.kind in (K.LOST_CREDENTIALS, K.UNFINISHED)
    where = everywhere if kept_twice else {f"s3 {case.of}"}
    return Done(name, case, frozenset({*where, *(word for word in APART if word in text)}))


def exchanged(text: str, instead: Mapping[str, str]) -> str:
    return re.sub(r"\b(ada|ben)\b", lambda found: instead[found[0]], text)


def rounds(cases: Mapping[str, Case]) -> list[list[Done]]:
    """Put cases together that can be done at the same time."""
    found: list[list[Done]] = []
    for name, case in cases.items():
        instead = itertools.product(ALIKE["ada"], ALIKE["ben"])
        options = [with_somebody(name, case, {"ada": ada, "ben": ben}) for ada, ben in instead]
        for together, one in itertools.product(found, options):
            if not any(other.alone or one.alone or one.touches & other.touches for other in together):
                together.append(one)
                break
        else:
            found.append([options[0]])
    return found


def find_and_mend(ground: Ground, together: Sequence[Done]) -> None:
    cases = [one.case for one in together]
    if any(case.kind in (K.AUTHENTICATION, K.SECOND_PASSWORD) for case in cases):
        time.sleep(1.1)  # the server tells in whole seconds when a password was changed
    try:
        for case in cases:
            ground.by_hand(case.steps)
        found = ground.look()
        assert {one.kind for one in found} == {kind for case in cases for kind in (case.kind, *case.also)}
        assert {(case.kind, case.of) for case in cases} <= {(one.kind, one.object) for one in found}
        ground.mend(found)
        left = ground.look()
        assert not left, left
    except BaseException:
        # What djops may not mend itself must not stand in the way of what comes.
        ground.mend(ground.look())
        raise
    finally:
        undo = [step for case in cases for step in case.undo]
        for step in undo:
            with contextlib.suppress(DjopsError):
                ground.by_hand([step])
        if undo:
            ground.apply()


def words(together: Sequence[Done]) -> str:
    return ", ".join(one.name for one in together)


@pytest.mark.parametrize("together", rounds({**MYSQL, **OTHER}), ids=words)
def test_what_somebody_did_has_a_name(ground: Ground, together: Sequence[Done]) -> None:
    find_and_mend(ground, together)


def test_everything_is_done_to_somebody() -> None:
    done = [one.name for together in rounds({**MYSQL, **OTHER}) for one in together]
    assert sorted(done) == sorted([*MYSQL, *OTHER])
    assert {one.kind for one in (*MYSQL.values(), *OTHER.values())} >= set(DriftKind) - {
        K.EXPIRED, K.EVENT, K.OTHER, K.SECOND_PASSWORD, K.SERVICE_LOGIN, K.ENGINE, K.KEEPER,
        K.BOUNDARY,
    }  # fmt: skip


def test_what_a_grant_that_is_over_leaves_behind_has_a_name(ground: Ground) -> None:
    until = {"role": "operator", "on": "drift_subject", "until": "2030-01-31"}
    people = {**PEOPLE, "ben": [*PEOPLE["ben"], until]}
    try:
        ground.people(people)
        ground.apply()
        assert not ground.look()
        ground.people(people, dt.date(2030, 2, 1))
        found = ground.look()
        assert {(one.kind, one.object, one.system) for one in found} == {
            (K.EXPIRED, "ben", "mysql"),
            (K.EXPIRED, "ben", "s3"),
        }
        assert "ended on 2030-01-31" in str([change.why for one in found for change in one.changes])
        ground.apply()
        assert not ground.look()
    finally:
        ground.people(PEOPLE)
        ground.apply()


def test_every_kind_has_a_meaning() -> None:
    assert set(MEANINGS) == set(DriftKind)
