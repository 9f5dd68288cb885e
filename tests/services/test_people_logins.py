"""A person logs in to the local lab's secrets server with a password of her own, and gets hers alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from djops.compile.vault import LOGINS
from djops.errors import AccessDeniedError
from djops.systems.connections import Secret
from djops.systems.links import LinkServer
from djops.systems.vault import Secrets
from tests.conftest import LabUnderTest
from tests.support.cli import Run, invoke
from tests.support.demo import DemoUnderTest, demo_in

TYPED, OTHER = "correct horse 7 staple", "battery 9 of another kind"
USER, OWN, ANOTHERS = (
    "djops-demo_lab-alice",
    "djops/data/demo_lab/people/alice",
    "djops/data/demo_lab/people/bob",
)


@pytest.fixture(scope="module")
def up(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUnderTest]:
    with demo_in(lab, tmp_path_factory.mktemp("here")) as found:
        yield found


def test_she_fetches_her_own_secrets_until_she_leaves(up: DemoUnderTest, tmp_path: Path) -> None:
    def run(*arguments: str | Path) -> Run:
        return invoke(*arguments, "-C", up.site.project_file.parent)

    def login(who: str, password: str) -> Run:
        (tmp_path / "typed").write_text(f"{password}\n")
        return run("secrets", "login", who, tmp_path / "typed", "--json")

    def token(password: str) -> Secret:
        return server.log_in("userpass", "userpass", USER, Secret(password))

    server = LinkServer(up.site.secrets.address, up.site.secrets.ca)
    file = up.site.project_file
    file.write_text(file.read_text().replace("target: local", "target: local, login: {method: userpass}", 1))
    for who, password, code in (("alice", "short", "E_WEAK"), ("alice", "alice alice alice", "E_WEAK"),
                                ("nobody", TYPED, "E_NO_PRINCIPAL")):  # fmt: skip
        assert login(who, password).answer["errors"][0]["code"] == code
    for password in (OTHER, TYPED):
        done = login("alice", password)
        assert (done.status, password in done.stdout + done.stderr) == (0, False), done.stdout
    assert run("plan").status == 0
    pages = ("--pages", tmp_path, "--to", tmp_path / "links")
    assert run("onboard", "alice", *pages, "--yes").status == 0
    work = ("--page", tmp_path / "alice", "--to", tmp_path / "work", "--json")
    fetched = invoke("welcome", "--login", tmp_path / "typed", *work)
    assert (fetched.status, fetched.answer["data"]["database"]["works"]) == (0, True), fetched.stdout
    with pytest.raises(AccessDeniedError):
        token(OTHER)
    held = token(TYPED)
    assert server.read(held, OWN)["database.user"] == "alice"
    with pytest.raises(AccessDeniedError):
        server.read(held, ANOTHERS)
    with Secrets(up.site.secrets) as session:
        session.request("POST", f"{LOGINS}/{USER}", {"token_policies": ["djops-demo_lab-bob"]})
    assert run("plan").status == 2
    assert run("apply", "--yes").status == 0
    with pytest.raises(AccessDeniedError):
        server.read(token(TYPED), ANOTHERS)
    assert run("users", "remove", "alice", "--yes").status == 0
    with pytest.raises(AccessDeniedError):
        token(TYPED)
    assert run("plan").status == 0
