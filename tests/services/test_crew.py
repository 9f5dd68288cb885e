"""Carrying out changes side by side: what is ordered stays so, and every end leaves a known state."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djops.compile.mysql_state import AccountId
from djops.errors import ApplyError, DjopsError, ServerUnavailableError
from djops.plan.change import Change, Phase, Risk, Told
from djops.plan.operations import (
    AwsCall,
    KeepKey,
    MarkSecret,
    NotePassword,
    Operation,
    SecretRef,
    Sql,
    StorePassword,
    VaultCall,
)
from djops.plan.schedule import BATCH, schedule, touched
from djops.services.crew import AHEAD, THREADS, Crew, PhaseRun


@dataclass(frozen=True, kw_only=True)
class Doing(Change):
    """A change made of given operations."""

    sends: tuple[Operation, ...]
    system = "s3"

    def _tell(self) -> Told:
        return Told("thing", "", "done", Risk.KEEPS, Phase.PREPARE)

    def operations(self) -> tuple[Operation, ...]:
        return self.sends

    def reverse(self) -> Change:
        return self


def doing(*sends: Operation) -> Doing:
    return Doing(why=(), sends=sends)


def sql(text: str) -> Sql:
    return Sql((text,))


def on_user(name: str, action: str = "PutUserPolicy") -> AwsCall:
    return AwsCall("iam", action, {"UserName": name})


def run_of(changes: list[Doing], send: Callable[[Operation], None]) -> PhaseRun:
    return PhaseRun(
        Crew(), schedule(changes), len(changes), send=send, finished=lambda _: None, pause=lambda: None
    )


class Book:
    """Notes what is sent, and what is under way at the same time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.sent: list[Operation] = []
        self.ended: list[Operation] = []
        self.most = 0
        self._now, self._guard, self._seconds = 0, threading.Lock(), seconds

    def __call__(self, operation: Operation) -> None:
        with self._guard:
            self._now += 1
            self.most = max(self.most, self._now)
            self.sent.append(operation)
        time.sleep(self._seconds)
        with self._guard:
            self._now -= 1
            self.ended.append(operation)


OPERATIONS = st.one_of(
    st.builds(sql, st.sampled_from(["GRANT", "REVOKE"])),
    st.builds(on_user, st.sampled_from("abc")),
    st.builds(StorePassword, st.sampled_from("abc"), st.just("user")),
    st.builds(lambda path: NotePassword(path, AccountId("user")), st.sampled_from("abc")),
    st.builds(lambda path: Sql(("SET ", SecretRef(path, "field"))), st.sampled_from("abc")),
    st.builds(lambda path: Sql((path,), frame=("ALTER USER ", "")), st.sampled_from("abc")),
    st.builds(
        lambda n: AwsCall("iam", "CreateAccessKey", {"UserName": n}, KeepKey(n, ())), st.sampled_from("abc")
    ),
    st.builds(
        lambda n: AwsCall("iam", "AttachUserPolicy", {"UserName": n, "PolicyArn": "arn:aws:iam::1:policy/p"}),
        st.sampled_from("abc"),
    ),
    st.just(AwsCall("iam", "CreatePolicy", {"PolicyName": "p"})),
    st.builds(lambda path: VaultCall("DELETE", f"djops/metadata/{path}"), st.sampled_from("abc")),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(OPERATIONS, max_size=4), max_size=8), st.integers(0, 999))
def test_what_deals_with_the_same_object_keeps_the_order_of_the_plan(
    plan: list[list[Operation]], seed: int
) -> None:
    changes, chance = [doing(*sends) for sends in plan], random.Random(seed)
    pieces = schedule(changes)
    began: dict[int, int] = {}
    ended: dict[int, int] = {}
    clock, guard = iter(range(10**6)), threading.Lock()
    numbers: dict[int, list[int]] = {id(piece.operation): [] for piece in pieces}
    for number, piece in enumerate(pieces):
        numbers[id(piece.operation)].append(number)

    def send(operation: Operation) -> None:
        with guard:
            number = numbers[id(operation)].pop(0)
            began[number] = next(clock)
        time.sleep(chance.random() / 5000)
        with guard:
            ended[number] = next(clock)

    # Statements that are shared are made anew each time that a plan is scheduled.
    run = PhaseRun(Crew(), pieces, len(changes), send=send, finished=lambda _: None, pause=lambda: None)
    outcome = run.run()
    assert sorted(outcome.done) == list(range(len(changes)))
    for late, piece in enumerate(pieces):
        mine = touched(piece.operation)
        for early, other in enumerate(pieces[:late]):
            theirs = touched(other.operation)
            if mine.alone & (theirs.alone | theirs.shared) or mine.shared & theirs.alone:
                assert ended[early] < began[late]


