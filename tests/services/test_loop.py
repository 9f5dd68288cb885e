"""The whole loop on real servers: random laboratories from fixed seeds; `make soak` goes on with others."""

from __future__ import annotations

import pytest

from tests.conftest import LabUnderTest
from tests.support.soak import Figures, loop

SEEDS = (1, 6, 13)


@pytest.mark.parametrize("seed", SEEDS)
def test_apply_compare_drift_mend_compare(lab: LabUnderTest, seed: int) -> None:
    figures = Figures()
    loop(lab.project_file, seed, figures, most=4)
    assert figures.cells["mysql"] > 50
    assert figures.probe > 500
    assert figures.drift
