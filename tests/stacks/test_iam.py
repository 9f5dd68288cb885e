"""What every identity of the stacks may do, asked cell by cell of the independent reader of IAM policies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from cloud import policies

from djops.compile.packing import AWS, size
from djops.compile.s3 import compile_s3, tls_only
from djops.compile.s3_manager import managed_policy, manager_policy
from djops.proof.iam_reader import ANONYMOUS, IamReader
from djops.proof.iam_state import BLOCKS, CatalogBucket, CatalogUser, IamCatalog
from djops.systems.resources import load_roles
from tests.support.cloud import ACCOUNT, FOLDERS, REGION, Declared
from tests.support.projects import DEMO, compiled, pipeline, project

KEYS = [
    *(f"{prefix}x/1" for prefix in (*FOLDERS["read"], *FOLDERS["write"])),
    "demo/_hash/imaging/1",
    "demo/_hash/ephys",
    "demo/_hash/ephys2/1",
    "other/_hash/ephys/1",
    "1",
]
READABLE = set(KEYS[:4])
WRITABLE = set(KEYS[2:4])
RAW, OTHER = "arn:aws:s3:::demo-raw", "arn:aws:s3:::demo-locked"


def _arn(service: str, name: str) -> str:
    """An ARN as the stand-in for AWS gives it."""
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{name}"


UNSEAL, DATA = _arn("kms", "unseal"), _arn("kms", "data")
INIT, LOGIN, MASTER = (
    _arn("secretsmanager", name) for name in ("secrets-init", "workers-login", "secret:rds")
)
CLUSTER = _arn("ecs", "workers")
CA = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/djops/demo_lab/production/secrets-ca"
WORKER_LOG = _arn("cloudwatch", "workers") + ":*"
IMAGE = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/demo"

ACTIONS = {
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:PutImage",
    "iam:CreateUser",
    "iam:PassRole",
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:ScheduleKeyDeletion",
    "logs:DeleteLogGroup",
    "logs:GetLogEvents",
    "logs:PutLogEvents",
    "rds:DeleteDBInstance",
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "ssm:GetParameter",
    "ssm:PutParameter",
    "ssm:StartSession",
    "sts:AssumeRole",
}
RESOURCES = {
    UNSEAL,
    DATA,
    INIT,
    LOGIN,
    MASTER,
    CA,
    WORKER_LOG,
    IMAGE,
    _arn("ec2", "gate"),
    _arn("ec2", "secrets"),
    _arn("iam", "worker-cpu"),
    _arn("rds", "database"),
}

Cells = set[tuple[str, str]]


def _allowed(document: Any, actions: Iterable[str], resources: Iterable[str], **context: Any) -> Cells:
    """Ask about every action on every resource."""
    user = CatalogUser(f"arn:aws:iam::{ACCOUNT}:user/it", policies={"p": document})
    buckets = {name: CatalogBucket() for name in ("demo-raw", "demo-locked", "papers")}
    reader = IamReader(IamCatalog(users={"it": user}, buckets=buckets), "aws")
    return {(a, r) for a in actions for r in resources if reader.decide("it", a, r, context).allowed}


GRID: Mapping[str, Cells] = {
    "secrets": {
        ("kms:Decrypt", UNSEAL),
        ("kms:Encrypt", UNSEAL),
        ("secretsmanager:PutSecretValue", INIT),
        ("ssm:PutParameter", CA),
    },
    "task-start": {
        *(("ecr:GetAuthorizationToken", one) for one in RESOURCES),
        ("ecr:BatchGetImage", IMAGE),
        ("logs:PutLogEvents", WORKER_LOG),
        ("secretsmanager:GetSecretValue", LOGIN),
    },
    "worker-cpu": set(),
    "worker-gpu": set(),
    "meter": set(),
    "meter-schedule": set(),
}


@pytest.mark.parametrize("role", GRID)
def test_roles_may_do_their_own_and_nothing_else(role: str, whole: Declared) -> None:
    assert _allowed(whole.documents("iam.RolePolicy")[role], ACTIONS, RESOURCES) == GRID[role]


def test_every_role_is_in_the_grid_or_has_only_what_aws_names(whole: Declared) -> None:
    assert set(whole.documents("iam.RolePolicy")) == set(GRID)
    assert set(whole.of("iam.Role")) == set(GRID) | {"gate", "gpu-gpu"}
    attached = {name: one.inputs["policyArn"] for name, one in whole.of("iam.RolePolicyAttachment").items()}
    assert attached == {
        "gate-ssm": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
        "secrets-ssm": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
        "gpu-gpu": "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role",
    }


def test_a_role_is_taken_by_one_service_of_this_account(whole: Declared) -> None:
    services = {"ec2.amazonaws.com", "ecs-tasks.amazonaws.com", "scheduler.amazonaws.com"}
    for name, one in whole.of("iam.Role").items():
        (statement,) = json.loads(one.inputs["assumeRolePolicy"])["Statement"]
        assert statement["Action"] == "sts:AssumeRole", name
        assert statement["Principal"].keys() == {"Service"}
        assert statement["Principal"]["Service"] in services
        bound = statement.get("Condition", {}).get("StringEquals", {}).get("aws:SourceAccount")
        assert bound == (None if statement["Principal"]["Service"].startswith("ec2") else ACCOUNT)


OBJECTS = (
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutObjectAcl",
    "s3:BypassGovernanceRetention",
    "s3:AbortMultipartUpload",
)


@pytest.mark.parametrize("role", ["worker-cpu", "worker-gpu"])
def test_a_worker_reaches_its_prefixes_alone(role: str, whole: Declared) -> None:
    document = whole.documents("iam.RolePolicy")[role]
    resources = [f"{bucket}/{key}" for bucket in (RAW, OTHER) for key in KEYS]
    assert _allowed(document, OBJECTS, resources) == {
        *(("s3:GetObject", f"{RAW}/{key}") for key in READABLE),
        *(
            (action, f"{RAW}/{key}")
            for action in ("s3:PutObject", "s3:AbortMultipartUpload")
            for key in WRITABLE
        ),
    }
    buckets = (
        "s3:ListBucket",
        "s3:DeleteBucket",
        "s3:PutBucketPolicy",
        "s3:GetBucketLocation",
        "s3:CreateBucket",
    )
    assert _allowed(document, buckets, [RAW, OTHER]) == {("s3:GetBucketLocation", RAW)}
    listed = [
        key
        for key in (*KEYS, "", "demo/")
        if _allowed(document, ["s3:ListBucket"], [RAW], **{"s3:prefix": key})
    ]
    assert set(listed) == READABLE


def test_a_worker_may_write_no_more_than_the_access_layer_gives_a_worker() -> None:
    """The same prefixes as `djops apply` writes for a principal, but for its ban on making buckets."""
    document = policies.worker({"b": ("p/_hash/up/",)}, {"b": ("p/_hash/it/",)})
    actions = {action for one in document["Statement"] for action in one["Action"]}
    assert actions == {
        "s3:AbortMultipartUpload",
        "s3:GetBucketLocation",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
    }


def test_a_worker_without_prefixes_reaches_nothing() -> None:
    assert policies.worker({}, {})["Statement"] == []


def test_the_meter_counts_in_its_own_namespace(whole: Declared) -> None:
    document = whole.documents("iam.RolePolicy")["meter"]
    for namespace, may in (
        ("djops/demo_lab/production", True),
        ("djops/other/production", False),
        ("AWS/RDS", False),
    ):
        put = _allowed(document, ["cloudwatch:PutMetricData"], ["*"], **{"cloudwatch:namespace": namespace})
        assert bool(put) is may


def test_the_schedule_starts_the_meter_and_nothing_else(whole: Declared) -> None:
    document = whole.documents("iam.RolePolicy")["meter-schedule"]
    family = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/djops-demo_lab-production"
    tasks = [f"{family}-{name}:3" for name in ("meter", "cpu", "gpu")]
    on = {"ecs:cluster": CLUSTER}
    assert _allowed(document, ["ecs:RunTask", "ecs:StopTask"], tasks, **on) == {("ecs:RunTask", tasks[0])}
    assert not _allowed(document, ["ecs:RunTask"], tasks, **{"ecs:cluster": f"{CLUSTER}2"})
    roles = [_arn("iam", name) for name in ("meter", "task-start", "worker-cpu", "secrets")]
    passed = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    assert _allowed(document, ["iam:PassRole"], roles, **passed) == {
        ("iam:PassRole", role) for role in roles[:2]
    }
    assert not _allowed(document, ["iam:PassRole"], roles, **{"iam:PassedToService": "ec2.amazonaws.com"})


def test_groups_of_people(whole: Declared) -> None:
    documents = whole.documents("iam.GroupPolicy")
    assert set(documents) == {"administrators", "operators"}
    may = _allowed(documents["administrators"], ACTIONS, RESOURCES)
    assert may == {
        ("ssm:StartSession", _arn("ec2", "gate")),
        ("secretsmanager:GetSecretValue", INIT),
        ("secretsmanager:GetSecretValue", MASTER),
    }
    assert _allowed(documents["operators"], ACTIONS, RESOURCES) == {("logs:GetLogEvents", WORKER_LOG)}
    services = [_arn("ecs", name) for name in ("cpu", "gpu", "meter")]
    scaled = _allowed(documents["operators"], ["ecs:UpdateService", "ecs:DeleteService"], services)
    assert scaled == {("ecs:UpdateService", services[0]), ("ecs:UpdateService", services[1])}


def test_an_administrator_forwards_ports_and_opens_no_shell(whole: Declared) -> None:
    documents = [
        f"arn:aws:ssm:{REGION}::document/{name}"
        for name in (
            "AWS-StartPortForwardingSessionToRemoteHost",
            "AWS-StartInteractiveCommand",
            "SSM-SessionManagerRunShell",
        )
    ]
    may = _allowed(whole.documents("iam.GroupPolicy")["administrators"], ["ssm:StartSession"], documents)
    assert may == {("ssm:StartSession", documents[0])}


def test_the_access_manager_is_the_one_that_djops_asks_for(whole: Declared) -> None:
    user = whole.of("iam.User")["access-manager"].inputs
    assert user["path"] == "/djops-system/"
    written = whole.documents("iam.Policy")["access-manager"]
    asked = manager_policy("demo_lab", ACCOUNT, ["demo-raw", "demo-locked"], BOUNDARY)["Statement"]
    asked = [*asked, *managed_policy("demo_lab", ACCOUNT)["Statement"]]
    assert _normal(written) == _normal({"Statement": asked})


BOUNDARY = _arn("iam", "people-boundary")
OWN_OR_OTHER = {BOUNDARY: True, _arn("iam", "people-boundary2"): False, "": False}


@pytest.mark.parametrize("gives", ["CreateUser", "PutUserPolicy", "AttachUserPolicy"])
def test_the_access_manager_gives_rights_within_the_boundary_alone(gives: str, whole: Declared) -> None:
    """What IAM puts into the key: the boundary that is asked for, or that the user has."""
    document, ann = whole.documents("iam.Policy")["access-manager"], f"{PEOPLE}/demo_lab/ann"
    for arn, may in OWN_OR_OTHER.items():
        key: Any = {"iam:PermissionsBoundary": arn or []}
        assert bool(_allowed(document, [f"iam:{gives}"], [ann], **key)) is may, arn
        assert bool(_allowed(document, ["iam:PutUserPermissionsBoundary"], [ann], **key)) is may, arn
    key = {"iam:PermissionsBoundary": BOUNDARY}
    more = ["iam:DeleteUserPermissionsBoundary", "iam:CreatePolicyVersion", "iam:DeletePolicy"]
    system = f"arn:aws:iam::{ACCOUNT}:policy/djops-system/djops-people-demo_lab"
    assert not _allowed(document, more, [ann, system, BOUNDARY], **key)
    wide = {**document, "Statement": [*document["Statement"], policies.allow(["iam:*"], ["*"])]}
    assert not _allowed(wide, more[:1], [ann], **key), "an explicit refusal holds against everything"


def test_the_boundary_is_where_the_access_manager_cannot_write(whole: Declared) -> None:
    made = whole.of("iam.Policy")["people-boundary"].inputs
    assert made["path"] == "/djops-system/" and made["name"].startswith("djops-people-demo_lab")
    assert whole.outputs["peopleBoundary"] == BOUNDARY
    assert size(whole.documents("iam.Policy")["people-boundary"]) <= AWS.managed


def _bounded(own: Any, boundary: Any, bucket: Any = None) -> IamReader:
    """A user of the access layer's making, within the boundary and on a bucket with a policy."""
    arn = f"arn:aws:iam::{ACCOUNT}:user/djops/demo_lab/ann"
    bound = BOUNDARY if boundary else ""
    user = CatalogUser(arn, policies={"djops": own}, boundary=bound)
    buckets = {name: CatalogBucket(bucket) for name in ("demo-raw", "papers")}
    return IamReader(IamCatalog({"ann": user}, managed={BOUNDARY: boundary}, buckets=buckets), "aws")


