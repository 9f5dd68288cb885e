"""Taking accounts over, in memory: cut short anywhere, it goes on; nobody is cut off or gets too much."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djops.compile.mysql_state import Account, AccountId, Edge, Held, MysqlState, Scope
from djops.compile.s3 import IamUser, S3State
from djops.compile.sql import schema_pattern
from djops.model.graph import PipelineGraph
from djops.plan.adoption import Adoption, adopt_mysql, adopt_s3, finish, with_adopted_keys
from djops.plan.change import Change, Phase, in_order
from djops.plan.mysql import Reasons, diff_mysql
from djops.plan.mysql_changes import DiscardPassword, RenameAccount, RevokeAll, SetPassword, TakeOver
from djops.plan.operations import AwsCall, KeepKey, MarkSecret
from djops.plan.s3 import diff_s3
from djops.plan.s3_changes import ADOPTED_FACT, AdoptUser, DeleteKey, adopted_keys
from tests.support.mysql_meaning import Meaning, Server
from tests.support.projects import DEMO, compiled, peoples, pipeline, pipelines, project

NAMES = ("alice", "bob", "carol", "dan")
FOREIGN = AccountId("dj_user")
REASONS = Reasons(secret_of={name: f"lab/people/{name}" for name in NAMES})
KEEP = KeepKey("lab/people/alice", ("main",))


def _may_revoke(scope: Scope) -> bool:
    return scope.pattern not in ("*", "%")


def changes_on(server: Server, wanted: MysqlState, noted: Collection[str] = NAMES) -> tuple[Change, ...]:
    """Plan as djops does: whoever is not the project's own yet is to be taken over.

    ``noted`` names those whose password is known to be in force, when it is.
    """
    found = server.state()
    strangers = {
        one: AccountId(one.user)
        for one, account in found.accounts.items()
        if account.project is None and AccountId(one.user) in wanted.accounts
    }

    def known(name: str) -> bool:
        account = AccountId(name)
        if name not in noted:
            return False
        return account not in strangers.values() and server.passwords[account][0] == REASONS.secret_of[name]

    state, changes = adopt_mysql(Adoption(strangers), wanted, found)
    changes += diff_mysql("lab", wanted, state, REASONS, known, _may_revoke)
    return in_order(changes)


def cells(state: MysqlState, graph: PipelineGraph) -> set[tuple[str, str, str, str]]:
    meaning = Meaning(state)
    return {
        (account.user, privilege, table.schema, table.table)
        for account in state.accounts
        if account.user in NAMES
        for table in graph.tables
        for privilege in meaning.privileges(account, table.schema, table.table)
    }


PRIVILEGES = st.frozensets(
    st.sampled_from(["SELECT", "INSERT", "DELETE", "DROP", "GRANT OPTION"]), min_size=1
)


@st.composite
def by_hand(draw: st.DrawFn, graph: PipelineGraph, names: Sequence[str]) -> MysqlState:
    """Accounts that somebody made: rows of their own, a role of somebody's making, any host."""
    accounts = {FOREIGN: Account(None, None, locked=True)}
    privileges: dict[Held, frozenset[str]] = {}
    edges: dict[Edge, bool] = {}
    spelled = [Scope("%"), Scope("*"), *(Scope(schema_pattern(name)) for name in sorted(graph.schemas))]
    spelled += [Scope(table.schema, table.table) for table in sorted(graph.tables)]
    scopes = st.sampled_from(spelled)
    for name in names:
        account = AccountId(name, draw(st.sampled_from(["%", "10.9.%", "localhost"])))
        accounts[account] = Account(
            None,
            None,
            require_tls=draw(st.booleans()),
            connections=draw(st.sampled_from([0, 3])),
            second_password=draw(st.booleans()),
        )
        for scope in draw(st.lists(scopes, max_size=3)):
            privileges[Held(account, scope)] = draw(PRIVILEGES)
        if draw(st.booleans()):
            edges[Edge(FOREIGN, account)] = draw(st.booleans())
    privileges[Held(FOREIGN, draw(scopes))] = frozenset({"SELECT"})
    return MysqlState(accounts, privileges, edges, frozenset(edges))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(data=st.data(), graph=pipelines())
