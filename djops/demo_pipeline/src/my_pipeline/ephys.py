"""Extracellular recordings."""

import datajoint as dj
import numpy as np

from . import session
from .utils import seed_of, spike_times, voltage

schema = dj.Schema("ephys")


@schema
class Probe(dj.Lookup):
    definition = """
    probe_type : varchar(32)
    ---
    num_channels : int32
    """
    contents = (("tetrode", 4), ("linear-8", 8))


@schema
class Recording(dj.Imported):
    definition = """
    -> session.Session
    ---
    -> Probe
    sampling_rate : float64  # Hz
    header : <blob@main>     # what an acquisition system would write
    """

    class Channel(dj.Part):
        definition = """
        -> master
        channel : int32
        ---
        trace : <npy@main>   # uV
        """

    def make(self, key):
        probe = "tetrode"
        channels = (Probe & {"probe_type": probe}).fetch1("num_channels")
        rate = 1000.0
        header = {"system": "simulated", "gain": 0.195, "seed": seed_of(key)}
        self.insert1({**key, "probe_type": probe, "sampling_rate": rate, "header": header})
        self.Channel.insert(
            {**key, "channel": channel, "trace": voltage(seed_of(key, channel), rate)}
            for channel in range(channels)
        )


@schema
class Spikes(dj.Computed):
    definition = """
    -> Recording.Channel
    ---
    spike_count : int32
    spike_times : <blob@main>  # s
    """

    def make(self, key):
        rate = (Recording & key).fetch1("sampling_rate")
        trace = np.asarray((Recording.Channel & key).fetch1("trace"))
        times = spike_times(trace, rate)
        self.insert1({**key, "spike_count": len(times), "spike_times": times})