THE_MOST = {
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:GetBucketLocation",
    "s3:GetObject",
    "s3:ListBucket",
    "s3:PutObject",
}


@pytest.mark.parametrize("in_bucket", [False, True], ids=["its own policy", "the bucket's policy"])
def test_with_the_key_of_the_access_manager_nobody_gets_more_than_objects(
    in_bucket: bool, whole: Declared
) -> None:
    """Everything is given to the user: what is left of it is the boundary, cell by cell."""
    boundary = whole.documents("iam.Policy")["people-boundary"]
    everything: Any = policies.document(policies.allow(["*"], ["*"]))
    opened = {"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/djops/demo_lab/ann"}}
    of_bucket = policies.document(policies.allow(["s3:*"], [RAW, f"{RAW}/*"]) | opened)
    reader = _bounded(everything, boundary, of_bucket if in_bucket else None)
    free = _bounded(everything, None, of_bucket if in_bucket else None)
    objects = {one for one in (*OBJECTS, *THE_MOST) if "Bucket" not in one}
    buckets = {"s3:ListBucket", "s3:GetBucketLocation", "s3:PutBucketPolicy", "s3:DeleteBucket",
               "s3:PutBucketVersioning", "s3:PutLifecycleConfiguration", "s3:CreateBucket"}  # fmt: skip
    cells = {(one, f"{RAW}/a") for one in objects} | {(one, RAW) for one in buckets}
    outside = {(one, place.replace("demo-raw", "papers")) for one, place in cells} | {
        ("iam:CreateUser", "*"), ("iam:CreateAccessKey", f"{PEOPLE}/demo_lab/bob"), ("sts:AssumeRole", "*"),
        ("secretsmanager:GetSecretValue", MASTER), ("kms:Decrypt", DATA), ("ssm:StartSession", "*"),
    }  # fmt: skip
    for action, place in cells | outside:
        assert free.decide("ann", action, place).allowed or in_bucket
        may = (action, place) in cells and action in THE_MOST
        assert reader.decide("ann", action, place).allowed is may, (action, place)


