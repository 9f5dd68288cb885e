"""What is wrong with secrets is found on real servers, and mended by the command that is named."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest

from djops.compile.vault import MOUNT
from djops.errors import ConfigError, ConflictError, DjopsError, NotManagedError, UsageError
from djops.plan.operations import VaultCall
from djops.services import access, secrets_audit, secrets_export, secrets_sync
from djops.systems import encryption, passwords
from tests.conftest import LabUnderTest
from tests.support.cli import invoke
from tests.support.ground import Ground, ground_of
from tests.support.projects import pipeline

GRAPH = pipeline({"audited_a": ()}, ["audited_a.#thing"])
GRANT = [{"role": "viewer", "on": "audited_a"}]
PEOPLE = {"ann": GRANT, "bea": GRANT}
ANN, BEA = "demo_lab/people/ann", "demo_lab/people/bea"


@pytest.fixture(scope="module")
def made(lab: LabUnderTest) -> Iterator[Ground]:
    with ground_of(lab, GRAPH, ["audited_a.`#thing` (x INT PRIMARY KEY)"]) as ground:
        ground.people(PEOPLE)
        yield ground


@pytest.fixture
def ground(made: Ground) -> Ground:
    made.people(PEOPLE)
    made.apply()
    return made


def found(ground: Ground, **options: object) -> set[tuple[str, str, str]]:
    """Return severity, kind and person of everything that asks for attention."""
    audit = secrets_audit.audit(ground.servers, ground.wanted, **options)  # type: ignore[arg-type]
    for path in (ANN, BEA):
        stored = ground.servers.secrets.read_secret(path)
        for name, value in stored.fields.items() if stored else ():
            assert name == "database.user" or value not in repr(audit).replace("its access key " + value, "")
    return {(one.severity, one.kind, one.who) for one in audit.findings if one.severity != "note"}


def sync(ground: Ground) -> secrets_sync.Sync:
    with ground.servers.changing("secrets sync", 10):
        planned = secrets_sync.make_plan(ground.servers, ground.wanted)
        access.apply(ground.servers, planned.plan)
    return planned


def test_nothing_is_found_where_all_is_well(ground: Ground) -> None:
    assert found(ground) == set()
    audit = secrets_audit.audit(ground.servers, ground.wanted)
    assert audit.looked_at == 2
    assert not audit.asks_attention
    assert any("last used" in one for one in audit.not_told)
    assert {one.kind for one in audit.findings} == {"SEAL"}


def test_what_is_missing_is_made_by_sync_which_leaves_rights_alone(ground: Ground) -> None:
    ground.servers.secrets.delete_secret_completely(ANN)
    assert found(ground) == {("high", "MISSING", "ann")}
    assert sync(ground).plan.changes
    assert found(ground) == set()
    assert access.make_plan(ground.servers, ground.wanted).is_empty


def test_sync_makes_nobody(ground: Ground) -> None:
    ground.people({**PEOPLE, "cleo": GRANT})
    assert found(ground) == {("high", "MISSING", "cleo")}
    planned = sync(ground)
    assert not planned.plan.changes or planned.left
    assert "cleo" not in {name.user for name in ground.servers.mysql.read_state().accounts}


def test_a_shared_secret_is_found_at_both(ground: Ground) -> None:
    stored = ground.servers.secrets.read_secret(ANN)
    assert stored is not None
    shared = {"database.password": stored.fields["database.password"]}
    ground.servers.secrets.merge_secret(BEA, shared)
    assert found(ground) == {("high", "SHARED", "ann"), ("high", "SHARED", "bea")}
    ground.servers.secrets.merge_secret(BEA, {"database.password": passwords.generate()})
    assert found(ground) == set()
    ground.servers.secrets.delete_secret_completely(BEA)


def test_a_name_that_chance_made_is_not_weak(ground: Ground) -> None:
    stored = ground.servers.secrets.read_secret(ANN)
    assert stored is not None
    chance = {"database.password": "q7-VZannT2x.kPbeaW9_mJ4+hRs6Gd3c"}
    ground.servers.secrets.merge_secret(ANN, chance)
    assert ("high", "WEAK", "ann") not in found(ground)
    ground.servers.secrets.merge_secret(ANN, {name: stored.fields[name] for name in chance})


@pytest.mark.parametrize("weak", ["Ephys-2024", "aaaaaaaaaaaaaaaaaaaaaaaa", "0192837465-Ann-qwertzuiop"])
def test_a_weak_one_is_found(ground: Ground, weak: str) -> None:
    stored = ground.servers.secrets.read_secret(ANN)
    assert stored is not None
    ground.servers.secrets.merge_secret(ANN, {"database.password": weak})
    assert found(ground) == {("high", "WEAK", "ann")}
    ground.servers.secrets.merge_secret(ANN, {"database.password": stored.fields["database.password"]})


def test_a_stale_one_is_found(ground: Ground) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=31)
    stale = {("medium", "STALE", "ann"), ("medium", "STALE", "bea")}
    assert found(ground, now=later, max_age=30) == stale
    assert found(ground, now=later, max_age=32) == set()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "djops-demo_lab-nosy",
            'path "djops/data/demo_lab/people/*" { capabilities = ["read"] }',
            {"ann", "bea"},
        ),
        ("djops-demo_lab-nosy", 'path "djops/+/+/+/ann" { capabilities = ["update"] }', {"ann"}),
        ("djops-demo_lab-ann", f'path "{MOUNT}/data/{ANN}" {{ capabilities = ["read", "delete"] }}', {"ann"}),
    ],
)
def test_who_else_may_read_is_found_and_sync_ends_it(
    ground: Ground, name: str, text: str, expected: set[str]
) -> None:
    access.execute(ground.servers, VaultCall("PUT", f"sys/policies/acl/{name}", {"policy": text}))
    assert {who for _, kind, who in found(ground) if kind == "READABLE"} == expected
    assert sync(ground).plan.changes
    assert found(ground) == set()


def test_the_reader_of_policies_agrees_with_the_server(ground: Ground) -> None:
    """The server itself is asked what a token with a policy may do."""
    from djops.proof.vault_policies import opened_by, read_policy

    name, path = "djops-demo_lab-judge", f"{MOUNT}/data/{ANN}"
    texts = [
        'path "djops/data/demo_lab/people/*" { capabilities = ["read"] }',
        'path "djops/data/+/people/ann" { capabilities = ["read"] }\npath "djops/data/*" { policy = "deny" }',
        f'path "djops/*" {{ capabilities = ["read"] }}\npath "{path}" {{ capabilities = ["deny"] }}',
        'path "djops/data/+/people/ann" { capabilities = ["deny"] }\n'
        'path "djops/data/demo_lab/+/ann" { capabilities = ["read"] }',
        'path "djops/data/demo_lab/people/a*" { capabilities = ["deny"] }\n'
        'path "djops/data/demo_lab/people/an*" { capabilities = ["read"] }',
        'path "djops/data/demo_lab/people/an+" { capabilities = ["read"] }',
    ]
    try:
        for text in texts:
            access.execute(ground.servers, VaultCall("PUT", f"sys/policies/acl/{name}", {"policy": text}))
            token = ground.servers.secrets.mint_token([name], 60)
            assert ("read" in opened_by(read_policy(text), path)) == ground.servers.secrets.opens(
                token, path
            ), text
    finally:
        access.execute(ground.servers, VaultCall("DELETE", f"sys/policies/acl/{name}"))


def test_the_command_tells_it(ground: Ground) -> None:
    told = invoke("secrets", "audit", "--json", "-C", ground.servers.site.project_file.parent)
    assert told.status in (0, 2)
    # The project file has other people than the servers have now: theirs are missing.
    assert {one["kind"] for one in told.answer["data"]["findings"]} >= {"SEAL"}


def test_an_export_comes_back_by_either_kind_of_key(ground: Ground, tmp_path: Path, gpg_key: str) -> None:
    site, secrets = ground.servers.site, ground.servers.secrets
    secrets_export.export(site, tmp_path / "saved.gpg", "gpg", gpg_key)
    identity = pyrage.x25519.Identity.generate()
    secrets_export.export(site, tmp_path / "saved.age", "age", str(identity.to_public()))
    (tmp_path / "key").write_text(str(identity))
    for name, key in (("saved.gpg", None), ("saved.age", tmp_path / "key")):
        for path in (ANN, BEA):
            secrets.delete_secret_completely(path)
        access.execute(ground.servers, VaultCall("DELETE", "sys/policies/acl/djops-demo_lab-ann"))
        kept = secrets_export.open_export(site, tmp_path / name, key)
        assert "database.password" not in repr(kept)
        done = secrets_export.restore(site, kept)
        assert {ANN, BEA} <= set(done.written)
        assert done.policies == ("djops-demo_lab-ann",)
        assert access.make_plan(ground.servers, ground.wanted).is_empty
    secrets.merge_secret(ANN, {"database.password": passwords.generate()})
    with pytest.raises(ConflictError, match=ANN):
        secrets_export.restore(site, kept)
    assert secrets_export.restore(site, kept, overwrite=True).written == (ANN,)


@pytest.fixture
def gpg_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A key in a keyring of the test's own, by its fingerprint."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("GNUPGHOME", str(tmp_path))
    gpg = ["gpg", "--batch", "--quiet", "--passphrase", ""]
    make = ["--quick-gen-key", "lab@example.org", "future-default", "default", "never"]
    subprocess.run([*gpg, *make], check=True, capture_output=True)
    listed = subprocess.run(
        [*gpg, "--with-colons", "--list-keys"], check=True, capture_output=True, text=True
    )
    yield next(line.split(":")[9] for line in listed.stdout.splitlines() if line.startswith("fpr"))
    subprocess.run(["gpgconf", "--kill", "all"], check=True)


def test_what_cannot_be_right_is_refused_before_a_secret_is_read(ground: Ground, tmp_path: Path) -> None:
    site, there = ground.servers.site, tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(NotManagedError):
        secrets_export.export(site, there, "age", "age1x")
    for method, key in (("age", "age1x"), ("gpg", "nobody@nowhere.invalid")):
        with pytest.raises(UsageError) as caught:
            secrets_export.export(site, tmp_path / "new", method, key)  # type: ignore[arg-type]
        assert caught.value.code == "E_RECIPIENT"
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_not_right_is_refused(ground: Ground, tmp_path: Path) -> None:
    site = ground.servers.site
    mine, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    (tmp_path / "mine").write_text(str(mine))
    (tmp_path / "other").write_text(str(other))
    public = str(mine.to_public())
    head = b'{"djops_secrets": 1, "project": "other", "environment": "x", "made": "", '
    foreign = head + b'"secrets": {}, "policies": {}}'
    reaching = foreign.replace(b'"other"', b'"demo_lab"').replace(
        b'"secrets": {}', b'"secrets": {"elsewhere/people/ann": {"fields": {}, "facts": {}}}'
    )
    for content in (b"{}", b"no json", foreign, reaching):
        (tmp_path / "file").write_bytes(encryption.encrypt_age(content, public))
        with pytest.raises(ConfigError) as caught:
            secrets_export.open_export(site, tmp_path / "file", tmp_path / "mine")
        assert caught.value.code == "E_EXPORT"
    for key, code in (
        (tmp_path / "other", "E_DECRYPT"),
        (None, "E_IDENTITY"),
        (tmp_path / "no", "E_IDENTITY"),
    ):
        with pytest.raises(DjopsError) as failed:
            secrets_export.open_export(site, tmp_path / "file", key)
        assert failed.value.code == code
    (tmp_path / "bad").write_text("AGE-SECRET-KEY-1NOTAKEY")
    with pytest.raises(ConfigError) as refused:
        secrets_export.open_export(site, tmp_path / "file", tmp_path / "bad")
    assert "NOTAKEY" not in str(refused.value) + str(refused.value.__cause__)
