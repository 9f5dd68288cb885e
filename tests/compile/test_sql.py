"""Quoting: what comes out is one name or one string to MySQL, whatever goes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djops.compile.sql import quote_account, quote_identifier, quote_string
from djops.errors import NameRefusedError

NAMES = st.text(st.characters(min_codepoint=1, max_codepoint=0xFFFF, exclude_categories=["Cs"]), min_size=1)


def read_identifier(text: str) -> tuple[str, str]:
    """Read one quoted name as MySQL does, and return it with what stands behind it."""
    assert text[0] == "`"
    name, rest = "", text[1:]
    while rest:
        if rest.startswith("``"):
            name, rest = name + "`", rest[2:]
        elif rest.startswith("`"):
            return name, rest[1:]
        else:
            name, rest = name + rest[0], rest[1:]
    raise AssertionError("the name never ends")


def read_string(text: str) -> tuple[str, str]:
    """Read one string literal as MySQL does without NO_BACKSLASH_ESCAPES."""
    assert text[0] == "'"
    value, rest = "", text[1:]
    while rest:
        if rest.startswith(("''", "\\'", "\\\\")):
            value, rest = value + rest[1], rest[2:]
        elif rest.startswith("'"):
            return value, rest[1:]
        else:
            assert rest[0] != "\\", "a lone backslash changes what follows"
            value, rest = value + rest[0], rest[1:]
    raise AssertionError("the string never ends")


@given(NAMES)
def test_a_name_stays_one_name(name: str) -> None:
    assert read_identifier(quote_identifier(name)) == (name, "")


@given(st.one_of(NAMES, st.text(alphabet="'\\`\"%_ a;--")))
def test_a_string_stays_one_string(text: str) -> None:
    assert read_string(quote_string(text)) == (text, "")


@given(NAMES, NAMES)
def test_an_account_is_two_strings(user: str, host: str) -> None:
    first, rest = read_string(quote_account(user, host))
    assert (first, rest[0]) == (user, "@")
    assert read_string(rest[1:]) == (host, "")


@pytest.mark.parametrize("name", ["", "a\0b", "\U0001f42d"])
def test_what_no_name_can_be_is_refused(name: str) -> None:
    with pytest.raises(NameRefusedError):
        quote_identifier(name)


def test_a_nul_is_refused_in_a_string() -> None:
    with pytest.raises(NameRefusedError):
        quote_string("a\0b")
