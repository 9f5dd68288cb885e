"""The journal of a project: what is about to be done is recorded before, what was done after it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from djops.compile.mysql_state import AccountId
from djops.errors import AccessDeniedError, ApplyError, DjopsError, ServerUnavailableError
from djops.model.journal import Checked, Draft, Entry, Event, check, ranges
from djops.plan.change import Plan
from djops.services.crew import Outcome
from djops.services.site import Site
from djops.systems import journal as local
from djops.systems.journal import FileChain
from djops.systems.journal_table import TableChain
from djops.systems.mysql import Mysql
from djops.systems.vault import Secrets

ANCHORS = 48
"""Heads that are kept elsewhere, below the 64 facts that the secrets server takes beside a secret."""

MARK_SECONDS, MARK_CHANGES = 1.0, 200
"""How long, and how many changes, a change that is done may wait for its mark."""

Chain = TableChain | FileChain


class Journal:
    """The journal of one project in one environment.

    It is a table in the database; where that has none, a file on this machine. What cannot be added now
    waits in the spool and is added at the next contact, once.

    Args:
        site: The environment.
        mysql: A connection to its database.
        secrets: A session on its secrets server, where the heads are noted.
    """

    def __init__(self, site: Site, mysql: Mysql, secrets: Secrets) -> None:
        self._state, self._project = site.lab, site.part_of or site.project.project
        # A test's own plans are none of the environment's.
        self._is_trial = bool(site.part_of)
        own = f"{site.environment}/{site.project.project}"[:64]
        self._environment = own if self._is_trial else site.environment
        self._secrets = secrets
        self._table = TableChain(mysql, self._project, self._environment)
        self._file = FileChain(site.lab, self._project, self._environment)
        self._chosen: Chain | None = None

    @property
    def chain(self) -> Chain:
        """Where the rows are.

        Raises:
            ServerUnavailableError: ``E_SERVER`` when the database does not answer.
        """
        if self._chosen is None:
            self._chosen = self._table if self._table.is_there() else self._file
        return self._chosen

    @property
    def in_database(self) -> bool:
        """Whether the database has a table for it.

        Raises:
            ServerUnavailableError: ``E_SERVER`` when the database does not answer.
        """
        return self.chain is self._table

    def place(self) -> str:
        """Say where the rows are, when that is not the database.

        Returns:
            Words for the user; empty for the database.

        Raises:
            ServerUnavailableError: ``E_SERVER`` when the database does not answer.
        """
        if self.in_database:
            return ""
        return (
            "the database has no table for the journal, so it is kept on this machine only, at "
            f"{self._file.where}; docs/existing-servers.md says what the database's administrator has to run"
        )

    def append(self, drafts: Sequence[Draft]) -> None:
        """Add rows; when the database does not answer they wait on this machine.

        Args:
            drafts: The rows.

        Raises:
            DiskFullError: ``E_DISK`` when there is no room for them here either.
        """
        try:
            self.catch_up()
            self.chain.append(drafts)
        except (ServerUnavailableError, ApplyError):
            local.spool(self._state, drafts)
        except AccessDeniedError:
            # It may be read and not added to: the administrator's half of the page was not run.
            self._chosen = self._file
            self._file.append(drafts)

    def catch_up(self) -> None:
        """Add what waits on this machine.

        Raises:
            DjopsError: It cannot be added now, and goes on waiting.
        """
        if self._is_trial:
            return  # what waits is the environment's own
        with local.spooled(self._state) as drafts:
            if drafts:
                self.chain.append(drafts)
        if self.chain is self._table and self._file.path.exists():
            self._table.append(list(self._file.read()))
            self._file.retire()

    def anchor(self) -> None:
        """Note the head in the secrets server, which whoever administers the database cannot change.

        Raises:
            DjopsError: The secrets server does not take it; the next run notes a later head.
        """
        head = self.chain.head()
        noted = self.anchors()
        if head.seq and noted.get(head.seq) != head.hash:
            kept = _thinned({**noted, head.seq: head.hash})
            self._secrets.write_metadata(self._anchor_path, {_fact(seq): text for seq, text in kept.items()})

    def anchors(self) -> Mapping[int, str]:
        """Return the heads that are noted in the secrets server.

        Raises:
            DjopsError: It does not answer.
        """
        known = self._secrets.read_metadata(self._anchor_path)
        facts = known.facts if known else {}
        return {int(name[4:]): text for name, text in facts.items() if name.startswith("row-")}

    @property
    def _anchor_path(self) -> str:
        return f"{self._project}/journal/{self.chain.name}"

    def read(self) -> Iterator[Entry]:
        """Return all rows.

        Raises:
            DjopsError: They cannot be read.
        """
        return self.chain.read()

    def newest_plan(self) -> Mapping[str, str]:
        """Return what is told of the newest plan that was to bring everything up to date.

        Returns:
            Its number of ``changes`` and the digest of the project's ``file``; empty when there is none.

        Raises:
            DjopsError: The journal cannot be read.
        """
        entry = self.chain.newest_plan(without="expire")
        return local.facts_of(entry) if entry else {}

    def sessions_to_end(self) -> frozenset[AccountId]:
        """Return whose sessions plans that did not end well were to end, since one last did.

        Raises:
            DjopsError: The journal cannot be read.
        """
        found: set[AccountId] = set()
        # What `djops expire` carries out is not all that there is to do.
        for entry in self.chain.read(self.chain.newest_end(without="expire")):
            if entry.event == "intent" and entry.environment == self._environment:
                found.update(AccountId(*member) for member in local.facts_of(entry).get("members", ()))
        return frozenset(found)

    def verify(self) -> Checked:
        """Look whether the chain is whole, and as it was when its heads were noted.

        Raises:
            DjopsError: Chain or heads cannot be read.
        """
        return check(self.read(), self.anchors())


def _fact(seq: int) -> str:
    return f"row-{seq:012d}"


def _thinned(anchors: Mapping[int, str]) -> Mapping[int, str]:
    """Keep the newest heads, and ever fewer of the older ones."""
    numbers = sorted(anchors)
    while len(numbers) > ANCHORS:
        older = len(numbers) // 2
        numbers = numbers[:older:2] + numbers[older:]
    return {number: anchors[number] for number in numbers}


@dataclass(frozen=True)
class Cause:
    """Who wants something done, and why.

    Attributes:
        command: The command, without arguments.
        reason: Why, in the words of whoever called it.
    """

    command: str
    reason: str = ""


class Record:
    """The rows of one plan: the intents before anything is sent, then what came of each.

    Args:
        journal: The journal.
        plan: The plan.
        cause: What it is carried out for.
        file: Digest of the project file it was made from.
    """

    def __init__(self, journal: Journal, plan: Plan, cause: Cause, file: str) -> None:
        self._journal, self._plan, self._cause, self._file = journal, plan, cause, file
        self._run = uuid.uuid4().hex
        self._guard = threading.Lock()
        self._unmarked: list[int] = []
        self._marked = time.monotonic()

    def begin(self) -> None:
        """Record the plan and every change of it.

        Raises:
            DiskFullError: ``E_DISK`` when they can be recorded nowhere; then nothing may be sent.
        """
        changes = [json.dumps(change.as_data(), sort_keys=True) for change in self._plan.changes]
        plan = hashlib.sha256("\n".join(changes).encode()).hexdigest()
        told = json.dumps({"changes": len(changes), "file": self._file}, sort_keys=True)
        words = f"{len(changes)} change{'s' * (len(changes) != 1)}"
        first = self._draft("begin", change=words, detail=told, plan=plan)
        shared = {name: getattr(first, name) for name in ("at", "who", "host", "command", "run", "plan")}
        intents = (
            Draft(
                **shared,
                id=uuid.uuid4().hex,
                event="intent",
                changes=str(number),
                change=f"{change.system}: {change.describe()}",
                detail=detail,
            )
            for number, (change, detail) in enumerate(zip(self._plan.changes, changes, strict=True), 1)
        )
        self._journal.append([first, *intents])

    def _draft(self, event: Event, **told: str) -> Draft:
        return local.draft(self._cause.command, event, run=self._run, reason=self._cause.reason, **told)

    def finished(self, number: int) -> None:
        """Hear that a change is done; it is marked soon.

        Args:
            number: Its number in the plan, from 0.
        """
        with self._guard:
            self._unmarked.append(number + 1)

    def pause(self) -> None:
        """Mark what is done, when it is time."""
        with self._guard:
            due = time.monotonic() - self._marked >= MARK_SECONDS or len(self._unmarked) >= MARK_CHANGES
            marks = self._marks() if due and self._unmarked else []
        if marks:
            self._journal.append(marks)

    def _marks(self) -> list[Draft]:
        self._marked, numbers = time.monotonic(), self._unmarked
        self._unmarked = []
        text = f"{len(numbers)} done"
        return (
            [replace(self._draft("done", changes=ranges(numbers), change=text), reason="")] if numbers else []
        )

    def end(self, outcome: Outcome, *, interrupted: bool = False) -> None:
        """Record what came of everything.

        Args:
            outcome: What became of the changes.
            interrupted: Whether somebody stopped djops.

        Raises:
            DiskFullError: ``E_DISK`` when it can be recorded nowhere.
        """
        with self._guard:
            rows = self._marks()
        for number, error in outcome.failed.items():
            told = json.dumps({"code": error.code}, sort_keys=True)
            text = f"{error.message}"
            rows.append(self._draft("failed", changes=str(number + 1), change=text, detail=told))
        parts = {
            "done": [number + 1 for number in outcome.done],
            "failed": [number + 1 for number in outcome.failed],
            "begun": [number + 1 for number in outcome.begun],
            "not_sent": [number + 1 for number in outcome.untouched],
        }
        words = ", ".join(f"{len(found)} {name.replace('_', ' ')}" for name, found in parts.items() if found)
        detail = json.dumps({name: ranges(found) for name, found in parts.items()}, sort_keys=True)
        event: Event = "interrupted" if interrupted else "failed" if outcome.failed else "end"
        self._journal.append([*rows, self._draft(event, change=words, detail=detail)])
        with contextlib.suppress(DjopsError):
            self._journal.anchor()


def note(journal: Journal, cause: Cause, **facts: str) -> None:
    """Record something that is no plan, in the chain when the servers answer and on this machine otherwise.

    Args:
        journal: The journal.
        cause: What was done, and why.
        facts: What else is to be known; no secrets.

    Raises:
        DiskFullError: ``E_DISK`` when it can be recorded nowhere.
    """
    words = ", ".join(f"{key} {value}" for key, value in facts.items())
    detail = json.dumps(facts, sort_keys=True)
    journal.append([local.draft(cause.command, "note", change=words, detail=detail, reason=cause.reason)])
    with contextlib.suppress(DjopsError):
        journal.anchor()


def note_at(site: Site, cause: Cause, **facts: str) -> None:
    """Record something where no servers are connected yet; it may wait on this machine.

    Args:
        site: The environment.
        cause: What is about to be done, and why.
        facts: What else is to be known; no secrets.

    Raises:
        DiskFullError: ``E_DISK`` when it can be recorded nowhere.
    """
    with closing(Mysql(site.mysql)) as mysql, Secrets(site.secrets) as secrets:
        note(Journal(site, mysql, secrets), cause, **facts)
