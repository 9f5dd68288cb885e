"""Rows that hide each other: between two statements of a plan nobody gets what another row hid from him."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from djops.compile.mysql_state import Account, AccountId, Edge, Held, MysqlCatalog, MysqlState, Scope
from djops.compile.sql import unescape_pattern
from djops.plan.change import Change, in_order
from djops.plan.mysql import Reasons, diff_mysql
from djops.plan.schedule import schedule
from djops.proof.mysql_reader import MysqlReader
from tests.support.mysql_meaning import Server

SCHEMAS = ("ab", "ab_c", "ab_c_x", "abXc")
EXACT = ("ab", r"ab\_c", r"ab\_c\_x")
SANDBOX = r"ab\_c\_%"
OPEN = ("ab%", r"ab\_%", "ab_c", "a%")
ALICE, BOB = AccountId("alice"), AccountId("bob")
KEPT, GONE, STRANGE = AccountId("r:kept"), AccountId("r:gone"), AccountId("strange")
ROLES = (KEPT, GONE, STRANGE)
PERSON, ROLE = Account("person", "lab"), Account("role", "lab", locked=True)
FOREIGN = Account(None, None, locked=True)

Holding = tuple[str, str, str]


def may_revoke(scope: Scope) -> bool:
    return scope.pattern == SANDBOX or (scope.pattern != "*" and unescape_pattern(scope.pattern) in SCHEMAS)


NAMES = st.frozensets(st.sampled_from(("SELECT", "DELETE")), min_size=1)
ROWS = st.dictionaries(
    st.tuples(st.sampled_from((ALICE, BOB, *ROLES)), st.sampled_from((*EXACT, SANDBOX, *OPEN))),
    NAMES,
    min_size=2,
    max_size=6,
)
EDGES = st.frozensets(st.sampled_from([(role, who) for role in ROLES for who in (ALICE, BOB)]))


@dataclass(frozen=True)
class World:
    """What is found, and what is wanted."""

    found: MysqlState
    wanted: MysqlState

    @property
    def steps(self) -> Iterator[tuple[Change, ...]]:
        """The changes of each statement, in order."""
        changes = in_order(diff_mysql("lab", self.wanted, self.found, Reasons(), lambda _: True, may_revoke))
        for _, phase in itertools.groupby(changes, key=lambda change: change.phase):
            together = tuple(phase)
            for piece in schedule(together):
                yield tuple(together[number] for number in piece.changes)


@st.composite
def worlds(draw: st.DrawFn, *, roles_too: bool = True) -> World:
    """Draw what somebody made of a state by hand; memberships are among it when they may be."""
    accounts = {ALICE: PERSON, BOB: PERSON, KEPT: ROLE}
    rows = {Held(KEPT, Scope(r"ab\_c")): frozenset({"SELECT"})}
    edges = {Edge(KEPT, who): False for who in (ALICE, BOB) if draw(st.booleans())}
    wanted = MysqlState(accounts, rows, edges, frozenset(edges))
    there = {**accounts, GONE: ROLE, STRANGE: FOREIGN}
    more = {Held(who, Scope(pattern)): names for (who, pattern), names in draw(ROWS).items()}
    given_too = {Edge(*edge): False for edge in draw(EDGES) if roles_too}
    held = {one: rows.get(one, frozenset()) | more.get(one, frozenset()) for one in {*rows, *more}}
    active = frozenset(edge for edge in given_too if draw(st.booleans())) | wanted.defaults
    return World(MysqlState(there, held, edges | given_too, active), wanted)


def at_log_in(state: MysqlState) -> set[Holding]:
    """What sessions have with the roles that are active from log-in."""
    reader = MysqlReader(
        MysqlCatalog(state.accounts, state.privileges, state.edges, state.defaults, state.routines)
    )
    return {
        (who.user, schema, name)
        for who in (ALICE, BOB)
        for schema in SCHEMAS
        for name in reader.privileges(who, schema)
    }


def in_any_session(state: MysqlState) -> set[Holding]:
    """What people can bring themselves to have with ``SET ROLE``."""
    found: set[Holding] = set()
    edges = [*state.edges]
    for count in range(len(ROLES) + 1):
        for roles in itertools.combinations(ROLES, count):
            some = frozenset(edge for edge in edges if edge.role in roles)
            found |= at_log_in(replace(state, defaults=some))
    return found


def assert_never_more(world: World, meaning: Callable[[MysqlState], set[Holding]]) -> None:
    server, most = Server(world.found), meaning(world.found)
    moments = []
    for step in world.steps:
        server.run(step)
        moments.append((server.state(), [change.describe() for change in step]))
    most |= meaning(server.state())
    for state, told in moments:
        assert meaning(state) <= most, (sorted(meaning(state) - most), told)


@given(worlds())
def test_no_session_that_can_be_had_gets_more_in_between(world: World) -> None:
    assert_never_more(world, in_any_session)


@given(worlds(roles_too=False))
def test_no_session_gets_more_at_log_in_while_rows_go(world: World) -> None:
    assert_never_more(world, at_log_in)


def test_what_a_sandbox_hides_goes_before_it() -> None:
    """Both can be revoked singly, and in a session with the role the first spelling counts alone."""
    edge = Edge(KEPT, ALICE)
    wanted = MysqlState({ALICE: PERSON, KEPT: ROLE}, {}, {edge: False}, frozenset({edge}))
    rows = {Held(ALICE, Scope(SANDBOX)): "SELECT", Held(KEPT, Scope(r"ab\_c\_x")): "DELETE"}
    found = replace(wanted, privileges={held: frozenset({name}) for held, name in rows.items()})
    world = World(found, wanted)
    told = [change.describe() for step in world.steps for change in step]
    assert told[0].startswith("r:kept on") and told[1].startswith("alice on")
    assert_never_more(world, at_log_in)