def test_requests_are_under_way_at_once_and_statements_are_not() -> None:
    book = Book(0.01)
    run_of([doing(on_user(f"user{i}")) for i in range(40)], book).run()
    assert book.most == THREADS
    book = Book(0.001)
    run_of([doing(sql(str(i))) for i in range(40)], book).run()
    assert book.most == 1
    assert [str(one) for one in book.sent] == [str(i) for i in range(40)]


def test_passwords_are_kept_ahead_of_the_statements_that_need_them() -> None:
    book = Book(0.05)
    changes = [
        doing(
            StorePassword(f"p{i}", f"u{i}"),
            Sql(("CREATE USER ", SecretRef(f"p{i}", "f"))),
            NotePassword(f"p{i}", AccountId(f"u{i}")),
        )
        for i in range(20)
    ]
    began = time.monotonic()
    run_of(changes, book).run()
    assert time.monotonic() - began < 20 * 3 * 0.05
    assert [str(one) for one in book.sent if isinstance(one, Sql)] == [
        f"CREATE USER '<secret p{i}#f>'" for i in range(20)
    ]


def making(name: str, tail: str = " REQUIRE SSL") -> Doing:
    return doing(
        StorePassword(name, name),
        Sql((f"'{name}' BY ", SecretRef(name, "f")), frame=("CREATE USER ", tail)),
        NotePassword(name, AccountId(name)),
    )


def dropping(name: str) -> Doing:
    return doing(Sql((f"'{name}'",), frame=("DROP USER ", "")))


def sql_of(book: Book) -> list[str]:
    return [str(one) for one in book.sent if isinstance(one, Sql)]


def test_changes_in_a_row_that_do_the_same_share_a_statement_once_all_their_passwords_are_kept() -> None:
    book = Book(0.001)
    outcome = run_of([making("a"), making("b"), making("c", " REQUIRE NONE"), dropping("d")], book).run()
    assert sql_of(book) == [
        "CREATE USER 'a' BY '<secret a#f>', 'b' BY '<secret b#f>' REQUIRE SSL",
        "CREATE USER 'c' BY '<secret c#f>' REQUIRE NONE",
        "DROP USER 'd'",
    ]
    assert sorted(outcome.done) == [0, 1, 2, 3]
    told = [type(one).__name__ + str(getattr(one, "path", "")) for one in book.sent]
    assert max(told.index("StorePassworda"), told.index("StorePasswordb")) < told.index("Sql")
    assert told.index("Sql") < min(told.index("NotePassworda"), told.index("NotePasswordb"))


def test_a_statement_takes_so_many_accounts_and_no_more() -> None:
    book = Book()
    count = 2 * BATCH + 1
    outcome = run_of([making(f"u{n:03}") for n in range(count)], book).run()
    assert [text.count("BY") for text in sql_of(book)] == [BATCH, BATCH, 1]
    assert len(outcome.done) == count and book.sent == [*dict.fromkeys(book.sent)]


def test_one_account_that_is_refused_holds_up_no_other_of_its_statement() -> None:
    book = Book()

    def send(operation: Operation) -> None:
        book(operation)
        if isinstance(operation, Sql) and "'u1'" in str(operation):
            raise ApplyError("u1 is a definer")

    changes = [*(making(f"u{n}") for n in range(3)), dropping("later"), doing(sql("GRANT"))]
    outcome = run_of(changes, send).run()
    assert [str(one).count("BY") for one in book.sent if isinstance(one, Sql)] == [3, 1, 1, 1]
    assert sorted(outcome.done) == [0, 2]
    assert {number: error.message for number, error in outcome.failed.items()} == {1: "u1 is a definer"}
    assert outcome.untouched == [3, 4], "what stood behind it in the plan waits, as after any refusal"
    assert not [one for one in book.sent if isinstance(one, NotePassword) and one.path == "u1"]


def test_a_server_that_goes_away_is_not_asked_for_each_account() -> None:
    book = Book()

    def send(operation: Operation) -> None:
        book(operation)
        if isinstance(operation, Sql):
            raise ServerUnavailableError("gone")

    outcome = run_of([making(f"u{n}") for n in range(3)], send).run()
    assert len(sql_of(book)) == 1
    assert (outcome.done, [*outcome.failed], outcome.begun) == ([], [0], [1, 2])


def test_an_interruption_leaves_no_statement_half_of_whose_passwords_are_kept() -> None:
    book = Book(0.02)
    run = run_of([making(f"u{n:03}") for n in range(3 * BATCH)], book)

    def interrupt() -> None:
        while not book.ended:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert not run.outcome.begun and len(run.outcome.done) in (BATCH, 2 * BATCH)


