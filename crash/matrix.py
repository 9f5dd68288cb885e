"""Going through the matrix: each case, each kind of crash, each point."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from crash import points as at
from crash.cases import Case
from crash.points import ANY, Kind, Point, Request, Run, System, When
from crash.stage import Stage
from crash.watch import AT_THE_END, Found, Memory, Watch
from djops.errors import DjopsError
from djops.services.access import Wanted, make_plan


@dataclass
class Row:
    """One line of the table.

    Attributes:
        case: The case.
        kind: How it was hit.
        system: What was hit.
        changes: How many changes the plan has.
        points: Points tried.
        converged: After how many of them the next apply brought everything to where it belongs.
        found: What was compared, and what must not be.
        seconds: How long it took.
    """

    case: str
    kind: Kind
    system: System
    changes: int = 0
    points: int = 0
    converged: int = 0
    found: Found = field(default_factory=Found)
    seconds: float = 0


@dataclass(frozen=True)
class Rehearsal:
    """A case that was gone through without a crash.

    Attributes:
        watch: What was there before and after.
        run: What was sent.
        found: What was wrong even so.
    """

    watch: Watch
    run: Run
    found: Found


def rehearse(stage: Stage, case: Case) -> Rehearsal:
    """Go through a case without a crash, to know its points and both sides.

    Args:
        stage: The servers.
        case: The case.
    """
    before, after = stage.wanted(case, case.before), stage.wanted(case, case.after)
    memory = Memory()
    with stage.set_up(case) as machines:
        old = memory.moment(stage.see(case, before))
        run = at.apply_in_child(stage.at(after), after, stage.wires, None, stage.plan_of(case))
        stage.carry_out(case, after)
        new = memory.moment(stage.see(case, after))
        watch = Watch(stage, case, old, new, memory, machines)
        found = watch.at_the_end(new, after)
    left = stage.bring_to(after)
    if not left.is_empty:
        found.wrong(f"without any crash there is something to do: {left.changes[0].describe()}")
    for text in (run.error, run.crashed):
        if text:
            found.wrong(f"without any crash: {text}")
    if not run.requests:
        found.wrong("there is nothing to do in this case")
    return Rehearsal(watch, run, found)


def hit(stage: Stage, rehearsal: Rehearsal, point: Point) -> Found:
    """Hit the apply of a case at one point, look, let the next apply go on from there, and look again.

    Args:
        stage: The servers.
        rehearsal: The case.
        point: The point.
    """
    case = rehearsal.watch.case
    after = stage.wanted(case, case.after)
    # Where the next apply is hit: somewhere in what is left, at another place for each point.
    second = (7 * point.number + 3) % (len(rehearsal.run.requests) - point.number)
    with stage.set_up(case) as machines:
        # Passwords and keys are new each time; the rights are what they were.
        old = replace(rehearsal.watch.old, seen=replace(rehearsal.watch.old.seen, kept=stage.kept(case)))
        watch = replace(rehearsal.watch, old=old, machines=machines, turn=point.number)
        with watch.sessions() as still_used:
            found = _hit(stage, watch, after, point, second)
            found.add(still_used())
    return found


def _hit(stage: Stage, watch: Watch, after: Wanted, point: Point, second: int) -> Found:
    found, case = Found(), watch.case
    run = at.apply_in_child(stage.at(after), after, stage.wires, point, stage.plan_of(case))
    if run.crashed:
        found.wrong(f"djops fell over: {run.crashed.strip().splitlines()[-1]}")
    if not run.reached:
        found.wrong("this point was not reached")
    stage.wires.heal()
    if run.done and point.kind != "kill":
        for change in make_plan(stage.observer(after), after).changes:
            found.wrong(f"djops said that all was done, and there is to do: {change.describe()}")
    if point.kind == "kill":
        try:
            stage.start_again()
        except DjopsError as error:
            found.wrong(f"the server does not come back: {error}")
            stage.start_again()
    begun = case.renews == "begin"
    found.add(watch.between(watch.memory.moment(stage.see(case, after)), "after the crash", renewing=begun))
    if point.kind == "twice":
        at.apply_in_child(stage.at(after), after, stage.wires, Point("djops", second, ANY, "before"))
        now = watch.memory.moment(stage.see(case, after))
        found.add(watch.between(now, "after the second crash", renewing=begun))
    try:
        left = stage.bring_to(after)
        if not left.is_empty:
            found.wrong(f"{AT_THE_END}: there is something to do: {left.changes[0].describe()}")
        if case.renews:
            now = watch.memory.moment(stage.see(case, after))
            found.add(watch.between(now, AT_THE_END, renewing=begun))
            stage.carry_out(case, after)
    except DjopsError as error:
        found.wrong(f"{AT_THE_END}, which fails: {error}")
        return found
    found.add(watch.at_the_end(watch.memory.moment(stage.see(case, after)), after))
    return found


def _looked_at(stage: Stage, rehearsal: Rehearsal, point: Point) -> Found:
    """Hit one point; where that itself fails, the others are still to be tried."""
    try:
        return hit(stage, rehearsal, point)
    except Exception as error:
        stage.start_again()
        told = f"{type(error).__name__}: {error}".partition("\n")[0]
        return Found(violations=[f"{AT_THE_END}, which nobody looked at: {told}"])


THINNED: Mapping[Kind, int] = {"blip": 3, "hole": 3}
"""Of these only each so-manieth point is tried: they leave the servers as a cut does."""


@dataclass(frozen=True)
class Choice:
    """What of the matrix is gone through; everything where nothing is named.

    Attributes:
        cases: Names of cases.
        kinds: Kinds of crashes.
        systems: What is hit.
        number: Number of the one request.
        when: The one moment.
        every: Only each so-manieth point, the first of each case and kind always.
    """

    cases: Sequence[str] = ()
    kinds: Sequence[Kind] = ()
    systems: Sequence[System] = ()
    number: int | None = None
    when: When | None = None
    every: int = 1

    def points(self, requests: Sequence[Request], kind: Kind) -> Sequence[Point]:
        """Return the points of one kind that are meant."""
        found = at.points(requests, kind)
        if self.number is None:
            found = found[:: self.every * THINNED.get(kind, 1)]
        return [
            point
            for point in found
            if (not self.systems or point.system in self.systems)
            and self.number in (None, point.number)
            and self.when in (None, point.when)
        ]


def go_through(
    stage: Stage, cases: Iterable[Case], choice: Choice, tell: Callable[[str], object]
) -> Iterator[Row]:
    """Go through the matrix.

    Args:
        stage: The servers.
        cases: The cases meant.
        choice: What of them.
        tell: Hears of each point with something wrong, and of each case.

    Yields:
        The rows of the table, as soon as each is complete.
    """
    for case in cases:
        rehearsal = rehearse(stage, case)
        if rehearsal.found.violations:
            tell(f"{case.name}: " + "; ".join(rehearsal.found.violations))
        run = rehearsal.run
        tell(f"{case.name}: {run.changes} changes, {run.operations} operations, {len(run.requests)} requests")
        for kind in choice.kinds or tuple(at.KINDS):
            rows: dict[System, Row] = {}
            for point in choice.points(run.requests, kind):
                row = rows.setdefault(point.system, Row(case.name, kind, point.system, run.changes))
                began = time.monotonic()
                found = _looked_at(stage, rehearsal, point)
                row.seconds += time.monotonic() - began
                row.points += 1
                row.converged += not any(AT_THE_END in text for text in found.violations)
                where = f"--case '{case.name}' {point}"
                found.violations = [f"{where}: {text}" for text in found.violations]
                for text in found.violations:
                    tell(text)
                row.found.add(found)
            if rehearsal.found.violations and rows:
                next(iter(rows.values())).found.add(Found(violations=rehearsal.found.violations))
            yield from rows.values()