def test_the_boundary_takes_nothing_from_anybody_s_rights(whole: Declared) -> None:
    boundary = whole.documents("iam.Policy")["people-boundary"]
    roles = load_roles()
    people = {name: [{"role": name, "on": "ephys"}] for name in roles.roles}
    wanted = project(people, bucket="demo-raw")
    state = compile_s3(wanted, compiled(wanted, pipeline(DEMO))[0], "RGW", BOUNDARY)
    allowed = 0
    for name, user in state.users.items():
        assert user.boundary == BOUNDARY
        document = user.policies["djops"]
        bounded, free = _bounded(document, boundary), _bounded(document, None)
        for one in document["Statement"]:
            key = {"s3:prefix": one.get("Condition", {}).get("StringLike", {}).get("s3:prefix", ["x"])[0]}
            for action in one["Action"]:
                for place in one["Resource"]:
                    asked = action, place.replace("*", "x"), key if action == "s3:ListBucket" else {}
                    before = free.decide("ann", *asked).allowed
                    assert bounded.decide("ann", *asked).allowed is before, (name, asked)
                    allowed += before
    assert allowed > 30


def test_what_the_access_manager_may_do_is_the_most_it_may_ever_do(whole: Declared) -> None:
    policy = _arn("iam", "access-manager")
    user = whole.of("iam.User")["access-manager"].inputs
    attached = whole.of("iam.UserPolicyAttachment")["access-manager"].inputs
    assert user["permissionsBoundary"] == attached["policyArn"] == policy
    assert not whole.of("iam.UserPolicy"), "an inline policy of a user holds 2,048 characters"
    assert size(whole.documents("iam.Policy")["access-manager"]) <= AWS.managed


