"""The lab's object store, on a real Ceph: what survives, whom it lets in, what its manager may do."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from djops.compile.s3 import POLICY_NAME, Bucket, compile_s3
from djops.compile.s3_manager import MANAGER
from djops.errors import AccessDeniedError, ApplyError, DjopsError, StartError
from djops.plan.operations import AwsCall
from djops.systems import process
from djops.systems.buckets import ensure_bucket
from djops.systems.connections import S3Connection, Secret
from djops.systems.files import read_json, write_json
from djops.systems.local import ceph
from djops.systems.local.ceph import CephServer
from djops.systems.local.server import Lab
from djops.systems.paths import server_account
from djops.systems.progress import Silent
from djops.systems.s3 import S3
from tests.support.labs import bare_lab, data_home, kill_all, processes_of
from tests.support.projects import compiled, pipeline, project
from tests.support.s3_people import BUCKET, LOCATION, Person, client, make_person, outcome

PROJECT = "lab"
DATA = Path(__file__).parents[1] / "data"
RIGHTS = yaml.safe_load((DATA / "s3_rights.yaml").read_text())
DAEMONS = ("mon", "osd", "rgw")
HOSTILE = [
    "lab%",
    "a%2Ab",
    "it's",
    'say "x"',
    "a`b",
    "`; DROP",
    "two words",
    "ünï 脳 😀",
    "a+b",
    "$a",
    "x" * 64,
]


def bring_up(server: CephServer, seconds: float = 180) -> None:
    with Silent().step("up") as step:
        server.install(step)
    server.initialise()
    server.start()
    deadline = time.monotonic() + seconds
    while not server.ready():
        assert time.monotonic() < deadline, server.log.read_text()[-3000:]
        time.sleep(0.02)
    server.bootstrap()


@pytest.fixture(scope="module")
def server() -> Iterator[CephServer]:
    with data_home():
        lab = replace(bare_lab(CephServer, PROJECT), buckets=(BUCKET,))
        made = CephServer(lab)
        try:
            bring_up(made)
            yield made
        finally:
            made.stop()
            kill_all(lab.directory)


@pytest.fixture(scope="module")
def lab(server: CephServer) -> Lab:
    return server._lab


@pytest.fixture(scope="module")
def manager(lab: Lab) -> S3Connection:
    return ceph.connection(lab)


@pytest.fixture(scope="module")
def root(lab: Lab, manager: S3Connection) -> S3Connection:
    kept = read_json(lab.secrets / "s3-root.json")
    assert kept is not None
    return replace(manager, access_key=kept["access_key"], secret_key=Secret(kept["secret_key"]))


@pytest.fixture(scope="module")
def people(manager: S3Connection, root: S3Connection) -> dict[str, Person]:
    """An analyst and a viewer of ephys; objects in every schema."""
    store = client(root)
    for section in ("_hash/", "_schema/", ""):
        for schema in ("ephys", "session", "imaging", "ephys2", "EPHYS"):
            store.put_object(Bucket=BUCKET, Key=f"{LOCATION}/{section}{schema}/there", Body=b"old")
    wanted = project({role: [{"role": role, "on": "ephys"}] for role in ("analyst", "viewer")})
    graph = pipeline({"session": [], "ephys": ["session"], "imaging": ["session"], "ephys2": []})
    users = compile_s3(wanted, compiled(wanted, graph)[0]).users
    made = {name: make_person(manager, name, user.policies[POLICY_NAME]) for name, user in users.items()}
    return {name: Person(connection) for name, connection in made.items()}


@pytest.mark.parametrize("role", ["analyst", "viewer"])
@pytest.mark.parametrize("case", RIGHTS, ids=lambda case: f"{case['action']}-{case['key'] or 'all'}")
def test_what_people_may_do(people: dict[str, Person], case: dict[str, Any], role: str) -> None:
    assert people[role].attempt(case["action"], case["key"]) == str(case[role])


def test_nobody_can_publish_an_object(people: dict[str, Person], lab: Lab) -> None:
    key = f"{LOCATION}/_hash/ephys/published"
    analyst, nobody = people["analyst"], client(ceph.connection(lab).endpoint)
    refused = outcome(lambda: analyst.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x", ACL="public-read"))
    assert refused == "403"
    assert analyst.attempt("put", "_hash/ephys/published") == "ok"
    assert outcome(lambda: analyst.s3.put_object_acl(Bucket=BUCKET, Key=key, ACL="public-read")) == "403"
    assert outcome(lambda: nobody.get_object(Bucket=BUCKET, Key=key)) == "403"
    assert outcome(lambda: nobody.list_objects_v2(Bucket=BUCKET)) == "403"


def test_an_overwritten_object_can_be_had_back(people: dict[str, Person], root: S3Connection) -> None:
    key = f"{LOCATION}/_hash/ephys/twice"
    for body in (b"first", b"second"):
        people["analyst"].s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    store = client(root)
    versions = store.list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"]
    bodies = [
        store.get_object(Bucket=BUCKET, Key=key, VersionId=version["VersionId"])["Body"].read()
        for version in versions
    ]
    assert sorted(bodies) == [b"first", b"second"]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_schema_names_open_themselves_only(manager: S3Connection, number: int) -> None:
    schema = HOSTILE[number]
    wanted = project({f"h{number}": [{"role": "analyst", "on": [schema]}]})
    rights, _ = compiled(wanted, pipeline({schema: [], "other": []}))
    document = compile_s3(wanted, rights).users[f"h{number}"].policies[POLICY_NAME]
    person = Person(make_person(manager, f"h{number}", document))
    mine = f"_hash/{schema}"
    expected = {"put": "ok", "get": "ok", "list": "ok"}
    seen = {"put": person.attempt("put", f"{mine}/k"), "get": person.attempt("get", f"{mine}/k")}
    seen["list"] = person.attempt("list", f"{mine}/")
    assert seen == expected
    assert person.attempt("head", f"{mine}/missing") == "404"
    for other in ("other", schema[:-1], f"{schema}x", f"a{schema}", "labX", "aXb", "a b", "X" * 64):
        assert person.attempt("get", f"_hash/{other}/there") == "403", other
        assert person.attempt("list", f"_hash/{other}/") == "403", other


@pytest.mark.parametrize(
    ("pattern", "opened"), [("a*b", "aXb"), ("a?b", "aXb"), ("a[x-z]b", "ayb"), ("a\\b", "ab")]
)
def test_why_patterns_in_names_are_refused(manager: S3Connection, pattern: str, opened: str) -> None:
    """Should these fail one day, the names could be allowed."""
    name = f"pattern{ord(pattern[1])}"
    statement = {
        "Effect": "Allow",
        "Action": ["s3:PutObject"],
        "Resource": [f"arn:aws:s3:::{BUCKET}/{LOCATION}/_hash/{pattern}/*"],
    }
    connection = make_person(manager, name, {"Version": "2012-10-17", "Statement": [statement]})
    assert Person(connection).attempt("put", f"_hash/{opened}/k") == "ok"


INSIDE = [
    ("GetUser", {}),
    ("ListUserPolicies", {}),
    ("ListAttachedUserPolicies", {}),
    ("ListGroupsForUser", {}),
    ("ListAccessKeys", {}),
    ("PutUserPolicy", {"PolicyName": "djops", "PolicyDocument": '{"Version":"2012-10-17","Statement":[]}'}),
    ("GetUserPolicy", {"PolicyName": "djops"}),
    ("CreateAccessKey", {}),
    ("UpdateAccessKey", {"AccessKeyId": "*", "Status": "Inactive"}),
    ("DeleteAccessKey", {"AccessKeyId": "*"}),
    ("AttachUserPolicy", {"PolicyArn": "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"}),
    ("DetachUserPolicy", {"PolicyArn": "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"}),
    ("DeleteUserPolicy", {"PolicyName": "djops"}),
    ("DeleteUser", {}),
]


# Only to look: who else reads the project's objects is told by other people's policies.
ANYWHERE = {action: action.startswith(("Get", "List")) for action, _ in INSIDE}


def _as_manager(manager: S3Connection, root: S3Connection, user: str) -> dict[str, bool]:
    """Try everything on a user; tell what was allowed."""
    allowed, server, whole = {}, S3(manager), S3(root)
    for action, parameters in INSIDE:
        sent = {"UserName": user, **parameters}
        if "AccessKeyId" in sent:
            sent["AccessKeyId"] = next(iter(whole.user(user).keys))
        try:
            server.call(AwsCall("iam", action, sent))
            allowed[action] = True
        except AccessDeniedError:
            allowed[action] = False
    return allowed


def test_the_manager_rules_its_own_path(manager: S3Connection, root: S3Connection) -> None:
    S3(manager).call(AwsCall("iam", "CreateUser", {"UserName": "inside", "Path": f"/djops/{PROJECT}/"}))
    assert all(_as_manager(manager, root, "inside").values())
    names = S3(manager).read_state(PROJECT, [BUCKET]).users
    assert "inside" not in names


@pytest.mark.parametrize("path", ["/", "/djops/", "/djops/lab2/", "/djops/other/", "/djops-system/"])
def test_the_manager_changes_nobody_else(manager: S3Connection, root: S3Connection, path: str) -> None:
    name = "outside" + path.replace("/", "_")
    who = {"UserName": name, "Path": path}
    with pytest.raises(AccessDeniedError):
        S3(manager).call(AwsCall("iam", "CreateUser", who))
    whole = S3(root)
    whole.call(AwsCall("iam", "CreateUser", who))
    whole.call(AwsCall("iam", "CreateAccessKey", {"UserName": name}))
    whole.call(AwsCall("iam", "PutUserPolicy", {"UserName": name, **INSIDE[5][1]}))
    assert _as_manager(manager, root, name) == ANYWHERE


def test_the_manager_changes_nothing_of_itself(manager: S3Connection, root: S3Connection) -> None:
    assert _as_manager(manager, root, MANAGER) == ANYWHERE


def test_the_manager_mends_memberships(manager: S3Connection, root: S3Connection) -> None:
    S3(manager).call(AwsCall("iam", "CreateUser", {"UserName": "member", "Path": f"/djops/{PROJECT}/"}))
    both = {"GroupName": "club", "UserName": "member"}
    S3(root).call(AwsCall("iam", "CreateGroup", {"GroupName": "club"}))
    S3(root).call(AwsCall("iam", "AddUserToGroup", both))
    assert S3(manager).user("member").groups == ("club",)
    with pytest.raises(AccessDeniedError):
        S3(manager).call(AwsCall("iam", "AddUserToGroup", both))
    S3(manager).call(AwsCall("iam", "RemoveUserFromGroup", both))
    assert S3(manager).user("member").groups == ()


def test_the_manager_keeps_to_the_projects_buckets(manager: S3Connection, root: S3Connection) -> None:
    assert ensure_bucket(root, "not-ours")
    mine, store = S3(manager), client(manager)
    assert mine.bucket(BUCKET) == Bucket()
    with pytest.raises(AccessDeniedError):
        mine.bucket("not-ours")
    with pytest.raises(AccessDeniedError):
        mine.call(AwsCall("s3", "CreateBucket", {"Bucket": "another"}))
    assert outcome(lambda: store.get_object(Bucket="not-ours", Key="x")) == "403"
    assert outcome(lambda: store.delete_bucket(Bucket=BUCKET)) == "403"


def test_the_manager_removes_objects_of_scratch_schemas_only(manager: S3Connection) -> None:
    store = client(manager)
    seen = {}
    for schema in ("djops_smoke_1", "ephys"):
        at = {"Bucket": BUCKET, "Key": f"{LOCATION}/_schema/{schema}/removable"}
        version = store.put_object(**at, Body=b"x")["VersionId"]
        seen[schema] = [
            outcome(lambda at=at: store.delete_object(**at)),  # type: ignore[misc]
            outcome(lambda at=at, v=version: store.delete_object(**at, VersionId=v)),  # type: ignore[misc]
        ]
    assert seen == {"djops_smoke_1": ["ok", "ok"], "ephys": ["403", "403"]}


def test_a_bucket_is_mended(root: S3Connection) -> None:
    assert ensure_bucket(root, "mended")
    assert not ensure_bucket(root, "mended")
    store = client(root)
    store.put_bucket_versioning(Bucket="mended", VersioningConfiguration={"Status": "Suspended"})
    store.delete_public_access_block(Bucket="mended")
    assert S3(root).bucket("mended") == Bucket(versioned=False, blocks_public=False)
    assert ensure_bucket(root, "mended")
    assert S3(root).bucket("mended") == Bucket()


@pytest.mark.parametrize(
    ("action", "parameters", "said"),
    [
        ("GetUser", {"UserName": "nobody"}, "NoSuchEntity"),
        ("CreateUser", {"UserName": "ANALYST", "Path": f"/djops/{PROJECT}/"}, "EntityAlreadyExists"),
        ("CreateUser", {"UserName": "a b", "Path": f"/djops/{PROJECT}/"}, "InvalidInput"),
        (
            "PutUserPolicy",
            {"UserName": "analyst", "PolicyName": "x", "PolicyDocument": "{"},
            "MalformedPolicyDocument",
        ),
        ("DeleteUser", {"UserName": "analyst"}, "DeleteConflict"),
    ],
)
def test_what_it_says_to_mistakes(
    people: dict[str, Person], manager: S3Connection, action: str, parameters: dict[str, Any], said: str
) -> None:
    assert people
    with pytest.raises(ApplyError, match=said):
        S3(manager).call(AwsCall("iam", action, parameters))


def test_four_keys_are_the_limit(manager: S3Connection) -> None:
    who = {"UserName": "collector"}
    S3(manager).call(AwsCall("iam", "CreateUser", {**who, "Path": f"/djops/{PROJECT}/"}))
    for _ in range(4):
        S3(manager).call(AwsCall("iam", "CreateAccessKey", who))
    with pytest.raises(ApplyError, match="LimitExceeded"):
        S3(manager).call(AwsCall("iam", "CreateAccessKey", who))


def test_a_wrong_key_is_told_apart(manager: S3Connection) -> None:
    for wrong in (replace(manager, access_key="NOBODY"), replace(manager, secret_key=Secret("wrong"))):
        with pytest.raises(AccessDeniedError, match="refused djops' access key"):
            S3(wrong).user("analyst")


def test_its_certificate_names_it(lab: Lab) -> None:
    at = ("127.0.0.1", lab.ports["s3_tls"])
    known = ssl.create_default_context(cafile=str(lab.ca))
    with (
        socket.create_connection(at, timeout=5) as plain,
        known.wrap_socket(plain, server_hostname=at[0]) as s,
    ):
        assert s.version() in ("TLSv1.2", "TLSv1.3")
    with socket.create_connection(at, timeout=5) as plain, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(plain, server_hostname=at[0])


def test_only_its_account_can_read_its_files(server: CephServer, lab: Lab) -> None:
    state = lab.state("ceph")
    for path in (state, *state.rglob("*")):
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode):
            # Directories further down are out of reach.
            assert (path.is_dir() and path.parent != state) or not status.st_mode & 0o077, path
            assert status.st_uid == lab.account.uid, path
    assert stat.S_IMODE((lab.secrets / "s3-root.json").stat().st_mode) == 0o600
    assert not list(state.rglob("first.keyring"))


def test_it_listens_on_loopback_only_and_runs_as_its_account(server: CephServer, lab: Lab) -> None:
    running = processes_of(lab.directory)
    assert len(running) == len(DAEMONS)
    kept = [read_json(lab.secrets / f"s3-{who}.json") or {} for who in ("root", "manager")]
    for one in running:
        assert Path(f"/proc/{one.pid}").stat().st_uid == lab.account.uid
        assert not any(keys["secret_key"] in " ".join(one.arguments) for keys in kept)
        inodes = {str(fd.readlink()) for fd in Path(f"/proc/{one.pid}/fd").iterdir()}
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    assert fields[1].startswith("0100007F:"), line


def test_the_catalogues_room_is_taken(server: CephServer, lab: Lab) -> None:
    """On a full disk a block store in a sparse file forgets what it has acknowledged."""
    status = (lab.state("ceph") / "data" / "osd" / "block.db").stat()
    assert status.st_size >= 1 << 30
    assert status.st_blocks * 512 >= status.st_size


def test_up_again_changes_nothing(server: CephServer, lab: Lab) -> None:
    before = {path: path.read_bytes() for path in lab.secrets.iterdir()}
    pids = {one.pid for one in processes_of(lab.directory)}
    bring_up(server)
    assert {path: path.read_bytes() for path in lab.secrets.iterdir()} == before
    assert {one.pid for one in processes_of(lab.directory)} == pids


def test_a_key_lost_on_its_way_is_replaced(server: CephServer, lab: Lab, root: S3Connection) -> None:
    old = read_json(lab.secrets / "s3-manager.json")
    lost = S3(root).call(AwsCall("iam", "CreateAccessKey", {"UserName": MANAGER}))["AccessKey"]["AccessKeyId"]
    server.bootstrap()
    assert set(S3(root).user(MANAGER).keys) == {(old or {})["access_key"]}
    # Killed after the key was made and before it was kept:
    (lab.secrets / "s3-manager.json").unlink()
    server.bootstrap()
    new = read_json(lab.secrets / "s3-manager.json") or {}
    assert set(S3(root).user(MANAGER).keys) == {new["access_key"]}
    assert new["access_key"] not in (lost, (old or {})["access_key"])
    # The other tests go on with the old connection otherwise.
    assert ceph.connection(lab).access_key == new["access_key"]


def test_roots_key_is_found_again(server: CephServer, lab: Lab) -> None:
    file = lab.secrets / "s3-root.json"
    before = read_json(file)
    file.unlink()
    server.bootstrap()
    assert read_json(file) == before
    write_json(file, {"access_key": "GONE", "secret_key": "gone"})
    server.bootstrap()
    assert read_json(file) == before


def _kill(server: CephServer, lab: Lab, *daemons: str) -> None:
    for daemon in daemons:
        pid = process.running_pid(server._pid_file(daemon), lab.account)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(server._alive(daemon) for daemon in daemons):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("victims", [("rgw",), ("osd",), ("mon",), DAEMONS], ids=" ".join)
def test_it_comes_back_after_kill_9(server: CephServer, lab: Lab, victims: tuple[str, ...]) -> None:
    store = client(ceph.connection(lab))
    key = f"{LOCATION}/_hash/ephys/{'-'.join(victims)}"
    store.put_object(Bucket=BUCKET, Key=key, Body=b"acknowledged")
    _kill(server, lab, *victims)
    assert not server.running()
    bring_up(server)
    assert store.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"acknowledged"


def test_health_is_told_while_the_block_store_is_away(server: CephServer, lab: Lab) -> None:
    _kill(server, lab, "osd")
    began = time.monotonic()
    assert not server.ready()
    assert time.monotonic() - began < 30
    assert server.log.name == "osd.log"
    bring_up(server)


def test_it_stops_and_starts(server: CephServer, lab: Lab) -> None:
    server.stop()
    assert not server.running()
    assert not server.ready()
    assert not processes_of(lab.directory)
    server.stop()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", lab.ports["s3_mon"]))
        squatter.listen()
        with pytest.raises(StartError, match=f"port {lab.ports['s3_mon']}") as caught:
            server.start()
        assert caught.value.code == "E_PORT"
    bring_up(server)


def test_a_killed_initialisation_is_done_again() -> None:
    with data_home():
        lab = bare_lab(CephServer, "killed")
        made = CephServer(lab)
        state = lab.state("ceph")
        (state / "data.new" / "osd").mkdir(parents=True)
        (state / "data.new" / "osd" / "block").write_bytes(b"half")
        try:
            bring_up(made)
            assert made.running()
            assert not (state / "data.new").exists()
        finally:
            made.stop()
            kill_all(lab.directory)


def test_it_says_when_it_was_never_up(tmp_path: Path) -> None:
    lab = Lab(tmp_path, PROJECT, "local", server_account())
    with pytest.raises(DjopsError) as caught:
        ceph.connection(lab)
    assert caught.value.code == "E_NOT_UP"
