"""What is read out of servers' logs; the lines are as the servers wrote them."""

from __future__ import annotations

import json
from pathlib import Path

from djops.systems.server_logs import mysql_events, read_end, s3_events, secrets_events

MYSQL = """\
2030-01-31T16:05:44.293890Z 9 [Note] [MY-010914] [Server] Got an error reading communication packets
2030-01-31T16:05:53.061536Z 14 [Note] [MY-010926] [Server] Access denied for user 'alice'@'localhost' (using password: YES)
2030-01-31T16:05:53.111452Z 15 [Note] [MY-010926] [Server] Access denied for user 'o'brien'@'x'@'10.0.0.7' (using password: NO)
""".splitlines()  # noqa: E501


def test_refused_log_ins_of_mysql() -> None:
    first, second = mysql_events(MYSQL)
    assert (first.at, first.what, first.who) == ("2030-01-31T16:05:53Z", "refused", "alice")
    assert (second.who, second.detail) == ("o'brien'@'x", "from 10.0.0.7 (using password: NO)")


def bao(**entry: object) -> str:
    return json.dumps({"time": "2030-01-31T16:00:00.9Z", "type": "response", **entry})


def test_log_ins_refusals_and_deletions_of_openbao() -> None:
    login = {"path": "auth/userpass/login/alice", "operation": "update", "remote_address": "::1"}
    lines = [
        bao(request=login, auth={"display_name": "userpass-alice", "metadata": {"username": "alice"}}),
        bao(request={**login, "path": "auth/userpass/login/eve"}, error="invalid username or password"),
        bao(request={"path": "djops/data/lab/people/bob", "operation": "read"}, auth={"display_name": "eve"},
            error="1 error occurred:\n\t* permission denied\n\n"),
        bao(request={"path": "djops/metadata/x", "operation": "delete"},
            auth={"metadata": {"role_name": "djops"}}),
        bao(type="request", request=login, auth={}),
        bao(request=None, auth=[]),
        "{not json", "[]",
    ]  # fmt: skip
    found = [(one.what, one.who) for one in secrets_events(lines)]
    assert found == [("log-in", "alice"), ("refused", "eve"), ("refused", "eve"), ("deleted", "djops")]
    assert [one.detail for one in secrets_events(lines)][2].endswith(": permission denied")


def rgw(operation: str, status: str = "200", user: str = "alice", **entry: str) -> str:
    found = {"time": "2030-01-31T16:00:00.9Z", "user": user, "operation": operation, "http_status": status}
    return json.dumps({**found, "bucket": "data", "object": "a/b", "remote_addr": "::1", **entry})


def test_first_uses_refusals_and_deletions_of_ceph() -> None:
    lines = [
        rgw("get_obj"),
        rgw("put_obj"),
        rgw("delete_obj", "204"),
        rgw("get_obj", "403", user="", error_code="AccessDenied"),
        rgw("get_obj", "404"),
    ]
    found = [(one.what, one.who) for one in s3_events(lines)]
    assert found == [("log-in", "alice"), ("deleted", "alice"), ("refused", "(no key)")]
    assert [*s3_events(lines)][1].detail == "delete_obj data/a/b from ::1"


def test_only_the_end_of_a_large_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_end(log, 1) == ([], "there is no log yet")
    log.write_text("one\ntwo\n")
    assert read_end(log, 1) == (["one", "two"], "")
    log.write_text("x" * (1 << 20) + "\nlast\n")
    assert read_end(log, 1) == (["last"], "only the last 1 MB were read")