PEOPLE, SYSTEM = f"arn:aws:iam::{ACCOUNT}:user/djops", f"arn:aws:iam::{ACCOUNT}:user/djops-system"
PACKED = f"arn:aws:iam::{ACCOUNT}:policy/djops"
MANAGER: Mapping[tuple[str, ...], tuple[set[str], set[str]]] = {
    # Actions: where they are allowed, and where not.
    (
        "iam:CreateUser",
        "iam:PutUserPermissionsBoundary",
        "iam:CreateAccessKey",
        "iam:PutUserPolicy",
        "iam:AttachUserPolicy",
        "iam:DeleteUserPolicy",
        "iam:DeleteUser",
    ): (
        {f"{PEOPLE}/demo_lab/ann", f"{PEOPLE}/demo_lab-smoke-1a2b3c/x"},
        {
            f"{PEOPLE}/other_lab/ann",
            f"{PEOPLE}/demo_lab2/ann",
            f"{SYSTEM}/djops-manager-demo_lab",
            f"arn:aws:iam::{ACCOUNT}:user/root",
        },
    ),
    ("iam:CreatePolicy", "iam:CreatePolicyVersion", "iam:DeletePolicy"): (
        {f"{PACKED}/demo_lab/djops-demo_lab-ann-1"},
        {f"{PACKED}-system/djops-manager-demo_lab", f"{PACKED}/other_lab/x", f"{PACKED}/demo_lab2/x"},
    ),
    (
        "iam:DeleteUserPermissionsBoundary",
        "iam:CreateRole",
        "iam:PassRole",
        "iam:AttachRolePolicy",
        "iam:PutGroupPolicy",
        "iam:AddUserToGroup",
        "iam:SetDefaultPolicyVersion",
        "sts:AssumeRole",
    ): (set(), {f"{PEOPLE}/demo_lab/ann", f"{SYSTEM}/djops-manager-demo_lab", "*"}),
    ("s3:GetObject", "s3:PutObject"): ({f"{RAW}/a", f"{OTHER}/a"}, {"arn:aws:s3:::papers/a"}),
    ("s3:DeleteObject", "s3:DeleteObjectVersion"): (
        {f"{RAW}/demo/_hash/djops_smoke_x/1"},
        {f"{RAW}/demo/_hash/ephys/1", "arn:aws:s3:::papers/demo/djops_smoke_x/1"},
    ),
    (
        "s3:DeleteBucket",
        "s3:CreateBucket",
        "s3:PutLifecycleConfiguration",
        "s3:PutReplicationConfiguration",
    ): (
        set(),
        {RAW, OTHER, "arn:aws:s3:::papers"},
    ),
}


