"""The table of roles and operations is what the servers do: a part of it is tried again and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from djops.services.site import open_site
from djops.systems.resources import load_roles
from scripts import operations
from scripts.operations import Cell
from scripts.operations_doc import DOCUMENT, outcomes, render
from tests.conftest import LabUnderTest

AGAIN = ("viewer", "analyst", "operator with cascade", "developer", "janitor")
"""The roles that differ most; the script that writes the page tries all."""

PAGE = DOCUMENT.read_text(encoding="utf-8")
WRITTEN = outcomes(PAGE)


@pytest.fixture(scope="module")
def cells(lab: LabUnderTest) -> tuple[Cell, ...]:
    who = [one for one in operations.holders() if one.title in AGAIN]
    assert len(who) == len(AGAIN)
    return operations.run(open_site(lab.project_file), who)


def test_what_happens_is_what_is_written(cells: tuple[Cell, ...]) -> None:
    seen = {(cell.role, cell.operation): cell.outcome for cell in cells}
    assert seen == {place: outcome for place, outcome in WRITTEN.items() if place[0] in AGAIN}
    assert set(seen.values()) == {"works", "denied", "nothing", "harm"}


def test_every_text_of_the_client_is_in_the_catalogue(cells: tuple[Cell, ...]) -> None:
    unknown = [cell for cell in cells if cell.text and cell.error is None]
    assert unknown == []
    assert {cell.error for cell in cells} >= {
        "cannot-declare", "delete-blocked-named", "delete-denied", "job-denied",
        "job-table-missing", "lineage-denied", "lookup-denied", "schema-invisible",
        "schema-invisible-create", "skip-duplicates-denied", "store-denied", "table-denied", "update-denied",
    }  # fmt: skip


def test_what_the_client_says_is_quoted_as_it_says_it(cells: tuple[Cell, ...]) -> None:
    """Wrong words lead somebody who searches for them astray."""
    notes = {line for line in render(cells).splitlines() if line.startswith("   - ")}
    assert notes
    assert notes <= set(PAGE.splitlines())


def test_the_page_knows_every_role_and_operation() -> None:
    roles = {role for role, _ in WRITTEN}
    assert roles == {one.title for one in operations.holders()}
    assert roles >= set(load_roles().roles)
    for role in roles:
        mine = {operation for name, operation in WRITTEN if name == role}
        assert mine == {operation.name for operation in operations.OPERATIONS}
    assert set(WRITTEN.values()) <= {"works", "denied", "nothing", "harm"}


def test_the_page_is_linked() -> None:
    roles_page = Path(DOCUMENT).with_name("roles.md").read_text(encoding="utf-8")
    assert "operations.md" in roles_page
