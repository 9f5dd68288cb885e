"""One secrets server for all tests of this floor that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from djops.systems.local.openbao import OpenBaoServer, connection
from djops.systems.vault import Secrets
from tests.support.secrets_lab import bare_lab, stopped_in_the_end, up


@pytest.fixture(scope="session")
def openbao() -> Iterator[OpenBaoServer]:
    """A secrets server that was brought up; tests may stop it and must bring it up again."""
    with bare_lab() as lab, stopped_in_the_end(lab) as server:
        up(server)
        yield server


@pytest.fixture
def secrets(openbao: OpenBaoServer) -> Iterator[Secrets]:
    """A session of djops on the secrets server."""
    with Secrets(connection(openbao.lab)) as session:
        yield session