@pytest.mark.parametrize("actions", MANAGER, ids=lambda actions: actions[0])
def test_the_access_manager_cell_by_cell(actions: tuple[str, ...], whole: Declared) -> None:
    may, must_not = MANAGER[actions]
    document = whole.documents("iam.Policy")["access-manager"]
    found = _allowed(document, actions, may | must_not, **{"iam:PermissionsBoundary": BOUNDARY})
    assert found == {(action, place) for action in actions for place in may}


def _normal(document: Mapping[str, Any]) -> list[str]:
    """Every right by itself, however they are grouped into statements."""
    return sorted(
        json.dumps({**one, "Action": action, "Resource": sorted(one["Resource"])}, sort_keys=True)
        for one in document["Statement"]
        for action in one["Action"]
    )


# Policies of resources


def _bucket_reader(document: Any, name: str) -> IamReader:
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    root = CatalogUser(f"arn:aws:iam::{ACCOUNT}:user/root", policies={"p": everything})
    bucket = CatalogBucket(document, (), frozenset(BLOCKS), "BucketOwnerEnforced", True)
    return IamReader(IamCatalog(users={"root": root}, buckets={name: bucket}), "aws")


@pytest.mark.parametrize("name", ["demo-raw", "demo-locked", "logs"])
def test_without_tls_nobody_reaches_a_bucket_and_strangers_never(name: str, whole: Declared) -> None:
    bucket = whole.of("s3.Bucket")[name].inputs["bucket"]
    reader = _bucket_reader(whole.documents("s3.BucketPolicy")[name], bucket)
    for action, resource in (
        ("s3:GetObject", "/x"),
        ("s3:PutObject", "/x"),
        ("s3:ListBucket", ""),
        ("s3:DeleteBucket", ""),
    ):
        arn = f"arn:aws:s3:::{bucket}{resource}"
        for tls in ("true", "false"):
            context: dict[str, Any] = {
                "aws:SecureTransport": tls,
                "aws:SourceArn": [],
                "aws:SourceAccount": [],
            }
            assert reader.decide("root", action, arn, context).allowed is (tls == "true")
            assert not reader.decide(ANONYMOUS, action, arn, context).allowed


