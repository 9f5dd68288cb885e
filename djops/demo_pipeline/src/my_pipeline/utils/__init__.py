"""Made-up signals and what is computed from them. Everything follows from the seed."""

import hashlib

import numpy as np

SECONDS = 6


def seed_of(key, *more):
    """Turn a primary key into a number that is the same on every machine."""
    text = repr([sorted((name, str(value)) for name, value in key.items()), *more])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def voltage(seed, rate):
    """Noise with a sharp negative spike now and then, in microvolts."""
    random = np.random.default_rng(seed)
    trace = random.normal(0.0, 8.0, int(SECONDS * rate)).astype(np.float32)
    spikes = random.integers(20, 60)
    trace[random.choice(trace.size, size=spikes, replace=False)] -= 120.0
    return trace


def spike_times(trace, rate):
    """Times at which the trace falls below -60 uV, in seconds."""
    below = trace < -60.0
    begins = below & ~np.concatenate(([False], below[:-1]))
    return np.flatnonzero(begins) / rate


def movie(seed, side=24, frame_rate=10.0):
    """Frames in which a few round cells grow brighter and darker."""
    random = np.random.default_rng(seed)
    count = int(SECONDS * frame_rate)
    frames = random.normal(100.0, 5.0, (count, side, side))
    rows, columns = np.mgrid[:side, :side]
    for row, column in random.integers(4, side - 4, (3, 2)):
        cell = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 6.0)
        frames += 40.0 * np.abs(random.normal(size=count)).cumsum()[:, None, None] / count * cell
    return frames.astype(np.float32)


def roi_traces(frames, size=8):
    """Mean brightness of each square of ``size`` pixels, per frame."""
    side = frames.shape[1]
    corners = [(row, column) for row in range(0, side, size) for column in range(0, side, size)]
    return [frames[:, row : row + size, column : column + size].mean(axis=(1, 2)) for row, column in corners]


def spike_rate(times, frame_rate, count):
    """Spikes per second in each of ``count`` frames."""
    counts, _ = np.histogram(times, bins=count, range=(0.0, count / frame_rate))
    return counts * frame_rate


def lagged_correlation(left, right, frame_rate, max_lag):
    """Correlation of two signals at every lag up to ``max_lag`` seconds."""
    reach = int(max_lag * frame_rate)
    lags = np.arange(-reach, reach + 1)
    curve = []
    for lag in lags:
        a, b = (left[lag:], right[: len(right) - lag]) if lag >= 0 else (left[:lag], right[-lag:])
        flat = a.std() == 0 or b.std() == 0
        curve.append(0.0 if flat else float(np.corrcoef(a, b)[0, 1]))
    return lags / frame_rate, np.array(curve)
