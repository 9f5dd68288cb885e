"""Analysis of ephys and imaging together."""

import datajoint as dj
import numpy as np

from . import ephys, imaging
from .utils import lagged_correlation, spike_rate

schema = dj.Schema("analysis")


@schema
class Window(dj.Lookup):
    definition = """
    window : varchar(16)
    ---
    max_lag : float64  # s
    """
    contents = (("narrow", 0.5), ("wide", 2.0))


@schema
class MultiModalAnalysis(dj.Computed):
    definition = """
    -> ephys.Recording
    -> imaging.Scan
    -> Window
    ---
    correlation : float64  # the largest over all lags
    lags : <blob@main>     # s
    curve : <npy@main>     # correlation at each lag
    """

    def make(self, key):
        max_lag = (Window & key).fetch1("max_lag")
        frame_rate, frames = (imaging.Scan & key).fetch1("frame_rate", "frames")
        brightness = np.asarray(frames).mean(axis=(1, 2))
        times = [np.ravel(found) for found in (ephys.Spikes & key).to_arrays("spike_times")]
        spikes = np.sort(np.concatenate(times)) if times else np.empty(0)
        rate = spike_rate(spikes, frame_rate, len(brightness))
        lags, curve = lagged_correlation(rate, brightness, frame_rate, max_lag)
        self.insert1({**key, "correlation": float(curve.max()), "lags": lags, "curve": curve})
