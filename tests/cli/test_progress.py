"""Steps are shown whole, from any number of threads."""

from __future__ import annotations

import io
import re
import threading
import time

import pytest

from djops.cli import progress
from djops.cli.progress import StepLog
from tests.support.cli import invoke


def test_a_short_step_is_one_line_of_a_log() -> None:
    stream = io.StringIO()
    with StepLog(stream, live=False).step("mysql: unpack") as step:
        step.note("115 packages")
    assert re.fullmatch(r"ok +0\.0 s  mysql: unpack: 115 packages\n", stream.getvalue())


def test_a_failed_step_says_so() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError), StepLog(stream, live=False).step("start"):
        raise ValueError
    assert stream.getvalue().splitlines()[-1].startswith("failed")


def test_a_terminal_sees_one_living_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    monkeypatch.setenv("COLUMNS", "40")
    stream = io.StringIO()
    log = StepLog(stream, live=True)
    until = time.monotonic() + 60
    with log.step("first"), log.step("second " * 20):
        while "| second" not in stream.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    text = stream.getvalue()
    assert "\r\x1b[Kfirst 0 s | second" in text
    assert text.count("\n") == 2
    assert all(len(part) <= 39 for part in text.split("\r\x1b[K") if not part.endswith("\n"))


def test_a_long_step_is_heard_of_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    monkeypatch.setattr(progress, "FIRST_WORD", 0.1)
    monkeypatch.setattr(progress, "HEARTBEAT", 0.2)
    stream = io.StringIO()
    with StepLog(stream, live=False).step("wait"):
        time.sleep(0.6)
    *meanwhile, last = stream.getvalue().splitlines()
    assert 2 <= len(meanwhile) <= 20
    assert all(re.fullmatch(r"\.\.\. +\d s  wait", line) for line in meanwhile)
    assert last.startswith("ok")


def test_threads_do_not_mix_their_lines() -> None:
    stream = io.StringIO()
    log = StepLog(stream, live=False)

    def work(number: int) -> None:
        for _ in range(50):
            with log.step(f"step-{number}") as step:
                step.note("n")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 8 * 50
    assert all(re.fullmatch(r"ok +\d\.\d s  step-\d: n", line) for line in lines)
    assert log._ticker is None


def test_a_closed_stream_does_not_stop_the_work() -> None:
    stream = io.StringIO()
    stream.close()
    with StepLog(stream, live=False).step("work") as step:
        step.note("on")


def test_json_has_no_progress() -> None:
    assert invoke("status", "--json").stderr == ""