def test_a_run_that_is_cut_short_anywhere_goes_on(data: st.DataObject, graph: PipelineGraph) -> None:
    people = data.draw(peoples(graph))
    wanted = compiled(people, graph)[1]
    server = Server(data.draw(by_hand(graph, sorted(people.people))))
    for made, passwords in server.passwords.items():
        if server.accounts[made].second_password:
            passwords.append("older, by hand")
    most = cells(server.state(), graph) | cells(wanted, graph)
    noted: set[str] = set()
    while left := changes_on(server, wanted, noted):
        for change in left[: data.draw(st.integers(1, len(left)))]:
            server.run_one(change)
            if isinstance(change, SetPassword):
                noted.add(change.name.user)
            assert cells(server.state(), graph) <= most, change.describe()
            for account, passwords in server.passwords.items():
                assert account.user not in people.people or "by hand" in passwords, change.describe()
        if isinstance(change, SetPassword) and data.draw(st.booleans()):
            # Cut short between putting it in force and noting that.
            noted.discard(change.name.user)
    assert cells(server.state(), graph) == cells(wanted, graph)
    for name in people.people:
        assert server.passwords[AccountId(name)] == [REASONS.secret_of[name], "by hand"]
    server.run(finish(map(AccountId, people.people), {}, {}))
    assert changes_on(server, wanted) == ()
    assert all(len(server.passwords[AccountId(name)]) == 1 for name in people.people)


GRAPH = pipeline(DEMO)
WANTED = compiled(project({"alice": [{"role": "viewer", "on": "ephys"}]}), GRAPH)[1]


def taken_over(account: Account, host: str = "%") -> list[Change]:
    name = AccountId("alice", host)
    rows = {Held(name, Scope("*")): frozenset({"FILE"})}
    return list(changes_on(Server(MysqlState({name: account}, rows)), WANTED))


def test_an_account_is_marked_before_anything_is_taken_from_it() -> None:
    changes = taken_over(Account(None, None), "10.9.%")
    kinds = [type(change) for change in changes]
    assert kinds[:3] == [RenameAccount, TakeOver, RevokeAll]


def test_passwords_that_cannot_hold_are_replaced() -> None:
    retains = {
        "ordinary": taken_over(Account(None, None)),
        "expired": taken_over(Account(None, None, expired=True)),
        "other plugin": taken_over(Account(None, None, plugin="sha256_password")),
    }
    found = {
        words: [change.retain for change in changes if isinstance(change, SetPassword)]
        for words, changes in retains.items()
    }
    assert found == {"ordinary": [True], "expired": [False], "other plugin": [False]}


def test_an_older_password_ends_before_the_mark() -> None:
    (change,) = [
        one for one in taken_over(Account(None, None, second_password=True)) if isinstance(one, TakeOver)
    ]
    first, second = map(str, change.operations())
    assert "DISCARD OLD PASSWORD" in first
    assert '"adopted": true' in second
    assert len(change.reverse().operations()) == 1


def test_keys_are_noted_before_a_user_is_moved_and_before_all_else() -> None:
    user = IamUser({"own": {"Statement": []}}, {"K1": True, "K2": True})
    state, changes = adopt_s3("lab", Adoption(users={"alice": ("/", user)}), S3State(), {"alice": KEEP})
    (change,) = changes
    assert change.phase is Phase.ADOPT is min(Phase)
    assert state.users == {"alice": user}
    _, note, move = change.operations()
    assert note == MarkSecret(KEEP.path, {ADOPTED_FACT: "K1,K2"})
    assert isinstance(move, AwsCall)
    assert (move.parameters["NewPath"], move.as_administrator) == ("/djops/lab/", True)


def test_whoever_was_moved_already_is_only_noted() -> None:
    change = AdoptUser(name="alice", path="/djops/lab/", to="/djops/lab/", user=IamUser(), keep=KEEP, why=())
    assert [type(one).__name__ for one in change.operations()] == ["StorePassword", "MarkSecret"]


def test_keys_that_hold_for_the_time_being_are_not_deleted() -> None:
    user = IamUser(keys={"K1": True, "K2": True})
    adoption = Adoption(users={"alice": ("/", IamUser(keys={"K1": True}))})
    facts = with_adopted_keys(adoption, {"alice": {}})
    changes = diff_s3(
        "lab", S3State({"alice": IamUser()}), S3State({"alice": user}), {"alice": KEEP}, facts, {}
    )
    assert [change.key for change in changes if isinstance(change, DeleteKey)] == ["K2"]


def test_the_end_of_old_credentials() -> None:
    changes = finish([AccountId("alice")], {"alice": ("K1",)}, {"alice": KEEP})
    assert [type(change).__name__ for change in in_order(changes)] == [
        "DeleteKey",
        "DiscardPassword",
        "ForgetKeys",
    ]
    (discard,) = [change for change in changes if isinstance(change, DiscardPassword)]
    assert '"adopted": null' in str(discard.operations()[-1])
    assert adopted_keys({}) == ()


def test_a_password_that_was_set_and_not_noted_does_not_take_the_old_one_s_place() -> None:
    server = Server(MysqlState({AccountId("alice"): Account(None, None)}))
    for change in changes_on(server, WANTED):
        server.run_one(change)
        if isinstance(change, SetPassword):
            break
    (again,) = [one for one in changes_on(server, WANTED, noted=()) if isinstance(one, SetPassword)]
    server.run_one(again)
    assert server.passwords[AccountId("alice")] == [REASONS.secret_of["alice"], "by hand"]
