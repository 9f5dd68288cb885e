import builtins
from pathlib import Path
from typing import Any

import datajoint.errors
import pymysql
import pytest
import yaml

from djops.errors import AccessDeniedError, DjopsError, ServerUnavailableError
from djops.systems.client_errors import explained, is_denial

CASES = yaml.safe_load((Path(__file__).parents[1] / "data" / "client_errors.yaml").read_text())


def _raised(case: dict[str, Any]) -> BaseException:
    kind = getattr(datajoint.errors, case["kind"], None) or getattr(builtins, case["kind"])
    error: BaseException = kind(case["text"])
    return error


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:40] or case["kind"])
def test_what_the_client_says_is_told_apart(case: dict[str, Any]) -> None:
    error = _raised(case)
    assert is_denial(error) is case["denied"]
    with pytest.raises(DjopsError) as caught, explained("trying"):
        raise error
    told = str(caught.value)
    assert caught.value.code == case["code"]
    assert isinstance(caught.value, AccessDeniedError) is case["denied"]
    assert told.startswith("trying: ")
    assert case["text"].strip() in told
    assert case.get("says", "") in told


@pytest.mark.parametrize(
    ("number", "text", "kind", "code"),
    [
        (1045, "Access denied for user 'a'@'h' (using password: YES)", AccessDeniedError, "E_DENIED"),
        (
            2003,
            "Can't connect to MySQL server on 'h' ([Errno 111] refused)",
            ServerUnavailableError,
            "E_SERVER",
        ),
        (2003, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", ServerUnavailableError, "E_TLS"),
    ],
)
def test_a_refused_login_differs_from_a_server_that_is_gone(
    number: int, text: str, kind: type[DjopsError], code: str
) -> None:
    with pytest.raises(kind) as caught, explained("connecting"):
        raise pymysql.OperationalError(number, text)
    assert caught.value.code == code


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), DjopsError("mine", code="E_MINE")])
def test_what_is_no_error_of_the_client_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, explained("trying"):
        raise error
    assert caught.value is error