def test_a_bucket_says_what_the_access_layer_expects(whole: Declared) -> None:
    """Otherwise `djops drift` would take the stack's own policy for somebody else's."""
    for name in ("demo-raw", "demo-locked"):
        assert whole.documents("s3.BucketPolicy")[name] == tls_only(name)


def test_only_aws_delivers_logs_and_only_of_our_buckets(whole: Declared) -> None:
    statements = {one["Sid"]: one for one in whole.documents("s3.BucketPolicy")["logs"]["Statement"]}
    assert set(statements) == {"TlsOnly", "AccessLogs", "TrailLooks", "TrailWrites"}
    logs = statements["AccessLogs"]
    assert logs["Principal"] == {"Service": "logging.s3.amazonaws.com"}
    assert logs["Condition"]["ArnEquals"]["aws:SourceArn"] == [OTHER, RAW]
    assert logs["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}
    trail = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/demo-lab-production-{ACCOUNT}-logs"
    for sid in ("TrailLooks", "TrailWrites"):
        assert statements[sid]["Principal"] == {"Service": "cloudtrail.amazonaws.com"}
        assert statements[sid]["Condition"]["StringEquals"]["aws:SourceArn"] == trail


def test_keys_are_used_by_iam_s3_and_logs_of_this_account_alone(whole: Declared) -> None:
    documents = whole.documents("kms.Key")
    (owner,) = documents["unseal"]["Statement"]
    assert owner["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    owner, s3, logs = documents["data"]["Statement"]
    assert owner["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assert s3["Condition"]["StringEquals"] == {
        "kms:CallerAccount": ACCOUNT,
        "kms:ViaService": f"s3.{REGION}.amazonaws.com",
    }
    assert logs["Principal"] == {"Service": f"logs.{REGION}.amazonaws.com"}
    assert f":{ACCOUNT}:" in logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    for one in (s3, logs):
        assert not any(
            action in one["Action"] for action in ("kms:*", "kms:ScheduleKeyDeletion", "kms:CreateGrant")
        )
    assert all(one.inputs["enableKeyRotation"] for one in whole.of("kms.Key").values())


def test_the_reader_would_notice_a_star(whole: Declared) -> None:
    document = whole.documents("iam.RolePolicy")["secrets"]
    wide = {**document, "Statement": [*document["Statement"], policies.allow(["kms:*"], ["*"])]}
    assert _allowed(wide, ACTIONS, RESOURCES) != GRID["secrets"]


def test_no_policy_allows_everything(whole: Declared) -> None:
    for kind in ("iam.RolePolicy", "iam.GroupPolicy", "iam.Policy"):
        for name, document in whole.documents(kind).items():
            for one in document["Statement"]:
                assert one["Effect"] in ("Allow", "Deny")
                # A refusal of all but some is the narrowest there is.
                named = one["NotAction"] if one["Effect"] == "Deny" and "NotAction" in one else one["Action"]
                assert not any("*" in action for action in named), (kind, name)
