"""The secrets server's client against the real server."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from djops.compile.vault import policy_name, policy_text
from djops.errors import AccessDeniedError, ConflictError, DjopsError, ServerUnavailableError
from djops.plan.operations import VaultCall
from djops.systems.connections import Secret
from djops.systems.local.openbao import OpenBaoServer, connection
from djops.systems.ports import free_ports
from djops.systems.vault import Secrets

ALICE, BOB = "vt/people/alice", "vt/people/bob"


@pytest.fixture(autouse=True)
def clean(secrets: Secrets) -> Iterator[None]:
    yield
    for project in ("vt", "vt-x"):
        for kind in ("people", "services"):
            for name in secrets.list_secrets(f"{project}/{kind}"):
                secrets.delete_secret_completely(f"{project}/{kind}/{name}")
    for policy in secrets.read_policies("djops-vt"):
        secrets.request("DELETE", f"sys/policies/acl/{policy}")


def as_principal(server: OpenBaoServer, token: Secret) -> Secrets:
    """Return a session that holds a principal's token in the place of djops' own."""
    session = Secrets(connection(server.lab))
    session._client.token = token.reveal()
    session._expires = time.monotonic() + 60
    return session


def write_policy(secrets: Secrets, name: str, text: str) -> None:
    secrets.run(VaultCall("PUT", f"sys/policies/acl/{name}", {"policy": text}))


# The key-value engine


def test_a_secret_is_written_read_and_forgotten(secrets: Secrets) -> None:
    assert secrets.read_secret(ALICE) is None
    assert secrets.write_secret(ALICE, {"database.user": "alice"}, 0) == 1
    stored = secrets.read_secret(ALICE)
    assert stored is not None
    assert (dict(stored.fields), stored.version) == ({"database.user": "alice"}, 1)
    secrets.delete_secret_completely(ALICE)
    assert secrets.read_secret(ALICE) is None
    assert secrets.read_metadata(ALICE) is None
    secrets.delete_secret_completely(ALICE)


def test_what_was_read_does_not_print_itself(secrets: Secrets) -> None:
    secrets.write_secret(ALICE, {"database.password": "hush-4711"}, 0)
    assert "hush-4711" not in repr(secrets.read_secret(ALICE))


@pytest.mark.parametrize("cas", [0, 2, 7])
def test_writing_over_another_version_is_a_conflict(secrets: Secrets, cas: int) -> None:
    secrets.write_secret(ALICE, {"a": "1"}, 0)
    with pytest.raises(ConflictError) as error:
        secrets.write_secret(ALICE, {"a": "2"}, cas)
    assert error.value.code == "E_CONFLICT"
    stored = secrets.read_secret(ALICE)
    assert stored is not None
    assert stored.fields == {"a": "1"}


def test_merging_keeps_other_fields_and_writes_only_differences(secrets: Secrets) -> None:
    secrets.write_secret(ALICE, {"a": "1", "b": "2"}, 0)
    assert secrets.merge_secret(ALICE, {"b": "3", "c": "4"}) == 2
    assert secrets.merge_secret(ALICE, {"b": "3"}) == 2
    assert secrets.merge_secret(ALICE, {"a": None}) == 3
    stored = secrets.read_secret(ALICE)
    assert stored is not None
    assert stored.fields == {"b": "3", "c": "4"}


def test_merging_into_nothing_makes_the_secret(secrets: Secrets) -> None:
    assert secrets.merge_secret(ALICE, {"a": "1"}) == 1


def test_merging_at_the_same_time_loses_nothing(secrets: Secrets, openbao: OpenBaoServer) -> None:
    def merge(number: int) -> None:
        with Secrets(connection(openbao.lab)) as own:
            own.merge_secret(ALICE, {f"field{number}": str(number)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(merge, range(4)))
    stored = secrets.read_secret(ALICE)
    assert stored is not None
    assert stored.fields == {f"field{number}": str(number) for number in range(4)}


def test_merging_into_a_deleted_version_goes_on_from_its_number(secrets: Secrets) -> None:
    secrets.write_secret(ALICE, {"a": "1"}, 0)
    secrets.request("DELETE", f"djops/data/{ALICE}")
    stored = secrets.read_secret(ALICE)
    assert stored is not None
    assert (stored.fields, stored.version) == ({}, 1)
    assert secrets.merge_secret(ALICE, {"b": "2"}) == 2


def test_facts_stand_beside_the_secret(secrets: Secrets) -> None:
    secrets.write_secret(ALICE, {"a": "1"}, 0)
    secrets.write_metadata(ALICE, {"main.access_key": "AKIA1"})
    facts = secrets.read_metadata(ALICE)
    assert facts is not None
    assert (facts.facts, facts.version, facts.readable) == ({"main.access_key": "AKIA1"}, 1, True)
    secrets.merge_secret(ALICE, {"a": "2"})
    kept = secrets.read_metadata(ALICE)
    assert kept is not None
    assert (kept.facts, kept.version) == ({"main.access_key": "AKIA1"}, 2)


# The state of a project


@pytest.fixture
def two_projects(secrets: Secrets) -> None:
    """A project, and another whose name begins like a principal of the first."""
    for project, kind, name in [
        ("vt", "people", "alice"),
        ("vt", "people", "Bob.B"),
        ("vt", "services", "nightly"),
        ("vt-x", "people", "alice"),
    ]:
        path = f"{project}/{kind}/{name}"
        secrets.write_secret(path, {"database.user": name}, 0)
        secrets.write_metadata(path, {"of": name})
        write_policy(secrets, policy_name(project, name), policy_text(path))
    secrets.write_secret("vt/people/gone", {"a": "1"}, 0)
    secrets.request("DELETE", "djops/data/vt/people/gone")
    secrets.write_metadata("vt/people/never", {"a": "1"})
    write_policy(secrets, "djops-vt-byhand", 'path "x" { capabilities = ["read"] }')


@pytest.mark.usefixtures("two_projects")
def test_the_state_is_the_projects_own_and_holds_no_secret(secrets: Secrets) -> None:
    state = secrets.state("vt")
    assert state.secrets == {
        "vt/people/alice": {"of": "alice"},
        "vt/people/Bob.B": {"of": "Bob.B"},
        "vt/services/nightly": {"of": "nightly"},
    }
    assert set(state.policies) == {"djops-vt-alice", "djops-vt-bob.b", "djops-vt-nightly", "djops-vt-byhand"}
    assert state.policies["djops-vt-alice"] == policy_text(ALICE)
    assert set(secrets.state("vt-x").policies) == {"djops-vt-x-alice"}


@pytest.mark.usefixtures("two_projects")
def test_a_server_without_detailed_listings_gives_the_same_state(
    secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = secrets.state("vt")
    asked: list[str] = []
    monkeypatch.setattr(Secrets, "_details", lambda self, path: asked.append(path))
    assert secrets.state("vt") == wanted
    assert len(asked) == 3


def test_an_unknown_listing_is_told_from_an_empty_one(secrets: Secrets) -> None:
    assert secrets._details("djops/detailed-metadata/vt/nothing") == {}
    assert secrets._details("djops/no-such-listing/vt") is None


def test_nothing_is_an_empty_state(secrets: Secrets) -> None:
    state = secrets.state("vt")
    assert (dict(state.policies), dict(state.secrets)) == ({}, {})


# Rights


def test_a_principal_reads_its_own_and_nothing_else(secrets: Secrets, openbao: OpenBaoServer) -> None:
    for path, name in ((ALICE, "alice"), (BOB, "bob")):
        secrets.write_secret(path, {"database.user": name}, 0)
        write_policy(secrets, policy_name("vt", name), policy_text(path))
    token = secrets.mint_token([policy_name("vt", "bob")], 60)
    bob = as_principal(openbao, token)
    own = bob.read_secret(BOB)
    assert own is not None
    assert own.fields == {"database.user": "bob"}
    for attempt in (
        lambda: bob.read_secret(ALICE),
        lambda: bob.write_secret(BOB, {"a": "b"}, 1),
        lambda: bob.write_metadata(BOB, {"a": "b"}),
        lambda: bob.list_secrets("vt/people"),
        lambda: bob.read_metadata(BOB),
        lambda: bob.request("LIST", "sys/policies/acl"),
        lambda: bob.request("POST", "auth/token/create", {}),
    ):
        with pytest.raises(AccessDeniedError):
            attempt()
    secrets.revoke_token(token)
    with pytest.raises(AccessDeniedError):
        bob.read_secret(BOB)
    secrets.revoke_token(token)


FORBIDDEN: dict[str, tuple[str, str, dict[str, object] | None]] = {
    "see authentication": ("GET", "sys/auth", None),
    "see mounts": ("GET", "sys/mounts", None),
    "add a mount": ("POST", "sys/mounts/other", {"type": "kv"}),
    "make a child token": ("POST", "auth/token/create", {}),
    "make a root token": ("POST", "auth/token/create", {"policies": ["root"]}),
    "make an orphan": ("POST", "auth/token/create-orphan", {}),
    "see its own policy": ("GET", "sys/policies/acl/manager", None),
    "rewrite its own policy": ("PUT", "sys/policies/acl/manager", {"policy": 'path "*" {}'}),
    "rewrite the default policy": ("PUT", "sys/policies/acl/default", {"policy": 'path "*" {}'}),
    "widen the token role": ("POST", "auth/token/roles/djops-principal", {"allowed_policies_glob": ["*"]}),
    "widen its own log-in": ("POST", "auth/approle/role/djops", {"token_policies": ["root"]}),
    "reach another database": ("POST", "djops-database/config/other", {"plugin_name": "x"}),
    "read what a service is lent": ("GET", "djops-database/creds/djops-demo_lab-worker", None),
    "make somebody else a secret id": ("POST", "auth/approle/role/other/secret-id", {}),
    "see audit devices": ("GET", "sys/audit", None),
    "seal": ("PUT", "sys/seal", None),
    "take a snapshot": ("GET", "sys/storage/raft/snapshot", None),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_djops_may_not(secrets: Secrets, what: str) -> None:
    method, path, body = FORBIDDEN[what]
    with pytest.raises(AccessDeniedError) as error:
        secrets.request(method, path, body)
    assert error.value.code == "E_DENIED"


@pytest.mark.parametrize("policies", [["root"], ["manager"], ["djops-vt-alice", "manager"]])
def test_djops_makes_tokens_of_its_own_policies_only(secrets: Secrets, policies: list[str]) -> None:
    with pytest.raises(DjopsError, match="glob policies"):
        secrets.mint_token(policies, 60)


def test_a_minted_token_ends_within_a_day_and_without_djops(openbao: OpenBaoServer) -> None:
    with Secrets(connection(openbao.lab)) as session:
        token = session.mint_token(["djops-vt-alice"], 10_000_000)
    answer = as_principal(openbao, token).request("GET", "auth/token/lookup-self")
    assert answer is not None
    data = answer["data"]
    assert data["orphan"] is True
    assert data["ttl"] <= 8 * 3600
    assert sorted(data["policies"]) == ["default", "djops-vt-alice"]


def test_the_session_gives_its_token_back(openbao: OpenBaoServer) -> None:
    with Secrets(connection(openbao.lab)) as session:
        token = session.token()
    with pytest.raises(AccessDeniedError):
        as_principal(openbao, token).request("GET", "auth/token/lookup-self")


def test_an_expired_session_logs_in_again(secrets: Secrets) -> None:
    secrets.revoke_token(secrets.token())
    secrets._expires = 0
    assert secrets.list_secrets("vt") == []


# Bad days


def test_a_wrong_secret_id_is_told_without_showing_it(openbao: OpenBaoServer) -> None:
    wrong = replace(connection(openbao.lab), secret_id=Secret("wrong-secret-id-815"))
    with pytest.raises(AccessDeniedError) as error, Secrets(wrong) as session:
        session.state("vt")
    assert error.value.where == openbao.endpoint()
    assert "wrong-secret-id-815" not in "".join(traceback.format_exception(error.value))


def test_a_server_that_is_gone(openbao: OpenBaoServer) -> None:
    gone = replace(connection(openbao.lab), address=f"https://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(ServerUnavailableError) as error, Secrets(gone) as session:
        session.login()
    assert error.value.code == "E_SERVER"


def test_a_certificate_of_another_authority(openbao: OpenBaoServer, tmp_path: Path) -> None:
    from djops.systems import tls

    tls.ensure(tmp_path, "other", openbao.lab.account)
    other = replace(connection(openbao.lab), ca=tmp_path / "ca.pem")
    with pytest.raises(ServerUnavailableError) as error, Secrets(other) as session:
        session.login()
    assert error.value.code == "E_TLS"


def test_the_users_own_environment_does_not_matter(
    openbao: OpenBaoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "VAULT_CACERT"):
        monkeypatch.setenv(name, str(tmp_path / "none.pem"))
    monkeypatch.setenv("VAULT_TOKEN", "not-a-token")
    monkeypatch.setenv("VAULT_NAMESPACE", "nowhere")
    with Secrets(connection(openbao.lab)) as session:
        assert session.list_secrets("vt") == []


@pytest.mark.parametrize("path", ["../sys/auth", "vt/../../sys", "vt//people", "vt/./x"])
def test_a_path_that_would_become_another_one_is_refused(secrets: Secrets, path: str) -> None:
    with pytest.raises(DjopsError) as error:
        secrets.read_secret(path)
    assert error.value.code == "E_SECRETS"


@pytest.mark.parametrize("name", ["a b", "ä%2f", "q?x=1", "h#h", 'q"uote', "50%"])
def test_hostile_names_are_only_names(secrets: Secrets, name: str) -> None:
    path = f"vt/people/{name}"
    secrets.write_secret(path, {"a": "ü'\"`%"}, 0)
    assert secrets.list_secrets("vt/people") == [name]
    stored = secrets.read_secret(path)
    assert stored is not None
    assert stored.fields == {"a": "ü'\"`%"}


ANSWERS: dict[str, tuple[Callable[[Secrets], object], object]] = {
    "nothing to read": (lambda session: session.request("GET", "sys/policies/acl/djops-vt-none"), None),
    "nothing to list": (lambda session: session.request("LIST", "djops/metadata/vt/none"), None),
    "nothing to delete": (lambda session: session.request("DELETE", "djops/metadata/vt/none"), None),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_nothing_there_is_no_error(secrets: Secrets, case: str) -> None:
    ask, wanted = ANSWERS[case]
    assert ask(secrets) is wanted


def test_a_policy_the_server_cannot_read_is_refused_with_its_reason(secrets: Secrets) -> None:
    with pytest.raises(DjopsError) as error:
        write_policy(secrets, "djops-vt-broken", json.dumps({"path": "nonsense"}) + "}")
    assert error.value.code == "E_SECRETS"
    assert "parse" in error.value.message
