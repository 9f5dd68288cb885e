"""People who arrive, on paper: lists, what is refused before anything happens, links' times."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from djops.errors import ConfigError, DjopsError, UsageError
from djops.model.project import Grant
from djops.services import onboarding
from djops.services.onboarding import Newcomer
from djops.services.onboarding import onboarding as arriving
from djops.services.welcome import in_words
from djops.systems.resources import load_roles, load_words
from tests.support.repository import repository

HEAD = "name,role,on,email,until,reason\n"


def listed(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "people.csv"
    file.write_text(text)
    return file


def test_a_list_of_people(tmp_path: Path) -> None:
    text = (
        "\ufeff" + HEAD + "nina,analyst,ephys session,nina@example.org,2031-01-31,thesis\n\n"
        "omar,,,omar@example.org,,\nnina,viewer,imaging,,,\n"
    )
    nina, omar = onboarding.read_list(listed(tmp_path, text))
    assert nina.grants == (
        Grant(role="analyst", on=("ephys", "session"), until=dt.date(2031, 1, 31), reason="thesis"),
        Grant(role="viewer", on=("imaging",)),
    )
    assert (nina.email, omar.grants) == ("nina@example.org", ())


def test_a_spreadsheet_s_semicolons_and_further_columns(tmp_path: Path) -> None:
    (one,) = onboarding.read_list(listed(tmp_path, "group;name;role;on\nRats;nina;viewer;ephys, imaging\n"))
    assert one.grants[0].on == ("ephys", "imaging")


WRONG = [
    ("name,role,on\nnina,analyst,\n", ":2", "a role needs schemas"),
    ("name,role,on,until\nnina,analyst,ephys,31.1.2031\n", ":2", "until"),
    (HEAD + "nina,viewer,ephys,a@b,,\nnina,viewer,imaging,c@d,,\n", ":3", "two addresses"),
    ("person,role\nnina,viewer\n", ":1", "no column 'name'"),
    ('name,role,on\nnina,"viewer\n', ":1", "no CSV"),
    ("name\n", "", "names nobody"),
    ("", ":1", "no column"),
]


@pytest.mark.parametrize(("text", "line", "says"), WRONG)
def test_a_wrong_list_is_refused_with_its_line(tmp_path: Path, text: str, line: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        onboarding.read_list(listed(tmp_path, text))
    assert says in caught.value.message
    assert (caught.value.where or "").endswith(f"people.csv{line}")


def test_every_wrong_line_is_told_at_once_and_nothing_is_changed(tmp_path: Path) -> None:
    place = repository(tmp_path)
    file = listed(
        tmp_path,
        HEAD + "nina,analist,ephys\nomar,viewer,ephis\n1x,viewer,ephys\nann,viewer,ephys\n",
    )
    before = place.read_text()
    with pytest.raises(DjopsError) as caught:
        arriving(place, onboarding.read_list(file))
    told = {(error.code, error.where) for error in caught.value.flatten()}
    assert told == {
        ("E_UNKNOWN_ROLE", f"{file}:2"),
        ("E_UNKNOWN_SCHEMA", f"{file}:3"),
        ("E_NAME", f"{file}:4"),
    }
    assert "'analyst'" in (caught.value.flatten()[0].hint or "")
    assert place.read_text() == before


def test_new_people_and_old_ones_in_one_change(tmp_path: Path) -> None:
    place = repository(tmp_path, "people:\n  # stays\n  old: {grants: [{role: analyst, on: ephys}]}\n")
    loaded = arriving(place, []).loaded
    old = next(iter(loaded.project.people))
    extra = Grant(role="viewer", on=("session",), reason="helps out")
    edited = arriving(
        place, [Newcomer("nina", "n@x.org", (extra,)), Newcomer(old, grants=(extra,)), Newcomer("omar")]
    )
    people = edited.loaded.project.people
    assert people["nina"].grants == (extra,)
    assert people["nina"].email == "n@x.org"
    assert people["omar"].grants == ()
    assert extra in people[old].grants
    assert set(loaded.project.people[old].grants) < set(people[old].grants)
    assert "# stays" in edited.after


@pytest.mark.parametrize(("text", "seconds"), [("72h", 259200), ("3d", 259200), ("90m", 5400)])
def test_how_long_a_link_is_good(text: str, seconds: int) -> None:
    assert onboarding.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "72", "0h", "31d", "-1h", "1.5h", "²h", "30s"])
def test_no_time_for_a_link(text: str) -> None:
    with pytest.raises(UsageError):
        onboarding.parse_duration(text)


def test_every_capability_has_words() -> None:
    words = load_words()
    held = {str(one) for role in load_roles().roles.values() for one in role.target | role.upstream}
    assert held <= words.can.keys() == words.level.keys()
    assert set(words.refused) <= words.can.keys()


def test_a_schema_in_words() -> None:
    seen = in_words("ephys", {"read", "insert", "jobs"})
    assert (seen.level, seen.style) == ("you add", "work")
    assert "delete rows" in seen.cannot
    assert in_words("ephys", {"read"}).style == "read"
    closed = in_words("ephys", set())
    assert (closed.style, closed.can, closed.cannot) == ("closed", (), ("see anything of it",))
