"""Model and reader agree on whatever is compiled, and an apply violates no theorem; without servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djops.compile.mysql import Inventory, compile_mysql
from djops.compile.mysql_state import Account, AccountId, Held, Login, MysqlCatalog, Scope
from djops.compile.rights import compile_rights
from djops.compile.s3 import compile_s3, iam_path
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import sandbox_stem
from djops.model.project import Project, Sandboxes
from djops.proof.iam_state import BLOCKS, CatalogBucket, CatalogUser, IamCatalog
from djops.report.verify import verdict_text
from djops.services import evidence, verify
from djops.services.access import Wanted
from djops.services.evidence import Evidence
from djops.services.site import Site
from djops.services.verify import Verdict
from djops.systems.connections import MysqlConnection, S3Connection, Secret, SecretsConnection
from tests.support.projects import STORABLE_NAMES, TODAY, peoples, pipelines, project


def site_of(wanted: Project) -> Site:
    store = S3Connection("http://127.0.0.1:1", "https://127.0.0.1:2", "key", Secret(""))
    return Site(
        wanted,
        Path("djops.yaml"),
        "local",
        wanted.environments["local"],
        MysqlConnection("127.0.0.1", 3306, "djops", Secret("")),
        store,
        SecretsConnection("https://127.0.0.1:3", "role", Secret("")),
        None,
        Path("lab"),
    )


def compiled(wanted: Project, graph: PipelineGraph) -> Evidence:
    """Put beside the model the catalogs that servers would show after an apply."""
    want = Wanted.of(wanted, graph, TODAY)
    graph = want.graph
    # In each sandbox one schema, with a table of which djops knows nothing.
    made = {f"{sandbox_stem(sandbox)}test": sandbox for sandbox in wanted.owned.values()}
    first_keys = dict.fromkeys(graph.tables, "x")
    jobs = {table: ("_job_start_time",) for table in graph.tables if table.table == "__computed"}
    inventory = Inventory(graph.tables, jobs, first_keys)
    rights = compile_rights(wanted, graph, want.roles, TODAY)
    state = compile_mysql(wanted, "%", rights, graph, want.roles, inventory)
    lineage = {TableName(schema, "~lineage") for schema in graph.schemas}
    catalog = MysqlCatalog(
        accounts=state.accounts,
        privileges=state.privileges,
        edges=state.edges,
        defaults=state.defaults,
        logins={
            name: Login(tls="ANY" if account.require_tls else "", locked=account.locked)
            for name, account in state.accounts.items()
        },
        schemas=graph.schemas | {"mysql", "sys", "other"} | made.keys(),
        tables=frozenset((table.schema, table.table) for table in graph.tables | lineage)
        | {(schema, "made") for schema in made},
    )
    store = compile_s3(wanted, rights)
    users = {
        name: CatalogUser(
            f"arn:aws:iam::1:user{iam_path('lab')}{name}", policies=user.policies, keys={"k": True}
        )
        for name, user in store.users.items()
    }
    buckets = {name: CatalogBucket(blocks=frozenset(BLOCKS)) for name in store.buckets}
    iam = IamCatalog(users=users, buckets=buckets)
    return evidence.assemble(site_of(wanted), want, graph, inventory, catalog, iam)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), graph=pipelines(STORABLE_NAMES))
def test_what_is_compiled_means_what_the_model_says(data: st.DataObject, graph: PipelineGraph) -> None:
    wanted = data.draw(peoples(graph))
    found = compiled(wanted, graph)
    verdict = verify.compare(found, verify.Choice(), passwords=())
    assert verdict.disagreements == ()
    assert verdict.violations == ()


GRAPH = PipelineGraph(
    frozenset({"session", "ephys"}),
    frozenset({TableName("session", "manual"), TableName("ephys", "manual")}),
    extra={"ephys": frozenset({"session"})},
)


def test_what_is_not_compiled_is_noticed() -> None:
    """Every row that is taken away is missed, on either server."""
    wanted = project({"alice": [{"role": "operator", "on": "ephys"}]})
    found = compiled(wanted, GRAPH)
    catalog = found.mysql.catalog
    for held in catalog.privileges:
        fewer = {one: names for one, names in catalog.privileges.items() if one != held}
        less = evidence.assemble(
            found.site, found.wanted, GRAPH, found.inventory, replace(catalog, privileges=fewer), None
        )
        assert verify.compare(less, verify.Choice()).disagreements, held
    for edge in [one for one in catalog.defaults if one.member == AccountId("alice")]:
        less = evidence.assemble(
            found.site, found.wanted, GRAPH, found.inventory,
            replace(catalog, defaults=catalog.defaults - {edge}), None,
        )  # fmt: skip
        assert verify.compare(less, verify.Choice()).disagreements, edge


ALICE, OWN = AccountId("alice"), AccountId("dev_alice_*:sandbox")
BEYOND: dict[str, tuple[Held, tuple[str, str]]] = {
    "somebody else gets in": (
        Held(AccountId("bob"), Scope(r"dev\_alice\_%")), ("T_CLOSURE", "bob")
    ),
    "somebody else gets into one schema": (
        Held(AccountId("bob"), Scope(r"dev\_alice\_test")), ("T_CLOSURE", "bob")
    ),
    "the owner gets into everybody's": (Held(ALICE, Scope(r"dev\_%")), ("T_WILDCARD", "alice")),
    "the owner gets into her namesake's": (Held(ALICE, Scope(r"dev\_alice%")), ("T_WILDCARD", "alice")),
    "a spelling that opens more": (Held(OWN, Scope("dev_alice_%")), ("T_WILDCARD", OWN.user)),
}  # fmt: skip


@pytest.mark.parametrize("case", BEYOND)
def test_what_goes_beyond_a_sandbox_is_noticed(case: str) -> None:
    people = {"alice": [{"role": "developer", "on": "ephys"}], "bob": [{"role": "viewer", "on": "ephys"}]}
    wanted = project(people, ["ephys"]).model_copy(update={"sandboxes": Sandboxes()})
    found = compiled(wanted, GRAPH)
    assert verify.compare(found, verify.Choice(), passwords=()).agrees
    held, violation = BEYOND[case]
    catalog = found.mysql.catalog
    more = replace(catalog, privileges={**catalog.privileges, held: frozenset({"SELECT"})})
    now = evidence.assemble(found.site, found.wanted, found.graph, found.inventory, more, None)
    verdict = verify.compare(now, verify.Choice(), passwords=())
    assert violation in {(one.theorem, one.who) for one in verdict.violations}


BESIDE = {
    "objects removed": ("s3:DeleteObject", "arn:aws:s3:::lab-data/*", {"T_REMOVE"}),
    "objects put": ("s3:PutObject", "arn:aws:s3:::lab-data/*", {"T_INSERT_PUT"}),
    "the bucket itself": ("s3:PutBucketPolicy", "arn:aws:s3:::*", set[str]()),
    "oneself": ("iam:CreateAccessKey", "arn:aws:iam::1:user/djops/lab/b*", set[str]()),
}


@pytest.mark.parametrize("case", BESIDE)
@pytest.mark.parametrize("more", [{"bob"}, {"bob", "bert"}])
def test_what_some_of_many_alike_have_beyond_is_told_of_each(case: str, more: set[str]) -> None:
    """What was compared for one is not compared again for others alike; these are not alike any more."""
    action, resource, theorems = BESIDE[case]
    people = {name: [{"role": "viewer", "on": "ephys"}] for name in ("alice", "bert", "bob", "carol")}
    found = compiled(project(people), GRAPH)
    assert found.s3
    assert verify.compare(found, verify.Choice(), passwords=()).agrees
    beyond = {"Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]}
    users = {
        name: replace(user, policies={**user.policies, "beyond": beyond} if name in more else user.policies)
        for name, user in found.s3.catalog.users.items()
    }
    store = replace(found.s3.catalog, users=users)
    now = evidence.assemble(found.site, found.wanted, GRAPH, found.inventory, found.mysql.catalog, store)
    verdict = verify.compare(now, verify.Choice(), passwords=())
    assert {one.cell.principal for one in verdict.disagreements} == more
    assert {(one.theorem, one.who) for one in verdict.violations} == {
        (theorem, name) for theorem in theorems for name in more
    }
    assert all(name in " ".join(one.because) for one in verdict.violations for name in [one.who or ""])
    assert verdict.counts == verify.compare(found, verify.Choice(), passwords=()).counts


@pytest.mark.parametrize("fewer", [{"bob"}, {"bob", "bert"}])
def test_what_some_of_many_alike_lack_is_told_of_each(fewer: set[str]) -> None:
    people = {name: [{"role": "viewer", "on": "ephys"}] for name in ("alice", "bert", "bob", "carol")}
    found = compiled(project(people), GRAPH)
    assert found.s3
    catalog = found.mysql.catalog
    less = replace(catalog, defaults=frozenset(e for e in catalog.defaults if e.member.user not in fewer))
    now = evidence.assemble(found.site, found.wanted, GRAPH, found.inventory, less, found.s3.catalog)
    verdict = verify.compare(now, verify.Choice(), passwords=())
    assert {one.cell.principal for one in verdict.disagreements} == fewer
    assert {(one.theorem, one.who) for one in verdict.violations} == {("T_READ_GET", name) for name in fewer}


def test_what_a_trial_makes_is_no_violation() -> None:
    """Others may run `djops smoke` or `djops verify --live` at the same time."""
    found = compiled(project({}), GRAPH)
    account = AccountId("smoke_1")
    catalog = replace(
        found.mysql.catalog,
        accounts={account: Account("service", "lab-smoke-abc"), AccountId("eve"): Account(None, None)},
        logins={account: Login(tls="ANY"), AccountId("eve"): Login(tls="ANY")},
        privileges={Held(one, Scope("ephys")): frozenset({"SELECT"}) for one in (account, AccountId("eve"))},
    )
    users = {
        "smoke_1": CatalogUser(
            f"arn:aws:iam::1:user{iam_path('lab-smoke-abc')}smoke_1", policies=OPEN, keys={"k": True}
        ),
        "eve": CatalogUser("arn:aws:iam::1:user/eve", policies=OPEN, keys={"k": True}),
    }
    store = replace(found.s3.catalog, users=users) if found.s3 else None
    now = evidence.assemble(found.site, found.wanted, GRAPH, found.inventory, catalog, store)
    verdict = verify.compare(now, verify.Choice(), passwords=())
    assert {(one.theorem, one.who) for one in verdict.violations} == {
        ("T_CLOSURE", "eve"),
        ("T_READ_GET", "eve"),
        ("T_INSERT_PUT", "eve"),
        ("T_REMOVE", "eve"),
    }


OPEN = {"open": {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}}


MASTER, RDS = AccountId("djops_master"), "lab.abc123.eu-central-1.rds.amazonaws.com"
EVERYTHING = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "CREATE USER"})


def seen_in_the_cloud(*accounts: AccountId, host: str = RDS, administrator: str = MASTER.user) -> Verdict:
    """Let accounts hold nearly everything on the whole server of an environment in the cloud."""
    found = compiled(project({"ann": [{"role": "viewer", "on": "ephys"}]}), GRAPH)
    catalog = found.mysql.catalog
    more = replace(
        catalog,
        accounts={**catalog.accounts, **dict.fromkeys(accounts, Account(None, None))},
        logins={**catalog.logins, **dict.fromkeys(accounts, Login(tls="ANY"))},
        privileges={**catalog.privileges, **{Held(one, Scope("*")): EVERYTHING for one in accounts}},
    )
    mysql = replace(found.site.mysql, host=host)
    site = replace(found.site, mysql=mysql, administrator=administrator)
    store = found.s3.catalog if found.s3 else None
    now = evidence.assemble(site, found.wanted, GRAPH, found.inventory, more, store)
    return verify.compare(now, verify.Choice(), passwords=())


def test_who_administers_a_database_in_the_cloud_is_told_and_is_no_finding() -> None:
    verdict = seen_in_the_cloud(MASTER, *evidence.RDS_OWN)
    assert verdict.agrees and set(verdict.administrators) == {str(one) for one in (MASTER, *evidence.RDS_OWN)}
    told = verdict_text(verdict)
    assert "no finding: djops_master is the database's administrator" in told
    assert "no finding: rdsadmin@localhost is AWS' own account" in told


@pytest.mark.parametrize(
    ("account", "host", "administrator"),
    [
        (AccountId("eve"), RDS, MASTER.user),
        (AccountId("djops_master", "10.%"), RDS, MASTER.user),
        (AccountId("rdsadmin"), RDS, MASTER.user),
        (AccountId("rdsadmin", "localhost"), "db.example.org", MASTER.user),
        (AccountId("rdsadmin", "localhost"), "rds.amazonaws.com.example.org", MASTER.user),
        (MASTER, RDS, ""),
    ],
    ids=str,
)
def test_whoever_else_holds_everything_is_a_finding(
    account: AccountId, host: str, administrator: str
) -> None:
    verdict = seen_in_the_cloud(account, host=host, administrator=administrator)
    assert account.user in {one.who for one in verdict.violations} and not verdict.administrators
