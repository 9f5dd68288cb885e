"""Two-photon imaging."""

import datajoint as dj
import numpy as np

from . import session
from .utils import movie, roi_traces, seed_of

schema = dj.Schema("imaging")


@schema
class Scan(dj.Imported):
    definition = """
    -> session.Session
    ---
    frame_rate : float64  # Hz
    frames : <npy@main>   # frame, row, column
    """

    def make(self, key):
        self.insert1({**key, "frame_rate": 10.0, "frames": movie(seed_of(key))})


@schema
class Fluorescence(dj.Computed):
    definition = """
    -> Scan
    ---
    num_rois : int32
    """

    class Roi(dj.Part):
        definition = """
        -> master
        roi : int32
        ---
        trace : <blob@main>  # mean brightness per frame
        """

    def make(self, key):
        traces = roi_traces(np.asarray((Scan & key).fetch1("frames")))
        self.insert1({**key, "num_rois": len(traces)})
        self.Roi.insert({**key, "roi": roi, "trace": trace} for roi, trace in enumerate(traces))