def test_many_accounts_in_one_change_keep_their_passwords_side_by_side() -> None:
    book = Book(0.01)
    stores = tuple(StorePassword(f"p{i}", f"u{i}") for i in range(16))
    run_of([doing(*stores, sql("CREATE USER a, b"), MarkSecret("p0", {}))], book).run()
    assert book.most == THREADS
    assert isinstance(book.sent[16], Sql)
    assert isinstance(book.sent[17], MarkSecret)


def test_after_a_failure_no_change_begins_and_those_under_way_come_to_their_end() -> None:
    book = Book(0.002)

    def send(operation: Operation) -> None:
        book(operation)
        if operation == on_user("user7"):
            raise ApplyError("no")

    changes = [doing(on_user(f"user{i}"), on_user(f"user{i}", "CreateAccessKey")) for i in range(200)]
    outcome = run_of(changes, send).run()
    assert list(outcome.failed) == [7]
    assert not outcome.begun
    assert len(outcome.done) + 1 + len(outcome.untouched) == 200
    assert len(outcome.done) <= 7 + AHEAD + THREADS
    touched_users = {
        operation.parameters["UserName"] for operation in book.sent if isinstance(operation, AwsCall)
    }
    assert touched_users == {f"user{i}" for i in (*outcome.done, 7)}


def test_what_depends_on_a_failure_is_told_as_begun() -> None:
    stored = threading.Event()

    def send(operation: Operation) -> None:
        if isinstance(operation, StorePassword):
            stored.set()
        elif operation == sql("first"):
            assert stored.wait(60)
            raise ApplyError("no")

    changes = [doing(sql("first")), doing(StorePassword("p", "u"), sql("second")), doing(sql("third"))]
    outcome = run_of(changes, send).run()
    assert (outcome.done, list(outcome.failed), outcome.begun, outcome.untouched) == ([], [0], [1], [2])


def test_without_the_lock_nothing_at_all_is_sent_any_more() -> None:
    sent = Book()

    def send(operation: Operation) -> None:
        sent(operation)
        if operation == on_user("user0"):
            raise DjopsError("gone", code="E_LOCK_LOST")
        time.sleep(0.5)

    changes = [doing(on_user(f"user{i}"), on_user(f"user{i}", "CreateAccessKey")) for i in range(20)]
    outcome = run_of(changes, send).run()
    assert not [one for one in sent.sent if isinstance(one, AwsCall) and one.action == "CreateAccessKey"]
    assert list(outcome.failed) == [0]
    assert set(outcome.begun) < set(range(THREADS))


def test_a_crash_passes_through() -> None:
    class Crash(BaseException):
        pass

    def send(operation: Operation) -> None:
        raise Crash

    with pytest.raises(Crash):
        run_of([doing(sql("a")), doing(on_user("b"))], send).run()


@pytest.mark.parametrize("who", ["finished", "pause"])
def test_whoever_hears_of_it_and_fails_ends_the_run(who: str) -> None:
    """A request is under way meanwhile; no thread may end of another's failure."""
    told = threading.Event()

    def fails(*_: object) -> None:
        told.set()
        raise DjopsError("cannot be written down", code="E_DISK")

    def send(_: Operation) -> None:
        told.wait(60)

    changes = [doing(), doing(on_user("b"))]
    run = PhaseRun(
        Crew(), schedule(changes), len(changes),
        send=send,
        finished=fails if who == "finished" else lambda _: None,
        pause=fails if who == "pause" else lambda: None,
    )  # fmt: skip
    caught: list[BaseException] = []

    def watched() -> None:
        with pytest.raises(DjopsError) as error:
            run.run()
        caught.append(error.value)

    thread = threading.Thread(target=watched, daemon=True)
    thread.start()
    thread.join(120)
    assert [str(one) for one in caught] == ["cannot be written down"], "it is waited for without an end"


def test_an_interruption_lets_what_is_under_way_come_to_its_end() -> None:
    book = Book(0.05)
    run = run_of([doing(sql(f"{i}a"), sql(f"{i}b")) for i in range(100)], book)

    def interrupt() -> None:
        while len(book.ended) < 3:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert book.sent == book.ended
    done = len(run.outcome.done)
    assert 0 < done < 100
    assert not run.outcome.begun
    assert len(book.sent) == 2 * done
    assert run.outcome.untouched == list(range(done, 100))


def test_a_second_interruption_does_not_wait() -> None:
    run = run_of([doing(sql("a")), doing(sql("b"))], Book(8.0))
    for after in (0.1, 0.3):
        threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert time.monotonic() - began < 6
    assert run.outcome.begun == [0]
