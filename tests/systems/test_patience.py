"""Nothing that djops waits for is waited for without an end, and whoever kept it waiting is named."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from djops.errors import ClientError, DjopsError, LockedError
from djops.systems import datajoint, encryption, journal, process
from djops.systems.connections import MysqlConnection, Secret
from djops.systems.journal import FileChain
from djops.systems.paths import Account
from tests.support.labs import processes_of

MYSELF = Account("me", os.geteuid(), os.getegid())


def test_a_program_is_ended_with_those_that_hold_its_output_open(tmp_path: Path) -> None:
    began = time.monotonic()
    stubborn = ["sh", "-c", f": {tmp_path}; sh -c ': {tmp_path}; sleep 300; :'; :"]
    with pytest.raises(DjopsError, match="did not end within"):
        process.run(stubborn, directory=tmp_path, pid_file=tmp_path / "pid", account=MYSELF, timeout=0.5)
    assert time.monotonic() - began < 150
    until = time.monotonic() + 60
    while processes_of(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert processes_of(tmp_path) == []


def test_a_pipeline_that_says_nothing_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datajoint, "SILENT_SECONDS", 0.01)
    nowhere = MysqlConnection("127.0.0.1", 1, "nobody", Secret("none"), None)
    with pytest.raises(ClientError, match="not heard of for 0 s after it began"):
        datajoint.run_pipeline(tmp_path, nowhere, {}, modules=["never"])


def test_gpg_that_waits_for_somebody_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gpg"
    program.write_text("#!/bin/sh\nexec sleep 300\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(encryption, "_GPG_SECONDS", 0.2)
    with pytest.raises(DjopsError, match="its agent wait for a passphrase") as caught:
        encryption.decrypt(b"what gpg made", None)
    assert caught.value.code == "E_DECRYPT"


def test_a_journal_that_somebody_holds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = FileChain(tmp_path, "lab", "local")
    row = journal.draft("test", "end")
    chain.append([row])
    monkeypatch.setattr(journal, "_LOCK_SECONDS", 0.1)
    with chain.path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(LockedError, match="held the journal") as caught:
            chain.append([journal.draft("test", "end")])
    assert caught.value.where == str(chain.path)
    assert [entry.id for entry in chain.read()] == [row.id]
