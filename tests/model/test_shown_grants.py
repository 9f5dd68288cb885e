"""What SHOW GRANTS tells, as capabilities."""

from __future__ import annotations

import pytest

from djops.model.shown_grants import capabilities, powers

ALICE = [
    "GRANT USAGE ON *.* TO `alice`@`%`",
    "GRANT SELECT ON `lab\\_ephys`.* TO `alice`@`%`",
    "GRANT INSERT ON `lab_ephys`.`__spikes` TO `alice`@`%`",
    "GRANT INSERT, UPDATE, DELETE ON `lab_ephys`.`~~spikes` TO `alice`@`%`",
    "GRANT SELECT (`a`, `b`), UPDATE (`c`) ON `notes`.`page` TO `alice`@`%`",
    "GRANT DELETE ON `lab_ephys`.`~lineage` TO `alice`@`%`",
    "GRANT `ephys:analyst`@`%` TO `alice`@`%`",
    "nonsense",
]

CASES = [
    (ALICE, {"lab_ephys": {"read", "insert", "jobs"}, "notes": {"read", "update"}}),
    (["GRANT ALL PRIVILEGES ON `x`.* TO `a`@`%` WITH GRANT OPTION"], {"x": {
        "read", "insert", "update", "delete", "declare", "alter", "drop", "reference"}}),
    (["GRANT SELECT ON *.* TO `a`@`%`"], {"*": {"read"}}),
    (["GRANT SELECT ON `a``b`.* TO `a`@`%`"], {"a`b": {"read"}}),
    (["GRANT EXECUTE ON PROCEDURE `x`.`p` TO `a`@`%`"], {}),
    ([], {}),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), CASES)
def test_what_it_means(lines: list[str], expected: dict[str, set[str]]) -> None:
    assert {schema: set(held) for schema, held in capabilities(lines).items()} == expected


def test_power_over_the_whole_server_is_named() -> None:
    assert powers(ALICE) == frozenset()
    assert powers(["GRANT CREATE USER, PROCESS ON *.* TO `djops`@`%`"]) == {"CREATE USER", "PROCESS"}
