from __future__ import annotations

import pytest

from djops.systems import passwords


def test_passwords_satisfy_the_strictest_validation_and_differ() -> None:
    made = [passwords.generate(24) for _ in range(500)]
    assert len(set(made)) == len(made)
    for password in made:
        assert len(password) == 24
        assert any(map(str.islower, password))
        assert any(map(str.isupper, password))
        assert any(map(str.isdigit, password))
        assert not password.isalnum()


def test_passwords_need_no_quoting_anywhere() -> None:
    assert not set("".join(passwords.generate() for _ in range(200))) & set(
        "'\"`\\ $%#&;:/@?<>|(){}[]*!~^,\n\t"
    )


def test_short_passwords_are_refused() -> None:
    with pytest.raises(ValueError, match="24"):
        passwords.generate(23)
