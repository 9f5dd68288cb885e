"""Services' credentials on real servers: they log in by themselves, and what they are given ends in time."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import hvac
import hvac.exceptions
import pymysql
import pytest

from djops.compile.machines import PROCEDURES, SWEEP, engine_account, grant_engine
from djops.compile.mysql_state import AccountId
from djops.compile.sql import quote_account
from djops.errors import AccessDeniedError, ApplyError, ServerUnavailableError, UsageError
from djops.plan.drift_kinds import DriftKind
from djops.plan.mysql_changes import DropAccount, RevokeAll, RevokeRole
from djops.services import access, credentials, evidence, machines, rotation, secrets_audit, who
from djops.services.project import load_project
from djops.services.site import local_lab
from djops.systems import process
from djops.systems.local.openbao import OpenBaoServer
from djops.systems.vault import Secrets
from tests.conftest import LabUnderTest
from tests.support.ground import Ground, ground_of
from tests.support.leases import drops
from tests.support.projects import pipeline

GRAPH = pipeline({"machines_a": ()}, ["machines_a.#thing"])
READS = [{"role": "viewer", "on": "machines_a"}]
WRITES = [{"role": "operator", "on": "machines_a"}]
SERVICES: dict[str, dict[str, Any]] = {
    "leaser": {"grants": WRITES, "credentials": {"type": "dynamic", "default_ttl": "1h", "max_ttl": "2h"}},
    "steady": {"grants": READS, "credentials": {"type": "static", "rotation_period": "1d"}},
    "plain": {"grants": READS},
}
ENGINE = quote_account(*engine_account("demo_lab"))
PATIENCE = 60.0
Session: TypeAlias = "pymysql.Connection[pymysql.cursors.Cursor]"


@pytest.fixture(scope="module")
def made(lab: LabUnderTest) -> Iterator[Ground]:
    with ground_of(lab, GRAPH, ["machines_a.`#thing` (x INT PRIMARY KEY)"]) as ground:
        yield ground
    for statement in drops("demo_lab"):
        ground.root.query(statement)
    ground.root.close()


@pytest.fixture
def ground(made: Ground) -> Ground:
    made.people({"ada": READS}, services=SERVICES)
    made.apply()
    return made


@pytest.fixture
def log_in(ground: Ground, tmp_path: Path) -> Callable[[str], hvac.Client]:
    def as_service(name: str) -> hvac.Client:
        handed = machines.hand_out(ground.servers.site, name, directory=tmp_path / name / "secrets")
        site = ground.servers.site.secrets
        client = hvac.Client(site.address, verify=str(site.ca))
        role_id, secret_id = (file.read_text() for file in handed.files)
        client.auth.approle.login(role_id, secret_id)
        return client

    return as_service


def lease(client: hvac.Client) -> tuple[str, str]:
    given = client.read("djops-database/creds/djops-demo_lab-leaser")["data"]
    return given["username"], given["password"]


def fixed(client: hvac.Client) -> str:
    return str(client.read("djops-database/static-creds/djops-demo_lab-steady")["data"]["password"])


def session(ground: Ground, user: str, password: str) -> Session:
    at = ground.servers.site.mysql
    ca = {"ca": str(at.ca)}
    return pymysql.connect(host=at.host, port=at.port, ssl=ca, user=user, password=password, autocommit=True)


def rows(link: Session, text: str) -> tuple[Any, ...]:
    with link.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


def is_open(link: Session) -> bool:
    try:
        return rows(link, "SELECT 1") == ((1,),)
    except pymysql.MySQLError:
        return False


def accounts(ground: Ground) -> set[str]:
    found = ground.root.query("SELECT User FROM mysql.user WHERE User LIKE 'v-%'")
    return {str(user) for (user,) in found}


def change_password_of_engine(ground: Ground) -> None:
    """Do it until it shows: MySQL notes when a password was changed by the second."""
    account = engine_account("demo_lab")
    before = ground.servers.mysql.password_changed(account)

    def change() -> bool:
        ground.root.query(f"ALTER USER {ENGINE} IDENTIFIED BY 'somebody else knows it'")
        return ground.servers.mysql.password_changed(account) != before

    assert becomes_true(change)


def becomes_true(look: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE
    while not look():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def test_a_service_logs_in_and_reads_what_is_its_own(
    ground: Ground, log_in: Callable[[str], hvac.Client], tmp_path: Path
) -> None:
    client = log_in("leaser")
    assert [stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "leaser" / "secrets").iterdir()] == [
        0o600
    ] * 2
    user, password = lease(client)
    with session(ground, user, password) as link:
        assert rows(link, "SELECT CURRENT_ROLE()") == (("`leaser`@`%`",),)
        rows(link, "INSERT INTO machines_a.`#thing` VALUES (1)")
        rows(link, "DELETE FROM machines_a.`#thing`")
        with pytest.raises(pymysql.MySQLError):
            rows(link, "DROP TABLE machines_a.`#thing`")
    kept = client.read("djops/data/demo_lab/services/leaser")["data"]["data"]
    assert kept.keys() == {"stores.main.access_key", "stores.main.secret_key"}
    assert credentials.read(ground.servers.site, "leaser") == kept
    others = ["services/steady", "services/plain", "people/ada", "services/leaser/x"]
    for path in [
        *(f"djops/data/demo_lab/{name}" for name in others),
        "djops-database/static-creds/djops-demo_lab-steady",
        "djops-database/config/djops-demo_lab",
        "auth/approle/role/djops-demo_lab-leaser",
    ]:
        with pytest.raises(hvac.exceptions.Forbidden):
            client.read(path)
    with pytest.raises(hvac.exceptions.Forbidden):
        lease(log_in("steady"))
    assert log_in("plain").read("djops/data/demo_lab/services/plain")["data"]["data"]["database.password"]
    assert access.make_plan(ground.servers, ground.wanted).is_empty
    found = secrets_audit.audit(ground.servers, ground.wanted).findings
    assert {one.kind for one in found} <= {"SEAL", "UNUSED"}
    seen = evidence.gather(ground.servers, ground.wanted)
    assert {AccountId(user), engine_account("demo_lab")} <= seen.keepers
    assert user not in {one.who for one in who.matrix(ground.wanted, ["machines_a"], seen)}


def test_a_wrapped_secret_id_comes_out_once(ground: Ground) -> None:
    site = ground.servers.site
    handed = machines.hand_out(site, "plain", seconds=60)
    assert handed.wrapped is not None
    client = hvac.Client(site.secrets.address, handed.wrapped.token.reveal(), verify=str(site.secrets.ca))
    secret_id = client.sys.unwrap()["data"]["secret_id"]
    with pytest.raises(hvac.exceptions.VaultError):
        client.sys.unwrap()
    client.auth.approle.login(handed.role_id, secret_id)
    with pytest.raises(UsageError) as refused:
        machines.hand_out(site, "ada")
    assert refused.value.code == "E_NO_PRINCIPAL"


def test_with_the_lease_end_its_account_and_its_sessions(
    ground: Ground, log_in: Callable[[str], hvac.Client]
) -> None:
    short = {"type": "dynamic", "default_ttl": "2s", "max_ttl": "1h"}
    ground.people({}, services={**SERVICES, "leaser": {"grants": WRITES, "credentials": short}})
    ground.apply()
    user, password = lease(log_in("leaser"))
    link = session(ground, user, password)
    assert becomes_true(lambda: user not in accounts(ground))
    assert becomes_true(lambda: not is_open(link))
    with pytest.raises(pymysql.OperationalError):
        session(ground, user, password)


def test_both_passwords_hold_while_a_static_one_is_renewed(
    ground: Ground, log_in: Callable[[str], hvac.Client]
) -> None:
    client = log_in("steady")
    before = fixed(client)
    running = session(ground, "steady", before)
    with ground.servers.changing("rotate", 10):
        plan = rotation.begin(ground.servers, ground.wanted, ["steady"])
        access.apply(ground.servers, plan)
    after = fixed(client)
    assert after != before
    assert rows(running, "SELECT COUNT(*) FROM machines_a.`#thing`") == ((0,),)
    for password in (before, after):
        session(ground, "steady", password).close()
    assert access.make_plan(ground.servers, ground.wanted).is_empty


def test_an_account_that_was_not_leased_is_not_trusted(
    ground: Ground, log_in: Callable[[str], hvac.Client]
) -> None:
    user, password = lease(log_in("leaser"))
    genuine = session(ground, user, password)
    mark = '{"djops": {"kind": "lease", "project": "demo_lab", "service": "leaser"}}'
    forged, stranger = "v-leaser-forged", "v-leaser-stranger"
    ground.by_hand(
        [
            f"CREATE USER `{forged}` IDENTIFIED BY 'x' DEFAULT ROLE leaser ATTRIBUTE '{mark}'",
            f"CREATE USER `{stranger}` IDENTIFIED BY 'x' DEFAULT ROLE leaser",
            f"GRANT DROP ON machines_a.* TO `{user}`",
            f"ALTER USER `{user}` REQUIRE NONE",
        ]
    )
    try:
        other = session(ground, forged, "x")
        found = {(one.kind, one.object) for one in ground.look()}
        assert {
            (DriftKind.ACCOUNT_LEFT, forged),
            (DriftKind.GIVEN_AWAY, stranger),
            (DriftKind.NO_TLS, user),
        } <= found
        plan = ground.apply()
        assert any(isinstance(one, DropAccount) and one.name.user == forged for one in plan.changes)
        assert any(isinstance(one, RevokeRole) and AccountId(stranger) in one.members for one in plan.changes)
        assert any(isinstance(one, RevokeAll) and one.grantee.user == user for one in plan.changes)
        assert becomes_true(lambda: not is_open(other))
        assert user in accounts(ground) and forged not in accounts(ground)
        session(ground, user, password).close()
        assert access.make_plan(ground.servers, ground.wanted).is_empty
    finally:
        ground.root.query(f"DROP USER IF EXISTS `{forged}`, `{stranger}`")
        genuine.close()


def test_what_a_service_loses_its_leases_lose(
    ground: Ground, log_in: Callable[[str], hvac.Client], tmp_path: Path
) -> None:
    client = log_in("leaser")
    user, password = lease(client)
    link = session(ground, user, password)
    ground.people({}, services={**SERVICES, "leaser": {**SERVICES["leaser"], "grants": READS}})
    ground.apply()
    assert becomes_true(lambda: not is_open(link))
    with session(ground, user, password) as again, pytest.raises(pymysql.MySQLError):
        rows(again, "INSERT INTO machines_a.`#thing` VALUES (1)")
    link = session(ground, user, password)
    ground.people({}, services={})
    ground.apply()
    assert accounts(ground) == set()
    assert becomes_true(lambda: not is_open(link))
    with pytest.raises(hvac.exceptions.VaultError):
        lease(client)
    with pytest.raises(hvac.exceptions.VaultError):
        client.auth.approle.login(
            *(file.read_text() for file in sorted((tmp_path / "leaser/secrets").iterdir()))
        )
    state = ground.servers.secrets.state("demo_lab")
    assert not state.settings and not any("leaser" in name for name in state.policies)


@pytest.fixture
def engine(ground: Ground) -> Iterator[Session]:
    """The session of an engine whose password is known: of a project with one service of each kind."""
    project = "machines_and_a_long_name"
    account = quote_account(*engine_account(project))
    mark = '{"djops": {"kind": "service", "project": "%s", "engine": "%s"}}'
    ground.by_hand(
        [
            *(
                one
                for one in grant_engine(project, "'djops'@'%'")
                if one.startswith(("CREATE USER", "GRANT EXEC"))
            ),
            f"ALTER USER {account} IDENTIFIED BY 'known'",
            *(
                f"CREATE USER own_{way} IDENTIFIED BY 'x' ATTRIBUTE '{mark % (project, way)}'"
                for way in ("dynamic", "static")
            ),
        ]
    )
    with session(ground, engine_account(project).user, "known") as link:
        yield link
    ground.by_hand([f"DROP USER {account}, own_dynamic, own_static"])


def test_an_engine_can_touch_its_services_and_nobody_else(
    ground: Ground, engine: Session, log_in: Callable[[str], hvac.Client]
) -> None:
    lent, _ = lease(log_in("leaser"))
    names = ("end_lease", "lease_account", "renew_password")
    held = [line for (line,) in rows(engine, "SHOW GRANTS")]
    assert len(held) == 1 + len(names) and all(name in str(held) for name in names)
    mine = "'machines_and_a_long_name'"
    rows(engine, f"CALL djops.lease_account('v-own', 'secret', {mine}, 'own_dynamic', 60)")
    rows(engine, f"CALL djops.renew_password('secret', {mine}, 'own_static')")
    for call in (
        "lease_account('v-x', 'secret', 'demo_lab', 'leaser', 60)",
        f"lease_account('v-x', 'secret', {mine}, 'own_static', 60)",
        f"lease_account('v-x', 'secret', {mine}, 'leaser', 60)",
        f"lease_account('ada2', 'secret', {mine}, 'own_dynamic', 60)",
        "renew_password('secret', 'demo_lab', 'steady')",
        f"renew_password('secret', {mine}, 'own_dynamic')",
        f"renew_password('secret', {mine}, 'steady')",
        f"renew_password('secret', {mine}, 'ada')",
        f"renew_password('secret', {mine}, 'djops')",
        f"end_lease('{lent}')",
    ):
        with pytest.raises(pymysql.MySQLError, match=r"no service|not the name|of another project"):
            rows(engine, f"CALL djops.{call}")
    rows(engine, "CALL djops.end_lease('ada')")
    rows(engine, "CALL djops.end_lease('v-own')")
    left = ground.root.query("SELECT User FROM mysql.user WHERE User IN ('ada', 'ada2', 'v-x', 'v-own')")
    assert left == (("ada",),)
    assert accounts(ground) == {lent}
    for statement in ("CREATE USER x", "ALTER USER ada IDENTIFIED BY 'x'", "GRANT leaser TO own_static"):
        with pytest.raises(pymysql.MySQLError):
            rows(engine, statement)


def test_what_the_engine_needs_is_mended(
    ground: Ground, log_in: Callable[[str], hvac.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.root.query("DROP PROCEDURE djops.end_lease")
    with monkeypatch.context() as patch, pytest.raises(AccessDeniedError) as refused:
        patch.setattr(ground.servers, "site", replace(ground.servers.site, mysql_root=None))
        access.make_plan(ground.servers, ground.wanted)
    assert all(f"PROCEDURE `djops`.`{name}`" in str(refused.value.hint) for name in (*PROCEDURES, SWEEP))
    assert access.make_plan(ground.servers, ground.wanted).is_empty, "root mends what it made"
    assert "end_lease" in ground.servers.mysql.procedures()
    role = "auth/approle/role/djops-demo_lab-leaser"
    ground.servers.secrets.request("POST", role, {"token_policies": ["djops-demo_lab-ada"]})
    ground.servers.secrets.request("DELETE", "djops-database/roles/djops-demo_lab-leaser")
    change_password_of_engine(ground)
    ground.root.query("""ALTER USER steady ATTRIBUTE '{"djops": {"engine": null}}'""")
    found = {(one.kind, str(one.object)) for one in ground.look()}
    assert found == {
        (DriftKind.SERVICE_LOGIN, "djops-demo_lab-leaser"),
        (DriftKind.ENGINE, "djops-demo_lab-leaser"),
        (DriftKind.ENGINE, "djops-demo_lab"),
        (DriftKind.KEEPER, "steady"),
    }
    ground.apply()
    assert not ground.look()
    lease(log_in("leaser"))


@pytest.mark.parametrize("cut", ["config", "rotate-root"])
def test_a_connection_that_was_cut_short_is_made_anew(
    ground: Ground, log_in: Callable[[str], hvac.Client], monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    change_password_of_engine(ground)
    send = Secrets.request

    def request(self: Secrets, method: str, path: str, body: Mapping[str, Any] | None = None) -> object:
        if method == "POST" and path.startswith(f"djops-database/{cut}/"):
            raise ServerUnavailableError("gone")
        return send(self, method, path, body)

    with monkeypatch.context() as patch, pytest.raises(ApplyError):
        patch.setattr(Secrets, "request", request)
        ground.apply()
    assert not ground.servers.mysql.read_state().accounts[engine_account("demo_lab")].engine
    assert not access.make_plan(ground.servers, ground.wanted).is_empty
    ground.apply()
    assert access.make_plan(ground.servers, ground.wanted).is_empty
    lease(log_in("leaser"))


def test_without_the_secrets_server_a_lease_ends_too(
    ground: Ground, lab: LabUnderTest, log_in: Callable[[str], hvac.Client]
) -> None:
    """Its longest time is noted in MySQL, whose own event ends what nobody else did."""
    client = log_in("leaser")
    user, password = lease(client)
    link = session(ground, user, password)
    with _down(lab):
        ground.root.query("UPDATE djops.leases SET ends = UTC_TIMESTAMP() - INTERVAL 1 SECOND")
        assert ground.root.query(
            "SELECT STATUS, INTERVAL_VALUE, INTERVAL_FIELD, EVENT_DEFINITION FROM information_schema.EVENTS "
            "WHERE EVENT_NAME = 'end_overdue_leases'"
        ) == (("ENABLED", "1", "MINUTE", "CALL `djops`.`end_overdue_leases`()"),)
        assert not ground.servers.mysql.read_state().events, "it ends no grant"
        ground.servers.mysql.query("CALL djops.end_overdue_leases()")
        assert accounts(ground) == set()
        assert becomes_true(lambda: not is_open(link))
    # What it had leased, it may end again.
    client.auth.token.revoke_self()
    assert access.make_plan(ground.servers, ground.wanted).is_empty


@contextlib.contextmanager
def _down(lab: LabUnderTest) -> Iterator[None]:
    found = local_lab(load_project(lab.project_file), "local")
    assert found is not None
    server = OpenBaoServer(found)
    pid = process.running_pid(server._pid_file, found.account)
    assert pid is not None
    os.kill(pid, 9)
    try:
        assert becomes_true(lambda: not server.ready())
        yield
    finally:
        assert becomes_true(lambda: not server.running())
        server.start()
        assert becomes_true(server.ready)


def test_a_service_passes_from_one_way_to_another(
    ground: Ground, log_in: Callable[[str], hvac.Client]
) -> None:
    """Nothing that runs is cut off, and the secrets server keeps no password that is not in force."""
    held = credentials.read(ground.servers.site, "plain")
    running = session(ground, "plain", held["database.password"])
    for way in ("static", "dynamic", "kept"):
        ground.people({}, services={"plain": {"grants": READS, "credentials": way}})
        plan = ground.apply()
        assert not any(one.object.startswith("sessions") for one in plan.changes)
        assert access.make_plan(ground.servers, ground.wanted).is_empty
        assert is_open(running)
        stored = ground.servers.secrets.read_secret("demo_lab/services/plain")
        assert stored is not None
        assert ("database.password" in stored.fields) is (way == "kept")
        if way == "static":
            session(ground, "plain", held["database.password"]).close()
    session(ground, "plain", credentials.read(ground.servers.site, "plain")["database.password"]).close()
