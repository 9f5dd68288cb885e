"""The signal code, without any server."""

import numpy as np
from my_pipeline.utils import lagged_correlation, movie, roi_traces, seed_of, spike_rate, spike_times, voltage


def test_a_key_always_gives_the_same_seed():
    key = {"subject_id": "mouse01", "session_date": "2026-04-01"}
    assert seed_of(key) == seed_of(dict(reversed(key.items())))
    assert seed_of(key, 0) != seed_of(key, 1)


def test_every_spike_is_found():
    times = spike_times(voltage(7, 1000.0), 1000.0)
    assert 15 <= len(times) < 60
    assert np.all(np.diff(times) > 0)


def test_rois_cover_the_frame():
    frames = movie(7)
    traces = roi_traces(frames)
    assert len(traces) == 9
    np.testing.assert_allclose(np.mean(traces, axis=0), frames.mean(axis=(1, 2)), rtol=1e-4)


def test_a_signal_correlates_best_with_itself_at_lag_zero():
    rate = spike_rate(np.array([0.05, 0.5, 0.55, 1.2, 1.9]), 10.0, 20)
    lags, curve = lagged_correlation(rate, rate, 10.0, 0.5)
    assert lags[np.argmax(curve)] == 0
    assert np.isclose(curve.max(), 1.0)
