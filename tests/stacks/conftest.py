"""One run of the whole program for all tests that only look at it."""

from __future__ import annotations

import pytest

from tests.support.cloud import Declared, declared


@pytest.fixture(scope="session")
def whole() -> Declared:
    """Everything that a stack with all options declares."""
    return declared()
